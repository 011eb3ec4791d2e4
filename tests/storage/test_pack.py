from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard
from PIL import Image

from opendance_hf.schema import DanceSequence, SchemaError, features, from_row, to_row
from opendance_hf.storage import (
    PackError,
    dataset_card,
    load_sequence,
    pack,
    pack_files,
    read_parquet,
    read_webdataset,
    save_sequence,
)
from opendance_hf.storage.card import card_for_hub
from opendance_hf.storage.contents import ContentError
from opendance_hf.storage.splits import subset_ranks
from tests.factories import assert_same, make_sequence

# The function of that name hides the module.
pack_module = importlib.import_module("opendance_hf.storage.pack")


def some(count: int = 6) -> list:
    """Sequences of groups whose names put them into train."""
    return [make_sequence(i, 1 + i % 2, full=i % 3 > 0, group=f"piece-{i:04d}") for i in range(count)]


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
    with_betas = {config: splits["train"].with_smpl_betas for config, splits in report.statistics.items()}
    assert with_betas == {"individual": 2, "collaborative": 2}
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


def splits_of(folder: Path) -> dict[str, str]:
    """The split of every group of a packed dataset."""
    return {
        row["group"]: path.name.partition("-")[0]
        for path in folder.glob("data/*/*.parquet")
        for row in pq.read_table(path, columns=["group"], partitioning=None).to_pylist()
    }


def test_a_song_that_trained_is_never_held_out_when_the_dataset_grows(tmp_path: Path) -> None:
    # The hash holds song-0002 out, but alone it trains.
    sequences = [make_sequence(i, num_frames=8) for i in (2, *range(3, 24))]
    pack(sequences[:1], tmp_path / "d", webdataset=False)
    assert splits_of(tmp_path / "d") == {"song-0002": "train"}
    for count in (2, 19, 20, len(sequences)):
        before = splits_of(tmp_path / "d")
        pack(sequences[:count], tmp_path / "d", webdataset=False)
        after = splits_of(tmp_path / "d")
        assert {group: after[group] for group in before} == before
    pack(sequences, tmp_path / "elsewhere", webdataset=False)
    assert splits_of(tmp_path / "elsewhere")["song-0002"] == "test"


def test_a_song_that_trained_is_never_held_out_when_its_group_is_renamed(tmp_path: Path) -> None:
    first, second = make_sequence(3, num_frames=8), make_sequence(2, num_frames=8)
    pack([first, second], tmp_path / "d", webdataset=False)
    assert splits_of(tmp_path / "d") == {"song-0003": "train", "song-0002": "test"}
    # A new video connects the two, and the group keeps the name of the older one.
    joined = dataclasses.replace(first, group="song-0002")
    # Not because nothing else would train.
    other = make_sequence(0, num_frames=8, group="piece-0000")
    pack([joined, second, other], tmp_path / "d", webdataset=False)
    assert splits_of(tmp_path / "d") == {"song-0002": "train", "piece-0000": "train"}


def test_a_song_that_trained_is_not_held_out_when_other_videos_of_it_come(tmp_path: Path) -> None:
    other = make_sequence(0, num_frames=8, group="piece-0000")
    pack([make_sequence(2, num_frames=8)], tmp_path / "d", webdataset=False)
    again = make_sequence(2, num_frames=8, id="another-video")
    pack([again, other], tmp_path / "d", webdataset=False)
    assert splits_of(tmp_path / "d") == {"song-0002": "train", "piece-0000": "train"}
    pack([again, other], tmp_path / "fresh", webdataset=False)
    assert splits_of(tmp_path / "fresh")["song-0002"] == "test"


def test_an_older_dataset_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    pack(some(2), tmp_path / "d")
    shard = tmp_path / "d/data/individual/train-00000-of-00001.parquet"
    shard.write_bytes(b"cut off")
    with pytest.raises(PackError, match=r"train-00000-of-00001\.parquet.*move .*d away"):
        pack(some(2), tmp_path / "d")
    assert shard.read_bytes() == b"cut off"


def test_dancers_in_groups_have_a_configuration_for_each_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = [12, 3, 1, 2, 3, 4]
    sequences = [make_sequence(i, count, group=f"piece-{i:04d}") for i, count in enumerate(counts)]
    report = pack(sequences, tmp_path / "my-dances", figure=True)
    names = ["individual", "collaborative", "group_3", "group_4", "group_12"]
    assert list(report.statistics) == names, "in the order of the number of dancers"
    assert report.statistics["group_3"]["train"].dancers == 3
    monkeypatch.chdir(tmp_path)
    assert datasets.get_dataset_config_names("my-dances") == names
    trios = datasets.load_dataset("my-dances", "group_3", split="train")
    assert trios.features == features(3)
    for row, seq in zip(trios, (sequences[1], sequences[4]), strict=True):
        assert_same(from_row({**row, "subset_rank": None}), seq)
    tars = list(read_webdataset(tmp_path / "my-dances", "group_3", "train"))
    assert [seq.joints.shape for seq in tars] == [(40, 3 * 72)] * 2
    text = (tmp_path / "my-dances/README.md").read_text()
    assert "- `group_12` holds sequences of 12 dancers." in text
    assert "| group_3 | train | 2 | 2 | 3 |" in text
    assert 'group_4 = load_dataset("my-dances", "group_4", split="train")' in text
    for block in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL):
        exec(compile(block, "README.md", "exec"), {})


