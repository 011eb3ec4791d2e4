"""Turn and zoom of a camera are measured from the background, whatever people do before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendance_hf.motion.rotations import matrix_to_axis_angle
from opendance_hf.pipeline.background import Aim, BackgroundFollower, homography, steady_picture
from opendance_hf.pipeline.clip import CameraPath, Clip, Detections, Landmarks
from opendance_hf.pipeline.clothing import CLOTHING_DIM
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.shots import Shots
from opendance_hf.pipeline.stages.steady import Steady
from opendance_hf.pipeline.video import probe
from opendance_hf.synthetic.clips import Trouble, render_clip
from opendance_hf.synthetic.filming import View
from opendance_hf.synthetic.truth import Truth, truth_path
from tests.synthetic.support import needs_body

WIDTH, HEIGHT = 192, 256
STILL = np.zeros(3), 1.0
NOBODY = np.zeros((0, 4), np.float32)


def wall(seed: int = 0) -> np.ndarray:
    """A picture of three times the size, with blots at its places."""
    rng = np.random.default_rng(seed)
    rough = cv2.resize(rng.integers(60, 200, (90, 68, 3), dtype=np.uint8), (3 * WIDTH, 3 * HEIGHT))
    for _ in range(500):
        x, y = rng.integers(0, (3 * WIDTH, 3 * HEIGHT))
        cv2.circle(rough, (int(x), int(y)), int(rng.integers(3, 9)), rng.integers(0, 255, 3).tolist(), -1)
    return rough


def seen(picture: np.ndarray, turn_deg: np.ndarray, zoom: float, focal_ratio: float = 1.0) -> np.ndarray:
    """Return what a camera shows of a far wall that is turned to it when it is not."""
    aim = Aim(Rotation.from_rotvec(turn_deg, degrees=True).as_matrix(), focal_ratio * zoom)
    middle = np.array([[1, 0, -WIDTH], [0, 1, -HEIGHT], [0, 0, 1]], dtype=float)
    matrix = homography(Aim(np.eye(3), focal_ratio), aim, WIDTH, HEIGHT) @ middle
    return cv2.warpPerspective(picture, matrix, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)


def follow(pictures: list[np.ndarray], people: np.ndarray = NOBODY, focal_ratio: float = 1.0) -> CameraPath:
    follower = BackgroundFollower(focal_ratio)
    for number, picture in enumerate(pictures):
        follower.add(number / 30, picture, people)
    return follower.path()


def errors(path: CameraPath, turns_deg: np.ndarray, zooms: np.ndarray) -> tuple[float, float]:
    """The largest errors of the turn in degrees and of the zoom, relative to the first frame."""
    found, true = Rotation.from_rotvec(path.turns), Rotation.from_rotvec(turns_deg, degrees=True)
    wrong = (found * found[0].inv()) * (true * true[0].inv()).inv()
    zoomed = (path.zooms / path.zooms[0]) / (zooms / zooms[0])
    return float(np.degrees(wrong.magnitude()).max()), float(np.abs(np.log(zoomed)).max())


def path_of(kind: str, frames: int = 60) -> tuple[np.ndarray, np.ndarray]:
    passed = np.linspace(0, 1, frames)
    turns, zooms = np.zeros((frames, 3)), np.ones(frames)
    if kind == "pan":
        turns[:, 1] = 13 * passed
    elif kind == "zoom":
        zooms = 1.3**passed
    else:
        turns = 0.8 * np.sin(2 * np.pi * (np.array([2.1, 3.3, 1.2]) * 2 * passed[:, None] + (0.1, 0.5, 0.8)))
    return turns, zooms


@pytest.mark.parametrize("kind", ["pan", "zoom", "shake"])
def test_turn_and_zoom_are_measured(kind: str) -> None:
    turns, zooms = path_of(kind)
    path = follow([seen(wall(), turn, zoom) for turn, zoom in zip(turns, zooms, strict=True)])
    turn_error, zoom_error = errors(path, turns, zooms)
    assert turn_error < 0.1
    assert zoom_error < 0.004
    assert np.nanmax(path.parallax_deg) < 0.1


def test_a_dancer_does_not_turn_the_camera() -> None:
    turns, zooms = path_of("pan")
    rng, pictures = np.random.default_rng(1), []
    clothes = cv2.resize(rng.integers(0, 255, (20, 10, 3), dtype=np.uint8), (80, 180))
    for frame, (turn, zoom) in enumerate(zip(turns, zooms, strict=True)):
        picture = seen(wall(), turn, zoom)
        picture[40:220, 50 + frame // 4 : 130 + frame // 4] = clothes  # walks the other way
        pictures.append(picture)
    box = np.array([[40 / WIDTH, 40 / HEIGHT, 160 / WIDTH, 220 / HEIGHT]], np.float32)
    assert errors(follow(pictures, box), turns, zooms)[0] < 0.15


def test_a_still_camera_is_still() -> None:
    rng = np.random.default_rng(3)
    picture = seen(wall(), *STILL).astype(float)
    noisy = [np.clip(picture + rng.normal(0, 6, picture.shape), 0, 255).astype(np.uint8) for _ in range(40)]
    path = follow(noisy)
    assert np.degrees(np.abs(path.turns).max()) < 0.1
    assert np.abs(np.log(path.zooms)).max() < 0.004


def test_a_camera_that_travels_leaves_parallax() -> None:
    """The lower half of the picture is three times as near."""
    pictures = []
    for frame in range(60):
        far = seen(wall(0), np.array([0.0, 0.15 * frame, 0.0]), 1.0)
        near = seen(wall(1), np.array([0.0, 0.45 * frame, 0.0]), 1.0)
        pictures.append(np.concatenate([far[: HEIGHT // 2], near[HEIGHT // 2 :]]))
    path = follow(pictures)
    assert np.nanquantile(path.parallax_deg, 0.8) > 0.5


@pytest.mark.parametrize(("parallax_deg", "parts"), [(0.4, 1), (np.nan, 2)], ids=["unexplained", "lost"])
def test_frames_in_which_corners_move_otherwise_do_not_end_a_part(
    parallax_deg: float, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A camera that travels is refused for its whole motion, not for that between two places where it was lost."""
    measured = BackgroundFollower._locate
    follower = BackgroundFollower()
    for frame in range(60):
        unknown = 20 <= frame < 35
        failure = (None, parallax_deg, 0.8)
        monkeypatch.setattr(
            BackgroundFollower, "_locate", (lambda *_, failure=failure: failure) if unknown else measured
        )
        follower.add(frame / 30, seen(wall(), np.array([0.0, 0.1 * frame, 0.0]), 1.0), NOBODY)
    path = follower.path()
    assert len(np.unique(path.parts[np.isfinite(path.turns[:, 0])])) == parts


