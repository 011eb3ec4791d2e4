"""Read and write ``.smpl`` files of Meshcapade: a flat ``.npz`` with numbers alone, one person a file.

Members are ``codecVersion``, ``smplVersion`` (0 SMPL, 1 SMPL-H, 2 SMPL-X, 3 SUPR), ``gender``, ``shapeParameters``,
``frameCount``, ``frameRate``, ``bodyTranslation`` (T, 3) and ``bodyPose`` (T, 22 or 24, 3), int32 or float32; head and hands
are not read. The format does not say which axis points up: y is assumed, and a body that does not stand is asked about. Files
are written as SMPL-X, which Meshcapade's plugins read, or as SMPL, which keeps the rotation of the hands.

Source: github.com/Meshcapade/smplcodec, ``smplcodec/codec.py``: ``SMPLParamStructure``, ``SMPLCodec.write`` and ``validate``.
The name of the format here is that of their package: ``opendance convert smpl`` converts the body model itself.
"""

from __future__ import annotations

import logging
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import DAMAGED, Member, cause, check_members, read_member
from opendance_hf.formats.body import (
    NUM_BODY,
    REST_PELVIS,
    Axis,
    body_poses,
    given_rate,
    make_motion,
    other_content,
)
from opendance_hf.formats.motion import Motion, check_input, check_suffix, needs_poses, one_file_a_dancer

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".smpl"
FILE_A_DANCER: Final = True
_MAX_BYTES: Final = 2**30
#: Version of the package that the layout is that of.
_CODEC_VERSION: Final = 1
#: Body models by ``smplVersion``; SUPR has the joints of SMPL-X. SMPL++ and SKEL have other joints.
_MODELS: Final = {0: "smpl", 1: "smplh", 2: "smplx", 3: "smplx"}
_MEMBERS: Final = {
    "smplVersion": Member("iu", "one whole number, the body model", single=True),
    "frameCount": Member("iu", "one whole number", single=True),
    "frameRate": Member("iuf", "one number, the frames a second", single=True),
    "bodyTranslation": Member("f", "real numbers, metres"),
    "bodyPose": Member("f", "real numbers, the axis-angle of the joints"),
}

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one person, on the mean skeleton.

    Args:
        path: the file.
        fps: frames per second; by default that of the file.
        up: axis that points up in the file; y by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, has no motion or another body model, or the body does not stand along y.
    """
    try:
        arrays = _read(path)
    except (FormatError, FileNotFoundError):
        raise
    except DAMAGED as error:
        raise FormatError(f"{path}: not an archive of smplcodec ({cause(error)})") from None
    numbers = {
        name: value.reshape(()).item() for name, value in arrays.items() if value.size == 1 and value.ndim < 2
    }
    model = _MODELS.get(int(numbers.get("smplVersion", 2)))
    if model is None:
        raise FormatError(
            f"{path}: smplVersion {numbers['smplVersion']} is not read: expected 0 to 3 (SMPL, SMPL-H, SMPL-X, SUPR)"
        )
    pose = arrays["bodyPose"].astype(np.float64)
    frames = int(numbers.get("frameCount", 0))
    joints = 24 if model == "smpl" else NUM_BODY
    if not frames or pose.shape != (frames, joints, 3):
        raise FormatError(
            f"{path}: bodyPose has the shape {pose.shape}, expected ({frames}, {joints}, 3) for frameCount {frames} of "
            f"{model}, and at least one frame"
        )
    rate = given_rate(path, fps or numbers.get("frameRate"), "smplcodec without frameRate")
    if "bodyTranslation" not in arrays:
        log.warning("%s: has no bodyTranslation; the person stays in one place", path)
    transl = arrays.get("bodyTranslation", np.zeros((frames, 3))).astype(np.float64)
    log.info(
        "%s: read as smplcodec (%s): %g FPS, %s up, metres, on the mean skeleton",
        path,
        model,
        rate,
        up or "y",
    )
    body = body_poses(path, "bodyPose", pose)
    return make_motion(path, body[None], transl[None], rate, up=up or "y", asked=up is None, body=model)


def _read(path: Path) -> dict[str, np.ndarray]:
    check_input(path, _MAX_BYTES)
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        if "bodyPose" not in names:
            raise other_content(path, names, "bodyPose, as .smpl files of an animation have it")
        wanted = {name: member for name, member in _MEMBERS.items() if name in names}
        check_members(path, archive, wanted, _MAX_BYTES)
        return {name: read_member(archive, name) for name in wanted}


def write(motion: Motion, path: Path, *, body: str = "smplx") -> list[Path]:
    """Write one file per dancer, y up, in metres, with the mean body shape; positions are rounded to float32.

    Args:
        motion: the motion; it needs poses.
        path: the file; numbered if there are several dancers.
        body: ``smplx``, or ``smpl``, whose files have the rotation of the hands too.

    Raises:
        FormatError: if the motion has no poses, the body is unknown, or ``path`` does not end in ``.smpl``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".smpl")
    if body not in ("smplx", "smpl"):
        raise FormatError(f"unknown body {body!r}: expected smplx or smpl")
    poses, pelvis = needs_poses(motion, path)
    joints = 24 if body == "smpl" else NUM_BODY
    if np.abs(poses[:, :, joints:]).max(initial=0) > 0:
        log.warning(
            "%s: SMPL-X has no joint for the rotation of the hands against the wrists, which is lost", path
        )
    transl, written = pelvis - REST_PELVIS[body], []
    with ExitStack() as files:  # after an error none is written
        for index, (dancer, file) in enumerate(one_file_a_dancer(motion, path)):
            members = {
                "codecVersion": np.int32(_CODEC_VERSION),
                "smplVersion": np.int32(2 if body == "smplx" else 0),
                "gender": np.int32(0),
                "shapeParameters": np.zeros(10, np.float32),
                "frameCount": np.int32(dancer.num_frames),
                "frameRate": np.float32(dancer.fps),
                "bodyTranslation": transl[index].astype(np.float32),
                "bodyPose": poses[index, :, :joints].astype(np.float32),
            }
            with files.enter_context(atomic_write(file)).open("wb") as opened:
                np.savez_compressed(opened, allow_pickle=False, **members)
            written.append(file)
    return written
