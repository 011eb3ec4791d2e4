"""``opendance convert``: official files of other projects in the form our programs read."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.files import atomic_write
from opendance_hf.modeling.bailando.convert_bailando import ConversionError, convert_bailando
from opendance_hf.modeling.cliff.convert_cliff import convert_cliff
from opendance_hf.modeling.smoothnet.convert_smoothnet import convert_smoothnet
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_NAMES, MEAN_OFFSETS, NUM_JOINTS
from opendance_hf.schema import BETAS_DIM, FPS, SchemaError, per_dancer
from opendance_hf.storage import load_sequence
from opendance_hf.storage.humandata import HumanDataError, load_human_data, save_human_data

_NEEDED: Final = "give a whole HumanData file, or one of BUILD/sequences"

_HEAD: Final = JOINT_NAMES.index("head")
_HIPS: Final = [JOINT_NAMES.index(f"{side}_hip") for side in ("left", "right")]

Report = dict[str, list[str]]


def convert_official(model: str, files: Sequence[Path], out: Path) -> Report:
    """Convert the official files of a model; returns the keys that took no part, by kind.

    Args:
        model: ``bailando``, ``cliff``, ``smoothnet``, ``smpl`` or ``humandata``.
        files: its files; all but bailando come in one.
        out: folder to write; for smpl and humandata the npz file.

    Raises:
        ConversionError: if there is no such model, too many files, or a file is not what it should be.
        SMPLFileError: of smpl likewise.
        HumanDataError: of humandata likewise.
    """
    if model not in _CONVERTERS:
        raise ConversionError(f"no converter for {model!r}: {', '.join(_CONVERTERS)}")
    if model != "bailando" and len(files) != 1:
        raise ConversionError(f"{model} comes in one file, not {len(files)}")
    try:
        return _CONVERTERS[model](files, out)
    except OSError as error:  # files that cannot be read have errors of their own
        raise ConversionError(
            f"{error.filename or out}: {error.strerror or error}; give --out a place that can be written"
        ) from None


def _smpl(files: Sequence[Path], out: Path) -> Report:
    from opendance_hf.motion.smpl import convert_smpl

    convert_smpl(files[0], out)
    return {}


def export_human_data(sequence: Path, out: Path) -> list[Path]:
    """An annotated sequence (``BUILD/sequences/*.npz``) to a HumanData file for each dancer.

    Axes and places stay those of our world: y up, metres, the ground at y = 0.

    Returns:
        The files: ``out``, or with several dancers ``out`` numbered.

    Raises:
        HumanDataError: if the file is no sequence, or ``out`` no ``.npz``.
    """
    try:
        seq = load_sequence(sequence)
    except SchemaError as error:
        raise HumanDataError(str(error)) from None
    count = seq.num_dancers
    poses, joints = (per_dancer(flat, count, NUM_JOINTS, 3) for flat in (seq.smpl_pose, seq.joints))
    transl, confidence = per_dancer(seq.smpl_transl, count, 3), per_dancer(seq.confidence, count)
    betas = None if seq.smpl_betas is None else seq.smpl_betas.reshape(count, BETAS_DIM)
    written = []
    for dancer in range(count):
        path = out if count == 1 else out.with_name(f"{out.stem}_{dancer}{out.suffix}")
        save_human_data(
            path,
            poses[dancer],
            transl[dancer],
            joints[dancer],
            betas=None if betas is None else betas[dancer],
            confidence=confidence[dancer],
            meta={"id": seq.id, "dancer": dancer, "fps": seq.fps, "source": "opendance-hf"},
        )
        written.append(path)
    return written


def import_human_data(source: Path, out: Path) -> Path:
    """A HumanData file to an ``.npz`` that ``evaluate`` and ``train`` read: joints, poses, transl and the rate.

    The rate is the file's ``meta['fps']``, else 60. Without SMPL's 24 joints in it, joints are those of the mean
    skeleton in these poses. Axes are taken to be ours, y up, and ``transl`` to be the pelvis.

    Raises:
        HumanDataError: if the file is no HumanData, its people stand on their heads most of the time, or ``out`` no ``.npz``.
    """
    if out.suffix != ".npz":
        raise HumanDataError(f"{out}: a dance is a file whose name ends in .npz")
    data = load_human_data(source)
    fps = data.meta.get("fps", FPS)
    if not isinstance(fps, int | float) or not 0 < fps < math.inf:
        raise HumanDataError(f"{source}: meta says {fps!r} frames a second; write the rate into meta['fps']")
    joints = data.joints
    if joints is None:
        assert data.poses is not None
        assert data.transl is not None
        joints = forward_kinematics(data.poses, data.transl, MEAN_OFFSETS).astype(np.float32)
    # The format names no axes; those of a camera, which are common in it, point down.
    if np.median(joints[:, _HEAD, 1] - joints[:, _HIPS, 1].mean(axis=1)) < 0:
        raise HumanDataError(
            f"{source}: heads are below hips: its axes are not ours; turn global_orient, transl and keypoints3d to y up "
            "(half a turn about x, if these are a camera's)"
        )
    arrays: dict[str, np.ndarray] = {"joints": joints[None], "fps": np.float64(fps)}  # type: ignore[dict-item]
    if data.poses is not None and data.transl is not None:
        arrays |= {"smpl_pose": data.poses[None], "smpl_transl": data.transl[None]}
    if data.betas is not None:
        arrays["smpl_betas"] = data.betas[None]
    with atomic_write(out) as partial, partial.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    return out


def _humandata(files: Sequence[Path], out: Path) -> Report:
    try:
        archive = np.load(files[0], allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError("one array, no archive of them")
        with archive:
            ours = "provenance" in archive.files
    except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
        raise HumanDataError(f"{files[0]}: not an .npz file: {error}; {_NEEDED}") from None
    if not ours:
        import_human_data(files[0], out)
        return {}
    written = export_human_data(files[0], out)
    return {"dancers": [path.name for path in written]}


_CONVERTERS: Final[dict[str, Callable[[Sequence[Path], Path], Report]]] = {
    "bailando": lambda files, out: convert_bailando(*files, out=out)[1],
    "cliff": lambda files, out: convert_cliff(files[0], out)[1],
    "smoothnet": lambda files, out: convert_smoothnet(files[0], out)[1],
    "smpl": _smpl,
    "humandata": _humandata,
}
