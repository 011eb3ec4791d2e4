"""Load the body that is part of the package: a dressed adult in the T-pose of the 24-joint skeleton."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import PARENTS

#: Arrays of both resolutions; made by ``python -m opendance_hf.synthetic.body_asset``.
ASSET: Final = Path(__file__).with_name("body.npz")

#: What a vertex is made of, by the numbers in :attr:`BodyMesh.material`.
MATERIALS: Final[tuple[str, ...]] = (
    "skin", "hair", "top", "trousers", "shoes", "lips", "brow", "lid", "eye", "iris",
)  # fmt: skip

#: The foot joint lies this far above the sole of an average body.
TOE_ABOVE_SOLE_M: Final = 0.022

#: Largest value of each kind of stored integer.
_WEIGHT_STEPS: Final = 65535
_UV_STEPS: Final = 65535

Detail = Literal["full", "low"]


@dataclass(frozen=True)
class BodyMesh:
    """A body at rest: T-pose, facing +z, its left towards +x; metres, the pelvis where ``rest_offsets[0]`` says.

    Attributes:
        vertices: (V, 3) float32, metres.
        faces: (F, 3) int32 triangles, counter-clockwise seen from outside; body and eyeballs are closed surfaces.
        uv: (V, 2) float32 MakeHuman texture coordinates, 0 to 1, origin at the lower left. One pair a vertex: a
            triangle across a seam of the texture is not mapped correctly.
        material: (V,) uint8 indices into :data:`MATERIALS`.
        rest_offsets: (24, 3) float32 offset of every joint from its parent, metres.
        bones: (V, 4) int32 joints that a vertex follows.
        weights: (V, 4) float32 their shares, descending; each row sums to 1.
    """

    vertices: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    uv: npt.NDArray[np.float32]
    material: npt.NDArray[np.uint8]
    rest_offsets: npt.NDArray[np.float32]
    bones: npt.NDArray[np.int32]
    weights: npt.NDArray[np.float32]

    @property
    def joints(self) -> npt.NDArray[np.float32]:
        """(24, 3) positions of the joints at rest, metres."""
        return rest_joints(self.rest_offsets).astype(np.float32)


def rest_joints(rest_offsets: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
    """Return the (24, 3) joint positions of an unrotated skeleton, the first offset included."""
    joints = np.array(rest_offsets)
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] += joints[parent]
    return joints


def load_mesh(detail: Detail = "full") -> BodyMesh:
    """Load the packaged body: an average adult of 1.75 m, clothed.

    Args:
        detail: "full" has 13,524 vertices; "low" has 1,897 of them, for the web and for film.

    Raises:
        ValueError: if ``detail`` is unknown.
    """
    if detail not in ("full", "low"):
        raise ValueError(f"unknown detail {detail!r}: expected 'full' or 'low'")
    return _load(detail)


@functools.cache
def _load(detail: str) -> BodyMesh:
    with np.load(ASSET, allow_pickle=False) as file:
        stored = {name: file[name] for name in file.files}
    keep = stored["low_vertices"] if detail == "low" else slice(None)
    arrays = {
        "vertices": stored["vertices"][keep] * stored["vertex_step_m"],
        "faces": stored[f"{detail}_faces"].astype(np.int32),
        "uv": stored["uv"][keep].astype(np.float32) / _UV_STEPS,
        "material": stored["material"][keep],
        "rest_offsets": stored["rest_offsets"],
        "bones": stored["bones"][keep].astype(np.int32),
        "weights": stored["weights"][keep].astype(np.float32) / _WEIGHT_STEPS,
    }
    for array in arrays.values():
        array.setflags(write=False)
    return BodyMesh(**arrays)
