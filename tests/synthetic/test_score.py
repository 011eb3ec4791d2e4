from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from opendance_hf.motion.procrustes import constant_pose_error, procrustes_error
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.schema import Camera, DanceSequence, flat_dancers, per_dancer
from opendance_hf.synthetic.motion import TRUTH_JOINTS
from opendance_hf.synthetic.score import (
    acceleration,
    facing,
    joints_at,
    landmark_joints,
    match_dancers,
    score_clip,
)
from opendance_hf.synthetic.truth import Truth
from tests.factories import make_sequence

NAMES = tuple(TRUTH_JOINTS)
FRONT = Camera(480, 854, 900.0, (1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0), (0.0, 1.0, 8.0))


def turn(degrees: float) -> np.ndarray:
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, 0, s], [0, 1, 0], [-s, 0, c]])


def sequence(num_dancers: int = 1) -> DanceSequence:
    seq = make_sequence(4, num_dancers, 60)
    apart = np.zeros((num_dancers, 60, 72), np.float32)
    apart[..., 0::3] = 1.5 * np.arange(num_dancers)[:, None, None]
    joints = per_dancer(seq.joints, num_dancers, 72) * np.float32(0.5) + apart
    return dataclasses.replace(
        seq,
        joints=flat_dancers(joints),
        provenance=dataclasses.replace(seq.provenance, camera=FRONT),
    )


def truth_of(seq: DanceSequence) -> Truth:
    """The truth of which a sequence is a perfect copy."""
    rows = [JOINT_INDEX[name] for name in NAMES]
    joints = per_dancer(seq.joints.astype(np.float64), seq.num_dancers, 24, 3)[:, ::2, rows]
    times = seq.provenance.start_s + np.arange(joints.shape[1]) / 30
    root = joints[:, :, :2].mean(axis=2)
    planted = np.zeros((*joints.shape[:2], 2), bool)
    return Truth(
        name="clip",
        seed=0,
        fps=30.0,
        names=NAMES,
        joints=joints,
        facing_rad=facing(joints),
        root=root,
        times_s=times,
        beats_s=times[::10],
        camera=FRONT,
        video_sha256="",
        planted=planted,
        start_s=float(times[0]),
        end_s=float(times[-1]) + 1 / 30,
    )


def moved(seq: DanceSequence, change: np.ndarray) -> DanceSequence:
    """A sequence whose joints (D, T, 24, 3) are those given."""
    return dataclasses.replace(seq, joints=flat_dancers(change.reshape(seq.num_dancers, seq.num_frames, 72)))


def joints_of(seq: DanceSequence) -> np.ndarray:
    return per_dancer(seq.joints, seq.num_dancers, 24, 3).astype(np.float64)


@pytest.mark.parametrize("num_dancers", [1, 2])
def test_a_perfect_sequence_has_no_error(num_dancers: int) -> None:
    seq = sequence(num_dancers)
    score = score_clip(truth_of(seq), [seq], [])
    for error in (score.mpjpe_mm, score.pa_mpjpe_mm, score.accel_error_mm, score.root_path_error_mm):
        assert error == pytest.approx(0, abs=1e-3)
    assert score.facing_error_deg == pytest.approx(0, abs=1e-3)
    assert score.raw_pa_mpjpe_mm is None
    assert list(score.row())[:10] == [
        "name", "dancers", "mpjpe_mm", "pa_mpjpe_mm", "raw_pa_mpjpe_mm", "constant_pa_mpjpe_mm",
        "accel_error_mm", "facing_error_deg", "root_path_error_mm", "mean_joint_speed_mps",
    ]  # fmt: skip


def test_a_turned_world_costs_facing_and_mpjpe_but_not_shape_or_path() -> None:
    seq = sequence()
    score = score_clip(truth_of(seq), [moved(seq, joints_of(seq) @ turn(30).T)], [])
    assert score.pa_mpjpe_mm == pytest.approx(0, abs=1e-3)
    assert score.root_path_error_mm == pytest.approx(0, abs=1e-3)
    assert score.facing_error_deg == pytest.approx(30, abs=1e-3)
    assert score.mpjpe_mm is not None
    assert score.mpjpe_mm > 50


