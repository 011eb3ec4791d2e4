"""Compute the overlap of boxes, and boxes between those that were detected."""

from __future__ import annotations

import numpy as np

from opendance_hf.pipeline.clip import Floats, Times


def box_iou(a: Floats, b: Floats) -> Floats:
    """Return the (N, M) intersection over union of (N, 4+) and (M, 4+) boxes."""
    import supervision  # takes a second to import

    return np.asarray(supervision.box_iou_batch(a[:, :4], b[:, :4]))


def box_nesting(a: Floats, b: Floats) -> Floats:
    """Return the (N, M) intersection over the area of the smaller box of (N, 4+) and (M, 4+) boxes."""
    import supervision

    overlap = supervision.OverlapMetric.IOS
    return np.asarray(supervision.box_iou_batch(a[:, :4], b[:, :4], overlap_metric=overlap))


def filled_boxes(times_s: Times, boxes: Floats) -> Floats:
    """Return the (T, 4) boxes of one person with linear interpolation where they are NaN; all NaN if all of them are."""
    seen = ~np.isnan(boxes[:, 0])
    if not seen.any():
        return boxes
    return np.stack([np.interp(times_s, times_s[seen], boxes[seen, c]) for c in range(4)], axis=1)


def covered_shares(boxes: Floats, others: Floats) -> Floats:
    """Return the (T,) share of each of (T, 4) boxes that the other box of the same frame covers; NaN without a box."""
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    return np.asarray(np.prod(np.maximum(high - low, 0), axis=1) / np.maximum(area, 1.0))
