"""Define and validate the columns of one sequence, a row of OpenDance-3D, with their shapes and units.

World frame: y up, metres, radians, the ground at y = 0; x to the right and z towards the viewer as the filming
camera sees the scene. Motion is exactly 60 FPS. Per-dancer columns are flat, dancer after dancer: ``joints`` of a
duet is (frames, 144), the first 72 numbers of a frame being the first dancer's 24 joints. :func:`per_dancer` undoes it.

To add a column, add one line to :class:`DanceSequence`. Checks, ``features()``, Parquet, WebDataset, npz, the dataset card
and docs/dataset.md are derived from :data:`COLUMNS`; ``python -m opendance_hf.schema`` prints the tables of that document.

Source: paper section 3.2 (24 joints, SMPL pose, shape and translation, audio features; no video or audio).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.brief import brief_repr
from opendance_hf.columns import (
    Column,
    columns_of,
    features_of,
    from_dict,
    markdown_table,
    to_dict,
    violations,
)
from opendance_hf.errors import OpenDanceError
from opendance_hf.motion.body import bone_lengths, forward_kinematics
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.music.genres import GENRES as GENRES

if TYPE_CHECKING:
    import datasets

SCHEMA_VERSION: Final = "1.6"
FPS: Final = 60
#: Number of motion frames per row of ``music_features_7p5fps`` (one of Bailando's codes lasts 8 frames).
FRAMES_PER_CODE: Final = 8
MUSIC_DIM: Final = 438
FACT_MUSIC_DIM: Final = 35
JOINTS_DIM: Final = NUM_JOINTS * 3
BETAS_DIM: Final = 10

# No dot: in WebDataset, a member's name is split at its first dot into key and column.
_NAME: Final = r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}"
_FK_TOLERANCE_M = 1e-3

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]


#: Exceptions of :func:`from_row`, and of the JSON of a row, for values of other types than the columns have.
NOT_A_ROW: Final = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    OverflowError,
    RecursionError,
)


class SchemaError(OpenDanceError, ValueError):
    """Raised for a sequence that violates the schema; the message names the sequence, the column and what was expected."""


# fmt: off
# One line per column, for readability.
@dataclass(frozen=True)
class Camera:
    """The pinhole camera of the source video, static over the sequence; of one that turns or zooms, at one frame.

    Rotation and translation map world metres to camera metres, with x right, y down and z away from the camera. The
    principal point is the image centre.
    """

    width_px: Annotated[int, Column("int32", unit="px", meaning="image width")]
    height_px: Annotated[int, Column("int32", unit="px", meaning="image height")]
    focal_px: Annotated[float, Column("float64", unit="px", meaning="focal length, estimated")]
    rotation: Annotated[tuple[float, ...], Column("float64", (9,), meaning="world to camera, 3 x 3, row by row")]
    translation: Annotated[tuple[float, ...], Column("float64", (3,), unit="m", meaning="world to camera")]
    focal_sd: Annotated[float | None, Column("float64", minimum=0, meaning="standard deviation of the logarithm of `focal_px`: 0.25 if nothing is known but the usual lenses, 0.05 if the file states it; null before schema 1.3")] = None
    tilt_sd_deg: Annotated[float | None, Column("float64", unit="deg", minimum=0, meaning="standard deviation of the camera's pitch, as `rotation` has it, and about that of its roll; null before schema 1.3")] = None
    turn_deg: Annotated[float, Column("float64", unit="deg", minimum=0, meaning="largest turn of a camera that pans or shakes from the frame that these numbers are of; it is taken out of the motion. 0 for a camera that stands still")] = 0.0
    zoom: Annotated[float, Column("float64", minimum=0, meaning="focal length relative to that frame where it differs most, taken out of the motion; 1 for a camera that does not zoom")] = 1.0

    def project(self, points: npt.NDArray[np.floating]) -> npt.NDArray[np.floating]:
        """Project world points (..., 3) in metres to image points (..., 2) in pixels."""
        rotation = np.asarray(self.rotation, dtype=np.float64).reshape(3, 3)
        camera = points @ rotation.T + np.asarray(self.translation, dtype=np.float64)
        centre = np.array([self.width_px / 2, self.height_px / 2])
        return camera[..., :2] / camera[..., 2:] * self.focal_px + centre


@dataclass(frozen=True)
class Backend:
    """The program that computed one stage of a sequence."""

    stage: Annotated[str, Column("string", meaning="stage of the pipeline")]
    name: Annotated[str, Column("string", meaning="name of the program or model")]
    version: Annotated[str, Column("string", meaning="its version")]


@dataclass(frozen=True)
class Pairing:
    """How a motion and a song that were not recorded together became a pair (``opendance pair``)."""

    kind: Annotated[str, Column("string", choices=("retimed", "choreographed"), meaning="`retimed`: the time of a recorded motion was warped so that steps fall on beats; `choreographed`: a program made the motion for the beats")]
    song_sha256: Annotated[str, Column("string", meaning="hash of the song's file")]
    dancers: Annotated[tuple[int, ...], Column("int32", ("D",), meaning="dancers of the source that the row has, from 0")]
    mirrored: Annotated[int, Column("int32", minimum=0, maximum=1, meaning="1 if left and right are exchanged")]
    warp_source_s: Annotated[tuple[float, ...], Column("float64", ("K",), unit="s", meaning="knots of the warp: time in the source; the last may lie after the end of the row. Empty for choreographies")]
    warp_song_s: Annotated[tuple[float, ...], Column("float64", ("K",), unit="s", meaning="knots of the warp: time in the song. Between the knots the map is a smooth curve, within 5 ms of the straight lines")]
    step_beat_before: Annotated[float, Column("float64", meaning="step beat of the same motion that starts at the same time without the warp; of a choreography, as `step_beat_after`")]
    step_beat_after: Annotated[float, Column("float64", meaning="step beat of the row")]


@dataclass(frozen=True)
class Provenance:
    """Source of a sequence, without paths, file names or user names."""

    source_sha256: Annotated[str, Column("string", meaning="hash of the source file")]
    start_s: Annotated[float, Column("float64", unit="s", meaning="start of the sequence in the source")]
    end_s: Annotated[float, Column("float64", unit="s", meaning="end of the sequence in the source")]
    source_fps: Annotated[float, Column("float64", unit="1/s", meaning="frame rate of the source")]
    licence: Annotated[str, Column("string", meaning="licence of the source, as given by `--licence`")]
    opendance_version: Annotated[str, Column("string", meaning="version of OpenDance-HF that wrote the row")]
    schema_version: Annotated[str, Column("string", meaning="version of the schema of the row")] = SCHEMA_VERSION
    camera: Annotated[Camera | None, Column("struct", meaning="camera of the source")] = None
    backends: Annotated[tuple[Backend, ...], Column("struct", meaning="all programs and models that computed the row")] = ()
    pipeline: Annotated[str, Column("string", meaning="fingerprint of the pipeline's configuration; empty if unknown and before schema 1.2")] = ""
    song_start_s: Annotated[float | None, Column("float64", unit="s", minimum=0, meaning="start of the sequence in its song; null if the source has the song itself (then it is `start_s`) or there is no song, absent before schema 1.5")] = None
    pairing: Annotated[Pairing | None, Column("struct", meaning="how motion and song were paired afterwards; null if they belong together or there is no song, absent before schema 1.5")] = None
    repairs: Annotated[tuple[str, ...], Column("string", meaning="what annotators repaired in the sequence before it was fitted again, with frames of the row (of a row re-timed to a song, of the row before); empty if nothing, absent before schema 1.6")] = ()


@dataclass(kw_only=True)
class DanceSequence:
    """One sequence of one or more dancers to one piece of music. T is ``num_frames``, D is ``num_dancers``."""

    __repr__ = brief_repr

    id: Annotated[str, Column("string", pattern=_NAME, meaning="unique, equal in every rebuild: the start of the source's hash and a number")]
    group: Annotated[str, Column("string", pattern=_NAME, meaning="group of sequences with the same song or nearly the same motion; splits share none, but for official splits of other datasets that do")]
    num_dancers: Annotated[int, Column("int32", minimum=1, meaning="D")]
    num_frames: Annotated[int, Column("int32", minimum=2, meaning="T")]
    fps: Annotated[float, Column("float32", unit="1/s", choices=(FPS,), remedy="resample the motion first", meaning="always 60")] = float(FPS)
    joints: Annotated[Floats, Column("float32", ("T", "D*72"), unit="m", meaning="positions of the 24 SMPL joints, world frame")]
    smpl_pose: Annotated[Floats, Column("float32", ("T", "D*72"), unit="rad", meaning="axis-angle of the 24 SMPL joints, each relative to its parent, the root relative to the world")]
    smpl_transl: Annotated[Floats, Column("float32", ("T", "D*3"), unit="m", meaning="SMPL's `transl`: pelvis = `smpl_transl` + `rest_offsets[0]`")]
    rest_offsets: Annotated[Floats, Column("float32", ("D*72",), unit="m", meaning="offset of each joint from its parent in the rest pose; forward kinematics of these and `smpl_pose` gives `joints`")]
    smpl_betas: Annotated[Floats | None, Column("float32", ("D*10",), meaning="SMPL shape; null if no SMPL file was given")] = None
    music_features: Annotated[Floats | None, Column("float32", ("T", MUSIC_DIM), meaning="60 Hz: MFCC 20, MFCC delta 20, chroma 12, onset 1, beat 1, tempogram 384; null if the motion has no song")] = None
    music_features_7p5fps: Annotated[Floats | None, Column("float32", (f"ceil(T/{FRAMES_PER_CODE})", MUSIC_DIM), meaning="7.5 Hz: the same features from audio at 3,840 Hz, the input of Bailando's GPT; null if there is no song")] = None
    music_features_fact: Annotated[Floats | None, Column("float32", ("T", FACT_MUSIC_DIM), meaning="60 Hz: onset 1, MFCC 20, chroma 12, peak 1, beat 1, the input of FACT; null if there is no song")] = None
    music_beats: Annotated[Ints, Column("int32", ("B",), unit="frames", minimum=0, meaning="frames of the B music beats, increasing; empty if there is no song")]
    bpm: Annotated[float | None, Column("float64", unit="1/min", minimum=0, meaning="tempo; null if there is no song")] = None
    motion_velocity: Annotated[float, Column("float64", unit="m/s", minimum=0, meaning="mean joint speed")]
    confidence: Annotated[Floats, Column("float32", ("T", "D"), minimum=0, maximum=1, meaning="mean visibility of the estimator's landmarks, 0 to 1; 0 in interpolated gaps")]
    joint_confidence: Annotated[Floats | None, Column("float32", ("T", f"D*{NUM_JOINTS}"), minimum=0, maximum=1, meaning="certainty of each joint, 0 to 1: lower where it is hidden, outside the picture, or fitted away from its landmark; 0 in interpolated gaps; null if no stage computed it, absent before schema 1.3")] = None
    genre: Annotated[str | None, Column("string", choices=GENRES, meaning=f"one of {', '.join(GENRES)}; null if no classifier ran (`opendance build --genre-model`)")] = None
    genre_scores: Annotated[Floats | None, Column("float32", (len(GENRES),), meaning="scores of these genres, in that order; null if no classifier ran")] = None
    subset_rank: Annotated[int | None, Column("int32", minimum=0, meaning="rank in a shuffled order of the split, from 0: rows with a rank below N are the nested subset of size N (paper table 3); null before packing, absent before schema 1.1")] = None
    provenance: Annotated[Provenance, Column("struct", meaning="source of the row")]

    @property
    def has_music(self) -> bool:
        """True if the row has the features of a song; imported motion may have none."""
        return self.bpm is not None

    @property
    def config(self) -> str:
        """Dataset configuration of this sequence, see :func:`config_of`."""
        return config_of(self.num_dancers)
# fmt: on


#: Features of the song; null in rows without one.
MUSIC_COLUMNS: Final = ("music_features", "music_features_7p5fps", "music_features_fact")
#: Every column of a row, in the order of the files.
COLUMNS: Final[Mapping[str, Column]] = columns_of(DanceSequence)


def config_of(num_dancers: int) -> str:
    """Return the dataset configuration of a number of dancers: ``individual``, ``collaborative`` (2) or ``group_N``."""
    return {1: "individual", 2: "collaborative"}.get(num_dancers, f"group_{num_dancers}")


def sorted_configs(configs: Iterable[str]) -> list[str]:
    """Return the names without duplicates, by number of dancers; names of other datasets follow in alphabetical order."""

    def order(name: str) -> tuple[float, str]:
        group = re.fullmatch(r"group_(\d+)", name)
        dancers = {config_of(1): 1, config_of(2): 2}.get(name, int(group[1]) if group else float("inf"))
        return dancers, name

    return sorted(set(configs), key=order)


def per_dancer(flat: npt.NDArray[np.floating], num_dancers: int, *shape: int) -> npt.NDArray[np.floating]:
    """Reshape (T, D*prod(shape)) or (D*prod(shape),) to (D, T, *shape) or (D, *shape)."""
    if flat.ndim == 1:
        return flat.reshape(num_dancers, *shape)
    return np.moveaxis(flat.reshape(len(flat), num_dancers, *shape), 1, 0)


def flat_dancers(array: npt.NDArray[np.floating]) -> Floats:
    """Reshape (D, T, ...) to (T, D*...), the inverse of :func:`per_dancer`."""
    out = np.moveaxis(array, 0, 1)
    return np.ascontiguousarray(out.reshape(len(out), -1), dtype=np.float32)


def mean_joint_speed(joints: npt.NDArray[np.floating], fps: float = FPS) -> float:
    """Compute the mean speed of (D, T, 24, 3) joints over dancers, frames and joints, in m/s (paper figure 3)."""
    if joints.shape[1] < 2:
        return 0.0
    return float(np.linalg.norm(np.diff(joints, axis=1), axis=-1).mean() * fps)


def features(num_dancers: int = 1) -> datasets.Features:
    """Return the Hugging Face ``Features`` of a configuration with ``num_dancers`` dancers in every row."""
    import datasets  # imported here because it takes a second and is rarely needed

    return datasets.Features(features_of(DanceSequence, {"D": num_dancers}))


def to_row(seq: DanceSequence) -> dict[str, Any]:
    """Convert a sequence to a dictionary, a row of a dataset."""
    return to_dict(seq)


def from_row(row: Mapping[str, Any]) -> DanceSequence:
    """Create a sequence from a row, the inverse of :func:`to_row`; it is not validated.

    Rows of older schemas are accepted: missing columns get their default.

    Args:
        row: arrays or Python lists; matrices may be flat.

    Raises:
        KeyError: if a required column is absent.
        TypeError, ValueError: if a value cannot be converted.
    """
    seq: DanceSequence = from_dict(DanceSequence, row, {"D": int(row["num_dancers"])})
    return seq


def check_schema_version(version: str, where: str) -> None:
    """Check that a dataset can be read: of this or any older schema, or of a newer one that only adds columns.

    Args:
        version: schema version of the dataset, two numbers.
        where: name of the dataset, for the message.

    Raises:
        SchemaError: if the first number is larger than that of :data:`SCHEMA_VERSION`, or there is none.
    """
    first = version.partition(".")[0]
    if not first.isdigit():
        raise SchemaError(
            f"{where}: unknown schema version {version!r}: expected two numbers, such as {SCHEMA_VERSION}"
        )
    if int(first) > int(SCHEMA_VERSION.partition(".")[0]):
        raise SchemaError(
            f"{where}: has schema {version}, and this OpenDance-HF reads up to {SCHEMA_VERSION}: update it with "
            "`pip install -U opendance-hf`"
        )


def validate(seq: DanceSequence) -> DanceSequence:
    """Check one sequence against the schema and return it.

    Raises:
        SchemaError: naming the sequence, the column, the value found and what was expected.
    """

    def fail(column: str, error: str) -> None:
        raise SchemaError(f"sequence {seq.id!r}, column {column!r}: {error}")

    t, d = seq.num_frames, seq.num_dancers
    for column, violation in violations(seq, {"T": t, "D": d}):
        fail(column, violation)
    if len(seq.music_beats) and (seq.music_beats[-1] >= t or (np.diff(seq.music_beats) <= 0).any()):
        fail("music_beats", f"must increase strictly within [0, {t})")
    _check_music(seq, fail)

    poses, offsets, joints = (
        per_dancer(flat, d, NUM_JOINTS, 3) for flat in (seq.smpl_pose, seq.rest_offsets, seq.joints)
    )
    transl = per_dancer(seq.smpl_transl, d, 3)
    error = np.abs(forward_kinematics(poses, transl, offsets[:, None]) - joints).max()
    if error > _FK_TOLERANCE_M:
        fail(
            "joints",
            f"differs by {1000 * error:.1f} mm from forward kinematics of smpl_pose, smpl_transl and rest_offsets, "
            f"expected at most {1000 * _FK_TOLERANCE_M:g} mm",
        )
    if np.ptp(bone_lengths(joints), axis=1).max() > _FK_TOLERANCE_M:
        fail("joints", "bone lengths change over the sequence")

    span_frames = round(FPS * (seq.provenance.end_s - seq.provenance.start_s))
    if span_frames != t:
        fail("provenance", f"the span from start_s to end_s has {span_frames} frames, but num_frames is {t}")
    return seq


def _check_music(seq: DanceSequence, fail: Callable[[str, str], None]) -> None:
    """Call ``fail`` with the first column of music that is there without the others, or the other way round."""
    for column in MUSIC_COLUMNS:
        if (getattr(seq, column) is not None) != seq.has_music:
            fail(
                column, f"a song has all of {', '.join(MUSIC_COLUMNS)} and bpm, and no song has none of them"
            )
    if len(seq.music_beats) and not seq.has_music:
        fail("music_beats", "must be empty, since the row has no song")


def markdown_tables() -> dict[str, str]:
    """Render the columns of a row and of each of its structs as Markdown tables, as in docs/dataset.md."""
    records = {
        "row": DanceSequence,
        "provenance": Provenance,
        "camera": Camera,
        "backends": Backend,
        "pairing": Pairing,
    }
    return {name: markdown_table(record) for name, record in records.items()}


if __name__ == "__main__":
    print(*markdown_tables().values(), sep="\n", end="")
