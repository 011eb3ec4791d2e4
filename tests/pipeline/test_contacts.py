"""Feet that rest are put where they rest, and nothing jumps where one contact ends and the next begins."""

from __future__ import annotations

import numpy as np

from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.contacts import contact_shifts, frames_at_rest
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.fitting.contacts import hold_feet, resting_feet
from opendance_hf.pipeline.fitting.settings import ContactLimits
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

LIMITS = ContactLimits()


def test_a_short_gap_between_two_contacts_is_corrected_no_more_than_they_are() -> None:
    """Two contacts ask for the same 5 cm; so does what is between them."""
    drift = np.zeros((40, 3))
    contact = np.ones(40, bool)
    contact[19:21] = False
    # The first contact drifts away from its place by 5 cm at its end, the second comes back from as far.
    drift[14:26, 0] = 0.05
    drift[26:, 0] = 0.0
    shift, weight = contact_shifts(drift, contact, blend=8)
    assert np.abs(shift[19:21]).max() <= np.abs(shift[[18, 21]]).max() + 1e-9
    assert (weight <= 1 + 1e-9).all()
    assert (weight[contact] == 1).all()
    np.testing.assert_allclose((drift + shift)[:19], np.tile(np.median(drift[:19], axis=0), (19, 1)))


def test_a_correction_fades_out_where_nothing_follows() -> None:
    path = np.zeros((30, 3))
    path[:10, 2] = np.linspace(0, 0.09, 10)
    contact = np.arange(30) < 10
    shift, weight = contact_shifts(path, contact, blend=6)
    assert (np.diff(weight[9:17, 0]) < 0).all()
    np.testing.assert_array_equal(weight[16:], 0)
    np.testing.assert_array_equal(shift[16:], 0)
    assert np.abs(np.diff(shift[9:17, 2])).max() < 0.02


