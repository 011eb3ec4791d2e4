"""Layouts of datasets on the fixtures' folders and on damaged copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opendance_hf.formats import FORMATS, format_named
from opendance_hf.loading_scripts import DATASETS, Item, LayoutError, layout_named

FIXTURES = Path(__file__).parents[1] / "fixtures" / "formats"
FOLDERS = {
    "aistpp": "aist_plusplus_final", "dd100": "dd100", "finedance": "finedance", "gdance": "gdance", "humanml3d": "humanml3d",
    "motorica": "motorica_dance_dataset", "phantomdance": "phantomdance",
}  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return the folder with a copy of every dataset, whose files may be changed."""
    for folder in FOLDERS.values():
        shutil.copytree(FIXTURES / folder, tmp_path / folder)
    return tmp_path


def found(name: str, root: Path) -> dict[str, Item]:
    items = list(layout_named(name).items(root / FOLDERS[name]))
    assert [item.id for item in items] == sorted(item.id for item in items)
    return {item.id: item for item in items}


def test_every_dataset_is_tested() -> None:
    assert set(FOLDERS) == set(DATASETS)
    with pytest.raises(LayoutError, match=r"unknown dataset 'x'.*aistpp"):
        layout_named("x")


@pytest.mark.parametrize("name", FOLDERS)
def test_items(name: str) -> None:
    root = (FIXTURES / FOLDERS[name]).resolve()
    assert layout_named(name).LICENCE.isprintable()
    items = found(name, FIXTURES)
    assert any(not item.ignored for item in items.values())
    for item in items.values():
        assert item.format in FORMATS
        assert item.split in (None, "train", "validation", "test")
        assert item.ignored or item.motions
        for path in item.motions:
            assert path.is_file()
            assert path.resolve().is_relative_to(root)
            assert format_named(item.format).read(path, **item.answers).num_frames > 1


@pytest.mark.parametrize("name", FOLDERS)
def test_a_folder_that_is_not_the_dataset(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "other" / "motions").mkdir(parents=True)
    for folder in ("file", "empty", "other", "missing"):
        with pytest.raises(LayoutError, match=rf"{folder}: .*expected.*published"):
            list(layout_named(name).items(tmp_path / folder))


@pytest.mark.parametrize("name", FOLDERS)
def test_hostile_names_and_links(name: str, copy: Path) -> None:
    before = found(name, copy)
    path = next(item for item in before.values() if not item.ignored).motions[0]
    outside = copy / f"outside{path.suffix}"
    shutil.copy(path, outside)
    strange = path.with_name(f"zz\n\x1b[31m{path.name}")
    shutil.copy(path, strange)
    link = path.with_name(path.name.replace(path.stem[:3], "zzz", 1))
    link.symlink_to(outside)
    cycle = path.with_name(path.name.replace(path.stem[:3], "zzy", 1))
    cycle.symlink_to(cycle.name)
    after = found(name, copy)
    assert {key: item for key, item in after.items() if key in before} == before
    new = [item for key, item in after.items() if key not in before]
    assert len(new) >= 3
    assert all(item.id.isprintable() and item.ignored for item in new)
    assert {"control characters", "link"} <= {
        word for item in new for word in ("control characters", "link") if word in item.ignored
    }


def test_aistpp(copy: Path) -> None:
    items = found("aistpp", copy)
    assert {key: (item.split, item.group, item.audio, bool(item.ignored)) for key, item in items.items()} == {
        "gBR_sBM_cAll_d04_mBR0_ch03": ("train", "mBR0", "mBR0", False),
        "gBR_sFM_cAll_d05_mBR5_ch14": ("train", "mBR5", "mBR5", True),
        "gKR_sBM_cAll_d28_mKR2_ch02": ("test", "mKR2", "mKR2", True),
        "gLH_sBM_cAll_d16_mLH0_ch01": ("validation", "mLH0", "mLH0", False),
    }
    assert "ignore_list" in items["gBR_sFM_cAll_d05_mBR5_ch14"].ignored
    assert "no file" in items["gKR_sBM_cAll_d28_mKR2_ch02"].ignored
    assert items["gLH_sBM_cAll_d16_mLH0_ch01"].format == "aistpp"


def test_aistpp_with_parts_missing(copy: Path) -> None:
    root = copy / FOLDERS["aistpp"]
    for file in root.glob("splits/crossmodal_*"):
        file.unlink()
    assert "gKR_sBM_cAll_d28_mKR2_ch02" not in found("aistpp", copy)  # only in the crossmodal lists
    (root / "motions" / "gLH_sBM_cAll_d16_mLH0_ch01.pkl").unlink()
    assert found("aistpp", copy)["gLH_sBM_cAll_d16_mLH0_ch01"].format == "coco"
    shutil.rmtree(root / "splits")
    (root / "ignore_list.txt").unlink()
    items = found("aistpp", copy)
    assert {item.split for item in items.values()} == {None}
    assert not any(item.ignored for item in items.values())
    shutil.rmtree(root / "motions")
    assert {item.format for item in found("aistpp", copy).values()} == {"coco"}


