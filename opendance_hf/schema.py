"""One sequence: the columns of an OpenDance-3D row, their shapes and units, and the one place that validates them.

World frame: y up, metres, radians, the ground at y = 0; x to the right and z towards the viewer as the filming
camera sees the scene. Motion is exactly 60 FPS. Per-dancer columns are flat, dancer after dancer: ``joints`` of a
duet is (frames, 144), the first 72 numbers of a frame being the first dancer's 24 joints. :func:`per_dancer` undoes it.

Source: paper section 3.2 (24 joints, SMPL pose, shape and translation, audio features; no video or audio).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import OpenDanceError
from opendance_hf.motion.body import bone_lengths, forward_kinematics
from opendance_hf.motion.skeleton import NUM_JOINTS

if TYPE_CHECKING:
    import datasets

SCHEMA_VERSION: Final = "1.1"
FPS: Final = 60
#: One column of ``music_features_7p5fps`` for this many motion frames (Bailando's codes last 8 frames).
FRAMES_PER_CODE: Final = 8
MUSIC_DIM: Final = 438
FACT_MUSIC_DIM: Final = 35
JOINTS_DIM: Final = NUM_JOINTS * 3
BETAS_DIM: Final = 10
#: The ten classes of paper section 3.2, in the order of ``genre_scores``.
GENRES: Final = (
    "blues", "classical", "country", "disco", "hiphop", "jazz", "metal", "pop", "reggae", "rock",
)  # fmt: skip

# No dot: a WebDataset member is named key, first dot, column.
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_FK_TOLERANCE_M = 1e-3

Floats = npt.NDArray[np.float32]


class SchemaError(OpenDanceError, ValueError):
    """A sequence that does not meet the schema; the message names the sequence, the column and the remedy."""


@dataclass(frozen=True)
class Camera:
    """The pinhole camera of the source video, static over the sequence.

    ``rotation`` (3, 3) and ``translation`` (3,) take world metres to camera metres, where x is right, y is down
    and z is away from the camera; the principal point is the image centre.
    """

    width_px: int
    height_px: int
    focal_px: float
    rotation: tuple[float, ...]
    translation: tuple[float, ...]

    def project(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """World points (..., 3) in metres to image points (..., 2) in pixels."""
        rotation = np.asarray(self.rotation, dtype=np.float64).reshape(3, 3)
        camera = points @ rotation.T + np.asarray(self.translation, dtype=np.float64)
        centre = np.array([self.width_px / 2, self.height_px / 2])
        return camera[..., :2] / camera[..., 2:] * self.focal_px + centre


@dataclass(frozen=True)
class Backend:
    """What computed one stage of a sequence."""

    stage: str
    name: str
    version: str


@dataclass(frozen=True)
class Provenance:
    """Where a sequence comes from. Carries no paths, file names or user names."""

    source_sha256: str
    start_s: float
    end_s: float
    source_fps: float
    licence: str
    opendance_version: str
    schema_version: str = SCHEMA_VERSION
    camera: Camera | None = None
    backends: tuple[Backend, ...] = ()


@dataclass
class DanceSequence:
    """One sequence of one or more dancers to one piece of music. D is ``num_dancers``, T is ``num_frames``.

    Attributes:
        id: unique name, stable over rebuilds.
        group: sequences of one group (same song, or near-duplicate motion) never lie in different splits.
        joints: (T, D*72) joint positions, metres, world frame.
        smpl_pose: (T, D*72) axis-angle of the 24 SMPL joints, radians; the root relative to the world.
        smpl_transl: (T, D*3) SMPL's transl, metres: pelvis = transl + rest_offsets[0].
        rest_offsets: (D*72,) parent-to-joint offsets of the rest skeleton that forward kinematics needs, metres.
        smpl_betas: (D*10,) SMPL shape, None when no SMPL file was given.
        music_features: (T, 438) at 60 FPS: mfcc 20, mfcc delta 20, chroma 12, onset 1, beat 1, tempogram 384.
        music_features_7p5fps: (ceil(T/8), 438), the same from audio at 3,840 Hz (what Bailando's GPT reads).
        music_features_fact: (T, 35): onset 1, mfcc 20, chroma 12, peak 1, beat 1.
        music_beats: (B,) frame indices of the music beats, increasing.
        bpm: beats per minute.
        motion_velocity: mean joint speed, metres per second.
        confidence: (T, D) mean visibility of the estimator's keypoints, 0 to 1; 0 where a gap was completed.
        genre: one of :data:`GENRES`, None when no classifier ran.
        genre_scores: (10,) scores in the order of :data:`GENRES`, None when no classifier ran.
        subset_rank: place in a shuffled order of its split, from 0: the N first are the split's subset of N, so
            subsets are nested (paper table 3). None until packed, and in datasets of schema 1.0.
    """

    id: str
    group: str
    num_dancers: int
    num_frames: int
    joints: Floats
    smpl_pose: Floats
    smpl_transl: Floats
    rest_offsets: Floats
    music_features: Floats
    music_features_7p5fps: Floats
    music_features_fact: Floats
    music_beats: npt.NDArray[np.int32]
    bpm: float
    motion_velocity: float
    confidence: Floats
    provenance: Provenance
    fps: float = float(FPS)
    smpl_betas: Floats | None = None
    genre: str | None = None
    genre_scores: Floats | None = field(default=None)
    subset_rank: int | None = None

    @property
    def config(self) -> str:
        """The dataset configuration this sequence belongs to: ``individual`` or ``collaborative``."""
        return "individual" if self.num_dancers == 1 else "collaborative"


def per_dancer(flat: npt.NDArray[np.floating], num_dancers: int, *shape: int) -> npt.NDArray[np.floating]:
    """(T, D*prod(shape)) or (D*prod(shape),) to (D, T, *shape) or (D, *shape)."""
    if flat.ndim == 1:
        return flat.reshape(num_dancers, *shape)
    return np.moveaxis(flat.reshape(len(flat), num_dancers, *shape), 1, 0)


def flat_dancers(array: npt.NDArray[np.floating]) -> Floats:
    """(D, T, ...) to (T, D*...), the inverse of :func:`per_dancer`."""
    out = np.moveaxis(array, 0, 1)
    return np.ascontiguousarray(out.reshape(len(out), -1), dtype=np.float32)


def mean_joint_speed(joints: npt.NDArray[np.floating], fps: float = FPS) -> float:
    """Mean speed over dancers, frames and joints of (D, T, 24, 3) joints, metres per second (paper figure 3)."""
    if joints.shape[1] < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(joints, axis=1), axis=-1).mean() * fps)


def features(num_dancers: int | None = None) -> datasets.Features:
    """The Hugging Face ``Features`` of a configuration with ``num_dancers`` dancers in every row.

    Float matrices are ``Array2D((None, C), "float32")``: rows have different lengths, columns do not.
    """
    import datasets  # takes a second to load, and most who import the schema never need it

    dancers = 1 if num_dancers is None else num_dancers
    matrix = lambda width: datasets.Array2D((None, width), "float32")  # noqa: E731
    vector = lambda kind: datasets.List(datasets.Value(kind))  # noqa: E731
    return datasets.Features(
        {
            "id": datasets.Value("string"),
            "group": datasets.Value("string"),
            "num_dancers": datasets.Value("int32"),
            "num_frames": datasets.Value("int32"),
            "fps": datasets.Value("float32"),
            "joints": matrix(dancers * JOINTS_DIM),
            "smpl_pose": matrix(dancers * JOINTS_DIM),
            "smpl_transl": matrix(dancers * 3),
            "rest_offsets": vector("float32"),
            "smpl_betas": vector("float32"),
            "music_features": matrix(MUSIC_DIM),
            "music_features_7p5fps": matrix(MUSIC_DIM),
            "music_features_fact": matrix(FACT_MUSIC_DIM),
            "music_beats": vector("int32"),
            "bpm": datasets.Value("float64"),
            "motion_velocity": datasets.Value("float64"),
            "confidence": matrix(dancers),
            "genre": datasets.Value("string"),
            "genre_scores": vector("float32"),
            "subset_rank": datasets.Value("int32"),
            "provenance": {
                "source_sha256": datasets.Value("string"),
                "start_s": datasets.Value("float64"),
                "end_s": datasets.Value("float64"),
                "source_fps": datasets.Value("float64"),
                "licence": datasets.Value("string"),
                "opendance_version": datasets.Value("string"),
                "schema_version": datasets.Value("string"),
                "camera": {
                    "width_px": datasets.Value("int32"),
                    "height_px": datasets.Value("int32"),
                    "focal_px": datasets.Value("float64"),
                    "rotation": vector("float64"),
                    "translation": vector("float64"),
                },
                "backends": datasets.List(
                    {key: datasets.Value("string") for key in ("stage", "name", "version")}
                ),
            },
        }
    )


def validate(seq: DanceSequence) -> DanceSequence:
    """Check one sequence against the schema and return it.

    Raises:
        SchemaError: naming the sequence, the column, what is wrong and what was expected.
    """

    def fail(column: str, why: str) -> None:
        raise SchemaError(f"sequence {seq.id!r}, column {column!r}: {why}")

    t, d = seq.num_frames, seq.num_dancers
    for column in ("id", "group"):
        if not _ID.fullmatch(getattr(seq, column)):
            fail(column, f"must match {_ID.pattern}, got {getattr(seq, column)!r}")
    if d < 1:
        fail("num_dancers", f"must be at least 1, got {d}")
    if t < 2:
        fail("num_frames", f"must be at least 2, got {t}")
    if seq.fps != FPS:
        fail("fps", f"must be {FPS}, got {seq.fps}; resample the motion first")

    shapes: dict[str, tuple[int, ...]] = {
        "joints": (t, d * JOINTS_DIM),
        "smpl_pose": (t, d * JOINTS_DIM),
        "smpl_transl": (t, d * 3),
        "rest_offsets": (d * JOINTS_DIM,),
        "music_features": (t, MUSIC_DIM),
        "music_features_7p5fps": (math.ceil(t / FRAMES_PER_CODE), MUSIC_DIM),
        "music_features_fact": (t, FACT_MUSIC_DIM),
        "confidence": (t, d),
    }
    if seq.smpl_betas is not None:
        shapes["smpl_betas"] = (d * BETAS_DIM,)
    if seq.genre_scores is not None:
        shapes["genre_scores"] = (len(GENRES),)
    for column, shape in shapes.items():
        value = getattr(seq, column)
        if value.shape != shape:
            fail(column, f"has shape {value.shape}, expected {shape}")
        if value.dtype != np.float32:
            fail(column, f"is {value.dtype}, expected float32")
        if not np.isfinite(value).all():
            fail(column, "holds NaN or infinity")
    for column in ("bpm", "motion_velocity"):
        if not (math.isfinite(getattr(seq, column)) and getattr(seq, column) >= 0):
            fail(column, f"must be finite and not negative, got {getattr(seq, column)}")
    if seq.confidence.min() < 0 or seq.confidence.max() > 1:
        fail("confidence", "must lie in [0, 1]")
    if seq.genre is not None and seq.genre not in GENRES:
        fail("genre", f"must be one of {', '.join(GENRES)}, got {seq.genre!r}")

    if seq.subset_rank is not None and seq.subset_rank < 0:
        fail("subset_rank", f"must not be negative, got {seq.subset_rank}")

    beats = seq.music_beats
    if beats.ndim != 1 or beats.dtype != np.int32:
        fail("music_beats", f"must be a vector of int32, got {beats.dtype} {beats.shape}")
    if len(beats) and (beats[0] < 0 or beats[-1] >= t or (np.diff(beats) <= 0).any()):
        fail("music_beats", f"must increase strictly within [0, {t})")

    poses = per_dancer(seq.smpl_pose, d, NUM_JOINTS, 3)
    transl = per_dancer(seq.smpl_transl, d, 3)
    offsets = per_dancer(seq.rest_offsets, d, NUM_JOINTS, 3)
    joints = per_dancer(seq.joints, d, NUM_JOINTS, 3)
    error = np.abs(forward_kinematics(poses, transl, offsets[:, None]) - joints).max()
    if error > _FK_TOLERANCE_M:
        fail("joints", f"forward kinematics of smpl_pose and smpl_transl misses by {1000 * error:.1f} mm")
    if np.ptp(bone_lengths(joints), axis=1).max() > _FK_TOLERANCE_M:
        fail("joints", "bone lengths change over the sequence")

    span_frames = round(FPS * (seq.provenance.end_s - seq.provenance.start_s))
    if span_frames != t:
        fail("provenance", f"a span of {span_frames} frames does not match num_frames {t}")
    return seq


def to_row(seq: DanceSequence) -> dict[str, Any]:
    """The sequence as the plain dictionary a dataset row is."""
    row = {f.name: getattr(seq, f.name) for f in fields(seq)}
    source = seq.provenance
    camera = source.camera
    row["provenance"] = {
        **{f.name: getattr(source, f.name) for f in fields(source) if f.name not in ("camera", "backends")},
        "camera": None
        if camera is None
        else {
            f.name: list(getattr(camera, f.name))
            if f.name in ("rotation", "translation")
            else getattr(camera, f.name)
            for f in fields(camera)
        },
        "backends": [{"stage": b.stage, "name": b.name, "version": b.version} for b in source.backends],
    }
    return row


def from_row(row: dict[str, Any]) -> DanceSequence:
    """The inverse of :func:`to_row`, from Python lists or arrays; the result is not yet validated.

    Rows of schema 1.0, which have no ``subset_rank``, are taken.
    """
    import datasets

    values = {"subset_rank": None, **row}
    for name, feature in features(int(row["num_dancers"])).items():
        if values[name] is None:
            continue
        if isinstance(feature, datasets.Array2D):
            width = feature.shape[1]
            values[name] = np.asarray(values[name], dtype=np.float32).reshape(-1, width)
        elif isinstance(feature, datasets.List):
            values[name] = np.asarray(values[name], dtype=feature.feature.dtype)
    source = dict(row["provenance"])
    camera = source.pop("camera", None)
    if camera is not None:
        camera = Camera(
            **{**camera, "rotation": tuple(camera["rotation"]), "translation": tuple(camera["translation"])}
        )
    source["backends"] = tuple(Backend(**backend) for backend in source["backends"])
    values["provenance"] = Provenance(camera=camera, **source)
    return DanceSequence(**values)
