"""Read and write the container of glTF 2.0: JSON with buffers of numbers, as one ``.glb`` file.

Source: Khronos Group, "glTF 2.0 Specification", sections 3.6 (buffers and accessors) and 4 (GLB).
"""

from __future__ import annotations

import base64
import binascii
import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import numpy as np

import opendance_hf
from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.motion import check_input

_MAGIC, _VERSION = 0x46546C67, 2
_JSON_CHUNK, _BIN_CHUNK = 0x4E4F534A, 0x004E4942
_MAX_BYTES: Final = 2**30
_LARGEST: Final = 1e30
_MAX_JSON_BYTES: Final = 64 * 2**20
_COMPONENTS: Final = {
    5120: np.int8, 5121: np.uint8, 5122: np.int16, 5123: np.uint16, 5125: np.uint32, 5126: np.float32,
}  # fmt: skip
_CODES: Final = {np.dtype(kind): code for code, kind in _COMPONENTS.items()}
_SIZES: Final = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT2": 4, "MAT3": 9, "MAT4": 16}
_TYPES: Final = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
#: Targets of buffer views that a renderer loads.
VERTICES: Final = 34962
INDICES: Final = 34963


@dataclass
class GltfWriter:
    """Collect the JSON and the numbers of a file.

    Attributes:
        content: the JSON object; ``asset``, ``buffers``, ``bufferViews`` and ``accessors`` are added by :meth:`save`.
    """

    content: dict[str, Any] = field(default_factory=dict)
    _data: bytearray = field(default_factory=bytearray)
    _views: list[dict[str, int]] = field(default_factory=list)
    _accessors: list[dict[str, Any]] = field(default_factory=list)

    def add(self, array: np.ndarray, *, target: int = 0, bounds: bool = False) -> int:
        """Add an array and return the index of its accessor.

        Args:
            array: (N, ...) of one of glTF's types; matrices are (N, 4, 4) row by row and are stored column by column.
            target: :data:`VERTICES`, :data:`INDICES` or 0.
            bounds: True to store the smallest and largest values, which positions and times need.
        """
        array = np.ascontiguousarray(np.swapaxes(array, 1, 2) if array.ndim == 3 else array)
        self._data += b"\0" * (-len(self._data) % 4)
        view = {"buffer": 0, "byteOffset": len(self._data), "byteLength": array.nbytes}
        self._views.append(view | ({"target": target} if target else {}))
        self._data += array.tobytes()
        accessor: dict[str, Any] = {
            "bufferView": len(self._views) - 1,
            "componentType": _CODES[array.dtype],
            "count": len(array),
            "type": _TYPES[array.shape[1:]],
        }
        if bounds:
            rows = array.reshape(len(array), -1)
            accessor |= {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}
        self._accessors.append(accessor)
        return len(self._accessors) - 1

    def save(self, path: Path, *, copyright_: str = "") -> None:
        """Write the file.

        Raises:
            OSError: if it cannot be written.
        """
        self._data += b"\0" * (-len(self._data) % 4)
        asset = {"version": "2.0", "generator": f"OpenDance-HF {opendance_hf.__version__}"}
        if copyright_:
            asset["copyright"] = copyright_
        whole = {
            "asset": asset,
            **self.content,
            "buffers": [{"byteLength": len(self._data)}],
            "bufferViews": self._views,
            "accessors": self._accessors,
        }
        text = json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()
        text += b" " * (-len(text) % 4)
        size = 12 + 8 + len(text) + 8 + len(self._data)
        with atomic_write(path) as partial, partial.open("wb") as file:
            file.write(struct.pack("<III", _MAGIC, _VERSION, size))
            file.write(struct.pack("<II", len(text), _JSON_CHUNK) + text)
            file.write(struct.pack("<II", len(self._data), _BIN_CHUNK))
            file.write(self._data)


