"""The stage depth: landmarks in metres change by what the network says, at its own frame rate; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opendance_hf.modeling.lifter import LifterConfig, LifterModel
from opendance_hf.motion.procrustes import procrustes_error
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.backends.lifter import Lifter, LifterCorrector
from opendance_hf.pipeline.clip import Clip, Landmarks, VideoInfo
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.depth import Depth

VIDEO = VideoInfo(480, 854, 30.0, 4.0, True)


class Pushing:
    """In place of the network: moves the left wrist, the head and the right ankle to the camera, by the time of day."""

    config = LifterConfig()

    def __init__(self) -> None:
        self.frames = 0

    def estimated(self, world: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*world.shape[:2], 14, 3)

    def lift_with_errors(
        self, rays: torch.Tensor, world: torch.Tensor, visibility: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        self.frames = rays.shape[1]
        out = self.estimated(world)
        for number, name in enumerate(("left_wrist", "head", "right_ankle"), 1):
            out[:, :, self.config.joints.index(name), 2] = number * torch.linspace(0, 1, self.frames)
        return out, out[..., 2] / 10


def landmarks(dancers: int, frames: int, fps: float) -> Landmarks:
    rng = np.random.default_rng(0)
    shape = (dancers, frames, 33)
    return Landmarks(
        times_s=2.0 + np.arange(frames) / fps,
        image=rng.uniform(100, 400, (*shape, 2)).astype(np.float32),
        world=rng.normal(0, 0.5, (*shape, 3)).astype(np.float32),
        visibility=np.ones(shape, np.float32),
        regions_px=np.ones(shape[:2], np.float32),
    )


def test_several_networks_are_averaged() -> None:
    before = landmarks(1, 49, 12.0)

    class Still(Pushing):
        def lift_with_errors(
            self, rays: torch.Tensor, world: torch.Tensor, visibility: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            _, errors = super().lift_with_errors(rays, world, visibility)
            return self.estimated(world), 0 * errors

    one, _ = LifterCorrector([Pushing()]).correct(before, VIDEO)
    two, errors = LifterCorrector([Pushing(), Still()]).correct(before, VIDEO)
    rest, _ = LifterCorrector([Still()]).correct(before, VIDEO)
    np.testing.assert_allclose(two.world, (one.world + rest.world) / 2, atol=1e-6)
    wrist = errors.joints_m[:, :, JOINT_INDEX["left_wrist"]]
    np.testing.assert_allclose(wrist, np.linspace(0, 0.05, 49)[None], atol=1e-6)


@pytest.mark.parametrize(("dancers", "fps"), [(1, 24.0), (2, 30.0), (1, 60.0)])
def test_landmarks_move_with_their_joint(dancers: int, fps: float) -> None:
    before = landmarks(dancers, round(4 * fps) + 1, fps)
    network = Pushing()
    after, expected = LifterCorrector([network]).correct(before, VIDEO)
    assert network.frames == 4 * 12 + 1
    hips = before.world[:, :, [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]].mean(axis=2)
    moved = after.world - (before.world - hips[:, :, None])
    share = (before.times_s - 2.0) / 4
    for number, names in enumerate(
        (("left_wrist", "left_thumb"), ("nose", "right_ear"), ("right_ankle", "right_heel")), 1
    ):
        for name in names:
            by = np.broadcast_to(number * share, (dancers, len(share)))
            np.testing.assert_allclose(moved[:, :, LANDMARK_INDEX[name], 2], by, atol=1e-5)
    for name in ("left_hip", "right_wrist", "left_ankle", "right_shoulder"):
        np.testing.assert_allclose(moved[:, :, LANDMARK_INDEX[name]], 0, atol=1e-5)
    wrist = expected.joints_m[:, :, JOINT_INDEX["left_wrist"]]
    np.testing.assert_allclose(wrist, np.broadcast_to(np.linspace(0, 0.1, 49), wrist.shape), atol=1e-6)
    assert np.isnan(expected.joints_m[:, :, JOINT_INDEX["left_hand"]]).all(), "not a joint of the network"
    for name in ("image", "visibility", "times_s", "regions_px"):
        assert getattr(after, name) is getattr(before, name)


@pytest.mark.shared
def test_the_packaged_lifter_makes_landmarks_better(shared: Path) -> None:
    """On trials that it was not trained on: nearer to the truth than the estimator, by at least a fifth on average."""
    before, after = [], []
    with np.load(shared / "data" / "lifter_pairs" / "pairs_0.npz", allow_pickle=False) as data:
        pairs = dict(data)
    names, ends = pairs["names"].tolist()[:12], np.cumsum(pairs["n"])
    rows = [LANDMARK_INDEX[name] for name in names]
    held_out = [
        i for i, name in enumerate(pairs["name"].tolist()) if name.startswith(("salsa_03", "salsa_05"))
    ]
    for clip in held_out[:5]:
        frames = slice(ends[clip] - pairs["n"][clip], ends[clip])
        image, world, shown = (
            pairs[key][None, frames].astype(np.float32) for key in ("image", "world", "vis")
        )
        times_s = np.arange(image.shape[1]) / 12
        found = Landmarks(times_s, image, world, shown, np.ones(image.shape[:2], np.float32))
        video = VideoInfo(*pairs["wh"][clip].tolist(), 12.0, 7.0, True)
        lifted = Depth()(Clip(Path("a.mp4"), "0" * 64, landmarks=found, video=video)).landmarks
        truth = pairs["truth"][frames, :12]
        before.append(procrustes_error(found.world[0][:, rows], truth).mean())
        after.append(procrustes_error(lifted.world[0][:, rows], truth).mean())
    assert len(after) == 5
    assert np.mean(after) < 0.8 * np.mean(before)


def test_a_lifter_of_your_own_is_used(tmp_path: Path) -> None:
    torch.manual_seed(0)
    LifterModel(LifterConfig(hidden_size=8)).save_pretrained(tmp_path / "mine")
    backend = make_backend("depth", f"lifter:{tmp_path / 'mine'}").prepare()
    assert backend.version
    assert backend.version != make_backend("depth", "lifter").prepare().version
    found = landmarks(1, 60, 30.0)
    clip = Clip(Path("a.mp4"), "0" * 64, landmarks=found, video=VIDEO)
    changed = Depth(corrector=backend)(clip).landmarks
    assert np.abs(changed.world - found.world).max() > 1e-3
    assert replace(changed, world=found.world).image is found.image


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "cliff"}')
    with pytest.raises(BackendError, match="a model of type 'cliff', expected 'lifter'"):
        make_backend("depth", f"lifter:{tmp_path}").prepare()


def test_the_path_of_the_packaged_lifter_is_not_stored() -> None:
    """It differs from machine to machine; other weights in a newer version are noticed by their hash."""
    prepared = make_backend("depth", "lifter").prepare()
    assert isinstance(prepared, Lifter)
    assert prepared.file == ""
    assert prepared.prepare() == prepared
    with pytest.raises(BackendError, match="not the file that the configuration was made with"):
        replace(prepared, sha256="0" * 64).prepare()
