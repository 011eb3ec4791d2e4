"""Declare the columns of records as data, from which checks and file formats are derived.

A record is a dataclass whose fields are annotated with their :class:`Column`::

    @dataclass(kw_only=True)
    class Row:
        joints: Annotated[Floats, Column("float32", ("T", "D*72"), unit="m", meaning="joint positions")]
        genre: Annotated[str | None, Column("string", meaning="music genre")] = None

A field with a default may be absent from a file, so that files written before it existed can be read. Fields without a
shape are scalars. Fields annotated with another record (``Camera | None``, ``tuple[Backend, ...]``) are structs. This module
does not depend on the name of any column.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, get_args, get_origin, get_type_hints

import numpy as np

if TYPE_CHECKING:
    import datasets

_SIZE: Final = re.compile(
    r"(?P<name>[A-Z])(?:\*(?P<factor>\d+))?|ceil\((?P<numerator>[A-Z])/(?P<divisor>\d+)\)"
)
_SCALARS: Final[dict[str, type]] = {
    "string": str,
    "int32": numbers.Integral,
    "int64": numbers.Integral,
    "float32": numbers.Real,
    "float64": numbers.Real,
}
#: Default of a column that every file must have.
REQUIRED: Final = object()
#: Values of the letters in shapes, for example ``{"T": 240, "D": 2}``.
Letters = Mapping[str, int]


@dataclass(frozen=True)
class Column:
    """One column of a record.

    Attributes:
        dtype: ``string``, ``int32``, ``int64``, ``float32`` or ``float64``; ``struct`` for another record.
        shape: () for a scalar; otherwise one or two sizes, each a number, a letter (``T``), a letter times a number
            (``D*72``) or a rounded-up quotient (``ceil(T/8)``). Letters without a value in a record are free.
        unit: unit of the values, empty if they have none.
        meaning: description, one line.
        minimum: smallest allowed value, None for no limit.
        maximum: largest allowed value, None for no limit.
        choices: the allowed values, empty for any.
        pattern: regular expression that a text must match completely, empty for any.
        remedy: how to correct a value that is not allowed, for the error message.
        default: value of the field if a file lacks the column; derived from the record, not declared.
        record: dataclass of the items of a struct; derived from the record, not declared.
        repeated: True if the field is a tuple; derived from the record, not declared.
    """

    dtype: str
    shape: tuple[int | str, ...] = ()
    unit: str = ""
    meaning: str = ""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[Any, ...] = ()
    pattern: str = ""
    remedy: str = ""
    default: Any = REQUIRED
    record: type | None = None
    repeated: bool = False

    def __post_init__(self) -> None:
        if self.dtype not in (*_SCALARS, "struct"):
            raise TypeError(f"unknown dtype {self.dtype!r}: expected one of {', '.join(_SCALARS)}, struct")
        if len(self.shape) > 2 or (self.shape and self.dtype in ("string", "struct")):
            raise TypeError(f"{self.dtype} columns cannot have the shape {self.shape}")
        for size in self.shape:
            if isinstance(size, str) and not _SIZE.fullmatch(size):
                raise TypeError(f"unknown size {size!r}: expected T, D*72 or ceil(T/8)")
        integer = self.dtype.startswith("int") and not self.shape
        if self.nullable and integer and (self.minimum is None or self.minimum < 0):
            raise TypeError(
                "a nullable integer needs a minimum of at least 0: in WebDataset tars, -1 stands for None"
            )
        if self.nullable and len(self.shape) == 2 and not self.dtype.startswith("float"):
            raise TypeError("a nullable matrix must be of floats: in WebDataset tars, NaN stands for None")

    @property
    def required(self) -> bool:
        """True if a file without this column is invalid."""
        return self.default is REQUIRED

    @property
    def nullable(self) -> bool:
        """True if the value may be None."""
        return self.default is None

    def sizes(self, letters: Letters) -> tuple[int | None, ...]:
        """Return the shape as numbers, None where a letter has no value."""
        return tuple(size if isinstance(size, int) else _size(size, letters) for size in self.shape)

    def missing(self, letters: Letters) -> Any:
        """Return the value that stands for None in files that cannot hold None (WebDataset)."""
        if len(self.shape) == 2:
            # `datasets` infers the type of a column from a few samples, and cannot from a matrix without elements.
            return np.full((1, self.sizes(letters)[1] or 1), np.nan, self.dtype)
        if self.shape:
            return np.zeros(0, self.dtype)
        return {"string": "", "int32": -1, "int64": -1}.get(self.dtype, math.nan)

    def is_missing(self, value: Any) -> bool:
        """Return whether a value stands for None, see :meth:`missing`."""
        if len(self.shape) == 2:
            return bool(np.isnan(value).all())
        if self.shape:
            return np.size(value) == 0
        return {"string": value == "", "int32": value == -1, "int64": value == -1}.get(
            self.dtype, value != value
        )

    def violation(self, value: Any, letters: Letters) -> str:
        """Return the error in the type, dtype, shape or range of a value as text; empty if it is valid."""
        if (self.nullable and value is None) or self.record is not None or self.repeated:
            return ""
        wrong = self._wrong_array(value, letters) if self.shape else self._wrong_scalar(value)
        wrong = wrong or self._wrong_range(value)
        if not wrong and self.nullable and self.is_missing(value):
            return f"must not be {value!r:.40}, which stands for a missing value in WebDataset tars; use None"
        return wrong

    def _wrong_scalar(self, value: Any) -> str:
        if isinstance(value, _SCALARS[self.dtype]) and not isinstance(value, bool):
            return ""
        return f"must be {self.dtype}, got {type(value).__name__} {value!r:.40}"

    def _wrong_array(self, value: Any, letters: Letters) -> str:
        if not isinstance(value, np.ndarray):
            return f"must be an array, got {type(value).__name__}"
        sizes = self.sizes(letters)
        if value.ndim != len(sizes) or any(
            want not in (None, have) for want, have in zip(sizes, value.shape, strict=True)
        ):
            shown = ", ".join(
                str(name if size is None else size) for name, size in zip(self.shape, sizes, strict=True)
            )
            return f"has shape {value.shape}, expected ({shown}{',' if len(sizes) == 1 else ''})"
        return "" if value.dtype == self.dtype else f"is {value.dtype}, expected {self.dtype}"

    def _wrong_range(self, value: Any) -> str:
        wrong = ""
        if self.choices and value not in self.choices:
            wrong = f"must be one of {', '.join(map(str, self.choices))}, got {value!r}"
        elif isinstance(value, str):
            if self.pattern and not re.fullmatch(self.pattern, value):
                wrong = f"must match {self.pattern}, got {value!r}"
        elif np.size(value):
            smallest, largest = np.min(value), np.max(value)
            if not (np.isfinite(smallest) and np.isfinite(largest)):
                wrong = "holds NaN or infinity" if self.shape else f"must be finite, got {value}"
            elif self.minimum is not None and smallest < self.minimum:
                wrong = f"must be at least {self.minimum:g}, got {smallest}"
            elif self.maximum is not None and largest > self.maximum:
                wrong = f"must be at most {self.maximum:g}, got {largest}"
        return f"{wrong}; {self.remedy}" if wrong and self.remedy else wrong


def _size(size: str, letters: Letters) -> int | None:
    parts = _SIZE.fullmatch(size)
    assert parts is not None
    value = letters.get(parts["name"] or parts["numerator"])
    if value is None:
        return None
    if parts["divisor"]:
        return math.ceil(value / int(parts["divisor"]))
    return value * int(parts["factor"] or 1)


@functools.cache
def columns_of(record: type) -> dict[str, Column]:
    """Return the columns of a record, in the order of its fields.

    Raises:
        TypeError: naming the field, if it is not annotated with a column or its column is invalid.
    """
    hints = get_type_hints(record, include_extras=True)
    columns = {}
    for field in dataclasses.fields(record):
        kind, *notes = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else [None]
        column = next((note for note in notes if isinstance(note, Column)), None)
        if column is None:
            raise TypeError(f"{record.__name__}.{field.name}: not annotated with a Column")
        inner = next((part for part in (kind, *get_args(kind)) if dataclasses.is_dataclass(part)), None)
        if (column.dtype == "struct") != (inner is not None):
            raise TypeError(f"{record.__name__}.{field.name}: a struct is a column whose type is a record")
        try:
            columns[field.name] = dataclasses.replace(
                column,
                default=REQUIRED if field.default is dataclasses.MISSING else field.default,
                record=inner if isinstance(inner, type) else None,
                repeated=get_origin(kind) is tuple,
            )
        except TypeError as error:
            raise TypeError(f"{record.__name__}.{field.name}: {error}") from None
    return columns


def violations(record: Any, letters: Letters) -> Iterator[tuple[str, str]]:
    """Yield the name and the error of every column of a record with an invalid value, including those of structs."""
    for name, column in columns_of(record.__class__).items():
        value = getattr(record, name)
        wrong = column.violation(value, letters)
        if wrong:
            yield name, wrong
        for item in value if column.repeated else [value]:
            if column.record is not None and item is not None:
                yield from ((f"{name}.{inner}", why) for inner, why in violations(item, letters))


def features_of(record: type, letters: Letters) -> dict[str, Any]:
    """Return the ``datasets`` features of a record.

    Matrices are ``Array2D`` of any length, since rows have different lengths and columns do not; vectors are lists.
    """
    return {name: _feature(column, letters) for name, column in columns_of(record).items()}


def _feature(column: Column, letters: Letters) -> datasets.Features | dict[str, Any]:
    import datasets  # imported here because it takes a second and is rarely needed

    if len(column.shape) == 2:
        return datasets.Array2D((None, column.sizes(letters)[1]), column.dtype)
    one = datasets.Value(column.dtype) if column.record is None else features_of(column.record, letters)
    return datasets.List(one) if column.shape or column.repeated else one


def to_dict(record: Any) -> dict[str, Any]:
    """Convert a record to a dictionary: structs become dictionaries, tuples become lists, arrays are not copied."""
    return {name: _plain(getattr(record, name)) for name in columns_of(record.__class__)}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def from_dict(record: type, values: Mapping[str, Any], letters: Letters) -> Any:
    """Create a record from a dictionary, the inverse of :func:`to_dict`; arrays may be lists, and matrices flat.

    Columns with a default that are absent or None get their default, and unknown columns are ignored, so that files of
    other versions of the schema can be read.

    Raises:
        KeyError: if a required column is absent.
        TypeError, ValueError: if a value cannot be converted.
    """
    return record(
        **{
            name: _restored(column, values[name], letters)
            for name, column in columns_of(record).items()
            if column.required or not _absent(values.get(name))
        }
    )


def _absent(value: Any) -> bool:
    # `datasets` returns NaN for a null matrix.
    return value is None or (isinstance(value, float) and math.isnan(value))


def _restored(column: Column, value: Any, letters: Letters) -> Any:
    if column.record is not None:
        items = [from_dict(column.record, item, letters) for item in (value if column.repeated else [value])]
        return tuple(items) if column.repeated else items[0]
    if column.repeated:
        return tuple(map(_number, value))
    if not column.shape:
        return _number(value)
    array = np.asarray(value, dtype=column.dtype)
    return array.reshape(-1, *column.sizes(letters)[1:]) if len(column.shape) == 2 else array


def _number(value: Any) -> Any:
    """Convert the scalars and 0-d arrays of a row in NumPy's format to numbers and text."""
    return value.item() if isinstance(value, np.generic | np.ndarray) else value


def markdown_table(record: type) -> str:
    """Render the columns of a record as a Markdown table, for documents and dataset cards.

    A struct is one row; its fields are in the table of its record.
    """
    lines = ["| column | type, shape | unit | meaning |", "|---|---|---|---|"]
    for name, column in columns_of(record).items():
        kind = column.dtype
        if column.shape:
            kind += f" ({', '.join(map(str, column.shape))})"
        elif column.repeated:
            kind = f"list of {kind}s"
        if column.nullable:
            kind += " or null"
        lines.append(f"| `{name}` | {kind} | {column.unit} | {column.meaning} |".replace("*", r"\*"))
    return "\n".join(lines) + "\n"
