from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from opendance_hf.schema import SchemaError, features
from opendance_hf.storage import ParquetWriter, SplitNotFoundError, read_parquet, write_parquet
from tests.factories import assert_same, make_sequence


@pytest.mark.parametrize(
    ("config", "num_dancers"), [("individual", 1), ("collaborative", 2), ("collaborative", 3)]
)
def test_round_trip(tmp_path: Path, config: str, num_dancers: int) -> None:
    sequences = [make_sequence(i, num_dancers, 20 + i, full=i % 2 == 0) for i in range(6)]
    write_parquet(tmp_path, config, "train", sequences)
    for left, right in zip(read_parquet(tmp_path, config, "train"), sequences, strict=True):
        assert_same(left, right)


def test_layout_on_disk(tmp_path: Path) -> None:
    (shard,) = write_parquet(tmp_path, "individual", "train", [make_sequence(i) for i in range(9)])
    assert shard == tmp_path / "data/individual/train-00000-of-00001.parquet"
    metadata = pq.ParquetFile(shard).metadata
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [4, 4, 1]
    chunks = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)]
    floats = [chunk for chunk in chunks if chunk.physical_type in ("FLOAT", "DOUBLE")]
    assert len(floats) > 15
    for chunk in chunks:
        assert chunk.compression == "ZSTD"
        assert not chunk.has_dictionary_page
        assert ("BYTE_STREAM_SPLIT" in chunk.encodings) == (chunk in floats)


def test_shards_by_size(tmp_path: Path) -> None:
    sequences = [make_sequence(i) for i in range(5)]
    size = sum(v.nbytes for v in vars(sequences[0]).values() if isinstance(v, np.ndarray))
    shards = write_parquet(tmp_path, "individual", "test", sequences, shard_bytes=2 * size)
    assert [shard.name for shard in shards] == [f"test-{i:05d}-of-00003.parquet" for i in range(3)]
    assert [seq.id for seq in read_parquet(tmp_path, "individual", "test")] == [seq.id for seq in sequences]


def test_features_need_no_card(tmp_path: Path) -> None:
    (shard,) = write_parquet(tmp_path, "collaborative", "train", [make_sequence(1, 2)])
    loaded = datasets.load_dataset("parquet", data_files=str(shard), split="train")
    assert loaded.features == features(2)
    assert isinstance(loaded.features["joints"], datasets.Array2D)


def test_columns_have_one_width(tmp_path: Path) -> None:
    with ParquetWriter(tmp_path, "collaborative", "train") as writer:
        writer.write(make_sequence(1, 2))
        with pytest.raises(SchemaError, match=r"has 3 dancers, but .* of 2"):
            writer.write(make_sequence(2, 3))


def test_an_error_leaves_no_shard(tmp_path: Path) -> None:
    def broken():
        for i in range(6):
            yield make_sequence(i)
        raise RuntimeError("lost the disk")

    with pytest.raises(RuntimeError, match="lost the disk"):
        write_parquet(tmp_path, "individual", "train", broken())
    assert list(tmp_path.rglob("*.p*")) == []


def test_missing_split_is_named(tmp_path: Path) -> None:
    assert write_parquet(tmp_path, "individual", "train", []) == []
    with pytest.raises(SplitNotFoundError, match="no Parquet shards of the split 'test'"):
        next(read_parquet(tmp_path, "individual", "test"))


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_files_of_older_schemas_load(tmp_path: Path, version: str) -> None:
    sequences = [make_sequence(i, joint_confidence=None) for i in range(3)]
    (shard,) = write_parquet(tmp_path, "individual", "train", sequences)
    table = pq.read_table(shard, partitioning=None).drop_columns("joint_confidence")
    index = table.column_names.index("provenance")
    struct = table["provenance"].combine_chunks()
    kept = [field.name for field in struct.type if field.name != "pipeline"]
    older = pa.StructArray.from_arrays([struct.field(name) for name in kept], kept)
    if version < "1.2":
        table = table.set_column(index, "provenance", older)
    if version == "1.0":
        table = table.drop_columns("subset_rank")
    pq.write_table(table, shard)
    for left, right in zip(read_parquet(tmp_path, "individual", "train"), sequences, strict=True):
        assert_same(left, right)
