"""Read the features of HumanML3D (Guo et al., CVPR 2022): ``.npy`` arrays (T, 263), 20 FPS, y up, metres.

Columns: speed of the root about y (1) and along x and z (2), its height (1), positions of 21 joints relative to it (63),
rotations (126), velocities (66), contacts of the feet (4). Positions are read, as ``recover_root_rot_pos`` and
``recover_from_ric`` of github.com/EricGuo5513/HumanML3D ``motion_representation.ipynb`` do: the root turns by
twice the sum of the speeds about y, since these are of half the angle.

The dance starts at the origin, facing +z. Lost: twist of the limbs, since positions have none (the file's own rotations are
from positions too), and hands, which follow the forearm. Files of numbers standardised with ``Mean.npy`` and ``Std.npy``, as
models make them, are refused.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import read_array_file
from opendance_hf.formats.body import NUM_BODY, Floats, real_array
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.positions import HANDS, leg_length, motion_of_positions
from opendance_hf.metrics.person import LEGS_M
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS

FPS: Final = 20.0
COLUMNS: Final = 263
_MAX_BYTES: Final = 512 * 1024**2
#: Contacts are 0 or 1, about that in what models make; standardised ones are beyond.
_CONTACTS: Final = (-0.35, 1.35)
#: Height of the pelvis within this, m.
_HEIGHT_M: Final = (0.05, 3.0)

log = logging.getLogger(__name__)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read one dance; ``meta["id"]`` is the file's stem.

    Args:
        path: the file.
        fps: frames per second; 20 by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not an array of these features, or its numbers are standardised.
    """
    features = real_array(path, "the array", read_array_file(path, _MAX_BYTES))
    if features.ndim != 2 or features.shape[1] != COLUMNS or not len(features):
        raise FormatError(
            f"{path}: an array of the shape {features.shape}; the features of HumanML3D have (frames, {COLUMNS})"
        )
    if not np.isfinite(features).all():
        raise FormatError(f"{path}: NaN or infinity in the features; save the dance again without them")
    with np.errstate(all="ignore"):
        joints = joints_of(features)
        contacts, height, leg = features[:, -4:], np.median(features[:, 3]), leg_length(joints)
    if not (
        _CONTACTS[0] < contacts.min()
        and contacts.max() < _CONTACTS[1]
        and _HEIGHT_M[0] < height < _HEIGHT_M[1]
        and LEGS_M[0] <= leg <= LEGS_M[1]
    ):
        raise FormatError(
            f"{path}: contacts of the feet from {contacts.min():.3g} to {contacts.max():.3g} (expected 0 or 1), the pelvis at "
            f"{height:.3g} m, legs {leg:.3g} m long: are these numbers standardised with the dataset's Mean.npy and Std.npy? "
            "Multiply them by Std, add Mean, and save the file again"
        )
    log.info("%s: read as features of HumanML3D: %g FPS, y up, metres", path, fps or FPS)
    return motion_of_positions(path, joints, fps or FPS, unknown=HANDS)


def joints_of(features: Floats) -> Floats:
    """Return (T, 24, 3) joints in metres of (T, 263) features; hands are at the wrists."""
    count = len(features)
    half = np.concatenate([[0.0], np.cumsum(features[:-1, 0])])
    cos, sin = np.cos(2 * half), np.sin(2 * half)

    def turned_back(vectors: Floats) -> Floats:
        x, y, z = np.moveaxis(vectors, -1, 0)
        shape = (count, *[1] * (x.ndim - 1))
        c, s = cos.reshape(shape), sin.reshape(shape)
        return np.stack([x * c - z * s, y, x * s + z * c], axis=-1)

    steps = np.zeros((count, 3))
    steps[1:, [0, 2]] = features[:-1, 1:3]
    root = np.cumsum(turned_back(steps), axis=0)
    joints = np.zeros((count, NUM_JOINTS, 3))
    joints[:, 1:NUM_BODY] = turned_back(features[:, 4 : 4 + 3 * (NUM_BODY - 1)].reshape(count, -1, 3))
    joints[..., [0, 2]] += root[:, None, [0, 2]]
    root[:, 1] = features[:, 3]
    joints[:, 0] = root
    for side in ("left", "right"):
        joints[:, JOINT_INDEX[f"{side}_hand"]] = joints[:, JOINT_INDEX[f"{side}_wrist"]]
    return joints
