"""The confidence of each joint is near 1 for the truth, and lower for the joints that there is a reason to doubt."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES
from opendance_hf.pipeline.clip import Clip, ExpectedErrors, Fit, Landmarks, Motion
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stages.confidence import Confidence
from tests.pipeline.truth import Truth, camera_at, dance, landmarks_of, together


@pytest.fixture(scope="module")
def truth() -> Truth:
    return together([dance(1, 120, 60.0), dance(2, 120, 60.0, place=(1.8, 0.0))], camera_at(), 60.0)


@pytest.fixture(scope="module")
def seen(truth: Truth) -> Landmarks:
    """Every other frame: the picture's rate is not that of the motion."""
    return landmarks_of(truth).part(slice(None, None, 2))


def motion(joints: np.ndarray, confidence: np.ndarray | None = None) -> Motion:
    joints = joints.astype(np.float32)
    sure = np.ones(joints.shape[:2], np.float32) if confidence is None else confidence
    return Motion(0.0, joints.shape[1] / 60, joints, joints[:, :, 0], joints, sure)


def confidence(truth: Truth, found: Landmarks, expected: ExpectedErrors | None = None) -> np.ndarray:
    return Confidence().measure(motion(truth.joints), truth.camera, found, expected)


def lowered(before: np.ndarray, after: np.ndarray) -> list[set[str]]:
    """The joints of each dancer whose confidence is lower in some frame; none is higher."""
    assert (after <= before + 1e-6).all()
    return [
        {JOINT_NAMES[j] for j in np.flatnonzero((b < a - 0.05).any(axis=0))}
        for a, b in zip(before, after, strict=True)
    ]


def unseen(found: Landmarks, names: list[str], frames: slice = slice(None)) -> Landmarks:
    """The landmarks with some of the first dancer's not visible."""
    visibility = found.visibility.copy()
    for name in names:
        visibility[0, frames, LANDMARK_INDEX[name]] = 0
    return replace(found, visibility=visibility)


def test_the_truth_is_certain(truth: Truth, seen: Landmarks) -> None:
    found = confidence(truth, seen)
    assert found.shape == (2, 120, 24)
    assert found.dtype == np.float32
    assert found.min() > 0.9
    assert found.max() <= 1


def test_feet_outside_the_picture_lower_the_feet_alone(truth: Truth, seen: Landmarks) -> None:
    before = confidence(truth, seen)
    feet = [f"{side}_{part}" for side in ("left", "right") for part in ("heel", "foot_index")]
    after = confidence(truth, unseen(seen, feet))
    assert lowered(before, after) == [{"left_foot", "right_foot", "left_ankle", "right_ankle"}, set()]
    assert after[0, :, JOINT_INDEX["left_foot"]].max() == 0
    assert after[0, :, JOINT_INDEX["left_ankle"]].min() > 0.5, "it has a landmark of its own"


def test_a_hidden_shoulder_lowers_the_joints_that_have_no_landmark(truth: Truth, seen: Landmarks) -> None:
    after = confidence(truth, unseen(seen, ["left_shoulder", "right_shoulder"]))
    wanted = {"left_shoulder", "right_shoulder", "left_collar", "right_collar", "neck", "spine3", "spine2"}
    assert lowered(confidence(truth, seen), after) == [wanted, set()]


def test_a_joint_away_from_its_landmark_is_doubted_by_the_distance(truth: Truth, seen: Landmarks) -> None:
    found = []
    for away_m in (0.06, 0.12, 0.24):
        joints = truth.joints.copy()
        joints[0, :, JOINT_INDEX["left_wrist"], 1] += away_m
        moved = replace(truth, joints=joints)
        assert lowered(confidence(truth, seen), confidence(moved, seen)) == [{"left_wrist"}, set()]
        found.append(confidence(moved, seen)[0, :, JOINT_INDEX["left_wrist"]].mean())
    assert found == pytest.approx([0.8, 0.5, 0.2], abs=0.03), "in metres, whatever the size in the picture"


def test_interpolated_frames_have_no_confidence(truth: Truth, seen: Landmarks) -> None:
    sure = np.ones((2, 120), np.float32)
    sure[1, 40:60] = 0
    found = Confidence().measure(motion(truth.joints, sure), truth.camera, seen)
    assert found[1, 40:60].max() == 0
    assert found[0].min() > 0.9
    assert found[1, 60:].min() > 0.9


def test_the_error_that_the_network_expects_lowers_its_joints_and_their_neighbours(
    truth: Truth, seen: Landmarks
) -> None:
    times_s = np.linspace(0, 2, 25)
    errors = np.full((2, 25, 24), np.nan, np.float32)
    known = [j for j, name in enumerate(JOINT_NAMES) if not name.endswith(("hand", "foot", "collar"))]
    errors[:, :, known] = 0
    errors[0, :, JOINT_INDEX["left_wrist"]] = np.linspace(0, 0.2, 25)
    found = confidence(truth, seen, ExpectedErrors(times_s, errors))
    assert lowered(confidence(truth, seen), found) == [{"left_wrist", "left_hand"}, set()]
    assert found[0, 60, JOINT_INDEX["left_wrist"]] == pytest.approx(0.5, abs=0.02), "0.1 m"
    assert (np.diff(found[0, :, JOINT_INDEX["left_hand"]]) <= 1e-3).all()


def test_joints_behind_a_nearer_dancer_are_doubted_and_those_in_front_are_not() -> None:
    behind, front = dance(1, 60, 60.0), dance(2, 60, 60.0, place=(0.1, 1.0))
    truth = together([behind, front], camera_at(), 60.0)
    apart = together([behind, dance(2, 60, 60.0, place=(2.5, 1.0))], camera_at(), 60.0)
    before, after = (confidence(one, landmarks_of(one)) for one in (apart, truth))
    hidden, none = lowered(before, after)
    assert {"pelvis", "spine1", "spine2", "left_hip", "right_hip"} <= hidden
    assert not {"left_ankle", "right_ankle", "left_foot", "right_foot"} & hidden
    assert none == set()


def test_a_hand_on_the_face_lowers_hand_and_head(truth: Truth, seen: Landmarks) -> None:
    image = seen.image.copy()
    joints = truth.joints.copy()
    image[0, :, LANDMARK_INDEX["left_index"]] = image[0, :, LANDMARK_INDEX["nose"]]
    face = truth.joints[0, :, JOINT_INDEX["head"]]
    joints[0, :, JOINT_INDEX["left_hand"]] = face
    found = Confidence(agree_m=10).measure(motion(joints), truth.camera, replace(seen, image=image))
    before = Confidence(agree_m=10).measure(motion(joints), truth.camera, seen)
    assert lowered(before, found) == [{"left_hand", "left_wrist", "head"}, set()]


def test_the_column_has_the_dancers_one_after_another(truth: Truth, seen: Landmarks) -> None:
    fit = Fit(truth.times_s, truth.poses, truth.transl, truth.rest_offsets, truth.camera)
    clip = Clip(
        Path("a.mp4"), "0" * 64, columns={"bpm": 1.0}, landmarks=unseen(seen, ["left_index"]), fit=fit
    )
    columns = Confidence()(replace(clip, motion=motion(truth.joints))).columns
    assert set(columns) == {"bpm", "joint_confidence"}
    flat = columns["joint_confidence"]
    assert flat.shape == (120, 48)
    assert flat[:, JOINT_INDEX["left_hand"]].max() == 0
    assert flat[:, 24 + JOINT_INDEX["left_hand"]].min() > 0.9
