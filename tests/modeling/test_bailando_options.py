"""Bailando's options at a small size: rotary positions and their cache, sampling, music windows, rotations, critic."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GenerationConfig

from opendance_hf.metrics import foot_events
from opendance_hf.modeling.bailando import (
    BailandoActorCritic,
    BailandoActorCriticConfig,
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAE,
    BailandoVQVAEConfig,
    beat_rewards,
    nearest_rotations,
    reward_joints,
    window_mask,
)
from opendance_hf.modeling.bailando.modeling_bailando_vqvae import join_root
from opendance_hf.modeling.layers import choose_codes, draw_noise

SMALL: dict[str, Any] = {
    "codebook_size": 32,
    "music_dim": 6,
    "hidden_size": 32,
    "num_base_layers": 2,
    "num_head_layers": 2,
    "num_attention_heads": 4,
    "max_codes": 9,
    # Far from the start's near-uniform distribution, where every code would win by chance.
    "initializer_range": 0.3,
}
SMALL_VQVAE: dict[str, Any] = {"hidden_size": 16, "codebook_size": 32, "num_residual_layers": 1}


def gpt(**options: Any) -> BailandoGPT:
    torch.manual_seed(0)
    model = BailandoGPT(BailandoGPTConfig(**{**SMALL, **options})).eval()
    if not model.config.rotary:
        torch.nn.init.normal_(model.position_embedding)
    return model


def seeds(count: int = 1, length: int = 1) -> list[torch.Tensor]:
    return list(torch.randint(32, (2, count, length), generator=torch.Generator().manual_seed(1)))


def random_music(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))


def recompute(
    model: BailandoGPT, music: torch.Tensor, codes: list[torch.Tensor], steps: int, context: int | None = None
) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Greedy codes and logits by a whole forward pass for every code, over at most ``context`` codes."""
    upper, lower = codes
    config, logits = model.config, []
    per_entry, margin = (config.frames_per_code, 2 * config.music_window) if config.music_window else (1, 0)
    for count in range(upper.shape[1], upper.shape[1] + steps):
        first = 0 if context is None else max(0, count - context)
        heard = music[:, per_entry * first : per_entry * count + margin]
        with torch.no_grad():
            output = model(upper[:, first:], lower[:, first:], heard)
        logits.append(torch.stack([output.upper_logits[:, -1], output.lower_logits[:, -1]], dim=1))
        upper = torch.cat([upper, output.upper_logits[:, -1:].argmax(-1)], dim=1)
        lower = torch.cat([lower, output.lower_logits[:, -1:].argmax(-1)], dim=1)
    return [upper, lower], torch.stack(logits)


class Heads:
    """Keeps the logits that generation reads."""

    def __init__(self, model: BailandoGPT) -> None:
        self.seen: list[torch.Tensor] = []
        for head in (model.upper_head, model.lower_head):
            head.register_forward_hook(lambda module, inputs, output: self.seen.append(output))

    def logits(self) -> torch.Tensor:
        """(steps, B, 2, codebook_size)."""
        pairs = zip(self.seen[::2], self.seen[1::2], strict=True)
        return torch.stack([torch.stack(pair, dim=1) for pair in pairs])


