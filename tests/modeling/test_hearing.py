"""Models that hear the beat: guidance, dropout of codes and music, and losses of the feet; at a small size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import torch

from opendance_hf.dance import Dancer
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import foot_velocity, split_root
from opendance_hf.modeling.feature_extraction_dance import DanceFeatureExtractor
from opendance_hf.motion.phase import beat_phase
from opendance_hf.music.inputs import phase_columns
from opendance_hf.synthetic.music import SAMPLE_RATE, Difficulty, make_music

SMALL: dict[str, Any] = {
    "codebook_size": 32,
    "hidden_size": 32,
    "num_base_layers": 1,
    "num_head_layers": 1,
    "num_attention_heads": 4,
    "max_codes": 9,
    "initializer_range": 0.3,
    "position_embedding_type": "rotary",
    "hears": "beats",
}


def gpt(**options: Any) -> BailandoGPT:
    torch.manual_seed(0)
    return BailandoGPT(BailandoGPTConfig(**{**SMALL, **options})).eval()


def start(count: int = 2) -> list[torch.Tensor]:
    return list(torch.randint(32, (2, count, 1), generator=torch.Generator().manual_seed(1)))


def heard(count: int = 2, rows: int = 30) -> torch.Tensor:
    beats = [np.arange(3.0 + 11 * i, 300, 31 + i) for i in range(count)]
    return torch.from_numpy(np.stack([phase_columns(one, 8 * rows, 8) for one in beats]))


def test_guidance_moves_logits_away_from_silence() -> None:
    model, music = gpt(), heard()
    plain = model.generate_codes(music, *start(), steps=20)
    torch.testing.assert_close(model.generate_codes(music, *start(), steps=20, guidance_scale=1.0), plain)
    silent = model.generate_codes(torch.zeros_like(music), *start(), steps=20)
    torch.testing.assert_close(model.generate_codes(music, *start(), steps=20, guidance_scale=0.0), silent)
    # Each step's logits are those of whole forward passes, with and without the music.
    upper, lower = model.generate_codes(music, *start(), steps=20, guidance_scale=2.5)
    with torch.no_grad():
        given, without = (model(upper[:, :-1], lower[:, :-1], one[:, :20]) for one in (music, 0 * music))
    guided = without.upper_logits + 2.5 * (given.upper_logits - without.upper_logits)
    torch.testing.assert_close(guided.argmax(-1), upper[:, 1:])
    assert (upper != plain[0]).any()


def test_guidance_has_a_range() -> None:
    with pytest.raises(ValueError, match="guidance_scale must be a number of 0 or more"):
        gpt().generate_codes(heard(), *start(), steps=2, guidance_scale=-1.0)


def test_dropout_of_codes_and_music_is_of_training_alone() -> None:
    codes, music = start()[0].repeat(1, 8), heard(2, 8)
    for option in ("code_dropout", "music_dropout"):
        model = gpt(dropout=0.0, **{option: 1.0})
        plain = gpt(dropout=0.0)
        torch.testing.assert_close(
            model(codes, codes, music).upper_logits, plain(codes, codes, music).upper_logits
        )
        changed = model.train()(codes, codes, music).upper_logits
        assert (changed != plain(codes, codes, music).upper_logits).any()
    silent = plain(codes, codes, 0 * music).upper_logits
    torch.testing.assert_close(changed, silent)


@pytest.mark.parametrize("downsamples", [2, 3])
def test_a_dancer_hears_the_beats_it_is_given(downsamples: int, tmp_path: Path) -> None:
    vqvae = {"hidden_size": 16, "codebook_size": 32, "num_residual_layers": 1, "num_downsamples": downsamples}
    torch.manual_seed(0)
    config = BailandoConfig(vqvae, {**SMALL, "frames_per_code": 2**downsamples})
    model = BailandoForDanceGeneration(config).eval()
    for half in (model.vqvae.upper, model.vqvae.lower):
        torch.nn.init.normal_(half.codebook.codes)  # zeros before the first batch
    Dancer.of(model).save_pretrained(tmp_path)
    dancer = Dancer.from_pretrained(tmp_path, device="cpu")
    time = np.arange(3 * 30_720) / 30_720
    sound = np.sin(880 * np.pi * time) * (np.mod(time, 0.5) < 0.05)
    song = {"array": sound, "sampling_rate": 30_720}
    beats = [np.arange(0, 181, 22.5), np.arange(7, 181, 40.0)]
    first, second = (dancer([song], music_beats=[one])[0] for one in beats)
    assert first.num_frames == second.num_frames == 180
    assert first.meta["music_beats"] == tuple(np.rint(beats[0][:-1]).astype(int))
    assert first.meta["bpm"] == pytest.approx(160)
    assert (first.joints != second.joints).any()
    with pytest.raises(ValueError, match="increasing"):
        dancer([song], music_beats=[[5.0, 5.0]])


def test_an_extractor_puts_features_and_beats_side_by_side() -> None:
    extractor = DanceFeatureExtractor("music_features_fact+beat_phase")
    sound = np.random.default_rng(0).normal(0, 0.1, 2 * 30_720)
    batch = extractor(sound, 30_720, music_beats=[[10.0, 40.0]])
    assert batch["music_features"].shape == (1, 120, 40)
    np.testing.assert_array_equal(batch["music_features"][0, :, 35:], phase_columns([10, 40], 120, 1))


def test_found_beats_are_heard_where_they_are_sure() -> None:
    music = make_music(102, 20, Difficulty(offbeat_hats=1.0, drums=0.3))
    sound = soxr.resample(music.samples, SAMPLE_RATE, 30_720)
    told = DanceFeatureExtractor("music_features_fact")(sound, 30_720)["music_beats"][0]
    batch = DanceFeatureExtractor("beat_phase_15fps")(sound, 30_720)
    found = batch["music_beats"][0]
    phases = [beat_phase(beats, 60 * music.beats_s) for beats in (told, found)]
    off = [np.abs(phase - np.rint(phase)).mean() for phase in phases]
    assert off[1] < 0.02 < 0.4 < off[0]  # the tracker follows the hats between the beats
    # The first beat that is heard is a downbeat: the known ones begin with one.
    assert np.rint(phases[1][0]) % 4 == 0
    assert batch["music_features"].shape == (1, 300, 5)


def test_saved_configurations_do_not_say_where_their_parts_came_from(tmp_path: Path) -> None:
    BailandoVQVAE(BailandoVQVAEConfig(hidden_size=8, codebook_size=32)).save_pretrained(tmp_path / "coder")
    coder = BailandoVQVAE.from_pretrained(tmp_path / "coder")
    BailandoForDanceGeneration(BailandoConfig(coder.config, SMALL)).save_pretrained(tmp_path / "whole")
    assert str(tmp_path) not in (tmp_path / "whole" / "config.json").read_text()


def test_losses_of_the_feet_reach_the_codes() -> None:
    torch.manual_seed(0)
    joints = torch.randn(2, 32, 24, 3).cumsum(1) / 10
    relative, velocity = split_root(joints)
    expected = (joints[:, 1:] - joints[:, :-1])[:, :, [7, 8, 10, 11]]
    torch.testing.assert_close(foot_velocity(relative, velocity), expected, rtol=1e-4, atol=1e-5)
    pose_losses = []
    for weight in (0.0, 2.0):
        torch.manual_seed(0)
        config = BailandoVQVAEConfig(
            hidden_size=16, codebook_size=32, num_residual_layers=1, foot_weight=weight
        )
        model = BailandoVQVAE(config).eval()
        output = model(relative, velocity)
        (gradient,) = torch.autograd.grad(
            output.root_loss, model.lower.encoder.out.weight, retain_graph=True, allow_unused=True
        )
        assert (gradient is None) == (weight == 0)
        pose_losses.append(output.pose_loss)
    foot = (foot_velocity(output.joints, output.root_velocity) - expected).abs().mean()
    torch.testing.assert_close(output.metrics["foot_velocity"], foot, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(pose_losses[1] - pose_losses[0], 2 * foot, rtol=1e-4, atol=1e-4)