def test_black_bars_are_not_background() -> None:
    turns, zooms = path_of("pan")
    pictures = [seen(wall(), turn, zoom) for turn, zoom in zip(turns, zooms, strict=True)]
    for picture in pictures:
        picture[:30] = picture[-30:] = 0
        picture[:, :20] = picture[:, -20:] = 0
    assert errors(follow(pictures), turns, zooms)[0] < 0.15


def test_nothing_is_known_of_a_picture_without_corners_nor_across_a_cut() -> None:
    flat = np.full((HEIGHT, WIDTH, 3), 120, np.uint8)
    assert np.isnan(follow([flat] * 10).turns).all()
    pans = [np.array([0.0, 0.2 * frame, 0.0]) for frame in range(30)]
    pictures = [seen(wall(seed), turn, 1.0) for seed in (0, 5) for turn in pans]
    path = follow(pictures)
    assert np.isnan(path.turns[30]).all()
    # The second shot is measured anew, soon after its start.
    second = path.between(40 / 30, 2.0)
    assert errors(second, np.array(pans[10:]), np.ones(20))[0] < 0.1


@pytest.mark.parametrize("focal_ratio", [0.6, 0.8, 1.5])
def test_a_stated_focal_length_is_used(focal_ratio: float) -> None:
    turns, zooms = path_of("pan")
    pictures = [seen(wall(), turn, zoom, focal_ratio) for turn, zoom in zip(turns, zooms, strict=True)]
    path = follow(pictures, focal_ratio=focal_ratio)
    assert path.focal_ratio == focal_ratio
    assert errors(path, turns, zooms)[0] < 0.15
    found, assumed = (np.nanquantile(p.parallax_deg, 0.8) for p in (path, follow(pictures)))
    assert found < 0.12
    assert found < 0.6 * assumed, "with the diagonal, the turn looks like travel"