@pytest.mark.parametrize("window", [None, 1, 4, 20])
@pytest.mark.parametrize("length", [1, 3, 14])
def test_rotary_cache_is_exact_at_any_length(window: int | None, length: int) -> None:
    model = gpt(position_embedding_type="rotary", attention_window=window)
    music = random_music(2, 60, 6)
    expected, logits = recompute(model, music, seeds(2, length), 40)
    heads = Heads(model)
    upper, lower = model.generate_codes(music, *seeds(2, length), steps=40)
    torch.testing.assert_close(heads.logits(), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close([upper, lower], expected)


def test_rotary_training_on_windows_is_generation() -> None:
    """All logits of one teacher-forced pass are those that step by step generation had."""
    model = gpt(position_embedding_type="rotary", attention_window=5)
    music = random_music(1, 30, 6)
    heads = Heads(model)
    upper, lower = model.generate_codes(music, *seeds(), steps=30)
    generated = heads.logits()[:, 0]
    with torch.no_grad():
        output = model(upper[:, :-1], lower[:, :-1], music)
    torch.testing.assert_close(generated[:, 0], output.upper_logits[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(generated[:, 1], output.lower_logits[0], rtol=1e-5, atol=1e-5)


def test_rotary_positions_are_relative() -> None:
    """One block sees the same from wherever the window starts."""
    model = gpt(position_embedding_type="rotary", attention_window=5, num_base_layers=1, num_head_layers=0)
    music, (upper, lower) = random_music(1, 12, 6), seeds(1, 12)
    with torch.no_grad():
        whole = model(upper, lower, music).upper_logits[:, -1]
        window = model(upper[:, -5:], lower[:, -5:], music[:, -5:]).upper_logits[:, -1]
    torch.testing.assert_close(whole, window, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 8, 11])
def test_absolute_positions_are_as_published(length: int) -> None:
    model = gpt()
    music = random_music(2, 40, 6)
    expected, logits = recompute(model, music, seeds(2, length), 25, context=8)
    heads = Heads(model)
    upper, lower = model.generate_codes(music, *seeds(2, length), steps=25)
    torch.testing.assert_close(heads.logits(), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close([upper, lower], expected)


@pytest.mark.parametrize("kind", ["absolute", "rotary"])
def test_songs_together_dance_as_alone(kind: str) -> None:
    model = gpt(position_embedding_type=kind)
    music, (upper, lower) = random_music(3, 30, 6), seeds(3)
    together = model.generate_codes(music, upper, lower, steps=20)
    for song in range(3):
        one = slice(song, song + 1)
        alone = model.generate_codes(music[one], upper[one], lower[one], steps=20)
        torch.testing.assert_close([codes[one] for codes in together], list(alone))


@pytest.mark.parametrize("kind", ["absolute", "rotary"])
def test_music_window_generation_is_the_forward_pass(kind: str) -> None:
    model = gpt(position_embedding_type=kind, music_window=16)
    music = random_music(2, 8 * 30 + 32, 6)
    expected, logits = recompute(model, music, seeds(2), 30, context=8 if kind == "absolute" else None)
    heads = Heads(model)
    upper, lower = model.generate_codes(music, *seeds(2), steps=30)
    torch.testing.assert_close(heads.logits(), logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close([upper, lower], expected)


def test_music_window_looks_as_far_ahead_as_it_says() -> None:
    """With rotary positions a code hears ``music_window`` frames ahead at most, and the same from any window."""
    model = gpt(position_embedding_type="rotary", music_window=16, num_music_layers=2)
    music = random_music(1, 8 * 6 + 32, 6)
    later = music.clone()
    later[:, 8 * 3 + 32 :] = 0  # beyond 16 frames after the third entry
    with torch.no_grad():
        whole, cut, part = (
            model.embed_music(music),
            model.embed_music(later),
            model.embed_music(music[:, 16:-8]),
        )
        long = random_music(1, 8 * 150 + 32, 6)
        torch.testing.assert_close(model._embed_song(long), model.embed_music(long), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(whole[:, :3], cut[:, :3])
    assert (whole[:, 3] - cut[:, 3]).abs().max() > 1e-3
    torch.testing.assert_close(whole[:, 2:5], part, rtol=1e-5, atol=1e-5)


def test_music_is_padded_with_zeros_and_its_first_code_dropped() -> None:
    model = gpt(music_window=16)
    song = torch.arange(1.0, 41)[None, :, None].expand(1, 40, 6)  # five codes
    padded = model.pad_music(song, 5)[0, :, 0]
    assert padded.tolist() == [0.0] * 8 + list(range(1, 41)) + [0.0] * 16
    # A song that goes on is heard beyond the dance.
    assert model.pad_music(song, 4)[0, :, 0].tolist() == [0.0] * 8 + list(range(1, 41)) + [0.0] * 8
    with pytest.raises(ValueError, match="too few"):
        model.pad_music(song, 6)
    assert gpt().pad_music(song, 5).shape == (1, 4, 6)


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ValueError, match="codebook_min_count must be positive, got 0"):
        BailandoVQVAEConfig(codebook_min_count=0)
    model = gpt()
    with pytest.raises(ValueError, match="9 absolute positions"):
        model(*seeds(1, 10), random_music(1, 10, 6))
    with pytest.raises(ValueError, match="entries of music"):
        model(*seeds(1, 5), random_music(1, 4, 6))
    with pytest.raises(ValueError, match="too few"):
        model.generate_codes(random_music(1, 4, 6), *seeds(), steps=5)
    with pytest.raises(ValueError, match="absolute or rotary"):
        BailandoGPTConfig(position_embedding_type="learned")
    with pytest.raises(ValueError, match="multiple of 8"):
        BailandoGPTConfig(music_window=12)


def test_sampling_draws_from_the_likeliest() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(4000, 4)

    def share(**options: Any) -> list[float]:
        config = GenerationConfig(do_sample=True, **options)
        noise = draw_noise(1, logits.shape, torch.Generator().manual_seed(0))[0]
        draws = choose_codes(logits, config, noise)
        return (torch.bincount(draws, minlength=4) / len(draws)).tolist()

    assert share() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=0.03)
    assert share(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert share(top_p=0.79) == pytest.approx([0.625, 0.375, 0, 0], abs=0.03)
    assert share(top_p=0.81) == pytest.approx([0.526, 0.316, 0.158, 0], abs=0.03)
    assert share(top_p=0.0) == [1, 0, 0, 0]
    assert share(temperature=0.5)[0] == pytest.approx(0.25 / 0.365, abs=0.03)
    assert share(top_k=2, top_p=0.6) == [1, 0, 0, 0]


def test_sampling_is_repeatable_and_streamed() -> None:
    class Streamer:
        def __init__(self) -> None:
            self.steps: list[torch.Tensor] = []
            self.ended = 0

        def put(self, codes: torch.Tensor) -> None:
            assert codes.shape == (2, 2)
            self.steps.append(codes)

        def end(self) -> None:
            self.ended += 1

    model, music, streamer = gpt(position_embedding_type="rotary"), random_music(2, 20, 6), Streamer()
    runs = [
        model.generate_codes(
            music, *seeds(2), steps=15, do_sample=True, top_p=0.95, temperature=2.0, streamer=streamer,
            generator=torch.Generator().manual_seed(seed),
        )
        for seed in (0, 0, 1)
    ]  # fmt: skip
    torch.testing.assert_close(runs[0], runs[1])
    assert any((a != b).any() for a, b in zip(runs[0], runs[2], strict=True))
    assert streamer.ended == 3
    torch.testing.assert_close(torch.stack(streamer.steps[:15], dim=1)[..., 0], runs[0][0][:, 1:])
    torch.testing.assert_close(torch.stack(streamer.steps[:15], dim=1)[..., 1], runs[0][1][:, 1:])


def test_vqvae_trains_in_mixed_precision() -> None:
    model = BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE, rotation_head=True)).train()
    joints = torch.randn(2, 32, 24, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(joints, joints[:, :, 0], torch.randn(2, 32, 24, 3, 3))
    output.loss.backward()
    assert output.joints.dtype == torch.float32


def test_half_precision_generates() -> None:
    model = gpt(position_embedding_type="rotary").to(torch.bfloat16)
    upper, _ = model.generate_codes(random_music(1, 20, 6), *seeds(), steps=15)
    assert upper.shape == (1, 16)


@pytest.mark.parametrize("options", [{}, {"position_embedding_type": "rotary", "music_window": 16}])
def test_options_are_saved(options: dict[str, Any], tmp_path: Path) -> None:
    model = gpt(**options)
    model.save_pretrained(tmp_path)
    again = BailandoGPT.from_pretrained(tmp_path).eval()
    music = random_music(1, 100, 6)
    torch.testing.assert_close(
        again.generate_codes(music, *seeds(), steps=7), model.generate_codes(music, *seeds(), steps=7)
    )


def test_models_saved_before_there_were_options_load(tmp_path: Path) -> None:
    whole = BailandoForDanceGeneration(
        BailandoConfig(BailandoVQVAEConfig(**SMALL_VQVAE), BailandoGPTConfig(**SMALL))
    ).eval()
    whole.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for part, names in (
        ("vqvae_config", ["rotation_head"]),
        (
            "gpt_config",
            ["position_embedding_type", "attention_window", "rotary_base", "music_window", "num_music_layers",
             "frames_per_code"],
        ),
    ):  # fmt: skip
        for name in names:
            del config[part][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    again, info = BailandoForDanceGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    music = random_music(1, 12, 6)
    dances = [
        m.eval().generate_dance(music, 90, generator=torch.Generator().manual_seed(0)) for m in (whole, again)
    ]
    torch.testing.assert_close(dances[0].joints, dances[1].joints)
    assert dances[0].rotations is None


def test_nearest_rotations() -> None:
    matrices = torch.randn(200, 3, 3, generator=torch.Generator().manual_seed(0))
    rotations = nearest_rotations(matrices)
    torch.testing.assert_close(rotations @ rotations.mT, torch.eye(3).expand(200, 3, 3), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(rotations), torch.ones(200), rtol=0, atol=1e-5)
    torch.testing.assert_close(nearest_rotations(rotations), rotations, rtol=0, atol=1e-5)
    # No rotation nearby is nearer.
    turns = torch.linalg.matrix_exp(0.05 * (lambda a: a - a.mT)(torch.randn(200, 3, 3)))
    near, far = ((matrices - r).square().sum((-1, -2)) for r in (rotations, turns @ rotations))
    assert (near <= far + 1e-5).all()


def test_rotation_head_learns_alone_or_along() -> None:
    torch.manual_seed(0)
    model = BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE, rotation_head=True)).train()
    joints, velocity = torch.randn(2, 32, 24, 3), torch.randn(2, 32, 3)
    rotations = nearest_rotations(torch.randn(2, 32, 24, 3, 3))
    output = model(joints, velocity, rotations)
    total = output.pose_loss + output.root_loss + output.rotation_loss
    torch.testing.assert_close(output.loss, total)
    assert model(joints, velocity).rotation_loss is None
    model.freeze_all_but_rotation()
    with pytest.raises(ValueError, match="give rotations"):
        model(joints)
    step, before = model.upper.codebook.step.clone(), model(joints, rotations=rotations).loss
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.Adam(learning, lr=1e-2)
    for _ in range(20):
        optimizer.zero_grad()
        loss = model(joints, rotations=rotations).loss
        loss.backward()
        optimizer.step()
    assert loss < 0.9 * before
    assert model.upper.codebook.step == step
    decoded = model.decode_rotations(output.upper_codes, output.lower_codes)
    assert decoded.shape == (2, 32, 24, 3, 3)
    plain = BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE))
    for refused in (
        plain.freeze_all_but_rotation,
        lambda: plain.decode_rotations(output.upper_codes, output.lower_codes),
        lambda: plain(joints, rotations=rotations),
    ):
        with pytest.raises(ValueError, match="no rotation head"):
            refused()


