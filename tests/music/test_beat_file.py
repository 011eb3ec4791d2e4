from __future__ import annotations

from pathlib import Path

import pytest

from opendance_hf.music.beat_file import BeatFileError, read_beats


def test_reads_the_first_number_of_each_line(tmp_path: Path) -> None:
    path = tmp_path / "a.beats.txt"
    path.write_text("# seconds, place in the bar\n0.25 1\n\n0.75 2\n1.25\t3\n1.75\n")
    assert read_beats(path).tolist() == [0.25, 0.75, 1.25, 1.75]


@pytest.mark.parametrize(
    ("text", "facts"),
    [
        ("0.1\n0.2\n0.3\n", ("3 beat", "4")),
        ("0.1\n0.3\n0.2\n0.4\n", ("line 3", "0.2 s", "0.3 s")),
        ("0.1\nbeat\n0.3\n0.4\n", ("line 2", "'beat'")),
        ("0.1\nnan\n0.3\n0.4\n", ("line 2", "nan")),
        ("0.1\ninf\n", ("line 2", "inf")),
        ("", ("0 beat",)),
    ],
)
def test_names_what_is_wrong(tmp_path: Path, text: str, facts: tuple[str, ...]) -> None:
    path = tmp_path / "a.beats.txt"
    path.write_text(text)
    with pytest.raises(BeatFileError) as error:
        read_beats(path)
    assert all(fact in str(error.value) for fact in ("a.beats.txt", *facts))


def test_large_files_are_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.beats.txt"
    path.write_bytes(b"1" * (2**20 + 1))
    with pytest.raises(BeatFileError, match="larger"):
        read_beats(path)
