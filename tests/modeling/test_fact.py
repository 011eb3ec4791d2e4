"""FACT against a plain numpy rendering of the published facts, and what its generation promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from opendance_hf.modeling.bailando import nearest_rotations
from opendance_hf.modeling.fact import (
    FACTConfig,
    FACTForDanceGeneration,
    motion_to_poses,
    poses_to_motion,
)
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import MEAN_OFFSETS


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny(**options: Any) -> FACTForDanceGeneration:
    """Windows of 12 motion and 24 music frames; the last 4 frames are foretold. Every weight is random."""
    torch.manual_seed(0)
    defaults = {
        "motion_frames": 12, "audio_frames": 24, "target_frames": 4, "hidden_size": 40, "intermediate_size": 48,
        "num_attention_heads": 5, "num_motion_layers": 1, "num_audio_layers": 2, "num_cross_layers": 3,
    }  # fmt: skip
    model = FACTForDanceGeneration(FACTConfig(**{**defaults, **options})).eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            value.copy_(torch.randn_like(value) * 0.2 + (1 if ".ln" in name and "weight" in name else 0))
    return model


def walk(batch: int, frames: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Smooth axis-angle poses and transl, no two of a batch alike."""
    rng = np.random.default_rng(seed)
    time = np.arange(frames)[None, :, None, None] / 60
    phase = rng.uniform(0, 2 * np.pi, (batch, 1, 24, 3))
    poses = 0.5 * np.sin(2 * np.pi * time + phase)
    transl = np.concatenate([0.2 * np.cos(time[..., 0] + phase[:, :, 0]) + [0, 1, 0]], axis=-1)
    return torch.from_numpy(poses).float(), torch.from_numpy(transl).float()


# What follows is written from the paper and from notes on its code alone; it shares nothing with the model but names.


def numpy_fact(model: FACTForDanceGeneration, motion: np.ndarray, audio: np.ndarray) -> np.ndarray:
    weights = {name: value.double().numpy() for name, value in model.state_dict().items()}
    config = model.config

    def linear(x: np.ndarray, name: str) -> np.ndarray:
        return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0.0)

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def transformer(x: np.ndarray, name: str, layers: int) -> np.ndarray:
        heads, width = config.num_attention_heads, config.hidden_size
        size = width // heads
        for layer in range(layers):
            block = f"{name}.{layer}"
            y = norm(x, f"{block}.ln1")
            q, k, v = (linear(y, f"{block}.attention.{kind}_proj") for kind in "qkv")
            parts = []
            for head in range(heads):
                mine = slice(head * size, (head + 1) * size)
                scores = q[..., mine] @ np.swapaxes(k[..., mine], -1, -2) / math.sqrt(width)
                weight = np.exp(scores - scores.max(-1, keepdims=True))
                parts.append(weight / weight.sum(-1, keepdims=True) @ v[..., mine])
            x = x + linear(np.concatenate(parts, -1), f"{block}.attention.o_proj")
            y = linear(norm(x, f"{block}.ln2"), f"{block}.fc1")
            y = 0.5 * y * (1 + np.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
            x = x + linear(y, f"{block}.fc2")
        return x

    body = linear(motion, "fact.motion_embedding") + weights["fact.motion_position"]
    sound = linear(audio, "fact.audio_embedding") + weights["fact.audio_position"]
    body = transformer(body, "fact.motion_layers", config.num_motion_layers)
    sound = transformer(sound, "fact.audio_layers", config.num_audio_layers)
    both = transformer(np.concatenate([body, sound], 1), "fact.cross_layers", config.num_cross_layers)
    return linear(both, "head")[:, : config.target_frames]


def test_equals_numpy() -> None:
    model = tiny()
    rng = np.random.default_rng(1)
    motion, audio = rng.normal(size=(3, 12, 225)), rng.normal(size=(3, 24, 35))
    expected = numpy_fact(model, motion, audio)
    with torch.no_grad():
        found = model.double()(torch.from_numpy(motion), torch.from_numpy(audio)).motion
    assert expected.std() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-10)
    with torch.no_grad():  # tokens not asked for are skipped, not changed
        whole = model.fact(torch.from_numpy(motion), torch.from_numpy(audio)).last_hidden_state
    assert whole.shape == (3, 36, 40)
    np.testing.assert_allclose(model.head(whole[:, :4]).detach(), expected, atol=1e-10)


