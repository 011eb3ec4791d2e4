"""How far published poses are from the truth of a synthetic clip.

Both are compared in one frame: y up, metres, -z the way the camera looks (its heading only; what a pipeline takes for
upright is its own doing). Nothing is fitted to the clip but what a measure's name says.

The joints are hips, knees, ankles, shoulders, elbows, wrists, neck and head. Truth has the bone heads of the drawn
body's rig, a sequence those of the SMPL skeleton, the raw estimator its own landmarks (neck: the middle of the
shoulders; head: the middle of the ears). These definitions differ by centimetres, most at hips, neck and head; the
difference is part of every error below.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.schema import FPS, Camera, DanceSequence, per_dancer

if TYPE_CHECKING:
    from opendance_hf.pipeline.stages.pose import Landmarks
    from opendance_hf.synthetic.clips import Truth

Array = npt.NDArray[np.floating]

_ACCELERATION_HZ: Final = 30.0


@dataclass(frozen=True)
class Score:
    """Errors of one clip, in millimetres unless the name says otherwise; None where there is nothing to score.

    Attributes:
        mpjpe_mm: mean joint distance with the middles of the hips moved onto each other, frame by frame.
        pa_mpjpe_mm: mean joint distance after the best rotation, scale and shift of every frame.
        raw_pa_mpjpe_mm: the same of the estimator's landmarks, before smoothing and fitting.
        constant_pa_mpjpe_mm: the same of the best pose that never changes.
        accel_error_mm: mean distance of second differences, root-relative, mm per frame squared at 30 frames a second.
        facing_error_deg: median difference of the hips' heading.
        root_path_error_mm: mean distance of the middles of the hips after one turn and shift on the floor, for all
            dancers together.
        mean_joint_speed_mps: of the truth.
    """

    name: str
    dancers: int
    mpjpe_mm: float | None
    pa_mpjpe_mm: float | None
    raw_pa_mpjpe_mm: float | None
    constant_pa_mpjpe_mm: float
    accel_error_mm: float | None
    facing_error_deg: float | None
    root_path_error_mm: float | None
    mean_joint_speed_mps: float

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Match:
    """Which dancer of a sequence is which of the truth: ``order[d]`` is the sequence's row for true dancer d.

    ``swapped`` is the share of frames in which another order fits the picture better.
    """

    order: tuple[int, ...]
    swapped: float


def score_build(build: Path, truth_folder: Path) -> list[Score]:
    """Scores of all clips whose truth lies in a folder, from the sequences and landmarks of a build."""
    from opendance_hf.pipeline.stages.pose import Landmarks
    from opendance_hf.storage import load_sequence
    from opendance_hf.synthetic.clips import Truth

    sequences = [load_sequence(path) for path in sorted((build / "sequences").glob("*.npz"))]
    out = []
    for path in sorted(truth_folder.glob("*.truth.npz")):
        truth = Truth.load(path)
        mine = [seq for seq in sequences if seq.provenance.source_sha256 == truth.video_sha256]
        kept = sorted((build / "work").glob(f"*/{truth.video_sha256[:16]}/landmarks_*.npz"))
        out.append(score_clip(truth, mine, [Landmarks.load(file) for file in kept]))
    return out


def score_clip(truth: Truth, sequences: list[DanceSequence], landmarks: list[Landmarks]) -> Score:
    """The score of a clip from the sequences made of it; those with other numbers of dancers are left out."""
    dancers = len(truth.joints)
    usable = [seq for seq in sequences if seq.num_dancers == dancers]
    parts = [_score_sequence(truth, seq, landmarks) for seq in usable]
    frames = np.array([weight for weight, _ in parts])

    def mean(key: str) -> float | None:
        values = [part[key] for _, part in parts]
        return (
            float(np.average(values, weights=frames)) if values and all(map(math.isfinite, values)) else None
        )

    step = np.linalg.norm(np.diff(truth.joints, axis=1), axis=-1)
    return Score(
        name=truth.name,
        dancers=dancers,
        mpjpe_mm=mean("mpjpe"),
        pa_mpjpe_mm=mean("pa_mpjpe"),
        raw_pa_mpjpe_mm=mean("raw"),
        constant_pa_mpjpe_mm=1000 * float(np.mean([constant_pose_error(joints) for joints in truth.joints])),
        accel_error_mm=mean("accel"),
        facing_error_deg=mean("facing"),
        root_path_error_mm=mean("root"),
        mean_joint_speed_mps=float((step / np.diff(truth.times_s)[:, None]).mean()),
    )


def _score_sequence(
    truth: Truth, seq: DanceSequence, landmarks: list[Landmarks]
) -> tuple[int, dict[str, float]]:
    """The number of frames compared, and the errors over them."""
    inside, found = joints_at(seq, truth)
    true = truth.joints[:, inside]
    match = match_dancers(found, seq.provenance.camera, true, truth.camera)
    found = found[list(match.order)]
    if seq.provenance.camera is not None:
        found = found @ heading(seq.provenance.camera).T
    true = true @ heading(truth.camera).T
    root, true_root = hip_middle(found), hip_middle(true)
    own, own_true = found - root[:, :, None], true - true_root[:, :, None]
    rate = (truth.fps / _ACCELERATION_HZ) ** 2
    bend = np.diff(own, 2, axis=1) - np.diff(own_true, 2, axis=1)
    turned = facing(found) - facing(true)
    return int(inside.sum()), {
        "mpjpe": 1000 * float(np.linalg.norm(own - own_true, axis=-1).mean()),
        "pa_mpjpe": 1000 * float(procrustes_error(found, true).mean()),
        "raw": _raw_error(truth, inside, landmarks, match),
        "accel": 1000 * rate * float(np.linalg.norm(bend, axis=-1).mean()),
        "facing": float(np.degrees(np.median(np.abs((turned + np.pi) % (2 * np.pi) - np.pi)))),
        "root": 1000 * float(np.linalg.norm(_on_floor(root, true_root) - true_root, axis=-1).mean()),
    }


def joints_at(seq: DanceSequence, truth: Truth) -> tuple[npt.NDArray[np.bool_], Array]:
    """Which frames of the truth a sequence covers, (T,), and its joints there, (D, N, 14, 3) metres."""
    clock = seq.provenance.start_s + np.arange(seq.num_frames) / FPS
    inside = (truth.times_s >= clock[0] - 1e-6) & (truth.times_s <= clock[-1] + 1e-6)
    rows = [JOINT_INDEX[name] for name in truth.names]
    joints = per_dancer(seq.joints.astype(np.float64), seq.num_dancers, NUM_JOINTS, 3)[:, :, rows]
    flat = np.moveaxis(joints, 1, 0).reshape(seq.num_frames, -1)
    wanted = truth.times_s[inside]
    sampled = np.stack([np.interp(wanted, clock, column) for column in flat.T], axis=1)
    return inside, np.moveaxis(sampled.reshape(len(wanted), seq.num_dancers, len(rows), 3), 1, 0)


def match_dancers(found: Array, camera: Camera | None, true: Array, true_camera: Camera) -> Match:
    """Pair dancers by where they are in the picture (or in the world, where a sequence has no camera).

    Args:
        found: (D, T, J, 3) joints of a sequence in its world.
        camera: of that world.
        true: (D, T, J, 3).
        true_camera: of that one.
    """
    a = found if camera is None else camera.project(found)
    b = true if camera is None else true_camera.project(true)
    distance = np.linalg.norm(a[:, None] - b[None], axis=-1).mean(axis=-1)  # (found, true, T)
    orders = list(itertools.permutations(range(len(found))))
    cost = np.stack([sum(distance[order[d], d] for d in range(len(true))) for order in orders])
    best = int(np.argmin(cost.mean(axis=1)))
    return Match(orders[best], float((np.argmin(cost, axis=0) != best).mean()))


def heading(camera: Camera) -> Array:
    """(3, 3) turn about y after which the camera looks along -z."""
    ahead = np.asarray(camera.rotation, dtype=np.float64).reshape(3, 3)[2]
    yaw = math.atan2(-ahead[0], -ahead[2])
    cos, sin = math.cos(-yaw), math.sin(-yaw)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def hip_middle(joints: Array) -> Array:
    """(..., 3) the middle of the hips, the first two of the joints."""
    return np.asarray(joints[..., :2, :].mean(axis=-2))


def facing(joints: Array) -> Array:
    """(...) yaw across the hips: 0 towards +z."""
    across = joints[..., 0, :] - joints[..., 1, :]
    return np.arctan2(-across[..., 2], across[..., 0])


def procrustes_error(found: Array, true: Array) -> Array:
    """(...) mean joint distance of (..., J, 3) poses after the best rotation, scale and shift of each."""
    a = found - found.mean(axis=-2, keepdims=True)
    b = true - true.mean(axis=-2, keepdims=True)
    rotation, trace = _best_rotation(a, b)
    scale = trace / np.maximum(np.square(a).sum(axis=(-1, -2)), 1e-12)
    return np.asarray(np.linalg.norm(scale[..., None, None] * (a @ rotation) - b, axis=-1).mean(axis=-1))


def constant_pose_error(joints: Array) -> float:
    """Mean Procrustes error, metres, of the best pose that never changes, for (T, J, 3) joints."""
    centred = joints - joints.mean(axis=-2, keepdims=True)
    pose = centred[0]
    for _ in range(5):
        rotation, _ = _best_rotation(centred, np.broadcast_to(pose, centred.shape))
        pose = (centred @ rotation).mean(axis=0)
    return float(procrustes_error(np.broadcast_to(pose, joints.shape), joints).mean())


def _best_rotation(a: Array, b: Array) -> tuple[Array, Array]:
    """(..., 3, 3) R that brings a @ R closest to b, and the trace that gives the scale."""
    u, s, vt = np.linalg.svd(np.swapaxes(a, -1, -2) @ b)
    sign = np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)
    u[..., 2] *= sign[..., None]
    s[..., 2] *= sign
    return u @ vt, s.sum(axis=-1)


def _on_floor(path: Array, true: Array) -> Array:
    """(D, T, 3) paths after the one turn about y and shift along the floor that bring them closest to the true ones."""
    flat, goal = path[..., [0, 2]].reshape(-1, 2), true[..., [0, 2]].reshape(-1, 2)
    a, b = flat - flat.mean(axis=0), goal - goal.mean(axis=0)
    angle = math.atan2(float((a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()), float((a * b).sum()))
    cos, sin = math.cos(angle), math.sin(angle)
    out = path.copy()
    moved = a @ np.array([[cos, sin], [-sin, cos]]) + goal.mean(axis=0)
    out[..., [0, 2]] = moved.reshape(*path.shape[:2], 2)
    return out


def _raw_error(
    truth: Truth, inside: npt.NDArray[np.bool_], landmarks: list[Landmarks], match: Match
) -> float:
    """Procrustes error of the estimator's landmarks in the frames compared, millimetres; NaN without landmarks."""
    errors = []
    for found in landmarks:
        if len(found.world) != len(truth.joints):
            continue
        at = np.abs(found.times_s[:, None] - truth.times_s[inside]).argmin(axis=0)
        near = np.abs(found.times_s[at] - truth.times_s[inside]) < 0.5 / truth.fps
        raw = landmark_joints(found.world.astype(np.float64), truth.names)[list(match.order)]
        errors.append(procrustes_error(raw[:, at[near]], truth.joints[:, inside][:, near]).ravel())
    return 1000 * float(np.concatenate(errors).mean()) if errors and sum(map(len, errors)) else math.nan


def landmark_joints(world: Array, names: tuple[str, ...]) -> Array:
    """(..., 33, 3) BlazePose landmarks to (..., J, 3) joints."""
    from opendance_hf.pipeline.backends.blazepose import LANDMARK_INDEX

    made_of = {"neck": ("left_shoulder", "right_shoulder"), "head": ("left_ear", "right_ear")}
    rows = [[LANDMARK_INDEX[mark] for mark in made_of.get(name, (name,))] for name in names]
    return np.stack([world[..., row, :].mean(axis=-2) for row in rows], axis=-2)
