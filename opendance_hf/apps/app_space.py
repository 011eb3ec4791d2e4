"""Write the folder of a Docker Space that runs ``opendance app``.

The folder has the package that is installed here as a wheel, and the versions of the packages that it runs with here, so the Space
needs neither this repository nor a release.
"""

from __future__ import annotations

import base64
import hashlib
import re
import sys
import zipfile
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import opendance_hf
from opendance_hf.apps.serving import ServerError
from opendance_hf.apps.view import templates
from opendance_hf.files import check_folder, staged_folder

_PACKAGE: Final = "opendance-hf"
_EXTRAS: Final = ("inspect", "usd")
#: The port and the user id that Spaces expect.
PORT: Final = 7860
#: Not part of the wheel.
_LEFT_OUT: Final = ("__pycache__",)


def write_space(folder: Path, *, torch_index: str = "", overwrite: bool = False) -> None:
    """Write ``README.md``, ``Dockerfile``, ``requirements.txt`` and the wheel.

    Args:
        folder: new or empty.
        torch_index: package index for torch; PyPI by default.
        overwrite: True to replace files in the folder.

    Raises:
        ServerError: if the index is not an address, or a package that the Space needs is not installed here.
        OutputError, DiskError: if the folder is not empty or cannot be written.
    """
    if torch_index and not re.fullmatch(r"https?://[\w.:/-]+", torch_index):
        raise ServerError(
            f"--torch-index {torch_index}: expected the address of a package index, https://..."
        )
    check_folder(folder, overwrite=overwrite, option="--space")
    own = distribution(_PACKAGE)
    wheel = f"opendance_hf-{own.version}-py3-none-any.whl"
    values = {
        "wheel": wheel,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "port": PORT,
        "torch_index": torch_index,
        "extras": ",".join(_EXTRAS),
        "version": own.version,
    }
    with staged_folder(folder) as staging:
        for name in ("README.md", "Dockerfile"):
            text = templates().get_template(f"space_{name}.jinja").render(values)
            (staging / name).write_text(f"{text}\n", encoding="utf-8")
        pins = "".join(f"{name}=={version}\n" for name, version in sorted(_pins(own).items()))
        (staging / "requirements.txt").write_text(pins, encoding="utf-8")
        _write_wheel(own, staging / wheel)


def _pins(own: Distribution) -> dict[str, str]:
    """Return the versions installed here of all packages that the app needs; those of other systems are not."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(own, extra) for extra in ("", *_EXTRAS)]
    while waiting:
        package, extra = waiting.pop()
        for line in package.requires or ():
            needed = Requirement(line)
            if needed.marker is not None and not needed.marker.evaluate({"extra": extra}):
                continue
            name = canonicalize_name(needed.name)
            try:
                there = distribution(name)
            except PackageNotFoundError:
                extras = ",".join(_EXTRAS)
                raise ServerError(
                    f"{name} is not installed, and the Space takes its versions from here: install it with "
                    f'pip install "{_PACKAGE}[{extras}]"'
                ) from None
            # Local versions, as of torch without CUDA, are not on PyPI.
            found[name], _, _ = there.version.partition("+")
            for other in ("", *needed.extras):
                if (name, other) not in seen:
                    seen.add((name, other))
                    waiting.append((there, other))
    return found


def _write_wheel(own: Distribution, path: Path) -> None:
    """Pack the installed package, editable or not, as a wheel (PEP 427)."""
    info = f"opendance_hf-{own.version}.dist-info"
    texts = {
        f"{info}/METADATA": own.read_text("METADATA") or own.read_text("PKG-INFO") or "",
        f"{info}/entry_points.txt": own.read_text("entry_points.txt") or "",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: opendance-hf\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    licences = own.metadata.get_all("License-File") or []
    for file in own.files or ():  # of an installed package, or of the sources that it was built from
        if file.name in licences and file.parent.name in ("licenses", ""):
            texts[f"{info}/licenses/{file.name}"] = file.read_text()
    records = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in [*_package_files(), *((name, text.encode()) for name, text in texts.items())]:
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
            records.append(f"{name},sha256={digest},{len(content)}\n")
        archive.writestr(f"{info}/RECORD", "".join([*records, f"{info}/RECORD,,\n"]))


def _package_files() -> Iterator[tuple[str, bytes]]:
    """Yield the files of the package by their names in the wheel; what links lead to is packed in their place."""
    root = Path(opendance_hf.__file__).parent
    waiting = [root]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            if path.name in _LEFT_OUT or path.name.startswith("."):
                continue
            if path.is_dir():
                waiting.append(path)
            else:
                yield f"{root.name}/{path.relative_to(root).as_posix()}", path.read_bytes()
