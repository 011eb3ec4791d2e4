"""Write a dataset of an older schema again with the columns of the current one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from opendance_hf.schema import SCHEMA_VERSION, DanceSequence, check_schema_version
from opendance_hf.storage.pack import (
    STATISTICS,
    PackError,
    PackReport,
    check_complete,
    check_dataset,
    pack,
)
from opendance_hf.storage.parquet import list_splits, read_parquet, read_rows


def upgrade(folder: Path | str, out: Path | str) -> PackReport:
    """Write a dataset folder of an older schema to another folder with the current schema.

    Columns that the older schema lacks get their defaults, mostly null; ranks of subsets and statistics are computed again.
    Licence, splits, tars and figure are as they were. The dataset that is read is not changed.

    Args:
        folder: dataset folder of any older schema.
        out: dataset folder to write; not ``folder``.

    Raises:
        PackError: if ``folder`` is not a dataset of OpenDance-HF, or is ``out``, or ``out`` cannot be replaced.
        IncompleteError: if shards of ``folder`` are missing.
        SchemaError: if a sequence violates the schema, or the dataset is newer than this package.
    """
    folder, out = Path(folder).absolute(), Path(out).absolute()
    if not (folder / STATISTICS).is_file():
        raise PackError(f"{folder} is not an OpenDance-HF dataset: {STATISTICS} is missing")
    check_dataset(folder)
    source, target = folder.resolve(), out.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        raise PackError(
            f"{out} is, contains or lies in the dataset to upgrade, which is not changed: choose another output folder"
        )
    described = json.loads((folder / STATISTICS).read_text(encoding="utf-8"))
    check_schema_version(str(described.get("schema_version", "1.0")), str(folder))
    check_complete(folder)
    parts = list_splits(folder)
    split_of = {
        row["id"]: split for config, split in parts for row in read_rows(folder, config, split, ["id"])
    }

    def sequences() -> Iterator[DanceSequence]:
        for config, split in parts:
            for seq in read_parquet(folder, config, split):
                yield replace(seq, provenance=replace(seq.provenance, schema_version=SCHEMA_VERSION))

    return pack(
        sequences(),
        out,
        licence=described.get("licence", "other"),
        splits=split_of,
        webdataset=(folder / "webdataset").is_dir(),
        figure=bool(described.get("figure")),
    )