def test_dance_with_all_options() -> None:
    torch.manual_seed(0)
    config = BailandoConfig(
        BailandoVQVAEConfig(**SMALL_VQVAE, rotation_head=True),
        BailandoGPTConfig(**{**SMALL, "position_embedding_type": "rotary", "music_window": 16}),
    )
    model = BailandoForDanceGeneration(config).eval()
    for half in (model.vqvae.upper, model.vqvae.lower):
        torch.nn.init.normal_(half.codebook.codes)
    dance = model.generate_dance(random_music(2, 300, 6), 300, generator=torch.Generator().manual_seed(0))
    assert dance.joints.shape == (2, 300, 24, 3)
    assert dance.upper_codes.shape == (2, 38)
    assert model.generate_dance(random_music(1, 5, 6), 5).joints.shape == (1, 5, 24, 3)  # one code, given
    torch.testing.assert_close(torch.linalg.det(dance.rotations), torch.ones(2, 300, 24), rtol=0, atol=1e-4)
    with pytest.raises(ValueError, match="do not last"):
        model.generate_dance(random_music(2, 299, 6), 300)


def test_actor_critic_learns_to_keep_the_beat(tmp_path: Path) -> None:
    """Where one code is always rewarded, it becomes likelier, and the frozen base stays as it was."""
    torch.manual_seed(0)
    config = BailandoActorCriticConfig(
        BailandoGPTConfig(**{**SMALL, "initializer_range": 0.05}), num_critic_layers=1
    )
    model = BailandoActorCritic(config).train()
    assert not model.gpt.training
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    upper, lower = torch.randint(32, (2, 16, 9))
    upper[:, ::2] = 7
    rewards = torch.where(upper[:, 1:] == 7, 5.0, -5.0)
    batch = (upper, lower, random_music(16, 9, 6), rewards, torch.ones(16, 8))
    first = model(*batch)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    for _ in range(60):
        optimizer.zero_grad()
        output = model(*batch)
        output.loss.backward()
        optimizer.step()
    assert output.critic_loss < 0.8 * first.critic_loss
    likely = [o.upper_logits.softmax(-1)[..., 7].mean() for o in (first, output)]
    assert likely[1] > 2 * likely[0]
    for name, p in model.named_parameters():
        if name in frozen:
            torch.testing.assert_close(p, frozen[name], rtol=0, atol=0)
    model.save_pretrained(tmp_path)
    again = BailandoActorCritic.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(again(*batch).loss, model.eval()(*batch).loss)


