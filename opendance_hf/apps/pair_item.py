"""Pair one captured motion with songs: warp its time so that steps fall on beats, and make the rows."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf import __version__
from opendance_hf.apps.import_item import (
    MAX_S,
    MIN_S,
    Job,
    Outcome,
    Rejected,
    make_item,
    read_checked,
    row_of,
    source_hash,
)
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.resample import at_frames, mirrored
from opendance_hf.metrics.person import Person, measure_person
from opendance_hf.metrics.steps import foot_events
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.phase import beat_phase, phase_score
from opendance_hf.motion.retiming import GRID_S, Warp, fit_warp
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import (
    FPS,
    MUSIC_COLUMNS,
    SCHEMA_VERSION,
    Backend,
    DanceSequence,
    Pairing,
    per_dancer,
)
from opendance_hf.storage.licences import LICENCES
from opendance_hf.terms import TERMS

Floats = npt.NDArray[np.floating]

#: Shortest song, seconds: half of a motion that is longer than its song must make a row.
MIN_SONG_S: Final = 2 * MIN_S + 1.0
#: A part of a motion is shorter than its song by this, seconds, so that the start is free.
_SPARE_S: Final = 1.0
#: Of a longer song a section is searched, longer than the warped motion by this, seconds.
_SECTION_S: Final = 60.0
#: Longest choreography.
_CHOREOGRAPHY_S: Final = 30.0
#: What is kept of a motion before its first and after its last step, seconds: people stand before and after a capture.
_AROUND_S: Final = 1.0
#: Fewest landings and take-offs of a motion.
MIN_EVENTS: Final = 4
#: Changes with what this module computes, so that items of older versions are paired again.
_VERSION: Final = 2


@dataclass(frozen=True)
class Song:
    """A song with its beats.

    Attributes:
        name: path in the folder of the songs, without suffix.
        path: its file.
        sha256: hash of its file.
        seconds: its length.
        beats_s: its beats, seconds.
        bpm: its tempo.
    """

    name: str
    path: Path
    sha256: str
    seconds: float
    beats_s: tuple[float, ...]
    bpm: float


@dataclass(frozen=True)
class PairJob:
    """One motion file to pair.

    Attributes:
        job: the file; its licence is empty if that of the file counts.
        songs: those of its split.
        songs_per_motion: number of songs for each dancer, and for all together.
        max_warp: largest deviation of the slope of the warp from 1.
        mirror: True to add a mirrored copy of each row.
        seed: of the choice of songs and sections.
        choreography: seed of the choreography that takes the place of the file, None for files.
    """

    job: Job
    songs: tuple[Song, ...]
    songs_per_motion: int
    max_warp: float
    mirror: bool
    seed: int
    choreography: int | None = None

    @property
    def name(self) -> str:
        """Name of the item, for people."""
        return self.job.name


@dataclass(frozen=True)
class _Fit:
    """One part of a motion in a song: its first and last frame, and its warp from seconds of the part."""

    start: int
    end: int
    warp: Warp


def pair_item(pair: PairJob) -> Outcome:
    """Pair one motion; errors of its files are in the result.

    Raises:
        OSError: if the store cannot be written.
    """

    def key_of(digests: list[str]) -> str:
        songs = [(song.name, song.sha256, song.beats_s) for song in pair.songs]
        options = (
            pair.songs_per_motion,
            pair.max_warp,
            pair.mirror,
            pair.seed,
            pair.choreography,
            pair.job.licence,
        )
        item = {**asdict(pair.job.item), "motions": [path.name for path in pair.job.item.motions]}
        told = ["pair", _VERSION, SCHEMA_VERSION, __version__, digests, item, songs, options]
        return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:32]

    if pair.choreography is not None:
        return make_item(pair.job, key_of, lambda _: _choreographies(pair))
    return make_item(pair.job, key_of, lambda digests: _rows(pair, source_hash(digests)))


def _rows(pair: PairJob, sha256: str) -> tuple[list[DanceSequence], tuple[Person, ...], bool]:
    motion, rate, people, solved = read_checked(pair.job)
    licence = pair.job.licence or licence_of(motion)
    pair = replace(pair, job=replace(pair.job, licence=licence))
    found = []
    for dancers in _casts(motion.num_dancers):
        part = _cast(motion, dancers)
        rng = np.random.default_rng([pair.seed, *(f"{pair.job.item.id} {dancers}".encode())])
        for song, fits in _chosen(pair, part, rng):
            for number, fit in enumerate(fits, start=1):
                words = [pair.job.item.id, f"d{'-'.join(map(str, dancers))}", song.name]
                name = " ".join([*words, str(number)] if len(fits) > 1 else words)
                found += _pair_rows(pair, part, dancers, song, fit, (name, sha256, rate))
    if not found:
        raise Rejected(
            f"fewer than {MIN_EVENTS} landings and take-offs of feet, which are what is put on beats"
        )
    return found, people, solved


def licence_of(motion: Motion) -> str:
    """Return the licence that a motion states: one with terms, an identifier of the Hub, or unknown."""
    stated = str(motion.meta.get("licence", "")).partition(":")[0].strip().lower()
    return stated if stated in TERMS or stated in LICENCES else "unknown"


def _casts(count: int) -> list[tuple[int, ...]]:
    """Return each dancer alone, and all together if there are several."""
    alone: list[tuple[int, ...]] = [(dancer,) for dancer in range(count)]
    return alone if count == 1 else [*alone, tuple(range(count))]


def _cast(motion: Motion, dancers: tuple[int, ...]) -> Motion:
    chosen = list(dancers)
    arrays = {
        name: value[chosen]
        for name in ("joints", "poses", "transl", "rest_offsets", "betas", "confidence")
        if (value := getattr(motion, name)) is not None
    }
    motion = replace(motion, **arrays)
    assert motion.poses is not None and motion.transl is not None and motion.rest_offsets is not None  # noqa: PT018
    joints = forward_kinematics(motion.poses, motion.transl, motion.rest_offsets[:, None])
    return replace(motion, joints=joints)


def event_times(joints: Floats) -> Floats:
    """Return the landings and take-offs of (D, T, 24, 3) joints at 60 FPS, seconds, of all dancers."""
    found = [foot_events(dancer, FPS) for dancer in joints]
    return np.sort(np.concatenate([np.concatenate([one.landings, one.take_offs]) for one in found])) / FPS


def step_beat(joints: Floats, beats_s: Floats) -> float:
    """Compute the step beat of (D, T, 24, 3) joints at 60 FPS over all dancers; 0 without steps.

    Args:
        joints: metres.
        beats_s: (B,) seconds from the first frame.
    """
    times = event_times(joints)
    return float(phase_score(beat_phase(times, beats_s)).mean()) if len(times) else 0.0


def _chosen(pair: PairJob, motion: Motion, rng: np.random.Generator) -> list[tuple[Song, list[_Fit]]]:
    """Return songs of different tempi with the parts of a motion in them.

    Each is drawn from the half that the steps fit best of the songs in a range of tempo.
    """
    events = event_times(motion.joints)
    if len(events) < MIN_EVENTS:
        return []
    taken = []
    for songs in _tempo_ranges(pair.songs, pair.songs_per_motion):
        fits = [list(_fits(motion.num_frames, events, song, pair.max_warp, rng)) for song in songs]
        gains = [sum(fit.warp.gain for fit in parts) for parts in fits]
        best = np.argsort(gains, kind="stable")[::-1][: math.ceil(len(songs) / 2)]
        chosen = int(rng.choice(best))
        taken.append((songs[chosen], fits[chosen]))
    return taken


def _tempo_ranges(songs: Sequence[Song], count: int) -> list[list[Song]]:
    """Divide songs into so many ranges of tempo with equal numbers of songs; one song each if there are fewer."""
    ordered = sorted(songs, key=lambda song: (song.bpm, song.name))
    count = min(count, len(ordered))
    edges = [len(ordered) * number // count for number in range(count + 1)]
    return [ordered[start:end] for start, end in itertools.pairwise(edges)]


def _fits(
    frames: int, events_s: Floats, song: Song, max_warp: float, rng: np.random.Generator
) -> Iterator[_Fit]:
    """Yield the parts of a motion in a song: several if it is longer than the song."""
    longest_s = min(song.seconds - _SPARE_S, MAX_S / (1 + max_warp))
    first = max(0, math.floor((events_s[0] - _AROUND_S) * FPS))
    last = min(frames, math.ceil((events_s[-1] + _AROUND_S) * FPS))
    if last - first < MIN_S * FPS:
        first, last = 0, frames
    parts = math.ceil((last - first) / FPS / longest_s)
    edges = [first + round((last - first) * number / parts) for number in range(parts + 1)]
    beats_s = np.array(song.beats_s)
    for start, end in itertools.pairwise(edges):
        seconds = (end - start) / FPS
        section_s = min(song.seconds, (1 + max_warp) * seconds + _SECTION_S)
        first_s = math.floor(rng.uniform(0, song.seconds - section_s) / GRID_S) * GRID_S
        times = first_s + np.arange(math.floor(section_s / GRID_S) + 1) * GRID_S
        inside = events_s[(events_s >= start / FPS) & (events_s < end / FPS)] - start / FPS
        worth = phase_score(beat_phase(times, beats_s))
        slopes = max(1 - max_warp, min(1.0, MIN_S / seconds)), 1 + max_warp
        warp = fit_warp(inside, seconds, worth, slopes)
        if warp is None:
            raise Rejected(
                f"{seconds:.2f} s of it do not fit in the song {song.name} of {song.seconds:.2f} s"
            )
        yield _Fit(start, end, replace(warp, song_s=warp.song_s + first_s))


def _pair_rows(
    pair: PairJob,
    motion: Motion,
    dancers: tuple[int, ...],
    song: Song,
    fit: _Fit,
    source: tuple[str, str, float],
) -> list[DanceSequence]:
    """Return the row of a part of a motion in a song, and its mirrored copy if it is asked for."""
    (name, sha256, rate), warp = source, fit.warp
    first_s = float(motion.meta.get("start_s", 0.0)) + fit.start / FPS
    song_start_s = float(warp.song_time(0.0))
    span_s = float(warp.song_time((fit.end - fit.start - 1) / FPS)) - song_start_s
    frames = math.floor(span_s * FPS + 1e-6) + 1
    clock = warp.source_time(song_start_s + np.arange(frames) / FPS) * FPS
    retimed = at_frames(motion, (fit.start + clock).clip(fit.start, fit.end - 1))
    beats_s = np.array(song.beats_s) - song_start_s
    how = Pairing(
        kind="retimed",
        song_sha256=song.sha256,
        dancers=dancers,
        mirrored=0,
        warp_source_s=tuple((warp.source_s + first_s).tolist()),
        warp_song_s=tuple(warp.song_time(warp.source_s).tolist()),
        step_beat_before=step_beat(motion.joints[:, fit.start : fit.end], beats_s),
        step_beat_after=0.0,
    )
    moved = replace(retimed, meta={**motion.meta, "start_s": first_s})
    return _with_copies(pair, moved, song, song_start_s, how, (name, sha256, rate))


def _with_copies(
    pair: PairJob, motion: Motion, song: Song, start_s: float, how: Pairing, source: tuple[str, str, float]
) -> list[DanceSequence]:
    """Return the row of a motion in the time of its song, and its mirrored copy if it is asked for.

    The motion begins ``start_s`` seconds after the song.
    """
    name, sha256, rate = source
    frames, beats_s = motion.num_frames, np.array(song.beats_s) - start_s
    beats = np.unique(np.round(beats_s * FPS).astype(np.int32))
    rows: list[DanceSequence] = []
    for mirror in (False, True) if pair.mirror else (False,):
        item = replace(pair.job.item, id=f"{name} mirrored" if mirror else name, audio_start_s=start_s)
        # The mirrored copy has the features of the first row.
        job = replace(pair.job, item=item, song=None if rows else song.path)
        row = row_of(job, mirrored(motion) if mirror else motion, (0, frames), rate, sha256, "")
        backends = (*row.provenance.backends, Backend("pair", how.kind, __version__))
        if rows:
            row = replace(row, **{column: getattr(rows[0], column) for column in MUSIC_COLUMNS})
            backends = rows[0].provenance.backends
        after = step_beat(per_dancer(row.joints, row.num_dancers, NUM_JOINTS, 3), beats_s)
        before = how.step_beat_before if how.warp_song_s else after
        pairing = replace(how, mirrored=int(mirror), step_beat_before=before, step_beat_after=after)
        rows.append(
            replace(
                row,
                music_beats=beats[(beats >= 0) & (beats < frames)],
                bpm=song.bpm,
                provenance=replace(row.provenance, song_start_s=start_s, pairing=pairing, backends=backends),
            )
        )
    return rows


def _choreographies(pair: PairJob) -> tuple[list[DanceSequence], tuple[Person, ...], bool]:
    """Dance one choreography to songs of different tempi; those of odd seeds are duets."""
    from opendance_hf.synthetic.dancing import choreographed

    assert pair.choreography is not None
    found, people = [], []
    rng = np.random.default_rng([pair.seed, pair.choreography, 4])
    for songs in _tempo_ranges(pair.songs, pair.songs_per_motion):
        song = songs[rng.integers(len(songs))]
        seconds = min(song.seconds, _CHOREOGRAPHY_S)
        start_s = float(rng.uniform(0, song.seconds - seconds))
        beats_s = np.array(song.beats_s) - start_s
        inside = beats_s[(beats_s > 0) & (beats_s < seconds)]
        if len(inside) < MIN_EVENTS:
            continue
        count = 1 + pair.choreography % 2
        motion = choreographed(pair.choreography, count, inside, math.floor(seconds * FPS) / FPS, FPS)
        how = Pairing(
            kind="choreographed",
            song_sha256=song.sha256,
            dancers=tuple(range(count)),
            mirrored=0,
            warp_source_s=(),
            warp_song_s=(),
            step_beat_before=0.0,
            step_beat_after=0.0,
        )
        people += [measure_person(dancer, FPS) for dancer in motion.joints]
        source = hashlib.sha256(f"choreography {pair.choreography}".encode()).hexdigest()
        found += _with_copies(
            pair, motion, song, start_s, how, (f"{pair.job.item.id} {song.name}", source, FPS)
        )
    if not found:
        raise Rejected(f"no song has {MIN_EVENTS} beats within {_CHOREOGRAPHY_S:g} s")
    return found, tuple(people), True
