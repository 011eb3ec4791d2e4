"""Figures stand where the joints are, in their colours, and hide each other as bodies do."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from opendance_hf.body.mesh import Detail
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.render.avatar import AvatarRenderer, dancer_colour
from opendance_hf.render.camera import frame_dancers, look_at
from tests.factories import make_sequence

SIZE = (320, 240)


def posed(seed: int, num_dancers: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random bent poses of random proportions side by side: poses, transl, offsets, joints."""
    rng = np.random.default_rng(seed)
    poses = 0.35 * rng.standard_normal((num_dancers, NUM_JOINTS, 3))
    transl = np.stack(
        [1.2 * np.arange(num_dancers), np.full(num_dancers, 1.0), np.zeros(num_dancers)], axis=-1
    )
    offsets = MEAN_OFFSETS * rng.uniform(0.75, 1.25, (num_dancers, NUM_JOINTS, 1))
    return poses, transl, offsets, forward_kinematics(poses, transl, offsets)


@pytest.mark.parametrize("seed", range(12))
def test_joints_lie_inside_the_drawn_body(seed: int) -> None:
    poses, transl, offsets, joints = posed(seed, 2)
    camera = frame_dancers(joints, *SIZE)
    drawn = AvatarRenderer(camera, offsets).silhouettes(poses, transl)
    for x, y in camera.project(joints).reshape(-1, 2):
        assert drawn[int(y), int(x)] >= 0


@pytest.mark.parametrize("seed", range(3))
def test_the_picture_shows_the_silhouette_and_nothing_else_but_shadow(seed: int) -> None:
    poses, transl, offsets, joints = posed(seed)
    renderer = AvatarRenderer(frame_dancers(joints, *SIZE), offsets)
    picture, body = renderer.draw(poses, transl), renderer.silhouettes(poses, transl) >= 0
    stage = renderer.background
    assert np.any(picture[body] != stage[body], axis=-1).mean() > 0.99
    near = body.copy()
    for axis in (0, 1):  # edges are smoothed over a pixel on either side
        near |= np.roll(near, 1, axis) | np.roll(near, -1, axis)
    assert np.all(picture[~near] <= stage[~near])


@pytest.mark.parametrize("seed", range(6))
def test_no_part_of_a_body_is_cut_off(seed: int) -> None:
    poses, transl, offsets, joints = posed(seed, 2)
    body = AvatarRenderer(frame_dancers(joints, *SIZE), offsets).silhouettes(poses, transl) >= 0
    body[1:-1, 1:-1] = False
    assert not body.any()


def test_every_dancer_has_its_colour() -> None:
    poses, transl, offsets, joints = posed(1, 2)
    renderer = AvatarRenderer(frame_dancers(joints, *SIZE), offsets)
    picture, who = renderer.draw(poses, transl).astype(float), renderer.silhouettes(poses, transl)
    for dancer in (0, 1):
        seen = picture[who == dancer]
        hue = [seen @ (np.array(dancer_colour(d)) / np.linalg.norm(dancer_colour(d))) for d in (0, 1)]
        assert np.median(hue[dancer] - hue[1 - dancer]) > 0
        assert len(seen) > 500