def test_rewards_and_masks() -> None:
    time = torch.arange(64) / 60
    # Every joint swings at 1.875 Hz, and rests every 16 frames.
    joints = torch.sin(2 * torch.pi * 1.875 * time)[None, :, None, None].expand(1, 64, 24, 3)
    beats = torch.zeros(1, 64)
    beats[0, [20, 40]] = 1
    paper, committed = (beat_rewards(joints, beats, form=form)[0].tolist() for form in ("paper", "committed"))
    danced = [i for i, r in enumerate(beat_rewards(joints, torch.ones(1, 64), form="committed")[0]) if r > 0]
    assert paper == [-5 if i in (2, 5) and i not in danced else 5 for i in range(8)]
    assert committed == [5 if i in (2, 5) and i in danced else -5 for i in range(8)]
    mask = window_mask(torch.tensor([0, 3]), 4)
    assert mask.tolist() == [[True] * 4, [False] * 3 + [True]]
    vqvae = BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE)).eval()
    upper, lower = seeds(1, 4)
    joints, velocity = vqvae.decode(upper, lower)
    torch.testing.assert_close(reward_joints(vqvae, upper, lower)[:, :, 0], velocity)
    moving = reward_joints(vqvae, upper, lower, "steps")
    torch.testing.assert_close(moving, join_root(joints, velocity))


