"""Build clips whose 3D motion is known, and score what was published, also in the camera's own frame.

Clips lie in ``FOLDER/videos`` and their truth in ``FOLDER/truth``, see :func:`opendance_hf.synthetic.truth.truth_path`.
:mod:`benchmarks.real_truth` and :mod:`benchmarks.ablation` share these functions.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from rich.console import Console

from opendance_hf.apps.build import report_of, run_build
from opendance_hf.motion.procrustes import procrustes_error
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.pipeline.build import BuildOptions
from opendance_hf.pipeline.cache import latest_results
from opendance_hf.pipeline.clip import Landmarks
from opendance_hf.pipeline.pipelines import Pipeline
from opendance_hf.schema import Camera, DanceSequence, flat_dancers, per_dancer
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.filming import tilt_of
from opendance_hf.synthetic.score import hip_middle, joints_at, landmark_joints, match_dancers, score_clip
from opendance_hf.synthetic.truth import Truth, truth_path

Array = npt.NDArray[np.floating]
Row = dict[str, Any]

#: Millimetres per frame squared at 30 frames a second, in metres per second squared.
_MPS2: Final = 30.0**2 / 1000
#: Scores that are None where nothing was published.
SCORES: Final = (
    "pa_mpjpe_mm", "mpjpe_mm", "levelled_mpjpe_mm", "facing_error_deg", "roll_error_deg", "pitch_error_deg",
    "depth_slope", "depth_correlation", "acceleration_error_mps2", "coverage",
)  # fmt: skip


def build_clips(
    videos: Sequence[Path], work: Path, pipeline: Pipeline, workers: int, console: Console
) -> list[Row]:
    """Build the clips in ``work`` and return a row of scores for each, in the order given.

    Stages whose result cannot differ from that of an earlier build in the same folder are not computed again.
    """
    stages = tuple(stage for stage in pipeline if stage.changes_rows)
    page = work / "index.html"
    options = BuildOptions(stages, licence="other", workers=workers)
    result = run_build(videos, work / "dataset", work / "build", page, options, console)
    reasons = {row.name: row.reason for row in report_of(result, page).inputs}
    sequences = [load_sequence(path) for path in sorted((work / "build" / "sequences").glob("*.npz"))]
    rows = []
    for video in videos:
        truth = Truth.load(truth_path(video))
        mine = [seq for seq in sequences if seq.provenance.source_sha256 == truth.video_sha256]
        found = [clip.landmarks for clip in latest_results(result.build, truth.video_sha256, "pose")]
        rows.append({"name": video.stem, **score(truth, mine, found, reasons.get(video.name, ""))})
    return rows


def score(truth: Truth, sequences: list[DanceSequence], landmarks: list[Landmarks], reason: str = "") -> Row:
    """Return the scores of one clip; people whom the truth does not have are left out.

    ``mpjpe_mm`` and the depths are in the frame of the camera, which does not depend on the estimated vertical.
    ``levelled_mpjpe_mm`` and ``facing_error_deg`` are in a world with gravity, in the heading of the camera. The
    estimator's landmarks have neither: their MPJPE is in the frame of the camera.

    Args:
        truth: D dancers.
        sequences: published from the clip, of any number of dancers.
        landmarks: of the stage ``pose``, before smoothing and fitting, also of spans that were not published.
        reason: why nothing was published, or parts were not.
    """
    mine = [dancers_of(truth, seq) for seq in sequences]
    usable = [seq for seq in mine if seq.num_dancers == len(truth.joints)]
    scored = score_clip(truth, usable, [])
    parts = [view_errors(truth, seq) for seq in usable]
    raw = [row for found in landmarks if (row := raw_errors(truth, landmarks_of(truth, found)))]
    values = {
        **dict.fromkeys(SCORES),
        "pa_mpjpe_mm": scored.pa_mpjpe_mm,
        "levelled_mpjpe_mm": scored.mpjpe_mm,
        "facing_error_deg": scored.facing_error_deg,
        "acceleration_error_mps2": None if scored.accel_error_mm is None else _MPS2 * scored.accel_error_mm,
        "coverage": scored.coverage,
        **_weighted(parts, [seq.num_frames for seq in usable]),
        "raw_pa_mpjpe_mm": None,
        "raw_mpjpe_mm": None,
        **_weighted(raw, [row.pop("frames") for row in raw]),
        "constant_pa_mpjpe_mm": scored.constant_pa_mpjpe_mm,
        "constant_levelled_mpjpe_mm": scored.constant_mpjpe_mm,
    }
    return {
        "published": bool(usable),
        "reason": reason,
        "dancers": max((seq.num_dancers for seq in sequences), default=0),
        "sequences": len(sequences),
        **{key: None if value is None else round(value, 3) for key, value in values.items()},
    }


def _weighted(rows: list[dict[str, float]], weights: list[float]) -> dict[str, float]:
    """Return the weighted mean of every value; empty for no rows."""
    names = rows[0] if rows else ()
    return {name: float(np.average([row[name] for row in rows], weights=weights)) for name in names}


def view_errors(truth: Truth, seq: DanceSequence) -> dict[str, float]:
    """Return errors in the frame of the camera, root-relative, and of the camera's own roll and pitch.

    The slope is that of the found depths over the true ones, by least squares: 1 is right, below 1 is too flat.
    """
    inside, found = joints_at(seq, truth)
    true, camera = truth.joints[:, inside], seq.provenance.camera
    assert camera is not None, "the pipeline writes the camera of every sequence"
    found = found[list(match_dancers(found, camera, true, truth.camera).order)]
    found, true = found @ _rotation(camera).T, true @ _rotation(truth.camera).T
    own, own_true = (joints - hip_middle(joints)[..., None, :] for joints in (found, true))
    depth, true_depth = own[..., 2].ravel(), own_true[..., 2].ravel()
    lean, true_lean = camera_lean_deg(camera), camera_lean_deg(truth.camera)
    return {
        "mpjpe_mm": 1000 * float(np.linalg.norm(own - own_true, axis=-1).mean()),
        "depth_slope": float(np.polyfit(true_depth, depth, 1)[0]),
        "depth_correlation": float(np.corrcoef(true_depth, depth)[0, 1]),
        "roll_error_deg": abs((lean[0] - true_lean[0] + 180) % 360 - 180),
        "pitch_error_deg": abs(lean[1] - true_lean[1]),
    }


def raw_errors(truth: Truth, found: Landmarks) -> dict[str, float]:
    """Return the errors of landmarks in millimetres and the number of frames; empty for another number of people."""
    gap = np.abs(found.times_s[:, None] - truth.times_s)
    near = gap.min(axis=1) < 0.5 * float(np.diff(truth.times_s).min())
    if len(found.world) != len(truth.joints) or not near.any():
        return {}
    # The landmarks' y points up and their z towards the camera.
    joints = landmark_joints(found.world[:, near].astype(np.float64), truth.names) * [1.0, -1.0, -1.0]
    true = truth.joints[:, gap.argmin(axis=1)[near]] @ _rotation(truth.camera).T
    own, own_true = (part - hip_middle(part)[..., None, :] for part in (joints, true))
    return {
        "frames": float(near.sum()),
        "raw_pa_mpjpe_mm": 1000 * float(procrustes_error(joints, true).mean()),
        "raw_mpjpe_mm": 1000 * float(np.linalg.norm(own - own_true, axis=-1).mean()),
    }


def camera_lean_deg(camera: Camera) -> tuple[float, float]:
    """Return the roll, by which the world's vertical leans to the right in the image, and the pitch downwards."""
    pitch, roll = tilt_of(camera)
    return math.degrees(roll), math.degrees(pitch)