def test_a_world_turned_with_its_camera_is_the_same_world() -> None:
    seq = sequence()
    rotation = np.asarray(FRONT.rotation).reshape(3, 3) @ turn(40).T
    camera = dataclasses.replace(FRONT, rotation=tuple(rotation.ravel().tolist()))
    other = moved(seq, joints_of(seq) @ turn(40).T)
    other = dataclasses.replace(other, provenance=dataclasses.replace(seq.provenance, camera=camera))
    score = score_clip(truth_of(seq), [other], [])
    assert score.mpjpe_mm == pytest.approx(0, abs=1e-3)
    assert score.facing_error_deg == pytest.approx(0, abs=1e-3)


def test_a_known_offset_is_that_error() -> None:
    seq = sequence()
    joints = joints_of(seq)
    joints[:, :, JOINT_INDEX["left_wrist"]] += [0.0, 0.14, 0.0]
    score = score_clip(truth_of(seq), [moved(seq, joints)], [])
    assert score.mpjpe_mm == pytest.approx(10, abs=1e-3)  # 140 mm in one of 14 joints
    assert score.accel_error_mm == pytest.approx(0, abs=1e-3)
    assert score.root_path_error_mm == pytest.approx(0, abs=1e-3)


def test_a_shifted_floor_is_free_and_a_raised_one_is_not() -> None:
    seq = sequence()
    score = score_clip(truth_of(seq), [moved(seq, joints_of(seq) + np.array([0.4, 0.0, -1.0]))], [])
    assert score.root_path_error_mm == pytest.approx(0, abs=1e-3)
    score = score_clip(truth_of(seq), [moved(seq, joints_of(seq) + np.array([0.0, 0.05, 0.0]))], [])
    assert score.root_path_error_mm == pytest.approx(50, abs=1e-3)
    assert score.mpjpe_mm == pytest.approx(0, abs=1e-3)


def test_exchanged_dancers_are_told_apart_and_swaps_are_counted() -> None:
    seq = sequence(2)
    truth = truth_of(seq)
    exchanged = moved(seq, joints_of(seq)[::-1])
    assert score_clip(truth, [exchanged], []).mpjpe_mm == pytest.approx(0, abs=1e-3)
    _, found = joints_at(exchanged, truth)
    assert match_dancers(found, FRONT, truth.joints, FRONT).order == (1, 0)
    half = truth.joints.copy()
    half[:, 20:] = half[::-1, 20:]
    match = match_dancers(half, FRONT, truth.joints, FRONT)
    assert match.order == (0, 1)
    assert match.swapped == pytest.approx(1 / 3)
    assert match.swaps == 1
    assert match_dancers(truth.joints, FRONT, truth.joints, FRONT).swaps == 0


def test_feet_slide_by_what_they_move_while_planted_in_truth() -> None:
    seq = sequence()
    truth = truth_of(seq)
    assert score_clip(truth, [seq], []).foot_slide_cmps is None  # nothing is planted
    truth.planted[:, 10:20, 0] = True
    truth.joints[:, 10:20, NAMES.index("left_ankle")] = truth.joints[:, 10:11, NAMES.index("left_ankle")]
    joints = joints_of(seq)
    ankle = JOINT_INDEX["left_ankle"]
    for moves, expected in ((0.0, 0.0), (0.004, 24.0)):  # metres in a sixtieth of a second
        joints[:, 20:40, ankle] = joints[:, 20:21, ankle]
        joints[:, 20:40, ankle, 0] += moves * np.arange(20)
        score = score_clip(truth, [moved(seq, joints)], [])
        assert score.foot_slide_cmps == pytest.approx(expected, abs=1e-3)
        assert score.true_foot_slide_cmps == 0


def test_spans_are_compared_with_the_dance() -> None:
    seq = sequence()
    truth = truth_of(seq)
    score = score_clip(truth, [seq], [])
    assert (score.start_error_s, score.end_error_s, score.coverage) == pytest.approx((0, 0, 1), abs=1e-6)
    early = dataclasses.replace(truth, start_s=truth.start_s + 0.5, end_s=truth.end_s - 0.1)
    score = score_clip(early, [seq], [])
    assert (score.start_error_s, score.end_error_s) == pytest.approx((-0.5, 0.1), abs=1e-6)


def test_a_wrong_distance_between_dancers_is_measured() -> None:
    seq = sequence(2)
    truth = truth_of(seq)
    joints = joints_of(seq)
    joints[1, ..., 0] += 0.2
    apart = truth.root[1] - truth.root[0]
    gap, true_gap = (np.hypot(d[:, 0], d[:, 2]) for d in (apart + np.array([0.2, 0, 0]), apart))
    expected = 1000 * np.abs(gap - true_gap).mean()
    assert expected > 100
    score = score_clip(truth, [moved(seq, joints)], [])
    assert score.distance_error_mm == pytest.approx(expected, abs=0.1)