def test_after_a_cut_the_first_frame_is_the_reference() -> None:
    turns, zooms = path_of("pan")
    pictures = [seen(wall(), turn, zoom) for turn, zoom in zip(turns, zooms, strict=True)]
    follower = BackgroundFollower()
    for number, picture in enumerate([*pictures, *pictures]):
        if number == len(pictures):
            follower.restart()
        follower.add(number / 30, picture, NOBODY)
    path = follower.path()
    assert path.parts.tolist() == [0] * 60 + [1] * 60
    second = path.between(2.0, 4.0)
    assert np.isfinite(second.turns).all(), "no frame is lost at a cut that is known"
    assert not second.turns[0].any()
    assert errors(second, turns, zooms)[0] < 0.15


def test_a_turn_while_the_background_is_lost_is_not_taken_for_none() -> None:
    before, after = seen(wall(), *STILL), seen(wall(), np.array([0.0, 12.0, 0.0]), 1.0)
    bare = np.full_like(before, 128)
    path = follow([before] * 20 + [bare] * 10 + [after] * 20)
    known = np.isfinite(path.turns[:, 0])
    assert len(np.unique(path.parts[known])) == 2


def test_a_picture_is_shown_as_from_the_first_frame() -> None:
    turn = np.array([0.5, 4.0, -2.0])
    first, later = seen(wall(), *STILL), seen(wall(), turn, 1.1)
    path = CameraPath(
        np.array([0.0, 1.0]),
        np.radians([np.zeros(3), turn]),
        np.array([1.0, 1.1]),
        np.zeros(2),
        np.zeros(2, int),
    )
    shown = steady_picture(later, path, 1.02)
    inner = (shown.max(axis=2) > 0)[..., None]
    apart = np.abs(shown.astype(float) - first)[np.broadcast_to(inner, shown.shape)].mean()
    assert inner.mean() > 0.6
    assert apart < 0.25 * np.abs(later.astype(float) - first).mean()
    np.testing.assert_array_equal(steady_picture(first, path, 0.0), first)


def boxes_of(truth: Truth) -> Detections:
    """The boxes of the dancers as the moving camera sees them."""
    assert truth.turns is not None
    assert truth.zooms is not None
    rows = []
    for frame, (turn, zoom) in enumerate(zip(truth.turns, truth.zooms, strict=True)):
        rotation = turn @ np.asarray(truth.camera.rotation).reshape(3, 3)
        camera = replace(
            truth.camera,
            focal_px=truth.camera.focal_px * float(zoom),
            rotation=tuple(rotation.ravel()),
            translation=tuple(turn @ truth.camera.translation),
        )
        pixels = camera.project(truth.joints[:, frame])
        rows.append(np.concatenate([pixels.min(axis=1) - 8, pixels.max(axis=1) + 8, [[1.0]]], axis=1))
    counts = np.ones(len(rows), np.int64)
    clothing = np.zeros((len(rows), CLOTHING_DIM), np.float32)
    return Detections(truth.times_s, counts, np.concatenate(rows).astype(np.float32), clothing)


@pytest.mark.slow
@needs_body
@pytest.mark.parametrize("view", [View(pan_deg=13), View(travel_m=1.2, slack=1.3)], ids=["pan", "travel"])
def test_a_rendered_pan_is_measured_and_a_rendered_travel_refused(view: View, tmp_path: Path) -> None:
    trouble = Trouble(view=view)
    video = render_clip(221, 1, tmp_path, duration_s=5, fps=15, size=(426, 240), trouble=trouble)
    truth = Truth.load(truth_path(video))
    (shot,) = Shots()(Clip(video, "0" * 64, video=probe(video), detections=boxes_of(truth)))
    path = shot.camera_motion.path
    assert path is not None
    assert truth.turns is not None
    assert truth.zooms is not None
    count = len(truth.times_s)
    marks = Landmarks(
        truth.times_s, np.zeros((1, count, 33, 2), np.float32), np.zeros((1, count, 33, 3), np.float32),
        np.ones((1, count, 33), np.float32), np.ones((1, count), np.float32),
    )  # fmt: skip
    found = Steady()(replace(shot, end_s=5.0, landmarks=marks))
    if view.travel_m:
        assert isinstance(found, Dropped)
        assert "the camera travels" in found.reason
        return
    turns_deg = np.degrees(matrix_to_axis_angle(truth.turns))
    turn_error, zoom_error = errors(path, turns_deg, truth.zooms)
    assert turn_error < 0.1
    assert zoom_error < 0.005
    assert isinstance(found, Clip)
    assert found.scores["camera_turn_deg"] == pytest.approx(13, abs=0.1)
