"""YOLOX as the pipeline sees it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.backends.yolox import YOLOX


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
    detector = YOLOX(str(yolox_file(tmp_path / "tiny.onnx", [person, cup, again, weak]))).prepare()
    # 128 x 64 pixels: halved into the upper half of 64 x 64, so a box is twice as large in the picture.
    found = detector.load().detect(np.zeros((64, 128, 3), np.uint8))
    np.testing.assert_allclose(found, [[16, 8, 48, 60, 0.9]], atol=1e-3)
    assert len(detector.version) == 12


def test_yolox_clips_at_the_picture(tmp_path: Path) -> None:
    detector = YOLOX(str(yolox_file(tmp_path / "tiny.onnx", [(-6.0, 2.0, 20.0, 40.0, 0.8, 0)]))).prepare()
    found = detector.load().detect(np.zeros((32, 64, 3), np.uint8))
    np.testing.assert_allclose(found, [[0, 2, 20, 32, 0.8]], atol=1e-3)


def test_a_graph_that_is_no_yolox_is_named(tmp_path: Path) -> None:
    path = yolox_file(tmp_path / "odd.onnx", [], side=96)
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 60
    onnx.save(model, path)
    with pytest.raises(BackendError, match=r"odd\.onnx: input .*\[1, 3, 96, 60\]"):
        YOLOX(str(path)).prepare()
