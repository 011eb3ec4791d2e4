"""From counts to poses: planted feet by two-bone inverse kinematics, hips over the feet, arms that arrive on the beat."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter1d, minimum_filter1d

from opendance_hf.motion.ik import place_limb
from opendance_hf.motion.rotations import axis_angle_to_matrix, smallest_rotation, unit
from opendance_hf.synthetic.body import BONES, Body
from opendance_hf.synthetic.choreography import ARMS, Part

Array = npt.NDArray[np.floating]

#: Joints whose true position is kept, and the bone that starts there.
TRUTH_JOINTS: Final[dict[str, str]] = {
    **{
        f"{side}_{joint}": f"{bone}.{side[0].upper()}"
        for joint, bone in (
            ("hip", "upperleg01"), ("knee", "lowerleg01"), ("ankle", "foot"),
            ("shoulder", "upperarm01"), ("elbow", "lowerarm01"), ("wrist", "wrist"),
        )
        for side in ("left", "right")
    },
    "neck": "neck01",
    "head": "head",
}  # fmt: skip

_RATE: Final = 120.0  # of the smooth curves underneath, hertz
_STANCE_M: Final = 0.10
_SWING_BEATS: Final = 0.62
_KICK_BEATS: Final = 0.75
_MAX_REACH: Final = 0.985
_MAX_STRETCH: Final = 0.9995
_MAX_ELBOW_RAD: Final = np.radians(145)
_ARM_BEATS: Final = 0.8
_ARM_CENTRE: Final = np.array([0.65, 0.05, 0.76])
_FOREARM_CENTRE: Final = np.array([0.1, 0.1, 0.99])


@dataclass(frozen=True)
class Performance:
    """A dancer's motion at T times.

    Attributes:
        rotations: (T, B, 3, 3) of every bone, from rest to the world.
        positions: (T, B, 3) where every bone starts, metres.
        planted: (T, 2) whether the left and right foot rest on the floor.
        facing_rad: (T,) yaw of the hips: 0 towards the audience at +z, positive towards the dancer's left.
    """

    rotations: Array
    positions: Array
    planted: npt.NDArray[np.bool_]
    facing_rad: Array

    def joints(self) -> Array:
        """(T, 14, 3) positions of :data:`TRUTH_JOINTS`, metres."""
        return self.positions[:, [BONES.index(bone) for bone in TRUTH_JOINTS.values()]]

    def every(self, count: int) -> Performance:
        """Return the middle one of each ``count`` times."""
        middle = slice(count // 2, None, count)
        return Performance(
            self.rotations[middle], self.positions[middle], self.planted[middle], self.facing_rad[middle]
        )

    def root(self) -> Array:
        """(T, 3) the middle of the hips."""
        hips = [BONES.index("upperleg01.L"), BONES.index("upperleg01.R")]
        return self.positions[:, hips].mean(axis=1)


def perform(part: Part, body: Body, beats_s: Array, times_s: Array) -> Performance:
    """Dance a part with a body.

    Args:
        part: its count k falls on ``beats_s[k]``.
        body: whose legs and arms.
        beats_s: (K,) at least one for each count.
        times_s: (T,) when to look.
    """
    grid = np.arange(min(times_s[0], beats_s[0]) - 1, max(times_s[-1], beats_s[-1]) + 1, 1 / _RATE)
    beat = _beat_clock(beats_s, grid)
    feet = _Feet(part, beat)
    curves = _curves(part, beat, feet)
    at = {name: _sample(grid, values, times_s) for name, values in curves.items()}
    exact = _Feet(part, _beat_clock(beats_s, times_s))
    return _assemble(body, at, exact, grid, feet, curves, times_s)


def _beat_clock(beats_s: Array, times_s: Array) -> Array:
    """Times in beats: k at beat k, even before the first and after the last."""
    index = np.arange(len(beats_s), dtype=float)
    first, last = beats_s[1] - beats_s[0], beats_s[-1] - beats_s[-2]
    beats_s = np.concatenate([[beats_s[0] - 50 * first], beats_s, [beats_s[-1] + 50 * last]])
    index = np.concatenate([[-50.0], index, [index[-1] + 50]])
    return np.interp(times_s, beats_s, index)


def _sample(grid: Array, values: Array, times_s: Array) -> Array:
    flat = values.reshape(len(values), -1)
    return np.stack([np.interp(times_s, grid, column) for column in flat.T], axis=1).reshape(
        len(times_s), *values.shape[1:]
    )


def _ease(x: Array) -> Array:
    x = np.clip(x, 0, 1)
    return x * x * x * (10 + x * (6 * x - 15))


class _Feet:
    """Where the feet are at given beats: ``place`` (T, 2, 3) ankles on or above the floor, ``yaw`` (T, 2) radians,
    ``pitch`` (T, 2) toes down, ``planted`` (T, 2); ``weight`` (T,) share of the body on the left foot.
    """

    def __init__(self, part: Part, beat: Array) -> None:
        count = len(beat)
        self.place = np.zeros((count, 2, 3))
        self.yaw = np.zeros((count, 2))
        self.pitch = np.zeros((count, 2))
        self.planted = np.ones((count, 2), dtype=bool)
        self.weight = np.full(count, 0.5)
        spot, turn = np.array(part.place_m, dtype=float), 0.0
        sides = (1.0, -1.0)
        now = [np.array([spot[0] + s * _STANCE_M, 0.0, spot[1]]) for s in sides]
        yaws = [0.0, 0.0]
        for foot in (0, 1):
            self.place[:, foot] = now[foot]
        for k, this in enumerate(part.counts):
            spot = spot + this.step_m
            turn += np.radians(this.turn_deg)
            if this.foot is None:
                continue
            foot = 0 if this.foot == "left" else 1
            out = sides[foot] * (_STANCE_M + this.wide_m)
            x = spot[0] + np.cos(turn) * out + np.sin(turn) * this.ahead_m
            z = spot[1] - np.sin(turn) * out + np.cos(turn) * this.ahead_m
            end = np.array([x, this.lift_m, z])
            start = now[foot]
            kick = self.lifted(start) or this.lift_m > 0
            begin = k - (_KICK_BEATS if kick else _SWING_BEATS)
            phase = np.clip((beat - begin) / (k - begin), 0, 1)
            share = _ease(phase)[:, None]
            moving = beat > begin
            self.place[moving, foot] = (start + (end - start) * share)[moving]
            arc = np.sin(np.pi * phase) ** 2
            far = float(np.linalg.norm((end - start)[[0, 2]]))
            self.place[moving, foot, 1] += ((0.03 if kick else 0.05 + 0.08 * min(far / 0.5, 1.0)) * arc)[
                moving
            ]
            self.yaw[moving, foot] = (yaws[foot] + (turn - yaws[foot]) * share[:, 0])[moving]
            lifted = start[1] + (end[1] - start[1]) * share[:, 0]
            self.pitch[moving, foot] = (0.35 * arc + 0.5 * np.minimum(lifted / 0.3, 1))[moving]
            in_air = (beat > begin) & (beat < k)
            self.planted[moving, foot] = this.lift_m == 0
            self.planted[in_air, foot] = False
            self.weight[moving] = 0.5
            self.weight[in_air | (moving & (this.lift_m > 0))] = 0.12 if foot == 0 else 0.88
            if self.lifted(now[1 - foot]):
                self.weight[moving] = 0.88 if foot == 0 else 0.12
            now[foot], yaws[foot] = end, turn

    @staticmethod
    def lifted(place: Array) -> bool:
        """Whether a foot is held above the floor."""
        return bool(place[1] > 0)


def _curves(part: Part, beat: Array, feet: _Feet) -> dict[str, Array]:
    """Smooth curves on the even grid of times."""
    smooth = lambda values, seconds: gaussian_filter1d(values, seconds * _RATE, axis=0, mode="nearest")  # noqa: E731
    weight = smooth(feet.weight, 0.09)[:, None]
    ground = feet.place[..., [0, 2]]
    middle = smooth(weight * ground[:, 0] + (1 - weight) * ground[:, 1], 0.08)
    yaw = smooth(feet.yaw.mean(axis=1), 0.10)
    counts = part.counts
    trunk = _keys(beat, [[c.lean_deg, c.twist_deg, c.bend_deg] for c in counts], 0.8)
    level = _keys(beat, [[c.level_m] for c in counts], 0.85)[:, 0]
    bounce = 0.018 * (1 + np.cos(2 * np.pi * beat)) / 2
    pulse = np.cos(2 * np.pi * beat)
    sway = 2 * weight[:, 0] - 1  # -1 all on the right foot, 1 all on the left
    out = {
        "middle": middle,
        "yaw": yaw,
        "pelvis": np.stack([0.06 + 0.03 * pulse, 0.10 * sway, 0.09 * sway], axis=1),
        "trunk": smooth(np.radians(trunk), 0.04),
        "drop": smooth(level + bounce, 0.03),
        "head": np.stack([0.04 + 0.10 * pulse, -0.6 * np.sin(yaw), -0.05 * sway], axis=1),
    }
    for i, side in enumerate(("left", "right")):
        mirror = np.array([1.0 if side == "left" else -1.0, 1.0, 1.0])
        for j, (name, centre) in enumerate((("upper", _ARM_CENTRE), ("fore", _FOREARM_CENTRE))):
            chart = [_to_chart(np.array(ARMS[c.arms[i]][j]), centre) for c in counts]
            moved = smooth(_keys(beat, chart, _ARM_BEATS, late=0.06 * j), 0.035)
            out[f"{side}_{name}"] = _from_chart(moved, centre) * mirror
    return out


def _keys(beat: Array, values: list[list[float]] | list[Array], lasts: float, late: float = 0.0) -> Array:
    """(T, C) values that arrive on their beats, each move lasting so many beats."""
    table = np.asarray(values, dtype=float)
    out = np.repeat(table[:1], len(beat), axis=0)
    for k in range(1, len(table)):
        out += (table[k] - table[k - 1]) * _ease((beat - late - k + lasts) / lasts)[:, None]
    return out


def _to_chart(direction: Array, centre: Array) -> Array:
    """(2,) azimuthal equidistant coordinates of a direction around a centre: no antipodes between arm poses."""
    d, c = direction / np.linalg.norm(direction), centre / np.linalg.norm(centre)
    right, up = _axes(c)
    angle = np.arccos(np.clip(d @ c, -1, 1))
    flat = np.array([d @ right, d @ up])
    return flat / max(float(np.linalg.norm(flat)), 1e-9) * angle


def _from_chart(flat: Array, centre: Array) -> Array:
    """(..., 3) directions at (..., 2) coordinates."""
    c = centre / np.linalg.norm(centre)
    right, up = _axes(c)
    angle = np.linalg.norm(flat, axis=-1, keepdims=True)
    across = (flat[..., :1] * right + flat[..., 1:] * up) / np.maximum(angle, 1e-9)
    return np.cos(angle) * c + np.sin(angle) * across


def _axes(c: Array) -> tuple[Array, Array]:
    right = np.cross((0.0, 1.0, 0.0), c)
    right = right / np.linalg.norm(right)
    return right, np.cross(c, right)


def _assemble(
    body: Body,
    at: dict[str, Array],
    feet: _Feet,
    grid: Array,
    coarse: _Feet,
    curves: dict[str, Array],
    times_s: Array,
) -> Performance:
    count = len(times_s)
    rotations = np.zeros((count, len(BONES), 3, 3))
    positions = np.zeros((count, len(BONES), 3))
    index = {bone: i for i, bone in enumerate(BONES)}
    rest = {bone: body.heads[i] for bone, i in index.items()}

    def carry(bone: str, parent: str, turn: Array) -> None:
        """Give a bone its rotation; it starts where its parent carries it."""
        offset = rest[bone] - rest[parent]
        positions[:, index[bone]] = positions[:, index[parent]] + rotations[:, index[parent]] @ offset
        rotations[:, index[bone]] = turn

    height = _hip_height(body, coarse, curves)
    pelvis, hips = _pelvis(body, at["yaw"], at["pelvis"], at["middle"])
    limit = _reach_limit(body, feet.place, hips)
    middle_y = np.minimum(np.interp(times_s, grid, height), limit)
    middle = np.stack([at["middle"][:, 0], middle_y, at["middle"][:, 1]], axis=1)
    hip_middle = 0.5 * (rest["upperleg01.L"] + rest["upperleg01.R"])
    rotations[:, 0] = pelvis
    positions[:, 0] = middle + pelvis @ (rest["root"] - hip_middle)

    spine = pelvis
    share = axis_angle_to_matrix((at["trunk"] - 0.7 * at["pelvis"] * [1, 1, 1]) / 5)
    previous = "root"
    for bone in ("spine05", "spine04", "spine03", "spine02", "spine01"):
        spine = spine @ share
        carry(bone, previous, spine)
        previous = bone
    chest = spine
    nod = axis_angle_to_matrix((at["head"] - 0.5 * at["trunk"] * [1, 0, 1]) / 3)
    for bone in ("neck01", "neck02", "head"):
        spine = spine @ nod
        carry(bone, previous, spine)
        previous = bone

    for number, (side, letter) in enumerate((("left", "L"), ("right", "R"))):
        upper, fore = at[f"{side}_upper"], _within_elbow(at[f"{side}_upper"], at[f"{side}_fore"])
        lift = np.clip(upper[:, 1], -0.6, 1.0) * 0.30
        zero = np.zeros(count)
        sign = 1.0 if letter == "L" else -1.0
        carry(
            f"clavicle.{letter}",
            "spine01",
            chest @ axis_angle_to_matrix(np.stack([zero, -sign * 0.15 * upper[:, 2], sign * lift], axis=1)),
        )
        arm = chest @ smallest_rotation(rest[f"lowerarm01.{letter}"] - rest[f"upperarm01.{letter}"], upper)
        carry(f"upperarm01.{letter}", f"clavicle.{letter}", arm)
        bone = rest[f"wrist.{letter}"] - rest[f"lowerarm01.{letter}"]
        wanted = np.einsum("tji,tj->ti", arm, np.einsum("tij,tj->ti", chest, fore))
        lower = arm @ smallest_rotation(bone, wanted)
        carry(f"lowerarm01.{letter}", f"upperarm01.{letter}", lower)
        carry(f"lowerarm02.{letter}", f"lowerarm01.{letter}", lower)
        carry(f"wrist.{letter}", f"lowerarm02.{letter}", lower)
        _leg(body, letter, rotations, positions, feet, number)
    return Performance(rotations, positions, feet.planted, at["yaw"] + at["pelvis"][:, 1])


def _pelvis(body: Body, yaw: Array, tilt: Array, middle: Array) -> tuple[Array, Array]:
    """(T, 3, 3) rotation of the pelvis, and (T, 2, 3) hips with the middle of the hips at height 0."""
    zero = np.zeros_like(yaw)
    turn = axis_angle_to_matrix(np.stack([zero, yaw + tilt[:, 1], zero], axis=1))
    roll = axis_angle_to_matrix(np.stack([zero, zero, tilt[:, 2]], axis=1))
    lean = axis_angle_to_matrix(np.stack([tilt[:, 0], zero, zero], axis=1))
    pelvis = turn @ roll @ lean
    rest = np.stack([body.head_of("upperleg01.L"), body.head_of("upperleg01.R")])
    offset = rest - rest.mean(axis=0)
    hips = np.einsum("tij,hj->thi", pelvis, offset)
    hips[..., 0] += middle[:, None, 0]
    hips[..., 2] += middle[:, None, 1]
    return pelvis, hips


def _lengths(body: Body) -> tuple[float, float, float]:
    """Thigh, shin, and height of the ankle above the floor."""
    hip, knee, ankle = (body.head_of(f"{bone}.L") for bone in ("upperleg01", "lowerleg01", "foot"))
    return float(np.linalg.norm(knee - hip)), float(np.linalg.norm(ankle - knee)), float(ankle[1])


def _reach_limit(body: Body, feet: Array, hips: Array) -> Array:
    """(T,) how high the middle of the hips may be so that both feet are within reach."""
    thigh, shin, ankle = _lengths(body)
    flat = np.linalg.norm((feet - hips)[..., [0, 2]], axis=-1)
    reach = _MAX_REACH * (thigh + shin)
    up = np.sqrt(np.maximum(reach**2 - flat**2, 0.01))
    return np.min(feet[..., 1] + ankle + up - hips[..., 1], axis=1)


def _hip_height(body: Body, feet: _Feet, curves: dict[str, Array]) -> Array:
    _, hips = _pelvis(body, curves["yaw"], curves["pelvis"], curves["middle"])
    limit = _reach_limit(body, feet.place, hips)
    low = minimum_filter1d(limit, round(0.16 * _RATE), mode="nearest")
    return gaussian_filter1d(low, 0.07 * _RATE, mode="nearest") - curves["drop"]


def _leg(body: Body, letter: str, rotations: Array, positions: Array, feet: _Feet, number: int) -> None:
    """Two-bone inverse kinematics: the ankle is where the foot is, the knee ahead of the line to it."""
    index = {bone: BONES.index(f"{bone}.{letter}") for bone in ("upperleg01", "lowerleg01", "foot")}
    rest = {bone: body.heads[i] for bone, i in index.items()}
    thigh, shin, ankle_m = _lengths(body)
    pelvis = rotations[:, 0]
    hip = positions[:, 0] + pelvis @ (rest["upperleg01"] - body.heads[0])
    target = feet.place[:, number] + [0, ankle_m, 0]
    yaw = feet.yaw[:, number]
    out = 0.22 if letter == "L" else -0.22
    toes = np.stack([np.sin(yaw + out), np.zeros_like(yaw), np.cos(yaw + out)], axis=1)
    ahead = toes + pelvis[:, :, 2]
    knee, ankle = place_limb(hip, target, ahead, thigh, shin, max_stretch=_MAX_STRETCH)
    hinge = np.cross(ahead, ankle - hip)
    for bone, start, end, rest_end in (
        ("upperleg01", hip, knee, rest["lowerleg01"]),
        ("lowerleg01", knee, ankle, rest["foot"]),
    ):
        rotations[:, index[bone]] = hinge_frame(hinge, end - start) @ hinge_frame(
            np.array([[1.0, 0, 0]]), (rest_end - rest[bone])[None]
        ).transpose(0, 2, 1)
        positions[:, index[bone]] = start
    zero = np.zeros_like(yaw)
    turn = axis_angle_to_matrix(np.stack([zero, yaw, zero], axis=1))
    rotations[:, index["foot"]] = turn @ axis_angle_to_matrix(
        np.stack([feet.pitch[:, number], zero, zero], axis=1)
    )
    positions[:, index["foot"]] = ankle


def hinge_frame(hinge: Array, along: Array) -> Array:
    """Return (T, 3, 3) orthonormal frames: columns hinge, along, and their cross product."""
    y = unit(along)
    x = unit(hinge - y * np.sum(hinge * y, axis=1, keepdims=True))
    return np.stack([x, y, np.cross(x, y)], axis=2)


def _within_elbow(upper: Array, fore: Array) -> Array:
    """(T, 3) forearm directions with the elbow bent no further than elbows go."""
    cos = np.sum(upper * fore, axis=1)
    bend = np.arccos(np.clip(cos, -1, 1))
    across = fore - upper * cos[:, None]
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-9)
    bend = np.minimum(bend, _MAX_ELBOW_RAD)[:, None]
    return np.cos(bend) * upper + np.sin(bend) * across
