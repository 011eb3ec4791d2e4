"""Landmarks of a camera that turns and zooms become those of a camera that stands still; one that travels is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendance_hf.pipeline.clip import Bodies, CameraMotion, CameraPath, Clip, Landmarks
from opendance_hf.pipeline.stage import Dropped
from opendance_hf.pipeline.stages.steady import Steady, relative_path, steady_bodies
from opendance_hf.schema import Camera
from tests.pipeline.truth import VIDEO, Truth, camera_at, dance, landmarks_of, together

FRAMES = 60


def aimed(camera: Camera, turn_deg: np.ndarray, zoom: float) -> Camera:
    """A camera turned around its centre, and zoomed."""
    turn = Rotation.from_rotvec(turn_deg, degrees=True).as_matrix()
    rotation = turn @ np.asarray(camera.rotation).reshape(3, 3)
    translation = turn @ np.asarray(camera.translation)
    return replace(
        camera,
        focal_px=camera.focal_px * zoom,
        rotation=tuple(rotation.ravel()),
        translation=tuple(translation),
    )


def shown() -> Truth:
    """A dancer before a camera of the focal length that the pipeline assumes."""
    camera = replace(camera_at(), focal_px=float(np.hypot(VIDEO.width_px, VIDEO.height_px)))
    return together([dance(0, FRAMES, place=(0.4, 0.0))], camera)


def filmed(turns_deg: np.ndarray, zooms: np.ndarray) -> Landmarks:
    """Landmarks of the dancer, each frame seen by its own camera."""
    truth, rows = shown(), []
    for frame, (turn, zoom) in enumerate(zip(turns_deg, zooms, strict=True)):
        one = slice(frame, frame + 1)
        still = replace(
            truth, times_s=truth.times_s[one], poses=truth.poses[:, one], transl=truth.transl[:, one],
            joints=truth.joints[:, one], camera=aimed(truth.camera, turn, float(zoom)),
        )  # fmt: skip
        rows.append(landmarks_of(still))
    joined = {
        name: np.concatenate([getattr(row, name) for row in rows], axis=1)
        for name in ("image", "world", "visibility")
    }
    return Landmarks(
        times_s=truth.times_s,
        regions_px=(500 * zooms)[None].astype(np.float32),
        **joined,
    )


def clip_of(
    landmarks: Landmarks, turns_deg: np.ndarray, zooms: np.ndarray, parallax_deg: float | np.ndarray = 0.02
) -> Clip:
    times = landmarks.times_s
    path = CameraPath(
        times,
        np.radians(turns_deg),
        zooms,
        np.broadcast_to(parallax_deg, len(times)),
        np.zeros(len(times), int),
    )
    return Clip(
        Path("v.mp4"), "0" * 64, start_s=0.0, end_s=2.0, video=VIDEO, landmarks=landmarks,
        camera_motion=CameraMotion(times, np.zeros(len(times)), path), scores={"earlier": 1.0},
    )  # fmt: skip


def moving() -> tuple[np.ndarray, np.ndarray]:
    """A pan by 12 degrees that shakes and rolls, and a zoom by 1.3."""
    passed = np.linspace(0, 1, FRAMES)
    turns = np.stack([np.sin(9 * passed), 12 * passed, 6 * np.sin(3 * passed)], axis=1)
    return turns, 1.3**passed


def test_landmarks_are_those_of_a_camera_that_stands_still() -> None:
    turns, zooms = moving()
    still = landmarks_of(shown())
    moved = filmed(turns, zooms)
    steady = Steady()(clip_of(moved, turns, zooms))
    assert isinstance(steady, Clip)
    assert np.abs(moved.image - still.image).max() > 100
    np.testing.assert_allclose(steady.landmarks.image, still.image, atol=0.05)
    np.testing.assert_allclose(steady.landmarks.world, still.world, atol=1e-4)
    np.testing.assert_allclose(steady.landmarks.regions_px, still.regions_px, rtol=1e-5)
    np.testing.assert_array_equal(steady.landmarks.visibility, moved.visibility)
    assert steady.scores["camera_turn_deg"] == pytest.approx(np.linalg.norm(turns, axis=1).max(), abs=0.5)
    assert steady.scores["camera_zoom"] == pytest.approx(1.3)


def test_the_reference_is_the_first_frame_of_the_span() -> None:
    turns, zooms = moving()
    around = aimed(shown().camera, turns[0], 1.0)
    early = Rotation.from_euler("y", 30, degrees=True)
    since_start = (Rotation.from_rotvec(turns, degrees=True) * early).as_rotvec(degrees=True)
    steady = Steady()(clip_of(filmed(turns, zooms), since_start, 0.8 * zooms))
    assert isinstance(steady, Clip)
    np.testing.assert_allclose(
        steady.landmarks.image, landmarks_of(replace(shown(), camera=around)).image, atol=0.05
    )
    assert steady.steadied is not None
    assert not steady.steadied.turns[0].any()
    assert steady.steadied.zooms[0] == 1.0


def test_unknown_frames_are_interpolated() -> None:
    turns, zooms = moving()
    path = CameraPath(
        np.arange(FRAMES) / 30, np.radians(turns), zooms, np.zeros(FRAMES), np.zeros(FRAMES, int)
    )
    path.turns[10:13] = np.nan
    path.parallax_deg[11] = np.nan
    found = relative_path(path, path.times_s)
    complete = relative_path(replace(path, turns=np.radians(turns)), path.times_s)
    np.testing.assert_allclose(found.turns, complete.turns, atol=np.radians(0.05))


@pytest.mark.parametrize("turn_deg", [0.0, 0.2])
def test_landmarks_before_a_still_camera_are_not_touched(turn_deg: float) -> None:
    turns = turn_deg * np.random.default_rng(0).uniform(-1, 1, (FRAMES, 3)) / np.sqrt(3) / 2
    clip = clip_of(landmarks_of(shown()), turns, np.ones(FRAMES))
    kept = Steady()(clip)
    assert isinstance(kept, Clip)
    assert kept.landmarks is clip.landmarks
    assert kept.steadied is None
    assert kept.scores == {
        "earlier": 1.0, "camera_turn_deg": 0.0, "camera_zoom": 1.0, "camera_parallax_deg": pytest.approx(0.02),
    }  # fmt: skip


def test_landmarks_are_not_touched_where_the_motion_is_not_known() -> None:
    turns, zooms = moving()
    turns[20:] = np.nan
    clip = clip_of(landmarks_of(shown()), turns, zooms)
    unmeasured = replace(clip, camera_motion=replace(clip.camera_motion, path=None))
    for each in (clip, unmeasured):
        kept = Steady()(each)
        assert isinstance(kept, Clip)
        assert kept.landmarks is clip.landmarks


def test_a_camera_that_travels_is_refused_by_name() -> None:
    turns, zooms = moving()
    dropped = Steady()(clip_of(filmed(turns, zooms), turns, zooms, 0.5))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "the camera travels: its movement is not a rotation or zoom"
    assert "0.50 degrees" in dropped.detail
    assert "at most 0.2" in dropped.detail
    allowed = replace(Steady(), max_parallax_deg=0.6)(clip_of(filmed(turns, zooms), turns, zooms, 0.5))
    assert isinstance(allowed, Clip)
    assert allowed.steadied is not None


def test_a_small_motion_among_near_things_is_left_as_it_is() -> None:
    turns, _ = moving()
    clip = clip_of(filmed(turns / 4, np.ones(FRAMES)), turns / 4, np.ones(FRAMES), 0.5)
    kept = Steady()(clip)
    assert isinstance(kept, Clip)
    assert kept.landmarks is clip.landmarks
    assert (kept.scores["camera_turn_deg"], kept.scores["camera_parallax_deg"]) == (0.0, 0.5)


def test_bodies_turn_with_the_camera() -> None:
    turns, zooms = moving()
    rng = np.random.default_rng(0)
    roots, places = Rotation.random(FRAMES, random_state=0), rng.uniform((-1, -1, 4), (1, 1, 6), (FRAMES, 3))
    cameras = Rotation.from_rotvec(turns, degrees=True)
    path = CameraPath(
        np.arange(FRAMES) / 30, np.radians(turns), zooms, np.zeros(FRAMES), np.zeros(FRAMES, int)
    )
    rotations = np.broadcast_to(np.eye(3), (1, FRAMES, 24, 3, 3)).copy()
    rotations[0, :, 0] = (cameras * roots).as_matrix()
    pelvis = np.array([-0.0018, -0.2233, 0.0282])
    transl = (
        cameras.apply(places + pelvis) / np.stack([np.ones(FRAMES), np.ones(FRAMES), zooms], axis=1) - pelvis
    )
    found = Bodies(path.times_s, rotations, np.zeros((1, FRAMES, 10)), transl[None])
    steady = steady_bodies(found, path)
    np.testing.assert_allclose(steady.rotations[0, :, 0], roots.as_matrix(), atol=1e-6)
    np.testing.assert_allclose(steady.transl[0], places, atol=1e-5)


def test_a_camera_that_turns_too_far_is_refused_by_name() -> None:
    turns, zooms = moving()
    turns = turns * (60 / np.linalg.norm(turns, axis=1).max())
    dropped = Steady()(clip_of(landmarks_of(shown()), turns, zooms))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "the camera turns too far"
    assert "35" in dropped.detail


def test_landmarks_are_not_touched_where_the_background_was_lost_between_two_parts() -> None:
    turns, zooms = moving()
    clip = clip_of(landmarks_of(shown()), turns, zooms)
    path = clip.camera_motion.path
    assert path is not None
    lost = replace(path, parts=(np.arange(FRAMES) > FRAMES // 2).astype(int))
    kept = Steady()(replace(clip, camera_motion=replace(clip.camera_motion, path=lost)))
    assert isinstance(kept, Clip)
    assert kept.landmarks is clip.landmarks


def test_a_path_far_from_its_reference_is_continuous() -> None:
    turns = np.zeros((FRAMES, 3))
    turns[:, 1] = np.linspace(170, 190, FRAMES)
    vectors = Rotation.from_rotvec(turns, degrees=True).as_rotvec()
    path = CameraPath(
        np.arange(FRAMES) / 30, vectors, np.ones(FRAMES), np.zeros(FRAMES), np.zeros(FRAMES, int)
    )
    found = relative_path(path, np.arange(2 * FRAMES - 1) / 60)
    np.testing.assert_allclose(np.degrees(found.turns[:, 1]), np.linspace(0, 20, 2 * FRAMES - 1), atol=1e-6)
