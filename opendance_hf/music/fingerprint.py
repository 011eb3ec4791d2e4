"""Find recordings of the same song by landmarks that survive codecs, cuts and changes of speed.

A fingerprint is the list of peaks of a spectrogram over time and pitch. Triplets of neighbouring peaks are hashed by
values that do not depend on speed: two differences of pitch, and the relative time of the middle peak. (After Wang, "An
industrial-strength audio search algorithm", 2003, whose pairs of peaks depend on speed, and Six and Leman, "Panako",
2014, whose triplets do not.) Equal hashes propose how the time and pitch of one recording map onto
those of the other. The proposal holds if, under this map, more than half of the peaks of both coincide.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import maximum_filter, uniform_filter1d

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.integer]

SAMPLE_RATE: Final = 11_025
_WINDOW: Final = 2048
_HOP: Final = 256
_FRAME_S: Final = _HOP / SAMPLE_RATE
#: Bands of the spectrogram, 24 an octave from 150 Hz to 4.8 kHz.
_LOWEST_OCTAVE: Final = float(np.log2(150.0))
_PER_OCTAVE: Final = 24
_BANDS: Final = 5 * _PER_OCTAVE
#: A peak is the largest value within this many frames and bands to either side, and this far above its surroundings.
_NEAR: Final = 5
_STANDS_OUT_DB: Final = 3.0
_PEAKS_PER_S: Final = 14

#: A triplet is a peak and two of the next few within these times and octaves of it.
_NEXT: Final = 4
_SHORTEST_S: Final = 0.1
_LONGEST_S: Final = 1.6
_WIDEST_OCTAVES: Final = 1.0

#: Each entry of the index is compared with this many that follow it under the same hash. All copies of a song that is
#: in a thousand videos are still connected through neighbours, and a hash that every song has costs no more.
_FOLLOWING: Final = 12
#: Two recordings with this many equal hashes at one time offset are candidates.
_WORTH: Final = 4
_OFFSET_BIN_S: Final = 0.5
_OFFSET_BINS: Final = 8192
#: Comparisons of index entries held in memory at a time.
_AT_ONCE: Final = 8_000_000
#: Candidates kept for each recording, and the number of equal hashes from which all pairs are kept.
_LIKELY: Final = 5
_SURE: Final = 40
#: The map between two recordings: time scales up to this far from 1, pitch shifts up to this many octaves.
_MAX_SCALE: Final = 0.04
_MAX_SHIFT: Final = 0.07
_SCALES: Final = np.linspace(1 - _MAX_SCALE, 1 + _MAX_SCALE, 17)
#: Number of maps, those with most votes, that are tried on the peaks.
_LOOKS: Final = 6
#: Peaks coincide within this time and pitch.
_SAME_S: Final = 0.05
_SAME_OCTAVES: Final = 1 / 40
#: The overlap of two recordings must last this long and hold this many peaks ...
_MIN_OVERLAP_S: Final = 2.5
_MIN_PEAKS: Final = 25
#: ... and this share of them must coincide. Songs of one tempo and key that share no notes reach 0.3.
SAME_SONG: Final = 0.55


@dataclass(frozen=True)
class Fingerprint:
    """Spectral peaks of a recording in the order of time.

    Attributes:
        times_s: (N,) seconds from the start of the sound.
        octaves: (N,) base-2 logarithm of the frequency in Hz.
    """

    times_s: npt.NDArray[np.float32]
    octaves: npt.NDArray[np.float32]

    @property
    def landmarks(self) -> Landmarks:
        """Return the triplets of peaks."""
        return _landmarks(self.times_s, self.octaves)


@dataclass(frozen=True)
class Landmarks:
    """Triplets of peaks, (M,) in the order of their hashes, with the time and pitch of the first peak of each."""

    hashes: npt.NDArray[np.uint32]
    times_s: npt.NDArray[np.float32]
    octaves: npt.NDArray[np.float32]


def fingerprint(audio: Floats) -> Fingerprint:
    """Find the peaks of mono audio (samples,) at :data:`SAMPLE_RATE`; silence and less than a window have none."""
    audio = np.nan_to_num(np.asarray(audio, np.float32))
    if len(audio) < _WINDOW or not audio.any():
        return Fingerprint(np.zeros(0, np.float32), np.zeros(0, np.float32))
    windows = sliding_window_view(audio, _WINDOW)[::_HOP] * np.hanning(_WINDOW).astype(np.float32)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    level = power.astype(np.float32) @ _bands()
    level = 10 * np.log10(np.maximum(level, level.max() * 1e-8))
    # Subtract the mean of the surroundings, so that equalisers do not matter.
    level -= uniform_filter1d(uniform_filter1d(level, round(1.0 / _FRAME_S), axis=0), _PER_OCTAVE + 1, axis=1)
    peak = (level == maximum_filter(level, 2 * _NEAR + 1)) & (level > _STANDS_OUT_DB)
    peak[:, [0, -1]] = False
    frame, band = np.nonzero(peak)
    keep = _strongest(frame, level[frame, band])
    frame, band = frame[keep], band[keep]
    # Interpolate with the vertex of the parabola through a peak and its neighbours.
    left, middle, right = (level[frame, band + step] for step in (-1, 0, 1))
    offset = (left - right) / (2 * np.minimum(left - 2 * middle + right, -1e-3))
    octaves = _LOWEST_OCTAVE + (band + np.clip(offset, -0.5, 0.5)) / _PER_OCTAVE
    return Fingerprint((frame * _FRAME_S).astype(np.float32), octaves.astype(np.float32))


@lru_cache(1)
def _bands() -> npt.NDArray[np.float32]:
    """Return the weights of the spectrum's bins in every band, (1025, 120).

    They are smooth: a tone between two bands contributes to both, and its pitch can be interpolated.
    """
    hertz = np.arange(_WINDOW // 2 + 1)[:, None] * SAMPLE_RATE / _WINDOW
    centre = 2 ** (_LOWEST_OCTAVE + np.arange(_BANDS) / _PER_OCTAVE)
    width = np.maximum(centre * (2 ** (1.2 / _PER_OCTAVE) - 1), SAMPLE_RATE / _WINDOW)
    weights = np.exp(-2 * ((hertz - centre) / width) ** 2)
    return (weights / weights.sum(0)).astype(np.float32)


def _strongest(frame: Ints, level: Floats) -> Ints:
    """Return the indices of the strongest peaks of every second, in the order of time."""
    second = (frame * _FRAME_S).astype(np.intp)
    order = np.argsort(-level, kind="stable")
    return np.sort(order[_rank(second[order]) < _PEAKS_PER_S])


def _landmarks(times: npt.NDArray[np.float32], octaves: npt.NDArray[np.float32]) -> Landmarks:
    if not len(times):
        return Landmarks(np.zeros(0, np.uint32), times, octaves)
    # Row i holds the peaks after peak i; the first few within range are taken.
    ahead = round(2 * _PEAKS_PER_S * _LONGEST_S)
    later = np.arange(len(times))[:, None] + np.arange(1, ahead + 1)
    there = later < len(times)
    later = np.minimum(later, len(times) - 1)
    wait, rise = times[later] - times[:, None], octaves[later] - octaves[:, None]
    near = there & (wait >= _SHORTEST_S) & (wait <= _LONGEST_S) & (np.abs(rise) <= _WIDEST_OCTAVES)
    rank = np.cumsum(near, axis=1) * near
    taken = [np.where((rank == n).any(1), (rank == n).argmax(1), -1) for n in range(1, _NEXT + 1)]
    hashes, firsts = [], []
    for m, n in itertools.combinations(range(_NEXT), 2):
        row = np.nonzero(taken[n] >= 0)[0]
        second, third = taken[m][row], taken[n][row]
        values = (
            (rise[row, second] + _WIDEST_OCTAVES) * 16,
            (rise[row, third] + _WIDEST_OCTAVES) * 16,
            np.minimum(16 * wait[row, second] / wait[row, third], 15),
            # These two depend on speed, but 3 percent are small against their steps.
            np.log(wait[row, third] / _SHORTEST_S) / 0.15,
            (octaves[row] - _LOWEST_OCTAVE) * 6,
        )
        number = np.zeros(len(row), np.uint32)
        for value, size in zip(values, (33, 33, 16, 32, 32), strict=True):
            number = number * np.uint32(size) + np.clip(value, 0, size - 1).astype(np.uint32)
        hashes.append(number)
        firsts.append(row)
    number, first = np.concatenate(hashes), np.concatenate(firsts)
    order = np.argsort(number, kind="stable")
    return Landmarks(number[order], times[first[order]], octaves[first[order]])


def song_candidates(
    prints: Iterable[Fingerprint], new: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """Return pairs of recordings whose :func:`similarity` is worth computing, the most promising first.

    They have several equal hashes at one time offset. Of a song in many recordings not every pair is listed, but
    enough of them to connect all.

    Args:
        prints: all recordings; read once, in order.
        new: True for those that are of interest: pairs of two others are not returned. All by default.
    """
    count, hashes, owner, times = _index(prints)
    if not len(hashes):
        return []
    # Compare neighbouring index entries under one hash.
    found: list[tuple[Ints, Ints]] = []
    part = max(1, math.ceil(len(hashes) * _FOLLOWING / _AT_ONCE))
    lot = owner % part
    asked = None if new is None else np.asarray(new, bool)[owner]
    for number in range(part):
        keys = []
        for step in range(1, _FOLLOWING + 1):
            mine = (
                (lot[:-step] == number) & (hashes[:-step] == hashes[step:]) & (owner[:-step] != owner[step:])
            )
            if asked is not None:
                mine &= asked[:-step] | asked[step:]
            equal = np.nonzero(mine)[0]
            first, second = owner[equal].astype(np.int64), owner[equal + step]
            offset = (
                np.floor((times[equal + step] - times[equal]) / _OFFSET_BIN_S).astype(np.int64) + _OFFSET_BINS
            )
            keys.append((first * count + second) * (2 * _OFFSET_BINS) + offset)
        key, votes = np.unique(np.concatenate(keys), return_counts=True)
        # An offset near the edge of a bin, or one that drifts with speed, falls into two bins.
        next_votes = np.where(key[1:] == key[:-1] + 1, votes[1:], 0)
        votes[:-1] += next_votes
        worth = votes >= _WORTH
        pair, best = key[worth] // (2 * _OFFSET_BINS), votes[worth]
        order = np.lexsort((-best, pair))
        pair, best = pair[order], best[order]
        leads = np.r_[True, pair[1:] != pair[:-1]][: len(pair)]
        found.append((pair[leads], best[leads]))
    pairs, votes = (np.concatenate(part) for part in zip(*found, strict=True))
    order = np.lexsort((pairs, -votes))
    pairs, votes = pairs[order], votes[order]
    of_interest = np.ones(count, bool) if new is None else np.asarray(new, bool)
    likely = [(_rank(one) < _LIKELY) & of_interest[one] for one in (pairs // count, pairs % count)]
    pairs = pairs[(votes >= _SURE) | likely[0] | likely[1]]
    return list(zip((pairs // count).tolist(), (pairs % count).tolist(), strict=True))


def _index(prints: Iterable[Fingerprint]) -> tuple[int, Ints, Ints, Floats]:
    """Return the number of recordings and the hashes (M,) of their landmarks, sorted, with the recording and the time of each."""
    count, hashes_of, times_of = 0, [], []
    for one in prints:
        landmarks = one.landmarks
        hashes_of.append(landmarks.hashes)
        times_of.append(landmarks.times_s)
        count += 1
    owner = np.repeat(np.arange(count, dtype=np.int32), [len(hashes) for hashes in hashes_of])
    hashes = np.concatenate([np.zeros(0, np.uint32), *hashes_of])
    times = np.concatenate([np.zeros(0, np.float32), *times_of])
    del hashes_of, times_of
    order = np.argsort(hashes, kind="stable").astype(np.uint32)
    hashes, owner = hashes[order], owner[order]
    return count, hashes, owner, times[order]


def _rank(owner: Ints) -> Ints:
    """Count for each entry the earlier ones with the same owner."""
    order = np.argsort(owner, kind="stable")
    rank = np.empty(len(owner), np.intp)
    rank[order] = np.arange(len(owner)) - np.searchsorted(owner[order], owner[order])
    return rank


def similarity(one: Fingerprint, other: Fingerprint) -> float:
    """Return the share of peaks, 0 to 1, that coincide in the overlap of two recordings.

    Values from :data:`SAME_SONG` on mean the same song. It is 0 where the overlap is too short to decide.
    """
    left, right = one.landmarks, other.landmarks
    begin = np.searchsorted(right.hashes, left.hashes, side="left")
    number = np.searchsorted(right.hashes, left.hashes, side="right") - begin
    i = np.repeat(np.arange(len(left.hashes)), number)
    j = np.arange(len(i)) - np.repeat(np.cumsum(number) - number, number) + np.repeat(begin, number)
    shift = right.octaves[j] - left.octaves[i]
    near = np.abs(shift) <= _MAX_SHIFT
    from_s, to_s, shift = left.times_s[i[near]], right.times_s[j[near]], shift[near]
    if len(shift) < _WORTH:
        return 0.0
    maps = []
    for scale in _SCALES:
        offset = to_s - scale * from_s
        in_order = np.sort(offset)
        votes = np.searchsorted(in_order, in_order + 2 * _SAME_S) - np.arange(len(in_order))
        centre = in_order[votes.argmax()] + _SAME_S
        agree = np.abs(offset - centre) <= 2 * _SAME_S
        maps.append((int(votes.max()), float(scale), float(centre), float(np.median(shift[agree]))))
    maps.sort(reverse=True)
    return max(_coincidence(one, other, *proposed) for _, *proposed in maps[:_LOOKS])


def _coincidence(one: Fingerprint, other: Fingerprint, scale: float, offset_s: float, shift: float) -> float:
    """Return the share of coinciding peaks in the overlap, of the recording with fewer, after refining the map."""
    octaves = one.octaves + shift
    score = 0.0
    for within_s in (2 * _SAME_S, _SAME_S):
        times = scale * one.times_s + offset_s
        start, end = max(times[0], other.times_s[0]), min(times[-1], other.times_s[-1])
        mine = np.nonzero((times >= start - _SAME_S) & (times <= end + _SAME_S))[0]
        theirs = np.nonzero((other.times_s >= start - _SAME_S) & (other.times_s <= end + _SAME_S))[0]
        smaller = min(len(mine), len(theirs))
        if end - start < _MIN_OVERLAP_S or smaller < _MIN_PEAKS:
            return score
        late = np.abs(times[mine, None] - other.times_s[theirs])
        high = np.abs(octaves[mine, None] - other.octaves[theirs])
        close = (late <= _SAME_S) & (high <= _SAME_OCTAVES)
        score = max(score, min(close.any(0).sum(), close.any(1).sum()) / smaller)
        a, b = np.nonzero((late <= within_s) & (high <= _SAME_OCTAVES))
        if len(a) < _MIN_PEAKS // 2:
            return score
        line = np.polyfit(one.times_s[mine[a]], other.times_s[theirs[b]], 1)
        if abs(line[0] - 1) > 1.2 * _MAX_SCALE:
            return score
        scale, offset_s = float(line[0]), float(line[1])
    return score