def dancers_of(truth: Truth, seq: DanceSequence) -> DanceSequence:
    """Return the sequence with only the dancers nearest to the true ones in the picture, where it has more."""
    count, camera = len(truth.joints), seq.provenance.camera
    if seq.num_dancers <= count or camera is None:
        return seq
    inside, found = joints_at(seq, truth)
    rows = nearest(camera.project(found), truth.camera.project(truth.joints[:, inside]))

    def kept(flat: Array, *shape: int) -> Any:
        chosen = per_dancer(flat, seq.num_dancers, *shape)[rows]
        return flat_dancers(chosen) if flat.ndim > 1 else np.ascontiguousarray(chosen.reshape(-1))

    betas = seq.smpl_betas
    return replace(
        seq,
        num_dancers=count,
        joints=kept(seq.joints, 72),
        smpl_pose=kept(seq.smpl_pose, 72),
        smpl_transl=kept(seq.smpl_transl, 3),
        rest_offsets=kept(seq.rest_offsets, 72),
        smpl_betas=None if betas is None else kept(betas, 10),
        confidence=np.ascontiguousarray(seq.confidence[:, rows]),
        joint_confidence=None if seq.joint_confidence is None else kept(seq.joint_confidence, NUM_JOINTS),
    )


def landmarks_of(truth: Truth, found: Landmarks) -> Landmarks:
    """Return the landmarks of only the people nearest to the true dancers in the picture, where there are more."""
    if len(found.world) <= len(truth.joints):
        return found
    at = np.abs(found.times_s[:, None] - truth.times_s).argmin(axis=1)
    image = landmark_joints(found.image.astype(np.float64), truth.names)
    rows = nearest(image, truth.camera.project(truth.joints[:, at]))
    own = ("image", "world", "visibility", "regions_px")
    return replace(found, **{name: getattr(found, name)[rows] for name in own})


def nearest(points: Array, true: Array) -> list[int]:
    """Return the row of (F, T, J, 2) points for each of (D, T, J, 2) true ones, D <= F, nearest on average."""
    distance = np.linalg.norm(points[:, None] - true[None], axis=-1).mean(axis=(-1, -2))
    orders: Iterable[tuple[int, ...]] = itertools.permutations(range(len(points)), len(true))
    return list(min(orders, key=lambda order: sum(distance[row, d] for d, row in enumerate(order))))


def _rotation(camera: Camera) -> Array:
    return np.asarray(camera.rotation, dtype=np.float64).reshape(3, 3)
