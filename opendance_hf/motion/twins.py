"""Find sequences of the same recorded motion: other encodings, cuts, speeds or mirror images of one video.

Every dancer is reduced to a coarse track: limbs relative to the pelvis and to the direction of the trunk, ten frames a
second. Short pieces of tracks that lie close together propose candidates. Two sequences are twins if their tracks
correlate over most of the shorter one, which two takes of one basic step do not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy.spatial import cKDTree

from opendance_hf.motion.skeleton import JOINT_INDEX, mirror_index

Floats = npt.NDArray[np.floating]
Track = npt.NDArray[np.float32]

TRACK_FPS: Final = 10
_LIMBS: Final = tuple(
    JOINT_INDEX[f"{side}_{part}"]
    for part in ("knee", "ankle", "shoulder", "elbow", "wrist")
    for side in ("left", "right")
)
#: Length of a piece of a track in frames, and its least movement (RMS about its mean, metres).
_PIECE: Final = 16
_MOVES_M: Final = 0.04
#: Pieces are looked up by a few random projections of their coordinates, within this RMS distance in metres.
_PROJECTIONS: Final = 10
_REACH_M: Final = 0.1
_NEIGHBOURS: Final = 8
#: Share of a sequence's pieces, eight frames apart, that must be found at one offset in another one; two at least. Of 29 pieces
#: of ten seconds of motion-captured dances and their copies (late, short, faster, slower, mirrored), twins had six or more of
#: eleven, nineteen in twenty of the other pairs three or fewer.
_VOTES: Final = 0.3
#: Twins have at least this much in common, in seconds and as a share of the shorter one, at speeds up to 4 percent
#: apart, and their limbs' paths correlate: by 0.9 over 3 s, by 0.8 over 9 s or more.
_MIN_OVERLAP_S: Final = 3.0
_MIN_SHARE: Final = 0.6
_SPEEDS: Final = np.linspace(0.96, 1.04, 9)
_TWIN: Final = ((3.0, 9.0), (0.9, 0.8))
_LIMB_COUNT: Final = len(_LIMBS)


def tracks(joints: Floats, fps: float = 60.0) -> Track:
    """Compute coarse tracks (D, N, 10, 3), :data:`TRACK_FPS` frames a second, of (D, T, 24, 3) joints in metres, y up."""
    at = np.arange(0, joints.shape[1] - 1e-6, fps / TRACK_FPS).astype(np.intp)
    joints = np.asarray(joints, np.float64)[:, at]
    local = joints - joints[:, :, :1]
    # Sum over hips and shoulders; the wider shoulders weigh more.
    left, right = (
        local[:, :, [JOINT_INDEX[f"{side}_hip"], JOINT_INDEX[f"{side}_shoulder"]]]
        for side in ("left", "right")
    )
    across = np.asarray((left - right).sum(axis=2))
    length = np.maximum(np.hypot(across[..., 0], across[..., 2]), 1e-6)
    cos, sin = across[..., 0, None] / length[..., None], -across[..., 2, None] / length[..., None]
    limbs = local[:, :, _LIMBS]
    x, y, z = limbs[..., 0], limbs[..., 1], limbs[..., 2]
    # Rotate about the vertical so that the person's left is +x.
    return np.stack([cos * x - sin * z, y, sin * x + cos * z], -1).astype(np.float32)


def mirrored(track: Track) -> Track:
    """Mirror tracks (..., N, 10, 3): left and right are exchanged."""
    swap = mirror_index()
    order = [_LIMBS.index(int(swap[joint])) for joint in _LIMBS]
    return np.ascontiguousarray(track[..., order, :] * np.array([-1, 1, 1], np.float32))


def twin_candidates(
    dancers: Sequence[Track] | Mapping[int, Track], new: Sequence[bool] | None = None
) -> list[tuple[int, int]]:
    """Return pairs of sequences, given their tracks (D, N, 10, 3), worth comparing; the most promising first.

    Pieces of one sequence are looked up among those of all. A pair is worth it if several of them are found in the other one at
    about the same offset in time, as in another copy of a motion. A single similar piece is in almost every pair of dances.

    Args:
        dancers: tracks of all sequences; read in order, twice.
        new: True for those that are looked up; all by default.
    """
    pieces_of, owners, starts_of = [], [], []
    for number in range(len(dancers)):
        for track in dancers[number]:
            pieces, starts = _projections(track)
            pieces_of.append(pieces.astype(np.float32))
            owners.append(np.full(len(pieces), number, np.int32))
            starts_of.append(starts.astype(np.int32))
    if not sum(map(len, owners)):
        return []
    owner, start = np.concatenate(owners), np.concatenate(starts_of)
    tree = cKDTree(np.concatenate(pieces_of))
    del pieces_of, owners, starts_of
    votes: dict[tuple[int, int], int] = {}
    for number in range(len(dancers)) if new is None else np.flatnonzero(new).tolist():
        dances = dancers[number]
        for track in (*dances, *mirrored(dances)):
            pieces, starts = _projections(track)
            asked, at = pieces[:: _PIECE // 2], starts[:: _PIECE // 2]
            if not len(asked):
                continue
            # The nearest pieces are those of the sequence itself within half a second: query more neighbours.
            distances, found = tree.query(
                asked, k=_NEIGHBOURS + 10, distance_upper_bound=_REACH_M, workers=-1
            )
            row, column = np.nonzero(np.isfinite(distances))
            hits = np.asarray(found)[row, column]
            others, offset = owner[hits], np.floor_divide(start[hits] - at[row], TRACK_FPS)
            foreign = others != number
            # Another speed moves the offset from the first piece to the last one.
            drift_s = math.ceil((_SPEEDS[-1] - 1) * len(track) / TRACK_FPS)
            counted = _count_votes(others[foreign], offset[foreign], row[foreign], 2 + drift_s)
            for other, count in counted.items():
                if count >= max(2, _VOTES * len(asked)):
                    pair = min(number, other), max(number, other)
                    votes[pair] = max(count, votes.get(pair, 0))
    return sorted(votes, key=lambda pair: (-votes[pair], pair))


def _count_votes(
    others: npt.NDArray[np.integer],
    offset: npt.NDArray[np.integer],
    asked: npt.NDArray[np.integer],
    spread: int,
) -> dict[int, int]:
    """Count, for each other sequence, the pieces found in it at the offset that most agree on.

    Args:
        others: (M,) sequence in which a piece was found.
        offset: (M,) by how much later than the piece, whole seconds.
        asked: (M,) number of the piece.
        spread: number of seconds that count as one offset.
    """
    hits = np.unique(np.stack([others, offset, asked], axis=1), axis=0)
    places, counts = np.unique(hits[:, :2], axis=0, return_counts=True)
    # One number for each place, so that those of a sequence within the spread are next to each other.
    key = places[:, 0] * (np.ptp(offset) + spread + 1 if len(offset) else 1) + places[:, 1]
    until, total = np.searchsorted(key, key + spread), np.r_[0, np.cumsum(counts)]
    counts = total[until] - total[:-1]
    best: dict[int, int] = {}
    for other, count in zip(places[:, 0].tolist(), counts.tolist(), strict=True):
        best[other] = max(count, best.get(other, 0))
    return best


def _projections(track: Track) -> tuple[Floats, npt.NDArray[np.integer]]:
    """Project the moving pieces of a track (N, 10, 3) to (M, 10), whose distances approximate RMS metres.

    Returns:
        The projections and the first frames (M,) of the pieces.
    """
    if len(track) < _PIECE:
        return np.zeros((0, _PROJECTIONS)), np.zeros(0, np.intp)
    windows = np.moveaxis(sliding_window_view(track, _PIECE, axis=0), -1, 1).reshape(
        len(track) - _PIECE + 1, _PIECE, -1
    )
    # Relative to their mean, as in agreement().
    windows = windows - windows.mean(axis=1, keepdims=True)
    flat = windows.reshape(len(windows), -1)
    moves = np.nonzero(np.sqrt(3 * (flat**2).mean(axis=1)) >= _MOVES_M)[0]
    return np.asarray(flat[moves] @ _basis(flat.shape[1]), np.float64), moves


@lru_cache(2)
def _basis(size: int) -> Floats:
    """Return seeded random directions (size, 10), scaled for three coordinates per joint."""
    directions, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(size, _PROJECTIONS)))
    return directions * np.sqrt(3 / _PROJECTIONS)


def are_twins(one: Track, other: Track) -> bool:
    """Return True if a dancer of one sequence (D, N, 10, 3) moves like one of another, or like its mirror image."""
    return agreement(one, other) >= 0


def agreement(one: Track, other: Track) -> float:
    """Return how far the correlation of two sequences (D, N, 10, 3) exceeds that required of twins, -1 at least.

    It is that of the most similar dancers, between the paths of their limbs relative to their means: another estimate of
    camera tilt or bone lengths changes it little.
    """
    theirs = (*other, *mirrored(other))
    return max((_agreement(left, right) for left in one for right in theirs), default=-1.0)


def _agreement(left: Track, right: Track) -> float:
    if len(left) < 2:
        return -1.0
    best = -1.0
    for speed in _SPEEDS:
        at = np.arange(0, len(left) - 1 + 1e-6, speed)
        below = np.minimum(at.astype(np.intp), len(left) - 2)
        share = (at - below)[:, None, None].astype(np.float32)
        best = max(best, _slide(left[below] * (1 - share) + left[below + 1] * share, right))
    return best


def _slide(left: Track, right: Track) -> float:
    """Return how far the correlation of two tracks exceeds the required one, at the best offset."""
    if min(len(left), len(right)) < round(_MIN_OVERLAP_S * TRACK_FPS):
        return -1.0
    a, b = left.reshape(len(left), -1).astype(np.float64), right.reshape(len(right), -1).astype(np.float64)
    # Each offset is a diagonal of the matrix of all pairs of frames.
    diagonal = (np.arange(len(b)) + (len(a) - 1 - np.arange(len(a)))[:, None]).ravel()
    frames = np.bincount(diagonal)
    products = np.bincount(diagonal, weights=(a @ b.T).ravel())
    offset = np.arange(len(frames)) - (len(a) - 1)
    sum_a, square_a = _sums(a, np.maximum(-offset, 0), frames)
    sum_b, square_b = _sums(b, np.maximum(offset, 0), frames)
    common = products - (sum_a * sum_b).sum(1) / frames
    moves_a, moves_b = square_a - (sum_a**2).sum(1) / frames, square_b - (sum_b**2).sum(1) / frames
    least = frames * _LIMB_COUNT * _MOVES_M**2
    long_enough = frames >= max(round(_MIN_OVERLAP_S * TRACK_FPS), _MIN_SHARE * min(len(a), len(b)))
    counts = long_enough & (moves_a >= least) & (moves_b >= least)
    correlation = common[counts] / np.sqrt(moves_a[counts] * moves_b[counts])
    return float((correlation - np.interp(frames[counts] / TRACK_FPS, *_TWIN)).max(initial=-1.0))


def _sums(
    track: Floats, start: npt.NDArray[np.integer], frames: npt.NDArray[np.integer]
) -> tuple[Floats, Floats]:
    """Sum over spans of frames: every coordinate (M, C), and all squares (M,)."""
    total = np.concatenate([np.zeros((1, track.shape[1])), np.cumsum(track, axis=0)])
    squares = np.concatenate([np.zeros(1), np.cumsum((track**2).sum(1))])
    return total[start + frames] - total[start], squares[start + frames] - squares[start]
