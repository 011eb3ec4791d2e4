"""Define protocols of evaluation: how much of each dance counts, and by which formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.brief import brief_repr
from opendance_hf.metrics.beats import FPS, beats_within
from opendance_hf.metrics.features import MIN_FRAMES, Floats, as_joints
from opendance_hf.motion.skeleton import JOINT_INDEX

#: Nobody dances further than this from the origin, metres, nor at other frame rates than these.
_MAX_DISTANCE: Final = 1e4
_FPS_RANGE: Final = (1.0, 1000.0)
#: Pelvis to head of an adult who stands upright, metres. Bodies ten times as large are in centimetres or millimetres;
#: what a model in training makes up is rarely that bad.
_TORSO: Final = 0.6
_ADULT: Final = 1.7
_MAX_RATIO: Final = 10.0


@dataclass(frozen=True)
class Protocol:
    """How sets of dances are compared.

    Common to all: each dancer of a clip is one sample (paper section 5.2), features are normalised by the reference,
    and beats are compared over everything of a dance that counts.

    Attributes:
        name: what to call it in a table.
        prediction_frames: only this many first frames of a predicted dance count; None for all. Reference dances
            count whole.
        window_s: FID and Div are taken on disjoint windows of this many seconds, of predictions and reference alike,
            each window a sample; dances shorter than that are left out of them. None: a dance is one sample, however
            long.
        corrected: motion features without the defects of the official code, time constants that scale with the
            frame rate, and features constant in the reference divided by a floor instead of 1e-10; see
            :data:`STD_FLOORS`.
        source: who defined it.
    """

    name: str
    prediction_frames: int | None
    window_s: float | None
    corrected: bool
    source: str


PROTOCOLS: Final[dict[str, Protocol]] = {
    protocol.name: protocol
    for protocol in (
        # 20 s of a prediction against whole reference dances.
        Protocol(
            "bailando", 1200, None, False, "Bailando (Siyao et al., CVPR 2022), official evaluation code"
        ),
        # The paper gives no crop. Its reference set is all sequences, train and test: pass them all.
        Protocol("opendance-3d", None, None, False, "OpenDance-3D, section 5.2 and equations 1 and 2"),
        Protocol("corrected", None, 5.0, True, "OpenDance-HF, docs/metrics.md"),
    )
}

#: The smallest standard deviation that corrected scores divide by: kinetic features in m²/s² and m/s², geometric ones
#: as a share of frames, cross distances in metres. Differences below are too small to see in a dance.
STD_FLOORS: Final[dict[str, float]] = {"k": 0.01, "g": 0.05, "cd": 0.01}


@dataclass(frozen=True, eq=False)
class Clip:
    """One dance to be evaluated.

    Attributes:
        id: its name in the result.
        joints: (D, T, 24, 3) of D dancers over T frames, metres, y-up, all dancers in one world frame.
        music_beats: (B,) frame indices, None if unknown.
        fps: frames a second of joints and beats.
        group: what is not independent, usually the song: clips of one group are resampled together. Default: ``id``.
        ground: height of the ground, metres; None if unknown. Our datasets have it at 0.

    Raises:
        ValueError: naming the clip, if the joints are no real numbers, have another shape, fewer than three frames,
            NaN or infinity, lie kilometres away or form a body of more than ten times human size; if the beats are no
            finite vector of indices, fps is not within 1 to 1000, or the ground not at a finite height.
    """

    __repr__ = brief_repr

    id: str
    joints: npt.NDArray[np.floating]
    music_beats: npt.NDArray[np.integer] | None = None
    fps: float = FPS
    group: str = ""
    ground: float | None = None

    def __post_init__(self) -> None:
        try:
            if np.ndim(self.joints) != 4 or not len(self.joints):
                raise ValueError(f"joints must be (dancers, frames, 24, 3), got {np.shape(self.joints)}")
            _check_real("joints", self.joints)
            _check_metres(as_joints(self.joints))
            if self.music_beats is not None:
                _check_beats(self.music_beats)
            _check_real("fps", self.fps)
            if np.ndim(self.fps) or not _FPS_RANGE[0] <= self.fps <= _FPS_RANGE[1]:
                raise ValueError(f"fps must be positive, between 1 and 1000, got {self.fps}")
            if self.ground is not None:
                _check_real("the ground", self.ground)
                if np.ndim(self.ground) or not abs(self.ground) < _MAX_DISTANCE:
                    raise ValueError(f"the ground must be at a finite height in metres, got {self.ground}")
        except ValueError as error:
            raise ValueError(f"clip {self.id!r}: {error}") from None
        if not self.group:
            object.__setattr__(self, "group", self.id)


def _check_real(what: str, values: npt.ArrayLike) -> None:
    """Refuse what numpy would convert to numbers silently: complex numbers, dates, booleans, text."""
    dtype = np.asarray(values).dtype
    if dtype.kind not in "iuf":
        raise ValueError(f"{what} must be real numbers, got {dtype.name}")


def _check_metres(joints: Floats) -> None:
    farthest = max(float(joints.max()), -float(joints.min()))
    if farthest >= _MAX_DISTANCE:
        raise ValueError(f"joints must be in metres; one is {farthest:.3g} m from the origin")
    torso = np.linalg.norm(joints[:, :, JOINT_INDEX["head"]] - joints[:, :, JOINT_INDEX["pelvis"]], axis=-1)
    ratio = float(np.median(torso, axis=1).max()) / _TORSO
    if ratio > _MAX_RATIO:
        raise ValueError(
            f"joints must be in metres; this body is {ratio * _ADULT:.0f} m tall. Divide centimetres by 100, those of "
            f"AIST++ by smpl_scaling"
        )


def _check_beats(beats: npt.ArrayLike) -> None:
    array = np.asarray(beats)
    if array.dtype.kind == "b" or (array.ndim == 1 and len(array) > 2 and np.isin(array, (0, 1)).all()):
        raise ValueError(
            "beats must be frame indices, not a mask of frames: numpy.flatnonzero makes them of one"
        )
    _check_real("beats", array)
    beats_within(array, MIN_FRAMES)
