"""Measure how far ``joint_confidence`` tells joints with large errors from those with small ones, on clips whose truth is known.

    python -m benchmarks.joint_confidence BUILD TRUTH

BUILD is the build folder and TRUTH the folder of truths that ``python -m benchmarks.pipeline_truth development`` writes.
Prints the mean error of the joints of each quarter, from the lowest confidence to the highest, and rank correlations
(Spearman): over all joints of all clips, and the mean of those of single joints over time. As a control, the confidence of
every joint is shuffled over time, which keeps what distinguishes joints and clips.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.console import Console

from benchmarks.known_motion import dancers_of
from opendance_hf.motion.procrustes import procrustes_distances
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.score import joints_at, match_dancers
from opendance_hf.synthetic.truth import Truth

Array = npt.NDArray[np.floating]


@dataclass(frozen=True)
class Judged:
    """Confidence and errors of the joints of one sequence, (D, T, J), the errors in millimetres."""

    confidence: Array
    error_mm: Array


def judge(truth: Truth, seq: DanceSequence) -> Judged:
    """Return the confidence and the error of every joint after the best rotation, scale and shift of its pose.

    Raises:
        ValueError: if the sequence has no confidence of joints.
    """
    if seq.joint_confidence is None:
        raise ValueError(f"sequence {seq.id!r} has no joint_confidence: build it again")
    inside, found = joints_at(seq, truth)
    true = truth.joints[:, inside]
    order = list(match_dancers(found, seq.provenance.camera, true, truth.camera).order)
    rows = [JOINT_INDEX[name] for name in truth.names]
    clock = seq.provenance.start_s + np.arange(seq.num_frames) / FPS
    nearest = np.abs(truth.times_s[inside][:, None] - clock).argmin(axis=1)
    confidence = per_dancer(seq.joint_confidence, seq.num_dancers, NUM_JOINTS)[order][:, nearest][:, :, rows]
    return Judged(confidence, 1000 * procrustes_distances(found[order], true))


def scores(judged: list[Judged], seed: int = 0) -> dict[str, Any]:
    """Return the numbers that the module describes."""
    rng = np.random.default_rng(seed)
    shuffled = [Judged(rng.permuted(one.confidence, axis=1), one.error_mm) for one in judged]
    confidence = np.concatenate([one.confidence.ravel() for one in judged])
    error_mm = np.concatenate([one.error_mm.ravel() for one in judged])
    quarters = np.array_split(error_mm[np.argsort(confidence, kind="stable")], 4)
    return {
        "joints": len(error_mm),
        "mean_confidence": float(confidence.mean()),
        "mean_error_mm": float(error_mm.mean()),
        "quarters_mm": [float(quarter.mean()) for quarter in quarters],
        "correlation": _pooled(judged),
        "shuffled_correlation": _pooled(shuffled),
        "correlation_over_time": _over_time(judged),
        "shuffled_correlation_over_time": _over_time(shuffled),
    }


def _pooled(judged: list[Judged]) -> float:
    confidence, error = (
        np.concatenate([getattr(one, name).ravel() for one in judged]) for name in ("confidence", "error_mm")
    )
    return _rank_correlation(confidence, error)


def _over_time(judged: list[Judged]) -> float:
    """Return the mean rank correlation of single joints of single dancers; joints of constant confidence are left out."""
    tracks = [
        (confidence, error)
        for one in judged
        for confidence, error in zip(
            np.moveaxis(one.confidence, 1, -1).reshape(-1, one.confidence.shape[1]),
            np.moveaxis(one.error_mm, 1, -1).reshape(-1, one.error_mm.shape[1]),
            strict=True,
        )
        if np.ptp(confidence) > 0
    ]
    return float(np.mean([_rank_correlation(*track) for track in tracks]))


def _rank_correlation(a: Array, b: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=Path, help="build folder")
    parser.add_argument("truth", type=Path, help="folder of *.truth.npz")
    arguments = parser.parse_args()
    truths = {truth.video_sha256: truth for truth in map(Truth.load, arguments.truth.glob("*.truth.npz"))}
    judged = []
    for path in sorted((arguments.build / "sequences").glob("*.npz")):
        seq = load_sequence(path)
        truth = truths.get(seq.provenance.source_sha256)
        if truth is not None and seq.num_dancers >= len(truth.joints):
            judged.append(judge(truth, dancers_of(truth, seq)))
    console = Console(soft_wrap=True)
    for name, value in scores(judged).items():
        values = value if isinstance(value, list) else [value]
        console.print(
            f"{name:32}" + "  ".join(f"{number:.3f}" if number % 1 else f"{number}" for number in values)
        )


if __name__ == "__main__":
    main()
