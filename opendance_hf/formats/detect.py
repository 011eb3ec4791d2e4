"""Tell the format of a motion file by its content."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final

from opendance_hf.formats import amass, coco, edge, gdance, lodge, wham
from opendance_hf.formats.body import load_pickle

#: Suffixes of motion files. In a folder those of a row are looked for if it has none of the rows before; tables and JSON come
#: last, since scores are such files too.
SUFFIXES: Final = (
    (".npz", ".pkl"),
    (".pt", ".npy", ".bvh", ".glb", ".gltf", ".amc", ".c3d", ".smpl", ".vrma"),
    (".csv",),
    (".json",),
)
#: Formats whose files have a suffix of their own.
_BY_SUFFIX: Final = {
    ".bvh": "bvh", ".glb": "glb", ".gltf": "glb", ".amc": "amc", ".c3d": "c3d", ".smpl": "smplcodec", ".csv": "csv",
    ".vrma": "vrma", ".json": "phantomdance",
}  # fmt: skip
#: The header of an array, and that of features of HumanML3D.
_HEADER_BYTES: Final = 256
_FEATURES: Final = re.compile(rb"'shape': \(\d+, 263\)")
#: Suffixes of the files of a format, for those that are read.
SUFFIXES_OF: Final[dict[str, tuple[str, ...]]] = {
    "aistpp": (".pkl",), "amass": (".npz",), "coco": (".pkl",), "dd100": (".npy",), "edge": (".pkl",), "gdance": (".pkl",),
    "gvhmr": (".pt",), "humandata": (".npz",), "humanml3d": (".npy",), "lodge": (".npy", ".pkl"), "opendance": (".npz",), "wham": (".pkl",),
    **{
        name: tuple(suffix for suffix, other in _BY_SUFFIX.items() if other == name)
        for name in dict.fromkeys(_BY_SUFFIX.values())
    },
}  # fmt: skip


def format_of(path: Path) -> str:
    """Return the name of the format of a motion file, see :data:`opendance_hf.formats.FORMATS`.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data.
    """
    suffix = path.suffix.lower()
    if suffix in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    match suffix:
        case ".pkl":
            return _of_pickle(path)
        case ".pt":
            return "gvhmr"
        case ".npy":
            return _of_array(path)
    return _of_archive(path)


def _of_array(path: Path) -> str:
    """Return the format of an array, by its header: one object, or the number of columns."""
    try:
        with path.open("rb") as file:
            header = file.read(_HEADER_BYTES)
    except OSError:
        return "lodge"  # whose reader says what is wrong
    if b"'descr': '|O'" in header:
        return "dd100"
    return "humanml3d" if _FEATURES.search(header) else "lodge"


def _of_pickle(path: Path) -> str:
    content = load_pickle(path, max_bytes=2**30)
    for name, module in (
        ("coco", coco),
        ("gdance", gdance),
        ("edge", edge),
        ("lodge", lodge),
        ("wham", wham),
    ):
        if module.recognises(content):
            return name
    return "aistpp"


def _of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
    except (OSError, zipfile.BadZipFile):
        return "opendance"  # whose reader says what is wrong
    if "joints" in names or "provenance" in names:
        return "opendance"
    if "__key_strict__" in names or "keypoints3d" in names:
        return "humandata"
    return "amass" if amass.recognises(names) else "opendance"
