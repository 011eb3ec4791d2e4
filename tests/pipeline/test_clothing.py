"""The histogram of a torso tells clothes apart and takes no notice of what is around them."""

from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.pipeline.clothing import CLOTHING_DIM, clothing_of, clothing_of_torso

BOX = np.array([100, 100, 200, 400, 0.9], np.float32)
RED, BLUE = (200, 30, 30), (30, 30, 200)


def picture(torso: tuple[int, int, int], around: tuple[int, int, int] = (90, 90, 90)) -> np.ndarray:
    """A person in BOX whose upper body has a colour; head, legs, arms and stage have another."""
    image = np.full((480, 320, 3), around, np.uint8)
    image[140:255, 120:180] = torso
    return image


def differ(one: np.ndarray, other: np.ndarray) -> float:
    """Share of two histograms that does not overlap."""
    return 0.5 * float(np.abs(one - other).sum())


def test_a_histogram_has_unit_sum_and_a_third_for_each_value() -> None:
    found = clothing_of(picture(RED), BOX)
    assert (found.shape, found.dtype) == ((CLOTHING_DIM,), np.float32)
    assert found.sum() == pytest.approx(1)
    assert [part.sum() for part in np.split(found, [8, 24])] == pytest.approx([1 / 3] * 3)


def test_only_the_torso_counts() -> None:
    plain = clothing_of(picture(RED), BOX)
    np.testing.assert_array_equal(clothing_of(picture(RED, around=(10, 200, 10)), BOX), plain)
    assert differ(clothing_of(picture(BLUE), BOX), plain) > 0.6


def test_a_top_keeps_its_colour_in_other_light() -> None:
    dark, light, grey = (clothing_of(picture(c), BOX) for c in ((20, 20, 90), (35, 35, 115), (60, 60, 60)))
    assert differ(dark, light) < differ(dark, grey)


def test_pale_clothes_are_told_apart() -> None:
    """Most clothes lie near grey: bins of half the width there separate them."""
    pale = [clothing_of(picture(c), BOX) for c in ((128, 165, 167), (129, 158, 175))]
    assert differ(*pale) > 0.6


@pytest.mark.parametrize("box", [(400, 100, 500, 400), (100, 600, 200, 900)])
def test_a_box_outside_the_picture_has_no_colour(box: tuple[float, ...]) -> None:
    np.testing.assert_allclose(clothing_of(picture(RED), np.array(box, np.float32)), 1 / CLOTHING_DIM)


def test_a_box_half_outside_shows_the_colour_inside() -> None:
    image = np.full((480, 320, 3), RED, np.uint8)
    whole = clothing_of(image, BOX)
    np.testing.assert_allclose(clothing_of(image, np.array([-40, -80, 100, 300, 1], np.float32)), whole)


def test_a_large_torso_is_described_as_a_small_one() -> None:
    small = picture(RED)
    large = small.repeat(3, axis=0).repeat(3, axis=1)
    assert differ(clothing_of(large, BOX * 3), clothing_of(small, BOX)) < 0.05


def test_the_corners_of_a_torso_give_the_same_as_the_box() -> None:
    image = picture(RED, around=(10, 200, 10))
    corners = np.array([[175, 145], [125, 145], [170, 250], [130, 250]], np.float32)
    assert differ(clothing_of_torso(image, corners), clothing_of(image, BOX)) < 0.05
    aside = corners + np.float32([0, 110])
    assert differ(clothing_of_torso(image, aside), clothing_of(image, BOX)) > 0.5
    assert clothing_of_torso(image, np.full((4, 2), 150, np.float32)).sum() == pytest.approx(1)


def test_a_torso_without_extent_is_described_by_what_is_around_it() -> None:
    image = np.full((480, 320, 3), RED, np.uint8)
    image[150, 150] = BLUE
    worn = clothing_of_torso(image, np.full((4, 2), 150, np.float32))
    assert differ(worn, clothing_of(picture(RED), BOX)) < 0.2
