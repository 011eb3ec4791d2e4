from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.procrustes import constant_pose_error
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pipeline.video import probe, read_frames
from opendance_hf.synthetic import body as body_module
from opendance_hf.synthetic.body import MissingBodyError
from opendance_hf.synthetic.clips import (
    MIN_AWAY,
    MIN_LIVELINESS_M,
    Capture,
    Clip,
    Trouble,
    Truth,
    make_clip,
    pose_of,
    render_clip,
    truth_of,
    truth_path,
)
from opendance_hf.synthetic.figure import random_looks
from opendance_hf.synthetic.motion import TRUTH_JOINTS
from tests.synthetic.support import needs_body


@pytest.fixture(scope="module", params=[1, 2], ids=["solo", "duo"])
def clip(request: pytest.FixtureRequest) -> Clip:
    return make_clip(1, request.param)


@needs_body
def test_the_dance_is_lively_and_turns_its_back(clip: Clip) -> None:
    for dance in clip.dances:
        assert constant_pose_error(dance.joints()) >= MIN_LIVELINESS_M
        assert (np.cos(dance.facing_rad) < 0).mean() >= MIN_AWAY


@needs_body
def test_everyone_stays_in_the_picture(clip: Clip) -> None:
    camera = clip.stage.camera
    for dance in clip.dances:
        pixels = camera.project(dance.positions)
        assert pixels.min() > 0
        assert (pixels < [camera.width_px, camera.height_px]).all()


@needs_body
def test_true_joints_lie_in_the_drawn_dancers(clip: Clip) -> None:
    truth = truth_of(clip)
    inside = [name for name in truth.names if name not in ("left_wrist", "right_wrist")]
    rows = [truth.names.index(name) for name in inside]
    for frame in range(0, len(clip.times_s), 40):
        seen = clip.stage.silhouettes(pose_of(clip, frame))
        for joints in truth.joints:
            x, y = clip.stage.camera.project(joints[frame, rows]).astype(int).T
            assert (seen[y, x] >= 0).mean() > 0.9
        assert set(np.unique(seen)) - {-1} <= set(range(len(clip.dances)))


@needs_body
def test_the_nearer_dancer_hides_the_other() -> None:
    clip = make_clip(1, 2)
    rotations, positions = (np.asarray(values[0]) for values in zip(*pose_of(clip, 0), strict=True))
    near, far = (rotations, positions), (rotations, positions - np.array([0, 0, 0.8]))
    for poses, nearest in (([near, far], 0), ([far, near], 1)):
        seen = clip.stage.silhouettes(poses)
        chest = positions[body_module.BONES.index("spine02")]
        x, y = clip.stage.camera.project(chest).astype(int)
        assert seen[y, x] == nearest


@needs_body
def test_two_dancers_wear_different_tops() -> None:
    for seed in range(5):
        first, second = random_looks(np.random.default_rng(seed), 2)
        assert np.abs(np.subtract(first.top, second.top)).max() > 60


@needs_body
def test_a_rendered_clip_is_a_video_with_sound_and_its_truth_lies_apart(tmp_path: Path) -> None:
    video = render_clip(2, 1, tmp_path, duration_s=1.5, size=(160, 284))
    assert video == tmp_path / "videos" / "solo_002.mp4"
    assert [path.name for path in video.parent.iterdir()] == ["solo_002.mp4"]
    info = probe(video)
    assert (info.width_px, info.height_px, info.fps, info.has_audio) == (160, 284, 30.0, True)
    truth = Truth.load(truth_path(video))
    assert truth.joints.shape == (1, 45, 14, 3)
    assert truth.root.shape == (1, 45, 3)
    assert truth.facing_rad.shape == (1, 45)
    np.testing.assert_array_equal(truth.times_s, np.arange(45) / 30)
    np.testing.assert_allclose(truth.root, truth.joints[:, :, :2].mean(axis=2))
    assert len(truth.beats_s) >= 2
    assert truth.camera.width_px == 160

    again = render_clip(2, 1, tmp_path / "again", duration_s=1.5, size=(160, 284))
    assert truth_path(again).read_bytes() == truth_path(video).read_bytes()
    assert again.read_bytes() == video.read_bytes()


@needs_body
def test_titles_stills_and_uneven_times_are_in_the_truth(tmp_path: Path) -> None:
    trouble = Trouble(title_s=0.5, still_s=0.5, obstacle=True, variable=True)
    video = render_clip(2, 1, tmp_path, duration_s=1.5, size=(160, 284), trouble=trouble)
    truth = Truth.load(truth_path(video))
    shown = [time_s for time_s, _ in read_frames(video)]
    first = next(i for i, time_s in enumerate(shown) if time_s >= 0.5 - 1e-6)
    np.testing.assert_allclose(shown[first:], truth.times_s, atol=1e-4)
    assert np.diff(truth.times_s).max() > 1.1 * np.diff(truth.times_s).min()
    assert (truth.start_s, truth.end_s) == (pytest.approx(0.5, abs=0.06), 2.0)
    speed = np.linalg.norm(np.diff(truth.joints[0], axis=0), axis=-1).mean(axis=1) / np.diff(truth.times_s)
    assert speed[truth.times_s[1:] > 2.05].max() < 0.05 < speed[truth.times_s[1:] < 1.5].mean()


@needs_body
def test_a_body_dances_what_was_captured() -> None:
    shift = np.linspace(0, 0.5, 91)[:, None, None] * [1.0, 0, 0]
    rest = forward_kinematics(np.zeros((24, 3)), np.array([0.0, 0.95, 0]), MEAN_OFFSETS)
    joints = np.asarray(rest + shift)
    clip = make_clip(1, 1, duration_s=1.5, capture=Capture(joints[None], 60.0))
    dance = clip.dances[0]
    np.testing.assert_allclose(np.diff(dance.root()[[0, -1], 0]), 0.5 * clip.times_s[-1] / 1.5, atol=1e-3)
    assert np.abs(dance.facing_rad).max() < 0.05  # the mean skeleton's hips are not quite level
    names = list(TRUTH_JOINTS)
    wrist, shoulder = (dance.joints()[0, names.index(f"left_{part}")] for part in ("wrist", "shoulder"))
    assert wrist[0] - shoulder[0] > 0.4  # SMPL rests with its arms out, and its left is +x
    assert abs(wrist[1] - shoulder[1]) < 0.12
    bent = joints.copy()
    bent[:, JOINT_INDEX["left_wrist"]] = bent[:, JOINT_INDEX["left_elbow"]] + [0, 0.25, 0]
    raised = make_clip(1, 1, duration_s=1.5, capture=Capture(bent[None], 60.0)).dances[0].joints()[0]
    assert raised[names.index("left_wrist"), 1] - raised[names.index("left_elbow"), 1] > 0.2
    with pytest.raises(ValueError, match="the capture lasts"):
        make_clip(1, 1, duration_s=3.0, capture=Capture(joints[None], 60.0))


def test_without_the_body_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingBodyError, match=r'pip install "\.\[synthetic\]"'):
        body_module.data_folder()


@pytest.mark.parametrize(("dancers", "duration_s", "match"), [(5, 8.0, "one to 4"), (1, 0.3, "too short")])
def test_impossible_clips_are_refused(dancers: int, duration_s: float, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        make_clip(0, dancers, duration_s=duration_s)