def test_steps_are_rewarded_by_where_in_the_beat_they_fall() -> None:
    # The left toe rests at frames 0 to 20, moves by 1 m, and rests again from frame 40 on.
    joints = torch.zeros(1, 128, 24, 3)
    joints[0, :, 10, 0] = ((torch.arange(128) - 20) / 20).clamp(0, 1)
    joints[0, :, 15, 1] = 1.7
    events = [int(found[0]) for found in reversed(foot_events(joints[0].numpy()))]
    assert len(events) == 2
    for shift, sign in ((0, 1), (10, -1)):
        beats = torch.zeros(1, 128)
        beats[0, events[0] % 20 + shift :: 20] = 1
        rewards = beat_rewards(joints, beats, form="steps", frames_per_code=4)
        assert rewards.shape == (1, 32)
        assert set(rewards[0].nonzero().flatten().tolist()) == {event // 4 for event in events}
        assert rewards[0, events[0] // 4] == pytest.approx(5 if sign > 0 else -5 / 3, abs=1e-4)
    assert not beat_rewards(joints, torch.zeros(1, 128), form="steps").any()
    assert not beat_rewards(0 * joints + joints[:, :1], beats, form="steps").any()


def test_a_scaled_start_keeps_the_size_of_what_passes_through() -> None:
    """Half of the body through an encoder and a decoder: the default start lets it fade, the scaled one does not."""
    spread = {}
    for scaled in (False, True):
        torch.manual_seed(0)
        model = BailandoVQVAE(BailandoVQVAEConfig(hidden_size=32, scaled_init=scaled))
        poses = torch.randn(4, 45, 64)
        hidden = model.upper.encoder(poses)
        spread[scaled] = hidden.std().item(), model.upper.decoder(hidden).std().item()
    assert max(spread[False]) < 0.3
    assert 0.5 < min(spread[True]) <= max(spread[True]) < 3


@pytest.mark.parametrize("min_count", [0.05, 1.0])
def test_codes_that_nobody_uses_are_replaced_from_the_first_update(min_count: float) -> None:
    codebook = BailandoVQVAE(BailandoVQVAEConfig(**SMALL_VQVAE, codebook_min_count=min_count)).upper.codebook
    vectors = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
    codebook.initialise(codebook.draw(vectors))
    before = codebook.codes.clone()
    one = before[:1].repeat(32, 1)  # all of the batch stands next to a single code
    codebook.update(one, codebook.quantize(one), codebook.draw(one))
    torch.testing.assert_close(codebook.codes[0], before[0])
    assert all(torch.equal(code, before[0]) for code in codebook.codes[1:])


def test_long_dances_are_decoded_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    from opendance_hf.modeling.bailando import BailandoVQVAE, BailandoVQVAEConfig, modeling_bailando_vqvae

    torch.manual_seed(0)
    model = BailandoVQVAE(BailandoVQVAEConfig(codebook_size=16, hidden_size=8)).eval()
    codes = torch.randint(0, 16, (2, 2, 300))
    whole = model.decode(*codes)
    monkeypatch.setattr(modeling_bailando_vqvae, "_WHOLE_CODES", 64)
    monkeypatch.setattr(modeling_bailando_vqvae, "_CODES_AT_A_TIME", 64)
    for one, other in zip(whole, model.decode(*codes), strict=True):
        torch.testing.assert_close(other, one, atol=1e-5, rtol=1e-5)
