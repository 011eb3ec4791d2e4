"""Layouts of published datasets: which files, songs, splits and dancers, on fixtures and on broken copies."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from opendance_hf.formats import FORMATS
from opendance_hf.loading_scripts import DATASETS, Item, LayoutError, layout_named
from tests.formats.table import FIXTURES

FOLDERS = {
    "aistpp": "aist_plusplus_final", "dd100": "dd100", "finedance": "finedance", "gdance": "gdance",
    "humanml3d": "humanml3d", "motorica": "motorica_dance_dataset", "phantomdance": "phantomdance",
}  # fmt: skip


@pytest.fixture
def copy(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Return a copy of a dataset's folder that may be broken."""
    return Path(shutil.copytree(FIXTURES / FOLDERS[request.param], tmp_path / request.param))


def items(name: str, folder: Path | None = None) -> dict[str, Item]:
    return {item.id: item for item in layout_named(name).items(folder or FIXTURES / FOLDERS[name])}


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_yields_its_dances_in_order(name: str) -> None:
    found = items(name)
    assert found
    assert list(found) == list(items(name))
    for item in found.values():
        assert item.ignored or item.motions
        assert item.format in FORMATS
        assert item.group
        assert item.split in (None, "train", "validation", "test")
        assert all(path.is_file() for path in item.motions)
    assert layout_named(name).LICENCE


@pytest.mark.parametrize("name", DATASETS)
def test_another_folder_is_answered_with_what_is_expected(name: str, tmp_path: Path) -> None:
    (tmp_path / "readme.txt").write_text("no dances")
    with pytest.raises(LayoutError, match="expected") as error:
        items(name, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_an_unknown_dataset_is_answered_with_the_list() -> None:
    with pytest.raises(LayoutError, match="unknown dataset 'aist': expected one of aistpp, dd100"):
        layout_named("aist")


def test_aist_keeps_its_splits_its_songs_and_what_it_ignores() -> None:
    found = items("aistpp")
    first = found["gBR_sBM_cAll_d04_mBR0_ch03"]
    assert (first.split, first.group, first.audio, first.format) == ("train", "mBR0", "mBR0", "aistpp")
    assert found["gLH_sBM_cAll_d16_mLH0_ch01"].split == "validation"
    assert "ignore_list.txt" in found["gBR_sFM_cAll_d05_mBR5_ch14"].ignored
    missing = found["gKR_sBM_cAll_d28_mKR2_ch02"]
    assert missing.split == "test"
    assert "motions/gKR_sBM_cAll_d28_mKR2_ch02.pkl is missing" in missing.ignored


@pytest.mark.parametrize("copy", ["aistpp"], indirect=True)
def test_keypoints_are_read_where_there_are_no_motions(copy: Path) -> None:
    shutil.rmtree(copy / "motions")
    assert {item.format for item in items("aistpp", copy).values() if item.motions} == {"coco"}


@pytest.mark.parametrize("copy", ["aistpp"], indirect=True)
def test_lists_that_are_no_text_are_refused(copy: Path) -> None:
    (copy / "splits" / "crossmodal_train.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LayoutError, match=r"crossmodal_train\.txt: not a list of names"):
        items("aistpp", copy)


@pytest.mark.parametrize("copy", ["dd100"], indirect=True)
def test_partners_are_one_dance_and_a_missing_one_is_named(copy: Path) -> None:
    found = items("dd100", copy)
    waltz = found["Waltz_5_0"]
    assert [path.name for path in waltz.motions] == ["Waltz_5_0_00.npy", "Waltz_5_0_01.npy"]
    assert (waltz.split, waltz.group, waltz.audio) == ("test", "Waltz_5", "Waltz_5_0")
    assert found["Tango_1_0"].split == "train"
    (copy / "motion/smplx/all/Tango_1_0_01.npy").unlink()
    assert "Tango_1_0_01.npy, is missing" in items("dd100", copy)["Tango_1_0"].ignored


def test_groups_of_gdance_are_the_source_videos() -> None:
    found = items("gdance")
    assert found["sBM_two_00_120"].group == "sBM_two"
    assert found["sBM_two_00_120"].audio == "sBM_two_00_120"


def test_finedance_has_the_authors_test_by_genre() -> None:
    found = items("finedance")
    assert (found["001"].split, found["063"].split) == ("train", "test")


def test_takes_of_motorica_to_one_song_are_one_group() -> None:
    assert {item.group for item in items("motorica").values()} == {"invented"}


def test_mirror_images_of_humanml3d_are_of_one_group(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(FIXTURES / "humanml3d", tmp_path / "h"))
    vectors = folder / "new_joint_vecs"
    shutil.copy(vectors / "000001.npy", vectors / "M000001.npy")
    found = items("humanml3d", folder)
    assert found["M000001"].group == found["000001"].group
    assert found["000001"].split == "train"


@pytest.mark.parametrize("copy", ["phantomdance"], indirect=True)
def test_hidden_files_and_links_out_of_the_folder_are_left_out(copy: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text("{}")
    (copy / "motion" / "link.json").symlink_to(secret)
    (copy / "motion" / ".hidden.json").write_text("{}")
    assert list(items("phantomdance", copy)) == ["motion/001"]
