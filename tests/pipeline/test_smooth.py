"""Noise goes, motion stays."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from opendance_hf.modeling.smoothnet import SmoothNetConfig, SmoothNetModel
from opendance_hf.pipeline.backends import make_backend
from opendance_hf.pipeline.backends.base import Backend, BackendError
from opendance_hf.pipeline.backends.filters import Filters
from opendance_hf.pipeline.clip import Bodies, Clip, Landmarks
from opendance_hf.pipeline.smoothing import SmoothNetSmoother
from opendance_hf.pipeline.stages.smooth import Smooth


def smooth(found: Landmarks) -> Landmarks:
    return Smooth()(Clip(Path("a.mp4"), "0" * 64, landmarks=found)).smoothed


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
    assert np.ptp(found[5:-5]) > 0.85 * np.ptp(path)


@pytest.mark.parametrize(("fps", "limit"), [(24, 0.19), (30, 0.16), (60, 0.06)])
def test_jitter_is_removed(fps: float, limit: float) -> None:
    """Measured: 0.17, 0.15 and 0.03 of the noise; 0.22, 0.19 and 0.12 without the Savitzky-Golay filter."""
    rng = np.random.default_rng(0)
    time = np.arange(4 * fps) / fps
    path = 0.3 * np.sin(2 * np.pi * 0.5 * time)
    noisy = path + rng.normal(0, 0.02, len(path))
    found = smooth(landmarks(noisy, fps)).world[0, :, 0, 0]
    assert np.abs(np.diff(found, 2)).mean() < limit * np.abs(np.diff(noisy, 2)).mean()
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


# --- SmoothNet ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def smoothnet(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    """A SmoothNet that takes the mean of its window of 8 frames."""
    folder = tmp_path_factory.mktemp("smoothnet")
    model = SmoothNetModel(SmoothNetConfig(8, hidden_size=8, res_hidden_size=8, num_blocks=1)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.encoder[0].weight[0] = 1 / 8
        model.encoder[0].weight[1] = -1 / 8
        model.decoder.weight[:, 0] = 1 / 0.99
        model.decoder.weight[:, 1] = -1 / 0.99
    model.save_pretrained(folder)
    return make_backend("smoother", f"smoothnet:{folder}").prepare()


def jittering_bodies(frames: int = 60) -> Bodies:
    rng = np.random.default_rng(5)
    turns = Rotation.from_rotvec(rng.normal(0, 0.1, (frames * 24, 3))).as_matrix()
    return Bodies(
        times_s=3.0 + np.arange(frames) / 30,
        rotations=turns.reshape(1, frames, 24, 3, 3).astype(np.float32),
        betas=rng.normal(size=(1, frames, 10)).astype(np.float32),
        transl=rng.normal(0, 0.05, (1, frames, 3)).astype(np.float32),
    )


def test_both_smoothers_take_jitter_out_of_bodies(smoothnet: Backend) -> None:
    noisy = jittering_bodies()
    found = landmarks(np.zeros(60), 30)
    for backend in (Filters(), smoothnet):
        clip = Clip(Path("a.mp4"), "0" * 64, landmarks=found, bodies=noisy)
        steady = Smooth(backend)(clip).bodies
        assert steady is not None
        for name in ("rotations", "transl"):
            jitter = [np.abs(np.diff(getattr(b, name), n=2, axis=1)).mean() for b in (steady, noisy)]
            assert jitter[0] < 0.5 * jitter[1], (backend.name, name)
        products = steady.rotations @ np.swapaxes(steady.rotations, -1, -2)
        np.testing.assert_allclose(products, np.broadcast_to(np.eye(3), products.shape), atol=1e-5)
        np.testing.assert_array_equal(steady.betas, noisy.betas)
        np.testing.assert_array_equal(steady.times_s, noisy.times_s)


def test_smoothnet_smooths_bodies_instead_of_landmarks(smoothnet: Backend) -> None:
    found = landmarks(np.random.default_rng(0).normal(size=60), 30)
    clip = Clip(Path("a.mp4"), "0" * 64, landmarks=found)
    filtered, alone = Smooth()(clip), Smooth(smoothnet)(clip)
    with_bodies = Smooth(smoothnet)(replace(clip, bodies=jittering_bodies()))
    assert alone.bodies is None
    np.testing.assert_array_equal(alone.smoothed.image, filtered.smoothed.image)
    assert np.abs(alone.smoothed.world - filtered.smoothed.world).max() > 0.1
    np.testing.assert_array_equal(with_bodies.smoothed.world, filtered.smoothed.world)


def test_smoothnet_sees_landmarks_without_what_alternates_with_the_mirror() -> None:
    """A network that changes nothing shows what it was given."""
    smoother = SmoothNetSmoother(lambda paths: SimpleNamespace(smoothed=paths), Filters().load())
    found = landmarks(0.5 + 0.03 * (-1.0) ** np.arange(60), 30)
    steady, _ = smoother.smooth(found, None)
    np.testing.assert_allclose(steady.world[:, 1:-1], 0.5, atol=1e-6)


def test_smoothnet_tells_what_it_is(smoothnet: Backend, tmp_path: Path) -> None:
    assert Smooth(smoothnet).provenance() == (("smooth", "smoothnet-w8", smoothnet.version),)
    assert len(smoothnet.version) == 12
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "cliff"}))
    with pytest.raises(BackendError) as caught:
        make_backend("smoother", f"smoothnet:{tmp_path}").prepare()
    for fact in (str(tmp_path), "'cliff'", "'smoothnet'", "opendance convert smoothnet"):
        assert fact in str(caught.value)
