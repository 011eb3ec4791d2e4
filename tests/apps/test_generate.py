"""Songs danced to from the command line, by untrained models: what is tested is the way there and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from opendance_hf.apps.clean import cleaned
from opendance_hf.apps.generate import GenerateError, GenerateOptions, generate
from opendance_hf.cli import app
from opendance_hf.dance import DanceError
from opendance_hf.formats import opendance
from opendance_hf.metrics import hand_hold_distance
from opendance_hf.metrics.quality import jitter
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando_pp import (
    BailandoPPConfig,
    BailandoPPForDanceGeneration,
    BailandoPPGPTConfig,
)
from opendance_hf.modeling.fact import FACTConfig, FACTForDanceGeneration
from opendance_hf.modeling.loading import ModelError
from tests.training.media import write_song

VQVAE = BailandoVQVAEConfig(hidden_size=16, codebook_size=16, num_residual_layers=1)
GPT: dict[str, Any] = {
    "codebook_size": 16, "hidden_size": 16, "num_attention_heads": 2, "num_base_layers": 1, "num_head_layers": 1
}  # fmt: skip


FACT: dict[str, Any] = {
    "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2, "num_motion_layers": 1,
    "num_audio_layers": 1, "num_cross_layers": 1, "motion_frames": 30, "audio_frames": 60,
}  # fmt: skip


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for name, model in (
        ("solo", BailandoForDanceGeneration(BailandoConfig(VQVAE, BailandoGPTConfig(**GPT)))),
        *(
            (
                f"windowed{columns}",
                BailandoForDanceGeneration(
                    BailandoConfig(VQVAE, BailandoGPTConfig(**GPT, music_window=40, music_dim=columns))
                ),
            )
            for columns in (55, 438)
        ),
        ("duet", BailandoPPForDanceGeneration(BailandoPPConfig(VQVAE, BailandoPPGPTConfig(**GPT)))),
    ):
        for half in (model.vqvae.upper, model.vqvae.lower):
            half.codebook.codes.normal_(0, 1)
        model.save_pretrained(folder / name)
    FACTForDanceGeneration(FACTConfig(**FACT)).save_pretrained(folder / "fact")
    return folder


@pytest.fixture(scope="module")
def song(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_song(tmp_path_factory.mktemp("song") / "song.wav", 1.55)


@pytest.mark.parametrize(
    ("name", "dancers"), [("solo", ()), ("windowed55", ()), ("windowed438", ()), ("duet", (2,))]
)
def test_everybody_dances_as_long_as_the_song(
    name: str, dancers: tuple[int, ...], models: Path, song: Path, tmp_path: Path
) -> None:
    (file,) = generate(song, models / name, tmp_path / "dance.npz")
    with np.load(file) as dance:
        assert dance["joints"].shape == (*dancers, 93, 24, 3)
        assert dance["smpl_pose"].shape == (*dancers, 93, 24, 3)
        assert dance["smpl_transl"].shape == (*dancers, 93, 3)
        assert dance["rest_offsets"].shape == (*dancers, 24, 3)
        assert np.isfinite(dance["joints"]).all()


def test_a_duet_is_filmed_and_can_be_evaluated(models: Path, song: Path, tmp_path: Path) -> None:
    out = tmp_path / "duet.mp4"
    told = CliRunner().invoke(
        app, ["generate", str(song), "--model", str(models / "duet"), "--out", str(out)]
    )
    assert told.exit_code == 0, told.output
    with av.open(out) as film:
        assert sum(1 for _ in film.decode(video=0)) == 47
    duet, scores = str(tmp_path / "duet.npz"), tmp_path / "scores.json"
    options = ["--predictions", duet, "--reference", duet, "--json", str(scores)]
    scored = CliRunner().invoke(app, ["evaluate", *options])
    assert scored.exit_code == 0, scored.output
    assert "partner_f1" in scores.read_text()


def test_models_that_do_not_dance_alone_say_so(models: Path, song: Path, tmp_path: Path) -> None:
    with pytest.raises(DanceError, match="FACT continues a motion: give a seed motion of 30 frames"):
        generate(song, models / "fact", tmp_path / "dance.npz")
    with pytest.raises(ModelError, match="has no config"):
        generate(song, tmp_path, tmp_path / "dance.npz")


@pytest.mark.parametrize("model", ["solo", "duet"])
def test_a_clean_dance_is_the_same_dance_without_jitter(
    models: Path, song: Path, tmp_path: Path, model: str
) -> None:
    plain, clean = tmp_path / "plain.npz", tmp_path / "clean.npz"
    for out, options in ((plain, []), (clean, ["--clean"])):
        arguments = ["generate", str(song), "--model", str(models / model), "--out", str(out), *options]
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, result.output
    before, after = opendance.read(plain), opendance.read(clean)
    assert before.num_frames == after.num_frames
    assert {**before.meta, "id": "clean"} == after.meta
    expected, _ = cleaned(before)
    np.testing.assert_allclose(after.joints, expected.joints, atol=1e-4)
    assert max(jitter(p) for p in after.joints) <= max(jitter(p) for p in before.joints)


@pytest.mark.parametrize("out", ["dance.mp4", "dance.npz", "dances", None])
def test_no_video_writes_the_motion_only(
    models: Path, song: Path, tmp_path: Path, out: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = ["generate", str(song), "--model", str(models / "solo"), "--no-video"]
    result = CliRunner().invoke(app, [*arguments, *(["--out", out] if out else [])])
    assert result.exit_code == 0, result.output
    (written,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert written.suffix == ".npz"


def test_beats_that_cannot_be_used_are_said(models: Path, song: Path, tmp_path: Path) -> None:
    beats = tmp_path / "beats.txt"
    beats.write_text("0.5\n1.0\n1.5\n2.0\n")
    for options, told in (
        ({"beats": beats, "bpm": 120.0}, "given twice"),
        ({"first_beat_s": 0.4}, "give --bpm too"),
        ({"bpm": 120.0}, "hears features of the music, not beats"),
    ):
        with pytest.raises(GenerateError, match=told):
            generate(song, models / "solo", tmp_path / "d.npz", GenerateOptions(**options))
    with pytest.raises(GenerateError, match="beats of one song, but 2 songs"):
        generate([song, song.with_name("other.wav")], models / "solo", tmp_path, GenerateOptions(beats=beats))


def test_the_dancer_of_the_package_steps_to_a_tempo_that_is_given(song: Path, tmp_path: Path) -> None:
    options = GenerateOptions(bpm=100.0, first_beat_s=0.2, suffix=".npz")
    (written,) = generate(song, None, tmp_path / "dance.npz", options)
    with np.load(written, allow_pickle=False) as dance:
        assert np.diff(dance["music_beats"]).tolist() == [36] * (len(dance["music_beats"]) - 1)
        assert dance["music_beats"][0] == 12


def test_the_package_has_a_couple(song: Path, tmp_path: Path) -> None:
    options = GenerateOptions(bpm=100.0, suffix=".npz", generation={"num_dancers": 2})
    (written,) = generate(song, None, tmp_path / "dance.npz", options)
    with np.load(written, allow_pickle=False) as dance:
        assert dance["joints"].shape[0] == 2
        near = hand_hold_distance(*dance["joints"])
    assert near.mean() < 1.0  # two strangers start anywhere
    (alone,) = generate(song, None, tmp_path / "solo.npz", GenerateOptions(generation={"num_dancers": 1}))
    with np.load(alone, allow_pickle=False) as dance:
        assert dance["joints"].ndim == 3
    with pytest.raises(GenerateError, match="--dancers 3: the package has models of 1 and 2 dancers"):
        generate(song, None, tmp_path / "three.npz", GenerateOptions(generation={"num_dancers": 3}))
