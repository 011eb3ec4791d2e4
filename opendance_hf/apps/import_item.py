"""Turn one item of other people's motion into rows: read, check, put on the ground, pair with its song."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
import os
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf import __version__
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write
from opendance_hf.formats import format_named
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.resample import resampled, with_poses
from opendance_hf.loading_scripts import Item
from opendance_hf.metrics.person import Person, fall_doubt, measure_person
from opendance_hf.metrics.quality import floor_height
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.music import MusicAnnotation, extract
from opendance_hf.music.sound import measure_sound
from opendance_hf.schema import (
    FPS,
    SCHEMA_VERSION,
    Backend,
    DanceSequence,
    Provenance,
    flat_dancers,
    mean_joint_speed,
    validate,
)
from opendance_hf.storage.npz import save_sequence

#: Shortest and longest row, seconds. Longer motions are cut to equal parts.
MIN_S: Final = 4.0
MAX_S: Final = 120.0
#: A motion may last longer than its song by this, seconds: then the song counts. Songs may go on after the motion.
MUSIC_TOLERANCE_S: Final = 2.0
#: The files of the dancers of one item may differ by this, seconds: then the shortest counts.
DANCERS_TOLERANCE_S: Final = 0.1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
#: Changes with what this module computes, so that items of older versions are imported again.
_VERSION: Final = 2


class Rejected(Exception):
    """Raised for an item that is read and is not fit to be published; the message says why."""


@dataclass(frozen=True)
class Job:
    """One item to import.

    Attributes:
        item: the item.
        name: of the item, for people: its file or its id.
        root: folder that its motion files must be in.
        songs: folder of the songs, None if rows get none.
        song: file of its song.
        answers: of the user, for the reader.
        licence: of the motion.
        store: folder for the rows.
        refused: reason to reject it without reading it, empty if there is none.
    """

    item: Item
    name: str
    root: Path
    songs: Path | None
    song: Path | None
    answers: dict[str, Any]
    licence: str
    store: Path
    refused: str = ""


@dataclass(frozen=True)
class Row:
    """One row of an item.

    Attributes:
        id: of the row.
        group: of the row.
        file: its sequence file in the store.
        seconds: its length.
    """

    id: str
    group: str
    file: str
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Result of one item.

    Attributes:
        name: see :class:`Job`.
        status: ``published``, ``rejected`` or ``failed``.
        reason: of rejection or failure.
        rows: of the dataset.
        split: official split.
        people: measures of the dancers.
        solved: True if rotations were found by inverse kinematics.
        reused: True if it was imported before.
    """

    name: str
    status: str
    reason: str = ""
    rows: tuple[Row, ...] = ()
    split: str | None = None
    people: tuple[Person, ...] = ()
    solved: bool = False
    reused: bool = field(default=False, compare=False)

    @property
    def warning(self) -> str:
        """What is doubtful about a published item; empty if nothing is."""
        return fall_doubt(tuple(fall for person in self.people for fall in person.falls_mps2))


def valid_name(text: str) -> str:
    """Return a text as id or group of the schema: itself if it is valid, otherwise without other signs and with a hash."""
    if _NAME.fullmatch(text):
        return text
    digest = hashlib.sha256(os.fsencode(text)).hexdigest()[:8]
    plain = re.sub(r"[^A-Za-z0-9_-]+", "_", text)[:80].strip("_-")
    return f"{plain}-{digest}" if plain else digest


def import_item(job: Job) -> Outcome:
    """Import one item; errors of its files are in the result.

    Raises:
        OSError: if the store cannot be written.
    """
    return make_item(job, lambda digests: _key(job, digests), lambda digests: _sequences(job, digests))


def make_item(
    job: Job,
    key_of: Callable[[list[str]], str],
    make: Callable[[list[str]], tuple[list[DanceSequence], tuple[Person, ...], bool]],
) -> Outcome:
    """Make the rows of one item and keep them in the store, or return those that are there.

    Args:
        job: the item.
        key_of: computes the key of its result from the hashes of its files, see :func:`digests_of`.
        make: computes the rows, the measures of its dancers, and whether rotations were found by inverse kinematics; raises
            :class:`Rejected`, or any error of a damaged file.

    Raises:
        OSError: if the store cannot be written.
    """
    try:
        if job.refused:
            raise Rejected(job.refused)
        digests = digests_of(job)
        key = key_of(digests)
        if done := _stored(job, key):
            return done
        sequences, people, solved = make(digests)
    except Rejected as error:
        return Outcome(job.name, "rejected", str(error))
    except (OpenDanceError, OSError) as error:
        return Outcome(job.name, "failed", _without(str(error), job.root))
    except Exception as error:
        return Outcome(job.name, "failed", _without(f"{type(error).__name__}: {error}", job.root))
    rows = []
    for number, sequence in enumerate(sequences):
        path = save_sequence(job.store / "sequences" / f"{key}-{number}.npz", sequence)
        rows.append(Row(sequence.id, sequence.group, path.name, sequence.num_frames / FPS))
    outcome = Outcome(job.name, "published", "", tuple(rows), job.item.split, people, solved)
    with atomic_write(job.store / "items" / f"{key}.json") as partial:
        partial.write_text(json.dumps(asdict(outcome)), encoding="utf-8")
    return outcome