def test_a_rest_reaches_into_the_blur_around_it_but_not_into_the_next() -> None:
    pace = np.full(60, 2.0)
    pace[10:20] = 0.1  # a rest
    pace[8:10], pace[20:22] = 0.6, 0.7  # landing and leaving, blurred
    pace[30:34], pace[34:36], pace[36:40] = 0.1, 0.7, 0.1  # two rests, a quick step between them
    pace[50] = 0.1  # the turning point of a swing
    rest = frames_at_rest(pace, 1 / 30, LIMITS)
    assert np.flatnonzero(rest).tolist() == [*range(8, 22), *range(30, 34), *range(36, 40)]
    pace[8:10] = 1.2
    assert not frames_at_rest(pace, 1 / 30, LIMITS)[8:10].any()
    for rate in (10, 12, 20, 24, 60):
        swing = np.where(np.arange(20) == 9, 0.1, 0.9)
        assert not frames_at_rest(swing, 1 / rate, LIMITS).any(), "a swing turns round"
    short = np.where(np.arange(20) // 3 == 3, 0.1, 2.0)
    assert frames_at_rest(short, 1 / 60, LIMITS).sum() == 3, "a twentieth of a second"
    short[9] = 2.0
    assert not frames_at_rest(short, 1 / 60, LIMITS).any(), "two frames at 60 a second are too short"


def test_a_body_is_moved_along_the_line_of_sight_and_its_feet_stay() -> None:
    frames, eye = 40, np.array([0.5, 1.4, 4.0])
    rotations = np.tile(np.eye(3), (1, frames, NUM_JOINTS, 1, 1))
    transl = np.zeros((1, frames, 3))
    transl[0, :, 1] = 0.9  # knees a little bent, so that legs can reach
    for side in ("left", "right"):
        for joint, angle in (("hip", -0.4), ("knee", 0.8), ("ankle", -0.4)):
            cos, sin = np.cos(angle), np.sin(angle)
            rotations[0, :, JOINT_INDEX[f"{side}_{joint}"]] = [[1, 0, 0], [0, cos, -sin], [0, sin, cos]]
    transl[0, :, 0] = 0.02 * np.sin(np.arange(frames) / 6)
    transl[0, :, 2] = 0.08 * np.sin(np.arange(frames) / 9)
    contacts = np.ones((2, 1, frames, 2), bool)
    times_s = np.arange(frames) / 30
    turned, moved = hold_feet(rotations, transl, MEAN_OFFSETS[None], contacts, times_s, eye, LIMITS)
    ray = transl[0] - eye
    assert np.linalg.norm(np.cross(moved[0] - transl[0], ray), axis=-1).max() < 1e-5
    joints, _ = pose_joints(turned[0].astype(float), moved[0].astype(float), MEAN_OFFSETS)
    before, _ = pose_joints(rotations[0], transl[0], MEAN_OFFSETS)
    feet = [JOINT_INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")]
    assert np.ptp(before[:, feet], axis=0).max() > 0.1
    assert np.ptp(joints[:, feet], axis=0).max() < 0.005


def test_a_rest_begins_slower_than_it_ends() -> None:
    speed = np.full(60, 2.0)
    speed[10:20] = 0.4  # a slow drift, never at rest
    speed[30:35], speed[35:38], speed[38:42] = 0.1, 0.4, 0.1  # a rest with a sway in it
    speed[42:50] = 0.7  # leaving, slowly: only a tenth of a second of it belongs to the rest
    found = np.flatnonzero(frames_at_rest(speed, 1 / 30, LIMITS)).tolist()
    assert found == list(range(30, 45))


def walking(speed_mps: tuple[float, float], region_px: float = 500.0) -> Landmarks:
    """Landmarks whose left and right foot move through the image at these speeds, in a region of 2.2 m."""
    times_s = np.arange(30) / 30
    image = np.zeros((1, 30, len(LANDMARK_INDEX), 2), np.float32)
    for side, speed in zip(("left", "right"), speed_mps, strict=True):
        for part in ("ankle", "heel", "foot_index"):
            image[0, :, LANDMARK_INDEX[f"{side}_{part}"], 0] = speed * times_s * region_px / 2.2
    shape = image.shape[:3]
    return Landmarks(
        times_s,
        image,
        np.zeros((*shape, 3), np.float32),
        np.ones(shape, np.float32),
        np.full(shape[:2], region_px, np.float32),
    )


def test_speed_is_read_at_the_scale_of_the_person() -> None:
    for region_px in (100.0, 500.0):
        resting = resting_feet(walking((0.25, 0.55), region_px), LIMITS)
        assert resting[..., 0].all()
        assert not resting[..., 1].any()


# --- holding -----------------------------------------------------------------------------------------------------

FRAMES = 40
EYE = np.array([0.0, 0.9, 5.0])


def straight_legs() -> np.ndarray:
    """(24, 3) offsets of a skeleton whose legs hang straight down."""
    offsets = MEAN_OFFSETS.astype(np.float64)
    for side in ("left", "right"):
        offsets[JOINT_INDEX[f"{side}_knee"]] = (0, -0.40, 0)
        offsets[JOINT_INDEX[f"{side}_ankle"]] = (0, -0.42, 0)
    return offsets


def held(
    rotations: np.ndarray, transl: np.ndarray, offsets: np.ndarray, contact: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Joints (T, 24, 3) before and after both feet of one dancer were held in contact (T,)."""
    contacts = np.broadcast_to(contact[None, None, :, None], (2, 1, len(contact), 2))
    times_s = np.arange(len(contact)) / 30
    turned, moved = hold_feet(
        rotations[None], transl[None], offsets[None], contacts, times_s, EYE, ContactLimits()
    )
    before, _ = pose_joints(rotations, transl, offsets)
    after, _ = pose_joints(turned[0].astype(float), moved[0].astype(float), offsets)
    return before, after


def leg_of(joints: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """(T,) bend of the knee in degrees and (T, 3) how far it is from the line between hip and ankle."""
    hip, knee, ankle = (joints[:, JOINT_INDEX[f"{side}_{part}"]] for part in ("hip", "knee", "ankle"))
    thigh, shin, line = knee - hip, ankle - knee, ankle - hip
    thigh, shin, line = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (thigh, shin, line))
    bend = np.degrees(np.arccos(np.clip((thigh * shin).sum(-1), -1, 1)))
    away = knee - hip
    return bend, away - line * (away * line).sum(-1, keepdims=True)


def test_straight_legs_bend_forwards_and_never_quite_straighten() -> None:
    """A pelvis that bobs by 4 cm: where it is too high for the feet, legs reach all but their full length."""
    rotations = np.tile(np.eye(3), (FRAMES, NUM_JOINTS, 1, 1))
    transl = np.zeros((FRAMES, 3))
    transl[:, 1] = 0.9 + 0.04 * np.sin(np.arange(FRAMES) / 5)
    _, joints = held(rotations, transl, straight_legs(), np.ones(FRAMES, bool))
    for side in ("left", "right"):
        bend, away = leg_of(joints, side)
        assert np.isfinite(joints).all()
        assert bend.min() > 4, "at 0.999 of its length a leg bends by 5 degrees"
        assert bend.max() > 20
        assert away[:, 2].min() > 0.01, "knees point forwards"


def test_a_bent_leg_keeps_its_knee_on_the_same_side() -> None:
    """Knees that point outwards, of a pelvis that bobs."""
    rotations = np.tile(np.eye(3), (FRAMES, NUM_JOINTS, 1, 1))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        for joint, angle in (("hip", 0.4 * sign), ("knee", -0.8 * sign)):
            cos, sin = np.cos(angle), np.sin(angle)
            rotations[:, JOINT_INDEX[f"{side}_{joint}"]] = [[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]
    transl = np.zeros((FRAMES, 3))
    transl[:, 1] = 0.9 + 0.02 * np.sin(np.arange(FRAMES) / 5)
    before, after = held(rotations, transl, straight_legs(), np.ones(FRAMES, bool))
    for side in ("left", "right"):
        out = leg_of(before, side)[1]
        now = leg_of(after, side)[1]
        assert np.abs(out[:, 0]).min() > 0.1
        cos = (out * now).sum(-1) / np.linalg.norm(out, axis=-1) / np.linalg.norm(now, axis=-1)
        assert cos.min() > 0.98


def test_a_held_foot_is_let_go_gently() -> None:
    """Feet that drift by 8 cm in a contact of 20 frames are 4 cm off at its end, and go back within 0.15 s."""
    rotations = np.tile(np.eye(3), (FRAMES, NUM_JOINTS, 1, 1))
    transl = np.zeros((FRAMES, 3))
    transl[:, 1] = 0.9
    transl[:, 2] = 0.08 * np.clip(np.arange(FRAMES) / 19, 0, 1)
    before, after = held(rotations, transl, straight_legs(), np.arange(FRAMES) < 20)
    foot = JOINT_INDEX["left_foot"]
    shift = np.linalg.norm(after[:, foot] - before[:, foot], axis=-1)
    assert 0.03 < shift[19] < 0.05
    assert np.abs(np.diff(shift[19:])).max() < 0.014, "metres a frame"
    assert shift[25:].max() < 1e-3, "what is left is the bend of a leg at full reach"
