"""Decimate a symmetric mesh by quadric edge collapse (Garland and Heckbert 1997), both halves alike.

The vertices that remain are vertices of the original, so they keep its skin weights and texture coordinates. Libraries
for decimation place vertices anew and do not keep a mesh symmetric.
"""

from __future__ import annotations

import heapq

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

#: Cost of moving a vertex to one that follows other joints, against the squared distance in metres.
_WEIGHT_COST = 0.04
#: Keeps triangles of flat parts from becoming needles.
_LENGTH_COST = 4e-3


def decimate(
    vertices: Array,
    faces: Ints,
    weights: Array,
    material: Ints,
    mirror: Ints,
    importance: Array,
    target: int,
) -> tuple[Ints, Ints]:
    """Return the (N,) vertices that remain, at most ``target``, and the (F, 3) faces between them.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3) of closed surfaces.
        weights: (V, J) shares of the joints.
        material: (V,) numbers; a border between two materials is kept.
        mirror: (V,) partner of a vertex on the other side; itself in the middle.
        importance: (V,) factors of the error.
        target: number of vertices to keep.

    Raises:
        ValueError: if no further edge can be collapsed.
    """
    mesh = _Surface(vertices, faces, weights, material, mirror, importance)
    heap = [entry for u in range(len(vertices)) for entry in mesh.collapses(u)]
    heapq.heapify(heap)
    count = len(vertices)
    while count > target:
        if not heap:
            raise ValueError(f"no edge of {count} vertices can be collapsed, expected {target} vertices")
        _, u, v, age = heapq.heappop(heap)
        if age != mesh.age[u] + mesh.age[v] or not mesh.alive[u] or not mesh.alive[v]:
            continue
        if not mesh.collapse_both(u, v):
            continue
        count -= 1 + (mirror[u] != u)
        for merged in {v, int(mirror[v])}:
            for near in mesh.ring(merged) | {merged}:
                for entry in mesh.collapses(near):
                    heapq.heappush(heap, entry)
    kept = np.flatnonzero(mesh.alive)
    renumber = np.zeros(len(vertices), dtype=np.int64)
    renumber[kept] = np.arange(len(kept))
    return kept, renumber[np.array([face for face in mesh.faces if face is not None])]