def test_acceleration_over_uneven_times() -> None:
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.05, 20))
    path = (3.0 * times**2)[None, :, None]
    np.testing.assert_allclose(acceleration(path, times), 6.0)


def test_procrustes_takes_out_rotation_scale_and_shift_but_no_mirror() -> None:
    pose = np.random.default_rng(0).normal(size=(5, 14, 3))
    assert procrustes_error(1.3 * pose @ turn(70).T + 2, pose).max() < 1e-9
    assert procrustes_error(pose * [-1, 1, 1], pose).min() > 0.1


def test_a_pose_that_never_changes_is_its_own_best_constant() -> None:
    pose = np.random.default_rng(0).normal(size=(14, 3))
    turning = np.stack([pose @ turn(5 * k).T for k in range(20)])
    assert constant_pose_error(turning) < 1e-9
    turning[::2, 3] += 0.5
    assert constant_pose_error(turning) > 0.01


def test_facing_follows_the_hips() -> None:
    pose = np.zeros((14, 3))
    pose[0], pose[1] = (0.1, 0.9, 0), (-0.1, 0.9, 0)
    assert facing(pose) == pytest.approx(0)
    assert facing(pose @ turn(90).T) == pytest.approx(math.pi / 2)


def test_raw_landmarks_are_scored_in_the_same_frames() -> None:
    seq = sequence()
    truth = truth_of(seq)
    world = np.zeros((1, len(truth.times_s), 33, 3), np.float32)
    for name in NAMES[:12]:
        world[:, :, LANDMARK_INDEX[name]] = truth.joints[:, :, NAMES.index(name)]
    for name in ("left_ear", "right_ear"):
        world[:, :, LANDMARK_INDEX[name]] = truth.joints[:, :, NAMES.index("head")]
    own = landmark_joints(world, NAMES)
    np.testing.assert_allclose(own[:, :, :12], truth.joints[:, :, :12], atol=1e-6)
    shown = np.ones(world.shape[:3], np.float32)
    found = Landmarks(truth.times_s, world[..., :2], world, shown, shown[..., 0])
    score = score_clip(truth, [seq], [found])
    expected = 1000 * procrustes_error(own, truth.joints).mean()
    assert score.raw_pa_mpjpe_mm == pytest.approx(expected)
    assert score.clock_error_ms == 0
    # A camera that looks down sees the same world leaning: the estimate is turned upright before it is judged.
    leans = axis_angle_to_matrix(np.radians([-20.0, 0, 0]))
    rotation = np.asarray(FRONT.rotation).reshape(3, 3) @ leans
    tilted = dataclasses.replace(FRONT, rotation=tuple(rotation.ravel().tolist()))
    seen = dataclasses.replace(found, world=(world @ leans.T).astype(np.float32))
    again = score_clip(dataclasses.replace(truth, camera=tilted), [seq], [seen])
    assert again.raw_mpjpe_mm == pytest.approx(score.raw_mpjpe_mm, abs=0.1)


def test_a_late_sequence_is_late_and_a_frame_that_never_was_is_found() -> None:
    seq = sequence()
    truth = truth_of(seq)
    assert score_clip(truth, [seq], []).delay_ms == pytest.approx(0, abs=1)
    source = dataclasses.replace(seq.provenance, start_s=seq.provenance.start_s + 0.04)
    late = score_clip(truth, [dataclasses.replace(seq, provenance=source)], [])
    assert late.delay_ms == pytest.approx(40, abs=3)
    assert late.clock_error_ms is None, "no frame of the source to judge it by"
    times = truth.times_s + 0.01
    world = np.ones((1, len(times), 33, 3), np.float32)
    found = Landmarks(times, world[..., :2], world, world[..., 0], world[..., 0, 0])
    assert score_clip(truth, [seq], [found]).clock_error_ms == pytest.approx(10, abs=0.1)


def test_a_clip_of_which_nothing_was_published_has_no_errors() -> None:
    score = score_clip(truth_of(sequence(2)), [sequence(1)], [])
    assert (score.mpjpe_mm, score.pa_mpjpe_mm, score.facing_error_deg) == (None, None, None)
    assert score.constant_pa_mpjpe_mm > 0