def test_published_size() -> None:
    with torch.device("meta"):
        model = FACTForDanceGeneration(FACTConfig())
    block = 4 * 800 * 800 + 800 + 2 * 800 * 3072 + 3072 + 800 + 4 * 800
    rest = 225 * 800 + 800 + 35 * 800 + 800 + (120 + 240) * 800 + 800 * 225 + 225
    assert sum(value.numel() for value in model.parameters()) == 16 * block + rest
    assert model.config.layer_norm_eps == 1e-5


def test_loss_is_mean_square_and_gradients_reach_everything() -> None:
    model = tiny()
    motion, audio, targets = torch.randn(2, 12, 225), torch.randn(2, 24, 35), torch.randn(2, 4, 225)
    output = model(motion, audio, targets)
    np.testing.assert_allclose(
        output.loss.item(), (output.motion - targets).square().mean().item(), rtol=1e-6
    )
    output.loss.backward()
    for name, value in model.named_parameters():
        assert value.grad is not None, name
        assert value.grad.abs().max() > 0, name
    assert set(output.metrics) == {"translation", "rotation"}


def test_overfits_one_sequence() -> None:
    torch.manual_seed(0)
    config = FACTConfig(
        motion_frames=12, audio_frames=24, target_frames=4, hidden_size=40, intermediate_size=80,
        num_attention_heads=5, num_motion_layers=1, num_audio_layers=1, num_cross_layers=2,
    )  # fmt: skip
    model = FACTForDanceGeneration(config)
    motion = poses_to_motion(*walk(1, 40))[0]
    audio = torch.randn(52, 35)
    starts = range(0, 40 - 16 + 1)
    windows = torch.stack([motion[s : s + 16] for s in starts])
    music = torch.stack([audio[s : s + 24] for s in starts])
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    first = None
    for _ in range(180):
        loss = model(windows[:, :12], music, windows[:, 12:]).loss
        first = loss.item() if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    held = (windows[:, 11:12] - windows[:, 12:]).square().mean()  # the last pose held
    assert loss < 0.2 * held
    assert loss < 0.02 * first


def test_motion_vector_and_back() -> None:
    poses, transl = walk(2, 5)
    motion = poses_to_motion(poses, transl)
    assert motion.shape == (2, 5, 225)
    assert (motion[..., :6] == 0).all()
    np.testing.assert_array_equal(motion[..., 6:9], transl)
    matrices = axis_angle_to_matrix(poses.double().numpy())
    np.testing.assert_allclose(motion[..., 9:].reshape(2, 5, 24, 3, 3), matrices, atol=1e-6)
    back, back_transl = motion_to_poses(motion)
    np.testing.assert_allclose(back, matrices, atol=1e-6)
    np.testing.assert_array_equal(back_transl, transl)
    torch.testing.assert_close(poses_to_motion(back, transl), motion)
    for bad in (poses[..., :23, :], poses[:, :4]):
        with pytest.raises(ValueError, match="must be"):
            poses_to_motion(bad, transl)


def test_nearest_rotations_are_rotations_and_nearest() -> None:
    torch.manual_seed(0)
    noisy = torch.randn(200, 3, 3, dtype=torch.float64)
    noisy[0] = -torch.eye(3)
    noisy[1] = 0
    found = nearest_rotations(noisy)
    np.testing.assert_allclose(found @ found.mT, torch.eye(3).expand(200, 3, 3), atol=1e-9)
    np.testing.assert_allclose(torch.linalg.det(found), 1, atol=1e-9)
    others = torch.from_numpy(axis_angle_to_matrix(np.random.default_rng(0).uniform(-3, 3, (500, 3))))
    distance = (noisy[:, None] - others).square().sum((-1, -2)).min(-1).values
    assert ((noisy - found).square().sum((-1, -2)) <= distance + 1e-9).all()


