"""The one atomic write."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from opendance_hf.files import atomic_write


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
