"""Write C3D files for tests, from the definition of the format and without ezc3d; and a person with markers."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from opendance_hf.motion.body import pose_joints
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS

#: Where markers are on the body: joint with which each moves, and where it is from there in the rest pose, m. Hips are found
#: from the pelvis by Harrington's regression, turned round: width 0.24, depth 0.18 give hips 0.0865 beside, 0.0531 behind and
#: 0.0829 below the middle between the front markers.
_HALF, _DEPTH = 0.12, 0.18


def markers(poses: np.ndarray, transl: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return the (T, 3) markers of the 41 of CMU on a body whose hips are symmetric, and its (T, 24, 3) joints."""
    offsets = MEAN_OFFSETS.astype(np.float64)
    offsets[JOINT_INDEX["left_hip"]] = [0.0865, -0.0864, -0.0156]
    offsets[JOINT_INDEX["right_hip"]] = [-0.0865, -0.0864, -0.0156]
    for joint in ("knee", "ankle"):
        for side in ("left", "right"):
            offsets[JOINT_INDEX[f"{side}_{joint}"]] *= [0, 1, 0]
    joints, turned = pose_joints(axis_angle_to_matrix(poses), transl, offsets)
    middle = np.array([0, -0.0864 + 0.0829, -0.0156 + 0.0531])  # between the front markers, from the pelvis
    out: dict[str, np.ndarray] = {}

    def put(name: str, joint: str, x: float, y: float, z: float) -> None:
        at = JOINT_INDEX[joint]
        out[name] = joints[:, at] + turned[:, at] @ np.array([x, y, z])

    for side, sign, word in (("L", 1, "left"), ("R", -1, "right")):
        put(f"{side}FWT", "pelvis", sign * _HALF, middle[1], middle[2])
        put(f"{side}BWT", "pelvis", sign * 0.05, middle[1], middle[2] - _DEPTH)
        put(f"{side}THI", f"{word}_hip", sign * 0.09, -0.2, 0)
        put(f"{side}KNE", f"{word}_knee", sign * 0.057, 0, 0)
        put(f"{side}SHN", f"{word}_knee", sign * 0.07, -0.2, 0)
        put(f"{side}ANK", f"{word}_knee", sign * 0.042, offsets[JOINT_INDEX[f"{word}_ankle"]][1], 0)
        put(f"{side}HEE", f"{word}_ankle", 0, -0.04, -0.08)
        put(f"{side}TOE", f"{word}_foot", 0, 0, 0)
        put(f"{side}MT5", f"{word}_foot", sign * 0.05, 0, -0.03)
        shoulder, elbow = (offsets[JOINT_INDEX[f"{word}_{part}"]] for part in ("shoulder", "elbow"))
        put(f"{side}SHO", f"{word}_collar", shoulder[0], shoulder[1] + 0.065, shoulder[2])
        put(f"{side}UPA", f"{word}_shoulder", sign * 0.12, 0, -0.06)
        put(f"{side}ELB", f"{word}_shoulder", elbow[0], elbow[1], elbow[2] - 0.042)
        put(f"{side}FRM", f"{word}_elbow", sign * 0.1, 0, -0.05)
        put(f"{side}WRA", f"{word}_wrist", 0, 0, 0.04)
        put(f"{side}WRB", f"{word}_wrist", 0, 0, -0.04)
        put(f"{side}FIN", f"{word}_hand", 0, 0, 0)
        put(f"{side}FHD", "head", sign * 0.07, 0.12, 0.1)
        put(f"{side}BHD", "head", sign * 0.07, 0.12, -0.08)
    put("C7", "spine3", -0.01, 0.2116, -0.0335 - 0.06)
    put("CLAV", "spine3", -0.01, 0.2116, -0.0335 + 0.06)
    put("T10", "spine3", 0, 0, -0.1)
    put("STRN", "spine3", 0, 0, 0.1)
    put("RBAC", "spine3", -0.08, 0.05, -0.12)
    return out, joints


def write(
    path: Path,
    points: dict[str, np.ndarray],
    *,
    unit: str = "mm",
    rate: float = 120.0,
    scale: float = -0.1,
    processor: str = "intel",
) -> Path:
    """Write (T, 3) points in their unit, NaN for gaps; integers if the scale is positive; as an Intel, DEC or MIPS processor has them."""
    order, labels = ">" if processor == "mips" else "<", list(points)

    def reals(numbers: np.ndarray) -> bytes:
        if processor != "dec":
            return numbers.astype(order + "f4").tobytes()
        # VAX F: four times as large, and the halves change places.
        return (numbers * 4).astype("<f4").view("<u2").reshape(-1, 2)[:, ::-1].tobytes()

    values = np.stack(list(points.values()), axis=1)
    frames = len(values)
    width = max(map(len, labels))

    def parameter(name: str, group: int, kind: int, sizes: list[int], data: bytes) -> bytes:
        body = bytes([kind & 0xFF, len(sizes), *sizes]) + data + b"\0"
        return (
            struct.pack("2b", len(name), group)
            + name.encode()
            + struct.pack(order + "H", 2 + len(body))
            + body
        )

    text = "".join(label.ljust(width) for label in labels).encode()
    chain = struct.pack("2b", 5, -1) + b"POINT" + struct.pack(order + "H", 3) + b"\0"
    chain += parameter("USED", 1, 2, [], struct.pack(order + "H", len(labels)))
    chain += parameter("SCALE", 1, 4, [], reals(np.array([scale])))
    chain += parameter("RATE", 1, 4, [], reals(np.array([rate])))
    chain += parameter("FRAMES", 1, 2, [], struct.pack(order + "H", frames))
    chain += parameter("LABELS", 1, -1, [width, len(labels)], text)
    chain += parameter("UNITS", 1, -1, [len(unit)], unit.encode())
    blocks = -(-(len(chain) + 200) // 512)
    start = 2 + blocks
    chain += parameter("DATA_START", 1, 2, [], struct.pack(order + "H", start))
    section = bytes([1, 80, blocks, {"intel": 84, "dec": 85, "mips": 86}[processor]]) + chain
    header = bytes([2, 80]) + struct.pack(order + "4H", len(labels), 0, 1, frames)
    header += struct.pack(order + "H", 10) + reals(np.array([scale])) + struct.pack(order + "HH", start, 0)
    header += reals(np.array([rate]))
    numbers = np.concatenate([np.nan_to_num(values), np.zeros_like(values[..., :1])], axis=-1)
    numbers[np.isnan(values).any(-1), 3] = -1
    if scale > 0:
        numbers[..., :3] /= scale
        data = np.round(numbers).astype(order + "i2").tobytes()
    else:
        data = reals(np.ascontiguousarray(numbers))
    whole = header.ljust(512, b"\0") + section.ljust(blocks * 512, b"\0") + data
    path.write_bytes(whole.ljust(-(-len(whole) // 512) * 512, b"\0"))
    return path
