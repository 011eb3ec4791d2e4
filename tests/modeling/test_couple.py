"""Partners who stay together and hold hands: relations, their codes, and bodies that follow them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.metrics import hand_hold_distance
from opendance_hf.modeling.bailando import (
    BailandoConfig,
    BailandoForDanceGeneration,
    BailandoGPTConfig,
    BailandoVQVAEConfig,
)
from opendance_hf.modeling.bailando_pp import (
    BailandoPPConfig,
    BailandoPPForDanceGeneration,
    BailandoPPGPT,
    BailandoPPGPTConfig,
    BailandoRelationConfig,
    BailandoRelationVQVAE,
    facing,
    follow_relation,
    relation_of,
    turn,
)
from opendance_hf.modeling.bailando_pp.couple import APART_M, reach
from opendance_hf.motion.skeleton import JOINT_INDEX, PARENTS
from tests.modeling.test_bailando_pp import SIZES, VQVAE, pieces, shake, standing

RELATED = {**SIZES, "max_dancers": 3, "relation": True}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def whole(**options: Any) -> BailandoPPForDanceGeneration:
    gpt = BailandoPPGPTConfig(**{**RELATED, **options})
    config = BailandoPPConfig(BailandoVQVAEConfig(**VQVAE), gpt, BailandoRelationConfig(**VQVAE))
    model = BailandoPPForDanceGeneration(config).eval()
    shake(model)
    return model


def related(dancers: int, steps: int = 6) -> dict[str, torch.Tensor]:
    codes = torch.randint(11, (2, 2, dancers - 1, steps), generator=torch.Generator().manual_seed(2))
    return {**pieces(dancers=dancers, steps=steps), "place_codes": codes[0], "hands_codes": codes[1]}


def bones(joints: torch.Tensor) -> torch.Tensor:
    return (joints[..., 1:, :] - joints[..., list(PARENTS[1:]), :]).norm(dim=-1)


def couple(dancers: int = 2, frames: int = 300) -> torch.Tensor:
    """(1, N, frames, 24, 3): one partner before the first dancer, another to its right; each holds a hand of it, which sways."""
    yaw = [0.0, math.pi, math.pi / 2][:dancers]
    joints = standing(yaw, [[0.0, 0.9, 0.0], [0.0, 0.9, 0.9], [-0.9, 0.9, 0.0]][:dancers], frames)
    sway = 0.05 * torch.sin(torch.arange(frames) / 20)[:, None] * torch.tensor([0.0, 1.0, 0.0])
    holds = [("left", 1, "right", [0.2, 1.2, 0.45]), ("right", 2, "right", [-0.45, 1.2, 0.2])][: dancers - 1]
    for own, partner, other, middle in holds:
        for dancer, side in ((0, own), (partner, other)):
            names = [JOINT_INDEX[f"{side}_{part}"] for part in ("shoulder", "elbow", "wrist", "hand")]
            arm = joints[0, dancer][:, names].transpose(0, 1)
            joints[0, dancer, :, names] = reach(arm, torch.tensor(middle) + sway - arm[3]).transpose(0, 1)
    return joints


def drifted(joints: torch.Tensor) -> torch.Tensor:
    """Every dancer slides off another way, 0.6 m in 5 s, as decoded roots do."""
    ways = torch.tensor([[-1.0, 0.2, 0.2], [0.5, -0.1, 1.0], [-0.8, 0.1, 0.9]])[: joints.shape[1]]
    return joints + 0.002 * torch.arange(joints.shape[2])[:, None, None] * ways[:, None, None]


def held(joints: torch.Tensor) -> list[float]:
    """Return the share of frames in which each partner holds the first dancer's hand."""
    one, *others = joints[0].double().numpy()
    return [float((hand_hold_distance(one, other) < 0.2).mean()) for other in others]


