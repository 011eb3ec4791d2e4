"""Compute the overlap of boxes."""

from __future__ import annotations

import numpy as np

from opendance_hf.pipeline.clip import Floats


def box_iou(a: Floats, b: Floats) -> Floats:
    """Return the (N, M) intersection over union of (N, 4+) and (M, 4+) boxes."""
    import supervision  # takes a second to import

    return np.asarray(supervision.box_iou_batch(a[:, :4], b[:, :4]))


def box_nesting(a: Floats, b: Floats) -> Floats:
    """Return the (N, M) intersection over the area of the smaller box of (N, 4+) and (M, 4+) boxes."""
    import supervision

    overlap = supervision.OverlapMetric.IOS
    return np.asarray(supervision.box_iou_batch(a[:, :4], b[:, :4], overlap_metric=overlap))
