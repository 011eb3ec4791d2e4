"""Bailando++ of the paper: who sees whom and when, the solo model inside it, and where dancers stand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPT,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
    split_root,
)
from opendance_hf.modeling.bailando_pp import (
    BailandoPPConfig,
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTConfig,
    facing,
    placement_of,
    turn,
)
from opendance_hf.motion.skeleton import MEAN_OFFSETS, PARENTS

SIZES = {
    "codebook_size": 11, "music_dim": 7, "hidden_size": 24, "num_base_layers": 2, "num_head_layers": 1,
    "num_attention_heads": 4, "max_codes": 6,
}  # fmt: skip
VQVAE = {"hidden_size": 8, "codebook_size": 11, "num_residual_layers": 1}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def shake(model: torch.nn.Module) -> None:
    """Random values everywhere: also in positions and heads that start at zero."""
    torch.manual_seed(0)
    with torch.no_grad():
        for value in [*model.parameters(), *model.buffers()]:
            if value.is_floating_point() and value.ndim > 0:
                value.copy_(torch.randn_like(value) * 0.3)


def tiny(max_dancers: int = 3, **options: Any) -> BailandoPPGPT:
    model = BailandoPPGPT(BailandoPPGPTConfig(**{**SIZES, "max_dancers": max_dancers, **options})).eval()
    shake(model)
    return model


def whole(max_dancers: int = 3) -> BailandoPPForDanceGeneration:
    gpt = BailandoPPGPTConfig(**{**SIZES, "max_dancers": max_dancers})
    model = BailandoPPForDanceGeneration(BailandoPPConfig(BailandoVQVAEConfig(**VQVAE), gpt)).eval()
    shake(model)
    return model


def pieces(batch: int = 2, dancers: int = 2, steps: int = 6) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    codes = torch.randint(11, (2, batch, dancers, steps), generator=generator)
    music = torch.randn(batch, steps, 7, generator=generator)
    return {"upper_codes": codes[0], "lower_codes": codes[1], "music": music}


def logits(model: BailandoPPGPT, **inputs: torch.Tensor) -> torch.Tensor:
    """(B, N, S, 2 * codebook_size)"""
    with torch.no_grad():
        output = model(**inputs)
    return torch.cat([output.upper_logits, output.lower_logits], dim=-1)


def standing(yaw: list[float], position: list[list[float]], frames: int = 16) -> torch.Tensor:
    """(1, N, frames, 24, 3) people in the rest pose."""
    rest = torch.zeros(24, 3)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        rest[joint] = rest[parent] + torch.tensor(MEAN_OFFSETS[joint])
    still = torch.atan2(rest[1, 2] - rest[2, 2], rest[1, 0] - rest[2, 0])  # the mean hips are not quite level
    bodies = turn(rest.expand(len(yaw), 24, 3), (torch.tensor(yaw) + still)[:, None])
    bodies = bodies + torch.tensor(position)[:, None]
    return bodies[None, :, None].repeat(1, 1, frames, 1, 1)


# One block: what is seen there is seen directly and not through the music, which sees everybody.
BLOCKS = [
    {"num_base_layers": 1, "num_head_layers": 0},
    {},
    {"position_embedding_type": "rotary", "hidden_size": 32},
]


@pytest.mark.parametrize("dancers", [2, 3])
@pytest.mark.parametrize("stream", ["upper_codes", "lower_codes"])
@pytest.mark.parametrize("options", BLOCKS)
def test_a_code_is_seen_by_all_dancers_from_its_step_on(
    dancers: int, stream: str, options: dict[str, Any]
) -> None:
    model, inputs = tiny(**options), pieces(dancers=dancers)
    before = logits(model, **inputs)
    assert torch.isfinite(before).all()
    for step in range(6):
        changed = inputs[stream].clone()
        changed[:, 1, step] = (changed[:, 1, step] + 1) % 11
        moved = (logits(model, **{**inputs, stream: changed}) - before).abs().amax(-1)  # (B, N, S)
        assert (moved[..., :step] == 0).all()
        assert (moved[..., step:] > 1e-6).all()


def test_music_is_heard_by_all_dancers_from_its_step_on() -> None:
    model, inputs = tiny(), pieces()
    before = logits(model, **inputs)
    for step in range(6):
        music = inputs["music"].clone()
        music[:, step] += 1
        moved = (logits(model, **{**inputs, "music": music}) - before).abs().amax(-1)
        assert (moved[..., :step] == 0).all()
        assert (moved[..., step:] > 1e-6).all()


@pytest.mark.parametrize(
    "options", [{}, {"position_embedding_type": "rotary", "hidden_size": 32, "attention_window": 3}]
)
def test_alone_it_is_the_solo_model(options: dict[str, Any]) -> None:
    sizes = {**SIZES, **options}
    solo = BailandoGPT(BailandoGPTConfig(**sizes)).eval()
    shake(solo)
    model = BailandoPPGPT.from_solo(solo).eval()
    inputs = pieces(dancers=1)
    output = model(**inputs)
    alone = solo(inputs["upper_codes"][:, 0], inputs["lower_codes"][:, 0], inputs["music"])
    torch.testing.assert_close(output.upper_logits[:, 0], alone.upper_logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.lower_logits[:, 0], alone.lower_logits, rtol=0, atol=1e-6)
    assert output.placement.shape == (2, 0, 6, 4)
    # Its state dictionary does as well, and a wrong one is told.
    config = BailandoPPGPTConfig(**sizes, max_dancers=3)
    other = BailandoPPGPT.from_solo(solo.state_dict(), config).eval()
    torch.testing.assert_close(other(**inputs).upper_logits, output.upper_logits)
    assert other.dancer_embedding.weight[1:].abs().min() > 0
    with pytest.raises(ValueError, match="give config"):
        BailandoPPGPT.from_solo(solo.state_dict())
    with pytest.raises(ValueError, match=r"not the weights of a solo Bailando GPT.*upper_head"):
        BailandoPPGPT.from_solo(solo, BailandoPPGPTConfig(**{**sizes, "codebook_size": 12}))
    with pytest.raises(ValueError, match="music_window"):
        BailandoPPGPTConfig(**SIZES, music_window=40)
    with pytest.raises(ValueError, match=r"not the weights of a solo Bailando GPT.*ln_f"):
        BailandoPPGPT.from_solo({k: v for k, v in solo.state_dict().items() if "ln_f" not in k}, config)


def test_alone_it_dances_as_the_solo_model() -> None:
    config = BailandoConfig(BailandoVQVAEConfig(**VQVAE), BailandoGPTConfig(**SIZES))
    solo = BailandoForDanceGeneration(config).eval()
    shake(solo)
    model = BailandoPPForDanceGeneration.from_solo(solo).eval()
    music, seed = torch.randn(2, 12, 7), torch.randn(2, 16, 24, 3)
    ours = model.generate_dance(music, 90, seed_joints=seed[:, None], do_sample=False)
    alone = solo.generate_dance(music, 90, seed_joints=seed, do_sample=False)
    assert torch.equal(ours.upper_codes[:, 0], alone.upper_codes)
    assert torch.equal(ours.lower_codes[:, 0], alone.lower_codes)
    torch.testing.assert_close(ours.joints[:, 0, :, 1:], alone.joints[:, :, 1:], rtol=1e-4, atol=1e-4)


def test_dancers_change_places_with_their_embeddings() -> None:
    model, inputs = tiny(), pieces(dancers=3)
    order = torch.tensor([2, 0, 1])
    swapped = {name: value if name == "music" else value[:, order] for name, value in inputs.items()}
    torch.testing.assert_close(
        logits(model, **swapped, dancers=order), logits(model, **inputs)[:, order], rtol=1e-4, atol=1e-5
    )
    per_piece = order.expand(2, 3)
    torch.testing.assert_close(
        logits(model, **swapped, dancers=per_piece), logits(model, **swapped, dancers=order)
    )
    assert not torch.allclose(logits(model, **swapped), logits(model, **inputs)[:, order], atol=1e-3)


def test_loss_sums_halves_and_averages_dancers() -> None:
    model, inputs = tiny(placement_weight=0.5), pieces(dancers=3)
    upper, lower = torch.randint(11, (2, 2, 3, 6))
    placement = torch.randn(2, 2, 6, 4)
    output = model(**inputs, upper_targets=upper, lower_targets=lower, placement_targets=placement)
    expected = 0.5 * (output.placement - placement).abs().mean()
    for found, targets in ((output.upper_logits, upper), (output.lower_logits, lower)):
        each = [F.cross_entropy(found[:, d].flatten(0, 1), targets[:, d].flatten()) for d in range(3)]
        expected = expected + torch.stack(each).mean()
    torch.testing.assert_close(output.loss, expected)
    torch.testing.assert_close(sum(output.metrics.values()), expected.detach())
    output.loss.backward()
    assert all(value.grad is not None and value.grad.abs().max() > 0 for value in model.parameters())
    alone = model(**pieces(dancers=1), upper_targets=upper[:, :1], lower_targets=lower[:, :1],
                  placement_targets=torch.zeros(2, 0, 6, 4))  # fmt: skip
    assert torch.isfinite(alone.loss)


def test_the_partner_is_used() -> None:
    """Dancer 2 echoes dancer 1, who does as they please: alone, neither can be foretold better than by chance."""
    torch.manual_seed(0)
    size, steps = 6, 5
    config = BailandoPPGPTConfig(
        codebook_size=size, music_dim=2, hidden_size=48, num_base_layers=1, num_head_layers=1,
        num_attention_heads=4, max_codes=steps, dropout=0.0,
    )  # fmt: skip
    model = BailandoPPGPT(config)
    answer = torch.stack([torch.randperm(size), torch.randperm(size)])  # of the upper and of the lower body
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def draw() -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        leader = torch.randint(size, (2, 32, steps + 1))
        follower = torch.randint(size, (2, 32, steps + 1))
        for half in range(2):
            follower[half, :, 1:] = answer[half][leader[half, :, :-1]]
        both = torch.stack([leader, follower], dim=2)
        inputs = {"upper_codes": both[0, ..., :-1], "lower_codes": both[1, ..., :-1],
                  "music": torch.randn(32, steps, 2)}  # fmt: skip
        return inputs, both[..., 1:]

    for _ in range(200):
        inputs, targets = draw()
        loss = model(**inputs, upper_targets=targets[0], lower_targets=targets[1]).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    inputs, targets = draw()
    with torch.no_grad():
        output = model(**inputs)
    chance = math.log(size)
    for found, half in ((output.upper_logits, targets[0]), (output.lower_logits, targets[1])):
        leader, follower = (
            F.cross_entropy(found[:, dancer].flatten(0, 1), half[:, dancer].flatten()) for dancer in (0, 1)
        )
        assert leader > 0.9 * chance
        assert follower < 0.2 * chance


@pytest.mark.parametrize("dancers", [1, 2, 3])
@pytest.mark.parametrize(
    "how",
    [
        {},
        {"do_sample": True},
        {"do_sample": True, "top_k": 3, "temperature": 0.7},
        {"do_sample": True, "top_p": 0.6},
    ],
)
def test_generated_codes(dancers: int, how: dict[str, Any]) -> None:
    model, inputs = tiny(), pieces(dancers=dancers, steps=2)
    music = torch.randn(2, 12, 7)

    def run(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
        generator = torch.Generator().manual_seed(seed)
        return model.generate_codes(
            music, inputs["upper_codes"], inputs["lower_codes"], 9, **how, generator=generator
        )

    upper, lower = run()
    assert upper.shape == lower.shape == (2, dancers, 11)
    assert torch.equal(upper[..., :2], inputs["upper_codes"])
    assert ((lower >= 0) & (lower < 11)).all()
    assert all(torch.equal(a, b) for a, b in zip(run(), (upper, lower), strict=True))
    # Each step is drawn from the logits of the last max_codes - 1 steps of everybody.
    for count in range(2, 11):
        window = slice(max(0, count - 5), count)
        output = model(upper[..., window], lower[..., window], music[:, window])
        for found, codes in ((output.upper_logits, upper), (output.lower_logits, lower)):
            rank = (found[:, :, -1] > found[:, :, -1].gather(-1, codes[..., count, None])).sum(-1)
            most = how.get("top_k", 11) if how else 1
            assert (rank < most).all()
            if "top_p" in how:
                chance = found[:, :, -1].softmax(-1)
                mine = chance.gather(-1, codes[..., count, None])
                assert (chance.where(chance > mine, 0).sum(-1) < 0.6 + 1e-6).all()


@pytest.mark.parametrize("window", [None, 3])
def test_rotary_generation_is_the_forward_pass_of_the_whole(window: int | None) -> None:
    options = {"position_embedding_type": "rotary", "hidden_size": 32, "attention_window": window}
    model, inputs, music = tiny(**options), pieces(dancers=3, steps=4), torch.randn(2, 20, 7)
    upper, lower = model.generate_codes(music, inputs["upper_codes"], inputs["lower_codes"], 16)
    with torch.no_grad():
        output = model(upper[..., :-1], lower[..., :-1], music[:, :19])
    assert torch.equal(output.upper_logits.argmax(-1)[..., 3:], upper[..., 4:])
    assert torch.equal(output.lower_logits.argmax(-1)[..., 3:], lower[..., 4:])


def test_draws_follow_the_distribution() -> None:
    model = tiny(max_dancers=2)
    inputs = {name: value[:1].repeat_interleave(4000, 0) for name, value in pieces(steps=1).items()}
    music = inputs["music"].expand(-1, 1, -1)
    generator = torch.Generator().manual_seed(0)
    upper, _ = model.generate_codes(
        music, inputs["upper_codes"], inputs["lower_codes"], 1, do_sample=True, generator=generator
    )
    chance = model(**{name: value[:1] for name, value in inputs.items()}).upper_logits[0, :, -1].softmax(-1)
    for dancer in range(2):
        seen = torch.bincount(upper[:, dancer, 1], minlength=11) / 4000
        np.testing.assert_allclose(seen, chance[dancer].detach(), atol=0.03)


def test_batch_is_its_pieces() -> None:
    model = whole()
    music, seeds = torch.randn(3, 12, 7), torch.randn(3, 2, 24, 24, 3)
    together = model.generate_dance(music, 96, seed_joints=seeds, do_sample=False)
    for piece in range(3):
        one = slice(piece, piece + 1)
        alone = model.generate_dance(music[one], 96, seed_joints=seeds[one], do_sample=False)
        assert torch.equal(together.upper_codes[one], alone.upper_codes)
        torch.testing.assert_close(together.joints[one], alone.joints, rtol=1e-4, atol=1e-4)


def test_facing_turn_and_placement() -> None:
    joints = standing([0.3, 2.0, -3.0], [[1.0, 0.9, 2.0], [3.0, 1.0, 2.0], [0.0, 0.8, 0.0]])
    np.testing.assert_allclose(facing(joints)[0, :, 0], [0.3, 2.0, -3.0], atol=1e-6)
    quarter = turn(torch.tensor([0.0, 1.0, 1.0]), torch.tensor(math.pi / 2))
    np.testing.assert_allclose(quarter, [1, 1, 0], atol=1e-6)  # from +z to the person's left, +x
    found = placement_of(joints)
    assert found.shape == (1, 2, 2, 4)
    # Two metres along x from one who faces 0.3 to the left: x = 2 cos 0.3 at their left, 2 sin 0.3 before them.
    np.testing.assert_allclose(
        found[0, 0, 0], [2 * math.cos(0.3), 2 * math.sin(0.3), math.sin(1.7), math.cos(1.7)], atol=1e-5
    )
    # It does not matter where the pair stands and how it is turned as a whole.
    moved = turn(joints, torch.tensor(1.234)) + torch.tensor([5.0, 0.1, -7.0])
    torch.testing.assert_close(placement_of(moved), found, rtol=1e-4, atol=1e-5)


def test_start_is_as_given() -> None:
    model, music = whole(), torch.randn(2, 12, 7)
    positions, yaw = torch.randn(2, 3, 3), torch.tensor([[0.0, 3.0, -2.0], [1.0, -1.0, 0.5]])
    seeds = torch.randn(2, 3, 16, 24, 3)
    for seed in (None, seeds):
        dance = model.generate_dance(
            music, 90, seed_joints=seed, start_positions=positions, start_facing=yaw, do_sample=False,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        assert dance.joints.shape == (2, 3, 90, 24, 3)
        assert torch.isfinite(dance.joints).all()
        torch.testing.assert_close(dance.joints[:, :, 0, 0], positions, rtol=0, atol=1e-6)
        torch.testing.assert_close(facing(dance.joints[:, :, 0]), yaw, rtol=0, atol=1e-4)
        torch.testing.assert_close(dance.start_positions, positions, rtol=0, atol=1e-6)
    # A turn moves no joint relative to the others: it is the same dance.
    other = model.generate_dance(music, 90, seed_joints=seeds, do_sample=False)
    turned = turn(
        other.joints - other.start_positions[:, :, None, None], (yaw - other.start_facing)[..., None, None]
    )
    torch.testing.assert_close(dance.joints, turned + positions[:, :, None, None], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(other.joints[:, :, 0, 0], seeds[:, :, 0, 0], rtol=0, atol=1e-6)
    relative, _ = split_root(seeds[:, 1])
    upper, _ = model.vqvae.encode(relative)
    assert torch.equal(other.upper_codes[:, 1, :2], upper)


def test_start_is_foretold_when_nothing_is_given() -> None:
    model, music = whole(), torch.randn(1, 12, 7)
    dance = model.generate_dance(music, 90, num_dancers=3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        foretold = model.gpt(dance.upper_codes[..., :1], dance.lower_codes[..., :1], music[:, 1:2]).placement
    found = placement_of(dance.joints)[:, :, 0]
    torch.testing.assert_close(found[..., :2], foretold[:, :, 0, :2], rtol=1e-3, atol=1e-4)
    unit = F.normalize(foretold[:, :, 0, 2:], dim=-1)
    torch.testing.assert_close(found[..., 2:], unit, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(dance.joints[:, 0, 0, 0], 0, atol=1e-6)
    # Before anything is learned: a row, all facing the same way.
    gpt = BailandoPPGPTConfig(**{**SIZES, "max_dancers": 3, "dancer_spacing_m": 1.5})
    fresh = BailandoPPForDanceGeneration(BailandoPPConfig(BailandoVQVAEConfig(**VQVAE), gpt)).eval()
    with torch.no_grad():
        for half in (fresh.vqvae.upper, fresh.vqvae.lower):
            half.codebook.codes.normal_()
    dance = fresh.generate_dance(music, 40, num_dancers=3)
    row = placement_of(dance.joints)[0, :, 0]
    np.testing.assert_allclose(row, [[1.5, 0, 0, 1], [-1.5, 0, 0, 1]], atol=1e-4)


def test_placement_is_learned() -> None:
    torch.manual_seed(0)
    model = BailandoPPGPT(BailandoPPGPTConfig(**SIZES, dropout=0.0))
    inputs = pieces()
    targets = placement_of(standing([0.0, math.pi], [[0.0, 0.9, 0.0], [0.2, 0.9, 1.4]], 48)).repeat(
        2, 1, 1, 1
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(120):
        output = model(**inputs, placement_targets=targets)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
    assert (output.placement - targets).abs().mean() < 0.1


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, music = whole(), torch.randn(1, 6, 7)
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded, info = BailandoPPForDanceGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert loaded.config.model_type == "bailando_pp"
    assert loaded.config.gpt_config.max_dancers == 3
    assert isinstance(loaded.config.gpt_config, BailandoPPGPTConfig)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    seeds = torch.randn(1, 2, 8, 24, 3)
    torch.testing.assert_close(
        loaded.generate_dance(music, 45, seed_joints=seeds, do_sample=False).joints,
        model.generate_dance(music, 45, seed_joints=seeds, do_sample=False).joints,
    )


@pytest.mark.parametrize("frames", [1, 8, 9, 47, 48])
def test_length_is_exact(frames: int) -> None:
    model, music = whole(), torch.randn(1, 6, 7)
    assert model.generate_dance(music[:, : math.ceil(frames / 8)], frames).joints.shape == (
        1,
        2,
        frames,
        24,
        3,
    )
    seeds = torch.randn(1, 2, 30, 24, 3)
    assert model.generate_dance(music, frames, seed_joints=seeds).joints.shape == (1, 2, frames, 24, 3)


def test_wrong_shapes_are_told() -> None:
    model, inputs = tiny(), pieces()
    cases: list[tuple[dict[str, Any], str]] = [
        ({"upper_codes": inputs["upper_codes"][:, 0]}, r"must both be \(B, N, S\)"),
        ({"lower_codes": inputs["lower_codes"][..., :5]}, r"must both be \(B, N, S\)"),
        ({"music": inputs["music"][..., :6]}, r"music \(2, 6, 6\) must be \(2, S, 7\)"),
        ({"music": inputs["music"][:, :5]}, "one row for each of 6 codes"),
        ({"placement_targets": torch.zeros(2, 2, 6, 4)}, r"must be \(2, 1, 6, 4\)"),
        (pieces(dancers=4), "4 dancers: this model has embeddings for 1 to 3"),
        (pieces(steps=7), "7 codes are more than max_codes 6"),
    ]
    for change, message in cases:
        with pytest.raises(ValueError, match=message):
            model(**{**inputs, **change})
    with pytest.raises(ValueError, match=r"5 entries of music are too few for 6 \+ 1 codes"):
        model.generate_codes(inputs["music"][:, :5], inputs["upper_codes"], inputs["lower_codes"], 1)
    band, music = whole(), torch.randn(2, 6, 7)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"num_frames": 49}, "6 music rows do not last 49 frames"),
        ({"seed_joints": torch.zeros(2, 2, 7, 24, 3)}, "at least 8 frames, got 7"),
        ({"seed_joints": torch.zeros(2, 8, 24, 3)}, "seed_joints has shape"),
        ({"start_positions": torch.zeros(2, 3)}, "start_positions has shape"),
        (
            {"start_positions": torch.zeros(2, 2, 3), "start_facing": torch.zeros(2, 3)},
            "start_facing has shape",
        ),
        ({"num_dancers": 4}, "4 dancers"),
    ]
    for change, message in wrong:
        with pytest.raises(ValueError, match=message):
            band.generate_dance(music, **{"num_frames": 48, **change})
