"""Compute statistics of one configuration and split of a dataset, for its card and ``opendance stats``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class SplitStatistics:
    """Statistics of one configuration and split; durations in seconds, velocity in metres per second; tempo None without songs."""

    sequences: int
    groups: int
    dancers: int
    hours: float
    mean_duration_s: float
    min_duration_s: float
    max_duration_s: float
    min_bpm: float | None
    max_bpm: float | None
    mean_velocity_m_per_s: float
    with_smpl_betas: int
    genres: dict[str, int]


def statistics_of(
    *,
    groups: Sequence[str],
    dancers: Sequence[int],
    durations_s: Sequence[float],
    bpm: Sequence[float | None],
    velocities: Sequence[float],
    genres: Sequence[str | None],
    with_smpl_betas: int,
) -> SplitStatistics:
    """Compute the statistics of one or more sequences.

    All arguments except ``with_smpl_betas``, a count, have one value per sequence; ``bpm`` is None without a song.
    """
    seconds = sum(durations_s)
    tempos = [one for one in bpm if one is not None]
    return SplitStatistics(
        sequences=len(groups),
        groups=len(set(groups)),
        dancers=max(dancers),
        hours=seconds / 3600,
        mean_duration_s=seconds / len(durations_s),
        min_duration_s=min(durations_s),
        max_duration_s=max(durations_s),
        min_bpm=min(tempos, default=None),
        max_bpm=max(tempos, default=None),
        mean_velocity_m_per_s=sum(v * s for v, s in zip(velocities, durations_s, strict=True)) / seconds,
        with_smpl_betas=with_smpl_betas,
        genres=dict(sorted(Counter(genre for genre in genres if genre is not None).items())),
    )