@dataclass(frozen=True)
class GltfFile:
    """Hold a file that was read: its JSON object and its buffers."""

    path: Path
    content: dict[str, Any]
    buffers: list[bytes]
    _lists: dict[str, list[dict[str, Any]]] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path) -> GltfFile:
        """Read a ``.glb``, or a ``.gltf`` whose buffers are in it or beside it.

        Raises:
            FileNotFoundError: if the file does not exist.
            FormatError: if it is damaged or too large.
        """
        check_input(path, _MAX_BYTES)
        data = path.read_bytes()
        text, binary = _chunks(path, data) if data[:4] == b"glTF" else (data, None)
        if len(text) > _MAX_JSON_BYTES:
            raise FormatError(f"{path}: {len(text):,} bytes of JSON, at most {_MAX_JSON_BYTES:,} are read")
        try:
            content = json.loads(text)
        except (ValueError, RecursionError):
            raise FormatError(f"{path}: damaged, or not a glTF file") from None
        if not isinstance(content, dict) or "asset" not in content:
            raise FormatError(f"{path}: not a glTF 2.0 file: it has no 'asset'")
        file = cls(path, content, [])
        total = 0
        for number, buffer in enumerate(file.items("buffers")):
            uri = buffer.get("uri")
            if uri is None and number == 0 and binary is not None:
                file.buffers.append(binary)
            else:
                file.buffers.append(_outside(path, uri, _MAX_BYTES - total))
                total += len(file.buffers[-1])
        return file

    def beside(self) -> list[Path]:
        """Return the files of buffers that are not in the file itself."""
        uris = [buffer.get("uri") for buffer in self.items("buffers")]
        return [
            _place(self.path, uri) for uri in uris if isinstance(uri, str) and not uri.startswith("data:")
        ]

    def items(self, name: str) -> list[dict[str, Any]]:
        """Return a list of objects of the file, empty if it has none.

        Raises:
            FormatError: if it is something else.
        """
        if name not in self._lists:  # checked once: files may have many
            found = self.content.get(name, [])
            if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
                raise FormatError(f"{self.path}: '{name}' is not a list of objects; the file is damaged")
            self._lists[name] = found
        return self._lists[name]

    def item(self, name: str, index: Any) -> dict[str, Any]:
        """Return one object of a list.

        Raises:
            FormatError: if there is none.
        """
        found = self.items(name)
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index < len(found):
            raise FormatError(
                f"{self.path}: there is no number {ascii(index)[:20]} in '{name}'; the file is damaged"
            )
        return found[index]

    def array(self, index: Any) -> np.ndarray:
        """Return the numbers of an accessor, (N,) or (N, K) float64; normalised integers from -1 to 1.

        Raises:
            FormatError: if the file is damaged or the accessor is sparse.
        """
        accessor = self.item("accessors", index)
        code, count = accessor.get("componentType"), accessor.get("count")
        kind = _COMPONENTS.get(code) if type(code) is int else None
        size = _SIZES.get(str(accessor.get("type")))
        if kind is None or size is None or type(count) is not int or count < 1:
            raise FormatError(f"{self.path}: accessor {index} has an unknown type; the file is damaged")
        if "sparse" in accessor or "bufferView" not in accessor:
            raise FormatError(
                f"{self.path}: accessor {index} is sparse, which is not read; export it without compression"
            )
        view = self.item("bufferViews", accessor["bufferView"])
        numbers = [
            view.get("buffer"), view.get("byteOffset", 0), accessor.get("byteOffset", 0), view.get("byteStride", 0),
        ]  # fmt: skip
        if not all(type(number) is int and 0 <= number < _MAX_BYTES for number in numbers):
            raise FormatError(f"{self.path}: accessor {index} is damaged")
        buffer, start, inner, stride = numbers
        item = np.dtype(kind).itemsize * size
        stride = stride or item
        start += inner
        if (
            buffer >= len(self.buffers)
            or start + (count - 1) * stride + item > len(self.buffers[buffer])
            or stride < item
        ):
            raise FormatError(f"{self.path}: accessor {index} reaches beyond the data; the file is truncated")
        raw = np.ndarray((count, size), kind, self.buffers[buffer], start, (stride, np.dtype(kind).itemsize))
        values = raw.astype(np.float64)
        if accessor.get("normalized"):
            values = np.maximum(values / np.iinfo(raw.dtype).max, -1)
        if not np.isfinite(values).all():
            raise FormatError(f"{self.path}: NaN or infinity in accessor {index}")
        return values[:, 0] if size == 1 else values


def _chunks(path: Path, data: bytes) -> tuple[bytes, bytes | None]:
    """Return the JSON and the binary part of a GLB."""
    version, length = struct.unpack_from("<II", data, 4) if len(data) >= 12 else (0, 0)
    if version != _VERSION or length > len(data):
        raise FormatError(
            f"{path}: says that it has version {version} and {length:,} bytes, but there are {len(data):,}; the file is "
            "truncated or not glTF 2.0"
        )
    parts: dict[int, bytes] = {}
    at = 12
    while at + 8 <= length:
        size, kind = struct.unpack_from("<II", data, at)
        if at + 8 + size > length:
            raise FormatError(
                f"{path}: a part of {size:,} bytes reaches beyond the end; the file is truncated"
            )
        parts.setdefault(kind, data[at + 8 : at + 8 + size])
        at += 8 + size
    if _JSON_CHUNK not in parts:
        raise FormatError(f"{path}: has no JSON; the file is damaged")
    return parts[_JSON_CHUNK], parts.get(_BIN_CHUNK)


def _outside(path: Path, uri: Any, most: int) -> bytes:
    """Return a buffer of at most ``most`` bytes that is given in the text or in a file beside it."""
    if not isinstance(uri, str):
        raise FormatError(f"{path}: a buffer has no data; the file is damaged")
    if uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition(",")[2], validate=True)
        except (binascii.Error, ValueError):
            raise FormatError(f"{path}: the data of a buffer are damaged") from None
    beside = _place(path, uri)
    try:
        if (
            beside.name != path.name
            and not beside.is_symlink()
            and beside.is_file()
            and beside.stat().st_size <= most
        ):
            return beside.read_bytes()
    except (OSError, ValueError):  # such as a name that is too long
        pass
    raise FormatError(
        f"{path}: its buffer {beside.name[:60]!a} is missing, too large with the others, or a link"
    )


def _place(path: Path, uri: str) -> Path:
    """Return the file of a buffer, in the folder of its glTF file."""
    name = unquote(uri)
    if not name or "/" in name or "\\" in name or name.startswith(".") or any(ord(c) < 32 for c in name):
        raise FormatError(f"{path}: names a buffer outside its folder, {name[:60]!a}, which is not read")
    return path.with_name(name)


def is_number(value: Any) -> bool:
    """Return True for a finite real number of a JSON file."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST
