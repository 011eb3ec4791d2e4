"""Every condition of the rendered truth changes what it says, and nothing else changes the usual clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import laplace

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import matrix_to_axis_angle
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.synthetic.clips import (
    Capture,
    Clip,
    Image,
    Trouble,
    Truth,
    make_clip,
    picture_of,
    pose_of,
    render_clip,
    truth_of,
)
from opendance_hf.synthetic.filming import View, tilt_of
from opendance_hf.synthetic.motion import TRUTH_JOINTS
from opendance_hf.synthetic.moves import Moves, held
from tests.synthetic.support import needs_body

ANKLES = [list(TRUTH_JOINTS).index(f"{side}_ankle") for side in ("left", "right")]
HEAD = list(TRUTH_JOINTS).index("head")
pytestmark = needs_body


def walker() -> Capture:
    """Somebody who faces the camera and moves sideways at 0.5 m/s."""
    way = np.linspace(0, 1.25, 151)[:, None, None] * np.array([1.0, 0, 0])
    rest = forward_kinematics(np.zeros((24, 3)), np.array([0.0, 0.95, 0]), MEAN_OFFSETS)
    return Capture(np.asarray(rest + way)[None], 60.0)


def clip_of(trouble: Trouble) -> Clip:
    return make_clip(1, 1, duration_s=2.0, fps=10, size=(120, 214), trouble=trouble, capture=walker())


@pytest.fixture(scope="module")
def usual() -> Clip:
    return clip_of(Trouble())


def silhouette(clip: Clip, frame: int = 0) -> Image:
    return clip.stage.silhouettes(pose_of(clip, frame)) >= 0


def test_usual_clips_are_what_they_were() -> None:
    # Values from before there were conditions.
    trouble = Trouble(title_s=0.5, still_s=0.5, obstacle=True)
    clip = make_clip(1, 2, fps=5, size=(160, 90), trouble=trouble)
    ankles = [[-0.8693, 0.5837, -0.5937], [0.5214, 0.0783, -0.0932]]
    assert np.round(truth_of(clip).joints[:, 9, 4], 4).tolist() == ankles
    assert np.round(clip.stage.camera.translation, 4).tolist() == [0.0776, 0.8783, 4.8862]
    blocks = picture_of(clip, 9).reshape(3, 30, 4, 40, 3).mean(axis=(1, 3, 4))
    expected = [[153.6, 146.6, 155.7, 181.1], [146.5, 123.5, 127.8, 163.4], [73.0, 87.8, 75.2, 78.0]]
    np.testing.assert_allclose(blocks, expected, atol=0.06)


@pytest.mark.parametrize(("pitch", "roll", "focal"), [(25, 0, 1.0), (-5, -20, 0.7), (10, 15, 1.5)])
def test_a_view_sets_the_camera_and_everyone_is_seen(pitch: float, roll: float, focal: float) -> None:
    clip = clip_of(Trouble(view=View(pitch, roll, focal)))
    camera = clip.stage.camera
    np.testing.assert_allclose(np.degrees(tilt_of(camera)), [pitch, roll], atol=1e-6)
    assert camera.focal_px == pytest.approx(focal * np.hypot(120, 214))
    pixels = camera.project(clip.dances[0].positions)
    assert pixels.min() > 0
    assert (pixels < [120, 214]).all()
    feet, head = pixels[:, ANKLES].mean(axis=1), camera.project(clip.dances[0].joints())[:, HEAD]
    leaning = np.degrees(np.arctan2(*(head - feet).mean(axis=0) * [1, -1]))
    assert leaning == pytest.approx(roll, abs=12)  # perspective adds a little


def test_a_view_turns_the_dance(usual: Clip) -> None:
    away = clip_of(Trouble(view=View(yaw_deg=180))).dances[0]
    assert np.cos(usual.dances[0].facing_rad).min() > 0.9
    assert np.cos(away.facing_rad).max() < -0.9
    # Who moves to one side moves to the other when seen from behind, at the same pace.
    moved = np.diff(away.root()[[0, -1]], axis=0)
    np.testing.assert_allclose(
        moved, np.diff(usual.dances[0].root()[[0, -1]], axis=0) * [-1, 1, -1], atol=1e-9
    )
    left, right = away.joints()[:, 0], away.joints()[:, 1]
    assert (left[:, 0] < right[:, 0]).all()


def test_half_a_body_has_no_feet_in_the_picture() -> None:
    clip = clip_of(Trouble(view=View(legs=False)))
    pixels = clip.stage.camera.project(clip.dances[0].joints())
    assert pixels[:, ANKLES, 1].min() > 214
    assert (pixels[:, HEAD] > 0).all()
    assert (pixels[:, HEAD] < [120, 214]).all()


def test_a_bystander_stands_still_at_the_edge() -> None:
    clip = clip_of(Trouble(bystander=True, view=View(slack=1.3)))
    assert truth_of(clip).joints.shape[0] == 1
    first, last = (clip.stage.silhouettes(pose_of(clip, frame)) for frame in (0, -1))
    rows, columns = np.nonzero(first == 1)
    assert len(rows) > 100
    assert np.abs(columns.mean() - 60) > 30
    assert np.ptp(rows) < 0.9 * np.ptp(np.nonzero(first == 0)[0])
    dancer = (first == 0) | (last == 0)
    np.testing.assert_array_equal((first == 1) & ~dancer, (last == 1) & ~dancer)


def shapes(clip: Clip, number: int) -> list[tuple[float, float, float]]:
    """Middle, width and height in pixels of a figure's silhouette in each frame in which more than a little is seen."""
    out = []
    for frame in range(len(clip.times_s)):
        rows, columns = np.nonzero(clip.stage.silhouettes(pose_of(clip, frame)) == number)
        if len(rows) > 40:
            out.append((float(columns.mean()), float(np.ptp(columns)), float(np.ptp(rows))))
    return out


def test_a_passer_by_walks_through_the_picture_behind_the_dancer() -> None:
    clip = make_clip(1, 1, duration_s=5.0, fps=5, size=(120, 214), trouble=Trouble(passer_by=True))
    assert truth_of(clip).joints.shape[0] == 1
    seen = shapes(clip, 1)
    middles = np.array([middle for middle, _, _ in seen])
    assert 1.0 < len(seen) / 5 < 4.0, "seconds"
    assert np.ptp(middles) > 50
    assert abs(np.corrcoef(middles, np.arange(len(middles)))[0, 1]) > 0.95
    assert np.median([height for *_, height in seen]) < np.median([height for *_, height in shapes(clip, 0)])


def test_a_poster_does_not_move_and_is_beside_the_dancer() -> None:
    clip = make_clip(1, 1, duration_s=2.0, fps=5, size=(214, 120), trouble=Trouble(poster=True))
    figure = shapes(clip, 1)
    assert len(figure) == 10
    assert np.ptp(figure, axis=0) == pytest.approx([0, 0, 0], abs=1)
    dancer = np.median(shapes(clip, 0), axis=0)
    assert 0.6 < figure[0][2] / dancer[2] < 1.1
    assert abs(figure[0][0] - dancer[0]) > figure[0][1] / 2


def test_a_screen_shows_the_dancers_mirrored_and_smaller() -> None:
    clip = make_clip(1, 2, duration_s=3.0, fps=5, size=(428, 240), trouble=Trouble(mirror=True))
    assert truth_of(clip).joints.shape[0] == 2
    for dancer in (0, 1):
        own, image = np.array(shapes(clip, dancer)), np.array(shapes(clip, dancer + 2))
        assert (image[:, 2] < 0.75 * own[:, 2]).all()
        assert np.corrcoef(own[:, 0], image[:, 0])[0, 1] < -0.9
        assert np.corrcoef(own[:, 2], image[:, 2])[0, 1] > 0.9


@pytest.mark.parametrize("seed", [1, 2])
def test_the_edge_cuts_the_dancer_off_for_a_while(seed: int) -> None:
    clip = make_clip(seed, 1, duration_s=4.0, fps=10, size=(120, 214), trouble=Trouble(edge=True))
    columns = clip.stage.camera.project(clip.dances[0].positions)[..., 0]
    off = columns.min(axis=1) < 0 if seed % 2 == 0 else columns.max(axis=1) > 120
    assert 0.15 < off.mean() < 0.35
    assert ((columns > 0) & (columns < 120)).mean() > 0.8


def test_dancers_dressed_alike_are_different_people(usual: Clip) -> None:
    first, second = make_clip(1, 2, duration_s=2.0, fps=5, size=(160, 90), trouble=Trouble(alike=True)).looks
    assert (first.top, first.trousers, first.shoes) == (second.top, second.trousers, second.shoes)
    assert first.build != second.build


@pytest.mark.parametrize("num_dancers", [3, 4])
def test_a_group_is_in_the_picture_and_comes_from_its_seed(num_dancers: int) -> None:
    clip, again = (make_clip(5, num_dancers, duration_s=3.0, fps=5, size=(256, 144)) for _ in range(2))
    truth = truth_of(clip)
    assert truth.joints.shape[:2] == (num_dancers, 15)
    np.testing.assert_array_equal(truth.joints, truth_of(again).joints)
    assert clip.name == {3: "trio_005", 4: "quartet_005"}[num_dancers]
    seen = np.unique(clip.stage.silhouettes(pose_of(clip, 0)))
    assert set(seen) == {-1, *range(num_dancers)}
    pixels = clip.stage.camera.project(truth.joints)
    assert pixels.min() > 0
    assert (pixels < [256, 144]).all()


def test_loose_clothes_make_a_wider_figure_and_the_same_dance(usual: Clip) -> None:
    clip = clip_of(Trouble(loose_m=0.05))
    np.testing.assert_array_equal(truth_of(clip).joints, truth_of(usual).joints)
    assert silhouette(clip).sum() > 1.12 * silhouette(usual).sum()


def test_a_long_exposure_blurs_what_moves(usual: Clip) -> None:
    clip = clip_of(Trouble(exposure_s=0.2))
    np.testing.assert_allclose(truth_of(clip).joints, truth_of(usual).joints, atol=1e-9)
    sharp, blurred = (
        laplace(picture_of(each, 10).astype(float).mean(axis=-1))[silhouette(usual, 10)].std()
        for each in (usual, clip)
    )
    assert blurred < 0.8 * sharp


def test_little_light_is_dark_and_noisy(usual: Clip) -> None:
    clip = clip_of(Trouble(light=0.1))
    bright, dark = (picture_of(each, 3)[:20, :20].astype(float) for each in (usual, clip))
    assert dark.mean() < 0.5 * bright.mean()
    assert dark.std(axis=(0, 1)).mean() / dark.mean() > 2 * bright.std(axis=(0, 1)).mean() / bright.mean()
    np.testing.assert_array_equal(picture_of(clip, 3), picture_of(clip, 3))


def test_compression_makes_a_small_file(tmp_path: Path) -> None:
    sizes = [
        render_clip(
            1, 1, tmp_path / str(crf), duration_s=2.0, fps=10, size=(240, 428), trouble=Trouble(crf=crf),
            capture=walker(),
        ).stat().st_size
        for crf in (20, 40)
    ]  # fmt: skip
    assert sizes[1] < 0.8 * sizes[0]


def test_jumps_leave_the_floor(usual: Clip) -> None:
    dance = clip_of(Trouble(moves=Moves(hop_m=0.2))).dances[0]
    up = dance.root()[:, 1] - usual.dances[0].root()[:, 1]
    assert 0.1 < up.max() <= 0.2
    assert (up == 0).any()
    assert not dance.planted[up > 0].any()


def test_turns_end_where_they_began(usual: Clip) -> None:
    dance = clip_of(Trouble(moves=Moves(turns=1))).dances[0]
    turned = dance.facing_rad - usual.dances[0].facing_rad
    np.testing.assert_allclose(turned[[0, -1]], [0, 2 * np.pi], atol=1e-6)
    across = dance.joints()[:, 0] - dance.joints()[:, 1]
    assert across[:, 0].min() < -0.1  # seen from behind half-way
    np.testing.assert_allclose(dance.root(), usual.dances[0].root(), atol=1e-9)


