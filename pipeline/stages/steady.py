"""Take slow pans, zooms and the shake of a hand out of the landmarks, so that later stages see a camera that stands still."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle, smallest_rotation
from opendance_hf.pipeline.clip import Bodies, CameraPath, Clip, Landmarks, Times, VideoInfo
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.stage import Dropped, Stage

Array = npt.NDArray[np.floating]

_HIPS: Final = [LANDMARK_INDEX["left_hip"], LANDMARK_INDEX["right_hip"]]
#: From the axes of landmarks, y up and z towards the camera, to those of the camera, and back.
_FLIP: Final = np.diag([1.0, -1.0, -1.0])
#: Pelvis of SMPL's neutral body of mean shape relative to its origin; ``transl`` moves that origin.
_SMPL_PELVIS_M: Final = np.array([-0.0018, -0.2233, 0.0282])
#: Angle between the middle of the picture and where most of it is, radians: what zooms out there counts as a turn.
_OFF_AXIS_RAD: Final = 0.25
_TRAVELS: Final = "the camera travels: its movement is not a rotation or zoom"


@dataclass(frozen=True)
class Steady(Stage):
    """Map landmarks to the picture of the first frame, if the camera turns and zooms; drop spans in which it travels.

    Turn and zoom are those of stage ``shots``. Landmarks are unchanged if the camera stands still, if its motion is not
    known, and if its turn and zoom do not explain a small motion, as that of somebody who films while standing among
    near things.

    Attributes:
        min_motion_deg: a camera whose motion is smaller than this in 19 of 20 frames stands still. A zoom counts by the
            motion that it causes halfway between the middle and the corner of the picture.
        min_known: minimum share of frames in which the camera's motion is known.
        parallax_share: share of the frames of which the largest parallax is compared.
        max_parallax_deg: maximum parallax for which turn and zoom explain the motion of the background.
        max_unexplained_deg: maximum motion of the camera that turn and zoom do not explain.
        max_turn_deg: maximum turn from the first frame; beyond the edge of its picture landmarks would be flung away.
    """

    name: ClassVar[str] = "steady"
    reads: ClassVar[tuple[str, ...]] = ("video", "camera_motion", "landmarks")
    writes: ClassVar[tuple[str, ...]] = ("steadied", "scores")
    changes: ClassVar[tuple[str, ...]] = ("landmarks", "bodies")

    min_motion_deg: float = 0.25
    min_known: float = 0.6
    parallax_share: float = 0.2
    max_parallax_deg: float = 0.2
    max_unexplained_deg: float = 5.0
    max_turn_deg: float = 35.0

    def __call__(self, clip: Clip) -> Clip | Dropped:
        """Process one span."""
        path = clip.camera_motion.path
        path = None if path is None else path.between(clip.start_s, clip.end_s)
        if path is None or not self.is_known(path):
            return replace(clip, scores={**clip.scores, **_scores(0.0, 1.0, 0.0)})
        path = relative_path(path, clip.landmarks.times_s)
        parallax = self.parallax(path)
        motion = float(np.quantile(_motion_deg(path), 0.95))
        if motion >= self.min_motion_deg and parallax > self.max_parallax_deg:
            if motion > self.max_unexplained_deg:
                detail = (
                    f"parallax of {parallax:.2f} degrees while the background moves by {motion:.1f}, "
                    f"at most {self.max_parallax_deg:g} allowed"
                )
                return Dropped(clip.start_s, clip.end_s, _TRAVELS, detail)
            motion = 0.0
        turn_deg, _ = path.largest()
        if motion >= self.min_motion_deg and turn_deg > self.max_turn_deg:
            detail = f"{turn_deg:.0f} degrees from the first frame, at most {self.max_turn_deg:g} allowed"
            return Dropped(clip.start_s, clip.end_s, "the camera turns too far", detail)
        if motion < self.min_motion_deg:
            return replace(clip, scores={**clip.scores, **_scores(0.0, 1.0, parallax)})
        return replace(
            clip,
            steadied=path,
            landmarks=steady_landmarks(clip.landmarks, path, clip.video),
            bodies=None if clip.bodies is None else steady_bodies(clip.bodies, path),
            scores={**clip.scores, **_scores(*path.largest(), parallax)},
        )

    def is_known(self, path: CameraPath) -> bool:
        """Return whether turn and zoom are known in enough frames, relative to one and the same frame."""
        known = np.isfinite(path.turns[:, 0])
        enough = len(known) > 0 and known.mean() >= self.min_known
        return bool(enough and len(np.unique(path.parts[known])) == 1)

    def parallax(self, path: CameraPath) -> float:
        """Return the parallax in degrees that is exceeded in ``parallax_share`` of the frames in which it is known."""
        known = path.parallax_deg[np.isfinite(path.parallax_deg)]
        return float(np.quantile(known, 1 - self.parallax_share)) if len(known) else 0.0


def _scores(turn_deg: float, zoom: float, parallax_deg: float) -> dict[str, float]:
    return {"camera_turn_deg": turn_deg, "camera_zoom": zoom, "camera_parallax_deg": parallax_deg}


def relative_path(path: CameraPath, times_s: Times) -> CameraPath:
    """Return a path at other times, relative to the first of them; unknown frames are interpolated linearly.

    Args:
        path: path in which the turn of at least one frame is known; those that are known belong to one part.
        times_s: (T,) times.
    """
    known = np.flatnonzero(np.isfinite(path.turns[:, 0]))
    # Rotation vectors are interpolated near zero, where they are continuous.
    turns = axis_angle_to_matrix(path.turns[known])
    near = matrix_to_axis_angle(turns @ turns[0].T)
    values = np.column_stack([near, np.log(path.zooms[known])]).T
    x, y, z, zoom = (np.interp(times_s, path.times_s[known], row) for row in values)
    turns = axis_angle_to_matrix(np.stack([x, y, z], axis=1))
    nearest = np.searchsorted((path.times_s[1:] + path.times_s[:-1]) / 2, times_s)
    return CameraPath(
        times_s,
        np.asarray(matrix_to_axis_angle(turns @ turns[0].T), dtype=np.float64),
        np.exp(zoom - zoom[0]),
        path.parallax_deg[nearest],
        path.parts[nearest],
        path.focal_ratio,
    )


def _motion_deg(path: CameraPath) -> Array:
    """Return (T,) how far turn and zoom move most of the picture, degrees."""
    turn, zoom = np.linalg.norm(path.turns, axis=1), _OFF_AXIS_RAD * np.abs(np.log(path.zooms))
    return np.degrees(np.maximum(turn, zoom))


def steady_landmarks(found: Landmarks, path: CameraPath, video: VideoInfo) -> Landmarks:
    """Return the landmarks as the camera of the reference frame sees them.

    The landmarks in metres are in the frame of the estimator's crop, in which the ray through the hips is -z: it does not
    depend on where in the picture the person is. So they rotate in the image plane only.

    Args:
        found: landmarks of D dancers in T frames.
        path: turn and zoom of the camera in these frames.
        video: size of the picture.
    """
    centre = np.array([video.width_px, video.height_px]) / 2
    focal_px = path.focal_ratio * video.diagonal_px
    back = np.swapaxes(axis_angle_to_matrix(path.turns), -1, -2)
    zooms = path.zooms[None, :, None, None]

    def rays(image: Array, zooms: Array | float) -> Array:
        """Return (..., 3) directions in the camera frame of (..., 2) pixels."""
        flat = (image - centre) / (focal_px * zooms)
        return np.concatenate([flat, np.ones_like(flat[..., :1])], axis=-1)

    image = found.image.astype(np.float64)
    seen = np.einsum("tij,dtkj->dtki", back, rays(image, zooms))
    steady = seen[..., :2] / seen[..., 2:] * focal_px + centre

    before = rays(image[:, :, _HIPS].mean(axis=2), zooms[..., 0]) @ _FLIP
    after = rays(steady[:, :, _HIPS].mean(axis=2), 1.0) @ _FLIP
    ahead = np.array([0.0, 0.0, -1.0])
    turn = smallest_rotation(after, ahead) @ (_FLIP @ back @ _FLIP) @ smallest_rotation(ahead, before)
    world = np.einsum("dtij,dtkj->dtki", turn, found.world)
    return replace(
        found,
        image=steady.astype(np.float32),
        world=world.astype(np.float32),
        regions_px=(found.regions_px / path.zooms).astype(np.float32),
    )


def steady_bodies(found: Bodies, path: CameraPath) -> Bodies:
    """Return SMPL bodies in the camera frame of the reference frame.

    The estimator assumes one focal length, so a body that is seen larger is estimated nearer. The pelvis moves on the ray of
    the camera; of bodies of other shapes than the mean it is off by the difference of their pelvis, about 2 cm, times the
    turn.
    """
    back = np.swapaxes(axis_angle_to_matrix(path.turns), -1, -2)
    pelvis = found.transl + _SMPL_PELVIS_M
    pelvis = pelvis * np.stack([np.ones_like(path.zooms)] * 2 + [path.zooms], axis=-1)
    rotations = found.rotations.copy()
    rotations[:, :, 0] = back @ rotations[:, :, 0]
    return replace(
        found,
        rotations=rotations.astype(np.float32),
        transl=(np.einsum("tij,dtj->dti", back, pelvis) - _SMPL_PELVIS_M).astype(np.float32),
    )
