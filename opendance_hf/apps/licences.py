"""List the licence and the source of every model weight and every dependency (``opendance licences``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from importlib import metadata, resources
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from rich import box
from rich.table import Table

from opendance_hf.assets import ASSETS, packaged_names, packaged_weights
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends import BACKENDS, backend_class
from opendance_hf.pipeline.backends.base import Backend, FileBackend

WHEEL = "in the wheel"
FETCHED = "fetched when needed"
FROM_HUB = "fetched from the Hub"
USER = "the user's own file"
NO_WEIGHTS = "no weights"
_OWN = "opendance-hf"


class LicenceCardError(OpenDanceError, ValueError):
    """Raised for packaged weights without a card that names their licence."""


@dataclass(frozen=True)
class WeightLicence:
    """Licence of one set of weights.

    Attributes:
        name: name of the asset, of the packaged folder, or of the role and backend.
        where: :data:`WHEEL`, :data:`FETCHED`, :data:`FROM_HUB`, :data:`USER` or :data:`NO_WEIGHTS`.
        licence: licence, as its source states it.
        source: package and version, or how to get the file.
    """

    name: str
    where: str
    licence: str
    source: str


@dataclass(frozen=True)
class DependencyLicence:
    """Licence of an installed package.

    Attributes:
        name: of its distribution.
        version: installed version.
        licence: as its metadata state it; ``not stated`` if they do not.
    """

    name: str
    version: str
    licence: str


def licences() -> list[WeightLicence]:
    """Return the licences of all packaged weights, pinned assets and backends, in this order.

    Raises:
        LicenceCardError: if packaged weights lack a card with a licence.
    """
    return [*_packaged(), *_assets(), *_backends()]


def dependency_licences() -> list[DependencyLicence]:
    """Return the installed packages that OpenDance-HF requires, with all its extras, directly or not, by name.

    A licence is what the package's metadata say: its expression (PEP 639), its classifiers or its licence field; or else the
    first line of its licence file.
    """
    found: dict[str, DependencyLicence] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    pending = list(_required(_OWN, set(metadata.metadata(_OWN).get_all("Provides-Extra") or [])))
    while pending:
        name, extras = pending.pop()
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        try:
            package = metadata.metadata(name)
        except metadata.PackageNotFoundError:
            continue  # of an extra that is not installed
        if package["Name"] not in (*found, _OWN):
            found[package["Name"]] = DependencyLicence(package["Name"], package["Version"], _licence(name))
        pending += _required(name, extras)
    return sorted(found.values(), key=lambda row: row.name.lower())


def _required(name: str, extras: set[str]) -> Iterator[tuple[str, set[str]]]:
    """Yield the packages that a package requires with some of its extras, each with the extras asked of it."""
    for text in metadata.requires(name) or []:
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in (extras or {""})):
            yield requirement.name, requirement.extras


def _licence(name: str) -> str:
    package = metadata.metadata(name)
    classifiers = [
        text.rpartition(" :: ")[2]
        for text in package.get_all("Classifier") or []
        if text.startswith("License ::")
    ]
    stated = chain(
        package.get_all("License-Expression") or [],
        [", ".join(classifiers)],
        # Some packages put the whole text into the field, others "UNKNOWN".
        (text.strip().partition("\n")[0] for text in package.get_all("License") or []),
        (_head(file) for file in metadata.files(name) or [] if file.stem.upper() in ("LICENSE", "LICENCE")),
    )
    return next((text for text in stated if text and text != "UNKNOWN"), "not stated")


def _head(file: metadata.PackagePath) -> str:
    """Return the first words of a licence file that say something; a sentence is not cut off at the end of its line."""
    path = Path(str(file.locate()))
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    lines = [line.strip() for line in text.splitlines()]
    for number, line in enumerate(lines):
        if line and "copyright (c)" not in line.lower() and line.lower() not in ("license", "licence"):
            more = lines[number + 1 : number + 2] if line.endswith(",") else []
            return " ".join([line, *more])
    return ""


def table(rows: Sequence[WeightLicence | DependencyLicence]) -> Table:
    """Return the table that the command prints; all rows are of one kind."""
    out = Table(box=box.SIMPLE_HEAD, show_edge=False)
    kind = "weights" if isinstance(rows[0], WeightLicence) else "package"
    names = [field.name for field in fields(rows[0])]
    for name in names:
        out.add_column(
            kind if name == "name" else name, overflow="fold", no_wrap=name not in ("licence", "source")
        )
    for row in rows:
        out.add_row(*(getattr(row, name) for name in names))
    return out


def _packaged() -> Iterator[WeightLicence]:
    body = Path(str(resources.files("opendance_hf.body")))
    for folder in (*map(packaged_weights, packaged_names()), body):
        card, terms = _read_card(folder / "README.md")
        licence = str(card.get("license") or "")
        if not licence:
            raise LicenceCardError(f"{folder / 'README.md'}: no license: add the Hub's field to its head")
        # "other" names no licence: the card quotes the terms.
        named = f"{licence}: {terms}" if licence == "other" else licence
        yield WeightLicence(folder.name, WHEEL, named, "OpenDance-HF")


def _read_card(path: Path) -> tuple[dict[str, Any], str]:
    """Return the head of a Hub card, and the text of its first quotation."""
    text = path.read_text(encoding="utf-8")
    _, _, rest = text.partition("---\n")
    head, _, body = rest.partition("\n---\n")
    lines = body.splitlines()
    first = next((number for number, line in enumerate(lines) if line.startswith(">")), len(lines))
    quoted = []
    for line in lines[first:]:
        if not line.startswith(">"):
            break
        quoted.append(line.removeprefix(">").strip())
    card = yaml.safe_load(head) if text.startswith("---\n") else None
    return card if isinstance(card, dict) else {}, " ".join(quoted)


def _assets() -> Iterator[WeightLicence]:
    for asset in ASSETS.values():
        source = f"{asset.package} {asset.version} (npm): {asset.description}"
        yield WeightLicence(asset.name, FETCHED, asset.licence, source)


def _backends() -> Iterator[WeightLicence]:
    for role, names in BACKENDS.items():
        for name in names:
            backend = backend_class(role, name)
            where, licence, source = _of_backend(backend)
            yield WeightLicence(f"{role}: {name}", where, licence, source)


def _of_backend(backend: type[Backend]) -> tuple[str, str, str]:
    if backend.assets:
        licence = "; ".join(ASSETS[name].licence for name in backend.assets)
        return FETCHED, licence, f"asset {', '.join(backend.assets)}"
    if issubclass(backend, FileBackend) and getattr(backend, "default_file", "") in packaged_names():
        return WHEEL, backend.licence, f"weights {backend.default_file}, or {backend.how_to_get}"
    if issubclass(backend, FileBackend) and backend.default_hub_id:
        return FROM_HUB, backend.licence, backend.how_to_get
    if "file" in {field.name for field in fields(backend)}:
        return USER, backend.licence, getattr(backend, "how_to_get", "a folder or a model of the Hub")
    return NO_WEIGHTS, backend.licence, "OpenDance-HF"
