"""List the rows of a dataset folder with what a table shows of them, without reading their arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa

from opendance_hf.errors import OpenDanceError
from opendance_hf.schema import DanceSequence, from_row
from opendance_hf.storage import list_splits, read_rows, read_scalars, read_webdataset

_SCALARS: Final = [
    "id", "group", "num_dancers", "num_frames", "fps", "genre", "bpm", "motion_velocity",
    "provenance.licence", "provenance.pairing.step_beat_after",
]  # fmt: skip


class Field(NamedTuple):
    """A column of the table.

    Attributes:
        label: heading.
        unit: unit, empty for text and plain numbers.
        digits: decimals of a number; None for text.
        meaning: one line, shown with the heading.
    """

    label: str
    unit: str = ""
    digits: int | None = None
    meaning: str = ""


#: Columns of the table by the attributes of :class:`Row`, in order.
FIELDS: Final[Mapping[str, Field]] = {
    "id": Field("Row"),
    "group": Field("Group", meaning="sequences with the same song or nearly the same motion"),
    "config": Field("Configuration"),
    "split": Field("Split"),
    "dancers": Field("Dancers", digits=0),
    "seconds": Field("Length", "s", 1),
    "genre": Field("Genre", meaning="of the music"),
    "bpm": Field("Tempo", "bpm", 0),
    "speed_mps": Field("Speed", "m/s", 2, "mean over joints and frames"),
    "step_beat": Field(
        "Step beat", digits=3, meaning="of rows that opendance pair made; the stage shows it for every row"
    ),
    "licence": Field("Licence"),
}
#: Columns whose values can be chosen from a list.
FACETS: Final = ("config", "split", "genre", "licence")


class DatasetError(OpenDanceError, ValueError):
    """Raised if a folder is not a dataset that can be listed; the message has the folder and the remedy."""


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a dataset as the table shows it.

    Attributes:
        id: unique in the dataset.
        group: of sequences that belong together.
        config: name of the configuration.
        split: name of the split.
        dancers: number of dancers.
        seconds: length.
        genre: of the music; None if unknown.
        bpm: tempo; None without a song.
        speed_mps: mean joint speed, m/s.
        step_beat: of paired rows; None for others.
        licence: terms of the source.
        place: number of the row in its configuration and split, from 0.
    """

    id: str
    group: str
    config: str
    split: str
    dancers: int
    seconds: float
    genre: str | None
    bpm: float | None
    speed_mps: float
    step_beat: float | None
    licence: str
    place: int


@dataclass(frozen=True)
class Selection:
    """A choice of rows: those that contain all words and have all values of the filters, in an order.

    Attributes:
        words: parts of id, group, genre, licence, configuration or split, in lower case.
        filters: values by the name of a facet.
        sort: attribute of :class:`Row`; empty for the order of the dataset.
        descending: True for the largest first.
    """

    words: tuple[str, ...] = ()
    filters: tuple[tuple[str, str], ...] = ()
    sort: str = ""
    descending: bool = False


