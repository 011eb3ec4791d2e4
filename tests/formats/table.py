"""Measure every format: what is written and read back, and independent fixtures beside their truth.

``python -m tests.formats.table`` prints the tables of docs/formats.md; ``--write`` puts them there.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from opendance_hf.formats import FORMATS, format_named
from opendance_hf.formats.animation import Animation, to_motion
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES
from tests.formats.support import dance, rotation_error_deg

REPO = Path(__file__).parents[2]
FIXTURES = REPO / "tests" / "fixtures" / "formats"
DOCUMENT = REPO / "docs" / "formats.md"
#: Formats that are written, with the rigs that they are measured on; the other tools that read them are in the slow suite.
WRITTEN = {
    "amass": ("",), "aistpp": ("",), "bvh": ("smpl", "ue5"), "csv": ("",), "glb": ("smpl", "mixamo", "ue5"),
    "humandata": ("",), "opendance": ("",), "smplcodec": ("",), "usd": ("smpl", "ue5"), "vrma": ("",),
}  # fmt: skip
BODY = JOINT_NAMES[:22]


#: The wrist of an ASF skeleton is where lhand begins; the author of the fixture put it where lwrist begins. The fixture has the
#: collars where the thorax ends.
_AMC_JOINTS = tuple(
    name
    for name in BODY
    if name not in ("spine2", "left_collar", "right_collar", "left_wrist", "right_wrist")
)


_AIST = "aist_plusplus_final"
_LIMBS = tuple(
    f"{side}_{name}"
    for name in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)


@dataclass(frozen=True)
class Case:
    """One fixture: its reader, the user's answers, and what its source was checked against.

    Attributes:
        file: under tests/fixtures/formats.
        format: key of FORMATS.
        checked: real file, the official code, or description only.
        answers: for the reader.
        joints: that the file holds exactly; by default those of fixtures.json, or all but the hands.
        with_rotations: True if rotations are compared.
        size: of the person in the file, relative to the truth.
        faced: True if the format does not hold where and which way a motion begins.
        start_s: when it begins.
    """

    file: str
    format: str
    checked: str
    answers: dict[str, Any] | None = None
    joints: tuple[str, ...] = ()
    with_rotations: bool = False
    size: float = 1.0
    faced: bool = False
    start_s: float = 0.0


def cases() -> list[Case]:
    """Return the fixtures of motion formats."""
    odd = {"names": str(FIXTURES / "odd_names.yaml")}
    return [
        Case("cmu.bvh", "bvh", "real file (CMU 05_03)"),
        Case("mixamo.bvh", "bvh", "skeleton of a real file", with_rotations=True),
        Case("lafan1.bvh", "bvh", "official code: lafan1/extract.py, read_bvh"),
        Case("motorica.bvh", "bvh", "skeleton of a real file"),
        Case("bandai_namco.bvh", "bvh", "skeleton of a real file"),
        Case("odd.bvh", "bvh", "description only", odd, with_rotations=True),
        Case("01_01.amc", "amc", "parts of real files in public code", joints=_AMC_JOINTS),
        Case("linear.glb", "glb", "specification; Blender 5.0.1", joints=JOINT_NAMES, with_rotations=True),
        Case("shorts.glb", "glb", "specification", joints=JOINT_NAMES, with_rotations=True),
        Case("amass_smpl.npz", "amass", "code of smplcodec (from_amass_npz)", with_rotations=True),
        Case("amass_smplh_poses.npz", "amass", "code of smplcodec (from_amass_npz)", with_rotations=True),
        Case("amass_smplx_stageii.npz", "amass", "code of smplcodec (from_amass_npz)", with_rotations=True),
        Case("dance_smplx.smpl", "smplcodec", "official code: smplcodec/codec.py", with_rotations=True),
        Case(
            "humandata.npz",
            "humandata",
            "official code: mmhuman3d human_data.py",
            {"fps": 30},
            with_rotations=True,
        ),
        Case(
            f"{_AIST}/motions/gBR_sBM_cAll_d04_mBR0_ch03.pkl",
            "aistpp",
            "official code: aist_plusplus/loader.py",
            with_rotations=True,
        ),
        Case(
            f"{_AIST}/keypoints3d/gBR_sBM_cAll_d04_mBR0_ch03.pkl",
            "coco",
            "official code: aist_plusplus/loader.py",
            joints=_LIMBS,
            size=0.9378,
        ),
        Case(
            "finedance/motion/001.npy", "lodge", "official code: data/code/pre_motion.py", with_rotations=True
        ),
        Case(
            "dd100/motion/smplx/all/Waltz_5_0_00.npy",
            "dd100",
            "official code: _prepare_motion_data.py, tools/vis_smplx_w_blender_01.py",
            with_rotations=True,
        ),
        Case(
            "gdance/motions_smpl/sBM_two_00_120.pkl",
            "gdance",
            "official code: vis_smpl_kpt.py",
            with_rotations=True,
        ),
        Case(
            "phantomdance/motion/001.json",
            "phantomdance",
            "official code: Assets/Scripts/Json2yaml.cs",
            joints=JOINT_NAMES,
            with_rotations=True,
        ),
        Case(
            "humanml3d/new_joint_vecs/000001.npy",
            "humanml3d",
            "official code: motion_representation.ipynb",
            faced=True,
        ),
        Case(
            "hmr4d_results.pt",
            "gvhmr",
            "official code: gvhmr_pl_demo.py, gvhmr_pipeline.py",
            {"fps": 30},
            faced=True,
        ),
        Case("wham_output.pkl", "wham", "official code: demo.py", {"fps": 30}, faced=True, start_s=4 / 30),
        Case(
            "markers.c3d",
            "c3d",
            "specification; library ezc3d; joints lie inside of the markers, by regression",
            joints=JOINT_NAMES,
        ),
    ]


@dataclass(frozen=True)
class Measured:
    """Errors of a reader: joints in mm and rotations in degrees, after the shift and turn about y that were taken out."""

    joints_mm: float
    rotations_deg: float | None
    shift_mm: float


@cache
def _maker() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_fixtures", FIXTURES / "make_fixtures.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def notes() -> dict[str, Any]:
    """Return what the fixtures' author wrote about each."""
    content: dict[str, Any] = json.loads((FIXTURES / "fixtures.json").read_text(encoding="utf-8"))
    return content


