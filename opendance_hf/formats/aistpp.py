"""Read and write motions in the format of AIST++ (Li et al., ICCV 2021): one pickle per dancer, at 60 FPS.

A file is a dictionary of ``smpl_poses`` (T, 72) axis-angle, ``smpl_trans`` (T, 3) in the unit of the cameras and
``smpl_scaling``, the number of these units in a metre. It has no body shape: joints are those of the mean skeleton, with
its pelvis at the translation. Pickles are read without executing code.
"""

from __future__ import annotations

import math
import pickle
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError, coco, edge, lodge
from opendance_hf.formats.body import Axis, load_pickle, make_motion, other_content, real_array
from opendance_hf.formats.motion import Motion, check_suffix, one_file_a_dancer
from opendance_hf.motion.skeleton import NUM_JOINTS

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".pkl"
FILE_A_DANCER: Final = True
#: The only rate that is written.
FIXED_FPS: Final = 60
FPS: Final = 60


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one dancer; ``meta`` has the file's stem as ``id`` and the music's code in it as ``group``.

    EDGE, LODGE and others save ``smpl_poses`` and ``smpl_trans`` at 30 FPS, EDGE with z up, and without ``smpl_scaling``. A
    file without it is read only if ``fps`` or ``up`` says what it is.

    Args:
        path: the file.
        fps: frames per second; 60 by default.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not a pickle of plain data, or not an AIST++ motion, or the body does not stand along y.
    """
    content = load_pickle(path)
    if coco.recognises(content):
        raise FormatError(
            f"{path}: has the keypoints of AIST++ (its folder 'keypoints3d'), without poses: convert it from coco"
        )
    if "smpl_poses" not in content or "smpl_trans" not in content:
        expected = "smpl_poses, smpl_trans and smpl_scaling, as in the AIST++ files of 'motions'"
        raise other_content(path, content, expected)
    if "smpl_scaling" not in content and fps is None and up is None:
        other = next((n for n, m in (("edge", edge), ("lodge", lodge)) if m.recognises(content)), None)
        raise FormatError(
            f"{path}: without smpl_scaling, which AIST++ has, this is a dance of {other.upper()}: opendance convert {other} "
            "reads it"
            if other
            else f"{path}: without smpl_scaling, which AIST++ has (60 FPS, y up). Which rate and axes has it? Answer with "
            "opendance convert edge (30 FPS, z up), lodge (30 FPS, y up), or aistpp with --fps and --up"
        )
    poses, transl = (real_array(path, name, content[name]) for name in ("smpl_poses", "smpl_trans"))
    scalings = real_array(path, "smpl_scaling", content.get("smpl_scaling", 1.0))
    scaling = float(scalings.reshape(())) if scalings.size == 1 else math.nan
    if (
        not 0 < scaling < math.inf
        or poses.ndim != 2
        or poses.shape != (len(poses), NUM_JOINTS * 3)
        or transl.shape != (len(poses), 3)
    ):
        raise FormatError(
            f"{path}: smpl_poses {poses.shape}, smpl_trans {transl.shape} and smpl_scaling "
            f"{f'{scaling:g}' if scalings.size == 1 else scalings.shape} are not a SMPL motion: expected (T, 72), (T, 3) "
            f"and one positive number"
        )
    poses, transl = poses.reshape(-1, NUM_JOINTS, 3), transl / scaling
    meta = {"group": music[1]} if (music := coco.MUSIC_CODE.search(path.stem)) else {}
    return make_motion(
        path,
        poses[None],
        transl[None],
        FPS if fps is None else fps,
        up=up or "y",
        asked=up is None,
        meta=meta,
    )


def write(motion: Motion, path: Path) -> list[Path]:
    """Write one file per dancer, in metres (``smpl_scaling`` 1).

    Raises:
        FormatError: if the motion has no poses or another rate, or ``path`` does not end in ``.pkl``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".pkl")
    if motion.poses is None or motion.transl is None:
        raise FormatError(
            f"{path}: an AIST++ file needs SMPL poses and translation, but this motion has only joints"
        )
    if motion.fps != FPS:
        raise FormatError(
            f"{path}: the motion has {motion.fps:g} frames a second, expected {FPS}; resample it first"
        )
    written = []
    with ExitStack() as files:  # after an error none is written
        for dancer, file in one_file_a_dancer(motion, path):
            assert dancer.poses is not None
            assert dancer.transl is not None
            content = {
                "smpl_poses": dancer.poses[0].reshape(dancer.num_frames, -1),
                "smpl_trans": dancer.transl[0],
                "smpl_scaling": np.ones(1),
            }
            files.enter_context(atomic_write(file)).write_bytes(pickle.dumps(content, protocol=4))
            written.append(file)
    return written