def test_relation_is_seen_from_the_first_dancer() -> None:
    joints = standing([0.3, 2.0, -3.0], [[1.0, 0.9, 2.0], [3.0, 1.0, 2.0], [0.0, 0.8, 0.0]])
    found = relation_of(joints)
    assert found.shape == (1, 2, 16, 9)
    expected = [2 * math.cos(0.3), 0.1, 2 * math.sin(0.3), 0.3 * math.sin(1.7), 0.3 * math.cos(1.7)]
    np.testing.assert_allclose(found[0, 0, 0, :5], expected, atol=1e-5)
    hands = [JOINT_INDEX["left_hand"], JOINT_INDEX["right_hand"]]
    for number, (own, other) in enumerate((a, b) for a in hands for b in hands):
        distance = (joints[0, 2, 0, other] - joints[0, 0, 0, own]).norm()
        np.testing.assert_allclose(found[0, 1, 0, 5 + number], 0.3 / (0.3 + distance), rtol=1e-5)
    moved = turn(joints, torch.tensor(1.234)) + torch.tensor([5.0, 0.1, -7.0])
    torch.testing.assert_close(relation_of(moved), found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dancers", [2, 3])
@pytest.mark.parametrize("keep_start", [False, True])
def test_partners_that_drift_hold_hands_again(dancers: int, keep_start: bool) -> None:
    truth = couple(dancers)
    decoded, relation = drifted(truth), relation_of(truth)
    assert min(held(truth)) == 1
    assert max(held(decoded)) < 0.5
    together = follow_relation(decoded, relation, keep_start=keep_start)
    assert min(held(together)) > 0.95
    torch.testing.assert_close(bones(together), bones(decoded), rtol=0, atol=1e-5)
    off = (relation_of(together) - relation)[..., :5].abs().mean((0, 1, 2))
    assert (off < torch.tensor([0.05, 0.05, 0.05, 0.01, 0.01])).all()
    if keep_start:
        torch.testing.assert_close(together[:, :, 0, 0], decoded[:, :, 0, 0])
    # Roots are moved slowly: no frame is much faster than before.
    speed = (together - decoded)[..., 0, :].diff(dim=2).norm(dim=-1)
    assert speed.max() < 0.01


def test_nothing_moves_where_the_relation_holds_already() -> None:
    truth = couple()
    torch.testing.assert_close(follow_relation(truth, relation_of(truth)), truth, rtol=0, atol=5e-3)


def test_partners_are_turned_and_kept_apart() -> None:
    truth = standing([0.0, math.pi], [[0.0, 0.9, 0.0], [0.0, 0.9, 0.9]], 200)
    away = standing([0.0, 0.0], [[0.0, 0.9, 0.0], [0.0, 0.9, 0.9]], 200)
    found = follow_relation(away, relation_of(truth))
    assert (facing(found[0, 1]).cos() < -0.75).all()  # as far as FREE_RAD
    near = standing([0.0, math.pi], [[0.0, 0.9, 0.0], [0.0, 0.9, 0.1]], 200)
    apart = follow_relation(near, relation_of(near))
    assert ((apart[0, 1] - apart[0, 0])[:, 0].norm(dim=-1) > 0.9 * APART_M).all()


def test_an_arm_reaches_as_far_as_it_can() -> None:
    joints = standing([0.0], [[0.0, 0.9, 0.0]], 3)
    arm = joints[0, 0][:, [JOINT_INDEX[f"left_{part}"] for part in ("shoulder", "elbow", "wrist", "hand")]]
    arm = arm.transpose(0, 1)
    step = torch.tensor([[-0.2, 0.1, 0.2], [0.0, 0.0, 0.0], [3.0, 0.0, 0.0]])
    found = reach(arm, step)
    torch.testing.assert_close(found.diff(dim=0).norm(dim=-1), arm.diff(dim=0).norm(dim=-1))
    torch.testing.assert_close(found[3, :2], (arm[3] + step)[:2], rtol=0, atol=1e-5)
    toward = torch.nn.functional.normalize(found[2, 2] - found[0, 2], dim=-1)
    goal = torch.nn.functional.normalize(arm[2, 2] + step[2] - arm[0, 2], dim=-1)
    torch.testing.assert_close(toward, goal)


def test_relation_codes() -> None:
    vqvae = BailandoRelationVQVAE(BailandoRelationConfig(**VQVAE)).eval()
    shake(vqvae)
    relation = torch.randn(2, 3, 40, 9)
    place, hands = vqvae.encode(relation)
    assert place.shape == hands.shape == (2, 3, 5)
    output = vqvae(relation.flatten(0, 1))
    assert torch.equal(output.place_codes, place.flatten(0, 1))
    torch.testing.assert_close(output.relation.unflatten(0, (2, 3)), vqvae.decode(place, hands))
    # The hands do not depend on the place.
    other = relation.clone()
    other[..., :5] += 1
    assert torch.equal(vqvae.encode(other)[1], hands)


@pytest.mark.parametrize("dancers", [2, 3])
@pytest.mark.parametrize("stream", ["upper_codes", "hands_codes", "place_codes"])
@pytest.mark.parametrize("options", [{}, {"position_embedding_type": "rotary", "hidden_size": 32}])
def test_a_code_is_seen_in_all_streams_from_its_step_on(
    dancers: int, stream: str, options: dict[str, Any]
) -> None:
    model = BailandoPPGPT(BailandoPPGPTConfig(**{**RELATED, **options})).eval()
    shake(model)
    inputs = related(dancers)

    def logits(**changed: torch.Tensor) -> list[torch.Tensor]:
        with torch.no_grad():
            output = model(**{**inputs, **changed})
        return [output.upper_logits, output.lower_logits, output.place_logits, output.hands_logits]

    before = logits()
    for step in range(6):
        changed = inputs[stream].clone()
        changed[:, -1, step] = (changed[:, -1, step] + 1) % 11
        for one, other in zip(logits(**{stream: changed}), before, strict=True):
            moved = (one - other).abs().amax(-1)
            assert (moved[..., :step] == 0).all()
            assert (moved[..., step:] > 1e-6).all()


def test_alone_it_is_the_solo_model() -> None:
    solo = BailandoForDanceGeneration(
        BailandoConfig(BailandoVQVAEConfig(**VQVAE), BailandoGPTConfig(**SIZES))
    ).eval()
    shake(solo)
    relation = BailandoRelationVQVAE(BailandoRelationConfig(**VQVAE)).eval()
    config = BailandoPPGPTConfig(**RELATED)
    model = BailandoPPForDanceGeneration.from_solo(solo, config, relation).eval()
    inputs = pieces(dancers=1)
    output = model.gpt(**inputs)
    alone = solo.gpt(inputs["upper_codes"][:, 0], inputs["lower_codes"][:, 0], inputs["music"])
    torch.testing.assert_close(output.upper_logits[:, 0], alone.upper_logits, rtol=0, atol=1e-6)
    torch.testing.assert_close(output.lower_logits[:, 0], alone.lower_logits, rtol=0, atol=1e-6)
    assert output.place_logits is None
    how: dict[str, Any] = {"do_sample": True, "guidance_scale": 2.0}
    music = torch.randn(1, 12, 7)
    ours = model.generate_dance(music, 90, num_dancers=1, generator=torch.Generator().manual_seed(1), **how)
    theirs = solo.generate_dance(music, 90, generator=torch.Generator().manual_seed(1), **how)
    assert torch.equal(ours.upper_codes[:, 0], theirs.upper_codes)
    with pytest.raises(ValueError, match="no VQ-VAE of relations is given"):
        BailandoPPForDanceGeneration.from_solo(solo, config)
    with pytest.raises(ValueError, match="codebook_size of the relation is 12, expected 11"):
        BailandoPPConfig(solo.config.vqvae_config, config, {**VQVAE, "codebook_size": 12})


def test_generation_is_the_forward_pass_of_the_whole() -> None:
    model = BailandoPPGPT(
        BailandoPPGPTConfig(**{**RELATED, "position_embedding_type": "rotary", "hidden_size": 32})
    ).eval()
    shake(model)
    inputs, music = related(3, steps=4), torch.randn(2, 20, 7)
    names = ("upper_codes", "lower_codes", "place_codes", "hands_codes")
    start = {name: inputs[name] for name in names}

    def run(**options: Any) -> dict[str, torch.Tensor]:
        return dict(zip(names, model.generate_codes(music, steps=16, **start, **options), strict=True))

    codes = run()
    with torch.no_grad():
        output = model(music=music[:, :19], **{name: value[..., :-1] for name, value in codes.items()})
    for name, value in codes.items():
        logits = output[name.replace("codes", "logits")]
        assert torch.equal(logits.argmax(-1)[..., 3:], value[..., 4:])
    # Guidance: the likeliest by twice the distance from silence.
    codes = run(guidance_scale=2.0)
    seen = {name: value[..., :-1] for name, value in codes.items()}
    with torch.no_grad():
        heard, silent = model(music=music[:, :19], **seen), model(music=0 * music[:, :19], **seen)
    wanted = 2 * heard.upper_logits - silent.upper_logits
    assert torch.equal(wanted.argmax(-1)[..., 3:], codes["upper_codes"][..., 4:])
    assert torch.equal(heard.place_logits.argmax(-1)[..., 3:], codes["place_codes"][..., 4:])


@pytest.mark.parametrize("dancers", [1, 2, 3])
def test_dances_follow_their_relations(dancers: int) -> None:
    model, music = whole(), torch.randn(2, 30, 7)
    dance = model.generate_dance(music, 240, num_dancers=dancers, generator=torch.Generator().manual_seed(0))
    assert dance.joints.shape == (2, dancers, 240, 24, 3)
    assert torch.isfinite(dance.joints).all()
    np.testing.assert_allclose(dance.joints[:, 0, 0, 0], 0, atol=1e-5)
    if dancers == 1:
        assert dance.place_codes is None
        return
    assert dance.place_codes.shape == dance.hands_codes.shape == (2, dancers - 1, 30)
    relative, _velocity = model.vqvae.decode(dance.upper_codes.flatten(0, 1), dance.lower_codes.flatten(0, 1))
    relative[..., 0, :] = 0
    decoded = relative.unflatten(0, (2, dancers))
    torch.testing.assert_close(bones(dance.joints)[..., :], bones(decoded)[:, :, :240], rtol=1e-3, atol=1e-3)


def test_start_and_seed_are_kept() -> None:
    model, music = whole(), torch.randn(2, 12, 7)
    positions, yaw = torch.randn(2, 3, 3), torch.tensor([[0.0, 3.0, -2.0], [1.0, -1.0, 0.5]])
    seeds = torch.randn(2, 3, 16, 24, 3)
    for seed in (None, seeds):
        dance = model.generate_dance(
            music, 90, seed_joints=seed, start_positions=positions, start_facing=yaw, do_sample=False,
            generator=torch.Generator().manual_seed(0),
        )  # fmt: skip
        torch.testing.assert_close(dance.start_positions, positions, rtol=0, atol=1e-5)
        torch.testing.assert_close((dance.start_facing - yaw).cos(), torch.ones(2, 3), rtol=0, atol=1e-5)
    dance = model.generate_dance(music, 90, seed_joints=seeds, do_sample=False)
    torch.testing.assert_close(dance.start_positions, seeds[:, :, 0, 0], rtol=0, atol=1e-5)
    assert torch.equal(dance.place_codes[..., :2], model.relation.encode(relation_of(seeds))[0])


def test_batch_is_its_pieces() -> None:
    model = whole()
    music, seeds = torch.randn(3, 12, 7), torch.randn(3, 2, 24, 24, 3)
    lengths = [96, 50, 73]
    together = model.generate_dance(music, lengths, seed_joints=seeds, do_sample=False)
    for piece, length in enumerate(lengths):
        one = slice(piece, piece + 1)
        alone = model.generate_dance(music[one], length, seed_joints=seeds[one], do_sample=False)
        torch.testing.assert_close(together.joints[one, :, :length], alone.joints, rtol=1e-4, atol=1e-4)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, music, seeds = whole(), torch.randn(1, 6, 7), torch.randn(1, 2, 8, 24, 3)
    model.save_pretrained(tmp_path)
    loaded, info = BailandoPPForDanceGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    torch.testing.assert_close(
        loaded.generate_dance(music, 45, seed_joints=seeds, do_sample=False).joints,
        model.generate_dance(music, 45, seed_joints=seeds, do_sample=False).joints,
    )


def test_a_model_from_before_relations_loads(tmp_path: Path) -> None:
    gpt = BailandoPPGPTConfig(**{**SIZES, "max_dancers": 3})
    model = BailandoPPForDanceGeneration(BailandoPPConfig(BailandoVQVAEConfig(**VQVAE), gpt)).eval()
    shake(model)
    model.save_pretrained(tmp_path)
    assert not any("relation" in name for name in model.state_dict())
    file = tmp_path / "config.json"
    config = json.loads(file.read_text())
    del config["relation_config"], config["gpt_config"]["relation"], config["gpt_config"]["code_dropout"]
    file.write_text(json.dumps(config))
    loaded, info = BailandoPPForDanceGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    music = torch.randn(1, 6, 7)
    ours, before = (
        one.generate_dance(music, 45, generator=torch.Generator().manual_seed(3)) for one in (loaded, model)
    )
    torch.testing.assert_close(ours.joints, before.joints)
    assert ours.place_codes is None


def test_codes_that_are_missing_or_too_many_are_told() -> None:
    model = BailandoPPGPT(BailandoPPGPTConfig(**RELATED)).eval()
    with pytest.raises(ValueError, match=r"place_codes \(2, 0, 6\) must be \(2, 1, 6\) for 2 dancers"):
        model(**pieces())
    plain = BailandoPPGPT(BailandoPPGPTConfig(**SIZES)).eval()
    with pytest.raises(ValueError, match="in a model without relation codes"):
        plain(**related(2))
    inputs = related(2)
    with pytest.raises(
        ValueError,
        match="the loss needs upper_targets, lower_targets, place_targets, hands_targets; got upper_targets",
    ):
        model(**inputs, upper_targets=inputs["upper_codes"])
