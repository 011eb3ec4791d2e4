"""Dancers whose motion is known, and the landmarks a perfect estimator would report of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS, MEAN_OFFSETS, PARENTS
from opendance_hf.pipeline.clip import Landmarks, VideoInfo
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.schema import Camera

LIMBS = [JOINT_INDEX[name] for name in LIMB_JOINTS]
FEET = [JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]]
WIDTH_PX, HEIGHT_PX = 1280, 720
FOCAL_PX = float(np.hypot(WIDTH_PX, HEIGHT_PX))
VIDEO = VideoInfo(WIDTH_PX, HEIGHT_PX, fps=30.0, duration_s=60.0, has_audio=True)

# Where the points of the face and the heels lie, metres from their joint in its rest frame.
_RIDERS = {
    "nose": ("head", (0.0, 0.04, 0.11)),
    "left_ear": ("head", (0.075, 0.05, 0.0)),
    "right_ear": ("head", (-0.075, 0.05, 0.0)),
    "left_heel": ("left_ankle", (0.01, -0.05, -0.06)),
    "right_heel": ("right_ankle", (-0.01, -0.05, -0.06)),
}
_SAME = {
    f"{side}_{landmark}": f"{side}_{joint}"
    for side in ("left", "right")
    for landmark, joint in (
        *((part, part) for part in ("hip", "knee", "ankle", "shoulder", "elbow", "wrist")),
        ("foot_index", "foot"),
        *((finger, "hand") for finger in ("index", "pinky", "thumb")),
    )
}


@dataclass
class Truth:
    """What really happened: D dancers, T frames, in a world whose ground is y = 0."""

    times_s: np.ndarray
    poses: np.ndarray
    transl: np.ndarray
    rest_offsets: np.ndarray
    joints: np.ndarray
    camera: Camera


def camera_at(
    height_m: float = 1.2, distance_m: float = 4.5, pitch_deg: float = 0.0, roll_deg: float = 0.0
) -> Camera:
    """A camera in front of the origin, ``pitch_deg`` turned down; positive roll makes the vertical lean to the right."""
    rotation = (
        Rotation.from_euler("z", roll_deg, degrees=True)
        * Rotation.from_euler("x", pitch_deg, degrees=True)
        * Rotation.from_euler("x", np.pi)
    ).as_matrix()
    translation = -rotation @ np.array([0.0, height_m, distance_m])
    return Camera(WIDTH_PX, HEIGHT_PX, FOCAL_PX, tuple(rotation.ravel()), tuple(translation))


def dance(
    seed: int = 0,
    frames: int = 90,
    fps: float = 30.0,
    *,
    place: tuple[float, float] = (0.0, 0.0),
    facing_deg: float = 0.0,
    size: float = 1.05,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Poses (T, 24, 3), translation (T, 3) and skeleton (24, 3) of a dancer who steps on the spot.

    One foot always stands still on the ground: the right one while the left leg swings, then the left one.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(frames) / fps
    poses = np.zeros((frames, 24, 3))

    def swing(low: float, high: float) -> np.ndarray:
        rate, phase = rng.uniform(0.4, 0.9), rng.uniform(0, 2 * np.pi)
        return low + (high - low) * (0.5 + 0.5 * np.sin(2 * np.pi * rate * time + phase))

    def set_joint(name: str, *angles: np.ndarray | float) -> None:
        turn = Rotation.from_euler("yxz", np.stack(np.broadcast_arrays(*angles, time)[:3], axis=-1))
        poses[:, JOINT_INDEX[name]] = turn.as_rotvec()

    set_joint("pelvis", np.deg2rad(facing_deg) + swing(-0.4, 0.4), swing(-0.05, 0.1), swing(-0.1, 0.1))
    set_joint("spine2", swing(-0.2, 0.2), swing(0, 0.2), swing(-0.1, 0.1))
    set_joint("neck", swing(-0.3, 0.3), swing(-0.1, 0.1), 0.0)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        set_joint(f"{side}_shoulder", sign * swing(-0.8, 0.2), 0.0, sign * swing(-1.2, 0.4))
        set_joint(f"{side}_elbow", -sign * swing(0.3, 1.6), 0.0, 0.0)
    knee = swing(0.2, 0.6)
    half = frames // 2
    lift = {"left": np.zeros(frames), "right": np.zeros(frames)}
    lift["left"][:half] = np.sin(np.pi * np.arange(half) / half) ** 2
    lift["right"][half:] = np.sin(np.pi * np.arange(frames - half) / (frames - half)) ** 2
    for side, up in lift.items():
        set_joint(f"{side}_hip", 0.0, -knee / 2 - 0.7 * up, 0.0)
        set_joint(f"{side}_knee", 0.0, knee + 0.9 * up, 0.0)
        set_joint(f"{side}_ankle", 0.0, -knee / 2 - 0.2 * up, 0.0)

    offsets = MEAN_OFFSETS.astype(np.float64) * size
    for name in ("left_knee", "right_knee", "left_ankle", "right_ankle"):
        offsets[JOINT_INDEX[name]] *= 1.04
    feet = forward_kinematics(poses, np.zeros((frames, 3)), offsets)[:, FEET]
    transl = -feet[:, 1]
    transl[half:] = transl[half - 1] + feet[half - 1, 0] - feet[half:, 0]
    return poses, transl + np.array([place[0], 0.0, place[1]]), offsets


def together(
    dancers: list[tuple[np.ndarray, np.ndarray, np.ndarray]], camera: Camera, fps: float = 30.0
) -> Truth:
    """Dancers of the same length before one camera, each standing on the ground."""
    poses, transl, offsets = (np.stack(values) for values in zip(*dancers, strict=True))
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return Truth(np.arange(poses.shape[1]) / fps, poses, transl, offsets, joints, camera)


def view_of(points: np.ndarray, camera: Camera) -> np.ndarray:
    """World points in the camera's own frame, metres: x right, y up, z towards the camera."""
    rotation = np.asarray(camera.rotation).reshape(3, 3)
    return (points @ rotation.T + np.asarray(camera.translation)) * (1, -1, -1)


