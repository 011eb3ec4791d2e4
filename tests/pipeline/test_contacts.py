"""Feet that rest are put where they rest, and nothing jumps where one contact ends and the next begins."""

from __future__ import annotations

import numpy as np

from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.pipeline.stages.contacts import _at_rest, _corrections, _pose, hold_feet


def test_a_short_gap_between_two_contacts_is_corrected_no_more_than_they_are() -> None:
    """Two contacts ask for the same 5 cm; so does what is between them."""
    drift = np.zeros((40, 3))
    contact = np.ones(40, bool)
    contact[19:21] = False
    # The first contact drifts away from its place by 5 cm at its end, the second comes back from as far.
    drift[14:26, 0] = 0.05
    drift[26:, 0] = 0.0
    shift, weight = _corrections(drift, contact, blend=8)
    assert np.abs(shift[19:21]).max() <= np.abs(shift[[18, 21]]).max() + 1e-9
    assert (weight <= 1 + 1e-9).all()
    assert (weight[contact] == 1).all()
    np.testing.assert_allclose((drift + shift)[:19], np.tile(np.median(drift[:19], axis=0), (19, 1)))


def test_a_correction_fades_out_where_nothing_follows() -> None:
    path = np.zeros((30, 3))
    path[:10, 2] = np.linspace(0, 0.09, 10)
    contact = np.arange(30) < 10
    shift, weight = _corrections(path, contact, blend=6)
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
    rest = _at_rest(pace, 1 / 30)
    assert np.flatnonzero(rest).tolist() == [*range(8, 22), *range(30, 34), *range(36, 40)]
    pace[8:10] = 1.2
    assert not _at_rest(pace, 1 / 30)[8:10].any()
    for rate in (10, 12, 20, 24, 60):
        assert not _at_rest(np.where(np.arange(20) == 9, 0.1, 0.9), 1 / rate).any(), "a swing turns round"
    assert _at_rest(np.where(np.arange(20) // 3 == 3, 0.1, 2.0), 1 / 60).sum() == 3, "a twentieth of a second"


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
    turned, moved = hold_feet(rotations, transl, MEAN_OFFSETS[None], contacts, times_s, eye)
    ray = transl[0] - eye
    assert np.linalg.norm(np.cross(moved[0] - transl[0], ray), axis=-1).max() < 1e-5
    joints, _ = _pose(turned[0].astype(float), moved[0].astype(float), MEAN_OFFSETS)
    before, _ = _pose(rotations[0], transl[0], MEAN_OFFSETS)
    feet = [JOINT_INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")]
    assert np.ptp(before[:, feet], axis=0).max() > 0.1
    assert np.ptp(joints[:, feet], axis=0).max() < 0.005
