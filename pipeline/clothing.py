"""Compute colour histograms of the torso, which distinguish people by their clothing."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from opendance_hf.pipeline.clip import Floats, Image

#: Extent of the torso inside a person's box, as fractions of its width and height.
TORSO_X: Final = (0.25, 0.75)
TORSO_Y: Final = (0.15, 0.5)
_LAB_BINS: Final = (8, 16, 16)
CLOTHING_DIM: Final = sum(_LAB_BINS)


def clothing_of(image: Image, box: Floats) -> Floats:
    """Compute the (C,) histogram of the torso's L, a and b values, concatenated with equal weights.

    Chroma and lightness have separate bins, so that a and b stay stable when the brightness changes.

    Args:
        image: (H, W, 3) RGB.
        box: (4+,) box of the whole person, ``x1 y1 x2 y2`` in pixels.
    """
    x1, y1, x2, y2 = box[:4]
    columns = np.clip([x1 + (x2 - x1) * f for f in TORSO_X], 0, image.shape[1]).astype(int)
    rows = np.clip([y1 + (y2 - y1) * f for f in TORSO_Y], 0, image.shape[0]).astype(int)
    patch = image[rows[0] : max(rows[1], rows[0] + 1), columns[0] : max(columns[1], columns[0] + 1)]
    if patch.size == 0:
        return np.full(CLOTHING_DIM, 1 / CLOTHING_DIM, np.float32)
    if max(patch.shape[:2]) > 64:
        patch = np.asarray(cv2.resize(patch, (32, 32), interpolation=cv2.INTER_AREA), dtype=np.uint8)
    lab = cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2LAB).reshape(-1, 3).astype(np.int64)
    # a and b of most clothes lie within +-64 of grey, so the bins cover only this range.
    lab[:, 1:] = np.clip((lab[:, 1:] - 128) * 2 + 128, 0, 255)
    parts = [np.bincount(lab[:, c] * bins // 256, minlength=bins) for c, bins in enumerate(_LAB_BINS)]
    histogram = np.concatenate(parts).astype(np.float32)
    return histogram / histogram.sum()


def clothing_of_torso(image: Image, corners: Floats) -> Floats:
    """Compute the histogram of :func:`clothing_of` for a torso given by (4, 2) shoulders and hips, pixels."""
    low, high = corners.min(axis=0), corners.max(axis=0)
    middle, half = (low + high) / 2, np.maximum((high - low) / 2, 2.0)
    # Box of the whole person whose torso part is this rectangle.
    x, y = half[0] / 0.5, half[1] / 0.35
    box = [middle[0] - x, middle[1] - 0.65 * y, middle[0] + x, middle[1] + 1.35 * y]
    return clothing_of(image, np.array(box, dtype=np.float32))
