"""Motion capture on a synthetic body: 24 SMPL joints a frame in, the bones of a figure out.

The figure's own bones keep their lengths, so it does not reach exactly where the captured person did; what it does
instead is known exactly, and is the truth of the clip.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle, smallest_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.synthetic.body import BONES, Body
from opendance_hf.synthetic.motion import Performance, hinge_frame

Array = npt.NDArray[np.floating]

_J: Final = JOINT_INDEX
_SPINE: Final = ("spine05", "spine04", "spine03", "spine02", "spine01")
_TOE_AHEAD_M: Final = 0.15
#: Share of the standing that may sink below the floor: marker noise.
_FLOOR_QUANTILE: Final = 0.1
_PLANTED_MPS: Final = 0.15
_PLANTED_M: Final = 0.06
_MIN_STEP_S: Final = 1e-3  # of a dance that stands still


def perform_joints(joints: Array, joints_fps: float, body: Body, times_s: Array) -> Performance:
    """Let a body dance what was captured.

    Args:
        joints: (T, 24, 3) metres, y up.
        joints_fps: their frames per second; the first is at 0 s.
        body: whose bones.
        times_s: (N,) when to look, within the capture.

    Raises:
        ValueError: if the joints have another shape, or the capture ends before the last time.
    """
    if joints.ndim != 3 or joints.shape[1:] != (NUM_JOINTS, 3):
        raise ValueError(f"joints must be (T, {NUM_JOINTS}, 3), got {joints.shape}")
    last_s = (len(joints) - 1) / joints_fps
    if times_s.max() > last_s + 1e-6:
        raise ValueError(f"the capture lasts {last_s:.2f} s, but {times_s.max():.2f} s are asked for")
    flat = joints.reshape(len(joints), -1)
    clock = np.arange(len(joints)) / joints_fps
    at = np.stack([np.interp(times_s, clock, column) for column in flat.T], axis=1).reshape(-1, NUM_JOINTS, 3)
    rotations = np.stack([_rotations(at, body)[bone] for bone in BONES], axis=1)
    positions = _positions(at[:, 0], rotations, body)
    soles = _soles(rotations, positions, body)
    ankles = positions[:, [BONES.index("foot.L"), BONES.index("foot.R")]]
    moved = np.linalg.norm(np.gradient(ankles[..., [0, 2]], axis=0), axis=-1)
    pace = moved / np.maximum(np.abs(np.gradient(times_s)), _MIN_STEP_S)[:, None]
    # Where a lower foot stands still is the floor. One that swings may pass below it, on legs longer than the captured.
    lower = np.arange(len(soles)), soles.argmin(axis=1)
    standing = soles[lower][pace[lower] < _PLANTED_MPS]
    down = np.quantile(standing if len(standing) else soles.min(axis=1), _FLOOR_QUANTILE)
    positions[..., 1] -= down
    pelvis = rotations[:, 0]
    return Performance(
        rotations,
        positions,
        planted=(pace < _PLANTED_MPS) & (soles - down < _PLANTED_M),
        facing_rad=np.arctan2(-pelvis[:, 2, 0], pelvis[:, 0, 0]),
    )


def _rotations(joints: Array, body: Body) -> dict[str, Array]:
    """(T, 3, 3) of every bone, from the body's rest pose to the world."""
    at = {name: joints[:, index] for name, index in _J.items()}
    pelvis = _frame(at["left_hip"] - at["right_hip"], at["spine1"] - (at["left_hip"] + at["right_hip"]) / 2)
    chest = _frame(at["left_shoulder"] - at["right_shoulder"], at["neck"] - at["spine1"])
    bend = matrix_to_axis_angle(np.swapaxes(pelvis, -1, -2) @ chest)
    out = {"root": pelvis}
    for number, bone in enumerate(_SPINE, start=1):
        out[bone] = pelvis @ axis_angle_to_matrix(bend * number / len(_SPINE))
    # Captured heads are points above the neck, at no known angle to the face: only what changes is a nod.
    nod = np.einsum("tji,tj->ti", chest, at["head"] - at["neck"])
    nod = matrix_to_axis_angle(smallest_rotation(np.broadcast_to(np.median(nod, axis=0), nod.shape), nod))
    for number, bone in enumerate(("neck01", "neck02", "head"), start=1):
        out[bone] = chest @ axis_angle_to_matrix(nod * number / 3)
    for side, letter in (("left", "L"), ("right", "R")):
        rest = {bone: body.head_of(f"{bone}.{letter}") for bone in ("upperleg01", "lowerleg01", "foot")}
        thigh = at[f"{side}_knee"] - at[f"{side}_hip"]
        shin = at[f"{side}_ankle"] - at[f"{side}_knee"]
        hinge = _hinge(thigh, shin, pelvis[..., 0])
        across = np.array([1.0, 0.0, 0.0])
        out[f"upperleg01.{letter}"] = _turn(across, rest["lowerleg01"] - rest["upperleg01"], hinge, thigh)
        out[f"lowerleg01.{letter}"] = _turn(across, rest["foot"] - rest["lowerleg01"], hinge, shin)
        toes = at[f"{side}_foot"] - at[f"{side}_ankle"]
        out[f"foot.{letter}"] = _turn(across, MEAN_OFFSETS[_J[f"{side}_foot"]], hinge, toes)

        collar = sum(MEAN_OFFSETS[_J[f"{side}_{part}"]] for part in ("collar", "shoulder"))
        lift = smallest_rotation(
            chest @ (collar - MEAN_OFFSETS[_J["neck"]]), at[f"{side}_shoulder"] - at["neck"]
        )
        out[f"clavicle.{letter}"] = lift @ chest
        rest = {bone: body.head_of(f"{bone}.{letter}") for bone in ("upperarm01", "lowerarm01", "wrist")}
        arm = rest["lowerarm01"] - rest["upperarm01"]
        upper = smallest_rotation(chest @ arm, at[f"{side}_elbow"] - at[f"{side}_shoulder"]) @ chest
        fore = rest["wrist"] - rest["lowerarm01"]
        lower = smallest_rotation(upper @ fore, at[f"{side}_wrist"] - at[f"{side}_elbow"]) @ upper
        out[f"upperarm01.{letter}"] = upper
        for bone in ("lowerarm01", "lowerarm02", "wrist"):
            out[f"{bone}.{letter}"] = lower
    return out


