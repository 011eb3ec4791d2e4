"""The script makes the packaged body, and decimation keeps what it promises."""

from __future__ import annotations

import numpy as np
import pytest

from opendance_hf.body.mesh import ASSET
from opendance_hf.synthetic.decimation import decimate
from tests.synthetic.support import needs_body


def sphere(rings: int = 17, segments: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Vertices (V, 3), faces (F, 3) and mirror partners (V,) of a unit sphere, symmetric in x."""
    polar = np.linspace(0, np.pi, rings + 2)[1:-1]
    angle = 2 * np.pi * np.arange(segments) / segments
    body = np.stack(
        [
            np.outer(np.sin(polar), np.sin(angle)),
            np.outer(np.cos(polar), 1 + 0 * angle),
            np.outer(np.sin(polar), np.cos(angle)),
        ],
        axis=-1,
    ).reshape(-1, 3)
    vertices = np.concatenate([body, [[0, 1, 0], [0, -1, 0]]])
    index = np.arange(rings * segments).reshape(rings, segments)
    left = np.arange(segments // 2)  # columns with x >= 0 on both sides
    a, b = index[:-1][:, left], np.roll(index, -1, axis=1)[:-1][:, left]
    c, d = index[1:][:, left], np.roll(index, -1, axis=1)[1:][:, left]
    top, bottom = np.full(len(left), len(body)), np.full(len(left), len(body) + 1)
    half = np.concatenate(
        [
            np.stack([a, c, d], -1).reshape(-1, 3),
            np.stack([a, d, b], -1).reshape(-1, 3),
            np.stack([top, index[0, left], index[0, left + 1]], -1),
            np.stack([bottom, np.roll(index, -1, axis=1)[-1, left], index[-1, left]], -1),
        ]
    )
    mirror = np.concatenate([np.roll(index[:, ::-1], 1, axis=1).ravel(), [len(body), len(body) + 1]])
    return vertices, np.concatenate([half, mirror[half][:, ::-1]]), mirror


def test_decimation_keeps_form_symmetry_and_closure() -> None:
    vertices, faces, mirror = sphere()
    material = (vertices[:, 1] > 0.3).astype(int)
    ones = np.ones(len(vertices))
    kept, less = decimate(vertices, faces, ones[:, None], material, mirror, ones, 150)
    assert 140 < len(kept) <= 150
    assert set(mirror[kept]) == set(kept)
    edges = less[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).tolist()
    assert {tuple(edge) for edge in edges} == {(b, a) for a, b in edges}
    corner = vertices[kept][less]
    volume = np.einsum("fi,fi->", np.cross(corner[:, 0], corner[:, 1]), corner[:, 2]) / 6
    assert volume == pytest.approx(4 / 3 * np.pi, rel=0.08)
    assert {0, 1} == set(material[kept])


def test_decimation_follows_importance() -> None:
    vertices, faces, mirror = sphere()
    ones = np.ones(len(vertices))
    front = vertices[:, 2] > 0
    kept, _ = decimate(vertices, faces, ones[:, None], 0 * mirror, mirror, np.where(front, 100.0, 1.0), 150)
    assert front[kept].sum() > 1.5 * (~front[kept]).sum()


@needs_body
@pytest.mark.slow
def test_the_asset_is_what_the_script_makes() -> None:
    from opendance_hf.synthetic.body_asset import make_asset

    made = make_asset()
    with np.load(ASSET, allow_pickle=False) as stored:
        assert set(stored.files) == set(made)
        for name in ("material", "full_faces", "uv"):
            np.testing.assert_array_equal(stored[name], made[name])
        # Other processors round otherwise, and may break ties of the decimation in another order.
        np.testing.assert_allclose(stored["rest_offsets"], made["rest_offsets"], atol=1e-5)
        np.testing.assert_allclose(stored["vertices"], made["vertices"], atol=2)
        np.testing.assert_allclose(stored["weights"].astype(int), made["weights"].astype(int), atol=20)
        assert len(stored["low_vertices"]) == pytest.approx(len(made["low_vertices"]), abs=2)
