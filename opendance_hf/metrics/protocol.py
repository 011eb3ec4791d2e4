"""What papers tend to leave out of their numbers: how much of each dance counts, and by which formulas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.metrics.beats import FPS, beats_within
from opendance_hf.metrics.features import MIN_FRAMES, as_joints


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
        ValueError: naming the clip, if the joints have another shape, fewer than three frames, NaN or infinity, the
            beats are no finite vector, fps is not positive, or the ground not finite.
    """

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
            as_joints(self.joints)
            if self.music_beats is not None:
                beats_within(self.music_beats, MIN_FRAMES)
            if not (np.isfinite(self.fps) and self.fps > 0):
                raise ValueError(f"fps must be positive, got {self.fps}")
            if self.ground is not None and not np.isfinite(self.ground):
                raise ValueError(f"the ground must be at a finite height, got {self.ground}")
        except ValueError as error:
            raise ValueError(f"clip {self.id!r}: {error}") from None
        if not self.group:
            object.__setattr__(self, "group", self.id)
