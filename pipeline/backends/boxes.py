"""Open onnxruntime sessions and apply non-maximum suppression, for all detectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from opendance_hf.pipeline.clip import Floats


def onnx_session(path: Path, threads: int) -> Any:
    """Open an ONNX file on the CPU; results are reproducible for a given number of threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def non_maximum_suppression(
    boxes: Floats, scores: Floats, min_score: float, max_iou: float
) -> npt.NDArray[np.intp]:
    """Return the indices of the (N, 4) boxes ``x1 y1 x2 y2`` that overlap no box of higher score by over ``max_iou``."""
    order = cv2.dnn.NMSBoxes(
        np.column_stack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]).tolist(),
        scores.tolist(),
        min_score,
        max_iou,
    )
    return np.asarray(order, dtype=np.intp).reshape(-1)