def truth(note: dict[str, Any], num_frames: int, fps: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the (D, T, 24, 3) joints and poses that a fixture was made from."""
    clock = note.get("first_time", 0.0) + np.arange(num_frames) / fps
    made = [_maker().motion(clock, dancer) for dancer in note["dancers"]]
    return np.stack([one[2] for one in made]), np.stack([one[0] for one in made])


def measure(case: Case) -> Measured:
    """Read a fixture and compare it with its truth; a constant shift is taken out and said.

    Files of SMPL have the pelvis at the translation plus the rest pelvis of their body model, which depends on its sex: the
    author of the fixtures took that of another than the reader does, 17 mm apart.
    """
    note = notes()[case.file]
    module: Any = format_named(case.format)
    found: Motion = module.read(FIXTURES / case.file, **(case.answers or {}))
    note = {**note, "first_time": note.get("first_time", 0.0) + case.start_s}
    joints, poses = truth(note, found.num_frames, found.fps)
    held = case.joints or tuple((note.get("joints") or note.get("bone_ends") or dict.fromkeys(BODY)).values())
    held = tuple(name for name in held if name) or BODY
    index = [JOINT_INDEX[name] for name in dict.fromkeys(held)]
    places = found.joints[:, :, index]
    if case.faced:
        places = _faced(places, joints[:, :, index])
    between = places - joints[:, :, index] * case.size
    shift = between.mean(axis=(0, 1, 2))
    error = float(np.linalg.norm(between - shift, axis=-1).max() * 1000)
    turns = None
    if case.with_rotations:
        assert found.poses is not None
        turns = rotation_error_deg(found.poses[:, :, :22], poses[:, :, :22])
    return Measured(error, turns, float(np.linalg.norm(shift) * 1000))


def _faced(places: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Return places turned about y, and shifted, to lie on the true ones as well as they can."""
    flat = [points - points.mean(axis=(0, 1, 2)) for points in (places, true)]
    (ax, _, az), (bx, _, bz) = (np.moveaxis(points, -1, 0) for points in flat)
    angle = np.arctan2((az * bx - ax * bz).sum(), (ax * bx + az * bz).sum())
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    return flat[0] @ turn.T + true.mean(axis=(0, 1, 2))


def written_row(name: str, rig: str) -> Measured:
    """Write a dance of two, read it back and compare."""
    motion, module = dance(2), format_named(name)
    assert name in FORMATS
    writer: Any = module
    with tempfile.TemporaryDirectory() as folder:
        options = {"rig": rig} if rig else {}
        files = writer.write(motion, Path(folder) / f"dance{writer.SUFFIX}", **options)
        found = [_read_usd(file) if name == "usd" else writer.read(file) for file in files]
    joints = np.concatenate([one.joints for one in found])
    poses = np.concatenate([one.poses for one in found])
    # Files of SMPL do not hold the lengths of bones: joints are compared where the body is the mean one.
    mean_only = {"aistpp", "amass", "smplcodec", "humandata"}
    count = 1 if name in mean_only else 2
    between = joints[:count] - motion.joints[:count]
    shift = between.mean(axis=(0, 1, 2)) if name in mean_only else np.zeros(3)
    joint_mm = float(np.linalg.norm((between - shift)[:, :, :22], axis=-1).max() * 1000)
    return Measured(
        joint_mm,
        rotation_error_deg(poses[:, :, :22], motion.poses[:, :, :22]),
        float(np.linalg.norm(shift) * 1000),
    )


def _read_usd(file: Path) -> Motion:
    """Read the skeletons of a file with USD's own library, which the package only writes."""
    from pxr import Usd, UsdSkel

    def matrices(found: Any) -> tuple[np.ndarray, np.ndarray]:
        array = np.array(found).reshape(-1, 4, 4)
        return np.swapaxes(array[:, :3, :3], -1, -2), array[:, 3, :3]

    stage, dancers = Usd.Stage.Open(str(file)), []
    cache = UsdSkel.Cache()
    for prim in stage.Traverse():
        if not prim.IsA(UsdSkel.Skeleton):
            continue
        skeleton = UsdSkel.Skeleton(prim)
        query = cache.GetSkelQuery(skeleton)
        tokens = list(skeleton.GetJointsAttr().Get())
        parents = tuple(tokens.index(token.rpartition("/")[0]) if "/" in token else -1 for token in tokens)
        frames = range(int(stage.GetStartTimeCode()), int(stage.GetEndTimeCode()) + 1)
        moves = [matrices(query.ComputeJointLocalTransforms(frame)) for frame in frames]
        rotations, translations = (np.stack(part) for part in zip(*moves, strict=True))
        rest = matrices(skeleton.GetRestTransformsAttr().Get())
        names = tuple(token.rpartition("/")[2] for token in tokens)
        dancers.append(
            Animation(names, parents, *rest, rotations, translations, stage.GetTimeCodesPerSecond())
        )
    return to_motion(file, dancers, kind="USD")


def _number(value: float | None, step: float, unit: str) -> str:
    """Return a number in steps that do not depend on the machine's last digits."""
    if value is None:
        return ""
    return (
        f"< {step:g} {unit}"
        if value < step
        else f"{np.ceil(value / step) * step:.{1 if step < 1 else 0}f} {unit}"
    )


def written_table() -> str:
    """Return the table of formats that are written."""
    lines = ["| command | positions | rotations |", "|---|---|---|"]
    for name, rigs in WRITTEN.items():
        for rig in rigs:
            found = written_row(name, rig)
            option = f" --rig {rig}" if rig else ""
            lines.append(
                f"| `opendance export dance.npz --to {name}{option}` | {_number(found.joints_mm, 0.1, 'mm')} | "
                f"{_number(found.rotations_deg, 0.1, '°')} |"
            )
    lines.append(
        "| `opendance export dance.npz --to fbx --blender PATH` | < 0.1 mm in Blender, slow suite | |"
    )
    return "\n".join(lines)


#: Formats without rotations, or with rotations that were computed from positions.
_WITHOUT = dict.fromkeys(("coco", "humanml3d", "c3d"), "not held")


def read_table() -> str:
    """Return the table of fixtures."""
    lines = ["| command | checked against | positions | rotations |", "|---|---|---|---|"]
    for case in cases():
        found = measure(case)
        turns = (
            _number(found.rotations_deg, 0.1, "°")
            if case.with_rotations
            else _WITHOUT.get(case.format, "not compared")
        )
        lines.append(
            f"| `opendance import {case.format} {case.file}` | {case.checked} | {_number(found.joints_mm, 0.1, 'mm')} | {turns} |"
        )
    return "\n".join(lines)


TABLES = {"written": written_table, "read": read_table}


def updated(document: str) -> str:
    """Return the document with its tables made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        before, rest = document.split(begin)
        document = f"{before}{begin}\n{table()}\n{end}{rest.split(end)[1]}"
    return document


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(updated(DOCUMENT.read_text(encoding="utf-8")), encoding="utf-8")
    else:
        print("\n\n".join(table() for table in TABLES.values()))