def test_crouching_is_low() -> None:
    usual, low = (
        make_clip(
            4, 1, duration_s=4.0, fps=10, size=(120, 214), trouble=Trouble(moves=Moves(crouch_m=crouch))
        )
        for crouch in (0.0, 0.4)
    )
    height = [clip.dances[0].root()[:, 1] for clip in (usual, low)]
    assert height[1].min() < 0.55 < height[0].min()
    shin = low.dances[0].joints()
    lengths = np.linalg.norm(shin[:, 2:4] - shin[:, 4:6], axis=-1)
    np.testing.assert_allclose(lengths, lengths[0, 0] * np.ones_like(lengths), rtol=1e-3)


def test_a_pose_is_held_for_a_while() -> None:
    times = np.arange(0, 6, 0.1)
    moments = held(times, 2.0, 1.5)
    pace = np.diff(moments) / 0.1
    inside = (times[:-1] >= 2.3) & (times[1:] <= 3.2)
    assert np.abs(pace[inside]).max() < 0.05
    np.testing.assert_allclose(pace[times[1:] < 1.9], 1, atol=0.02)
    np.testing.assert_allclose(pace[times[:-1] > 3.6], 1, atol=0.02)
    assert moments.max() < times.max() - 1.0


@pytest.mark.parametrize(
    "view", [View(pan_deg=13), View(zoom=1.3), View(shake_deg=0.7), View(travel_m=1.2)], ids=str
)
def test_a_camera_moves_and_the_truth_says_how(view: View, tmp_path: Path) -> None:
    clip = clip_of(Trouble(view=view))
    truth = truth_of(clip)
    assert truth.turns is not None
    assert truth.zooms is not None
    turned = np.degrees(np.linalg.norm(matrix_to_axis_angle(truth.turns), axis=1))
    assert turned[0] == pytest.approx(0, abs=1e-6)
    assert turned[-1] == pytest.approx(view.pan_deg, abs=0.1 if not view.shake_deg else 5)
    assert (turned.max() > 0.5) == (view.pan_deg > 0 or view.shake_deg > 0)
    assert truth.zooms[-1] == pytest.approx(view.zoom)
    eyes = [-np.reshape(each.rotation, (3, 3)).T @ each.translation for each in clip.cameras]
    assert np.linalg.norm(eyes[-1] - eyes[0]) == pytest.approx(view.travel_m, abs=1e-6)
    # Everyone is seen by every camera, and the truth's camera is the first.
    for frame, camera in enumerate(clip.cameras):
        pixels = camera.project(clip.dances[0].positions[frame])
        assert pixels.min() > 0
        assert (pixels < [120, 214]).all()
    assert truth.camera == clip.cameras[0]
    truth.save(tmp_path / "truth.npz")
    again = Truth.load(tmp_path / "truth.npz")
    np.testing.assert_array_equal(again.turns, truth.turns)
    np.testing.assert_array_equal(again.zooms, truth.zooms)


def test_a_clip_before_a_still_camera_has_no_movement_of_it(usual: Clip, tmp_path: Path) -> None:
    truth_of(usual).save(tmp_path / "truth.npz")
    again = Truth.load(tmp_path / "truth.npz")
    assert (again.turns, again.zooms, usual.cameras) == (None, None, ())


def test_a_moving_camera_that_stands_where_a_still_one_does_shows_the_same() -> None:
    clip = clip_of(Trouble(view=View(pan_deg=13)))
    poses = pose_of(clip, 3)
    still, moved = (clip.stage.draw(poses, camera).astype(float) for camera in (None, clip.stage.camera))
    assert np.abs(still - moved).mean() < 3
    assert np.median(np.abs(still - moved)) <= 2
    assert np.abs(clip.stage.draw(poses, clip.cameras[0]) - still).mean() > 10
