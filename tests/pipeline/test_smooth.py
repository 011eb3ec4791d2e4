"""Noise goes, motion stays."""

from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.pipeline.stages.pose import Landmarks
from opendance_hf.pipeline.stages.smooth import smooth


def landmarks(path: np.ndarray, fps: float) -> Landmarks:
    """One dancer all of whose coordinates follow a path (T,)."""
    shape = (1, len(path), 33)
    return Landmarks(
        times_s=3.0 + np.arange(len(path)) / fps,
        image=np.broadcast_to(1000 * path[None, :, None, None], (*shape, 2)).astype(np.float32),
        world=np.broadcast_to(path[None, :, None, None], (*shape, 3)).astype(np.float32),
        visibility=np.ones(shape, np.float32),
        regions_px=np.ones(shape[:2], np.float32),
    )


@pytest.mark.parametrize("fps", [15, 24, 30, 60])
def test_slow_motion_is_untouched(fps: float) -> None:
    time = np.arange(3 * fps) / fps
    path = np.sin(2 * np.pi * 0.5 * time)
    found = smooth(landmarks(path, fps))
    assert np.abs(found.world[0, 2:-2, 0, 0] - path[2:-2]).max() < 0.02
    line = landmarks(0.3 * time, fps)
    np.testing.assert_allclose(smooth(line).world[:, 2:-2], line.world[:, 2:-2], atol=1e-5)


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_a_dance_hit_survives(fps: float) -> None:
    """Two metres a second and back within half a second, as a fast arm does."""
    time = np.arange(3 * fps) / fps
    path = 0.3 * np.sin(2 * np.pi * 2 * time)
    found = smooth(landmarks(path, fps)).world[0, :, 0, 0]
    assert np.ptp(found[5:-5]) > 0.8 * np.ptp(path)


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_jitter_is_removed(fps: float) -> None:
    rng = np.random.default_rng(0)
    time = np.arange(4 * fps) / fps
    path = 0.3 * np.sin(2 * np.pi * 0.5 * time)
    noisy = path + rng.normal(0, 0.02, len(path))
    found = smooth(landmarks(noisy, fps)).world[0, :, 0, 0]
    assert np.abs(np.diff(found, 2)).mean() < 0.3 * np.abs(np.diff(noisy, 2)).mean()
    assert np.std(found - path) < 0.75 * 0.02


@pytest.mark.parametrize("fps", [24, 30, 60])
def test_a_single_bad_frame_is_removed(fps: float) -> None:
    path = np.zeros(2 * round(fps))
    path[20] = 1.0
    assert np.abs(smooth(landmarks(path, fps)).world).max() < 1e-6


def test_nothing_else_changes() -> None:
    found = landmarks(np.random.default_rng(0).normal(size=60), 30)
    out = smooth(found)
    for name in ("times_s", "visibility", "regions_px"):
        np.testing.assert_array_equal(getattr(out, name), getattr(found, name))
    assert (out.image.dtype, out.world.dtype) == (np.float32, np.float32)
    assert out.image.shape == found.image.shape


def test_a_very_short_run_passes_through() -> None:
    path = np.array([0.0, 0.1, 0.2, 0.3])
    assert np.isfinite(smooth(landmarks(path, 30)).world).all()


@pytest.mark.parametrize("fps", [24, 25, 30, 60])
def test_what_alternates_with_the_mirror_vanishes(fps: float) -> None:
    """A dancer at rest is seen 6 cm apart from either side: at rest all the same."""
    path = 0.5 + 0.03 * (-1.0) ** np.arange(3 * fps)
    found = smooth(landmarks(path, fps))
    np.testing.assert_allclose(found.world[:, 15:-15], 0.5, atol=1e-4)
    np.testing.assert_allclose(found.image[:, 15:-15], 500, atol=0.1)
