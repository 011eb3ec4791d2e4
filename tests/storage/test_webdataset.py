from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pytest
import webdataset

from opendance_hf.schema import SchemaError, features
from opendance_hf.storage import SplitNotFoundError, read_webdataset, write_webdataset
from opendance_hf.storage.webdataset import ARRAYS
from tests.factories import assert_same, make_sequence


@pytest.fixture
def sequences() -> list:
    return [make_sequence(i, 2, 20 + i, full=i % 2 == 0) for i in range(6)]


def test_round_trip(tmp_path: Path, sequences: list) -> None:
    write_webdataset(tmp_path, "collaborative", "train", sequences)
    for left, right in zip(read_webdataset(tmp_path, "collaborative", "train"), sequences, strict=True):
        assert_same(left, right)


def test_all_array_columns_are_arrays() -> None:
    kinds = (datasets.Array2D, datasets.List)
    assert sorted(ARRAYS) == sorted(name for name, kind in features(1).items() if isinstance(kind, kinds))


def test_webdataset_library_reads_it(tmp_path: Path, sequences: list) -> None:
    (shard,) = write_webdataset(tmp_path, "collaborative", "train", sequences)
    samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode())
    assert [sample["__key__"] for sample in samples] == [seq.id for seq in sequences]
    np.testing.assert_array_equal(samples[3]["music_features_7p5fps.npy"], sequences[3].music_features_7p5fps)
    assert samples[3]["json"]["bpm"] == sequences[3].bpm
    assert samples[3]["smpl_betas.npy"].shape == (0,)


def test_files_are_those_that_the_webdataset_library_writes(tmp_path: Path, sequences: list) -> None:
    shards = write_webdataset(tmp_path, "collaborative", "train", sequences, shard_bytes=100_000)
    assert len(shards) == 3
    for shard in shards:
        again = tmp_path / "again.tar"
        writer = webdataset.TarWriter(str(again), encoder=False, user="", group="", mode=0o644, mtime=0)
        with tarfile.open(shard) as tar:
            samples: dict[str, dict] = {}
            for info in tar:
                key, _, member = info.name.partition(".")
                samples.setdefault(key, {"__key__": key})[member] = tar.extractfile(info).read()  # type: ignore[union-attr]
        for sample in samples.values():
            writer.write(sample)
        writer.close()
        assert again.read_bytes() == shard.read_bytes()


@pytest.mark.parametrize("streaming", [True, False])
def test_datasets_library_reads_it(tmp_path: Path, sequences: list, streaming: bool) -> None:
    write_webdataset(tmp_path, "collaborative", "train", sequences)
    files = str(tmp_path / "webdataset/collaborative/train-*.tar")
    rows = list(datasets.load_dataset("webdataset", data_files=files, split="train", streaming=streaming))
    assert [row["__key__"] for row in rows] == [seq.id for seq in sequences]
    np.testing.assert_array_equal(np.array(rows[2]["joints.npy"], np.float32), sequences[2].joints)
    assert json.loads(rows[2]["json"]["provenance"])["licence"] == "CC0-1.0"
    assert rows[-1]["json"]["genre"] in ("", sequences[-1].genre)


def test_what_comes_late_needs_no_example_at_the_start(tmp_path: Path) -> None:
    """datasets infers types from five samples; a genre or a camera may come first in the sixth."""
    sequences = [make_sequence(i, full=i > 6) for i in range(9)]
    write_webdataset(tmp_path, "individual", "train", sequences)
    files = str(tmp_path / "webdataset/individual/train-*.tar")
    rows = datasets.load_dataset("webdataset", data_files=files, split="train")
    assert [row["json"]["genre"] for row in rows] == [seq.genre or "" for seq in sequences]


def test_shards_and_headers(tmp_path: Path, sequences: list) -> None:
    shards = write_webdataset(tmp_path, "collaborative", "test", sequences, shard_bytes=200_000)
    assert [shard.name for shard in shards] == [f"test-{i:05d}.tar" for i in range(len(shards))]
    assert len(shards) > 1
    with tarfile.open(shards[0]) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid) == (0, 0, 0)
            assert (member.uname, member.gname, member.mode) == ("", "", 0o644)
    assert len(list(read_webdataset(tmp_path, "collaborative", "test"))) == len(sequences)


def test_the_same_sequences_give_the_same_bytes(tmp_path: Path, sequences: list) -> None:
    for name in ("a", "b %d c"):  # the library's file pattern is a format
        shards = write_webdataset(tmp_path / name, "collaborative", "test", sequences, shard_bytes=200_000)
        assert [shard.parent for shard in shards] == [tmp_path / name / "webdataset/collaborative"] * len(
            shards
        )
    left, right = ([p.read_bytes() for p in sorted((tmp_path / n).rglob("*.tar"))] for n in ("a", "b %d c"))
    assert left == right


def test_tars_of_older_schemas_load(tmp_path: Path) -> None:
    sequence = make_sequence(1, joint_confidence=None)
    (shard,) = write_webdataset(tmp_path, "individual", "train", [sequence])
    old = shard.with_name("train-00001.tar")
    with tarfile.open(shard) as source, tarfile.open(old, "w") as target:
        for member in source:
            if member.name.endswith(".joint_confidence.npy"):
                continue
            data = source.extractfile(member).read()  # type: ignore[union-attr]
            if member.name.endswith(".json"):
                row = json.loads(data)
                del row["subset_rank"]
                row["provenance"] = json.dumps(
                    {k: v for k, v in json.loads(row["provenance"]).items() if k != "pipeline"}
                )
                data = json.dumps(row).encode()
                member.size = len(data)
            target.addfile(member, io.BytesIO(data))
    first, second = read_webdataset(tmp_path, "individual", "train")
    assert_same(first, sequence)
    assert_same(second, sequence)


def test_longest_id_fits(tmp_path: Path) -> None:
    seq = make_sequence(1, id="x" * 128)
    write_webdataset(tmp_path, "individual", "train", [seq])
    (back,) = read_webdataset(tmp_path, "individual", "train")
    assert_same(back, seq)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "webdataset/individual"
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"evil": 1}], dtype=object))
    with tarfile.open(folder / "train-00000.tar", "w") as tar:
        for name, data in (
            ("a.json", b'{"provenance": "{}", "genre": ""}'),
            ("a.joints.npy", buffer.getvalue()),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    with pytest.raises(
        SchemaError, match=r"train-00000\.tar, sample 'a'.*Python objects, which are never read"
    ):
        list(read_webdataset(tmp_path, "individual", "train"))


def test_an_error_leaves_no_shard(tmp_path: Path, sequences: list) -> None:
    def broken():
        yield sequences[0]
        raise RuntimeError("lost the disk")

    with pytest.raises(RuntimeError, match="lost the disk"):
        write_webdataset(tmp_path, "collaborative", "train", broken())
    assert list(tmp_path.rglob("*.tar")) == []
    with pytest.raises(SplitNotFoundError, match="no WebDataset shards of the split 'train'"):
        next(read_webdataset(tmp_path, "collaborative", "train"))
