"""Arrays out of pickles of unknown origin, and nothing else: no code of a file ever runs.

A pickle is a program for a small stack machine. The machine here knows only the instructions that plain data needs;
the few names that numpy's arrays refer to are answered by inert tokens, and an array is made by our own code, after
its size was checked. Memory, time and nesting are bounded, since a program of a few kilobytes can ask for terabytes.
AIST++ (Li et al., ICCV 2021) publishes its motions in this form, and SMPL its body, with arrays wrapped by chumpy and
scipy, two packages that are not needed here.
"""

from __future__ import annotations

import io
import math
import pickletools
import re
import sys
import zlib
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.errors import OpenDanceError

#: Larger files and longer programs are refused: a dance of ten minutes takes 25 MB and a few hundred instructions.
MAX_BYTES: Final = 256 * 1024**2
MAX_INSTRUCTIONS: Final = 200_000
#: Containers in containers; an AIST++ motion has one.
MAX_DEPTH: Final = 8
#: Text protocols keep an array in one line; the longest that is read.
MAX_LINE: Final = 64 * 1024**2

_HIGHEST_PROTOCOL: Final = 5
#: What a program may create in all, beyond four times its own size: old protocols hold an array as text, as bytes and
#: as an array at the same time.
_SLACK_BYTES: Final = 16 * 1024**2
_ENTRY_BYTES: Final = 128  # of a dictionary: its place in the table, and its key as text
_VALUE_BYTES: Final = 16  # what a value counts at least, where a result is weighed

#: How many values an instruction takes off the stack; others take all above the last mark.
_OPERANDS: Final = {
    **dict.fromkeys(("STOP", "BUILD", "APPEND", "TUPLE1"), 1),
    **dict.fromkeys(("REDUCE", "NEWOBJ", "STACK_GLOBAL", "SETITEM", "TUPLE2"), 2),
    "TUPLE3": 3,
}
_NUMBERS: Final = re.compile(r"[<>=|]?[biuf]\d{1,2}")

