"""Bind the body of the package to the skeleton of a rig, for formats that hold skinned meshes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation

from opendance_hf.body import BodyMesh, BodyShapeError, load_mesh, shape_body, skin
from opendance_hf.body.mesh import MATERIALS
from opendance_hf.formats import FormatError
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigged import Rigged
from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.skeleton import NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]

#: Details of the body that formats are written with.
DETAILS: Final = ("full", "low", "none")
#: Colours of the body's materials, linear RGB; those of tops change from dancer to dancer.
_COLOURS: Final[dict[str, tuple[float, float, float]]] = {
    "skin": (0.56, 0.31, 0.21), "hair": (0.035, 0.022, 0.016), "trousers": (0.035, 0.04, 0.07),
    "shoes": (0.02, 0.02, 0.02), "lips": (0.42, 0.13, 0.12), "brow": (0.035, 0.022, 0.016),
    "lid": (0.50, 0.27, 0.19), "eye": (0.85, 0.85, 0.85), "iris": (0.08, 0.05, 0.03),
}  # fmt: skip
_TOPS: Final = ((0.40, 0.05, 0.05), (0.05, 0.13, 0.42), (0.06, 0.30, 0.12), (0.50, 0.30, 0.03))


@dataclass(frozen=True)
class SkinnedBody:
    """Hold the body of one dancer in the rest pose of a rig; metres, y up.

    Attributes:
        vertices, normals: (V, 3) float32.
        parts: triangles (F, 3) by material.
        bones: (V, 4) indices of the rig's joints that a vertex follows; 0 where its weight is 0.
        weights: (V, 4) float32, each row sums to 1.
        bind: (J, 4, 4) world transforms of the joints at rest.
    """

    vertices: npt.NDArray[np.float32]
    normals: npt.NDArray[np.float32]
    parts: dict[str, npt.NDArray[np.int32]]
    bones: npt.NDArray[np.uint8]
    weights: npt.NDArray[np.float32]
    bind: Array


def colour_of(material: str, dancer: int) -> tuple[float, float, float]:
    """Return the linear RGB colour of a material of :data:`opendance_hf.body.MATERIALS`, for one of the dancers."""
    return _TOPS[dancer % len(_TOPS)] if material == "top" else _COLOURS[material]


def check_detail(detail: str) -> None:
    """Raise FormatError if a detail is unknown."""
    if detail not in DETAILS:
        raise FormatError(f"unknown detail {detail!r}: expected one of {', '.join(DETAILS)}")


def bind_body(path: Path, dancer: Motion, body: Rigged, detail: str) -> SkinnedBody:
    """Shape the body to a dancer, pose it as the rig rests, and bind it to the rig's joints.

    Args:
        path: output file, for messages.
        dancer: motion of one dancer.
        body: the same on a rig.
        detail: ``full`` or ``low``.

    Raises:
        FormatError: if the body cannot be shaped to the dancer's bones.
    """
    assert dancer.rest_offsets is not None
    try:
        mesh = shape_body(load_mesh("low" if detail == "low" else "full"), dancer.rest_offsets[0])
    except BodyShapeError as error:
        raise FormatError(f"{path}: {error}; write the skeleton alone with --detail none") from None
    rotations, positions = body.animation.world_at_rest()
    still = np.zeros(3)
    pelvis, _ = pose_joints(Rotation.from_rotvec(body.rest_poses).as_matrix(), still, mesh.rest_offsets)
    moved = positions[body.joints.index(0)] - pelvis[0]
    vertices = (skin(mesh, body.rest_poses, still) + moved).astype(np.float32)
    bind = np.broadcast_to(np.eye(4), (len(positions), 4, 4)).copy()
    bind[:, :3, :3], bind[:, :3, 3] = rotations, positions
    # A triangle between two materials has the one that is on top.
    material = mesh.material[mesh.faces].max(axis=1)
    parts = {name: mesh.faces[material == index] for index, name in enumerate(MATERIALS)}
    parts = {name: faces for name, faces in parts.items() if len(faces)}
    return SkinnedBody(vertices, _normals(vertices, mesh.faces), parts, *_weights(mesh, body), bind)


def _weights(mesh: BodyMesh, body: Rigged) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """Return the joints of the rig that vertices follow, and their shares; what the rig lacks moves with what is above."""
    at: dict[int, int] = {}
    for index, joint in enumerate(body.joints):
        if joint is not None:  # a bone between two others comes after the upper one, with the same joint
            at.setdefault(joint, index)
    for joint in range(NUM_JOINTS):
        at.setdefault(joint, at.get(PARENTS[joint], 0))
    rig = np.array([at[joint] for joint in range(NUM_JOINTS)])
    weights = mesh.weights / mesh.weights.sum(axis=1, keepdims=True)
    return np.where(weights > 0, rig[mesh.bones], 0).astype(np.uint8), weights.astype(np.float32)


def _normals(vertices: Array, faces: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    corners = vertices[faces].astype(np.float64)
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals = np.zeros((len(vertices), 3))
    for corner in range(3):
        np.add.at(normals, faces[:, corner], area)
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    return np.where(length > 1e-12, normals / np.maximum(length, 1e-12), [0.0, 1.0, 0.0]).astype(np.float32)
