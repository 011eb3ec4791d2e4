"""A dressed person: hair, a face, a top, trousers or leggings, shoes, painted on a body vertex by vertex."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy.sparse import csr_array

from opendance_hf.synthetic.body import BONES, Body, Build, load_body

Array = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]
Colour = tuple[int, int, int]

_SKINS: Final[tuple[Colour, ...]] = (
    (238, 200, 172),
    (224, 180, 148),
    (198, 148, 112),
    (152, 106, 76),
    (112, 76, 54),
)
_HAIRS: Final[tuple[Colour, ...]] = ((34, 28, 26), (58, 40, 30), (92, 62, 40), (150, 112, 66), (112, 54, 34))
#: Tops far apart in hue and lightness, so that two dancers can be told apart.
_TOPS: Final[tuple[Colour, ...]] = (
    (196, 52, 48), (44, 92, 168), (232, 226, 214), (38, 122, 84), (226, 158, 44), (120, 66, 138), (36, 38, 44),
)  # fmt: skip
_TROUSERS: Final[tuple[Colour, ...]] = (
    (44, 54, 82),
    (36, 36, 40),
    (118, 104, 84),
    (96, 102, 110),
    (64, 78, 62),
)
#: Half the width of the band whose vertices are pulled to the edge of a garment, metres.
_SNAP_M: Final = 0.011
_SHOES: Final[tuple[Colour, ...]] = ((236, 234, 230), (40, 40, 44), (168, 60, 52))


@dataclass(frozen=True)
class Look:
    """What a dancer looks like. Colours are (red, green, blue), 0 to 255.

    Attributes:
        sleeve: share of the arm that the top covers, 0 to 1; ``leg`` likewise for the trousers.
        long_hair: hair to the shoulders instead of short.
        stripes: whether the top has stripes.
        loose_m: how much further than usual the top and the trousers stand off the body, most at their edges.
    """

    build: Build
    skin: Colour
    hair: Colour
    top: Colour
    trousers: Colour
    shoes: Colour
    sleeve: float
    leg: float
    long_hair: bool
    stripes: bool
    loose_m: float = 0.0


@dataclass(frozen=True)
class Figure:
    """A body in its clothes: vertices (V, 3) at rest, ``colour`` (V, 3) 0 to 255, and the body they belong to."""

    body: Body
    vertices: Array
    faces: npt.NDArray[np.int32]
    colour: Array
    casts_shadow: ClassVar[bool] = True

    def pose(self, rotations: Array, positions: Array) -> Array:
        """(V, 3) vertices for one pose.

        Args:
            rotations: (B, 3, 3) of each of :data:`~opendance_hf.synthetic.body.BONES`, from rest to the world.
            positions: (B, 3) where each bone starts, metres.
        """
        moved = positions - np.einsum("bij,bj->bi", rotations, self.body.heads)
        return _skin(
            self.vertices,
            self.body.bones,
            self.body.weights.astype(np.float32),
            rotations.astype(np.float32),
            moved.astype(np.float32),
        )


def random_looks(rng: np.random.Generator, count: int) -> list[Look]:
    """Looks of dancers who can be told apart by their tops."""
    tops = rng.permutation(len(_TOPS))[:count]
    looks = []
    for top in tops:
        female = bool(rng.random() < 0.5)
        looks.append(
            Look(
                build=Build(female, *(float(x) for x in rng.uniform((0.4, 0.3, 0.28), (0.7, 0.55, 0.48)))),
                skin=_SKINS[rng.integers(len(_SKINS))],
                hair=_HAIRS[rng.integers(len(_HAIRS))],
                top=_TOPS[top],
                trousers=_TROUSERS[rng.integers(len(_TROUSERS))],
                shoes=_SHOES[rng.integers(len(_SHOES))],
                sleeve=float(rng.choice([0.24, 0.30, 0.9])),
                leg=float(rng.choice([0.95, 0.95, 0.42])),
                long_hair=female and bool(rng.random() < 0.7),
                stripes=bool(rng.random() < 0.3),
            )
        )
    return looks


def dressed_like(look: Look, other: Look) -> Look:
    """Return a look in the clothes of another, with its own body, skin and hair."""
    return replace(
        look, top=other.top, trousers=other.trousers, shoes=other.shoes, sleeve=other.sleeve, leg=other.leg, stripes=other.stripes
    )  # fmt: skip


def dress(look: Look) -> Figure:
    """A person of this look.

    Raises:
        MissingBodyError: if the data of the body is not installed.
    """
    body = load_body(look.build)
    # Of the data's hair only what falls down the back: its strands in front would hide the face.
    eyes = body.vertices[(body.parts == 1) | (body.parts == 2)].mean(axis=0)
    behind = (body.parts == 3) & (body.vertices[:, 2] < eyes[2] - 0.105)
    keep = (body.parts < 3) | (look.long_hair & behind)
    faces = body.faces[keep[body.faces].all(axis=1)]
    near = neighbours(len(body.vertices), faces)
    regions = regions_of(body, look)
    colour = _paint(body, look, regions)
    vertices = clothe(body, look, faces, near, regions)
    return Figure(body, np.ascontiguousarray(vertices, dtype=np.float32), np.ascontiguousarray(faces), colour)


def regions_of(body: Body, look: Look) -> dict[str, Mask]:
    """Return the (V,) masks of hair, top, trousers, shoes, brows and lips."""
    v = body.vertices
    skin = body.parts == 0
    share = {bone: (body.weights * (body.bones == i)).sum(axis=1) for i, bone in enumerate(BONES)}
    arm = sum(
        share[f"{bone}.{s}"] for bone in ("upperarm01", "lowerarm01", "lowerarm02", "wrist") for s in "LR"
    )
    hand = share["wrist.L"] + share["wrist.R"]
    head = share["head"] + share["neck02"]
    foot = share["foot.L"] + share["foot.R"]

    reach = np.zeros(len(v))
    for side in "LR":
        start, wrist = body.head_of(f"upperarm01.{side}"), body.head_of(f"wrist.{side}")
        elbow = body.head_of(f"lowerarm01.{side}")
        mine = v[:, 0] > 0 if side == "L" else v[:, 0] < 0
        upper, lower = elbow - start, wrist - elbow
        along = (v - start) @ upper / (upper @ upper)
        beyond = (v - elbow) @ lower / (lower @ lower)
        reach = np.where(mine, np.where(along < 1, 0.5 * along, 0.5 + 0.5 * np.maximum(beyond, 0)), reach)
    neck = body.head_of("neck01")
    collar = neck[1] - 0.035 - 0.35 * np.maximum(v[:, 2] - neck[2], 0) + 0.12 * np.abs(v[:, 0])
    ankle = body.head_of("foot.L")[1]
    waist, hem = _edges(body, look)

    torso = skin & (head < 0.5) & (v[:, 1] > waist - _SNAP_M) & (v[:, 1] < collar) & (arm < 0.5)
    sleeves = skin & (arm >= 0.5) & (reach < look.sleeve) & (hand < 0.5)
    trousers = skin & (arm < 0.5) & (v[:, 1] <= waist) & (v[:, 1] > hem - _SNAP_M) & (hand < 0.3) & ~torso
    shoes = skin & (foot > 0.4) & (v[:, 1] < ankle + 0.03)
    eyes = 0.5 * (v[body.parts == 1].mean(axis=0) + v[body.parts == 2].mean(axis=0))
    at = v - eyes
    hairline = np.interp(
        at[:, 2], [-0.2, -0.125, -0.10, -0.075, -0.03, 0.03], [-0.085, -0.06, 0.005, 0.03, 0.05, 0.078]
    )
    hair = skin & (head > 0.5) & (at[:, 1] > hairline)
    gap = 0.5 * (v[body.parts == 1].mean(axis=0) - v[body.parts == 2].mean(axis=0))[0]
    front = skin & (head > 0.5) & (at[:, 2] > -0.02)
    across = np.abs(np.abs(at[:, 0]) - gap)
    brows = (
        front
        & (across < 0.021)
        & (np.abs(at[:, 1] - 0.0215 + 6 * np.maximum(across - 0.006, 0) ** 2 * 10) < 0.0045)
    )
    lids = front & (((np.abs(at[:, 0]) - gap) / 0.0175) ** 2 + ((at[:, 1] - 0.002) / 0.0085) ** 2 < 1)
    lips = front & ((at[:, 0] / 0.026) ** 2 + ((at[:, 1] + 0.073) / 0.0105) ** 2 < 1) & (at[:, 2] > 0.0)
    return {
        "top": torso | sleeves, "trousers": trousers & ~shoes, "shoes": shoes, "hair": hair & ~brows,
        "brows": brows, "lids": lids & ~brows, "lips": lips,
    }  # fmt: skip


def _edges(body: Body, look: Look) -> tuple[float, float]:
    """Heights of the lower edges of the top and the trousers, metres."""
    waist = 0.5 * (body.head_of("spine05")[1] + body.head_of("spine03")[1]) + 0.01
    hip, ankle = body.head_of("upperleg01.L")[1], body.head_of("foot.L")[1]
    return float(waist), float(hip - look.leg * (hip - ankle))


def _paint(body: Body, look: Look, regions: dict[str, Mask]) -> Array:
    """(V, 3) colours."""
    v = body.vertices
    out = np.empty((len(v), 3))
    out[:] = look.skin
    skin, hair = np.array(look.skin), np.array(look.hair)
    out[regions["lips"]] = 0.45 * skin + 0.55 * np.array([170, 64, 64])
    out[regions["lids"]] = 0.55 * skin + 0.1 * hair
    out[regions["brows"]] = 0.25 * skin + 0.75 * hair
    out[regions["hair"] | (body.parts == 3)] = hair
    # Folds and weave: cloth is never of one even colour.
    wave = np.sin(v @ [61, 23, 47]) * np.sin(v @ [-17, 71, 29]) + 0.6 * np.sin(v @ [130, 41, -90])
    shade = 1 + 0.05 * wave[:, None]
    top = np.broadcast_to(np.array(look.top, dtype=float), out.shape)
    if look.stripes:
        other = np.array([238, 234, 226]) if sum(look.top) < 420 else np.array([70, 76, 96])
        top = np.where((np.floor(v[:, 1] / 0.045) % 2 == 0)[:, None], top, other)
    for name, cloth in (("top", top), ("trousers", look.trousers), ("shoes", look.shoes)):
        out[regions[name]] = (np.broadcast_to(cloth, out.shape) * shade)[regions[name]]
    out[regions["hair"]] *= (1 + 0.12 * np.sin(v @ [210, 30, 160]))[regions["hair"], None]
    soles = regions["shoes"] & (v[:, 1] < 0.009)
    out[soles] = (60, 60, 62) if sum(look.shoes) > 400 else (214, 212, 208)
    for part in (1, 2):
        ball = body.parts == part
        points = v[ball] - v[ball].mean(axis=0)
        off = np.hypot(points[:, 0], points[:, 1])
        front = points[:, 2] > 0
        white = np.array([236, 234, 230])
        iris = np.array([74, 52, 38])
        out[ball] = np.where((front & (off < 0.0075))[:, None], iris, white)
    return np.ascontiguousarray(np.clip(out, 0, 255), dtype=np.float32)


def clothe(
    body: Body, look: Look, faces: npt.NDArray[np.int32], near: csr_array, regions: dict[str, Mask]
) -> Array:
    """(V, 3) rest vertices: cloth lies smoothly over the body, hair has volume."""
    v = body.vertices.copy()
    # Garments end in level lines, not along the teeth of the mesh.
    for garment, level in zip(("top", "trousers"), _edges(body, look), strict=True):
        v[regions[garment] & (np.abs(v[:, 1] - level) <= _SNAP_M), 1] = level
    chest = regions["top"] & (np.abs(v[:, 0]) > 0.03) & (v[:, 1] > body.head_of("spine02")[1])
    spans = [(regions["top"], 14), (regions["trousers"], 12), (regions["shoes"], 60)]
    for side in (v[:, 0] > 0, v[:, 0] < 0):
        tip = v[np.argmax(np.where(chest & side, v[:, 2], -np.inf))]
        spans.append((np.linalg.norm(v - tip, axis=1) < 0.045, 120))
    for inside, rounds in spans:
        for _ in range(rounds):
            v[inside] = 0.4 * v[inside] + 0.6 * (near @ v)[inside]
    normal = np.zeros_like(v)
    corner = v[faces]
    across = np.cross(corner[:, 1] - corner[:, 0], corner[:, 2] - corner[:, 0])
    for k in range(3):
        np.add.at(normal, faces[:, k], across)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    thick = np.zeros(len(v))
    hips = body.head_of("upperleg01.L")[1]
    thick[regions["top"]] = 0.013
    thick[regions["trousers"]] = 0.010 + 0.012 * np.clip((hips - v[regions["trousers"], 1]) / hips, 0, 1)
    if look.loose_m:
        waist, hem = _edges(body, look)
        for name, level, span in (("top", waist, 0.5), ("trousers", hem, hips - hem)):
            near_edge = 1 - np.clip((v[regions[name], 1] - level) / span, 0, 1)
            thick[regions[name]] += look.loose_m * (0.4 + 0.6 * near_edge)
    thick[regions["shoes"]] = 0.012
    thick[regions["hair"]] = 0.018
    # A loose edge of 60% keeps the border of a garment visible as a step.
    soft = 0.6 * thick + 0.4 * (near @ thick)
    v += normal * np.where(thick > 0, soft, 0.0)[:, None]
    v[:, 1] -= v[body.parts == 0, 1].min()
    return v


def neighbours(count: int, faces: npt.NDArray[np.int32]) -> csr_array:
    """Return the (V, V) matrix that averages over the vertices that share an edge."""
    a = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    a = np.concatenate([a, a[:, ::-1]])
    table = csr_array((np.ones(len(a)), (a[:, 0], a[:, 1])), shape=(count, count))
    table.data[:] = 1.0
    total = np.maximum(np.asarray(table.sum(axis=1)).ravel(), 1.0)
    return csr_array(
        (table.data / np.repeat(total, np.diff(table.indptr)), table.indices, table.indptr),
        shape=(count, count),
    )


@njit(cache=True)
def _skin(vertices: Any, bones: Any, weights: Any, rotations: Any, moved: Any) -> Any:
    """(V, 3) linear blend of rigid motions x -> R x + t."""
    out = np.zeros_like(vertices)
    for v in range(len(vertices)):
        for k in range(bones.shape[1]):
            w = weights[v, k]
            if w == 0:
                continue
            b = bones[v, k]
            for i in range(3):
                at = moved[b, i]
                for j in range(3):
                    at += rotations[b, i, j] * vertices[v, j]
                out[v, i] += w * at
    return out
