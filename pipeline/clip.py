"""Define the clip, one span of one video with the results of the stages so far, and the types of these results.

Clips are immutable: stages return copies (``dataclasses.replace``). A field that no stage has written yet is None. The
pipeline is checked before it starts, so a stage may rely on the fields it reads.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from opendance_hf.motion.skeleton import LIMB_JOINTS
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.schema import FPS, Camera, DanceSequence

Image = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Times = npt.NDArray[np.float64]

_LIMBS = [LANDMARK_INDEX[name] for name in LIMB_JOINTS]
_UNWRITTEN: Any = None


@dataclass(frozen=True)
class VideoInfo:
    """Properties of a video: sizes are as shown, times are seconds from the start of the earliest stream.

    Attributes:
        width_px: width in square pixels, after rotation.
        height_px: height, after rotation.
        fps: frame rate that the file states.
        duration_s: end of the last frame.
        has_audio: True if there is an audio stream.
        music_s: (start, end) of each time with music.
        sound_gaps_s: (start, end) of each time whose sound is missing or cannot be decoded.
        focal_px: focal length that the file states; None if it does not.
    """

    width_px: int
    height_px: int
    fps: float
    duration_s: float
    has_audio: bool
    music_s: tuple[tuple[float, float], ...] = ((0.0, math.inf),)
    sound_gaps_s: tuple[tuple[float, float], ...] = ()
    focal_px: float | None = None

    @property
    def diagonal_px(self) -> float:
        """Diagonal of the picture, the focal length that CLIFF assumes (Li et al. 2022)."""
        return math.hypot(self.width_px, self.height_px)

    @property
    def assumed_focal_px(self) -> float:
        """Focal length that the file states, or the diagonal of the picture."""
        return self.focal_px or self.diagonal_px


@dataclass(frozen=True)
class CameraPath:
    """Hold how the camera turns and zooms, measured from the background in T frames.

    The camera frame has x right, y down and z away from the camera.

    Attributes:
        times_s: (T,) presentation times.
        turns: (T, 3) rotation from the camera frame of a reference frame to that of each frame, as a rotation vector in
            radians; NaN where it is unknown.
        zooms: (T,) focal length relative to the reference frame.
        parallax_deg: (T,) upper quartile of the motion of the background that turn and zoom do not explain, degrees; NaN
            where no background is followed.
        parts: (T,) number of the part of the video; turns and zooms of different parts have different reference frames,
            as the background was lost between them.
        focal_ratio: focal length of a frame with zoom 1, relative to the diagonal of the picture.
    """

    times_s: Times
    turns: Times
    zooms: Times
    parallax_deg: Times
    parts: npt.NDArray[np.int64]
    focal_ratio: float = 1.0

    def between(self, start_s: float, end_s: float) -> CameraPath:
        """Return the frames from ``start_s`` until before ``end_s``."""
        inside = (self.times_s >= start_s - 1e-6) & (self.times_s < end_s - 1e-6)
        return CameraPath(
            self.times_s[inside],
            self.turns[inside],
            self.zooms[inside],
            self.parallax_deg[inside],
            self.parts[inside],
            self.focal_ratio,
        )

    def largest(self) -> tuple[float, float]:
        """Return the largest turn from the reference frame in degrees, and the zoom that differs most from 1."""
        if not len(self.zooms):
            return 0.0, 1.0
        turn = float(np.degrees(np.linalg.norm(self.turns, axis=1).max()))
        return turn, float(self.zooms[np.abs(np.log(self.zooms)).argmax()])


@dataclass(frozen=True)
class CameraMotion:
    """Motion of the image background, frame by frame.

    Attributes:
        times_s: (F,) presentation times of all frames.
        shifts: (F,) shift of the background since the previous frame, in image heights.
        path: how the camera turns and zooms in some of the frames, relative to the first frame of the video; not all of
            it is known across cuts. None if it is not measured.
    """

    times_s: Times
    shifts: Times
    path: CameraPath | None = None

    def between(self, start_s: float, end_s: float) -> CameraMotion:
        """Return the frames from ``start_s`` until before ``end_s``."""
        inside = (self.times_s >= start_s - 1e-6) & (self.times_s < end_s - 1e-6)
        path = None if self.path is None else self.path.between(start_s, end_s)
        return CameraMotion(self.times_s[inside], self.shifts[inside], path)

    def speed(self) -> float:
        """Return the mean shift per second, in image heights; the first frame is excluded, as it follows a cut."""
        if len(self.times_s) < 2:
            return 0.0
        return float(np.sum(self.shifts[1:]) / (self.times_s[-1] - self.times_s[0]))


@dataclass(frozen=True)
class Detections:
    """Boxes of people in the frames that the detector processed.

    Attributes:
        times_s: (T,) presentation times of those frames.
        counts: (T,) number of boxes in each of them.
        boxes: (N, 5) boxes of all frames, concatenated, ``x1 y1 x2 y2 score`` in pixels.
        clothing: (N, C) colour histogram of each box's torso; rows sum to 1.
    """

    times_s: Times
    counts: npt.NDArray[np.int64]
    boxes: Floats
    clothing: Floats

    def by_frame(self) -> tuple[list[Floats], list[Floats]]:
        """Return the boxes and the clothing histograms of each frame: T arrays (N_t, 5) and T arrays (N_t, C)."""
        cuts = np.cumsum(self.counts)[:-1]
        if not len(self.counts):
            return [], []
        return np.split(self.boxes, cuts), np.split(self.clothing, cuts)

    def between(self, start_s: float, end_s: float) -> Detections:
        """Return the frames from ``start_s`` until before ``end_s``."""
        inside = (self.times_s >= start_s - 1e-6) & (self.times_s < end_s - 1e-6)
        rows = np.repeat(inside, self.counts)
        return Detections(self.times_s[inside], self.counts[inside], self.boxes[rows], self.clothing[rows])


@dataclass(frozen=True)
class FoundPeople:
    """People that another program found in a whole video: N rows, one for each person and frame, by person, then by time.

    Attributes:
        times_s: (F,) presentation times of all frames.
        people: (N,) number of the person.
        frames: (N,) number of the frame.
        boxes: (N, 4) ``x1 y1 x2 y2``, pixels.
        image: (N, 33, 2) pixels.
        world: (N, 33, 3) metres, as in :class:`Landmarks`.
        visibility: (N, 33) 1, or 0 outside the picture.
        regions_px: (N,) as in :class:`Landmarks`.
    """

    times_s: Times
    people: npt.NDArray[np.int64]
    frames: npt.NDArray[np.int64]
    boxes: Floats
    image: Floats
    world: Floats
    visibility: Floats
    regions_px: Floats


@dataclass(frozen=True)
class Tracks:
    """Tracks of K dancers over the T processed frames of a shot.

    Attributes:
        times_s: (T,) presentation times.
        boxes: (K, T, 4) ``x1 y1 x2 y2`` in pixels, NaN where the dancer was not detected.
    """

    times_s: Times
    boxes: Floats

    @property
    def seen(self) -> npt.NDArray[np.bool_]:
        """(K, T) true where the dancer was detected."""
        return ~np.isnan(self.boxes[..., 0])


@dataclass(frozen=True)
class Landmarks:
    """Landmarks of D dancers over T source frames; visibility 0 marks landmarks that must not be used.

    Attributes:
        times_s: (T,) seconds of the source.
        image: (D, T, 33, 2) pixels.
        world: (D, T, 33, 3) metres relative to the mid hip, x right, y up, z towards the camera.
        visibility: (D, T, 33) in [0, 1].
        regions_px: (D, T) side of each person's region, pixels: the scale of the person in the image.
    """

    times_s: Times
    image: Floats
    world: Floats
    visibility: Floats
    regions_px: Floats

    def confidence(self) -> Floats:
        """Compute the (D, T) mean visibility of the limbs, 0 where a frame was interpolated."""
        return np.asarray(self.visibility[..., _LIMBS].mean(axis=-1), dtype=np.float32)

    def part(self, frames: slice) -> Landmarks:
        """Return some of the frames."""
        return _select_frames(self, frames)


@dataclass(frozen=True)
class Bodies:
    """SMPL bodies of D dancers over T source frames, in the camera frame: x right, y down, z away from the camera.

    Attributes:
        times_s: (T,) seconds of the source.
        rotations: (D, T, 24, 3, 3) each joint relative to its parent, the root to the camera.
        betas: (D, T, 10) shape estimated in each frame.
        transl: (D, T, 3) SMPL's transl, metres.
    """

    times_s: Times
    rotations: Floats
    betas: Floats
    transl: Floats

    def part(self, frames: slice) -> Bodies:
        """Return some of the frames."""
        return _select_frames(self, frames)


@dataclass(frozen=True)
class Repair:
    """A correction that annotators made of a span of a video, see :data:`opendance_hf.pipeline.repairs.REPAIRS`.

    Attributes:
        kind: name in that table.
        start_s: start of the span, seconds of the source, see :func:`opendance_hf.pipeline.repairs.span_of_frames`.
        end_s: end of the span.
        dancer: number of the dancer from 1, None for kinds without one.
        other: number of a second dancer, None for kinds without one.
        foot: ``left`` or ``right``, None for kinds without a foot.
    """

    kind: str
    start_s: float
    end_s: float
    dancer: int | None = None
    other: int | None = None
    foot: str | None = None


@dataclass(frozen=True)
class Pins:
    """Feet of D dancers that annotators pinned to the ground, at T times.

    Attributes:
        times_s: (T,) seconds of the source.
        feet: (D, T, 2) true where the left and the right foot stand.
    """

    times_s: Times
    feet: npt.NDArray[np.bool_]

    def at(self, times_s: Times) -> npt.NDArray[np.bool_]:
        """Return the (D, N, 2) feet of the nearest frames at (N,) times."""
        middles = (self.times_s[1:] + self.times_s[:-1]) / 2
        return np.asarray(self.feet[:, np.searchsorted(middles, times_s)])


@dataclass(frozen=True)
class ExpectedErrors:
    """Errors that a network expects of its own estimate of D dancers, at T times.

    Attributes:
        times_s: (T,) seconds of the source.
        joints_m: (D, T, 24) metres, NaN for joints that it does not estimate.
    """

    times_s: Times
    joints_m: Floats


@dataclass(frozen=True)
class Fit:
    """Fitted motion of D dancers at T source times, in the world frame of :mod:`opendance_hf.schema`.

    Attributes:
        times_s: (T,) seconds of the source.
        rotations: (D, T, 24, 3, 3) each joint relative to its parent, the root to the world.
        transl: (D, T, 3) SMPL's transl, metres: pelvis = transl + rest_offsets[0].
        rest_offsets: (D, 24, 3) metres; row 0 is zero without a SMPL body.
        camera: the source camera in that world frame.
        betas: (D, 10) SMPL shape, None without a SMPL body.
        contacts: (D, T, 4) true where the image shows a joint of a foot at rest on the ground: toe and ankle of the left
            foot, then of the right; None if the fitter does not look.
    """

    times_s: Times
    rotations: Floats
    transl: Floats
    rest_offsets: Floats
    camera: Camera
    betas: Floats | None = None
    contacts: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Motion:
    """Motion of D dancers at T frames of exactly 60 FPS, starting at ``start_s``.

    Attributes:
        poses: (D, T, 24, 3) axis-angle, radians.
        transl: (D, T, 3) metres.
        joints: (D, T, 24, 3) metres.
        confidence: (D, T) in [0, 1].
    """

    start_s: float
    end_s: float
    poses: Floats
    transl: Floats
    joints: Floats
    confidence: Floats

    @property
    def num_frames(self) -> int:
        """Number of frames at 60 FPS."""
        return self.poses.shape[1]

    @property
    def times_s(self) -> Times:
        """(T,) seconds of the source."""
        return self.start_s + np.arange(self.num_frames) / FPS


def _select_frames(found: Any, frames: slice) -> Any:
    """Select some of the T frames of a dataclass whose arrays are (T,) or (D, T, ...); return it unchanged for all."""
    if frames.indices(len(found.times_s)) == (0, len(found.times_s), 1):
        return found
    rest = {f.name: getattr(found, f.name)[:, frames] for f in fields(found) if f.name != "times_s"}
    return type(found)(times_s=found.times_s[frames], **rest)


def _ignore_progress(share: float) -> None:
    pass


@dataclass(frozen=True)
class Job:
    """Settings of the run that results do not depend on.

    Attributes:
        build: folder of the build, for stages that write files.
        pipeline: fingerprint of the configuration, for provenance.
        threads: number of threads that a stage may use.
        report: callback for the completed share of the running stage, 0 to 1.
    """

    build: Path = Path()
    pipeline: str = ""
    threads: int = 1
    report: Callable[[float], None] = _ignore_progress


@dataclass(frozen=True)
class Clip:
    """A span of a video, in seconds of the source, with the results of the stages.

    Attributes:
        path: path of the video file.
        sha256: hash of its content.
        start_s: start of the span.
        end_s: end of the span; infinite until the video's duration is known.
        video: size, frame rate and duration.
        camera_motion: background motion in all frames of the span.
        steadied: turn and zoom of the camera relative to the first frame of the span that are taken out of the landmarks;
            None if it stands still.
        detections: boxes of people in some of the frames.
        people: people that another program found in the whole video; None in pipelines that look for them.
        tracks: one box per dancer in these frames.
        boxes: (D, F, 4) boxes of the span's dancers in all frames, NaN where a dancer was not detected.
        landmarks: landmarks of the span's dancers; without gaps after the stage ``complete``.
        smoothed: smoothed landmarks.
        bodies: SMPL bodies of an estimator; None in pipelines without one.
        repairs: corrections of annotators, in the order in which they are applied: of the whole video, and after the stage
            ``repair`` only those that fit the clip.
        pins: feet that they pinned; None if there are none.
        expected_errors: errors that the depth stage expects of the landmarks; None in pipelines without it.
        fit: skeletons fitted to landmarks or bodies.
        motion: the fit resampled to exactly 60 FPS.
        columns: values of the row by column name, see :data:`opendance_hf.schema.COLUMNS`.
        scores: quality scores by name, shown on the build's page.
        backends: (stage, name, version) of the programs that computed the clip, for provenance.
        sequence: the finished row.
        key: digest of the video's content and of all stages so far, with their settings.
        number: index among the video's finished sequences.
        job: settings of the run.
    """

    path: Path
    sha256: str
    start_s: float = 0.0
    end_s: float = math.inf
    video: VideoInfo = _UNWRITTEN
    camera_motion: CameraMotion = _UNWRITTEN
    steadied: CameraPath | None = None
    detections: Detections = _UNWRITTEN
    people: FoundPeople = _UNWRITTEN
    tracks: Tracks = _UNWRITTEN
    boxes: Floats = _UNWRITTEN
    landmarks: Landmarks = _UNWRITTEN
    smoothed: Landmarks = _UNWRITTEN
    bodies: Bodies | None = None
    repairs: tuple[Repair, ...] = ()
    pins: Pins | None = None
    expected_errors: ExpectedErrors | None = None
    fit: Fit = _UNWRITTEN
    motion: Motion = _UNWRITTEN
    columns: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    backends: tuple[tuple[str, str, str], ...] = ()
    sequence: DanceSequence = _UNWRITTEN
    key: str = ""
    number: int = 0
    job: Job = field(default_factory=Job, compare=False)

    @property
    def id(self) -> str:
        """Id of the sequence made from this clip: the first part of the source's hash, and a number."""
        return f"{self.sha256[:16]}_{self.number:02d}"
