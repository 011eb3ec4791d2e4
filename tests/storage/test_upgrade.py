"""Datasets of older schemas are read as they are, and written again with the columns of the current one."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import Dataset, load_dataset
from datasets.exceptions import DatasetGenerationError

from opendance_hf.schema import SCHEMA_VERSION, SchemaError, check_schema_version, features, validate
from opendance_hf.storage import PackError, list_splits, pack, read_parquet, upgrade
from opendance_hf.storage.parquet import IncompleteError
from tests.factories import make_sequence


def old_dataset(folder: Path) -> Path:
    """A dataset of schema 1.0: no ranks, no confidence of joints, and a provenance with fewer members."""
    pack(
        [*map(make_sequence, range(12)), make_sequence(20, 2)], folder, licence="cc-by-4.0", webdataset=False
    )
    for shard in folder.glob("data/*/*.parquet"):
        rows = load_dataset(
            "parquet", data_files=str(shard), split="train", cache_dir=str(folder.parent / "c")
        )
        kept = {
            k: v
            for k, v in rows.features["provenance"].items()
            if k not in ("pipeline", "pairing", "repairs")
        }
        kept["camera"] = {
            k: v
            for k, v in kept["camera"].items()
            if k not in ("focal_sd", "tilt_sd_deg", "turn_deg", "zoom")
        }
        older = rows.features.copy()
        older["provenance"] = kept
        for name in ("subset_rank", "joint_confidence"):
            del older[name]

        def strip(row: dict, kept: dict = kept) -> dict:
            found = {k: row["provenance"][k] for k in kept} | {"schema_version": "1.0"}
            found["camera"] = {k: found["camera"][k] for k in kept["camera"]}
            return {"provenance": found}

        rows = rows.map(strip, remove_columns=["subset_rank", "joint_confidence"], features=older)
        pq.write_table(rows.data.table, shard)
    path = folder / "statistics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "1.0"}))
    return folder


def test_a_dataset_of_an_older_schema_is_read_and_upgraded(tmp_path: Path) -> None:
    old, new = old_dataset(tmp_path / "old"), tmp_path / "new"
    assert "joint_confidence" not in pq.read_schema(next(old.glob("data/individual/train-*"))).names
    before = {path: path.read_bytes() for path in old.rglob("*.*")}
    report = upgrade(old, new)
    assert report.num_sequences == 13
    assert {path: path.read_bytes() for path in old.rglob("*.*")} == before
    assert list_splits(new) == list_splits(old)
    for config, split in list_splits(old):
        was = {seq.id: validate(seq) for seq in read_parquet(old, config, split)}
        now = {seq.id: seq for seq in read_parquet(new, config, split)}
        assert was.keys() == now.keys()
        for key, seq in now.items():
            assert (was[key].provenance.schema_version, was[key].subset_rank) == ("1.0", None)
            assert seq.provenance.schema_version == SCHEMA_VERSION
            assert seq.subset_rank is not None
            assert (seq.joints == was[key].joints).all()
    described = json.loads((new / "statistics.json").read_text())
    assert (described["schema_version"], described["licence"]) == (SCHEMA_VERSION, "cc-by-4.0")
    assert not (new / "webdataset").exists()

    # What the upgrade is for: shards of several datasets as one split.
    pack([make_sequence(40)], tmp_path / "other", splits={"train": 1.0})
    shards = {
        name: str(next((tmp_path / name).glob("data/individual/train-*"))) for name in ("old", "new", "other")
    }

    def together(*names: str) -> Dataset:
        files = [shards[name] for name in names]
        return load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "c"))

    assert together("other", "new").features == features(1)
    assert together("other", "old").features == features(1)
    with pytest.raises(DatasetGenerationError):
        together("old", "other")


def test_a_dataset_that_lacks_sequences_is_not_upgraded(tmp_path: Path) -> None:
    pack(map(make_sequence, range(3)), tmp_path / "d", splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    shards = sorted((tmp_path / "d").glob("data/*/*.parquet"))
    shards[1].rename(tmp_path / "kept")
    with pytest.raises(IncompleteError, match=r"train-00001-of-00003\.parquet: is missing, 2 of 3"):
        upgrade(tmp_path / "d", tmp_path / "new")
    shards[0].rename(tmp_path / "d/data/individual/train-00000-of-00001.parquet")
    shards[2].unlink()
    with pytest.raises(IncompleteError, match=r"has 1 sequences of the split 'train', but .* states 3"):
        upgrade(tmp_path / "d", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    # Older or made by hand: what is not stated is not compared.
    path = tmp_path / "d/statistics.json"
    path.write_text(json.dumps({"format": json.loads(path.read_text())["format"]}))
    assert upgrade(tmp_path / "d", tmp_path / "new").num_sequences == 1


def test_what_cannot_be_upgraded_is_one_line(tmp_path: Path) -> None:
    pack([make_sequence(0)], tmp_path / "d")
    with pytest.raises(
        PackError, match=r"is, contains or lies in the dataset to upgrade.*choose another output folder"
    ):
        upgrade(tmp_path / "d", tmp_path / "d")
    # Replacing a folder around it would delete it; one inside of it would become a part of it.
    for inside in (tmp_path, tmp_path / "d" / "new"):
        with pytest.raises(PackError, match="contains or lies in"):
            upgrade(tmp_path / "d", inside)
    assert (tmp_path / "d" / "statistics.json").is_file()
    (tmp_path / "x").mkdir()
    with pytest.raises(PackError, match=r"not an OpenDance-HF dataset"):
        upgrade(tmp_path / "x", tmp_path / "y")
    path = tmp_path / "d" / "statistics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": "2.0"}))
    with pytest.raises(SchemaError, match=r"schema 2\.0.*pip install -U"):
        upgrade(tmp_path / "d", tmp_path / "y")
    check_schema_version("1.99", "a dataset with more columns")
    with pytest.raises(SchemaError, match="unknown schema version 'x'"):
        check_schema_version("x", "d")