def _positions(pelvis: Array, rotations: Array, body: Body) -> Array:
    """(T, B, 3) where every bone starts, the middle of the hips being over the captured one."""
    index = {bone: number for number, bone in enumerate(BONES)}
    parents = dict(
        zip((*_SPINE, "neck01", "neck02", "head"), ("root", *_SPINE, "neck01", "neck02"), strict=True)
    )
    for letter in "LR":
        arm = ("spine01", "clavicle", "upperarm01", "lowerarm01", "lowerarm02", "wrist")
        leg = ("root", "upperleg01", "lowerleg01", "foot")
        for chain in (arm, leg):
            names = [chain[0], *(f"{bone}.{letter}" for bone in chain[1:])]
            parents |= dict(zip(names[1:], names[:-1], strict=True))
    hips = (body.head_of("upperleg01.L") + body.head_of("upperleg01.R")) / 2
    out = np.zeros((len(pelvis), len(BONES), 3))
    out[:, 0] = pelvis + rotations[:, 0] @ (body.heads[0] - hips)
    for bone in BONES[1:]:
        parent = parents[bone]
        out[:, index[bone]] = out[:, index[parent]] + rotations[:, index[parent]] @ (
            body.head_of(bone) - body.head_of(parent)
        )
    return out


def _soles(rotations: Array, positions: Array, body: Body) -> Array:
    """(T, 2) height of the lowest point of each foot."""
    out = []
    for letter in "LR":
        index = BONES.index(f"foot.{letter}")
        ankle_m = float(body.heads[index, 1])
        points = np.array([[0.0, -ankle_m, -0.05], [0.0, -ankle_m, _TOE_AHEAD_M]])
        heights = positions[:, index, None, 1] + (points @ np.swapaxes(rotations[:, index], -1, -2))[..., 1]
        out.append(heights.min(axis=1))
    return np.stack(out, axis=1)


def _hinge(thigh: Array, shin: Array, across: Array) -> Array:
    """(T, 3) axis the knee bends about; that of the hips where the leg is straight."""
    axis = np.cross(unit(thigh), unit(shin))
    sin = np.linalg.norm(axis, axis=-1, keepdims=True)
    trust = np.clip((sin - 0.1) / 0.3, 0, 1)
    return unit(trust * unit(axis) + (1 - trust) * across)


def _turn(rest_hinge: Array, rest: Array, hinge: Array, wanted: Array) -> Array:
    """(T, 3, 3) rotations that take a bone at rest and its hinge to where they are wanted."""
    start = hinge_frame(rest_hinge[None], rest[None])
    return hinge_frame(hinge, wanted) @ np.swapaxes(start, -1, -2)


def _frame(x: Array, up: Array) -> Array:
    """(T, 3, 3) orthonormal frames whose first column is x and whose second lies towards up."""
    x = unit(x)
    y = unit(up - x * (up * x).sum(-1, keepdims=True))
    return np.stack([x, y, np.cross(x, y)], axis=-1)