# What pickled arrays refer to, in numpy 1 and 2 and from Python 2, and what we call it.
_NAMES: Final[dict[tuple[str, str], str]] = {
    ("numpy", "dtype"): "dtype",
    ("numpy", "ndarray"): "ndarray",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("collections", "OrderedDict"): "OrderedDict",
    ("collections", "defaultdict"): "defaultdict",
    ("joblib.numpy_pickle", "NumpyArrayWrapper"): "NumpyArrayWrapper",
    ("chumpy.ch", "Ch"): "Ch",
    ("chumpy.reordering", "Select"): "Select",
    ("scipy.sparse.csc", "csc_matrix"): "csc_matrix",
    ("scipy.sparse._csc", "csc_matrix"): "csc_matrix",
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = "reconstruct"
    _NAMES[f"{_core}.multiarray", "scalar"] = "scalar"
    _NAMES[f"{_core}.numeric", "_frombuffer"] = "frombuffer"
for _builtins, _copyreg in (("builtins", "copyreg"), ("__builtin__", "copy_reg")):
    _NAMES[_builtins, "set"] = "set"
    _NAMES[_builtins, "object"] = "object"
    _NAMES[_builtins, "dict"] = "dict"
    _NAMES[_copyreg, "_reconstructor"] = "reconstructor"
#: Objects that are an array in some wrapping.
_WRAPPERS: Final = ("Ch", "Select", "csc_matrix")


#: First bytes of compressed files, which joblib.dump writes if told to. No pickle of a dictionary begins with them. Only
#: zlib, the default of ``joblib.dump(compress=3)``, is read.
_COMPRESSED: Final = {
    b"\x78\x01": "zlib",
    b"\x78\x5e": "zlib",
    b"\x78\x9c": "zlib",
    b"\x78\xda": "zlib",
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\xfd7zXZ": "xz",
    b"\x5d\x00\x00": "lzma",
    b"\x04\x22\x4d\x18": "lz4",
    b"PK\x03\x04": "zip",
}


class PickleError(OpenDanceError, ValueError):
    """A pickle that holds anything but plain data and arrays of numbers; the message names the file and the cause."""


def load_pickled_arrays(
    path: Path | str, *, max_bytes: int | None = None, max_instructions: int = MAX_INSTRUCTIONS
) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values without executing anything in it.

    Args:
        path: a file written by ``pickle.dump`` in any protocol, also by Python 2, or by ``joblib.dump`` uncompressed
            or compressed by zlib.
        max_bytes: size of the largest file that is read, and of the largest content of a compressed one; 256 MiB by default.
        max_instructions: length of the longest program that is executed.

    Returns:
        The dictionary; arrays are ``numpy.ndarray`` of booleans or numbers, keys are text. What the file holds once
        and mentions twice is one object here too.

    Raises:
        OSError: no such file, or not to be read.
        PickleError: if the file is too large, damaged, asks for any other name or instruction, would take far more
            memory than the file itself, or is no dictionary.
    """
    path = Path(path)
    size = path.stat().st_size
    limit = MAX_BYTES if max_bytes is None else max_bytes
    if size > limit:
        raise PickleError(f"{path}: {size:,} bytes; pickles above {limit:,} are refused")
    with path.open("rb") as file:
        data = file.read(size)  # no more, should it be growing
    compression = next((name for magic, name in _COMPRESSED.items() if data.startswith(magic)), None)
    if compression not in (None, "zlib"):
        raise PickleError(
            f"{path}: compressed by {compression}, which is not read; write it again without, as joblib.dump does by default"
        )
    try:
        data = _decompressed(data, limit) if compression else data
        budget = 4 * len(data) + _SLACK_BYTES
        result = _Machine(budget, max_instructions).run(data)
        if isinstance(result, dict):
            _weigh(result, 0, budget, {})
    except _Refused as error:
        raise PickleError(f"{path}: {error}; nothing of it was executed") from None
    # What reading damaged input raises is not documented to be anything narrower.
    except Exception as error:
        cause = f"{type(error).__name__}: {_shown(error, 120)}"
        raise PickleError(f"{path}: damaged, or not a pickle ({cause})") from None
    if not isinstance(result, dict):
        raise PickleError(f"{path}: holds a {type(result).__name__.lstrip('_')}, not a dictionary of arrays")
    return result


def pickled_array_item(data: bytes, name: str) -> Any:
    """The content of an ``.npy`` member of an archive, which may hold an object: a dictionary, text, a list.

    Args:
        data: the whole member.
        name: of the member, for messages.

    Returns:
        An array of numbers or text, or what an array with one object holds: plain data and arrays.

    Raises:
        PickleError: as :func:`load_pickled_arrays`, and for an array of several objects.
    """
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        shape, _, dtype = header[version](stream)
        if not dtype.hasobject:
            if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
                raise _Refused(f"holds another number of bytes than the shape {_shown(shape)} needs")
            stream.seek(0)
            return np.lib.format.read_array(stream, allow_pickle=False)
        if shape != ():
            raise _Refused("holds an array of several objects")
        budget = 4 * len(data) + _SLACK_BYTES
        result = _Machine(budget).run(data[stream.tell() :])
        # numpy pickles the array around the object: an object array's state carries a list of one.
        if not isinstance(result, _Boxed):
            raise _Refused("holds no object where one is announced")
        _weigh(result.value, 0, budget, {})
        return result.value
    except _Refused as error:
        raise PickleError(f"{name}: {error}; nothing of it was executed") from None
    except Exception as error:
        cause = f"{type(error).__name__}: {_shown(error, 120)}"
        raise PickleError(f"{name}: damaged ({cause})") from None


def _decompressed(data: bytes, limit: int) -> bytes:
    """Decompress zlib, no more than the limit."""
    stream = zlib.decompressobj()
    out = stream.decompress(data, limit + 1)
    if len(out) > limit:
        raise _Refused(f"holds more than {limit:,} bytes when decompressed")
    if not stream.eof:
        raise ValueError("the end of the compressed data is missing")
    return out


class _Boxed:
    """An array with one object in it."""

    def __init__(self, value: Any) -> None:
        self.value = value


class _Refused(Exception):
    """The pickle wants something that data does not need."""


def _shown(text: object, length: int = 60) -> str:
    """A piece of the file as it may stand in a message: short, and without control characters."""
    return ascii(str(text)[:length])[1:-1]


class _Source(io.BytesIO):
    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(MAX_LINE)
        if len(line) == MAX_LINE:
            raise _Refused(f"holds a line of more than {MAX_LINE:,} bytes; write it in protocol 2 or later")
        return line


class _Name:
    """Stands in for a function or class."""

    def __init__(self, name: str) -> None:
        self.name = name


class _DType:
    """Stands in for numpy.dtype while reading."""

    def __init__(self, code: str) -> None:
        #: An array of objects; only one with a single object is data.
        self.objects = code in ("O", "O8", "|O")
        self.dtype = np.dtype(object)
        if self.objects:
            return
        try:
            if not _NUMBERS.fullmatch(code):
                raise TypeError
            self.dtype = np.dtype(code)
        except TypeError:
            raise _Refused(f"holds an array of '{_shown(code)}', not of numbers") from None


class _Array:
    """Stands in for numpy.ndarray until its content is known."""

    array: np.ndarray | None = None
    boxed: _Boxed | None = None


class _Wrapped(_Array):
    """Stands in for an array that another package wraps, until its attributes are known."""

    def __init__(self, kind: str) -> None:
        self.kind = kind


class _Joblib(_Array):
    """Stands in for an array of joblib, whose bytes lie in the file after the instruction that completes it."""


class _Machine:
    """Execute the instructions of plain data.

    Nothing here hashes, compares or prints a container: nested a hundred thousand deep, that would crash Python.
    """

    def __init__(self, budget: int, max_instructions: int = MAX_INSTRUCTIONS) -> None:
        self._left = budget
        self._max_instructions = max_instructions
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """The value that the program leaves behind."""
        self._source = _Source(data)
        for i, (opcode, argument, _) in enumerate(pickletools.genops(self._source)):
            if i >= self._max_instructions:
                raise _Refused(f"more than {self._max_instructions:,} instructions")
            if opcode.name == "STOP":
                return self._taken("STOP")[0]
            self._step(opcode.name, argument)
        raise ValueError("the end is missing")

    def _step(self, instruction: str, argument: Any) -> None:
        push = self._stack.append
        match instruction:
            case "FRAME" | "PROTO":
                if instruction == "PROTO" and argument > _HIGHEST_PROTOCOL:
                    raise ValueError(f"unknown protocol {argument}")
            case "MARK":
                self._marks.append(len(self._stack))
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "FLOAT" | "BINFLOAT":
                push(argument)
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if argument.bit_length() > 64:
                    raise _Refused("holds an integer of more than 64 bits")
                push(argument)
            case (
                "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE" | "BINUNICODE" | "SHORT_BINUNICODE"
                | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8" | "BYTEARRAY8"
            ):  # fmt: skip
                self._spend(sys.getsizeof(argument))
                push(argument)
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                push(
                    self._paid({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[instruction]())
                )
            case "DICT":
                push(self._paid(self._filled({}, self._taken(instruction))))
            case "LIST":
                push(self._paid(self._taken(instruction)))
            case "TUPLE" | "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(self._paid(tuple(self._taken(instruction))))
            case "SETITEM" | "SETITEMS":
                items = self._taken(instruction)
                self._filled(self._top(), items)
            case "APPEND" | "APPENDS":
                items, target = self._taken(instruction), self._top()
                if not isinstance(target, list):
                    raise ValueError("appends to what is no list")
                target.extend(items)
            case "PUT" | "BINPUT" | "LONG_BINPUT" | "MEMOIZE":
                index = len(self._memo) if instruction == "MEMOIZE" else argument
                if not 0 <= index <= self._max_instructions:
                    raise _Refused(f"stores a value at the absurd index {_shown(index)}")
                self._memo[index] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "GLOBAL":
                module, _, name = argument.partition(" ")
                push(_name(module, name))
            case "STACK_GLOBAL":
                push(_name(*self._taken(instruction)))
            case "REDUCE" | "NEWOBJ":
                push(self._call(*self._taken(instruction)))
            case "BUILD":
                (state,) = self._taken(instruction)
                self._build(self._top(), state)
            case _:
                raise _Refused(f"uses the instruction {instruction}, which plain data does not need")

    def _taken(self, instruction: str) -> list[Any]:
        """The operands of an instruction off the stack: as many as it has, or all above the last mark."""
        floor = self._marks[-1] if self._marks else 0
        count = _OPERANDS.get(instruction)
        start = self._marks.pop() if count is None else len(self._stack) - count
        if start < floor:
            raise ValueError("uses a value that is not there")
        items = [_settled(item) for item in self._stack[start:]]
        del self._stack[start:]
        return items

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise ValueError("uses a value that is not there")
        return self._stack[-1]

    def _spend(self, num_bytes: int) -> None:
        self._left -= num_bytes
        if self._left < 0:
            raise _Refused("would take far more memory than the file itself")

    def _paid(self, container: Any) -> Any:
        """Return a new container after its memory is spent: one byte of a program makes an empty one of 64."""
        self._spend(sys.getsizeof(container))
        return container

    def _filled(self, target: Any, items: list[Any]) -> dict[str, Any]:
        """Add keys and values, one after the other, to a dictionary."""
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("a dictionary is made of keys and values")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if not isinstance(key, str | bytes | int):
                raise _Refused(f"holds a dictionary with a {type(key).__name__.lstrip('_')} for a key")
            if isinstance(key, bytes):
                self._spend(len(key))
                key = key.decode("latin1")
            target[str(key)] = _settled(value)
        return target

    def _call(self, called: Any, arguments: Any) -> Any:
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise ValueError("calls what cannot be called")
        match called.name, arguments:
            case "dtype", (str() as code, *_):
                return _DType(code)
            case "reconstruct", _:
                return _Array()
            case "frombuffer", (data, _DType() as dtype, shape, order, *_):
                result = _Array()
                result.array = self._array(
                    data, dtype, shape, fortran=isinstance(order, str) and order == "F"
                )
                return result
            case "scalar", (_DType() as dtype, data):
                return self._array(data, dtype, (), fortran=False).item()
            case "encode", (str() as text, "latin1" | "latin-1" | "bytes"):
                self._spend(len(text))
                return text.encode("latin1")
            case "bytes", ():
                return b""
            case ("Ch" | "Select" | "csc_matrix") as kind, ():
                return _Wrapped(kind)
            case "reconstructor", (_Name() as wrapper, _Name(), None) if wrapper.name in _WRAPPERS:
                return _Wrapped(wrapper.name)
            case "set", (list() as values,):  # of names and numbers; nothing here is looked up in one
                self._spend(8 * len(values))
                return list(values)
            case "OrderedDict", ():
                return {}
            case "defaultdict", (_Name() as made,) if made.name == "dict":
                return {}
            case "NumpyArrayWrapper", ():
                return _Joblib()
            case "OrderedDict", (list() as pairs,):  # Python 2
                self._spend(_ENTRY_BYTES * len(pairs))
                if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
                    raise ValueError("a dictionary is made of pairs")
                return self._filled({}, [item for pair in pairs for item in pair])
        raise _Refused(f"calls {called.name} as no array does")

    def _build(self, target: Any, state: Any) -> None:
        match target, state:
            case _DType(), (_, str() as order, *_):
                if order in ("<", ">"):
                    target.dtype = target.dtype.newbyteorder("<" if order == "<" else ">")
            case _Joblib(), dict() as state:
                target.array = self._read_joblib(state)
            case _Wrapped(), dict() as state:
                target.array = self._unwrapped(target.kind, state)
            case _Array(), (_, (), _DType() as dtype, _, [value]) if dtype.objects:
                target.boxed = _Boxed(value)
            case _Array(), (_, shape, _DType() as dtype, fortran, data):
                target.array = self._array(data, dtype, shape, fortran=bool(fortran))
            case _:
                raise _Refused("changes a value as no array does")

    def _unwrapped(self, kind: str, state: dict[str, Any]) -> np.ndarray:
        """The dense array of a chumpy array (``x``), of a selection from one, or of a sparse matrix by columns."""
        match kind, state:
            case "Ch", {"x": np.ndarray() as array}:
                return array
            case "Select", {"a": np.ndarray() as array, "idxs": np.ndarray() as index, **rest}:
                shape = rest.get("preferred_shape") or index.shape
                self._check_shape(shape)
                if index.dtype.kind not in "iu" or math.prod(shape) != index.size or not index.size:
                    raise _Refused("selects from an array what is not there")
                if index.min() < 0 or index.max() >= array.size:
                    raise _Refused("selects from an array what is not there")
                self._spend(index.size * array.itemsize)
                return array.reshape(-1)[index.reshape(-1)].reshape(shape)
            case "csc_matrix", {
                "_shape": tuple() as shape,
                "data": np.ndarray() as data,
                "indices": np.ndarray() as rows,
                "indptr": np.ndarray() as starts,
            }:
                self._check_shape(shape)
                if len(shape) != 2 or not data.ndim == rows.ndim == starts.ndim == 1:
                    raise _Refused("holds a sparse matrix that is none")
                self._spend(math.prod(shape) * data.itemsize)
                counts = starts.astype(np.int64)[1:] - starts.astype(np.int64)[:-1]
                if (
                    rows.dtype.kind not in "iu"
                    or starts.dtype.kind not in "iu"
                    or len(starts) != shape[1] + 1
                    or starts[0] != 0
                    or (counts < 0).any()
                    or not starts[-1] == len(rows) == len(data)
                    or (len(rows) and (rows.min() < 0 or rows.max() >= shape[0]))
                ):
                    raise _Refused("holds a sparse matrix with entries outside of it")
                dense = np.zeros(shape, dtype=data.dtype)
                np.add.at(dense, (rows, np.repeat(np.arange(shape[1]), counts)), data)
                return dense
        raise _Refused(f"holds a {kind} without the array that makes one")

    def _read_joblib(self, state: dict[str, Any]) -> np.ndarray:
        """Read the bytes of an array of joblib, which follow in the file: some for alignment, then the numbers."""
        match state:
            case {"shape": shape, "order": "C" | "F" as order, "dtype": _DType() as dtype} if (
                not dtype.objects
            ):
                self._check_shape(shape)
                if state.get("numpy_array_alignment_bytes") is not None:
                    (padding,) = self._source.read(1)
                    self._source.read(padding)
                data = self._source.read(math.prod(shape) * dtype.dtype.itemsize)
                return self._array(data, dtype, shape, fortran=order == "F")
        raise _Refused("holds an array of joblib that is not of numbers")

    def _check_shape(self, shape: Any) -> None:
        if (
            not isinstance(shape, tuple)
            or len(shape) > 32
            or not all(isinstance(n, int) and 0 <= n <= MAX_BYTES for n in shape)
        ):
            raise _Refused("holds an array of impossible shape")

    def _array(self, data: Any, dtype: _DType, shape: Any, *, fortran: bool) -> np.ndarray:
        if dtype.objects:
            raise _Refused("holds an array of 'O8', not of numbers")
        if isinstance(data, str):  # Python 2
            data = data.encode("latin1")
        if not isinstance(data, bytes | bytearray):
            raise _Refused("holds an array of something else than numbers")
        self._check_shape(shape)
        if math.prod(shape) * dtype.dtype.itemsize != len(data):
            raise _Refused(f"holds an array of shape {shape} with {len(data)} bytes")
        self._spend(len(data))
        native = np.frombuffer(data, dtype.dtype).astype(dtype.dtype.newbyteorder("="))
        return native.reshape(shape, order="F" if fortran else "C")


def _name(module: Any, name: Any) -> _Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("a name is no text")
    if (module, name) not in _NAMES:
        raise _Refused(f"asks for {_shown(module)}.{_shown(name)}, which is not data")
    return _Name(_NAMES[module, name])


def _settled(value: Any) -> Any:
    """The array for its stand-in; anything else as it is."""
    if not isinstance(value, _Array):
        return value
    if value.boxed is not None:
        return value.boxed
    if value.array is None:
        raise _Refused("holds an array without content")
    return value.array


def _weigh(value: Any, depth: int, limit: int, known: dict[tuple[int, int], int]) -> int:
    """Bytes of the value as if nothing in it were shared, which whoever walks through it will have to take.

    A list in itself is infinitely deep, so the depth ends that too; ``known`` holds the weight of each container at
    each depth, since a list of lists of lists, a thousand times the same, has a billion values.
    """
    if isinstance(value, np.ndarray):
        return _VALUE_BYTES + value.nbytes
    if isinstance(value, str | bytes | bytearray):
        return _VALUE_BYTES + len(value)
    if value is None or isinstance(value, bool | int | float):
        return _VALUE_BYTES
    if not isinstance(value, dict | list | tuple):
        raise _Refused(f"holds a {type(value).__name__.lstrip('_')}")
    if depth >= MAX_DEPTH:
        raise _Refused("is nested too deeply")
    place = (id(value), depth)
    if place not in known:
        weight = _VALUE_BYTES
        for item in value.values() if isinstance(value, dict) else value:
            weight += _weigh(item, depth + 1, limit, known)
            if weight > limit:
                raise _Refused("would take far more memory than the file itself, read value by value")
        known[place] = weight
    return known[place]
