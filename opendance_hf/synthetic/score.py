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

from opendance_hf.motion.procrustes import constant_pose_error, procrustes_error
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.schema import FPS, Camera, DanceSequence, per_dancer
from opendance_hf.synthetic.filming import tilt_of

if TYPE_CHECKING:
    from opendance_hf.pipeline.clip import Landmarks
    from opendance_hf.synthetic.truth import Truth

Array = npt.NDArray[np.floating]

_ACCELERATION_HZ: Final = 30.0
_MAX_DELAY_S: Final = 0.1
#: An order of dancers fits clearly better than another when its distance is smaller by this share.
_CLEARLY: Final = 0.5


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
        raw_..., constant_...: the same measures of the estimator's landmarks, before smoothing and fitting, and of the
            best pose that never changes. Neither has a path.
        foot_slide_cmps: mean speed along the floor of ankles while their foot is planted in truth; true_...: of the
            true ankles, which roll over the foot.
        start_error_s: when the first sequence begins less when the dance does; end_error_s: when the last one ends.
        coverage: share of the dance that was published with the right number of dancers.
        identity_swaps: how often the dancers change places by mistake.
        distance_error_mm: mean error of the distance along the floor between every two dancers.
        roll_error_deg: mean error of the camera's roll; pitch_error_deg: of its pitch.
        clock_error_ms: largest distance of a source frame's time from a time that was rendered.
        delay_ms: how much later than the truth the published motion fits it best; as uncertain as the poses.
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
    raw_mpjpe_mm: float | None
    raw_accel_error_mm: float | None
    raw_facing_error_deg: float | None
    constant_mpjpe_mm: float
    constant_accel_error_mm: float
    constant_facing_error_deg: float
    foot_slide_cmps: float | None
    true_foot_slide_cmps: float | None
    start_error_s: float | None
    end_error_s: float | None
    coverage: float
    identity_swaps: int | None
    distance_error_mm: float | None
    roll_error_deg: float | None
    pitch_error_deg: float | None
    clock_error_ms: float | None
    delay_ms: float | None
    seed: int

    def row(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Match:
    """Which dancer of a sequence is which of the truth: ``order[d]`` is the sequence's row for true dancer d.

    ``swapped`` is the share of frames in which another order fits the picture better; ``swaps`` counts how often the
    better order changes, where it is clearly better.
    """

    order: tuple[int, ...]
    swapped: float
    swaps: int


def score_build(build: Path, truth_folder: Path) -> list[Score]:
    """Scores of all clips whose truth lies in a folder, from the sequences and landmarks of a build."""
    from opendance_hf.pipeline.cache import latest_results
    from opendance_hf.storage import load_sequence
    from opendance_hf.synthetic.truth import Truth

    sequences = [load_sequence(path) for path in sorted((build / "sequences").glob("*.npz"))]
    out = []
    for path in sorted(truth_folder.glob("*.truth.npz")):
        truth = Truth.load(path)
        mine = [seq for seq in sequences if seq.provenance.source_sha256 == truth.video_sha256]
        found = [clip.landmarks for clip in latest_results(build, truth.video_sha256, "pose")]
        out.append(score_clip(truth, mine, found))
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
    spans = [(seq.provenance.start_s, seq.provenance.end_s) for seq in usable]
    covered = sum(max(0.0, min(b, truth.end_s) - max(a, truth.start_s)) for a, b in spans)
    constant = [constant_pose_scores(truth, dancer) for dancer in range(dancers)]
    return Score(
        name=truth.name,
        dancers=dancers,
        mpjpe_mm=mean("mpjpe"),
        pa_mpjpe_mm=mean("pa_mpjpe"),
        raw_pa_mpjpe_mm=mean("raw"),
        constant_pa_mpjpe_mm=1000 * float(np.mean([constant_pose_error(joints) for joints in truth.joints])),
        raw_mpjpe_mm=mean("raw_mpjpe"),
        raw_accel_error_mm=mean("raw_accel"),
        raw_facing_error_deg=mean("raw_facing"),
        constant_mpjpe_mm=float(np.mean([row["mpjpe"] for row in constant])),
        constant_accel_error_mm=float(np.mean([row["accel"] for row in constant])),
        constant_facing_error_deg=float(np.mean([row["facing"] for row in constant])),
        foot_slide_cmps=mean("slide"),
        true_foot_slide_cmps=mean("true_slide"),
        start_error_s=min(a for a, _ in spans) - truth.start_s if spans else None,
        end_error_s=max(b for _, b in spans) - truth.end_s if spans else None,
        coverage=covered / (truth.end_s - truth.start_s),
        identity_swaps=sum(int(part["swaps"]) for _, part in parts) if parts and dancers > 1 else None,
        distance_error_mm=mean("distance") if dancers > 1 else None,
        roll_error_deg=mean("roll"),
        pitch_error_deg=mean("pitch"),
        seed=truth.seed,
        clock_error_ms=_clock_error(truth, landmarks) if parts else None,
        delay_ms=mean("delay"),
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
    times = truth.times_s[inside]
    raw, raw_times = _raw_joints(truth, inside, landmarks, match)
    out = {
        **_pose_scores(found, true, times),
        "root": 1000 * float(np.linalg.norm(_on_floor(root, true_root) - true_root, axis=-1).mean()),
        "slide": 100 * _slide(found, truth, inside),
        "true_slide": 100 * _slide(true, truth, inside),
        "swaps": match.swaps,
        "delay": 1000 * _delay(seq, truth, match),
    }
    tilts = [
        (math.nan, math.nan) if camera is None else tilt_of(camera)
        for camera in (seq.provenance.camera, truth.camera)
    ]
    out |= {name: abs(math.degrees(tilts[0][k] - tilts[1][k])) for k, name in enumerate(("pitch", "roll"))}
    if len(found) > 1:
        a, b = np.triu_indices(len(found), 1)
        gap, true_gap = (np.linalg.norm((r[a] - r[b])[..., [0, 2]], axis=-1) for r in (root, true_root))
        out["distance"] = 1000 * float(np.abs(gap - true_gap).mean())
    out |= {"raw": math.nan, "raw_mpjpe": math.nan, "raw_accel": math.nan, "raw_facing": math.nan}
    if raw.shape[1]:
        at = np.abs(raw_times[:, None] - times).argmin(axis=1)
        scores = _pose_scores(raw, true[:, at], raw_times)
        out |= {"raw": scores.pop("pa_mpjpe"), **{f"raw_{key}": value for key, value in scores.items()}}
    return int(inside.sum()), out


def _pose_scores(found: Array, true: Array, times_s: Array) -> dict[str, float]:
    """Errors of (D, T, J, 3) poses in one heading: mpjpe, pa_mpjpe and accel in millimetres, facing in degrees."""
    own, own_true = (joints - hip_middle(joints)[:, :, None] for joints in (found, true))
    bend = acceleration(own, times_s) - acceleration(own_true, times_s)
    turned = facing(found) - facing(true)
    return {
        "mpjpe": 1000 * float(np.linalg.norm(own - own_true, axis=-1).mean()),
        "pa_mpjpe": 1000 * float(procrustes_error(found, true).mean()),
        "accel": 1000 / _ACCELERATION_HZ**2 * float(np.linalg.norm(bend, axis=-1).mean()),
        "facing": float(np.degrees(np.median(np.abs((turned + np.pi) % (2 * np.pi) - np.pi)))),
    }


def constant_pose_scores(truth: Truth, dancer: int) -> dict[str, float]:
    """Errors of the mean pose, held still and facing the usual way."""
    true = truth.joints[dancer : dancer + 1] @ heading(truth.camera).T
    own = true - hip_middle(true)[:, :, None]
    return _pose_scores(np.broadcast_to(own.mean(axis=1, keepdims=True), own.shape), true, truth.times_s)


def acceleration(path: Array, times_s: Array) -> Array:
    """(D, T-2, ...) second derivative of (D, T, ...) over even or uneven times."""
    step = np.diff(times_s).reshape(1, -1, *[1] * (path.ndim - 2))
    pace = np.diff(path, axis=1) / step
    return np.asarray(2 * np.diff(pace, axis=1) / (step[:, 1:] + step[:, :-1]))


def _slide(joints: Array, truth: Truth, inside: npt.NDArray[np.bool_]) -> float:
    """Mean speed along the floor of ankles whose foot is planted in truth, metres per second; NaN if none is."""
    ankles = joints[:, :, [truth.names.index("left_ankle"), truth.names.index("right_ankle")]]
    step = np.diff(truth.times_s[inside])[:, None]
    pace = np.linalg.norm(np.diff(ankles[..., [0, 2]], axis=1), axis=-1) / step
    planted = truth.planted[:, inside]
    both = planted[:, 1:] & planted[:, :-1]
    return float(pace[both].mean()) if both.any() else math.nan


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


def _clock_error(truth: Truth, landmarks: list[Landmarks]) -> float | None:
    """Milliseconds; None without a frame."""
    gaps = [np.abs(found.times_s[:, None] - truth.times_s).min(axis=1).max() for found in landmarks]
    return 1000 * float(max(gaps)) if gaps else None


def _delay(seq: DanceSequence, truth: Truth, match: Match) -> float:
    """Seconds by which a sequence is late: where the poses, less their means, fit the true ones best."""
    clock = seq.provenance.start_s + np.arange(seq.num_frames) / FPS
    rows = [JOINT_INDEX[name] for name in truth.names]
    joints = per_dancer(seq.joints.astype(np.float64), seq.num_dancers, NUM_JOINTS, 3)[list(match.order)][
        :, :, rows
    ]
    if seq.provenance.camera is not None:
        joints = joints @ heading(seq.provenance.camera).T
    own = joints - hip_middle(joints)[:, :, None]
    flat = np.moveaxis(own, 1, 0).reshape(seq.num_frames, -1)
    inside = (truth.times_s >= clock[0] + _MAX_DELAY_S) & (truth.times_s <= clock[-1] - _MAX_DELAY_S)
    true = truth.joints[:, inside] @ heading(truth.camera).T
    goal = np.moveaxis(true - hip_middle(true)[:, :, None], 1, 0).reshape(int(inside.sum()), -1)
    if len(goal) < 3:
        return math.nan
    goal = goal - goal.mean(axis=0)
    delays = np.linspace(-_MAX_DELAY_S, _MAX_DELAY_S, 41)
    cost = []
    for delay in delays:
        moved = np.stack(
            [np.interp(truth.times_s[inside] + delay, clock, column) for column in flat.T], axis=1
        )
        cost.append(float(np.square(moved - moved.mean(axis=0) - goal).mean()))
    best = int(np.clip(np.argmin(cost), 1, len(delays) - 2))
    a, b, c = cost[best - 1 : best + 2]
    bend = a - 2 * b + c
    return float(delays[best] + (delays[1] - delays[0]) * (0.5 * (a - c) / bend if bend > 0 else 0.0))


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
    here = np.argmin(cost, axis=0)
    ranked = np.sort(cost, axis=0)
    clear = here if len(orders) == 1 else here[ranked[1] - ranked[0] > _CLEARLY * ranked[1]]
    return Match(orders[best], float((here != best).mean()), int((np.diff(clear) != 0).sum()))


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


def _raw_joints(
    truth: Truth,
    inside: npt.NDArray[np.bool_],
    landmarks: list[Landmarks],
    match: Match,
) -> tuple[Array, Array]:
    """(D, N, 14, 3) of the estimator's landmarks in the frames compared, and their times.

    The estimator knows nothing of the camera's tilt; they are turned upright with the true one.
    """
    parts: list[Array] = [np.zeros((len(truth.joints), 0, len(truth.names), 3))]
    times: list[Array] = [np.zeros(0)]
    for found in landmarks:
        if len(found.world) != len(truth.joints):
            continue
        gap = np.abs(found.times_s[:, None] - truth.times_s[inside]).min(axis=1, initial=math.inf)
        near = gap < 0.5 * float(np.diff(truth.times_s).min())
        parts.append(landmark_joints(found.world[:, near].astype(np.float64), truth.names)[list(match.order)])
        times.append(found.times_s[near])
    upright = (
        heading(truth.camera) @ np.asarray(truth.camera.rotation).reshape(3, 3).T @ np.diag([1.0, -1, -1])
    )
    return np.concatenate(parts, axis=1) @ upright.T, np.concatenate(times)


def landmark_joints(world: Array, names: tuple[str, ...]) -> Array:
    """(..., 33, 3) BlazePose landmarks to (..., J, 3) joints."""
    from opendance_hf.pipeline.landmarks import LANDMARK_INDEX

    made_of = {"neck": ("left_shoulder", "right_shoulder"), "head": ("left_ear", "right_ear")}
    rows = [[LANDMARK_INDEX[mark] for mark in made_of.get(name, (name,))] for name in names]
    return np.stack([world[..., row, :].mean(axis=-2) for row in rows], axis=-2)
