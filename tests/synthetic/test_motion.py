from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.synthetic.body import BONES, Body, Build, load_body
from opendance_hf.synthetic.choreography import compose
from opendance_hf.synthetic.motion import TRUTH_JOINTS, Performance, perform
from tests.synthetic.support import needs_body

pytestmark = needs_body

FPS = 60
BEATS_S = 0.25 + np.arange(24) * 0.55
TIMES_S = np.arange(12 * FPS) / FPS
NAMES = list(TRUTH_JOINTS)


@pytest.fixture(scope="module")
def body() -> Body:
    return load_body(Build(female=False, height=0.4))


@pytest.fixture(scope="module")
def dances(body: Body) -> list[Performance]:
    parts = [part for seed in range(6) for n in (1, 2) for part in compose(seed, n, len(BEATS_S))[0]]
    return [perform(part, body, BEATS_S, TIMES_S) for part in parts]


def bend_deg(joints: np.ndarray, *names: str) -> np.ndarray:
    """How far the limb through three joints is from straight."""
    a, b, c = (joints[:, NAMES.index(name)] for name in names)
    u, v = b - a, c - b
    cos = (u * v).sum(-1) / np.linalg.norm(u, axis=-1) / np.linalg.norm(v, axis=-1)
    return np.degrees(np.arccos(np.clip(cos, -1, 1)))


def test_the_body_is_a_grown_person_standing_on_the_floor(body: Body) -> None:
    skin = body.vertices[body.parts == 0]
    assert skin[:, 1].min() == pytest.approx(0, abs=1e-9)
    assert 1.6 < np.ptp(skin[:, 1]) < 1.95
    np.testing.assert_allclose(body.weights.sum(axis=1), 1)
    left, right = body.head_of("upperleg01.L"), body.head_of("upperleg01.R")
    np.testing.assert_allclose(left * [-1, 1, 1], right, atol=2e-3)


def test_planted_feet_do_not_slide(dances: list[Performance]) -> None:
    for dance in dances:
        for foot, name in enumerate(("left_ankle", "right_ankle")):
            ankle = dance.joints()[:, NAMES.index(name)]
            both = dance.planted[1:, foot] & dance.planted[:-1, foot]
            assert both.mean() > 0.3
            assert np.linalg.norm(np.diff(ankle, axis=0), axis=1)[both].max() < 0.001


def test_somebody_always_stands_on_some_foot_and_none_sinks_in(dances: list[Performance], body: Body) -> None:
    for dance in dances:
        assert dance.planted.any(axis=1).all()
        ankles = dance.joints()[:, [NAMES.index("left_ankle"), NAMES.index("right_ankle")]]
        assert ankles[..., 1].min() > body.head_of("foot.L")[1] - 0.005


def test_bones_keep_their_length(dances: list[Performance], body: Body) -> None:
    for dance in dances:
        for a, b in (("upperleg01", "lowerleg01"), ("lowerleg01", "foot"), ("upperarm01", "lowerarm01")):
            for side in "LR":
                i, j = BONES.index(f"{a}.{side}"), BONES.index(f"{b}.{side}")
                length = np.linalg.norm(dance.positions[:, i] - dance.positions[:, j], axis=1)
                rest = np.linalg.norm(body.heads[i] - body.heads[j])
                np.testing.assert_allclose(length, rest, rtol=0.02)


def test_knees_and_elbows_bend_as_human_ones_do(dances: list[Performance]) -> None:
    for dance in dances:
        joints = dance.joints()
        for side in ("left", "right"):
            assert bend_deg(joints, f"{side}_hip", f"{side}_knee", f"{side}_ankle").max() < 140
            assert bend_deg(joints, f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist").max() < 146
            # A knee points where its foot does, never backwards.
            hip, knee, ankle = (joints[:, NAMES.index(f"{side}_{part}")] for part in ("hip", "knee", "ankle"))
            toes = dance.rotations[:, BONES.index(f"foot.{side[0].upper()}"), :, 2] * [1, 0, 1]
            assert ((knee - (hip + ankle) / 2) * toes).sum(-1).min() > -0.02


def test_no_joint_turns_further_than_people_can(dances: list[Performance]) -> None:
    for dance in dances:
        head, pelvis = dance.rotations[:, BONES.index("head")], dance.rotations[:, 0]
        turn = np.einsum("tji,tjk->tik", pelvis, head)
        angle = np.degrees(np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1)))
        assert angle.max() < 110
        for side in "LR":
            foot = dance.rotations[:, BONES.index(f"foot.{side}")]
            yaw = np.arctan2(foot[:, 0, 2], foot[:, 2, 2]) - dance.facing_rad
            assert np.degrees(np.abs((yaw + np.pi) % (2 * np.pi) - np.pi)).max() < 75


def test_it_is_smooth(dances: list[Performance]) -> None:
    for dance in dances:
        speed = np.linalg.norm(np.diff(dance.joints(), axis=0), axis=-1) * FPS
        assert speed.max() < 11  # a fast wrist or a kick
        limbs = speed[:, [i for i, name in enumerate(NAMES) if name not in ("neck", "head")]]
        assert 0.5 < limbs.mean() < 1.4


def test_feet_land_on_beats(dances: list[Performance]) -> None:
    for dance in dances:
        lands = TIMES_S[1:][(dance.planted[1:] & ~dance.planted[:-1]).any(axis=1)]
        assert len(lands) > 5
        assert np.abs(lands[:, None] - BEATS_S).min(axis=1).max() < 1.5 / FPS


def test_the_frame_rate_does_not_change_the_dance(body: Body) -> None:
    part = compose(1, 1, len(BEATS_S))[0][0]
    fast = perform(part, body, BEATS_S, np.arange(240) / 60).joints()
    slow = perform(part, body, BEATS_S, np.arange(120) / 30).joints()
    np.testing.assert_allclose(fast[::2], slow, atol=1e-9)
