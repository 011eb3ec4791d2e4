"""CLIFF, and the stage that lifts a clip's dancers with it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel
from opendance_hf.modeling.cliff.feature_extraction_cliff import (
    bbox_info,
    corners,
    crop,
    crops_of_boxes,
    focal_length,
    full_camera,
)
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.backends.cliff import CLIFF
from opendance_hf.pipeline.clip import Clip, Image, Job
from opendance_hf.pipeline.stages import lift
from opendance_hf.pipeline.stages.lift import Lift


@pytest.fixture(scope="module")
def cliff(tmp_path_factory: pytest.TempPathFactory) -> CLIFF:
    """An untrained CLIFF."""
    folder = tmp_path_factory.mktemp("cliff")
    torch.manual_seed(0)
    CLIFFModel(CLIFFConfig(width=4, hidden_size=16)).save_pretrained(folder)
    return CLIFF(file=str(folder)).prepare()


@pytest.mark.shared
def test_parity_cliff_preprocessing(shared: Path) -> None:
    with np.load(shared / "reference" / "cliff.npz", allow_pickle=False) as archive:
        data = dict(archive)
    assert json.loads((shared / "reference" / "cliff.json").read_text())["preprocess"]["crop_hw"] == [
        256,
        192,
    ]
    y, x = np.mgrid[:480, :640]
    image = np.stack([x * 255 // 639, y * 255 // 479, 200 * ((x // 16 + y // 16) % 2)], axis=-1)
    image = image.astype(np.uint8)
    centre, scale = crops_of_boxes(data["pre_boxes_xyxy"], CLIFF().crop_margin)
    np.testing.assert_allclose(centre, data["pre_center"], atol=1e-4)
    np.testing.assert_allclose(scale, data["pre_scale"], rtol=1e-6)
    first, last = corners(centre, scale)
    np.testing.assert_array_equal(first, data["pre_ul"])
    np.testing.assert_array_equal(last, data["pre_br"])
    cut = np.stack([crop(image, a, b) for a, b in zip(first, last, strict=True)])
    np.testing.assert_allclose(cut[:, :, ::8, ::8], data["pre_norm_img_sub8"], atol=1e-4)
    assert focal_length(640, 480) == pytest.approx(data["pre_focal"][0])
    np.testing.assert_allclose(bbox_info(centre, scale, 640, 480), data["pre_bbox_info"], atol=1e-5)
    camera = full_camera(data["pre_crop_cam"], centre, scale, 640, 480)
    np.testing.assert_allclose(camera, data["pre_full_cam"], rtol=1e-5)


def test_each_person_of_each_frame_is_seen(cliff: CLIFF) -> None:
    estimator = cliff.load()
    images, boxes = pictures(2), [BOXES] * 2
    both = estimator.estimate(images, boxes)
    alone = estimator.estimate(images[1:], [BOXES[1:]])
    assert [part.shape for part in both[0]] == [(2, 24, 3, 3), (2, 10), (2, 3)]
    for ours, theirs in zip(both[1], alone[0], strict=True):
        np.testing.assert_allclose(ours[1], theirs[0], atol=1e-5)
    # The one on the right stands to the right of the one on the left, before the camera.
    assert both[0][2][1, 0] > both[0][2][0, 0]
    assert (both[0][2][:, 2] > 0).all()
    few = replace(cliff, batch_size=3).load().estimate(images, boxes)
    for ours, theirs in zip(few[1], both[1], strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


BOXES = np.array([[10, 10, 50, 90], [70, 5, 110, 95]], np.float32)


def pictures(count: int) -> list[Image]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(count)]


def test_a_clip_is_lifted_alike_by_any_number_of_threads(
    cliff: CLIFF, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(2)

    def read_frames(path: Path, start_s: float, end_s: float) -> Iterator[tuple[float, Image]]:
        assert (str(path), start_s, end_s) == ("a.mp4", 1.0, 1.0 + 20 / 30)
        return iter((start_s + t / 30, images[t % 2]) for t in range(20))

    monkeypatch.setattr(lift, "read_frames", read_frames)
    track = np.stack([np.stack([box] * 20) for box in BOXES])
    track[0, 3:6] = np.nan
    clip = Clip(Path("a.mp4"), "0" * 64, 1.0, 1.0 + 20 / 30, boxes=track)
    shares: list[float] = []
    one, two = (
        Lift(cliff)(replace(clip, job=Job(threads=threads, report=shares.append))).bodies
        for threads in (1, 2)
    )
    assert one is not None
    assert two is not None
    assert one.rotations.shape == (2, 20, 24, 3, 3)
    for name in ("times_s", "rotations", "betas", "transl"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    np.testing.assert_allclose(one.times_s, 1.0 + np.arange(20) / 30)
    np.testing.assert_allclose(
        one.transl[1, 1], cliff.load().estimate(images[1:], [BOXES])[0][2][1], atol=1e-4
    )
    assert shares[:3] == pytest.approx([7 / 20, 15 / 20, 19 / 20])


def test_boxes_are_completed_and_steadied() -> None:
    track = np.zeros((1, 40, 4), np.float32)
    track[0] = np.arange(40)[:, None] * (1, 2, 1, 2)
    exact = track.copy()
    track[0, 10:14] = np.nan
    track[0, 25] += 50  # one bad detection
    steady = Lift().steady_boxes(track)
    np.testing.assert_allclose(steady[:, 5:-5], exact[:, 5:-5], atol=2)
    jitter = np.random.default_rng(0).normal(0, 2, track.shape)
    noisy = Lift().steady_boxes((exact + jitter).astype(np.float32))
    assert np.abs(np.diff(noisy, 2, axis=1)).mean() < 0.2 * np.abs(np.diff(exact + jitter, 2, axis=1)).mean()


def test_it_tells_what_it_is(cliff: CLIFF, tmp_path: Path) -> None:
    assert Lift(cliff).provenance() == (("lift", "cliff-res50", cliff.version),)
    assert len(cliff.version) == 12
    # The same numbers come out of every device, but not of every crop.
    assert replace(cliff, device="cpu").fingerprinted() == cliff.fingerprinted()
    assert replace(cliff, crop_margin=1.2).fingerprinted() != cliff.fingerprinted()
    (tmp_path / "hr48.pt").write_bytes(b"x")
    with pytest.raises(BackendError) as caught:
        CLIFF(file=str(tmp_path / "hr48.pt")).prepare()
    for fact in (str(tmp_path / "hr48.pt"), "config.json", "opendance convert cliff"):
        assert fact in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(cliff: CLIFF) -> None:
    with pytest.raises(BackendError, match="cuda:1"):
        replace(cliff, device="cuda:1").load()
