from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation, Slerp

from opendance_hf.motion import rotations as r

RNG = np.random.default_rng(0)
#: Random axes with angles from none at all to just below, at and above half a turn.
ANGLES = np.array([0.0, 1e-9, 1e-7, 1e-6, 1e-3, 0.5, 2.0, np.pi - 1e-4, np.pi, 4.0])
AXES = RNG.standard_normal((50, 1, 3))
VECTORS = AXES / np.linalg.norm(AXES, axis=-1, keepdims=True) * ANGLES[:, None]


def scipy_rotation(vectors: np.ndarray) -> Rotation:
    return Rotation.from_rotvec(vectors.reshape(-1, 3))


def as_wxyz(rotation: Rotation) -> np.ndarray:
    return rotation.as_quat(canonical=True, scalar_first=True)


def test_axis_angle_to_matrix() -> None:
    expected = scipy_rotation(VECTORS).as_matrix().reshape(50, 10, 3, 3)
    np.testing.assert_allclose(r.axis_angle_to_matrix(VECTORS), expected, atol=1e-12)


def test_zero_is_the_identity_exactly() -> None:
    np.testing.assert_array_equal(r.axis_angle_to_matrix(np.zeros(3)), np.eye(3))
    np.testing.assert_array_equal(r.matrix_to_axis_angle(np.eye(3)), np.zeros(3))


def test_matrix_to_quaternion() -> None:
    rotation = scipy_rotation(VECTORS)
    got = r.matrix_to_quaternion(rotation.as_matrix())
    # At half a turn w is zero and the sign is free.
    dots = np.abs(np.sum(got * as_wxyz(rotation), axis=-1))
    np.testing.assert_allclose(dots, 1, atol=1e-12)
    assert (got[:, 0] >= 0).all()


def test_quaternion_to_matrix() -> None:
    rotation = scipy_rotation(VECTORS)
    np.testing.assert_allclose(r.quaternion_to_matrix(as_wxyz(rotation)), rotation.as_matrix(), atol=1e-12)