def landmarks_of(truth: Truth, noise_m: float = 0.0, seed: int = 0) -> Landmarks:
    """What a perfect estimator reports, with normal noise on the points in metres (and its like in pixels)."""
    rng = np.random.default_rng(seed)
    turned = _global_rotations(truth.poses)
    points = np.empty((*truth.joints.shape[:2], len(LANDMARK_INDEX), 3))
    for name, index in LANDMARK_INDEX.items():
        joint, offset = _RIDERS.get(name, (_SAME.get(name, "head"), (0.0, 0.0, 0.0)))
        number = JOINT_INDEX[joint]
        points[:, :, index] = truth.joints[:, :, number] + turned[:, :, number] @ np.asarray(offset)
    noisy = points + rng.normal(0, noise_m, points.shape)
    image = truth.camera.project(noisy)
    view = view_of(points + rng.normal(0, noise_m, points.shape), truth.camera)
    hips = view[:, :, [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]].mean(axis=2, keepdims=True)
    world = view - hips
    # The estimator sees a crop, and answers as if the camera looked straight at the person in it.
    rays = hips[:, :, 0] / np.linalg.norm(hips[:, :, 0], axis=-1, keepdims=True)
    for d, t in np.ndindex(world.shape[:2]):
        axis = np.cross((0.0, 0.0, -1.0), rays[d, t])
        sin = np.linalg.norm(axis)
        turn = Rotation.from_rotvec(axis / max(sin, 1e-12) * np.arctan2(sin, -rays[d, t, 2]))
        world[d, t] = turn.inv().apply(world[d, t])
    return Landmarks(
        times_s=truth.times_s,
        image=image.astype(np.float32),
        world=world.astype(np.float32),
        visibility=np.ones(points.shape[:3], np.float32),
        regions_px=np.full(points.shape[:2], 500, np.float32),
    )


def _global_rotations(poses: np.ndarray) -> np.ndarray:
    local = axis_angle_to_matrix(poses)
    turned = local.copy()
    for joint, parent in enumerate(PARENTS[1:], start=1):
        turned[..., joint, :, :] = turned[..., parent, :, :] @ local[..., joint, :, :]
    return turned
