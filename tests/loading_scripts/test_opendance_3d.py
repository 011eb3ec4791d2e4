from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from opendance_hf.loading_scripts import LoadingError, OpenDance3D
from opendance_hf.schema import SchemaError, features, from_row
from opendance_hf.storage import pack, read_parquet, save_sequence
from tests.factories import assert_same, make_sequence


@pytest.fixture(scope="module")
def sequences() -> list:
    return [make_sequence(i, 1 + i % 3, 8 + i, full=i % 4 > 0) for i in range(9)]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, sequences: list) -> Path:
    root = tmp_path_factory.mktemp("annotations")
    for seq in sequences:
        (root / seq.group).mkdir(exist_ok=True)
        save_sequence(root / seq.group / f"{seq.id}.npz", seq)
    (root / ".hidden.npz").write_bytes(b"half a file of another process")
    return root


@pytest.mark.parametrize("config", [None, "individual", "collaborative", "group_3"])
def test_prepare_and_load(tree: Path, tmp_path: Path, sequences: list, config: str | None) -> None:
    builder = OpenDance3D(config_name=config, data_dir=str(tree), cache_dir=str(tmp_path))
    builder.download_and_prepare()
    rows = datasets.concatenate_datasets(list(builder.as_dataset().values())).sort("id")
    wanted = [seq for seq in sequences if seq.config == (config or "individual")]
    assert rows.features == features(wanted[0].num_dancers)
    for row, seq in zip(rows, wanted, strict=True):
        assert_same(from_row(row), seq)


def test_streaming(tree: Path, tmp_path: Path, sequences: list) -> None:
    builder = OpenDance3D(config_name="collaborative", data_dir=str(tree), cache_dir=str(tmp_path))
    stream = builder.as_streaming_dataset(split="train")
    assert isinstance(stream, datasets.IterableDataset)
    for row, seq in zip(stream, sequences[1::3], strict=True):
        assert_same(from_row(row), seq)


def test_splits_are_those_of_the_packed_dataset(tmp_path: Path) -> None:
    many = [make_sequence(i, 1 + i % 3, 8, group=f"song-{i // 3}") for i in range(90)]
    for seq in many:
        save_sequence(tmp_path / f"{seq.id}.npz", seq)
    report = pack(many, tmp_path / "packed", webdataset=False)
    for config, splits in report.statistics.items():
        builder = OpenDance3D(config_name=config, data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
        builder.download_and_prepare()
        loaded = builder.as_dataset()
        assert set(loaded) == set(splits)
        for split in splits:
            assert loaded[split]["id"][:] == [s.id for s in read_parquet(report.folder, config, split)]


def ids(folder: Path, cache: Path) -> list[str]:
    """The ids of all solos of a folder, through the cache of ``datasets``."""
    builder = OpenDance3D(data_dir=str(folder), cache_dir=str(cache))
    builder.download_and_prepare()
    return sorted(key for split in builder.as_dataset().values() for key in split["id"])


def test_the_cache_follows_the_files(tmp_path: Path) -> None:
    folder, cache = tmp_path / "annotations", tmp_path / "cache"
    first, second, third = (make_sequence(i, num_frames=8) for i in range(3))
    for seq in (first, second):
        save_sequence(folder / f"{seq.id}.npz", seq)
    assert ids(folder, cache) == [first.id, second.id]
    save_sequence(folder / "new" / f"{third.id}.npz", third)
    assert ids(folder, cache) == [first.id, second.id, third.id], "a file that was added"
    (folder / f"{second.id}.npz").unlink()
    assert ids(folder, cache) == [first.id, third.id], "a file that was removed"
    save_sequence(folder / f"{first.id}.npz", make_sequence(5, num_frames=8))
    assert ids(folder, cache) == sorted([make_sequence(5).id, third.id]), "a file that was replaced"
    prepared = set(cache.rglob("*.arrow"))
    assert ids(folder, cache) == sorted([make_sequence(5).id, third.id])
    assert set(cache.rglob("*.arrow")) == prepared, "nothing changed, so the cache is used"


def test_errors(tree: Path, tmp_path: Path) -> None:
    def prepare(**kwargs: str) -> None:
        OpenDance3D(cache_dir=str(tmp_path / "cache"), **kwargs).download_and_prepare()

    with pytest.raises(LoadingError, match="data_dir is missing"):
        prepare()
    (tmp_path / "empty").mkdir()
    with pytest.raises(LoadingError, match=r"0 sequence file\(s\), but none with 1 dancer"):
        prepare(data_dir=str(tmp_path / "empty"))
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/a.npz").write_text("no archive")
    with pytest.raises(SchemaError, match=r"a\.npz: not a sequence file"):
        prepare(data_dir=str(tmp_path / "bad"))
