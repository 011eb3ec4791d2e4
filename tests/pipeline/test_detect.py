"""People are detected some times a second, whatever the number of threads; boxes are interpolated between."""

from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.pipeline.clothing import clothing_of
from opendance_hf.pipeline.stages.detect import Detect
from opendance_hf.pipeline.stages.segment import boxes_at
from tests.pipeline.fakes import Still


class Fixed:
    def detect(self, image: np.ndarray) -> np.ndarray:
        return np.array([[image[0, 0, 0], 0, 40, 40, 0.9]], np.float32)


@pytest.mark.parametrize("threads", [1, 2])
def test_people_are_not_looked_for_in_every_frame(threads: int) -> None:
    frames = [Still(t / 60, np.full((48, 64, 3), t, np.uint8)) for t in range(60)]
    found = Detect().detect_people(frames, [Fixed()] * threads)
    np.testing.assert_allclose(found.times_s, np.arange(0, 60, 8) / 60)
    assert [boxes[0, 0] for boxes in found.by_frame()[0]] == list(range(0, 60, 8))
    part = found.between(0.25, 0.5)
    assert part.times_s == pytest.approx([16 / 60, 24 / 60])
    assert part.boxes[:, 0].tolist() == [16, 24]


def test_boxes_between_two_looks_and_none_beside_a_gap() -> None:
    boxes = np.array([[[0.0] * 4, [2.0] * 4, [np.nan] * 4, [6.0] * 4]], np.float32)
    at = boxes_at(np.array([0.0, 1.0, 2.0, 3.0]), boxes, np.array([0.0, 0.5, 1.0, 1.5, 2.5, 3.0, 3.2]))
    np.testing.assert_array_equal(at[0, :, 0], [0.0, 1.0, 2.0, np.nan, np.nan, 6.0, 6.0])


def test_the_box_of_the_first_look_stands_though_the_second_is_missing() -> None:
    boxes = np.array([[[3.0] * 4, [np.nan] * 4, [5.0] * 4]], np.float32)
    at = boxes_at(np.array([1.0, 2.0, 3.0]), boxes, np.array([0.9, 1.0, 1.1, 3.0]))
    np.testing.assert_array_equal(at[0, :, 0], [3.0, 3.0, np.nan, 5.0])


class Two:
    def detect(self, image: np.ndarray) -> np.ndarray:
        return np.array([[0, 0, 30, 48, 0.9], [34, 0, 64, 48, 0.8]], np.float32)


def test_each_box_has_the_clothes_inside_it() -> None:
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, :32], image[:, 32:] = (200, 30, 30), (30, 30, 200)
    found = Detect().detect_people([Still(0.0, image)], [Two()])
    for box, worn in zip(found.boxes, found.clothing, strict=True):
        np.testing.assert_array_equal(worn, clothing_of(image, box))
    assert np.abs(found.clothing[0] - found.clothing[1]).sum() > 1
