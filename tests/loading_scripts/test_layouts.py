"""Layouts of datasets on the fixtures' folders and on damaged copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opendance_hf.formats import FORMATS
from opendance_hf.loading_scripts import DATASETS, Item, LayoutError, layout_named

FIXTURES = Path(__file__).parents[1] / "fixtures" / "formats"
FOLDERS = {"aistpp": "aist_plusplus_final"}


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
