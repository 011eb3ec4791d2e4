"""Arrays out of pickles of unknown origin, and nothing else: no code of a file ever runs.

A pickle is a program. This reader first looks at its instructions without executing them and refuses all but those
that plain data needs; the few names that numpy's arrays refer to are answered by stand-ins of our own, which check
sizes and make an array at the very end. AIST++ (Li et al., ICCV 2021) publishes its motions in this form.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

#: Larger files and longer programs are refused: a dance of ten minutes takes 25 MB and a few hundred instructions.
MAX_BYTES: Final = 256 * 1024**2
MAX_INSTRUCTIONS: Final = 200_000

_ALLOWED: Final = frozenset(
    """
    PROTO STOP FRAME MARK POP POP_MARK DUP NONE NEWTRUE NEWFALSE INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT
    BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE SHORT_BINUNICODE BINUNICODE8 BINBYTES SHORT_BINBYTES
    BINBYTES8 BYTEARRAY8 EMPTY_DICT DICT SETITEM SETITEMS EMPTY_LIST LIST APPEND APPENDS EMPTY_TUPLE TUPLE TUPLE1
    TUPLE2 TUPLE3 PUT BINPUT LONG_BINPUT GET BINGET LONG_BINGET MEMOIZE GLOBAL STACK_GLOBAL REDUCE BUILD
    """.split()  # noqa: SIM905  a list of one name a line would fill the page
)


class PickleError(ValueError):
    """A pickle that holds anything but plain data and arrays of numbers; the message names the file and the cause."""


def load_pickled_arrays(path: Path | str) -> dict[str, Any]:
    """Read a pickled dictionary of arrays and plain values without executing anything in it.

    Args:
        path: a file written by ``pickle.dump`` in any protocol, also by Python 2.

    Returns:
        The dictionary; arrays are ``numpy.ndarray`` of booleans or numbers.

    Raises:
        FileNotFoundError: no such file.
        PickleError: if the file is too large, damaged, asks for any other name or instruction, or is no dictionary.
    """
    path = Path(path)
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise PickleError(f"{path}: {size:,} bytes; pickles above {MAX_BYTES:,} are refused")
    data = path.read_bytes()
    try:
        _inspect(data)
        result = _real(_Reader(io.BytesIO(data), encoding="latin1").load())
    except _Refused as error:
        raise PickleError(f"{path}: {error}; nothing of it was executed") from None
    # What the unpickler raises on damaged input is not documented to be anything narrower.
    except Exception as error:
        raise PickleError(f"{path}: damaged, or not a pickle ({type(error).__name__}: {error})") from None
    if not isinstance(result, dict):
        raise PickleError(f"{path}: holds a {type(result).__name__}, not a dictionary of arrays")
    return result


class _Refused(Exception):
    """The pickle wants something that data does not need."""


def _inspect(data: bytes) -> None:
    for i, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if i >= MAX_INSTRUCTIONS:
            raise _Refused(f"more than {MAX_INSTRUCTIONS:,} instructions")
        if opcode.name not in _ALLOWED:
            raise _Refused(f"uses the instruction {opcode.name}, which plain data does not need")
        # The memo is an array: a huge index would allocate as much.
        if (
            opcode.name in ("PUT", "BINPUT", "LONG_BINPUT")
            and not 0 <= int(argument or 0) <= MAX_INSTRUCTIONS
        ):
            raise _Refused(f"stores a value at the absurd index {argument}")


class _DType:
    """Stands in for numpy.dtype while reading."""

    def __init__(self, code: str = "", *_: Any) -> None:
        dtype = np.dtype(code) if isinstance(code, str) and len(code) < 8 else None
        if dtype is None or dtype.kind not in "biuf":
            raise _Refused(f"holds an array of {str(code)[:40]!r}, not of numbers")
        self.dtype = dtype

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _Array:
    """Stands in for numpy.ndarray while reading."""

    array: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, data = state
        self.array = _array(data, dtype, shape, "F" if fortran else "C")


def _ndarray(*_: Any) -> None:
    """Stands in for the class numpy.ndarray, which arrays only mention."""
    raise _Refused("creates an array in an unusual way")


def _array(data: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    if isinstance(data, str):  # Python 2
        data = data.encode("latin1")
    if not isinstance(dtype, _DType) or not isinstance(data, bytes | bytearray):
        raise _Refused("holds an array of something else than numbers")
    if (
        not isinstance(shape, tuple)
        or len(shape) > 32
        or not all(isinstance(n, int) and n >= 0 for n in shape)
    ):
        raise _Refused("holds an array of impossible shape")
    if math.prod(shape) * dtype.dtype.itemsize != len(data):
        raise _Refused(f"holds an array of shape {shape} with {len(data)} bytes")
    native = np.frombuffer(data, dtype.dtype).astype(dtype.dtype.newbyteorder("="))
    return native.reshape(shape, order="F" if order == "F" else "C")


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _frombuffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    result = _Array()
    result.array = _array(data, dtype, shape, str(order))
    return result


def _scalar(dtype: Any, data: Any = b"") -> Any:
    return _array(data, dtype, (), "C").item()


def _latin1(text: Any, encoding: Any = "") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1", "bytes"):
        raise _Refused("encodes text")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise _Refused("converts values to bytes")
    return b""


# What pickled arrays refer to, in numpy 1 and 2 and from Python 2.
_NAMES: Final[dict[tuple[str, str], Callable[..., Any]]] = {
    ("numpy", "dtype"): _DType,
    ("numpy", "ndarray"): _ndarray,
    ("_codecs", "encode"): _latin1,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): OrderedDict,
}
for _core in ("numpy.core", "numpy._core"):
    _NAMES[f"{_core}.multiarray", "_reconstruct"] = _reconstruct
    _NAMES[f"{_core}.multiarray", "scalar"] = _scalar
    _NAMES[f"{_core}.numeric", "_frombuffer"] = _frombuffer


class _Name:
    """A name that can be called, but not changed by the instruction BUILD."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *arguments: Any) -> Any:
        return self._call(*arguments)

    def __setstate__(self, _: Any) -> None:
        raise _Refused("changes a name")


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _Name(_NAMES[module, name])
        except KeyError:
            raise _Refused(f"asks for {module[:60]}.{name[:60]}, which is not data") from None


def _real(value: Any, depth: int = 0) -> Any:
    """The value with arrays for stand-ins."""
    if depth > 8:
        raise _Refused("is nested too deeply")
    if isinstance(value, _Array):
        if value.array is None:
            raise _Refused("holds an array without content")
        return value.array
    if isinstance(value, dict):
        return {str(key): _real(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_real(item, depth + 1) for item in value)
    if value is None or isinstance(value, bool | int | float | str | bytes):
        return value
    raise _Refused(f"holds a {type(value).__name__.lstrip('_')}")