@pytest.mark.parametrize(("keep", "num_frames"), [(1, 21), (3, 23), (4, 14), (1, 10)])
def test_generation_is_the_model_fed_its_own_frames(keep: int, num_frames: int) -> None:
    model = tiny()
    poses, transl = walk(2, 14)
    audio = torch.randn(2, num_frames, 35)
    dance = model.generate_dance(audio, num_frames, seed_poses=poses, seed_transl=transl, keep=keep)
    motion = poses_to_motion(poses, transl)
    held = torch.cat([audio, audio[:, -1:].expand(-1, 24, -1)], dim=1)
    while motion.shape[1] < num_frames:
        first = motion.shape[1] - 12
        with torch.no_grad():
            following = model(motion[:, first:], held[:, first : first + 24]).motion[:, :keep]
        motion = torch.cat([motion, following], dim=1)
    torch.testing.assert_close(dance.motion, motion[:, :num_frames])
    assert dance.joints.shape == (2, num_frames, 24, 3)
    assert dance.smpl_transl.shape == (2, num_frames, 3)
    assert torch.isfinite(dance.joints).all()
    # The seed comes back as it was given.
    given = min(14, num_frames)
    seed = forward_kinematics(poses.numpy(), transl.numpy(), MEAN_OFFSETS)[:, :given]
    np.testing.assert_allclose(dance.joints[:, :given], seed, atol=1e-5)
    np.testing.assert_allclose(dance.smpl_pose[:, :given], poses[:, :given], atol=1e-5)


def test_joints_are_those_of_the_poses_and_the_skeleton_given() -> None:
    model = tiny()
    poses, transl = walk(2, 12)
    offsets = torch.from_numpy(MEAN_OFFSETS * np.array([1.0, 1.2], np.float32)[:, None, None])
    music = torch.randn(2, 20, 35)
    dance = model.generate_dance(music, 20, seed_poses=poses, seed_transl=transl, rest_offsets=offsets)
    expected = forward_kinematics(
        dance.smpl_pose.numpy(), dance.smpl_transl.numpy(), offsets[:, None].numpy()
    )
    np.testing.assert_allclose(dance.joints, expected, atol=1e-4)


def test_batch_is_its_pieces() -> None:
    model = tiny()
    poses, transl = walk(3, 12)
    audio = torch.randn(3, 18, 35)
    together = model.generate_motion(poses_to_motion(poses, transl), audio, 18)
    for piece in range(3):
        one = slice(piece, piece + 1)
        alone = model.generate_motion(poses_to_motion(poses[one], transl[one]), audio[one], 18)
        torch.testing.assert_close(together[one], alone, atol=1e-4, rtol=1e-4)


def test_hears_ahead() -> None:
    model = tiny()
    motion, audio = poses_to_motion(*walk(1, 12)), torch.randn(1, 40, 35)
    later = audio.clone()
    later[:, 20] += 1  # 8 frames after the first new frame, within the window
    beyond = audio.clone()
    beyond[:, 24] += 1  # outside the first window
    first, heard, unheard = (
        model.generate_motion(motion, music, 13)[:, 12] for music in (audio, later, beyond)
    )
    assert not torch.equal(first, heard)
    torch.testing.assert_close(first, unheard, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 11}, "needs at least 12 frames"),
        ({"music": 19}, "does not last 20 frames"),
        ({"keep": 5}, "keep must be from 1 to 4"),
        ({"keep": 0}, "keep must be from 1 to 4"),
    ],
)
def test_generation_refuses(options: dict[str, int], message: str) -> None:
    poses, transl = walk(1, options.get("frames", 12))
    with pytest.raises(ValueError, match=message):
        tiny().generate_dance(
            torch.randn(1, options.get("music", 20), 35),
            20,
            seed_poses=poses,
            seed_transl=transl,
            keep=options.get("keep", 1),
        )


def test_forward_refuses_other_windows() -> None:
    model = tiny()
    with pytest.raises(ValueError, match=r"motion \(1, 11, 225\) must be \(B, 12, 225\)"):
        model(torch.zeros(1, 11, 225), torch.zeros(1, 24, 35))
    with pytest.raises(ValueError, match=r"audio \(1, 24, 438\) must be \(B, 24, 35\)"):
        model(torch.zeros(1, 12, 225), torch.zeros(1, 24, 438))
    with pytest.raises(ValueError, match="targets"):
        model(torch.zeros(1, 12, 225), torch.zeros(1, 24, 35), torch.zeros(1, 5, 225))


def test_saved_and_loaded(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()
    loaded, info = FACTForDanceGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"]
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    fresh = FACTForDanceGeneration(FACTConfig(**{**model.config.to_dict(), "hidden_size": 400}))
    assert 0.015 < fresh.fact.motion_position.std() < 0.025
    assert 0.015 < fresh.fact.cross_layers[0].fc1.weight.std() < 0.025