def test_one_config_is_the_default(tmp_path: Path) -> None:
    pack([make_sequence(i, 2) for i in range(2)], tmp_path / "d")
    assert datasets.load_dataset(str(tmp_path / "d"), split="train").features == features(2)


def test_order_does_not_matter(tmp_path: Path) -> None:
    pack(some(), tmp_path / "a/d", shard_bytes=100_000)
    report = pack(reversed(some()), tmp_path / "b/d", shard_bytes=100_000)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    for kind in ("data/individual/train-", "webdataset/individual/train-"):
        assert sum(file.startswith(kind) for file in report.files) > 1, "in several shards"


def test_a_generator_is_enough(tmp_path: Path) -> None:
    assert pack((make_sequence(i) for i in range(3)), tmp_path / "d").num_sequences == 3


def test_replaces_an_older_dataset(tmp_path: Path) -> None:
    pack(some(), tmp_path / "d")
    pack([make_sequence(9)], tmp_path / "d", webdataset=False)
    assert len(contents(tmp_path / "d")) == 3
    assert [p.name for p in tmp_path.iterdir()] == ["d"]


@pytest.mark.parametrize("name", ["NOTES.md", "audio", ".git", "link"])
def test_what_its_owner_added_to_a_dataset_is_not_removed(tmp_path: Path, name: str) -> None:
    pack(some(), tmp_path / "d")
    (tmp_path / "d" / ".DS_Store").write_text("of the system")
    mine = tmp_path / "d" / name
    if name == "NOTES.md":
        mine.write_text("precious")
    elif name == "link":
        mine.symlink_to(tmp_path)
    else:
        mine.mkdir()
    before = contents(tmp_path / "d")
    with pytest.raises(PackError, match=rf"has {re.escape(name)}, .*would be removed; move it out"):
        pack([make_sequence(9)], tmp_path / "d")
    assert contents(tmp_path / "d") == before
    (mine.rmdir if mine.is_dir() and not mine.is_symlink() else mine.unlink)()
    pack([make_sequence(9)], tmp_path / "d")


@pytest.mark.parametrize("mark", ["statistics.json", "holiday.jpg"])
def test_refuses_a_foreign_folder(tmp_path: Path, mark: str) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / mark).write_text('{"format": "something else"}')
    with pytest.raises(PackError, match="is not an OpenDance-HF dataset"):
        pack(some(), tmp_path / "d")
    assert list(contents(tmp_path / "d")) == [mark]


def test_refuses_a_file_and_takes_an_empty_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PackError, match="is not a folder"):
        pack(some(), tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert pack(some(2), tmp_path / "empty").num_sequences == 2


@pytest.mark.parametrize("where", ["ParquetWriter", "WebDatasetWriter", "dataset_card", "_check_files"])
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
    with pytest.raises(SchemaError, match="column 'bpm'"):
        pack([make_sequence(1, bpm=-1.0)], tmp_path / "d")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["clip.mp4", "song.wav", "opendance-3d.py"])
def test_media_and_scripts_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    describe = pack_module._statistics_json

    def smuggle(folder: Path, *args: object, **kwargs: object) -> dict[str, Any]:
        (folder / name).write_bytes(b"")
        return describe(folder, *args, **kwargs)

    monkeypatch.setattr(pack_module, "_statistics_json", smuggle)
    with pytest.raises(ContentError, match=name):
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
    assert str(dataset_card(described, "d")) == text


@pytest.mark.parametrize(
    ("folder", "title", "wanted"),
    [
        ("my-dances", "", "My Dances"),
        ("opendance-3d", "", "Opendance 3D"),
        ("d", "Dances of 2026", "Dances of 2026"),
    ],
)
def test_the_card_has_the_name_of_the_folder(tmp_path: Path, folder: str, title: str, wanted: str) -> None:
    pack(some(2), tmp_path / folder, title=title)
    card = DatasetCard.load(tmp_path / folder / "README.md")
    assert card.data.pretty_name == wanted
    assert f"\n# {wanted}\n" in card.text
    assert set(re.findall(r'load_dataset\("([^"]+)"', card.text)) == {folder}
    assert f'"{folder}/webdataset/individual/train-00000.tar"' in card.text


