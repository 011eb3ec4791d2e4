"""The 24-joint SMPL skeleton.

Rest pose: metres, y up, +x towards the person's left, +z towards the person's front. The mean offsets are the
numeric table published with EDGE (``vis.py``, MIT licence); limb lengths agree with SMPL's mean shape within 2 cm.
No licensed SMPL file is needed to use them.
"""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

JOINT_NAMES: Final[tuple[str, ...]] = (
    "pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle",
    "right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head",
    "left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist",
    "left_hand", "right_hand",
)  # fmt: skip
NUM_JOINTS: Final = len(JOINT_NAMES)
PARENTS: Final[tuple[int, ...]] = (
    -1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 20, 21,
)  # fmt: skip
JOINT_INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(JOINT_NAMES)}

#: Joints whose position 2D and 3D keypoint estimators report directly.
LIMB_JOINTS: Final[tuple[str, ...]] = tuple(
    f"{side}_{part}"
    for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)

#: (24, 3) offset of every joint from its parent in the rest pose, metres; row 0 is zero.
MEAN_OFFSETS: Final[npt.NDArray[np.float32]] = np.array(
    [
        [0.0, 0.0, 0.0],
        [0.05858135, -0.08228004, -0.01766408],
        [-0.06030973, -0.09051332, -0.01354254],
        [0.00443945, 0.12440352, -0.03838522],
        [0.04345142, -0.38646945, 0.008037],
        [-0.04325663, -0.38368791, -0.00484304],
        [0.00448844, 0.1379564, 0.02682033],
        [-0.01479032, -0.42687458, -0.037428],
        [0.01905555, -0.4200455, -0.03456167],
        [-0.00226458, 0.05603239, 0.00285505],
        [0.04105436, -0.06028581, 0.12204243],
        [-0.03483987, -0.06210566, 0.13032329],
        [-0.0133902, 0.21163553, -0.03346758],
        [0.07170245, 0.11399969, -0.01889817],
        [-0.08295366, 0.11247234, -0.02370739],
        [0.01011321, 0.08893734, 0.05040987],
        [0.12292141, 0.04520509, -0.019046],
        [-0.11322832, 0.04685326, -0.00847207],
        [0.2553319, -0.01564902, -0.02294649],
        [-0.26012748, -0.01436928, -0.03126873],
        [0.26570925, 0.01269811, -0.00737473],
        [-0.26910836, 0.00679372, -0.00602676],
        [0.08669055, -0.01063603, -0.01559429],
        [-0.0887537, -0.00865157, -0.01010708],
    ],
    dtype=np.float32,
)
MEAN_OFFSETS.setflags(write=False)


def mirror_index() -> npt.NDArray[np.intp]:
    """Return the permutation (24,) that swaps every left joint with its right partner."""
    swap = {"left": "right", "right": "left"}
    out = []
    for name in JOINT_NAMES:
        side, _, rest = name.partition("_")
        out.append(JOINT_INDEX[f"{swap[side]}_{rest}"] if side in swap else JOINT_INDEX[name])
    return np.asarray(out, dtype=np.intp)