class _Surface:
    """A mesh under decimation."""

    def __init__(
        self, vertices: Array, faces: Ints, weights: Array, material: Ints, mirror: Ints, importance: Array
    ) -> None:
        self.vertices, self.weights, self.material, self.mirror = vertices, weights, material, mirror
        self.importance = importance
        self.faces: list[tuple[int, int, int] | None] = [(int(a), int(b), int(c)) for a, b, c in faces]
        self.around: list[set[int]] = [set() for _ in vertices]
        self.alive = np.ones(len(vertices), dtype=bool)
        self.age = np.zeros(len(vertices), dtype=np.int64)
        self.quadrics = np.zeros((len(vertices), 4, 4))
        for number, face in enumerate(faces):
            for corner in face:
                self.around[corner].add(number)
        corners = vertices[faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        area = np.linalg.norm(across, axis=1, keepdims=True)
        normal = across / np.maximum(area, 1e-12)
        plane = np.concatenate([normal, -(normal * corners[:, 0]).sum(axis=1, keepdims=True)], axis=1)
        quadric = plane[:, :, None] * plane[:, None] * area[..., None]
        for k in range(3):
            np.add.at(self.quadrics, faces[:, k], quadric)
        self.quadrics *= importance[:, None, None]
        different = material[faces] != material[np.roll(faces, 1, axis=1)]
        self.border = np.zeros(len(vertices), dtype=bool)
        for k in range(3):
            self.border[faces[different[:, k], k]] = True
            self.border[np.roll(faces, 1, axis=1)[different[:, k], k]] = True

    def ring(self, u: int) -> set[int]:
        """Return the neighbours of a vertex."""
        return {corner for number in self.around[u] for corner in self.faces[number] or ()} - {u}

    def collapses(self, u: int) -> list[tuple[float, int, int, int]]:
        """Return the possible collapses of one vertex: cost, vertex, where it goes, and the age of both."""
        if not self.alive[u]:
            return []
        fit = []
        for v in self.ring(u):
            if self.material[u] != self.material[v] or (self.border[u] and not self.border[v]):
                continue
            if (self.mirror[u] == u and self.mirror[v] != v) or self.mirror[u] == v:
                continue
            fit.append(v)
        if not fit:
            return []
        to = np.array(fit)
        points = np.concatenate([self.vertices[to], np.ones((len(to), 1))], axis=1)
        error = np.einsum("ni,nij,nj->n", points, self.quadrics[to] + self.quadrics[u], points)
        square = ((self.vertices[to] - self.vertices[u]) ** 2).sum(axis=1)
        change = ((self.weights[to] - self.weights[u]) ** 2).sum(axis=1)
        size = np.trace(self.quadrics[u, :3, :3])
        cost = error + size * square * (_LENGTH_COST + _WEIGHT_COST * change)
        age = self.age[u] + self.age[to]
        return [(float(c), u, v, int(a)) for c, v, a in zip(cost, fit, age, strict=True)]

    def collapse_both(self, u: int, v: int) -> bool:
        """Move u to v and its partner to v's; return False, and change nothing, where the surface would fold."""
        other_u, other_v = int(self.mirror[u]), int(self.mirror[v])
        if other_u != u and other_u in self.ring(u):
            return False
        undo = self._collapse(u, v)
        if undo is None:
            return False
        if other_u != u and self._collapse(other_u, other_v) is None:
            self._restore(u, undo)
            return False
        for gone, kept in {(u, v), (other_u, other_v)}:
            self.quadrics[kept] += self.quadrics[gone]
        for kept in {v, other_v}:
            self.age[kept] += 1
            for near in self.ring(kept):
                self.age[near] += 1
        return True

    def _collapse(self, u: int, v: int) -> dict[int, tuple[int, int, int]] | None:
        # With more than two neighbours in common, two sheets would share an edge.
        if len(self.ring(u) & self.ring(v)) != 2 or len(self.around[v]) + len(self.around[u]) < 8:
            return None
        changes: dict[int, tuple[int, int, int] | None] = {}
        for number in self.around[u]:
            face = self.faces[number]
            assert face is not None
            if v in face:
                changes[number] = None
                continue
            a, b, c = (v if corner == u else corner for corner in face)
            if not self._same_side(face, (a, b, c)):
                return None
            changes[number] = (a, b, c)
        undo = {number: self.faces[number] for number in changes}
        for number, face in changes.items():
            for corner in self.faces[number] or ():
                self.around[corner].discard(number)
            self.faces[number] = face
            for corner in face or ():
                self.around[corner].add(number)
        self.alive[u] = False
        return undo  # type: ignore[return-value]

    def _restore(self, u: int, undo: dict[int, tuple[int, int, int]]) -> None:
        for number, face in undo.items():
            for corner in self.faces[number] or ():
                self.around[corner].discard(number)
            self.faces[number] = face
            for corner in face:
                self.around[corner].add(number)
        self.alive[u] = True

    def _same_side(self, old: tuple[int, int, int], new: tuple[int, int, int]) -> bool:
        """Return whether a triangle keeps its direction and does not become a needle."""
        before, after = (_normal(self.vertices[list(face)]) for face in (old, new))
        lengths = np.linalg.norm(before), np.linalg.norm(after)
        corners = self.vertices[list(new)]
        longest = ((corners - np.roll(corners, 1, axis=0)) ** 2).sum(axis=1).max()
        return bool(before @ after > 0.3 * lengths[0] * lengths[1] and lengths[1] > 0.08 * longest)


def _normal(corners: Array) -> Array:
    a, b = corners[1] - corners[0], corners[2] - corners[0]
    return np.array([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])
