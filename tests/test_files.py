"""Where results go, and how they are written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opendance_hf.disk import DiskError
from opendance_hf.files import (
    OutputError,
    atomic_write,
    check_folder,
    check_output,
    check_outputs,
    staged_folder,
)


def test_a_file_appears_whole_with_its_folders(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    with atomic_write(path) as partial:
        partial.write_text("content")
        assert not path.exists()
        assert partial.parent == path.parent
    assert path.read_text() == "content"
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_write(path) as partial:
            partial.write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with atomic_write(path) as first, atomic_write(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first", "the last to finish"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    with atomic_write(tmp_path / "a.json") as partial:
        partial.write_text("")
    assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_long_name_fits(tmp_path: Path) -> None:
    with atomic_write(tmp_path / ("x" * 250)) as partial:
        partial.write_text("")
    assert (tmp_path / ("x" * 250)).is_file()


def spellings(folder: Path) -> list[Path]:
    """Other names of folder/in.npz."""
    (folder / "link.npz").symlink_to("in.npz")
    (folder / "hard.npz").hardlink_to(folder / "in.npz")
    (folder / "there").symlink_to(folder)
    return [
        folder / "in.npz",
        folder / "." / ".." / folder.name / "in.npz",
        folder / "link.npz",
        folder / "hard.npz",
        folder / "there" / "in.npz",
    ]


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_input_is_no_output_under_any_name(overwrite: bool, tmp_path: Path) -> None:
    (tmp_path / "in.npz").write_text("mine")
    for path in spellings(tmp_path):
        with pytest.raises(OutputError, match="this input would be overwritten; choose another --out"):
            check_output(path, [tmp_path / "in.npz"], overwrite=overwrite)


def test_a_relative_input_is_known_by_its_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.npz").write_text("mine")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OutputError, match="input"):
        check_output(Path("in.npz"), [tmp_path / "in.npz"], overwrite=True)
    with pytest.raises(OutputError, match="input"):
        check_output(tmp_path / "in.npz", ["in.npz"], overwrite=True)


@pytest.mark.parametrize("name", ["README.md", "scores.json", "new/scores.json"])
def test_nothing_is_written_into_an_input_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "README.md").write_text("card")
    (tmp_path / "link").symlink_to("data")
    for folder in ("data", "link"):
        for overwrite in (False, True):
            with pytest.raises(OutputError, match=rf"{name}: this is in the input .*choose another --out"):
                check_output(tmp_path / folder / name, [tmp_path / "data"], overwrite=overwrite)
    check_output(tmp_path / name, [tmp_path / "data", "org/name"])


def test_what_exists_needs_overwrite(tmp_path: Path) -> None:
    old, dangling = tmp_path / "old", tmp_path / "dangling"
    old.touch()
    dangling.symlink_to("nothing")
    for path in (old, dangling):
        with pytest.raises(
            OutputError, match="exists: choose another --json, or replace it with --overwrite"
        ):
            check_output(path, option="--json")
        check_output(path, overwrite=True)
    check_output(tmp_path / "new" / "folder" / "file")
    assert not (tmp_path / "new").exists(), "checking creates nothing"


def test_places_that_are_no_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "pipe")
    for path, told in (
        (tmp_path, "this is a folder"),
        (tmp_path / "file" / "child", "file is a file, not a folder"),
        (tmp_path / "pipe", "a device or a pipe"),
        (Path("/dev/null"), "a device or a pipe"),
        (tmp_path / ("x" * 300), "too long"),
    ):
        with pytest.raises((OutputError, DiskError), match=told):
            check_output(path, overwrite=True)


def test_two_results_are_two_files(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="both --json and --figure"):
        check_outputs({"--json": tmp_path / "a", "--figure": tmp_path / "." / "a", "--other": None})
    check_outputs({"--json": tmp_path / "a", "--figure": tmp_path / "b"})


def test_an_output_folder_is_new_or_empty_and_holds_no_input(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    check_folder(folder)
    folder.mkdir()
    check_folder(folder)
    (folder / "w.pt").touch()
    with pytest.raises(OutputError, match="is not empty"):
        check_folder(folder)
    check_folder(folder, overwrite=True)
    for inputs, told in (([folder / "w.pt"], "contains the input"), ([folder], "is an input")):
        with pytest.raises(OutputError, match=told):
            check_folder(folder, inputs, overwrite=True)
    for place in (folder / "w.pt", folder / "w.pt" / "model"):
        with pytest.raises(OutputError, match="is a file; give --out a folder"):
            check_folder(place, overwrite=True)


def test_a_staged_folder_appears_complete_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "model"

    def write(text: str, *, fail: bool) -> None:
        with staged_folder(folder) as staging:
            (staging / "sub").mkdir()
            (staging / "sub" / "a").write_text(text)
            if fail:
                raise RuntimeError

    with pytest.raises(RuntimeError):
        write("1", fail=True)
    assert not (tmp_path / "new").exists()
    write("1", fail=False)
    (folder / "other").write_text("mine")
    with pytest.raises(RuntimeError):
        write("2", fail=True)
    assert (folder / "sub" / "a").read_text() == "1"
    write("3", fail=False)
    assert sorted(str(p.relative_to(folder)) for p in folder.rglob("*")) == ["other", "sub", "sub/a"]
    assert (folder / "sub" / "a").read_text() == "3"


def test_an_error_removes_the_folders_that_were_made(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "new" / "folder" / "a"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_long_name_in_another_script_fits(tmp_path: Path) -> None:
    name = "舞" * 80 + ".mp4"  # 244 bytes
    with atomic_write(tmp_path / name) as partial:
        partial.write_text("")
    assert (tmp_path / name).is_file()