class Dataset:
    """The rows of a dataset folder with Parquet shards, or else with WebDataset tars.

    Args:
        folder: as ``opendance build`` and ``opendance import`` write it.

    Raises:
        DatasetError: if the folder has no rows, a file is damaged or of another schema, or an id occurs twice.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._tars = not list_splits(folder)
        try:
            self.rows = list(_tar_rows(folder) if self._tars else _parquet_rows(folder))
        except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise DatasetError(
                f"{folder}: cannot be listed ({error}); expected a dataset of opendance build or opendance import"
            ) from None
        if not self.rows:
            raise DatasetError(
                f"{folder}: not a dataset (data/CONFIG/*.parquet or webdataset/CONFIG/*.tar); name one motion file"
            )
        self._by_id = {row.id: row for row in self.rows}
        if len(self._by_id) < len(self.rows):
            twice = next(row.id for row in self.rows if self._by_id[row.id] is not row)
            raise DatasetError(
                f"{folder}: two rows have the id {twice!r}; write the dataset again with opendance import"
            )
        self._texts = {
            row.id: " ".join((row.id, row.group, row.config, row.split, row.genre or "", row.licence)).lower()
            for row in self.rows
        }

    def get(self, key: str) -> Row | None:
        """Return the row with an id, or None."""
        return self._by_id.get(key)

    def fields(self) -> dict[str, Field]:
        """Return the columns of which a row has a value."""
        return {
            name: field
            for name, field in FIELDS.items()
            if any(getattr(row, name) is not None for row in self.rows)
        }

    def facets(self) -> dict[str, list[str]]:
        """Return the values of each facet in order, as text; without those that a single value would not narrow."""
        found = {name: sorted({_text(getattr(row, name)) for row in self.rows}) for name in FACETS}
        return {name: values for name, values in found.items() if len(values) > 1}

    def select(self, selection: Selection) -> list[Row]:
        """Return the rows of a selection; rows without the value that they are sorted by come last."""
        rows = [
            row
            for row in self.rows
            if all(word in self._texts[row.id] for word in selection.words)
            and all(_text(getattr(row, name)) == value for name, value in selection.filters)
        ]
        if not selection.sort:
            return rows
        known = [row for row in rows if getattr(row, selection.sort) is not None]
        known.sort(key=lambda row: getattr(row, selection.sort), reverse=selection.descending)
        return known + [row for row in rows if getattr(row, selection.sort) is None]

    def load(self, row: Row) -> DanceSequence:
        """Read a row with its arrays: the row group that has it, or the tars up to it.

        Raises:
            DatasetError: if the files have changed since they were listed, or are damaged.
        """
        try:
            if self._tars:
                found = next(
                    islice(read_webdataset(self.folder, row.config, row.split), row.place, None), None
                )
            else:
                rows = read_rows(self.folder, row.config, row.split, start=row.place)
                found = from_row(next(rows))
        except (StopIteration, OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
            raise DatasetError(
                f"{self.folder}: row {row.id!r} cannot be read ({error}); restart the command"
            ) from None
        if found is None or found.id != row.id:
            raise DatasetError(f"{self.folder}: row {row.id!r} is not there any more; restart the command")
        return found


def several_rows(path: Path) -> Dataset | None:
    """Return the dataset of a folder with more than one row; None for a file or a dataset of one row.

    Raises:
        DatasetError: if the folder is not a dataset.
    """
    dataset = Dataset(path) if path.is_dir() else None
    return dataset if dataset is not None and len(dataset.rows) > 1 else None


def _parquet_rows(folder: Path) -> Iterator[Row]:
    for config, split in list_splits(folder):
        for place, found in enumerate(read_scalars(folder, config, split, _SCALARS)):
            source = found["provenance"]
            pairing = source.get("pairing") or {}
            yield _row(found, config, split, place, source["licence"], pairing.get("step_beat_after"))


def _tar_rows(folder: Path) -> Iterator[Row]:
    tars = sorted(folder.glob("webdataset/*/*-?????.tar"))
    for config, split in dict.fromkeys((tar.parent.name, tar.name.rsplit("-", 1)[0]) for tar in tars):
        for place, seq in enumerate(read_webdataset(folder, config, split)):
            pairing = seq.provenance.pairing
            score = None if pairing is None else pairing.step_beat_after
            yield _row(vars(seq), config, split, place, seq.provenance.licence, score)


def _row(
    found: Mapping[str, Any], config: str, split: str, place: int, licence: str, step_beat: float | None
) -> Row:
    return Row(
        id=found["id"],
        group=found["group"],
        config=config,
        split=split,
        dancers=int(found["num_dancers"]),
        seconds=round(int(found["num_frames"]) / float(found["fps"]), 2),
        genre=found.get("genre"),
        bpm=found["bpm"],
        speed_mps=float(found["motion_velocity"]),
        step_beat=step_beat,
        licence=licence,
        place=place,
    )


def _text(value: Any) -> str:
    return "unknown" if value is None else str(value)
