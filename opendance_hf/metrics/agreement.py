"""Agreement of two lists of beats that jitter cannot buy: each beat counts once, and chance counts nothing.

Equation 1 of the paper asks, for each beat of the music, how near the nearest motion beat is. Denser motion beats are
nearer to anything, so jitter raises the score (paper section 5.3, figure 5). Here a motion beat can serve one music
beat only, those that serve none lower the precision, and what the same beats would score against the same music at a
random moment is taken off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from opendance_hf.metrics.beats import Beats
from opendance_hf.metrics.features import Floats

#: Beats this far apart, in seconds, still agree: three frames at 60 FPS, the width of paper equation 1.
TOLERANCE_S: Final = 0.05
# Frames; keeps the tolerance inclusive when seconds times FPS round down.
_SLACK: Final = 1e-6


@dataclass(frozen=True)
class BeatAgreement:
    """How well the beats of a motion agree with those of its music, as counted by :func:`matched_beats`.

    Attributes:
        num_music, num_motion: how many beats there are.
        music_density, motion_density: beats a second.
        matches: how many pairs of beats agree, each beat being in one pair at most.
        chance_matches: the mean number of matches over all circular shifts of the music.
        precision: the share of motion beats that have a match; None without motion beats.
        recall: the share of music beats that have a match; None without music beats.
        f1: their harmonic mean, 2 matches / (num_music + num_motion); None without any beats.
        corrected_precision, corrected_recall, corrected_f1: (score - chance) / (1 - chance), where chance is the score
            that ``chance_matches`` give. 1 is perfect, 0 is what unrelated beats get on average, less is worse than
            that. None where the score is None, or where chance alone is perfect.
    """

    num_music: int
    num_motion: int
    music_density: float
    motion_density: float
    matches: int
    chance_matches: float
    precision: float | None
    recall: float | None
    f1: float | None
    corrected_precision: float | None
    corrected_recall: float | None
    corrected_f1: float | None


def matched_beats(
    music_beats: Beats,
    motion_beats: Beats,
    num_frames: int,
    *,
    fps: float = 60.0,
    tolerance: float = TOLERANCE_S,
) -> BeatAgreement:
    """Match beats of music and motion one to one, as many as possible, and compare with chance.

    Chance is exact: the music is moved by 0, 1, ... ``num_frames`` - 1 frames, beats that leave at the end entering at
    the start, and matched anew each time. That keeps the rhythm and the density of both, so it holds for regular grids
    and for jitter alike.

    Two dancers can be compared too. Matches, precision, recall and F1 do not depend on who comes first; chance does by
    a few thousandths, for only beats near the ends notice which of the two was moved.

    Args:
        music_beats: (B1,) times in frames, in any order, not necessarily whole.
        motion_beats: (B2,) likewise.
        num_frames: the beats lie in [0, num_frames). For a motion of T frames that is T - 1, the number of its speeds.
        fps: frames a second.
        tolerance: beats at most this many seconds apart may match.

    Raises:
        ValueError: if a list is no finite vector or has a beat outside the frames, or if a number is not positive.
    """
    from opendance_hf.metrics.kernels import count_matches

    if num_frames < 1 or not fps > 0 or not tolerance >= 0:
        raise ValueError(
            f"num_frames and fps must be positive and tolerance not negative, got {num_frames}, {fps}, {tolerance}"
        )
    music, motion = (
        _sorted_beats(name, beats, num_frames)
        for name, beats in (("music_beats", music_beats), ("motion_beats", motion_beats))
    )
    matches, total = count_matches(music, motion, int(num_frames), tolerance * fps + _SLACK)
    chance = total / num_frames
    n1, n2 = len(music), len(motion)
    seconds = num_frames / fps
    return BeatAgreement(
        num_music=n1,
        num_motion=n2,
        music_density=n1 / seconds,
        motion_density=n2 / seconds,
        matches=matches,
        chance_matches=chance,
        precision=_share(matches, n2),
        recall=_share(matches, n1),
        f1=_share(2 * matches, n1 + n2),
        corrected_precision=_corrected(matches, chance, n2),
        corrected_recall=_corrected(matches, chance, n1),
        corrected_f1=_corrected(2 * matches, 2 * chance, n1 + n2),
    )


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None


def _corrected(part: float, chance: float, whole: int) -> float | None:
    """(part/whole - chance/whole) / (1 - chance/whole)"""
    return (part - chance) / (whole - chance) if whole > chance else None


def _sorted_beats(name: str, beats: Beats, num_frames: int) -> Floats:
    array = np.asarray(beats, dtype=np.float64)
    if array.ndim != 1 or not ((array >= 0) & (array < num_frames)).all():
        raise ValueError(f"{name} must be a vector of frame numbers in [0, {num_frames})")
    return np.sort(array)
