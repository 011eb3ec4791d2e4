"""Dances for songs: audio or video files in, an MP4 with the song and an npz with the motion out for each."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast, get_args

import numpy as np
import numpy.typing as npt

from opendance_hf.apps.clean import cleaned
from opendance_hf.assets import packaged_weights
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import atomic_write, check_output
from opendance_hf.formats import opendance
from opendance_hf.formats.motion import Motion
from opendance_hf.music import Engine, decode_audio
from opendance_hf.music.beat_file import read_beats, steady_beats
from opendance_hf.music.inputs import hears_beats
from opendance_hf.music.sound import measure_sound
from opendance_hf.schema import FPS

#: The dancer of the package, for those who bring no model; and the dancers by their number.
PACKAGED_DANCER: Final = "bailando-cmu"
PACKAGED_DANCERS: Final = {1: PACKAGED_DANCER, 2: "bailando-pp-cmu"}
_SOUND_RATE: Final = 44_100
_SUFFIXES: Final = (".mp4", ".npz")
#: Space that the dance of a song needs at least, bytes.
_ROOM: Final = 1024**2

log = logging.getLogger(__name__)


class GenerateError(OpenDanceError, RuntimeError):
    """A song or an output that cannot be used; the message has the cause and the remedy."""


@dataclass(frozen=True)
class GenerateOptions:
    """Options of ``opendance generate``.

    Attributes:
        seed: of the first code and, when sampling, of every draw.
        seed_motion: file of a sequence or dance whose first frames the dances start from.
        device: see :meth:`Dancer.from_pretrained`.
        engine: see :meth:`Dancer.from_pretrained`.
        batch_size: songs at a time.
        clean: True to clean the dances, see :func:`opendance_hf.cleanup.clean_motion`.
        suffix: of the files in an output folder and of the default name, ``.mp4`` or ``.npz``. With ``.npz``, no film is
            written to a given file either.
        beats: file of the song's beats, see :func:`opendance_hf.music.beat_file.read_beats`; for one song.
        bpm: steady tempo of the songs instead of their tracked beats.
        first_beat_s: time of a beat at that tempo, in seconds.
        overwrite: replace files that exist; a song or the seed motion is never replaced.
        generation: changes of the model's generation defaults.
    """

    seed: int = 0
    seed_motion: Path | None = None
    device: str = "auto"
    engine: str | None = None
    batch_size: int = 1
    clean: bool = False
    suffix: str = ".mp4"
    beats: Path | None = None
    bpm: float | None = None
    first_beat_s: float = 0.0
    overwrite: bool = False
    generation: dict[str, Any] = field(default_factory=dict)


def generate(
    songs: Path | Sequence[Path],
    model: str | os.PathLike[str] | None = None,
    out: Path | None = None,
    options: GenerateOptions | None = None,
) -> list[Path]:
    """Dance to songs with a trained model.

    Args:
        songs: audio or video files.
        model: folder or Hub id of a model that dances; by default one of the package, :data:`PACKAGED_DANCERS`.
        out: for one song an ``.mp4`` (an ``.npz`` of the same name is written beside it) or an ``.npz`` alone; or a folder,
            for files with the names of the songs. By default ``SONG-dance.mp4`` in the current folder.
        options: see :class:`GenerateOptions`.

    Returns:
        The files written. An npz has ``joints`` (T, 24, 3) in metres, ``smpl_pose`` (T, 24, 3), ``smpl_transl`` (T, 3),
        ``rest_offsets`` (24, 3), ``music_beats``, ``fps``, ``id``, ``seed`` and ``ground``; of several dancers the first four have the
        dancers as first dimension.

    Raises:
        GenerateError: if an output has another suffix, two songs have one name, a song is shorter than a second, beats are
            given twice or for several songs, or there is no model and the package has none for so many dancers.
        BeatFileError: if the beats cannot be used.
        OutputError: if an output is a song or the seed motion, or exists and ``options.overwrite`` is False.
        DiskError: if an output cannot be written.
        ModelError, DanceError, AudioError, FormatError: if the model, an option, a song or the seed motion cannot be used.
    """
    options = options or GenerateOptions()
    files = [songs] if isinstance(songs, Path) else list(songs)
    targets = _targets(files, out, options.suffix)
    inputs = [*files, *filter(None, [options.seed_motion, options.beats])]
    for target in targets:
        for path in dict.fromkeys((target, target.with_suffix(".npz"))):
            check_output(path, inputs, overwrite=options.overwrite, need_bytes=len(files) * _ROOM)
    if options.engine is not None and options.engine not in get_args(Engine):
        raise GenerateError(
            f"unknown engine {options.engine!r}: expected one of {', '.join(get_args(Engine))}"
        )
    beats = _known_beats(files, options)
    from opendance_hf.dance import Dancer  # loads torch, which the checks before do not need

    seeds = None if options.seed_motion is None else [opendance.read(options.seed_motion)]
    generation = dict(options.generation)
    if model is None:
        name = _packaged_dancer(generation)
        model = packaged_weights(name)
        log.info("dancer: %s of the package; --model takes another", name)
    else:
        log.info("loading %s", model)
    dancer = Dancer.from_pretrained(model, device=options.device, engine=cast(Engine | None, options.engine))
    whole: Any = dancer.model
    kind, known = whole.config.model_type, whole.generation_names
    if unknown := sorted(set(generation) - set(known)):
        raise GenerateError(
            f"{model}: a model of type {kind!r} takes no {', '.join(unknown)}: expected {', '.join(known)}"
        )
    if beats and not hears_beats(dancer.feature_extractor.column):
        raise GenerateError(
            f"{model}: this model hears features of the music, not beats: leave out --beats and --bpm"
        )
    log.info("%s, on %s", kind, whole.device)
    dances = dancer.iterate(
        files,
        seed=options.seed,
        seed_motions=seeds,
        music_beats=beats,
        batch_size=options.batch_size,
        **generation,
    )
    written: list[Path] = []
    log.info("dancing to %s", files[0].name if len(files) == 1 else f"{len(files)} songs")
    for song, target, dance in zip(files, targets, dances, strict=True):
        seconds = dance.num_frames / dance.fps
        log.info("%s: %.2f s of dance at %.0f bpm", song.name, seconds, dance.meta["bpm"])
        if options.clean:
            dance, result = cleaned(dance)
            for reason in result.left_out:
                log.info("clean: left out for %s", reason)
        written += write_dance(dance, song, target)
    return written


def _known_beats(songs: list[Path], options: GenerateOptions) -> list[npt.NDArray[np.float64]] | None:
    """Return the frames of the beats of each song that the user gives, or None."""
    if options.beats is not None:
        if options.bpm is not None:
            raise GenerateError("the beats are given twice: give a file of beats or a tempo")
        if len(songs) > 1:
            raise GenerateError(f"{options.beats}: beats of one song, but {len(songs)} songs are given")
        return [FPS * read_beats(options.beats)]
    if options.bpm is None:
        if options.first_beat_s:
            raise GenerateError("--first-beat is the time of a beat at a steady tempo: give --bpm too")
        return None
    lengths = [float(measure_sound(song).ends_s[-1]) for song in songs]
    return [FPS * steady_beats(options.bpm, options.first_beat_s, length) for length in lengths]


def write_dance(dance: Motion, song: Path, out: Path) -> list[Path]:
    """Write a dance as ``.npz`` and, if ``out`` ends in ``.mp4``, as a film with the song; return the files."""
    motion = out.with_suffix(".npz")
    arrays = {
        "joints": dance.joints,
        "smpl_pose": dance.poses,
        "smpl_transl": dance.transl,
        "rest_offsets": dance.rest_offsets,
    }
    if dance.num_dancers == 1:
        arrays = {name: values[0] for name, values in arrays.items() if values is not None}
    with atomic_write(motion) as partial:  # complete together with the film, or not at all
        with partial.open("wb") as file:
            np.savez(
                file,
                **arrays,  # type: ignore[arg-type]
                music_beats=np.array(dance.meta["music_beats"], dtype=np.int64),
                fps=np.int32(FPS),
                id=np.str_(out.stem),
                seed=np.int64(dance.meta["seed"]),
                ground=np.float64(dance.meta["ground"]),
            )
        if out.suffix == ".npz":
            return [motion]
        write_film(dance, song, out)
    return [out, motion]


def write_film(dance: Motion, song: Path, out: Path, start_s: float = 0.0) -> None:
    """Write a dance with poses, at 60 FPS, as a film with its part of the song, which begins at ``start_s``."""
    from opendance_hf.render.film import film  # takes 100 MB, which a dance without a film does not need

    log.info("filming %s", out)
    sound = decode_audio(song, _SOUND_RATE, start_s, start_s + dance.num_frames / FPS)
    assert dance.poses is not None
    assert dance.transl is not None
    assert dance.rest_offsets is not None
    film(out, dance.poses, dance.transl, dance.rest_offsets, sound, _SOUND_RATE)


def _packaged_dancer(generation: dict[str, Any]) -> str:
    """Return the model of the package for a number of dancers, and remove the number where it is no option of the model.

    Raises:
        GenerateError: if the package has none for so many dancers.
    """
    count = generation.get("num_dancers", 1)
    if count not in PACKAGED_DANCERS:
        raise GenerateError(
            f"--dancers {count}: the package has models of {' and '.join(map(str, PACKAGED_DANCERS))} dancers; "
            "--model takes another"
        )
    if count == 1:
        generation.pop("num_dancers", None)
    return PACKAGED_DANCERS[count]


def _targets(songs: list[Path], out: Path | None, suffix: str) -> list[Path]:
    """Return the output file of each song.

    Raises:
        GenerateError: for another suffix, no song, several songs for one file, or two songs of one name.
    """
    if not songs:
        raise GenerateError("no song given")
    if suffix not in _SUFFIXES:
        raise GenerateError(f"unknown file type {suffix!r}: expected one of {', '.join(_SUFFIXES)}")
    if out is not None and out.suffix in _SUFFIXES and not out.is_dir():
        out = out.with_suffix(".npz") if suffix == ".npz" else out
        if len(songs) > 1:
            raise GenerateError(f"{out}: one file for {len(songs)} songs; give --out a folder")
        return [out]
    if out is not None and out.suffix and not out.is_dir():
        raise GenerateError(f"{out}: write to a file that ends in .mp4 or .npz, or to a folder")
    targets = [
        Path(f"{song.stem}-dance{suffix}") if out is None else out / (song.stem + suffix) for song in songs
    ]
    if len(set(targets)) < len(targets):
        double = next(target for target in targets if targets.count(target) > 1)
        raise GenerateError(f"{double}: two songs would be written to this file; rename one of them")
    return targets
