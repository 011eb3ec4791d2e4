"""Write the files that GVHMR, WHAM and PHALP would leave of dancers whose motion is known."""

from __future__ import annotations

from pathlib import Path

import joblib
import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats.body import REST_PELVIS
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.schema import Camera
from tests.pipeline.truth import FEET, Truth, dance, together

#: Time of a step, seconds, and height of a resting toe joint, metres.
STEP_S, TOE_M = 0.6, 0.025


def dancers_before(camera: Camera, frames: int, count: int, fps: float = 30.0) -> Truth:
    """Dancers of the mean skeleton, 0.9 m apart and one nearer than the other, who step on the spot."""
    out = []
    for number in range(count):
        poses, _, _ = dance(number, frames, fps, facing_deg=20 - 40 * number)
        step, share = np.divmod(np.arange(frames) / fps / STEP_S + 0.5 * number, 1)
        for side, foot in (("left", 0), ("right", 1)):
            up = np.where(step % 2 == foot, np.sin(np.pi * share) ** 2, 0.0)
            for joint, bend in (
                ("hip", -0.2 - 0.6 * up),
                ("knee", 0.4 + 0.8 * up),
                ("ankle", -0.2 - 0.2 * up),
            ):
                poses[:, JOINT_INDEX[f"{side}_{joint}"]] = bend[:, None] * [1, 0, 0]
        offsets = MEAN_OFFSETS.astype(np.float64)
        feet = forward_kinematics(poses, np.zeros((frames, 3)), offsets)[:, FEET]
        transl = np.zeros((frames, 3))
        for frame in range(1, frames):
            rest = 1 - int(step[frame]) % 2
            transl[frame] = transl[frame - 1] + feet[frame - 1, rest] - feet[frame, rest]
        transl -= transl.mean(axis=0)
        transl[:, 1] = TOE_M - feet[..., 1].min(axis=1)
        x = 0.9 * (number - (count - 1) / 2)
        out.append((poses, transl + np.array([x, 0, 0.4 * number]), offsets))
    return together(out, camera, fps)


def in_camera(truth: Truth) -> tuple[np.ndarray, np.ndarray]:
    """(D, T, 24, 3) poses with the root relative to the camera, and (D, T, 3) pelvis in the camera frame."""
    rotation = np.asarray(truth.camera.rotation).reshape(3, 3)
    poses = truth.poses.copy()
    for root in poses[:, :, 0]:
        root[:] = (Rotation.from_matrix(rotation) * Rotation.from_rotvec(root)).as_rotvec()
    return poses, truth.joints[:, :, 0] @ rotation.T + np.asarray(truth.camera.translation)


def write_gvhmr(truth: Truth, path: Path) -> None:
    """The first dancer."""
    import torch

    poses, pelvis = (torch.tensor(values[0], dtype=torch.float32) for values in in_camera(truth))
    body = {
        "global_orient": poses[:, 0],
        "body_pose": poses[:, 1:22].reshape(-1, 63),
        "transl": pelvis - torch.tensor(REST_PELVIS["smplx"]),
        "betas": torch.zeros(len(poses), 10),
    }
    camera = truth.camera
    matrix = torch.tensor(
        [[camera.focal_px, 0, camera.width_px / 2], [0, camera.focal_px, camera.height_px / 2], [0, 0, 1]]
    )
    torch.save({"smpl_params_incam": body, "K_fullimg": matrix.repeat(len(poses), 1, 1)}, path)


def write_wham(truth: Truth, path: Path) -> None:
    """All dancers; the camera's focal length has to be the diagonal of the picture."""
    poses, pelvis = in_camera(truth)
    people = {
        number: {
            "pose": pose.reshape(-1, 72).astype(np.float32),
            "trans": (place - REST_PELVIS["smpl"]).astype(np.float32),
            "pose_world": np.zeros((len(pose), 72), np.float32),
            "trans_world": np.zeros((len(pose), 3), np.float32),
            "frame_ids": np.arange(len(pose)),
        }
        for number, (pose, place) in enumerate(zip(poses, pelvis, strict=True))
    }
    joblib.dump(people, path)


def write_phalp(truth: Truth, path: Path) -> None:
    """All dancers, turned as a crop shows them, and as far away as a long lens needs; their order changes."""
    poses, pelvis = in_camera(truth)
    camera = truth.camera
    longer = 5000 / 256 * max(camera.width_px, camera.height_px) / camera.focal_px
    content = {}
    for frame in range(poses.shape[1]):
        people = []
        for number in (0, 1)[: len(poses)] if frame % 5 else (1, 0)[-len(poses) :]:
            place = pelvis[number, frame]
            ray = Rotation.align_vectors(place[None], np.array([[0.0, 0.0, 1.0]]))[0]
            turns = Rotation.from_rotvec(poses[number, frame]).as_matrix()
            turns[0] = ray.inv().as_matrix() @ turns[0]
            people.append(
                {
                    "tid": number + 3,
                    "tracked_time": 0,
                    "size": [camera.height_px, camera.width_px],
                    "smpl": {"global_orient": turns[:1], "body_pose": turns[1:]},
                    "camera": (place * [1, 1, longer] - REST_PELVIS["smpl"]).astype(np.float32),
                }
            )
        keys = ("tid", "tracked_time", "size", "smpl", "camera")
        content[f"img/{frame + 1:06d}.jpg"] = {"time": frame, **{k: [p[k] for p in people] for k in keys}}
    joblib.dump(content, path, compress=3)
