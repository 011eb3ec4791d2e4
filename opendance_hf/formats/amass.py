"""Read and write motion capture of AMASS (Mahmood et al., ICCV 2019): ``.npz``, z up, metres, with its frame rate.

A file has ``poses`` (T, 156) axis-angle of SMPL-H, (T, 165) of SMPL-X or (T, 72) of SMPL, ``trans`` (T, 3), ``betas``,
``gender`` and ``mocap_framerate`` (SMPL-H) or ``mocap_frame_rate`` (SMPL-X). Files of SMPL-X also have the parts
``root_orient`` (T, 3) and ``pose_body`` (T, 63). Source: the loaders of github.com/nghorbani/amass (``notebooks``) and of
the many projects that read both names of the rate.

Shape (``betas``), hands and soft tissue are not read: joints are those of the mean skeleton. Files are written as those of
SMPL-H, one a dancer, with the mean shape.
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
    to_z_up,
)
from opendance_hf.formats.motion import Motion, check_input, check_suffix, needs_poses, one_file_a_dancer

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".npz"
FILE_A_DANCER: Final = True
_MAX_BYTES: Final = 2**30
_RATES: Final = ("mocap_framerate", "mocap_frame_rate")
#: Body models by the number of columns of the poses; that of files with parts alone is SMPL-X.
_MODELS: Final = {72: "smpl", 156: "smplh"}
_PARTS: Final = ("root_orient", "pose_body")
_MEMBERS: Final = {
    "poses": Member("iuf", "real numbers, the axis-angle of the joints"),
    "root_orient": Member("iuf", "real numbers, the axis-angle of the root"),
    "pose_body": Member("iuf", "real numbers, the axis-angle of the body"),
    "trans": Member("iuf", "real numbers, metres"),
    **{name: Member("iuf", "one number, the frames a second", single=True) for name in _RATES},
}

log = logging.getLogger(__name__)


def recognises(names: set[str]) -> bool:
    """Return True for the names of the arrays of an archive of AMASS."""
    return "trans" in names and ("poses" in names or set(_PARTS) <= names)


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read one recording; ``meta["id"]`` is the file's stem.

    Args:
        path: the file.
        fps: frames per second; by default that in the file.
        up: axis that points up in the file; z by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such an archive, has no rate and none is given, or the body does not stand along z.
    """
    try:
        arrays = _read(path)
    except (FormatError, FileNotFoundError):
        raise
    except DAMAGED as error:
        raise FormatError(f"{path}: not an .npz archive of AMASS ({cause(error)})") from None
    rate = next((float(arrays[name].reshape(())) for name in _RATES if name in arrays), None)
    rate = given_rate(path, fps or rate, "AMASS without mocap_framerate")
    poses = arrays["poses"] if "poses" in arrays else _joined(path, [arrays[name] for name in _PARTS])
    body = body_poses(path, "poses", poses.astype(np.float64))
    log.info("%s: read as AMASS: %g FPS, %s up, metres, on the mean skeleton", path, rate, up or "z")
    transl = arrays["trans"].astype(np.float64)
    model = _MODELS.get(poses.shape[1], "smplx")
    return make_motion(path, body[None], transl[None], rate, up=up or "z", asked=up is None, body=model)


def _joined(path: Path, parts: list[np.ndarray]) -> np.ndarray:
    if any(part.ndim != 2 or len(part) != len(parts[0]) for part in parts):
        shapes = ", ".join(f"{name} {part.shape}" for name, part in zip(_PARTS, parts, strict=True))
        raise FormatError(f"{path}: {shapes} do not match")
    return np.hstack(parts)


def _read(path: Path) -> dict[str, np.ndarray]:
    check_input(path, _MAX_BYTES)
    with zipfile.ZipFile(path) as archive:
        names = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")}
        if not recognises(names):
            raise other_content(path, names, "poses and trans, as files of AMASS have them")
        wanted = {name: member for name, member in _MEMBERS.items() if name in names}
        check_members(path, archive, wanted, _MAX_BYTES)
        return {name: read_member(archive, name) for name in wanted}


def write(motion: Motion, path: Path) -> list[Path]:
    """Write one file per dancer: SMPL-H, neutral, z up, with the mean shape and straight hands.

    Args:
        motion: the motion; it needs poses. The rotation of its hands against the wrists is lost.
        path: the file; numbered if there are several dancers.

    Raises:
        FormatError: if the motion has no poses, or ``path`` does not end in ``.npz``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".npz")
    poses, pelvis = needs_poses(motion, path)
    if np.abs(poses[:, :, NUM_BODY:]).max(initial=0) > 0:
        log.warning(
            "%s: SMPL-H has fingers in place of SMPL's hands, whose rotation against the wrists is lost", path
        )
    rest = np.array(REST_PELVIS["smplh"])
    poses, transl = to_z_up(poses, pelvis - rest, rest)
    written = []
    with ExitStack() as files:  # after an error none is written
        for index, (dancer, file) in enumerate(one_file_a_dancer(motion, path)):
            full = np.zeros((dancer.num_frames, 156))
            full[:, : NUM_BODY * 3] = poses[index, :, :NUM_BODY].reshape(dancer.num_frames, -1)
            members = {
                "poses": full,
                "trans": transl[index],
                "betas": np.zeros(16),
                "dmpls": np.zeros((dancer.num_frames, 8)),
                "gender": np.array("neutral"),
                "mocap_framerate": np.float64(dancer.fps),
            }
            with files.enter_context(atomic_write(file)).open("wb") as opened:
                np.savez_compressed(opened, allow_pickle=False, **members)
            written.append(file)
    return written
