from __future__ import annotations

import dataclasses
import importlib
import json
import os
from pathlib import Path

import datasets
import numpy as np
import pytest
import yaml
from PIL import Image

from opendance_hf.schema import SchemaError, features, from_row, to_row
from opendance_hf.storage import PackError, dataset_card, load_sequence, pack, read_parquet, read_webdataset
from opendance_hf.storage.splits import subset_ranks
from tests.factories import assert_same, make_sequence

# The function of that name hides the module.
pack_module = importlib.import_module("opendance_hf.storage.pack")


def some(count: int = 6) -> list:
    return [make_sequence(i, 1 + i % 2, full=i % 3 > 0) for i in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_folder_and_report(tmp_path: Path) -> None:
    report = pack(some(), tmp_path / "opendance-3d", licence="cc-by-4.0")
    assert sorted(report.files) == sorted(contents(tmp_path / "opendance-3d"))
    assert sorted(report.files) == [
        "README.md",
        "data/collaborative/train-00000-of-00001.parquet",
        "data/individual/train-00000-of-00001.parquet",
        "statistics.json",
        "webdataset/collaborative/train-00000.tar",
        "webdataset/individual/train-00000.tar",
    ]
    assert report.num_sequences == 6
    assert report.statistics["collaborative"]["train"].dancers == 2
    assert report.statistics["individual"]["train"].hours == pytest.approx(3 * 40 / 60 / 3600)
    assert [p.name for p in tmp_path.iterdir()] == ["opendance-3d"]


@pytest.mark.parametrize("config", ["individual", "collaborative"])
def test_both_formats_hold_the_input(tmp_path: Path, config: str) -> None:
    sequences = some()
    pack(sequences, tmp_path / "d")
    wanted = sorted((s for s in sequences if s.config == config), key=lambda s: s.id)
    for read in (read_parquet, read_webdataset):
        for left, right in zip(read(tmp_path / "d", config, "train"), wanted, strict=True):
            assert_same(left, dataclasses.replace(right, subset_rank=left.subset_rank))


def test_load_dataset_by_folder_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = some()
    pack(sequences, tmp_path / "opendance-3d")
    monkeypatch.chdir(tmp_path)

    solos = datasets.load_dataset("opendance-3d")
    assert list(solos) == ["train"]
    assert solos["train"].features == features(1)
    assert solos["train"]["id"][:] == ["seq-0000-1", "seq-0002-1", "seq-0004-1"]

    duets = datasets.load_dataset("opendance-3d", "collaborative", split="train")
    assert duets.features == features(2)
    row = duets.with_format("numpy")[0]
    assert row["joints"].shape == (40, 144)
    assert row["joints"].dtype == np.float32
    assert row["music_features"].shape == (40, 438)
    assert row["music_features_7p5fps"].shape == (5, 438)
    assert row["confidence"].shape == (40, 2)
    assert_same(from_row({**duets[0], "subset_rank": None}), sequences[1])

    stream = datasets.load_dataset("opendance-3d", "collaborative", split="train", streaming=True)
    assert stream.features == features(2)
    for row, seq in zip(stream, sequences[1::2], strict=True):
        assert_same(from_row({**row, "subset_rank": None}), seq)


def test_splits_of_groups(tmp_path: Path) -> None:
    sequences = [make_sequence(i, 1 + i % 2, 8, group=f"song-{i // 2}") for i in range(120)]
    report = pack(
        sequences, tmp_path / "d", splits={"train": 0.5, "validation": 0.25, "test": 0.25}, webdataset=False
    )
    seen: dict[str, set[str]] = {}
    for config, splits in report.statistics.items():
        assert list(splits) == ["train", "validation", "test"]
        for split in splits:
            for seq in read_parquet(tmp_path / "d", config, split):
                seen.setdefault(seq.group, set()).add(split)
    assert len(seen) == 60
    assert all(len(splits) == 1 for splits in seen.values())
    assert sorted(datasets.load_dataset(str(tmp_path / "d"))) == ["test", "train", "validation"]


def test_one_config_is_the_default(tmp_path: Path) -> None:
    pack([make_sequence(i, 2) for i in range(2)], tmp_path / "d")
    assert datasets.load_dataset(str(tmp_path / "d"), split="train").features == features(2)


def test_order_does_not_matter(tmp_path: Path) -> None:
    pack(some(), tmp_path / "a", shard_bytes=300_000)
    pack(reversed(some()), tmp_path / "b", shard_bytes=300_000)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_generator_is_enough(tmp_path: Path) -> None:
    assert pack((make_sequence(i) for i in range(3)), tmp_path / "d").num_sequences == 3


def test_replaces_an_older_dataset(tmp_path: Path) -> None:
    pack(some(), tmp_path / "d")
    pack([make_sequence(9)], tmp_path / "d", webdataset=False)
    assert len(contents(tmp_path / "d")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("mark", ["statistics.json", "holiday.jpg"])
def test_refuses_a_foreign_folder(tmp_path: Path, mark: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / mark).write_text('{"format": "something else"}')
    with pytest.raises(PackError, match="is no OpenDance-HF dataset"):
        pack(some(), tmp_path / "d")
    assert list(contents(tmp_path / "d")) == [mark]


def test_refuses_a_file_and_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="is not a folder"):
        pack(some(), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert pack(some(2), tmp_path / "empty").num_sequences == 2


@pytest.mark.parametrize("where", ["write_parquet", "write_webdataset", "dataset_card", "_check_files"])
def test_a_crash_leaves_the_older_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    pack(some(), tmp_path / "d")
    before = contents(tmp_path / "d")

    def crash(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pack_module, where, crash)
    with pytest.raises(KeyboardInterrupt):
        pack([make_sequence(9)], tmp_path / "d")
    assert contents(tmp_path / "d") == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_a_failing_swap_puts_the_older_dataset_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(some(), tmp_path / "d")
    before = contents(tmp_path / "d")
    replace = os.replace

    def crash(source: Path, target: Path) -> None:
        if Path(source).name == "dataset":
            raise OSError("no such luck")
        replace(source, target)

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(OSError, match="no such luck"):
        pack([make_sequence(9)], tmp_path / "d")
    assert contents(tmp_path / "d") == before
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="no sequences to pack"):
        pack([], tmp_path / "d")
    with pytest.raises(PackError, match="two sequences have the id 'seq-0001-1'"):
        pack([make_sequence(1), make_sequence(1)], tmp_path / "d")
    with pytest.raises(PackError, match="has 3 dancers and 'seq-0001-2' has 2"):
        pack([make_sequence(1, 2), make_sequence(2, 3)], tmp_path / "d")
    with pytest.raises(SchemaError, match="column 'bpm'"):
        pack([make_sequence(1, bpm=-1.0)], tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.mp4", "song.wav", "opendance-3d.py"])
def test_media_and_scripts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    describe = pack_module._describe

    def smuggle(folder: Path, *args: object, **kwargs: object) -> None:
        describe(folder, *args, **kwargs)
        (folder / name).write_bytes(b"")

    monkeypatch.setattr(pack_module, "_describe", smuggle)
    with pytest.raises(PackError, match=f"refusing to publish {name}"):
        pack(some(), tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


def test_card(tmp_path: Path) -> None:
    pack(some(), tmp_path / "d", licence="cc-by-4.0")
    text = (tmp_path / "d/README.md").read_text()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["size_categories"] == ["n<1K"]
    assert [(c["config_name"], c.get("default")) for c in metadata["configs"]] == [
        ("individual", True),
        ("collaborative", None),
    ]
    for column in features(1):
        assert f"| `{column}` |" in body
    assert "| individual | train | 3 | 3 | 1 |" in body
    assert "| detect | nanodet | 3.0.4 | 6 |" in body
    assert "CC0-1.0 (6)." in body
    assert "\n\n\n" not in body
    assert str(tmp_path) not in text

    described = json.loads((tmp_path / "d/statistics.json").read_text())
    assert dataset_card(described) == text
    assert 'load_dataset("org/dances")' not in text
    assert 'load_dataset("org/dances", split="train")' in dataset_card(described, repo="org/dances")


def test_loads_spooled_files_only_once_a_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        pack_module, "load_sequence", lambda path: seen.append(path.stem) or load_sequence(path)
    )
    pack(some(4), tmp_path / "d")
    assert sorted(seen) == sorted([s.id for s in some(4)] * 2)


def test_a_rebuilt_dataset_is_not_read_from_a_stale_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Same folder name, same number of rows and frames, other content.
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        monkeypatch.chdir(tmp_path / str(seed))
        wanted = make_sequence(seed, 1, id="same")
        pack([wanted], "opendance-3d")
        row = datasets.load_dataset("opendance-3d", cache_dir=str(tmp_path / "cache"))["train"][0]
        np.testing.assert_array_equal(np.asarray(row["joints"], np.float32), wanted.joints)


def test_subsets_are_nested_exact_and_stay(tmp_path: Path) -> None:
    pack([make_sequence(i, 1, 8) for i in range(30)], tmp_path / "d")
    splits = {}
    for split in ("train", "test", "validation"):
        if (tmp_path / "d/data/individual" / f"{split}-00000-of-00001.parquet").is_file():
            splits[split] = {s.id: s.subset_rank for s in read_parquet(tmp_path / "d", "individual", split)}
            tars = {s.id: s.subset_rank for s in read_webdataset(tmp_path / "d", "individual", split)}
            assert splits[split] == tars
            assert sorted(splits[split].values()) == list(range(len(splits[split])))
    ranks = splits["train"]
    assert list(ranks.values()) != sorted(ranks.values()), "not in the order of the rows"
    loaded = datasets.load_dataset(str(tmp_path / "d"), split="train")
    small = loaded.filter(lambda rank: rank < 10, input_columns="subset_rank")
    assert set(small["id"]) == {key for key, rank in ranks.items() if rank < 10}
    # Other sequences that come change the order of these as little as can be: not at all.
    grown = subset_ranks([*ranks, *(f"new-{i}" for i in range(20))])
    assert sorted(ranks, key=grown.__getitem__) == sorted(ranks, key=ranks.__getitem__)


def test_rows_of_schema_1_0_are_taken(tmp_path: Path) -> None:
    row = to_row(make_sequence(1))
    del row["subset_rank"]
    assert_same(from_row(row), make_sequence(1))


def test_the_card_shows_the_figure(tmp_path: Path) -> None:
    for order, name in ((1, "a"), (-1, "b")):
        report = pack(some()[::order], tmp_path / name, figure=True)
        assert "figures/statistics.png" in report.files
    assert contents(tmp_path / "a") == contents(tmp_path / "b"), "the picture too"
    assert "](figures/statistics.png)" in (tmp_path / "a/README.md").read_text()
    with Image.open(tmp_path / "a/figures/statistics.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    pack(some(), tmp_path / "a")
    assert "figures" not in (tmp_path / "a/README.md").read_text()
    assert datasets.load_dataset(str(tmp_path / "b"), split="train").num_rows == 3
