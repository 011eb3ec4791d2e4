"""Scores of builds against known motion, in the frame of the camera, and the clips of the real views."""

from __future__ import annotations

import dataclasses
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import real_truth
from benchmarks.known_motion import camera_lean_deg, dancers_of, score
from benchmarks.real_truth import Y_UP, play_order, prepare_views, summary
from benchmarks.truth_stages import truth_motion, write_worst
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.video import read_frames
from opendance_hf.render.video import VideoWriter
from opendance_hf.schema import Camera, DanceSequence, flat_dancers, per_dancer
from opendance_hf.storage import save_sequence
from opendance_hf.synthetic.score import hip_middle
from opendance_hf.synthetic.truth import Truth, truth_path
from tests.apps.test_view import data_of
from tests.synthetic.test_score import FRONT, joints_of, moved, sequence, truth_of


def roll(degrees: float) -> np.ndarray:
    """A turn of the picture, after which the world leans to the right by so many degrees."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def with_camera(seq: DanceSequence, turned: np.ndarray) -> DanceSequence:
    rotation = turned @ np.reshape(FRONT.rotation, (3, 3))
    camera = dataclasses.replace(FRONT, rotation=tuple(rotation.ravel().tolist()))
    return dataclasses.replace(seq, provenance=dataclasses.replace(seq.provenance, camera=camera))


def seen(truth: Truth, joints: np.ndarray) -> Landmarks:
    """Landmarks at joints (D, T, 12, 3) in the world of FRONT, which looks along -z and is level."""
    world = np.zeros((*joints.shape[:2], 33, 3), np.float32)
    image = np.zeros((*joints.shape[:2], 33, 2), np.float32)
    for number, name in enumerate(truth.names):
        world[:, :, LANDMARK_INDEX[name]] = joints[:, :, number]
        image[:, :, LANDMARK_INDEX[name]] = FRONT.project(joints[:, :, number])
    shown = np.ones(world.shape[:3], np.float32)
    return Landmarks(truth.times_s, image, world, shown, shown[..., 0])


def limbs(truth: Truth) -> Truth:
    return dataclasses.replace(truth, names=truth.names[:12], joints=truth.joints[:, :, :12])


def test_a_perfect_sequence_has_no_error_in_any_frame() -> None:
    seq = sequence()
    truth = limbs(truth_of(seq))
    row = score(truth, [seq], [seen(truth, truth.joints)])
    errors = (
        "pa_mpjpe_mm",
        "mpjpe_mm",
        "levelled_mpjpe_mm",
        "facing_error_deg",
        "roll_error_deg",
        "pitch_error_deg",
    )
    for name in (*errors, "acceleration_error_mps2", "raw_pa_mpjpe_mm", "raw_mpjpe_mm"):
        assert row[name] == pytest.approx(0, abs=1e-3), name
    assert (row["depth_slope"], row["depth_correlation"]) == pytest.approx((1, 1))
    assert (row["published"], row["dancers"], row["sequences"]) == (True, 1, 1)


def test_a_rolled_camera_costs_the_levelled_frame_and_not_the_camera_s() -> None:
    seq = sequence()
    truth = truth_of(seq)
    # The same picture: the world is turned by as much as the camera.
    rotation = np.reshape(FRONT.rotation, (3, 3))
    world = rotation.T @ roll(20).T @ rotation
    rolled = with_camera(moved(seq, joints_of(seq) @ world.T), roll(20))
    row = score(truth, [rolled], [])
    assert row["mpjpe_mm"] == pytest.approx(0, abs=1e-3)
    assert row["roll_error_deg"] == pytest.approx(20, abs=1e-3)
    assert row["pitch_error_deg"] == pytest.approx(0, abs=1e-3)
    assert row["levelled_mpjpe_mm"] > 50


def test_roll_leans_to_the_right_and_pitch_looks_down() -> None:
    assert camera_lean_deg(FRONT) == pytest.approx((0, 0))
    right = roll(15) @ np.reshape(FRONT.rotation, (3, 3))
    assert camera_lean_deg(dataclasses.replace(FRONT, rotation=tuple(right.ravel()))) == pytest.approx(
        (15, 0)
    )
    c, s = math.cos(math.radians(10)), math.sin(math.radians(10))
    down = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.reshape(FRONT.rotation, (3, 3))
    assert down[2, 1] < 0, "the optical axis points to the ground"
    assert camera_lean_deg(dataclasses.replace(FRONT, rotation=tuple(down.ravel()))) == pytest.approx((0, 10))


def test_flat_depth_is_a_slope_below_one() -> None:
    seq = sequence()
    joints = joints_of(seq)
    middle = joints[:, :, [1, 2]].mean(axis=2, keepdims=True)[..., 2]
    joints[..., 2] = middle + 0.5 * (joints[..., 2] - middle)
    row = score(truth_of(seq), [moved(seq, joints)], [])
    assert (row["depth_slope"], row["depth_correlation"]) == pytest.approx((0.5, 1), abs=1e-4)
    assert row["mpjpe_mm"] > 10


def test_a_bystander_is_left_out_of_sequences_and_landmarks() -> None:
    seq = sequence(2)
    truth = limbs(truth_of(seq))
    for dancer in (0, 1):
        alone = dataclasses.replace(
            truth,
            joints=truth.joints[dancer : dancer + 1],
            facing_rad=truth.facing_rad[dancer : dancer + 1],
            root=truth.root[dancer : dancer + 1],
            planted=truth.planted[dancer : dancer + 1],
        )
        row = score(alone, [seq], [seen(truth, truth.joints)])
        assert (row["dancers"], row["published"]) == (2, True)
        assert row["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)
        assert row["mpjpe_mm"] == pytest.approx(0, abs=1e-3)
        assert row["raw_mpjpe_mm"] == pytest.approx(0, abs=1e-3)
        kept = dancers_of(alone, seq)
        np.testing.assert_array_equal(
            kept.smpl_pose, flat_dancers(per_dancer(seq.smpl_pose, 2, 72)[[dancer]])
        )
        np.testing.assert_array_equal(kept.confidence, seq.confidence[:, [dancer]])
        assert kept.joint_confidence is not None
        assert seq.joint_confidence is not None
        own = slice(24 * dancer, 24 * dancer + 24)
        np.testing.assert_array_equal(kept.joint_confidence, seq.joint_confidence[:, own])


def test_an_unpublished_view_has_a_reason_and_the_estimator_s_error() -> None:
    truth = limbs(truth_of(sequence()))
    flat = truth.joints * [1, 1, 0]
    row = score(truth, [], [seen(truth, flat)], "back to the camera")
    assert (row["published"], row["pa_mpjpe_mm"], row["reason"]) == (False, None, "back to the camera")
    assert row["raw_mpjpe_mm"] == pytest.approx(
        1000 * np.abs((truth.joints - hip_middle(truth.joints)[..., None, :])[..., 2]).mean(), rel=1e-4
    )


def test_the_mean_is_over_published_views() -> None:
    rows = [score(limbs(truth_of(sequence())), found, [], "") for found in ([sequence()], [])]
    for row, name in zip(rows, ("cam01", "cam02"), strict=True):
        row["name"] = name
    found = summary(rows, rows)
    assert (found["published"], [view["published"] for view in found["views"]]) == (1, [True, False])
    assert found["mean"]["pa_mpjpe_mm"] == pytest.approx(0, abs=1e-3)


def test_no_frame_is_shown_twice_at_a_turning_point() -> None:
    order = play_order(100, 0.0, 300)
    assert set(np.abs(np.diff(order))) == {1}
    assert (order[0], order[99], order[100], order[198], order[299]) == (0, 99, 98, 0, 97)
    assert play_order(100, 0.5, 3).tolist() == [99, 98, 97]


@pytest.fixture
def views(tmp_path: Path) -> Path:
    """Two small views of ten frames, each frame of its own grey, in the layout of the reference data."""
    for view in (1, 2):
        with VideoWriter(tmp_path / f"cam{view:02d}.mp4", 60) as writer:
            for frame in range(10):
                writer.write(np.full((64, 48, 3), 20 * frame + view, np.uint8))
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "truth.npz",
        joint_names=np.array(["left_hip", "right_hip", "left_knee"]),
        positions_m=rng.normal(size=(1, 10, 3, 3)).astype(np.float32),
        K=np.array([[[50.0, 0, 24], [0, 50, 32], [0, 0, 1]]] * 2),
        R=np.stack([np.eye(3), roll(30)]),
        t=np.array([[0, 0, 4.0], [0, 1, 5]]),
    )
    return tmp_path


def test_views_are_played_forwards_and_backwards_with_their_truth(views: Path, tmp_path: Path) -> None:
    clips = prepare_views(views, tmp_path / "clips", phases=2)
    assert [clip.stem for clip in clips] == ["cam01", "cam01_b", "cam02", "cam02_b"]
    with np.load(views / "truth.npz") as data:
        true, rotation, shift = data["positions_m"], data["R"], data["t"]
    for clip in clips:
        truth, view = Truth.load(truth_path(clip)), int(clip.stem[4]) - 1
        shown = np.array([picture.mean() for _, picture in read_frames(clip)])
        assert len(shown) == 300 == truth.joints.shape[1]
        frames = np.round((shown - view - 1) / 20).astype(int)
        np.testing.assert_allclose(truth.joints, true[:, frames] @ Y_UP.T, atol=1e-6)
        camera = truth.camera
        ours = truth.joints @ np.reshape(camera.rotation, (3, 3)).T + camera.translation
        np.testing.assert_allclose(ours, true[:, frames] @ rotation[view].T + shift[view], atol=1e-6)
        assert isinstance(camera, Camera)
        assert (camera.width_px, camera.height_px, camera.focal_px) == (48, 64, 50)


def test_a_missing_folder_is_a_reason_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["real_truth", "--shared", str(tmp_path), "--work", str(tmp_path / "w")])
    real_truth.main()
    assert capsys.readouterr().out.startswith("skipped: ")
    assert not (tmp_path / "w").exists()


def smooth(num_dancers: int) -> DanceSequence:
    """A sequence whose dancers have bones and move as people do."""
    seq = sequence(num_dancers)
    sway = np.sin(np.arange(seq.num_frames) / 10)[:, None, None] * np.linspace(-0.3, 0.3, 72).reshape(24, 3)
    at = np.stack([np.full((seq.num_frames, 3), [1.5 * d, 0.95, 0]) for d in range(num_dancers)])
    joints = forward_kinematics(np.stack([sway] * num_dancers), at, MEAN_OFFSETS.astype(np.float64))
    return dataclasses.replace(seq, joints=flat_dancers(joints))


@pytest.mark.parametrize("count", [12, 14])
def test_the_truth_stands_beside_what_was_found(tmp_path: Path, count: int) -> None:
    seq = smooth(2)
    truth = truth_of(seq)
    truth = dataclasses.replace(truth, names=truth.names[:count], joints=truth.joints[:, :, :count])
    motion = truth_motion(truth, seq)
    rows = [JOINT_INDEX[name] for name in truth.names[:12]]
    wanted = per_dancer(seq.joints, 2, 24, 3)[:, :, rows]
    assert motion.joints.shape[:2] == wanted.shape[:2]
    # The last frame of 60 a second is after the last of the truth's 30, which is held.
    apart = motion.joints[:, :-1, rows] - wanted[:, :-1]
    assert np.abs(apart.mean(axis=(0, 1, 2))).max() < 0.05, "pelvis and middle of the hips are not the same"
    assert np.linalg.norm(apart - apart[:, :, :2].mean(axis=(0, 1, 2)), axis=-1).max() < 0.01


def test_the_worst_clip_has_a_page(tmp_path: Path) -> None:
    videos = [tmp_path / "videos" / f"{name}.mp4" for name in ("good", "bad", "gone")]
    rows = []
    for number, video in enumerate(videos):
        seq = smooth(1)
        source = dataclasses.replace(seq.provenance, source_sha256=video.stem)
        truth = dataclasses.replace(truth_of(seq), name=video.stem, video_sha256=video.stem)
        truth_path(video).parent.mkdir(exist_ok=True)
        truth.save(truth_path(video))
        video.parent.mkdir(exist_ok=True)
        tone = np.sin(np.arange(5 * 44_100) / 20) / 2
        with VideoWriter(video, 30, audio=tone, sample_rate=44_100) as writer:
            for _ in range(150):
                writer.write(np.zeros((64, 64, 3), np.uint8))
        if video.stem != "gone":
            (tmp_path / "sequences").mkdir(exist_ok=True)
            save_sequence(
                tmp_path / "sequences" / f"{video.stem}.npz",
                dataclasses.replace(seq, id=video.stem, provenance=source),
            )
        rows.append({"name": video.stem, "pa_mpjpe_mm": None if video.stem == "gone" else 50.0 + number})
    pages = write_worst(rows, videos, [tmp_path], tmp_path / "stages", 1)
    assert [page.name for page in pages] == ["bad.html"]
    data = data_of(pages[0].read_text(encoding="utf-8"))
    assert [motion["name"] for motion in data["motions"]] == ["found", "truth"]
    assert ["PA-MPJPE", "51 mm"] in data["motions"][0]["numbers"]
    assert data["video"]
    assert data["song"]
