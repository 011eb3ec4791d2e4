"""Columns as data: what a record declares, and what is refused."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Annotated

import datasets
import numpy as np
import pytest

from opendance_hf.columns import (
    Column,
    columns_of,
    features_of,
    from_dict,
    markdown_table,
    to_dict,
    violations,
)


@dataclass
class Point:
    x: Annotated[float, Column("float64", unit="m", minimum=0)]
    tags: Annotated[tuple[str, ...], Column("string")] = ()


@dataclass(kw_only=True)
class Row:
    energy: Annotated[np.ndarray | None, Column("float32", ("T", "D*3"), unit="J", meaning="a * b")] = None
    count: Annotated[int | None, Column("int64", minimum=0)] = None
    codes: Annotated[np.ndarray, Column("int32", ("ceil(T/8)",), maximum=5)]
    points: Annotated[tuple[Point, ...], Column("struct")] = ()
    best: Annotated[Point | None, Column("struct")] = None
    level: Annotated[float | None, Column("float32")] = None


LETTERS = {"T": 9, "D": 2}


def row(**changes: object) -> Row:
    values = {"codes": np.array([1, 2], np.int32), "points": (Point(1.0, ("a",)),)}
    return Row(**{**values, **changes})  # type: ignore[arg-type]


def test_features_follow_types_and_shapes() -> None:
    point = {"x": datasets.Value("float64"), "tags": datasets.List(datasets.Value("string"))}
    assert features_of(Row, {"D": 2}) == {
        "energy": datasets.Array2D((None, 6), "float32"),
        "count": datasets.Value("int64"),
        "codes": datasets.List(datasets.Value("int32")),
        "points": datasets.List(point),
        "best": point,
        "level": datasets.Value("float32"),
    }


def test_dictionaries_and_back() -> None:
    full = row(energy=np.ones((9, 6), np.float32), best=Point(2.0), count=3)
    plain = to_dict(full)
    assert plain["points"] == [{"x": 1.0, "tags": ["a"]}]
    plain["energy"] = plain["energy"].reshape(-1)
    plain["codes"] = plain["codes"].tolist()
    back = from_dict(Row, plain, LETTERS)
    assert back.energy.shape == (9, 6)
    assert back.codes.dtype == np.int32
    assert (back.points, back.best, back.count) == (full.points, full.best, 3)


@pytest.mark.parametrize("value", [None, "absent", float("nan")])
def test_what_a_file_lacks_has_the_default(value: str | float | None) -> None:
    """NaN is what ``datasets`` gives for a matrix that is null."""
    plain = to_dict(row())
    for name in ("energy", "count", "points", "best"):
        if value == "absent":
            del plain[name]
        else:
            plain[name] = value
    back = from_dict(Row, plain, LETTERS)
    assert (back.energy, back.count, back.points, back.best) == (None, None, (), None)


@pytest.mark.parametrize(
    ("changes", "column", "fact"),
    [
        ({"energy": np.ones((9, 5), np.float32)}, "energy", "(9, 6)"),
        ({"energy": np.ones((8, 6), np.float32)}, "energy", "(8, 6)"),
        ({"energy": np.ones((9, 6))}, "energy", "float64"),
        ({"energy": np.full((9, 6), np.inf, np.float32)}, "energy", "infinity"),
        ({"energy": np.r_[[[-np.inf] * 6], np.ones((8, 6))].astype(np.float32)}, "energy", "infinity"),
        ({"energy": np.r_[[[np.inf] * 6], np.ones((8, 6))].astype(np.float32)}, "energy", "infinity"),
        ({"energy": np.r_[[[np.nan] * 6], np.ones((8, 6))].astype(np.float32)}, "energy", "NaN"),
        ({"codes": np.array([1, 6], np.int32)}, "codes", "6"),
        ({"codes": np.array([1], np.int32)}, "codes", "(2,)"),
        ({"codes": None}, "codes", "NoneType"),
        ({"count": True}, "count", "bool"),
        ({"count": -1}, "count", "-1"),
        ({"points": (Point(-1.0),)}, "points.x", "-1.0"),
        ({"best": Point("far")}, "best.x", "far"),  # type: ignore[arg-type]
        ({"level": float("nan")}, "level", "nan"),
    ],
)
def test_violations_name_column_and_value(changes: dict[str, object], column: str, fact: str) -> None:
    ((name, why),) = violations(row(**changes), LETTERS)
    assert name == column
    assert fact in why


def test_the_limits_themselves_are_allowed() -> None:
    assert not list(violations(row(codes=np.array([0, 5], np.int32), count=0, points=(Point(0.0),)), LETTERS))


def test_what_stands_for_none_is_recognised_and_refused_as_a_value() -> None:
    for column in columns_of(Row).values():
        if column.nullable and column.record is None:
            assert column.is_missing(column.missing(LETTERS))
    missing = columns_of(Row)["energy"].missing(LETTERS)
    assert missing.shape == (1, 6), "datasets cannot infer a type from no elements"
    assert np.isnan(missing).all()

    @dataclass
    class Free:
        beats: Annotated[np.ndarray | None, Column("int32", ("B",))] = None

    ((_, why),) = violations(Free(np.zeros(0, np.int32)), {})
    assert "None" in why

    @dataclass
    class Text:
        note: Annotated[str | None, Column("string")] = None

    ((_, why),) = violations(Text(""), {})
    assert "None" in why


def test_the_table_for_documents() -> None:
    lines = markdown_table(Row).splitlines()
    assert lines[2] == r"| `energy` | float32 (T, D\*3) or null | J | a \* b |"
    assert lines[5].startswith("| `points` | list of structs |")


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Column("float16"),
        lambda: Column("string", ("T",)),
        lambda: Column("float32", ("T", 2, 3)),
        lambda: Column("float32", ("frames",)),
        lambda: Column("int32", ("T", 2), default=None),
    ],
)
def test_impossible_columns(bad) -> None:
    with pytest.raises(TypeError):
        bad()


def test_a_field_is_named_when_it_is_not_a_column() -> None:
    kinds = (
        int,
        Annotated[int | None, Column("int32")],
        Annotated[int | None, Column("struct")],
        Annotated[Point | None, Column("string")],
    )
    for kind in kinds:
        record = dataclasses.make_dataclass("Odd", [("number", kind, None)])
        with pytest.raises(TypeError, match=r"Odd\.number"):
            columns_of(record)
