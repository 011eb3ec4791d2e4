"""Write ASF and AMC files for tests, from the definition of the format and without the reader's code."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigs import names_of
from opendance_hf.motion.skeleton import JOINT_NAMES, PARENTS

#: Joints that an ASF skeleton lacks keep the names of SMPL.
NAMES = {joint: (*names_of("asf").joints[joint], joint)[0] for joint in JOINT_NAMES}


def write(motion: Motion, path: Path, *, degrees: bool = True, unit_m: float = 0.0254 / 0.45) -> Path:
    """Write the first dancer as PATH.amc with PATH.asf beside it, in CMU's unit, with skewed axes; return the .amc."""
    assert motion.poses is not None
    assert motion.transl is not None
    assert motion.rest_offsets is not None
    rng = np.random.default_rng(0)
    offsets = motion.rest_offsets[0] / unit_m
    axes = {NAMES[name]: rng.uniform(-170, 170, 3) for name in JOINT_NAMES}
    asf = ["# test", ":version 1.10", ":name test", ":units", "  mass 1.0", "  length 0.45", "  angle deg"]
    asf += [":documentation", "   root bone begin, end", ":root", "   order TX TY TZ RX RY RZ", "   axis XYZ"]
    asf += ["   position 0 0 0  ", "   orientation 0 0 0 ", ":bonedata"]
    links = []
    for number, (name, parent) in enumerate(zip(NAMES.values(), PARENTS, strict=True)):
        if parent < 0:
            continue
        length = float(np.linalg.norm(offsets[number]))
        to = offsets[number] / length
        above = NAMES[JOINT_NAMES[parent]]
        asf += ["  begin", f"     id {number}", f"     name to_{name}", f"     direction {_text(list(to))}"]
        asf += [f"     length {length:.9g}", "     axis 0 0 0  XYZ", "  end"]
        angles = " ".join(repr(float(angle)) for angle in axes[name])
        asf += [
            "  begin",
            f"     id {number + 100}",
            f"     name {name}",
            "     direction 1 0 0",
            "     length 0",
        ]
        asf += [
            f"     axis {angles}  XYZ",
            "    dof rx ry rz",
            "    limits (-180.0 180.0)",
            "           (-inf inf)",
        ]
        asf += ["           (-180.0 180.0)", "  end"]
        links += [f"    {above} to_{name}", f"    to_{name} {name}"]
    asf += [":hierarchy", "  begin", *links, "  end"]
    path.with_suffix(".asf").write_text("\n".join(asf))
    amc = ["#!OML:ASF C:\\test.ASF", ":FULLY-SPECIFIED", ":DEGREES" if degrees else ":RADIANS"]
    pelvis = (motion.transl[0] + motion.rest_offsets[0, 0]) / unit_m
    for frame in range(motion.num_frames):
        amc.append(str(frame + 1))
        local = Rotation.from_rotvec(motion.poses[0, frame]).as_matrix()
        amc.append("root " + _text([*pelvis[frame], *_angles(local[0], degrees)]))
        for number, name in reversed(list(enumerate(NAMES.values()))[1:]):
            axis = _matrix(axes[name])
            amc.append(f"{name} " + _text(_angles(axis.T @ local[number] @ axis, degrees)))
    path.write_text("\r\n".join(amc) + "\r\n")
    return path


def _matrix(angles: np.ndarray) -> np.ndarray:
    """Rotate about x, then y, then z, degrees."""
    x, y, z = (
        Rotation.from_rotvec(np.radians(a) * e).as_matrix() for a, e in zip(angles, np.eye(3), strict=True)
    )
    return z @ y @ x


def _angles(matrix: np.ndarray, degrees: bool) -> list[float]:
    y = np.arcsin(np.clip(-matrix[2, 0], -1, 1))
    x, z = np.arctan2(matrix[2, 1], matrix[2, 2]), np.arctan2(matrix[1, 0], matrix[0, 0])
    return [float(a) for a in (np.degrees([x, y, z]) if degrees else (x, y, z))]


def _text(numbers: list[float]) -> str:
    return " ".join(f"{number:.9g}" for number in numbers)