def test_quaternion_to_axis_angle() -> None:
    rotation = Rotation.random(500, random_state=0)
    np.testing.assert_allclose(
        r.quaternion_to_axis_angle(as_wxyz(rotation)), rotation.as_rotvec(), atol=1e-12
    )
    np.testing.assert_allclose(
        r.quaternion_to_axis_angle(-as_wxyz(rotation)), rotation.as_rotvec(), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtype_is_kept(dtype: type) -> None:
    vectors = VECTORS.astype(dtype)
    matrices = r.axis_angle_to_matrix(vectors)
    assert matrices.dtype == dtype
    back = r.matrix_to_axis_angle(matrices)
    assert back.dtype == dtype
    np.testing.assert_allclose(
        r.axis_angle_to_matrix(back), matrices, atol=2e-3 if dtype == np.float32 else 1e-7
    )


@given(st.tuples(*[st.floats(-1.8, 1.8)] * 3))
def test_round_trip_below_half_a_turn(vector: tuple[float, float, float]) -> None:
    # The longest vector drawn is 3.12 rad.
    np.testing.assert_allclose(
        r.matrix_to_axis_angle(r.axis_angle_to_matrix(np.array(vector))), vector, atol=1e-7
    )


def test_slerp() -> None:
    ends = Rotation.random(2, random_state=3)
    fractions = np.linspace(0, 1, 9)
    expected = Slerp([0, 1], ends)(fractions).as_matrix()
    start, end = (np.broadcast_to(q, (9, 4)) for q in as_wxyz(ends))
    np.testing.assert_allclose(r.quaternion_to_matrix(r.slerp(start, end, fractions)), expected, atol=1e-12)
    np.testing.assert_allclose(r.quaternion_to_matrix(r.slerp(start, -end, fractions)), expected, atol=1e-12)


@pytest.mark.parametrize("shape", [(3,), (0, 3), (2, 0, 24, 3), (4, 5, 6, 3)])
def test_any_leading_shape(shape: tuple[int, ...]) -> None:
    matrices = r.axis_angle_to_matrix(np.ones(shape))
    assert matrices.shape == (*shape, 3)
    quaternions = r.matrix_to_quaternion(matrices)
    assert quaternions.shape == (*shape[:-1], 4)
    assert r.quaternion_to_matrix(quaternions).shape == (*shape, 3)
    assert r.quaternion_to_axis_angle(quaternions).shape == shape


def test_nan_stays_where_it_is() -> None:
    matrices = r.axis_angle_to_matrix(np.array([[np.nan, 0, 0], [0, 0, 0.1]]))
    assert np.isnan(matrices[0]).any()
    assert np.isfinite(matrices[1]).all()


def assert_smallest(start: np.ndarray, end: np.ndarray, atol: float = 1e-14) -> None:
    """The matrices are rotations, take start to end, and turn no further than the angle between them."""
    found = r.smallest_rotation(start, end)
    np.testing.assert_allclose(found @ np.swapaxes(found, -1, -2), np.eye(3) + 0 * found, atol=atol)
    np.testing.assert_allclose(np.linalg.det(found), 1, atol=atol)
    np.testing.assert_allclose((found @ r.unit(start)[..., None])[..., 0], r.unit(end), atol=atol)
    cos = (r.unit(start) * r.unit(end)).sum(-1)
    np.testing.assert_allclose((np.trace(found, axis1=-2, axis2=-1) - 1) / 2, cos, atol=atol)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("distance", [1, 1e-3, 1e-6, 1e-8, 1e-12, 1e-15, 1e-16, 0])
def test_smallest_rotation(sign: int, distance: float) -> None:
    start, aside = RNG.standard_normal((2, 500, 3))
    assert_smallest(start, sign * start + distance * aside)


@given(st.tuples(*[st.integers(-2, 2)] * 6).filter(lambda v: any(v[:3]) and any(v[3:])))
def test_smallest_rotation_of_special_directions(v: tuple[int, ...]) -> None:
    assert_smallest(np.array(v[:3], np.float64), np.array(v[3:], np.float64))


def test_smallest_rotation_broadcasts_and_keeps_the_dtype() -> None:
    start, end = np.array([0, 1, 0], np.float32), RNG.standard_normal((4, 5, 3)).astype(np.float32)
    found = r.smallest_rotation(start, end)
    assert found.shape == (4, 5, 3, 3)
    assert found.dtype == np.float32
    assert r.smallest_rotation(start, end.astype(np.float64)).dtype == np.float64
    np.testing.assert_allclose(found @ start, r.unit(end), atol=1e-6)
    np.testing.assert_allclose(r.smallest_rotation(end, start), np.swapaxes(found, -1, -2), atol=1e-6)


def test_smallest_rotation_of_no_direction_is_the_identity() -> None:
    vectors = np.array([[0, 0, 0], [1e-12, 0, 0], [0, 3, 0]])
    for start, end in ((vectors, np.zeros(3)), (np.zeros(3), vectors), (vectors[:2], vectors[2])):
        np.testing.assert_array_equal(r.smallest_rotation(start, end) - np.eye(3), 0)


def test_perpendicular() -> None:
    vectors = np.concatenate([RNG.standard_normal((100, 3)), np.eye(3), -np.eye(3)])
    found = r.perpendicular(vectors)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, atol=1e-14)
    np.testing.assert_allclose((found * vectors).sum(-1), 0, atol=1e-14)


def test_best_rotation_against_scipy() -> None:
    start, end = RNG.standard_normal((2, 6, 10, 3))
    found = r.best_rotation(start, end)
    for rotation, one, other in zip(found, start, end, strict=True):
        expected, _ = Rotation.align_vectors(other, one)
        np.testing.assert_allclose(rotation, expected.as_matrix(), atol=1e-12)


def test_best_rotation_is_never_a_reflection() -> None:
    points = RNG.standard_normal((10, 3))
    np.testing.assert_allclose(np.linalg.det(r.best_rotation(points, points * [-1, 1, 1])), 1)


def test_slerp_of_equal_ends() -> None:
    one = as_wxyz(Rotation.random(5, random_state=4))
    np.testing.assert_allclose(r.slerp(one, one, np.full(5, 0.3)), one, atol=1e-12)
