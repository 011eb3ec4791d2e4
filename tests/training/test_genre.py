"""A classifier of genres learns from a folder of songs, is published, and fills the genre of a dataset."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoModelForAudioClassification

from opendance_hf.pipeline.backends.audio_classifier import AudioClassifier, content_version
from opendance_hf.schema import GENRES
from opendance_hf.training import genre
from opendance_hf.training.recipe import RecipeError, RunArguments
from tests.conftest import REPO
from tests.fakehub import FakeHub

RATE = 8000


def song(label: int, seed: int, seconds: float) -> np.ndarray:
    """Test sounds, not music: a class has its register and its rate of notes."""
    rng = np.random.default_rng([label, seed])
    t = np.arange(round(seconds * RATE)) / RATE
    pulse = 0.55 + 0.45 * np.sign(np.sin(2 * np.pi * (2 if label < 5 else 7) * t + rng.uniform(0, 6)))
    hertz = 80 * 2 ** (label % 5 + rng.uniform(0, 0.4))
    tones = sum(np.sin(2 * np.pi * n * hertz * t) / n for n in (1, 2, 3))
    return (0.2 * pulse * tones + rng.normal(0, 0.01, len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def songs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("songs")
    for label, name in enumerate(GENRES):
        place = folder / ("Hip-Hop" if name == "hiphop" else name)
        place.mkdir()
        for number in range(6):
            soundfile.write(place / f"{number}.wav", song(label, number, 4.5), RATE)
    return folder


@pytest.fixture(scope="module")
def trained(songs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("genre") / "genres"
    options = [
        f"model.sampling_rate={RATE}",
        "data.seconds=2",
        "trainer.disable_tqdm=true",
        "trainer.save_strategy=no",
    ]
    torch.set_num_threads(1)
    genre.run(RunArguments(str(songs), str(out), overrides=options, licence="mit"))
    return out


def test_it_tells_songs_apart_that_it_has_not_heard(trained: Path, tmp_path: Path) -> None:
    model = AudioClassifier(str(trained)).prepare().load()
    right = 0
    for label, name in enumerate(GENRES):
        for seed in (100, 101):
            soundfile.write(tmp_path / "new.wav", song(label, seed, 6), RATE)
            found, scores = model.classify(tmp_path / "new.wav", 0.5, 5.5)
            right += found == name
            assert scores.sum() == pytest.approx(1, abs=1e-5)
    assert right >= 16  # of 20; two would be luck


def test_it_comes_back_from_the_hub(trained: Path, tmp_path: Path) -> None:
    assert "ten genres of GTZAN" in (trained / "README.md").read_text()
    np.save(tmp_path / "sound.npy", song(3, 9, 3)[None])
    code = f"""
import sys, numpy as np, torch, opendance_hf.modeling
from opendance_hf.hub import push
from transformers import AutoModelForAudioClassification
from opendance_hf.pipeline.backends.audio_classifier import AudioClassifier
push({str(trained)!r}, "me/genres")
model = AutoModelForAudioClassification.from_pretrained("me/genres").eval()
with torch.no_grad():
    np.save("logits.npy", model(torch.from_numpy(np.load("sound.npy"))).logits.numpy())
known = AudioClassifier("me/genres").prepare()
print(known.label, known.version)
"""
    with FakeHub() as hub:  # its address must be known before the Hub's client is imported
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False,
            env=hub.env(tmp_path / "home") | {"PYTHONPATH": str(REPO)},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    name, version = done.stdout.split()
    assert name == "me/genres"
    assert re.fullmatch("[0-9a-f]{12}", version), "a commit"
    assert version != content_version(str(trained))[:12], "and not the hash of a folder"
    here = AutoModelForAudioClassification.from_pretrained(trained).eval()
    with torch.no_grad():
        wanted = here(torch.from_numpy(np.load(tmp_path / "sound.npy"))).logits.numpy()
    np.testing.assert_allclose(np.load(tmp_path / "logits.npy"), wanted, atol=1e-5)
    assert [here.config.id2label[i] for i in range(10)] == list(GENRES)


def test_folders_that_are_none(tmp_path: Path, songs: Path) -> None:
    with pytest.raises(RecipeError, match="no folder of blues, classical"):
        genre.run(RunArguments(str(tmp_path), str(tmp_path / "out")))
    train, others = genre.GenreClips(songs, RATE, 2), genre.GenreClips(songs, RATE, 2, held_out=True)
    assert len(train) + len(others) == 10 * 6 * 2
    assert not {clip[0] for clip in train.clips} & {clip[0] for clip in others.clips}
    with pytest.raises(ValueError, match="no song of at least 60 s"):
        genre.GenreClips(songs, RATE, 60)


@pytest.mark.parametrize("option", ["held_out=true", f"sampling_rate={RATE}"])
def test_what_the_stage_decides_is_no_option(tmp_path: Path, songs: Path, option: str) -> None:
    with pytest.raises(RecipeError, match=f"no option {option.partition('=')[0]}; there are seconds"):
        genre.run(RunArguments(str(songs), str(tmp_path / "out"), overrides=[f"data.{option}"]))


def test_the_same_songs_are_known_in_any_folder_and_others_are_not(tmp_path: Path, songs: Path) -> None:
    first = genre.GenreClips(songs, RATE, 2).fingerprint()
    shutil.copytree(songs, tmp_path / "songs")
    assert genre.GenreClips(tmp_path / "songs", RATE, 2).fingerprint() == first
    old = genre.GenreClips(songs, RATE, 2).clips[0][0]
    place = tmp_path / "songs" / old.parent.name
    other = next(n for n in range(6, 99) if not genre._held_out(f"{GENRES[0]}/{n}.wav"))
    (place / old.name).rename(place / f"{other}.wav")
    assert len(genre.GenreClips(tmp_path / "songs", RATE, 2)) == len(genre.GenreClips(songs, RATE, 2))
    assert genre.GenreClips(tmp_path / "songs", RATE, 2).fingerprint() != first