def _without(text: str, root: Path) -> str:
    return text.replace(f"{root}{os.sep}", "")


def digests_of(job: Job) -> list[str]:
    """Return the SHA-256 of the motion files, of files that they need beside them, and of the song.

    Raises:
        Rejected: if a file is outside of the folder.
    """
    beside_of: Callable[[Path], list[Path]] = getattr(format_named(job.item.format), "beside", lambda _: [])
    beside = [file for path in job.item.motions for file in beside_of(path)]
    for path, folder in [(path, job.root) for path in [*job.item.motions, *beside]] + (
        [(job.song, job.songs)] if job.song and job.songs else []
    ):
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
            raise Rejected(f"{path.name} is a link that leaves the folder; copy the file into it")
    names = job.answers.get("names")
    tables = [Path(names)] if names and Path(names).is_file() else []
    files = [*job.item.motions, *beside, *tables, *([job.song] if job.song else [])]
    return [file_digest(path) for path in files]


def source_hash(digests: list[str]) -> str:
    """Return the SHA-256 of the motion file, of several that of their hashes."""
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file; it is kept in memory while size and time of the file stay the same."""
    found = path.stat()
    return _digest_of(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=1024)
def _digest_of(path: Path, _mtime_ns: int, _size: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _key(job: Job, digests: list[str]) -> str:
    item = {**asdict(job.item), "motions": [path.name for path in job.item.motions]}
    told = [_VERSION, SCHEMA_VERSION, __version__, digests, item, job.answers, job.licence, bool(job.song)]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _stored(job: Job, key: str) -> Outcome | None:
    """Return the result of an item that was imported before."""
    try:
        found = json.loads((job.store / "items" / f"{key}.json").read_text(encoding="utf-8"))
        rows = tuple(Row(**row) for row in found["rows"])
        people = tuple(Person(**{**one, "falls_mps2": tuple(one["falls_mps2"])}) for one in found["people"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if not all((job.store / "sequences" / row.file).is_file() for row in rows):
        return None
    solved = bool(found["solved"])
    return Outcome(job.name, "published", "", rows, job.item.split, people, solved, reused=True)


def _sequences(job: Job, digests: list[str]) -> tuple[list[DanceSequence], tuple[Person, ...], bool]:
    """Read and check an item.

    Returns:
        Its rows, the measures of its dancers, and whether rotations were found by inverse kinematics.

    Raises:
        Rejected: if it is not a dance of people, or too short, or its song has another length.
        OpenDanceError: if a file is damaged.
    """
    motion, rate, people, solved = read_checked(job)
    seconds = motion.num_frames / FPS
    if job.song:
        seconds = min(seconds, _song_seconds(job.song, job.item.audio_start_s, seconds))
    frames = min(motion.num_frames, math.floor(seconds * FPS + 1e-6))
    if frames / FPS < MIN_S:
        raise Rejected(f"its song ends after {frames / FPS:.2f} s, a row lasts at least {MIN_S:g} s")
    parts = math.ceil(frames / (MAX_S * FPS))
    edges = [round(frames * number / parts) for number in range(parts + 1)]
    return (
        [
            row_of(
                job,
                motion,
                (start, end),
                rate,
                source_hash(digests[: len(job.item.motions)]),
                f"-{number}" if parts > 1 else "",
            )
            for number, (start, end) in enumerate(itertools.pairwise(edges), start=1)
        ],
        people,
        solved,
    )


def read_checked(job: Job) -> tuple[Motion, float, tuple[Person, ...], bool]:
    """Read the files of an item as one motion on the ground, and check that it is one of people.

    Returns:
        The motion at 60 FPS with rotations, the rate of its first file, the measures of its dancers, and whether rotations
        were found by inverse kinematics. Joints are not moved to the ground; forward kinematics gives them.

    Raises:
        Rejected: if it is not a dance of people, or too short.
        OpenDanceError: if a file is damaged.
    """
    source, rate = _read(job)
    if source.num_frames / FPS < MIN_S:
        raise Rejected(f"lasts {source.num_frames / FPS:.2f} s, a row at least {MIN_S:g} s")
    motion = with_poses(source)
    people = tuple(measure_person(dancer, FPS) for dancer in motion.joints)
    for number, person in enumerate(people, start=1):
        if fault := person.fault():
            raise Rejected(fault if len(people) == 1 else f"dancer {number}: {fault}")
    assert motion.transl is not None
    ground = float(np.median([floor_height(dancer) for dancer in motion.joints]))
    motion = replace(motion, transl=motion.transl - np.array([0, ground, 0]))
    return motion, rate, people, source.poses is None or source.transl is None or source.rest_offsets is None


def _read(job: Job) -> tuple[Motion, float]:
    """Read the files of an item as one motion at 60 FPS; return it with the rate of its first file."""
    read = format_named(job.item.format).read
    taken = inspect.signature(read).parameters
    if unknown := [answer for answer in job.answers if answer not in taken]:
        raise Rejected(f"{job.item.format}: takes no --{unknown[0]}, since its files have it")
    motions = [read(path, **{**job.item.answers, **job.answers}) for path in job.item.motions]
    rate = motions[0].fps
    if len(motions) == 1:
        return resampled(motions[0], FPS), rate
    motions = [resampled(motion, FPS) for motion in motions]
    lengths = [motion.num_frames for motion in motions]
    if max(lengths) - min(lengths) > DANCERS_TOLERANCE_S * FPS:
        shown = ", ".join(f"{length / FPS:.2f}" for length in lengths)
        raise Rejected(
            f"the files of its dancers last {shown} s; they may differ by {DANCERS_TOLERANCE_S:g} s"
        )
    motions = [with_poses(motion) if any(m.poses is None for m in motions) else motion for motion in motions]
    joined: dict[str, Any] = {}
    for one in fields(Motion):
        values = [getattr(motion, one.name) for motion in motions]
        if one.name in ("fps", "meta"):
            continue
        per_frame = one.name not in ("rest_offsets", "betas")
        joined[one.name] = (
            None
            if any(value is None for value in values)
            else np.concatenate([value[:, : min(lengths)] if per_frame else value for value in values])
        )
    return Motion(fps=float(FPS), meta=motions[0].meta, **joined), rate


def _song_seconds(song: Path, start_s: float, motion_s: float) -> float:
    """Return how long a song lasts from a time on.

    Raises:
        Rejected: if the motion lasts longer by more than :data:`MUSIC_TOLERANCE_S`, or nothing sounds.
    """
    sound = measure_sound(song)
    left = float(sound.ends_s[-1]) - start_s
    if motion_s - left > MUSIC_TOLERANCE_S:
        since = f" from {start_s:g} s on" if start_s else ""
        raise Rejected(
            f"the song {song.name} lasts {left:.2f} s{since} and the motion {motion_s:.2f} s, which may be longer by "
            f"{MUSIC_TOLERANCE_S:g} s at most. Is it another song?"
        )
    if silent := sound.silence(start_s, start_s + min(left, motion_s)):
        raise Rejected(f"the song {song.name} is silent ({silent})")
    return left


def row_of(
    job: Job, motion: Motion, span: tuple[int, int], rate: float, sha256: str, suffix: str
) -> DanceSequence:
    """Return the row of some frames of a motion on the ground."""
    start, end = span
    assert motion.poses is not None and motion.transl is not None and motion.rest_offsets is not None  # noqa: PT018
    poses, transl = (
        value[:, start:end].astype(np.float32, copy=False) for value in (motion.poses, motion.transl)
    )
    offsets = motion.rest_offsets.astype(np.float32)
    joints = np.asarray(forward_kinematics(poses, transl, offsets[:, None]), dtype=np.float32)
    first_s = float(motion.meta.get("start_s", 0.0)) + start / FPS
    backends = [Backend("import", job.item.format, __version__)]
    music: dict[str, Any] = {"music_beats": np.zeros(0, np.int32)}
    song_s: float | None = None
    if job.song:
        song_s = job.item.audio_start_s + start / FPS
        found = extract(job.song, song_s, song_s + (end - start) / FPS, end - start)
        music = {one.name: getattr(found, one.name) for one in fields(MusicAnnotation)}
        backends.append(Backend("music", "librosa", version("librosa")))
    confidence = np.ones(poses.shape[:2]) if motion.confidence is None else motion.confidence[:, start:end]
    group = job.item.group or (job.song.stem if job.song else str(motion.meta.get("group") or job.item.id))
    return validate(
        DanceSequence(
            id=valid_name(job.item.id) + suffix,
            group=valid_name(group),
            num_dancers=len(poses),
            num_frames=end - start,
            joints=flat_dancers(joints),
            smpl_pose=flat_dancers(poses),
            smpl_transl=flat_dancers(transl),
            rest_offsets=offsets.reshape(-1),
            smpl_betas=None if motion.betas is None else motion.betas.astype(np.float32).reshape(-1),
            motion_velocity=mean_joint_speed(joints),
            confidence=flat_dancers(confidence).clip(0, 1),
            provenance=Provenance(
                source_sha256=sha256,
                start_s=first_s,
                end_s=first_s + (end - start) / FPS,
                source_fps=float(rate),
                licence=job.licence,
                opendance_version=__version__,
                backends=tuple(backends),
                song_start_s=song_s,
            ),
            **music,
        )
    )
