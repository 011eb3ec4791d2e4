"""YOLOX and CLIFF as the pipeline sees them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from opendance_hf.modeling.cliff import CLIFFConfig, CLIFFModel
from opendance_hf.pipeline.backends.cliff import (
    CLIFF,
    bbox_info,
    corners,
    crop,
    crops_of_boxes,
    focal_length,
    full_camera,
)
from opendance_hf.pipeline.backends.yolox import YOLOX
from opendance_hf.pipeline.stages.bodies import estimate_bodies


def yolox_file(path: Path, boxes: list[tuple[float, ...]], side: int = 64, classes: int = 80) -> Path:
    """A graph of YOLOX's layout that always sees these boxes ``x1 y1 x2 y2 score class``, in network pixels.

    It adds the mean of its input times zero, so that the input is really read.
    """
    counts = [(side // s) ** 2 for s in (8, 16, 32)]
    raw = np.zeros((1, sum(counts), 5 + classes), dtype=np.float32)
    for x1, y1, x2, y2, score, kind in boxes:
        size = max(x2 - x1, y2 - y1)
        level = 0 if size < 16 else 1 if size < 32 else 2
        stride, x, y = (8, 16, 32)[level], (x1 + x2) / 2, (y1 + y2) / 2
        column, row = int(x // stride), int(y // stride)
        # Boxes of one cell and level would overwrite each other: the neighbour may claim it as well.
        cell = sum(counts[:level]) + row * (side // stride) + column
        while raw[0, cell, 4]:
            column += 1
            cell += 1
        raw[0, cell, :4] = [
            x / stride - column,
            y / stride - row,
            *np.log([(x2 - x1) / stride, (y2 - y1) / stride]),
        ]
        raw[0, cell, 4], raw[0, cell, 5 + int(kind)] = score**0.5, score**0.5
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["raw", "nothing"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "yolox",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, side, side])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, list(raw.shape))],
        [numpy_helper.from_array(raw, "raw"), numpy_helper.from_array(np.zeros((), np.float32), "zero")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_yolox_decodes_its_grid_and_keeps_people(tmp_path: Path) -> None:
    person, cup = (8.0, 4.0, 24.0, 30.0, 0.9, 0), (40.0, 4.0, 50.0, 14.0, 0.9, 41)
    again, weak = (9.0, 4.0, 25.0, 30.0, 0.6, 0), (40.0, 20.0, 52.0, 31.0, 0.1, 0)
    detector = YOLOX(yolox_file(tmp_path / "tiny.onnx", [person, cup, again, weak]))
    # 128 x 64 pixels: halved into the upper half of 64 x 64, so a box is twice as large in the picture.
    found = detector.detect(np.zeros((64, 128, 3), np.uint8))
    np.testing.assert_allclose(found, [[16, 8, 48, 60, 0.9]], atol=1e-3)
    assert len(detector.version) == 12


def test_yolox_clips_at_the_picture(tmp_path: Path) -> None:
    detector = YOLOX(yolox_file(tmp_path / "tiny.onnx", [(-6.0, 2.0, 20.0, 40.0, 0.8, 0)]))
    found = detector.detect(np.zeros((32, 64, 3), np.uint8))
    np.testing.assert_allclose(found, [[0, 2, 20, 32, 0.8]], atol=1e-3)


def test_a_graph_that_is_no_yolox_is_named(tmp_path: Path) -> None:
    path = yolox_file(tmp_path / "odd.onnx", [], side=96)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 60
    onnx.save(model, path)
    with pytest.raises(ValueError, match=r"odd\.onnx: input \[1, 3, 96, 60\] is not YOLOX"):
        YOLOX(path)


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
    centre, scale = crops_of_boxes(data["pre_boxes_xyxy"])
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


def test_cliff_sees_each_person_of_each_frame(tmp_path: Path) -> None:
    torch.manual_seed(0)
    CLIFFModel(CLIFFConfig(width=4, hidden_size=16)).save_pretrained(tmp_path)
    estimator = CLIFF(str(tmp_path))
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (96, 128, 3), dtype=np.uint8) for _ in range(2)]
    boxes = [np.array([[10, 10, 50, 90], [70, 5, 110, 95]], np.float32)] * 2
    both = estimator.estimate(images, boxes)
    alone = estimator.estimate(images[1:], [boxes[1][1:]])
    assert [part.shape for part in both[0]] == [(2, 24, 3, 3), (2, 10), (2, 3)]
    for ours, theirs in zip(both[1], alone[0], strict=True):
        np.testing.assert_allclose(ours[1], theirs[0], atol=1e-5)
    track = np.stack([np.stack([boxes[0][i]] * 20) for i in range(2)])
    track[0, 3:6] = np.nan
    frames = [(t / 30, images[t % 2]) for t in range(20)]
    one, two = (estimate_bodies(lambda: frames, track, estimator, threads) for threads in (1, 2))
    assert one.rotations.shape == (2, 20, 24, 3, 3)
    np.testing.assert_array_equal(one.times_s, two.times_s)
    np.testing.assert_array_equal(one.rotations, two.rotations)
    np.testing.assert_allclose(one.transl[1, 1], both[1][2][1], atol=1e-4)
    # The one on the right stands to the right of the one on the left, before the camera.
    assert both[0][2][1, 0] > both[0][2][0, 0]
    assert (both[0][2][:, 2] > 0).all()