def test_the_examples_of_the_card_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sequences = [make_sequence(i, 1 + (i > 1), group=f"piece-{i:04d}") for i in range(3)]
    held_out = make_sequence(9, 2, group="song-0002")
    pack([*sequences[:2], held_out], tmp_path / "my-dances")
    monkeypatch.chdir(tmp_path)
    text = (tmp_path / "my-dances/README.md").read_text()
    assert 'load_dataset("my-dances", "collaborative", split="test")' in text, "it has no train"
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_card_renamed_for_the_hub_keeps_what_people_wrote(tmp_path: Path) -> None:
    pack(some(), tmp_path / "my-dances")
    card = DatasetCard.load(tmp_path / "my-dances/README.md")
    described = json.loads((tmp_path / "my-dances/statistics.json").read_text())
    mine = '## Credits\n\nBy us: `load_dataset("my-dances", "individual")`.\n'
    card.text += mine
    card.data.pretty_name = "Mine"
    card.data["language"] = "en"
    renamed = card_for_hub(card, described, "org/dances", "my-dances")
    assert "\n# org/dances\n" in renamed.text
    assert set(re.findall(r'load_dataset\("([^"]+)"', renamed.text)) == {"org/dances"}
    assert "my-dances" not in renamed.text
    assert "hf_hub_download" in renamed.text
    assert (renamed.data.pretty_name, renamed.data.language) == ("Mine", "en")
    assert "## Credits" in renamed.text
    assert card.text.endswith(mine), "the card that was given stays as it is"


def test_reads_a_file_once_for_all_formats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        pack_module, "load_sequence", lambda path: seen.append(path.stem) or load_sequence(path)
    )
    files = [save_sequence(tmp_path / f"{seq.id}.npz", seq) for seq in some(4)]
    pack_files(files, tmp_path / "a/d", shard_bytes=100_000)
    assert sorted(seen) == sorted(file.stem for file in files)
    pack(some(4), tmp_path / "b/d", shard_bytes=100_000)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("fps", 0.0),
        ("fps", np.inf),
        ("id", "\ud800"),
        ("bpm", np.ones(3)),
        ("group", np.ones((2, 2))),
        ("provenance", '{"backends": [1], "licence": 2}'),
    ],
)
def test_a_header_of_anybody_is_refused_by_name(tmp_path: Path, column: str, value: object) -> None:
    file = save_sequence(tmp_path / "a.npz", make_sequence(1))
    with np.load(file, allow_pickle=False) as arrays:
        np.savez(file, **{**arrays, column: np.asarray(value)})
    with pytest.raises(SchemaError, match=r"a\.npz: |column"):
        pack_files([file], tmp_path / "out/d")


def test_a_file_that_violates_the_schema_is_refused(tmp_path: Path) -> None:
    file = save_sequence(tmp_path / "a.npz", make_sequence(1, bpm=-1.0))
    with pytest.raises(SchemaError, match="column 'bpm'"):
        pack_files([file], tmp_path / "out/d")
    assert list(tmp_path.iterdir()) == [file]


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
    for order, name in ((1, "a/d"), (-1, "b/d")):
        report = pack(some()[::order], tmp_path / name, figure=True)
        assert "figures/statistics.png" in report.files
    assert contents(tmp_path / "a") == contents(tmp_path / "b"), "the picture too"
    assert "](figures/statistics.png)" in (tmp_path / "a/d/README.md").read_text()
    with Image.open(tmp_path / "a/d/figures/statistics.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50
    pack(some(), tmp_path / "a/d")
    assert "figures" not in (tmp_path / "a/d/README.md").read_text()
    assert datasets.load_dataset(str(tmp_path / "b/d"), split="train").num_rows == 3


def test_a_foreign_folder_is_refused_before_and_after_the_work(tmp_path: Path) -> None:
    read: list[int] = []

    def sequences(appears: bool) -> Iterator[DanceSequence]:
        read.append(1)
        yield make_sequence(1, num_frames=8)
        if appears:  # while the sequences are read
            (tmp_path / "d").mkdir()
            (tmp_path / "d/thesis.tex").write_text("precious")

    with pytest.raises(PackError, match="is not an OpenDance-HF dataset"):
        pack(sequences(appears=True), tmp_path / "d")
    assert list(contents(tmp_path)) == ["d/thesis.tex"]
    read.clear()
    with pytest.raises(PackError, match="is not an OpenDance-HF dataset"):
        pack(sequences(appears=False), tmp_path / "d")
    assert read == [], "nothing was read in vain"


def test_given_splits_count_before_groups(tmp_path: Path) -> None:
    rows = [dataclasses.replace(make_sequence(i), group="song") for i in range(3)]
    ids = [seq.id for seq in rows]
    pack(rows, tmp_path / "out", splits={ids[0]: "test", ids[1]: "train"})
    found = {
        split: [s.id for s in read_parquet(tmp_path / "out", "individual", split)]
        for split in ("train", "test")
    }
    assert found == {"train": ids[1:2], "test": [ids[0], ids[2]]}, "the third is held out with its song"
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2 sequence(s) have the split that their source gives them. 1 `group`(s)" in card
    with pytest.raises(PackError, match="unknown split 'dev'"):
        pack(rows, tmp_path / "other", splits={ids[0]: "dev"})
