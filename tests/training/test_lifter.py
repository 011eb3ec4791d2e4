"""Pairs are varied consistently, and a lifter learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from opendance_hf.data import NoWindowsError
from opendance_hf.motion.lifting import rotation_to_axis
from opendance_hf.pipeline.landmarks import LANDMARKS
from opendance_hf.training.lifter import LifterPairs, LifterStage
from opendance_hf.training.recipe import RunArguments

JOINTS = [
    *(f"{side}_{name}" for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist") for side in ("left", "right")),
    "neck", "head",
]  # fmt: skip
#: x, y of the left side of a figure that stands, metres.
PLACES = {
    "hip": (0.1, 0.0), "knee": (0.12, -0.45), "ankle": (0.12, -0.9), "shoulder": (0.2, 0.5), "elbow": (0.45, 0.5),
    "wrist": (0.7, 0.5), "foot_index": (0.12, -0.95), "ear": (0.08, 0.7),
}  # fmt: skip


def place(name: str) -> tuple[float, float]:
    if name == "neck":
        return 0.0, 0.5
    if name == "head":
        return 0.0, 0.7
    side, _, part = name.partition("_")
    x, y = PLACES.get(part, (0.0, 0.0))
    return (x if side == "left" else -x), y


def write_pairs(folder: Path, *, clips: int = 6, frames: int = 60, far_m: float = 0.15) -> Path:
    """Perfect landmarks of figures who sway, but that depth is wrong: everything above the hips is too near."""
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    size, focal = (480, 854), 900.0
    image, world, truth = [], [], []
    for _ in range(clips):
        sway = 0.2 * np.sin(np.arange(frames) / 6 + rng.uniform(0, 6))[:, None]
        place_m = np.array([rng.uniform(-0.5, 0.5), rng.uniform(-0.3, 0.3), rng.uniform(-6, -4)])

        def points(names: list[str], sway: np.ndarray = sway, place_m: np.ndarray = place_m) -> np.ndarray:
            flat = np.array([place(name) for name in names])
            deep = np.broadcast_to(flat[:, 1] * sway, (frames, len(names)))
            return (
                np.concatenate([np.broadcast_to(flat, (frames, len(names), 2)), deep[..., None]], -1)
                + place_m
            )

        marks, joints = points(list(LANDMARKS)), points(JOINTS)
        image.append(marks[..., :2] / -marks[..., 2:] * focal * (1, -1) + np.array(size) / 2)
        turn = rotation_to_axis(torch.from_numpy(place_m)).numpy()
        seen = (marks - place_m) @ turn.T
        seen[..., 2] += far_m * (seen[..., 1] > 0.3)
        world.append(seen)
        truth.append(joints)
    np.savez(
        folder / "pairs_0.npz",
        n=np.full(clips, frames),
        image=np.concatenate(image).astype(np.float32),
        world=np.concatenate(world).astype(np.float16),
        vis=np.ones((clips * frames, 33), np.float16),
        truth=np.concatenate(truth).astype(np.float32),
        wh=np.tile(size, (clips, 1)),
        focal=np.full(clips, focal),
        pitch=np.zeros(clips),
        roll=np.zeros(clips),
        name=np.array([f"trial_{i % 3}/0" for i in range(clips)]),
        seed=np.arange(clips),
        names=np.array(JOINTS),
    )
    return folder


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("pairs"))


@pytest.fixture(scope="module")
def right_pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Without the wrong depth: landmarks and joints say the same."""
    return write_pairs(tmp_path_factory.mktemp("right"), far_m=0.0)


@pytest.mark.parametrize("seed", range(4))
def test_varied_landmarks_still_agree_with_the_joints(
    right_pairs: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mirror, roll, speed and bones: what was the same point before is the same point after, in metres and in the picture."""
    torch.manual_seed(seed)
    monkeypatch.setattr("opendance_hf.training.lifter._FOCAL", 0.0)
    data = LifterPairs(right_pairs)
    batch = data.__getitems__(list(range(len(data))))
    marks = [data.landmarks.index(name) for name in data.joints[:12]]
    np.testing.assert_allclose(batch["world"][:, :, marks], batch["joints"][:, :, :12], atol=4e-3)
    # In the picture: every landmark on the ray of its joint, for some distance of the hips.
    ratio = float(data.focal_ratio[0])
    rays = torch.nn.functional.pad(batch["rays"] / ratio, (0, 1), value=-1.0)
    hips = rays[:, :, [data.landmarks.index("left_hip"), data.landmarks.index("right_hip")]].mean(dim=2)
    turned = rays[:, :, marks] @ rotation_to_axis(hips).transpose(-1, -2)
    flat = turned[..., :2] / -turned[..., 2:]
    joints = batch["joints"][:, :, :12]
    distance = (
        (joints[..., :2] / flat.where(flat.abs() > 0.02, torch.nan) + joints[..., 2:]).nanmedian(dim=2).values
    )
    again = joints[..., :2] / (distance.mean(dim=-1)[:, :, None, None] - joints[..., 2:])
    np.testing.assert_allclose(again, flat, atol=6e-3)


def test_windows_are_varied_only_in_training(pairs: Path) -> None:
    torch.manual_seed(0)
    data = LifterPairs(pairs)
    first, second = (data.__getitems__([0, 1]) for _ in "ab")
    assert not torch.equal(first["rays"], second["rays"])
    bones = (first["joints"][:, :, 0] - first["joints"][:, :, 2]).norm(dim=-1)
    np.testing.assert_allclose(bones.std(dim=1), 0, atol=1e-2)
    assert (bones.mean(dim=1) / 0.45 - 1).abs().max() < 0.1
    plain = LifterPairs(pairs, augment=False)
    assert torch.equal(plain.__getitems__([3])["rays"], plain.__getitems__([3])["rays"])
    assert torch.equal(plain[3]["world"], plain.__getitems__([3])["world"][0])


def test_trials_are_left_out(pairs: Path) -> None:
    rest, held = LifterPairs(pairs, leave_out=["trial_1"]), LifterPairs(pairs, only=["trial_1"])
    assert set(rest.names) == {"trial_0/0", "trial_2/0"}
    assert set(held.names) == {"trial_1/0"}
    assert rest.fingerprint() != held.fingerprint()
    with pytest.raises(NoWindowsError, match="no pairs of these trials"):
        LifterPairs(pairs, only=["trial_9"])


def test_what_is_no_pairs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no .npz files of pairs; make some with: opendance synthesize"):
        LifterPairs(tmp_path)
    np.savez(tmp_path / "a.npz", joints=np.zeros(3))
    with pytest.raises(ValueError, match=r"a.npz: not a file of pairs: it has no array 'image'"):
        LifterPairs(tmp_path)


def test_a_lifter_learns_what_the_estimator_gets_wrong(pairs: Path, tmp_path: Path) -> None:
    changes = [
        "model.hidden_size=32",
        "trainer.max_steps=50",
        "data.leave_out=[trial_1]",
        "trainer.learning_rate=5e-3",
    ]
    stage = LifterStage(RunArguments(str(pairs), str(tmp_path / "lifter"), overrides=changes))
    model = stage.run()
    scores = stage.validate(model.eval())
    assert scores["raw_mpjpe_mm"] > 40
    assert scores["mpjpe_mm"] < 0.5 * scores["raw_mpjpe_mm"]
    assert (tmp_path / "lifter" / "model.safetensors").is_file()
    assert "left out" in (tmp_path / "lifter" / "README.md").read_text()
