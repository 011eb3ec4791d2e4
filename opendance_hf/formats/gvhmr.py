"""Read what GVHMR estimates from a video (Shen et al., SIGGRAPH Asia 2024): ``hmr4d_results.pt``, y up, metres.

The file is a dictionary that ``torch.save`` wrote; of it ``smpl_params_global`` is read: ``global_orient`` (T, 3),
``body_pose`` (T, 63), ``transl`` (T, 3) and ``betas`` (T, 10) of SMPL-X in a world whose y axis points against gravity
("ay"). It has no frame rate, which is that of the video. Source: github.com/zju3dv/GVHMR, ``tools/demo/demo.py``
(``torch.save(pred, paths.hmr4d_results)``, ``render_global``).

:func:`read_people` reads ``smpl_params_incam`` instead, the same body in the frame of the camera, and the camera matrices
``K_fullimg`` (T, 3, 3) (keys: ``hmr4d/model/gvhmr/gvhmr_pl_demo.py``).

Only tensors are loaded, no code of the file runs. Shape (``betas``) is not read: joints are those of the mean skeleton.
"""

from __future__ import annotations

import logging
import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.archives import ArchiveError, check_zip
from opendance_hf.formats import FormatError
from opendance_hf.formats.body import (
    REST_PELVIS,
    Floats,
    body_poses,
    given_rate,
    make_motion,
    other_content,
    real_array,
)
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.formats.people import People, check_length, make_person
from opendance_hf.motion.rotations import axis_angle_to_matrix

_SECTION: Final = "smpl_params_global"
_IN_CAMERA: Final = "smpl_params_incam"
_CAMERA: Final = "K_fullimg"
_NAMES: Final = ("global_orient", "body_pose", "transl")
_MAX_BYTES: Final = 2**30

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read the person of a video; ``meta["id"]`` is the file's stem, or the folder's name for ``hmr4d_results.pt``.

    Args:
        path: the file.
        fps: frames per second of the video; must be given.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, holds anything but tensors and plain values, or no rate is given.
    """
    orient, body, transl = _parameters(path, _load(path), _SECTION)
    rate = given_rate(path, fps, "GVHMR")
    poses = _poses(path, orient, body)
    log.info("%s: read as GVHMR: %g FPS, y up, metres, on the mean skeleton", path, rate)
    name = path.parent.name if path.stem == "hmr4d_results" and path.parent.name else path.stem
    meta = {"id": name}
    return make_motion(path, poses[None], transl[None], rate, up="y", asked=False, body="smplx", meta=meta)


def read_people(path: Path) -> People:
    """Read the person of a video in the frame of the camera.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, holds anything but tensors and plain values, or numbers that are not a body.
    """
    content = _load(path)
    orient, body, transl = _parameters(path, content, _IN_CAMERA)
    check_length(path, len(orient))
    if _CAMERA not in content:
        raise other_content(path, content, f"{_CAMERA}, the camera matrices, as GVHMR saves them")
    camera = _numbers(path, _CAMERA, content[_CAMERA])
    if (
        camera.shape != (len(orient), 3, 3)
        or not np.isfinite(camera).all()
        or not (camera[:, 0, 0] > 0).all()
    ):
        raise FormatError(
            f"{path}: {_CAMERA} {camera.shape} is not a camera matrix for each of {len(orient)} frames"
        )
    rotations = axis_angle_to_matrix(_poses(path, orient, body))
    frames = np.arange(len(orient))
    person = make_person(path, "1", frames, rotations, transl + np.array(REST_PELVIS["smplx"]))
    focal_px, width_px = np.median(camera[:, 0, 0]), 2 * np.median(camera[:, 0, 2])
    return People((person,), len(orient), float(focal_px), float(width_px))


def _parameters(path: Path, content: Any, name: str) -> tuple[Floats, Floats, Floats]:
    """Return (T, 3) global_orient, (T, N) body_pose and the translation of one section of the file."""
    section = content.get(name) if isinstance(content, dict) else None
    if not isinstance(section, dict) or not set(_NAMES) <= set(section):
        names = content if isinstance(content, dict) else [type(content).__name__]
        raise other_content(path, names, f"{name} with {', '.join(_NAMES)}, as GVHMR saves them")
    orient, body, transl = (_numbers(path, key, section[key]) for key in _NAMES)
    if orient.ndim != 2 or body.ndim != 2 or len(orient) != len(body):
        raise FormatError(f"{path}: global_orient {orient.shape} and body_pose {body.shape} do not match")
    return orient, body, transl


def _poses(path: Path, orient: Floats, body: Floats) -> Floats:
    return body_poses(path, "global_orient with body_pose", np.hstack([orient, body]))


def _load(path: Path) -> Any:
    import torch

    check_input(path, _MAX_BYTES)
    # Without the advice of torch's errors, which is to load the file unsafely.
    refused = "holds more than tensors and plain values, or is damaged; nothing of it was executed"
    try:
        is_archive = zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        is_archive = False
    if not is_archive:
        raise FormatError(
            f"{path}: not an archive that torch.save wrote (the format before PyTorch 1.6 is not read)"
        )
    try:
        check_zip(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except ArchiveError as error:
        raise FormatError(str(error)) from None
    except Exception:  # what torch raises for a damaged archive is not documented to be anything narrower
        raise FormatError(f"{path}: {refused}") from None


def _numbers(path: Path, name: str, value: Any) -> Floats:
    if hasattr(value, "detach"):
        value = value.detach().float().numpy()
    return real_array(path, name, value)
