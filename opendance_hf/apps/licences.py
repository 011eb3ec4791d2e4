"""List the licence and the source of every model weight (``opendance licences``)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from rich import box
from rich.table import Table

from opendance_hf.assets import ASSETS, packaged_names, packaged_weights
from opendance_hf.errors import OpenDanceError
from opendance_hf.pipeline.backends import BACKENDS, backend_class
from opendance_hf.pipeline.backends.base import Backend

WHEEL = "in the wheel"
FETCHED = "fetched when needed"
USER = "the user's own file"
NO_WEIGHTS = "no weights"


class LicenceCardError(OpenDanceError, ValueError):
    """Raised for packaged weights without a card that names their licence."""


@dataclass(frozen=True)
class WeightLicence:
    """Licence of one set of weights.

    Attributes:
        name: name of the asset, of the packaged folder, or of the role and backend.
        where: :data:`WHEEL`, :data:`FETCHED`, :data:`USER` or :data:`NO_WEIGHTS`.
        licence: licence, as its source states it.
        source: package and version, or how to get the file.
    """

    name: str
    where: str
    licence: str
    source: str


def licences() -> list[WeightLicence]:
    """Return the licences of all packaged weights, pinned assets and backends, in this order.

    Raises:
        LicenceCardError: if packaged weights lack a card with a licence.
    """
    return [*_packaged(), *_assets(), *_backends()]


def table(rows: list[WeightLicence]) -> Table:
    """Return the table that the command prints."""
    out = Table(box=box.SIMPLE_HEAD, show_edge=False)
    for column, wide in (("weights", True), ("where", True), ("licence", False), ("source", False)):
        out.add_column(column, overflow="fold", no_wrap=wide)
    for row in rows:
        out.add_row(row.name, row.where, row.licence, row.source)
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
    if "file" in {field.name for field in fields(backend)}:
        return USER, backend.licence, getattr(backend, "how_to_get", "a folder or a model of the Hub")
    return NO_WEIGHTS, backend.licence, "OpenDance-HF"
