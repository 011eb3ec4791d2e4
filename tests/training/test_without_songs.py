from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.data.windows import NoMusicError
from opendance_hf.schema import MUSIC_COLUMNS, DanceSequence
from opendance_hf.storage import pack
from opendance_hf.training.validation import Validation, songs_of
from tests.factories import make_sequence
from tests.training.support import SMALL, make_data, run_stage


def without_song(seq: DanceSequence) -> DanceSequence:
    nothing = dict.fromkeys((*MUSIC_COLUMNS, "bpm"))
    return replace(seq, **nothing, music_beats=np.zeros(0, np.int32))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_data(tmp_path_factory.mktemp("without"))
    songless = [without_song(make_sequence(i, count, 300)) for i in range(24) for count in (1, 2)]
    songless = [replace(seq, id=f"{seq.id}x{number}") for number, seq in enumerate(songless)]
    pack(songless, folder / "opendance-3d")
    return folder


@pytest.mark.parametrize("stage", ["vqvae", "rotation"])
def test_stages_of_motion_alone_learn_from_rows_without_songs(stage: str, data: Path, tmp_path: Path) -> None:
    assert run_stage(stage, data, tmp_path / "run", SMALL[stage])


@pytest.mark.parametrize("stage", ["gpt", "bailando_pp", "fact", "actor_critic"])
def test_stages_that_hear_music_name_the_row(stage: str, data: Path, tmp_path: Path) -> None:
    with pytest.raises(NoMusicError, match=r"sequence \S+ has no music_features.*--audio"):
        run_stage(stage, data, tmp_path / "run", SMALL[stage])


def test_validation_leaves_rows_without_songs_out(tmp_path: Path) -> None:
    rows = [make_sequence(i, 1, 300) for i in range(4)]
    rows[:2] = map(without_song, rows[:2])
    pack(rows, tmp_path / "mixed", splits={seq.id: "train" for seq in rows})
    songs = songs_of(str(tmp_path / "mixed"), None, "train", Validation(songs=9))
    assert sorted(song.id for song in songs) == sorted(seq.id for seq in rows[2:])
