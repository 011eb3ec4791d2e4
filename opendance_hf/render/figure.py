"""A smooth human figure around the 24-joint skeleton, made of numbers in this file only.

Every surface is a tube: rings along a line, each ring tied to one or two joints. The lines run through the joints of
the dancer's own rest skeleton, so the drawn body bends exactly where ``joints`` says, whatever the bone lengths.
Thickness is that of an average adult and scales with stature. Needs no licensed body model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.interpolate import PchipInterpolator

from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS, PARENTS

Array = npt.NDArray[np.floating]
Profile = tuple[tuple[float, ...], ...]

#: What a vertex is made of; the renderer gives each a colour.
CLOTH, SKIN, DARK = 0, 1, 2

_X, _Y, _Z = np.eye(3)

# Profiles: (position along the line, half width along u, half width along v), metres at average stature. Positions of
# limbs are fractions of a bone: 0 to 1 is the upper one, 1 to 2 the lower one.
_ARM: Final[Profile] = (
    (0.0, 0.057, 0.057), (0.3, 0.052, 0.054), (0.7, 0.043, 0.046), (1.0, 0.038, 0.041),
    (1.25, 0.040, 0.043), (1.6, 0.034, 0.036), (1.95, 0.024, 0.030),
)  # fmt: skip
_LEG: Final[Profile] = (
    (0.0, 0.094, 0.100), (0.25, 0.091, 0.098), (0.6, 0.073, 0.080), (0.9, 0.057, 0.062), (1.0, 0.054, 0.060),
    (1.1, 0.052, 0.057), (1.3, 0.056, 0.064), (1.5, 0.050, 0.056), (1.8, 0.036, 0.040), (2.0, 0.036, 0.042),
)  # fmt: skip
# Fraction of the way from pelvis to neck, half width, half depth, forward shift.
_TORSO: Final[Profile] = (
    (-0.27, 0.060, 0.040, -0.014), (-0.22, 0.118, 0.074, -0.012), (-0.14, 0.151, 0.096, -0.008),
    (0.0, 0.157, 0.104, -0.002), (0.12, 0.146, 0.101, 0.012), (0.25, 0.131, 0.095, 0.024),
    (0.38, 0.132, 0.098, 0.024), (0.52, 0.145, 0.108, 0.018), (0.66, 0.158, 0.114, 0.014),
    (0.76, 0.158, 0.110, 0.012), (0.85, 0.140, 0.094, 0.008), (0.93, 0.100, 0.074, 0.008), (1.0, 0.062, 0.058, 0.010),
)  # fmt: skip
# Height over the head joint, half width, half depth, forward shift.
_HEAD: Final[Profile] = (
    (-0.052, 0.026, 0.026, 0.060), (-0.036, 0.046, 0.054, 0.046), (0.0, 0.064, 0.080, 0.026),
    (0.04, 0.075, 0.094, 0.014), (0.085, 0.079, 0.099, 0.008), (0.12, 0.075, 0.095, 0.004),
    (0.145, 0.062, 0.080, 0.002), (0.162, 0.042, 0.054, 0.0), (0.17, 0.014, 0.018, 0.0),
)  # fmt: skip
_HAIRLINE = (0.108, 0.022)
# Distance beyond the wrist, half thickness, half width.
_HAND: Final[Profile] = (
    (-0.01, 0.020, 0.026), (0.03, 0.019, 0.036), (0.08, 0.017, 0.042), (0.12, 0.013, 0.036),
    (0.155, 0.010, 0.028), (0.172, 0.005, 0.014),
)  # fmt: skip
# Distance in front of the ankle, half width, height over the sole.
_FOOT: Final[Profile] = (
    (-0.062, 0.018, 0.040), (-0.045, 0.032, 0.072), (-0.01, 0.037, 0.090), (0.05, 0.042, 0.078),
    (0.11, 0.047, 0.056), (0.16, 0.046, 0.042), (0.195, 0.032, 0.032), (0.208, 0.012, 0.022),
)  # fmt: skip
#: The foot joint lies this far above the sole.
SOLE_M: Final = 0.022


@dataclass(frozen=True)
class Figure:
    """A rest-pose surface of V vertices tied to the skeleton, ready to be posed.

    Attributes:
        rest_offsets: (24, 3) the skeleton it was built around, metres.
        joints: (V, 2) the joints a vertex follows.
        local: (V, 2, 3) the vertex seen from each of them in the rest pose, metres.
        weight: (V,) the share of the second joint, 0 to 1.
        faces: (F, 3) vertex indices, counter-clockwise seen from outside.
        material: (V,) one of CLOTH, SKIN, DARK.
    """

    rest_offsets: npt.NDArray[np.float32]
    joints: npt.NDArray[np.int32]
    local: npt.NDArray[np.float32]
    weight: npt.NDArray[np.float32]
    faces: npt.NDArray[np.int32]
    material: npt.NDArray[np.uint8]


class _Builder:
    """Collects tubes."""

    def __init__(self, rest: Array) -> None:
        self.rest = rest
        self.points: list[Array] = []
        self.joints: list[npt.NDArray[np.integer]] = []
        self.weights: list[Array] = []
        self.faces: list[npt.NDArray[np.integer]] = []
        self.materials: list[npt.NDArray[np.integer]] = []
        self.count = 0

    def tube(
        self,
        rings: Array,
        joints: npt.NDArray[np.integer],
        weights: Array,
        material: npt.NDArray[np.integer] | int,
    ) -> None:
        """Add rings (R, S, 3), each tied to joints (R, 2) by weights (R,), and close both ends."""
        r, s = rings.shape[:2]
        ends = rings[[0, -1]].mean(axis=1)
        index = np.arange(r * s).reshape(r, s)
        here, right = index[:-1], np.roll(index, -1, axis=1)[:-1]
        up, up_right = index[1:], np.roll(index, -1, axis=1)[1:]
        first, last = np.full(s, r * s), np.full(s, r * s + 1)
        faces = np.concatenate(
            [
                np.stack([here, right, up_right], -1).reshape(-1, 3),
                np.stack([here, up_right, up], -1).reshape(-1, 3),
                np.stack([first, np.roll(index[0], -1), index[0]], -1),
                np.stack([last, index[-1], np.roll(index[-1], -1)], -1),
            ]
        )
        points = np.concatenate([rings.reshape(-1, 3), ends])
        solid = points[faces]
        if np.einsum("fi,fi->", np.cross(solid[:, 0], solid[:, 1]), solid[:, 2]) < 0:
            faces = faces[:, ::-1]
        per_point = np.concatenate([np.repeat(np.arange(r), s), [0, r - 1]])
        self.points.append(points)
        self.joints.append(joints[per_point])
        self.weights.append(weights[per_point])
        self.faces.append(faces + self.count)
        self.materials.append(np.broadcast_to(material, len(points)))
        self.count += len(points)

    def rigid(self, rings: Array, joint: str, material: npt.NDArray[np.integer] | int) -> None:
        """Add rings that follow one joint."""
        tied = np.full((len(rings), 2), JOINT_INDEX[joint])
        self.tube(rings, tied, np.zeros(len(rings)), material)

    def ball(self, centre: Array, radii: tuple[float, ...], joint: str, material: int) -> None:
        """Add an ellipsoid that follows one joint."""
        angle = np.linspace(-np.pi / 2, np.pi / 2, 9)[1:-1]
        line = centre + np.sin(angle)[:, None] * radii[1] * _Y
        self.rigid(
            _rings(line, np.cos(angle) * radii[0], np.cos(angle) * radii[2], _X, _Z, 12), joint, material
        )

    def build(self, rest_offsets: Array) -> Figure:
        points, joints = np.concatenate(self.points), np.concatenate(self.joints)
        return Figure(
            rest_offsets=np.asarray(rest_offsets, dtype=np.float32),
            joints=joints.astype(np.int32),
            local=(points[:, None] - self.rest[joints]).astype(np.float32),
            weight=np.concatenate(self.weights).astype(np.float32),
            faces=np.concatenate(self.faces).astype(np.int32),
            material=np.concatenate(self.materials).astype(np.uint8),
        )


def _sample(profile: Profile, count: int) -> Array:
    """``count`` rows of a profile, smooth between the given ones."""
    table = np.asarray(profile)
    at = np.linspace(table[0, 0], table[-1, 0], count)
    return np.concatenate([at[:, None], PchipInterpolator(table[:, 0], table[:, 1:])(at)], axis=1)


def _rings(line: Array, u_radius: Array, v_radius: Array, u: Array, v: Array, segments: int) -> Array:
    """(R, segments, 3) ellipses around the points of a line (R, 3)."""
    angle = np.linspace(0, 2 * np.pi, segments, endpoint=False)
    return (
        line[:, None]
        + u_radius[:, None, None] * np.cos(angle)[:, None] * u
        + v_radius[:, None, None] * np.sin(angle)[:, None] * v
    )


def _round_start(position: Array, radius: Array, length: float, *columns: Array) -> tuple[Array, ...]:
    """Put a dome before the first ring of a tube whose positions are fractions of ``length`` metres."""
    angle = np.array([0.08, 0.35, 0.7, 1.1])
    dome = position[0] - radius[0] * np.cos(angle) / length
    return (
        np.concatenate([dome, position]),
        *(np.concatenate([column[0] * np.sin(angle), column]) for column in columns),
    )


def _limb(build: _Builder, names: tuple[str, str, str], profile: Profile, size: float, u: Array) -> None:
    """A tube through three joints that bends smoothly at the middle one, with a ball to keep that full."""
    top, middle, end = (JOINT_INDEX[name] for name in names)
    table = _sample(profile, 15)
    upper = float(np.linalg.norm(build.rest[middle] - build.rest[top]))
    lower = float(np.linalg.norm(build.rest[end] - build.rest[middle]))
    at, u_radius, v_radius = _round_start(
        table[:, 0], size * table[:, 1], upper, size * table[:, 1], size * table[:, 2]
    )
    line = np.where(
        at[:, None] < 1,
        build.rest[top] + at[:, None] * (build.rest[middle] - build.rest[top]),
        build.rest[middle] + (at[:, None] - 1) * (build.rest[end] - build.rest[middle]),
    )
    past_m = np.where(at < 1, (at - 1) * upper, (at - 1) * lower)
    ramp = np.clip(past_m / (2.4 * size * 0.05) + 0.5, 0, 1)
    tied = np.tile([top, middle], (len(at), 1))
    build.tube(_rings(line, u_radius, v_radius, u, _Z, 14), tied, ramp**2 * (3 - 2 * ramp), CLOTH)
    bend = table[np.abs(table[:, 0] - 1).argmin(), 1:].min() * size * 0.93
    build.ball(build.rest[middle], (bend, bend, bend), names[1], CLOTH)


def _torso(build: _Builder, size: float) -> None:
    chain = np.array([JOINT_INDEX[n] for n in ("pelvis", "spine1", "spine2", "spine3", "neck")])
    table = _sample(_TORSO, 28)
    bottom, top = build.rest[chain[0], 1], build.rest[chain[-1], 1]
    height = bottom + table[:, 0] * (top - bottom)
    # The spine of the rest pose rises; np.interp needs that in skeletons of any quality.
    levels = np.maximum.accumulate(build.rest[chain, 1] + 1e-6 * np.arange(5))
    x, z = (np.interp(height, levels, build.rest[chain, axis]) for axis in (0, 2))
    # Between two joints the flesh follows the lower one; around a joint it passes over. The chest is stiff.
    step = np.clip(np.interp(height, levels, np.arange(5)) - 0.5, 0, 2.5)
    low = np.minimum(step.astype(int), 2)
    line = np.stack([x, height, z + size * table[:, 3]], axis=-1)
    build.tube(
        _rings(line, size * table[:, 1], size * table[:, 2], _X, _Z, 24),
        np.stack([chain[low], chain[low + 1]], axis=-1),
        np.where(height > levels[3], 1.0, step - low),
        CLOTH,
    )
    for side in ("left", "right"):
        collar, shoulder = (build.rest[JOINT_INDEX[f"{side}_{part}"]] for part in ("collar", "shoulder"))
        at = np.array([-0.6, -0.45, -0.2, 0.1, 0.4, 0.7, 0.95, 1.1, 1.2])
        line = collar + at[:, None] * (shoulder - collar)
        thick = size * np.array([0.030, 0.052, 0.064, 0.069, 0.068, 0.065, 0.059, 0.045, 0.020])
        build.rigid(_rings(line, thick, 1.1 * thick, _Y, _Z, 14), f"{side}_collar", CLOTH)


def _neck_and_head(build: _Builder, size: float) -> None:
    neck, head = build.rest[JOINT_INDEX["neck"]], build.rest[JOINT_INDEX["head"]]
    at = np.linspace(-1.0, 0.9, 7)
    # Its lower end stays in the chest, straight below, or a leaning neck would bring it out of the body.
    line = neck + np.maximum(at, 0)[:, None] * (head - neck) + size * np.array([0.0, 0.0, 0.010])
    line[:, 1] += 0.07 * size * np.minimum(at, 0)
    thick = size * np.linspace(0.056, 0.050, 7)
    below, above = ([JOINT_INDEX[n] for n in names] for names in (("spine3", "neck"), ("neck", "head")))
    build.tube(
        _rings(line, thick, thick, _X, _Z, 14),
        np.where(at[:, None] < 0, below, above),
        np.where(at < 0, np.clip(1 + 1.5 * at, 0, 1), at),
        SKIN,
    )

    table = size * _sample(_HEAD, 22)
    line = head + table[:, :1] * _Y + table[:, 3:] * _Z
    rings = _rings(line, table[:, 1], table[:, 2], _X, _Z, 24)
    top, back = size * _HAIRLINE[0], size * _HAIRLINE[1]
    from_head = np.concatenate([rings.reshape(-1, 3), rings[[0, -1]].mean(axis=1)]) - head
    hair = (from_head[:, 1] > top) | ((from_head[:, 2] < back) & (from_head[:, 1] > -0.25 * top))
    build.rigid(rings, "head", np.where(hair, DARK, SKIN))
    # Enough of a face to tell front from back at a glance.
    for place, radii, material in (
        ((0.0, 0.034, 0.104), (0.012, 0.022, 0.020), SKIN),
        ((0.028, 0.058, 0.094), (0.011, 0.008, 0.010), DARK),
        ((-0.028, 0.058, 0.094), (0.011, 0.008, 0.010), DARK),
    ):
        build.ball(head + size * np.array(place), tuple(size * r for r in radii), "head", material)


def _hand(build: _Builder, side: str, size: float) -> None:
    wrist, hand = JOINT_INDEX[f"{side}_wrist"], JOINT_INDEX[f"{side}_hand"]
    table = size * _sample(_HAND, 10)
    along = build.rest[hand] - build.rest[wrist]
    reach = max(float(np.linalg.norm(along)), 1e-6)
    along = along / reach
    line = build.rest[wrist] + table[:, :1] * along
    build.tube(
        _rings(line, table[:, 1], table[:, 2], _Y, _Z, 12),
        np.tile([wrist, hand], (len(table), 1)),
        np.clip((table[:, 0] - 0.7 * reach) / (0.6 * reach), 0, 1),
        SKIN,
    )
    thumb = build.rest[wrist] + np.linspace(0.02, 0.085, 6)[:, None] * size * along
    thumb = thumb + np.linspace(0.018, 0.058, 6)[:, None] * size * _Z
    radius = size * np.array([0.008, 0.014, 0.014, 0.013, 0.011, 0.005])
    build.rigid(_rings(thumb, radius, radius, _Y, _Z, 8), f"{side}_wrist", SKIN)


def _foot(build: _Builder, side: str, size: float) -> None:
    ankle, toes = JOINT_INDEX[f"{side}_ankle"], JOINT_INDEX[f"{side}_foot"]
    table = size * _sample(_FOOT, 14)
    sole = build.rest[toes, 1] - size * SOLE_M
    forward = build.rest[toes, 2] - build.rest[ankle, 2]
    aside = (build.rest[toes, 0] - build.rest[ankle, 0]) * np.clip(table[:, 0] / max(forward, 1e-6), 0, 1)
    # The ankle may lie higher than in the average foot: the instep follows it.
    lift = (build.rest[ankle, 1] - sole) / (size * 0.084)
    height = table[:, 2] * np.interp(table[:, 0], [0, forward], [max(lift, 0.6), 1.0])
    line = np.stack(
        [build.rest[ankle, 0] + 0.6 * aside, np.full(len(table), sole), build.rest[ankle, 2] + table[:, 0]],
        axis=-1,
    )
    rings = _rings(line + (height / 2)[:, None] * _Y, table[:, 1], 0.62 * height, _X, _Y, 14)
    rings[..., 1] = np.maximum(rings[..., 1], sole)
    build.tube(
        rings,
        np.tile([ankle, toes], (len(table), 1)),
        np.clip((table[:, 0] - forward) / (0.04 * size) + 0.5, 0, 1),
        DARK,
    )


def build_figure(rest_offsets: Array) -> Figure:
    """The figure around one rest skeleton.

    Args:
        rest_offsets: (24, 3) parent-to-joint offsets of a T-pose that faces +z, metres; row 0 does not matter.

    Raises:
        ValueError: if the shape is wrong, or the skeleton has no size.
    """
    offsets = np.array(rest_offsets, dtype=np.float64)
    if offsets.shape != (NUM_JOINTS, 3):
        raise ValueError(f"rest_offsets must be (24, 3), got {offsets.shape}")
    offsets[0] = 0.0
    size = float(np.linalg.norm(offsets, axis=-1).sum() / np.linalg.norm(MEAN_OFFSETS, axis=-1).sum())
    if not (np.isfinite(size) and size > 1e-3):
        raise ValueError(f"rest_offsets describe a skeleton of {size:.3g} times the average size")
    rest = np.zeros((NUM_JOINTS, 3))
    for joint in range(1, NUM_JOINTS):
        rest[joint] = rest[PARENTS[joint]] + offsets[joint]

    build = _Builder(rest)
    _torso(build, size)
    _neck_and_head(build, size)
    for side in ("left", "right"):
        _limb(build, (f"{side}_hip", f"{side}_knee", f"{side}_ankle"), _LEG, size, _X)
        _limb(build, (f"{side}_shoulder", f"{side}_elbow", f"{side}_wrist"), _ARM, size, _Y)
        _hand(build, side, size)
        _foot(build, side, size)
    return build.build(rest_offsets)
