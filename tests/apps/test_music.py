from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.music import SAMPLE_RATE_60FPS, fact_features, music_features
from opendance_hf.music.beats import find_beats
from tests.fixtures.make_music_synth import synth_music


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, synth_music(SAMPLE_RATE_60FPS), SAMPLE_RATE_60FPS, subtype="FLOAT")
    return path


def test_a_song_becomes_an_archive(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "song.npz"
    done = CliRunner().invoke(app, ["music", str(song), "--out", str(out)])
    assert done.exit_code == 0, done.output
    expected = music_features(synth_music(SAMPLE_RATE_60FPS))
    with np.load(out, allow_pickle=False) as found:
        frames = len(synth_music(SAMPLE_RATE_60FPS)) // 512
        assert found["music_features"].shape == (frames, 438)
        assert found["music_features_7p5fps"].shape == (-(-frames // 8), 438)
        assert found["music_features_fact"].shape == (frames, 35)
        assert found["music_features_tpami"].shape == (frames, 55)
        np.testing.assert_allclose(found["music_features"], expected.features[:frames], atol=1e-2)
        np.testing.assert_array_equal(found["music_beats"], expected.beats[expected.beats < frames])
        assert f"{float(found['bpm']):.1f} bpm" in done.output
    assert [path.name for path in out.parent.iterdir()] == ["song.npz"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--engine", "fastest"], "engine must be one of fast, librosa"),
        (["--start-s", "5", "--end-s", "2"], "end_s must be finite and later"),
        (["--start-s", "500"], "no sound after 500"),
        (["--end-s", "0.1"], "song.wav: 0.10 s of sound are too short for beats; take 1 s at least"),
    ],
)
def test_what_cannot_be_is_one_line(song: Path, tmp_path: Path, options: list[str], why: str) -> None:
    out = tmp_path / "song.npz"
    done = CliRunner().invoke(app, ["music", str(song), "--out", str(out), *options])
    assert done.exit_code == 2
    assert why in done.output.replace("\n", "")
    assert "Traceback" not in done.output
    assert not out.exists()


def test_files_without_sound_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "noise.mp3"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    done = CliRunner().invoke(app, ["music", str(path)])
    assert done.exit_code == 2
    assert str(path) in done.output.replace("\n", "")


@pytest.mark.parametrize(
    ("samples", "why"),
    [
        (np.zeros(90_000), "no music: the sound is silent (-200.0 dBFS"),
        (np.full(90_000, np.nan), "audio holds NaN or infinity"),
        (np.full(90_000, 1e19), "where full scale is 1; scale it down"),
        (np.ones(3_000) / 2, "0.10 s of sound are too short for beats"),
    ],
)
def test_sound_without_music_is_one_line_that_names_the_file(
    samples: np.ndarray, why: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.wav"
    soundfile.write(path, samples, SAMPLE_RATE_60FPS, subtype="FLOAT")
    done = CliRunner().invoke(app, ["music", str(path), "--out", str(tmp_path / "odd.npz")])
    said = done.output.replace("\n", "")
    assert done.exit_code == 2
    assert f"{path}: " in said
    assert why in said


def test_a_target_in_the_way_is_said_first(song: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for target in (tmp_path, tmp_path / "file" / "x.npz"):
        done = CliRunner().invoke(app, ["music", str(song), "--out", str(target)])
        assert done.exit_code == 2
        assert f"error: {target}: " in done.output.replace("\n", "")


def test_beats_are_written_in_seconds_of_the_song(song: Path, tmp_path: Path) -> None:
    out, beats = tmp_path / "song.npz", tmp_path / "song.beats.txt"
    done = CliRunner().invoke(
        app, ["music", str(song), "--out", str(out), "--beats", str(beats), "--start-s", "2"]
    )
    assert done.exit_code == 0, done.output
    lines = beats.read_text().splitlines()
    assert lines[0].startswith("# ")
    times, numbers = np.loadtxt(beats, unpack=True)
    assert times[0] >= 2
    whole = find_beats(fact_features(synth_music(SAMPLE_RATE_60FPS))).beats / 60
    assert np.abs(times[:, None] - whole).min(axis=1).max() < 0.03
    assert set(np.diff(numbers)) <= {1, -3}
    assert f"{len(times)} beats" in done.output
    assert out.exists()


def test_sound_without_beats_has_no_file_of_beats(tmp_path: Path) -> None:
    path, out, beats = (tmp_path / name for name in ("short.wav", "short.npz", "short.beats.txt"))
    soundfile.write(path, synth_music(SAMPLE_RATE_60FPS)[: int(1.5 * SAMPLE_RATE_60FPS)], SAMPLE_RATE_60FPS)
    done = CliRunner().invoke(app, ["music", str(path), "--out", str(out), "--beats", str(beats)])
    assert done.exit_code == 2
    assert "short.wav: 0 beat(s) found, expected at least 4" in done.output.replace("\n", "")
    assert not out.exists()
    assert not beats.exists()


def test_beats_do_not_go_into_the_archive(song: Path, tmp_path: Path) -> None:
    out = tmp_path / "song.npz"
    done = CliRunner().invoke(app, ["music", str(song), "--out", str(out), "--beats", str(out)])
    assert done.exit_code == 2
    assert not out.exists()


def test_doubtful_beats_are_said_to_be(tmp_path: Path) -> None:
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 8 * SAMPLE_RATE_60FPS), SAMPLE_RATE_60FPS)
    options = ["--out", str(tmp_path / "noise.npz"), "--beats", str(tmp_path / "noise.beats.txt")]
    done = CliRunner().invoke(app, ["music", str(path), *options])
    assert done.exit_code == 0, done.output
    assert "doubtful" in done.output