@pytest.mark.parametrize("front", [0, 1])
def test_the_nearer_dancer_hides_the_other(front: int) -> None:
    poses = np.zeros((2, NUM_JOINTS, 3))
    transl = np.array([[0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    transl[front, 2] = 0.6
    offsets = np.stack([MEAN_OFFSETS, MEAN_OFFSETS])
    joints = forward_kinematics(poses, transl, offsets)
    camera = look_at(np.array([0.0, 1.0, 6.0]), np.array([0.0, 1.0, 0.0]), *SIZE, focal_px=350.0)
    who = AvatarRenderer(camera, offsets).silhouettes(poses, transl)
    x, y = camera.project(joints)[front, JOINT_INDEX["spine2"]].astype(int)
    assert who[y, x] == front
    assert (who == front).sum() > 10 * (who == 1 - front).sum()


def test_the_camera_sees_every_joint_and_wastes_little() -> None:
    rng = np.random.default_rng(0)
    for width, height in ((480, 480), (854, 480), (270, 480)):
        joints = rng.uniform([-2, 0, -1], [1, 1.8, 2], (2, 50, 24, 3))
        points = frame_dancers(joints, width, height).project(joints).reshape(-1, 2)
        assert np.all(points >= 0)
        assert np.all(points <= [width, height])
        assert (np.ptp(points, axis=0) / [width, height]).max() > 0.75


def test_the_camera_looks_from_the_front_and_upright() -> None:
    camera = frame_dancers(posed(0)[3], *SIZE)
    left, right, up, near = camera.project(np.array([[-1, 1, 0], [1, 1, 0], [0, 1.5, 0], [0, 1, 0.0]]))
    assert left[0] < right[0]
    assert up[1] < near[1]


@pytest.mark.parametrize("seed", range(3))
def test_both_resolutions_have_one_silhouette(seed: int) -> None:
    poses, transl, offsets, joints = posed(seed)
    camera = frame_dancers(joints, *SIZE)
    low, full = (
        AvatarRenderer(camera, offsets, detail).silhouettes(poses, transl) >= 0 for detail in ("low", "full")
    )
    assert (low & full).sum() > 0.94 * (low | full).sum()


@pytest.mark.parametrize("detail", ["low", "full"])
def test_a_folded_spine_leaves_no_gap(detail: Detail) -> None:
    poses, transl = np.zeros((1, NUM_JOINTS, 3)), np.array([[0.0, 1.0, 0.0]])
    spine = [JOINT_INDEX[f"spine{i}"] for i in (1, 2, 3)]
    camera = look_at(np.array([3.0, 1.2, 0.0]), np.array([0.0, 1.2, 0.0]), 480, 480, focal_px=1200.0)
    renderer = AvatarRenderer(camera, MEAN_OFFSETS[None], detail)
    for bend in ([1, -1.2, 1], [-1.2, 1.2, -1], [1.3, 0, 0.6], [0, -1.4, 0]):
        poses[0, spine, 0] = bend
        line = forward_kinematics(poses, transl, MEAN_OFFSETS)[0, [0, *spine, JOINT_INDEX["neck"]]]
        body = renderer.silhouettes(poses, transl) == 0
        for start, end in itertools.pairwise(line):
            for x, y in camera.project(start + np.linspace(0, 1, 12)[:, None] * (end - start)):
                assert body[int(y), int(x)]


def test_dancers_far_below_or_behind_do_no_harm() -> None:
    poses, transl, offsets, joints = posed(0)
    renderer = AvatarRenderer(frame_dancers(joints, *SIZE), offsets)
    for move in ([0, 0, 20], [0, -30, 0], [50, 0, 0], [0, 0, -500]):
        picture = renderer.draw(poses, transl + move)
        assert picture.shape == (SIZE[1], SIZE[0], 3)


def test_what_cannot_be_drawn_is_refused() -> None:
    poses, transl, offsets, joints = posed(0)
    renderer = AvatarRenderer(frame_dancers(joints, *SIZE), offsets)
    with pytest.raises(ValueError, match="must be"):
        renderer.draw(np.concatenate([poses, poses]), transl)
    with pytest.raises(ValueError, match="NaN"):
        renderer.draw(poses * np.nan, transl)
    with pytest.raises(ValueError, match="size"):
        AvatarRenderer(frame_dancers(joints, *SIZE), 0 * offsets)
    with pytest.raises(ValueError, match="finite"):
        frame_dancers(joints * np.nan, *SIZE)
    with pytest.raises(ValueError, match="vertical"):
        look_at(np.array([0.0, 3, 0]), np.zeros(3), *SIZE, focal_px=300.0)


def test_a_sequence_gets_a_renderer_for_all_its_dancers() -> None:
    seq = make_sequence(3, num_dancers=2, num_frames=10)
    renderer = AvatarRenderer.for_sequence(seq, *SIZE)
    who = renderer.silhouettes(seq.smpl_pose[0].reshape(2, 24, 3), seq.smpl_transl[0].reshape(2, 3))
    assert {0, 1} <= set(np.unique(who).tolist())
