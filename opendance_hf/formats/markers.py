"""Compute SMPL's joints from markers on the skin, by published regressions.

The marker set is that of Vicon's Plug-in Gait and of the 41 markers of the CMU database: names by meaning are in
:data:`ALIASES`. Joint centres, from the positions of each frame:

- hips: M. E. Harrington et al., "Prediction of the hip joint centre in adults, children, and patients with cerebral palsy
  based on magnetic resonance imaging", Journal of Biomechanics 40 (2007), from width and depth of the pelvis;
- knees, ankles and elbows: half the width of the joint from the marker on its outer side, at a right angle to the line to the
  joint above, in the plane of the marker on the segment between (the chord of Plug-in Gait; R. B. Davis et al., "A gait
  analysis data collection and reduction technique", Human Movement Science 10 (1991));
- shoulders: 17 % of the distance of the shoulder markers below each (G. Rab et al., "A method for determination of upper
  extremity kinematics", Gait and Posture 15 (2002));
- wrists: half way between the markers of thumb and little finger (Rab et al.); hand and foot: the markers themselves;
- neck: half way between C7 and CLAV; chest: half way between T10 and STRN; other joints of the trunk divide the way as those
  of the mean skeleton do.

Widths of joints are not in files: those of an adult are used, scaled by the leg.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS

Array = npt.NDArray[np.floating]

#: Names of a marker, by meaning; L and R stand before those of a side. Plug-in Gait: Vicon, "Plug-in Gait Reference Guide";
#: CMU: www.cc.gatech.edu/classes/AY2003/cs4451a_fall/datadef.txt and mocap.cs.cmu.edu/markerPlacementGuide.pdf.
_SIDED: Final[Mapping[str, tuple[str, ...]]] = {
    "front_head": ("FHD",), "back_head": ("BHD",), "shoulder": ("SHO",), "upper_arm": ("UPA", "UPR"), "elbow": ("ELB",),
    "thumb_wrist": ("WRA",), "small_wrist": ("WRB",), "hand": ("FIN",), "front_hip": ("ASI", "FWT"),
    "back_hip": ("PSI", "BWT"), "thigh": ("THI",), "knee": ("KNE",), "shin": ("TIB", "SHN"), "ankle": ("ANK",),
    "toe": ("TOE",),
}  # fmt: skip
ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "c7": ("C7",), "t10": ("T10",), "clavicle": ("CLAV",), "sternum": ("STRN",), "sacrum": ("SACR",),
    **{f"{side}_{name}": tuple(f"{side[0].upper()}{alias}" for alias in aliases)
       for side in ("left", "right") for name, aliases in _SIDED.items()},
}  # fmt: skip
#: Markers that may be missing: what they define is then taken from their neighbours.
OPTIONAL: Final = frozenset(
    {"sacrum", "t10", "sternum"}
    | {
        f"{side}_{name}"
        for side in ("left", "right")
        for name in ("upper_arm", "hand", "thigh", "shin", "back_hip")
    }
    | {f"{side}_{name}" for side in ("left", "right") for name in ("front_head", "back_head")}
)
#: Half the width of a joint plus the radius of a marker of 14 mm, m, and the leg to which that belongs.
_HALF_WIDTH_M: Final = {"knee": 0.057, "ankle": 0.042, "elbow": 0.042}
_LEG_M: Final = 0.82
#: Share of the way from hips to chest of the joints of the mean skeleton.
_SHOULDER_DROP: Final = 0.17
_NAMES: Final = {alias: name for name, aliases in ALIASES.items() for alias in aliases}


def marker_of(label: str) -> str | None:
    """Return the meaning of a marker, a key of :data:`ALIASES`; None for others."""
    return _NAMES.get(label.strip().upper())


def missing_markers(found: Mapping[str, object] | frozenset[str]) -> list[str]:
    """Return the names of the markers without which a body cannot be computed."""
    lacking = [name for name in ALIASES if name not in found and name not in OPTIONAL]
    pelvis = [f"{side}_back_hip" for side in ("left", "right")]
    if "sacrum" not in found:
        lacking += [name for name in pelvis if name not in found]
    if not any(f"{side}_{end}_head" in found for side in ("left", "right") for end in ("front", "back")):
        lacking.append("left_front_head")
    return ["/".join(ALIASES[name]) for name in lacking]


def joints_of(markers: Mapping[str, Array]) -> Array:
    """Return the (T, 24, 3) joints of a person in metres.

    Args:
        markers: (T, 3) positions in metres by the keys of :data:`ALIASES`; :func:`missing_markers` names those needed. Axes
            are right-handed, with any direction up.
    """
    joints = np.full((len(markers["c7"]), NUM_JOINTS, 3), np.nan)
    centre, up, ahead = _hips(markers, joints)
    size = _leg(markers, joints) / _LEG_M
    # SMPL's pelvis lies above and before the middle between its hips, which are narrower than those of Harrington et al.
    hips = MEAN_OFFSETS[[JOINT_INDEX["left_hip"], JOINT_INDEX["right_hip"]]]
    rise, forth = -hips.mean(axis=0)[1:] * size
    _set(joints, "pelvis", centre + up * rise + ahead * forth)
    neck = (markers["c7"] + markers["clavicle"]) / 2
    _set(joints, "neck", neck)
    heads = [markers[n] for n in markers if n.endswith("_head")]
    # The joint of SMPL is at the base of the skull, half way to the band on which the markers are.
    _set(joints, "head", (neck + np.mean(heads, axis=0)) / 2)
    _trunk(markers, joints)
    across = markers["left_shoulder"] - markers["right_shoulder"]
    drop = _SHOULDER_DROP * np.linalg.norm(across, axis=-1, keepdims=True)
    spine = unit(neck - _get(joints, "pelvis"))
    down = -unit(spine - (spine * unit(across)).sum(-1, keepdims=True) * unit(across))
    for side in ("left", "right"):
        shoulder = markers[f"{side}_shoulder"] + drop * down
        _set(joints, f"{side}_shoulder", shoulder)
        chest = _get(joints, "spine3")
        # The collar of the mean skeleton as a share of the ways from spine3 to shoulder and neck.
        _set(joints, f"{side}_collar", chest + 0.37 * (shoulder - chest) + 0.26 * (neck - chest))
        elbow = _chord(
            markers[f"{side}_elbow"],
            shoulder,
            markers.get(f"{side}_upper_arm"),
            _HALF_WIDTH_M["elbow"] * size,
        )
        wrist = (markers[f"{side}_thumb_wrist"] + markers[f"{side}_small_wrist"]) / 2
        hand = markers.get(f"{side}_hand", wrist + unit(wrist - elbow) * 0.09 * size)
        for name, place in (("elbow", elbow), ("wrist", wrist), ("hand", hand)):
            _set(joints, f"{side}_{name}", place)
    return joints


def _get(joints: Array, name: str) -> Array:
    return joints[:, JOINT_INDEX[name]]


def _set(joints: Array, name: str, place: Array) -> None:
    joints[:, JOINT_INDEX[name]] = place


def _hips(markers: Mapping[str, Array], joints: Array) -> tuple[Array, Array, Array]:
    """Set the hips; return the (T, 3) middle between them, and the directions up and ahead of the pelvis."""
    left, right = markers["left_front_hip"], markers["right_front_hip"]
    back = (
        markers["sacrum"]
        if "sacrum" in markers
        else (markers["left_back_hip"] + markers["right_back_hip"]) / 2
    )
    front = (left + right) / 2
    width = float(np.median(np.linalg.norm(left - right, axis=-1)))
    depth = float(np.median(np.linalg.norm(front - back, axis=-1)))
    side = unit(left - right)
    depths = front - back
    ahead = unit(depths - (depths * side).sum(-1, keepdims=True) * side)
    up = np.cross(ahead, side)
    # Harrington et al., table 3: millimetres from the middle between the front markers.
    centre = front + ahead * (-0.24 * depth - 0.0099) + up * (-0.30 * width - 0.0109)
    half = side * (0.33 * width + 0.0073)
    _set(joints, "left_hip", centre + half)
    _set(joints, "right_hip", centre - half)
    return centre, up, ahead


def _leg(markers: Mapping[str, Array], joints: Array) -> float:
    """Set knees, ankles and feet; return the median length from hip to ankle."""
    lengths = []
    for side in ("left", "right"):
        hip, knee, ankle = _get(joints, f"{side}_hip"), markers[f"{side}_knee"], markers[f"{side}_ankle"]
        length = np.linalg.norm(hip - knee, axis=-1) + np.linalg.norm(knee - ankle, axis=-1)
        lengths.append(float(np.median(length)))
    size = float(np.mean(lengths)) / _LEG_M
    for side in ("left", "right"):
        hip = _get(joints, f"{side}_hip")
        knee = _chord(
            markers[f"{side}_knee"], hip, markers.get(f"{side}_thigh"), _HALF_WIDTH_M["knee"] * size
        )
        ankle = _chord(
            markers[f"{side}_ankle"], knee, markers.get(f"{side}_shin"), _HALF_WIDTH_M["ankle"] * size
        )
        for name, place in (("knee", knee), ("ankle", ankle), ("foot", markers[f"{side}_toe"])):
            _set(joints, f"{side}_{name}", place)
    return size * _LEG_M


def _trunk(markers: Mapping[str, Array], joints: Array) -> None:
    """Set the joints of the spine between pelvis and neck."""
    pelvis, neck = _get(joints, "pelvis"), _get(joints, "neck")
    names = ("spine1", "spine2", "spine3", "neck")
    lengths = np.cumsum(np.linalg.norm(MEAN_OFFSETS[[JOINT_INDEX[name] for name in names]], axis=-1))
    if "t10" in markers and "sternum" in markers:
        chest = (markers["t10"] + markers["sternum"]) / 2
    else:
        chest = pelvis + (neck - pelvis) * lengths[2] / lengths[3]
    for name, length in zip(names[:3], lengths, strict=False):
        _set(joints, name, pelvis + (chest - pelvis) * length / lengths[2])


def _chord(marker: Array, above: Array, between: Array | None, half_width: float) -> Array:
    """Return the centre of a joint, see the module.

    Args:
        marker: (T, 3) on the outer side of the joint.
        above: (T, 3) centre of the joint above.
        between: (T, 3) marker on the outer side of the segment between; None to take the marker for the centre.
        half_width: distance of marker and centre, m.
    """
    if between is None:
        return marker
    line = above - marker
    length = np.linalg.norm(line, axis=-1, keepdims=True)
    aside = between - marker
    outwards = unit(aside - (aside * unit(line)).sum(-1, keepdims=True) * unit(line))
    # The centre has a right angle between the line to the joint above and that to the marker.
    sine = np.clip(half_width / np.maximum(length, 1e-9), 0, 0.9)
    return marker + half_width * (sine * unit(line) - np.sqrt(1 - sine**2) * outwards)