def test_lists_that_are_no_lists(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = copy / FOLDERS["aistpp"] / "ignore_list.txt"
    path.write_bytes(b"\xff\xfe\0gBR_\x1b\n\n")
    assert not found("aistpp", copy)["gBR_sFM_cAll_d05_mBR5_ch14"].ignored
    path.unlink()
    path.symlink_to("/etc/passwd")
    with pytest.raises(LayoutError, match=r"ignore_list\.txt.*link"):
        found("aistpp", copy)
    path.unlink()
    path.write_bytes(b"a\n" * 9_000_000)
    with pytest.raises(LayoutError, match=r"ignore_list\.txt.*18,000,000 bytes"):
        found("aistpp", copy)


def summary(item: Item) -> tuple[object, ...]:
    return item.split, item.group, item.audio, item.audio_start_s, bool(item.ignored)


def test_finedance(copy: Path) -> None:
    root = copy / FOLDERS["finedance"]
    for name in ("120", "130", "212", "abc"):
        shutil.copy(root / "motion" / "001.npy", root / "motion" / f"{name}.npy")
    assert {key: summary(item) for key, item in found("finedance", copy).items()} == {
        "001": ("train", "001", "001", 0.0, False),
        "063": ("test", "063", "063", 0.0, False),
        "120": ("test", "120", "120", 0.0, True),
        "130": ("test", "130", "130", 0.0, True),
        "212": (None, "212", "212", 0.0, False),
        "abc": (None, "abc", "abc", 0.0, False),
    }
    shutil.rmtree(root / "motion")
    assert found("finedance", copy)["001"].motions[0].parent.name == "motion_fea319"


def test_dd100(copy: Path) -> None:
    folder = copy / FOLDERS["dd100"] / "motion" / "smplx" / "all"
    for song in ("Waltz_5_1", "Ballet_9_0", "Ballet_5_0"):
        for dancer in ("00", "01"):
            shutil.copy(folder / f"Tango_1_0_{dancer}.npy", folder / f"{song}_{dancer}.npy")
    shutil.copy(folder / "Tango_1_0_01.npy", folder / "Rumba_2_0_01.npy")
    shutil.copy(folder / "Tango_1_0_01.npy", folder / "notes.npy")
    items = found("dd100", copy)
    assert {key: summary(item) for key, item in items.items()} == {
        "Ballet_5_0": ("train", "Ballet_5", "Ballet_5_0", 0.0, False),
        "Ballet_9_0": ("test", "Ballet_9", "Ballet_9_0", 0.0, False),
        "Rumba_2_0": ("train", "Rumba_2", "Rumba_2_0", 0.0, True),
        "Tango_1_0": ("train", "Tango_1", "Tango_1_0", 0.0, False),
        "Waltz_5_0": ("test", "Waltz_5", "Waltz_5_0", 0.0, False),
        "Waltz_5_1": ("test", "Waltz_5", "Waltz_5_1", 0.0, False),
        "notes": (None, "notes", None, 0.0, True),
    }
    assert [path.name for path in items["Tango_1_0"].motions] == ["Tango_1_0_00.npy", "Tango_1_0_01.npy"]
    assert "Rumba_2_0_00.npy, is missing" in items["Rumba_2_0"].ignored
    assert "GENRE_CHOREOGRAPH_TAKE" in items["notes"].ignored


def test_gdance(copy: Path) -> None:
    root = copy / FOLDERS["gdance"]
    assert {key: summary(item) for key, item in found("gdance", copy).items()} == {
        "sBM_three_120_240": (None, "sBM_three", "sBM_three_120_240", 0.0, False),
        "sBM_two_00_120": (None, "sBM_two", "sBM_two_00_120", 0.0, False),
    }
    (root / "split_sequence_names.txt").unlink()
    (root / "train_split_sequence_names.txt").write_text("sBM_two_00_120\n")
    (root / "val_split_sequence_names.txt").write_text("sBM_three_120_240\nsFM_gone_0_10\n")
    (root / "musics").mkdir()
    for song in ("sBM_three", "sBM_two", "sBM_two_00_120"):
        (root / "musics" / f"{song}.wav").touch()
    items = found("gdance", copy)
    assert {key: summary(item) for key, item in items.items()} == {
        "sBM_three_120_240": ("validation", "sBM_three", "sBM_three", 4.0, False),
        "sBM_two_00_120": ("train", "sBM_two", "sBM_two_00_120", 0.0, False),
        "sFM_gone_0_10": ("validation", "sFM_gone", "sFM_gone_0_10", 0.0, True),
    }
    assert "no file in motions_smpl" in items["sFM_gone_0_10"].ignored


def test_phantomdance(copy: Path) -> None:
    assert summary(found("phantomdance", copy)["001"]) == (None, "001", "001", 0.0, False)
    root = copy / FOLDERS["phantomdance"]
    shutil.move(root / "motion" / "001.json", root / "002.json")
    assert list(found("phantomdance", copy)) == ["002"]


def test_motorica(copy: Path) -> None:
    folder = copy / FOLDERS["motorica"] / "bvh"
    first = "kthjazz_gCH_sFM_cAll_d02_mCH_ch01_invented_001"
    shutil.copy(folder / f"{first}.bvh", folder / "other.bvh")
    items = found("motorica", copy)
    assert summary(items[first]) == (None, "invented", first, 0.0, False)
    assert summary(items["other"]) == (None, "other", "other", 0.0, False)


def test_humanml3d(copy: Path) -> None:
    root = copy / FOLDERS["humanml3d"]
    shutil.copy(root / "new_joint_vecs" / "000001.npy", root / "new_joint_vecs" / "M000001.npy")
    (root / "val.txt").write_text("M000001\n000002\n")
    items = found("humanml3d", copy)
    assert {key: summary(item) for key, item in items.items()} == {
        "000001": ("train", "000001", None, 0.0, False),
        "000002": ("validation", "000002", None, 0.0, True),
        "M000001": ("validation", "000001", None, 0.0, False),
    }
