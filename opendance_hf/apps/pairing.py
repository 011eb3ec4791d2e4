"""``opendance pair``: a dataset of captured motion, re-timed so that its steps fall on the beats of songs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
from rich.console import Console

from opendance_hf import __version__
from opendance_hf.apps.import_item import Job, Outcome, file_digest
from opendance_hf.apps.importing import (
    SOUNDS,
    ImportingError,
    ImportResult,
    Work,
    check_places,
    files_in,
    make_dataset,
)
from opendance_hf.apps.pair_item import MIN_SONG_S, PairJob, Song, pair_item
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, new_folder
from opendance_hf.formats.detect import SUFFIXES_OF, format_of
from opendance_hf.loading_scripts import Item
from opendance_hf.music import annotate_music
from opendance_hf.music.beat_file import MIN_BEATS, SUFFIX, read_beats
from opendance_hf.music.sound import measure_sound
from opendance_hf.music.tempo import tempo_from_beats
from opendance_hf.pipeline.printable import printable
from opendance_hf.schema import FPS
from opendance_hf.storage.licences import check_licence
from opendance_hf.storage.splits import assign_splits
from opendance_hf.terms import TERMS

_MOTIONS: Final = tuple(sorted({suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes}))
#: Resolution of given beats for their tempo, hertz.
_CLOCK_HZ: Final = 1000.0
#: Licence of the choreographies, which this project makes.
_OURS: Final = "apache-2.0"


@dataclass(frozen=True)
class PairOptions:
    """Options of :func:`run_pair`.

    Attributes:
        songs_per_motion: songs for each dancer of a motion, and for all together.
        max_warp: largest deviation from 1 of the slope of the map from the time of a motion to that of a song.
        mirror: True to add a mirrored copy of each row.
        beats: folder of the beats of songs, see :func:`opendance_hf.music.beat_file.read_beats`.
        licence: of the motion; by default what each file states, or unknown.
        all_train: True to publish all rows as ``train``, and to pair every motion with any song.
        seed: of the choice among songs that fit nearly alike.
        workers: processes.
        choreographies: number of seeded choreographies, danced to songs as well.
    """

    songs_per_motion: int = 3
    max_warp: float = 0.12
    mirror: bool = False
    beats: Path | None = None
    licence: str | None = None
    all_train: bool = False
    seed: int = 0
    workers: int = 1
    choreographies: int = 0


def run_pair(motions: Path, songs: Path, out: Path, options: PairOptions, console: Console) -> ImportResult:
    """Make a dataset of motions in the time of songs.

    Finished items are kept in ``OUT.import``, as by ``opendance import``.

    Args:
        motions: a motion file of any format that is read, or a folder of them.
        songs: an audio file, or a folder of them.
        out: the dataset folder; an existing dataset is replaced.
        options: see :class:`PairOptions`.
        console: shows progress and results.

    Raises:
        ImportingError: if there are no motions or no songs.
        LicenceError: if the licence is unknown.
        OutputError, PackError, DiskError: if ``out`` cannot be written.
    """
    out = Path(os.path.abspath(out))
    licence = options.licence or ""
    if licence and licence not in TERMS:
        licence = check_licence(licence)
    for path in (motions, songs, *([options.beats] if options.beats else [])):
        if not path.exists():
            raise ImportingError(f"{path}: no such file or folder")
    store = check_places(out, [motions, songs, *([options.beats] if options.beats else [])])
    files = files_in(motions, _MOTIONS) if motions.is_dir() else [motions]
    if not files:
        raise ImportingError(f"{motions}: no motion files in it ({', '.join(_MOTIONS)})")
    known, refused = _songs(songs, options.beats, store, console)
    if not known:
        why = f": {refused[0].name}: {refused[0].reason}" if refused else f" ({', '.join(SOUNDS)})"
        raise ImportingError(f"{songs}: no songs in it that can be used{why}")
    options = replace(options, licence=licence)
    jobs = _jobs(files, motions, known, options, store)
    work = Work("pair", licence or "other", pair_item, options.workers, "pairing")
    result = make_dataset(work, jobs, out, console, refused)
    _print_fit(out, result, console)
    return result


def _songs(
    folder: Path, beats: Path | None, store: Path, console: Console
) -> tuple[list[Song], list[Outcome]]:
    """Return the songs with their beats, and the results of those that cannot be used."""
    paths = files_in(folder, SOUNDS) if folder.is_dir() else [folder]
    root = folder if folder.is_dir() else folder.parent
    found: list[Song] = []
    refused = []
    with new_folder(store / "songs"):
        for number, path in enumerate(paths, start=1):
            if console.is_terminal:
                console.print(f"song {number} of {len(paths)}: {printable(path.name)}", markup=False)
            name = path.relative_to(root).with_suffix("").as_posix()
            try:
                song = _song(name, path, beats, store / "songs")
                status, reason = "rejected", _unusable(song, found)
            except (OpenDanceError, OSError) as error:
                status, reason = "failed", str(error).replace(f"{root}{os.sep}", "")
            if reason:
                refused.append(Outcome(printable(path.name), status, reason))
            else:
                found.append(song)
    return found, refused


def _unusable(song: Song, others: Sequence[Song]) -> str:
    """Return why a song cannot be used; empty if it can."""
    if song.seconds < MIN_SONG_S:
        return f"the song lasts {song.seconds:.2f} s, at least {MIN_SONG_S:g} s are needed"
    if len(song.beats_s) < MIN_BEATS:
        return f"{len(song.beats_s)} beat(s) were found, at least {MIN_BEATS} are needed; give them in {song.path.stem}{SUFFIX}"
    same = next((other for other in others if song.sha256 == other.sha256 or song.name == other.name), None)
    return f"the same song as {same.path.name}" if same else ""


def _song(name: str, path: Path, beats: Path | None, cache: Path) -> Song:
    """Read the beats of a song, or track them; tracked beats are kept in a folder.

    Raises:
        AudioError, NoAudioError: if it has no sound.
        BeatFileError: if the file of its beats is not one.
    """
    digest = file_digest(path)
    sound = measure_sound(path)
    seconds = float(sound.ends_s[-1])
    if silent := sound.silence():
        raise ImportingError(f"{path}: the song is silent ({silent})")
    places = [path.with_name(f"{path.stem}{SUFFIX}")]
    if beats is not None:
        places = [beats / f"{name}{SUFFIX}", beats / f"{path.stem}{SUFFIX}", *places]
    if given := next((place for place in places if place.is_file()), None):
        times = read_beats(given)
        middle = 60 / float(np.median(np.diff(times)))
        bpm = tempo_from_beats(np.round(times * _CLOCK_HZ).astype(np.int64), _CLOCK_HZ, middle)
        return Song(name, path, digest, seconds, tuple(times.tolist()), bpm)
    kept = cache / f"{digest[:32]}-{__version__}.json"
    try:
        bpm, tracked = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        music = annotate_music(path)
        bpm, tracked = music.bpm, (music.music_beats / FPS).tolist()
        with atomic_write(kept) as partial:
            partial.write_text(json.dumps([bpm, tracked]), encoding="utf-8")
    return Song(name, path, digest, seconds, tuple(tracked), float(bpm))


def _jobs(
    files: Sequence[Path], root: Path, songs: Sequence[Song], options: PairOptions, store: Path
) -> list[PairJob]:
    """Return the items, with the reason for those that cannot be paired."""
    root = root if root.is_dir() else root.parent
    made = {f"choreography_{seed:04d}": seed for seed in range(options.choreographies)}
    names = [*(path.stem for path in files), *made]
    splits = dict.fromkeys(names, "train") if options.all_train else assign_splits(names)
    song_splits = assign_splits(song.name for song in songs)

    def job_of(item: Item, shown: str, licence: str, refused: str = "") -> Job:
        return Job(item, shown, root, None, None, {}, licence, store, refused)

    jobs = [
        job_of(
            Item(path.stem, (path,), kind, path.stem, splits[path.stem]),
            shown,
            options.licence or "",
            refused,
        )
        for path, shown, kind, refused in _checked(files, root)
    ]
    jobs += [job_of(Item(name, (), "opendance", name, splits[name]), name, _OURS) for name in made]
    found = []
    for job in jobs:
        split = str(job.item.split)
        near = tuple(song for song in songs if options.all_train or song_splits[song.name] == split)
        if not near and not job.refused:
            why = f"its split, {split}, has no song: motions are paired within a split; add songs, or use --all-train"
            job = replace(job, refused=why)
        settings = options.songs_per_motion, options.max_warp, options.mirror, options.seed
        found.append(PairJob(job, near, *settings, choreography=made.get(job.name)))
    return found


def _checked(files: Sequence[Path], root: Path) -> Iterator[tuple[Path, str, str, str]]:
    """Yield each file, its name for people, its format, and why it cannot be paired; empty if it can."""
    names, digests = dict[str, str](), dict[str, str]()
    for path in files:
        shown, digest = printable(str(path.relative_to(root))), file_digest(path)
        kind = refused = ""
        try:
            kind = format_of(path)
        except OpenDanceError as error:
            refused = str(error)
        if digest in digests:
            refused = f"the same file as {digests[digest]}"
        elif path.stem in names:
            refused = f"{names[path.stem]} has the same name; rename one"
        names.setdefault(path.stem, shown)
        digests.setdefault(digest, shown)
        yield path, shown, kind, refused


def _print_fit(out: Path, result: ImportResult, console: Console) -> None:
    """Print the mean step beat of the rows, and the largest warp."""
    if result.packed is None:
        return
    found: list[dict[str, Any]] = []
    for shard in sorted(out.glob("data/*/*.parquet")):
        table = pq.read_table(shard, columns=["provenance"], partitioning=None, use_threads=False)
        found += [one["pairing"] for one in table["provenance"].to_pylist()]
    if retimed := [one for one in found if one["kind"] == "retimed"]:
        before, after = (
            np.mean([one[f"step_beat_{when}"] for one in retimed]) for when in ("before", "after")
        )
        slopes = [np.diff(one["warp_song_s"]) / np.diff(one["warp_source_s"]) for one in retimed]
        warp = 100 * np.abs(np.concatenate(slopes) - 1).max()
        console.print(
            f"step beat: {before:.3f} before and {after:.3f} after, mean of {len(retimed)} row(s); largest warp {warp:.1f}%",
            markup=False,
            highlight=False,
        )
    if made := [one["step_beat_after"] for one in found if one["kind"] == "choreographed"]:
        console.print(
            f"step beat: {np.mean(made):.3f} of {len(made)} choreographed row(s)",
            markup=False,
            highlight=False,
        )
