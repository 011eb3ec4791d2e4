"""``opendance export``: dances for animation tools."""

from __future__ import annotations

import inspect
import logging
import re
from dataclasses import dataclass
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any, Final

from opendance_hf.errors import OpenDanceError
from opendance_hf.files import HUB_ID, atomic_write, check_output, names_a_folder
from opendance_hf.formats import FORMATS, WritableFormat, format_named
from opendance_hf.formats.detect import SUFFIXES, format_of
from opendance_hf.formats.motion import Motion, check_suffix, one_file_a_dancer
from opendance_hf.formats.opendance import motion_of
from opendance_hf.formats.resample import resampled, with_poses
from opendance_hf.music.decode import Floats, decode_audio
from opendance_hf.music.sound import measure_sound

_SAMPLE_RATE: Final = 48_000
#: A song may end before the dance by this, seconds: the rest is silent.
_MISSING_S: Final = 0.1

log = logging.getLogger(__name__)


class ExportError(OpenDanceError, ValueError):
    """Raised if a dance cannot be exported; the message has the cause and the remedy."""


@dataclass(frozen=True)
class ExportOptions:
    """Options of :func:`export`.

    Attributes:
        row: id of the row, for datasets of more than one.
        dancer: number of one dancer to export alone, from 1; None for all.
        fps: frames per second of the file; by default those of the dance.
        rig: of formats with named bones, see :data:`opendance_hf.formats.rigs.RIGS`; by default the format's.
        detail: of the skinned body, see :data:`opendance_hf.formats.skinned.DETAILS`; by default the format's.
        blender: program for FBX.
        audio: song, or the source video of a row, whose part that belongs to the dance is written beside the file.
        audio_start_s: where that part begins; by default the start of the row in its song, or in its source, or 0.
        overwrite: True to replace files that exist.
    """

    row: str | None = None
    dancer: int | None = None
    fps: float | None = None
    rig: str | None = None
    detail: str | None = None
    blender: str | None = None
    audio: Path | None = None
    audio_start_s: float | None = None
    overwrite: bool = False


def writable() -> list[str]:
    """Return the names of the formats that dances are exported to."""
    return [name for name in FORMATS if isinstance(format_named(name), WritableFormat)]


def suffix_of(name: str) -> str:
    """Return the suffix of the files of a format that is written."""
    return str(import_module(FORMATS[name]).SUFFIX)


def missing_for(name: str) -> str:
    """Return what a format needs and this machine lacks; empty if it can be written here."""
    missing = getattr(format_named(name), "missing", None)
    return "" if missing is None else str(missing())


def format_for(to: str) -> str:
    """Return the format of a name or a suffix, such as ``glb`` or ``.smpl``.

    Raises:
        ExportError: if no format has it.
    """
    name = to.lower()
    found = [n for n in writable() if n == name or getattr(import_module(FORMATS[n]), "SUFFIX", "") == name]
    if not found:
        raise ExportError(f"unknown format {to!r}: expected one of {', '.join(writable())}")
    return found[0]


def export(source: str, to: str, out: Path | None, options: ExportOptions) -> list[Path]:
    """Write a dance for another tool, with its part of a song and its terms beside it.

    Args:
        source: a motion file of any format that is read, a dataset folder, or a Hub id.
        to: name or suffix of the format.
        out: the file; by default the name of the dance in the current folder. Formats with one dancer a file number it.
        options: see :class:`ExportOptions`.

    Returns:
        The files: the dance, the song, the terms.

    Raises:
        ExportError: if the source has no such dance, or the format does not take an option.
        FormatError: if a file cannot be read or the format cannot hold the dance.
        OutputError, DiskError: if a file exists or cannot be written.
    """
    name = format_for(to)
    module = import_module(FORMATS[name])
    extra = {key: getattr(options, key) for key in ("rig", "detail", "blender")}
    extra = {key: value for key, value in extra.items() if value is not None}
    taken = inspect.signature(module.write).parameters
    if unknown := [key for key in extra if key not in taken]:
        raise ExportError(f"{name} files have no --{unknown[0]}")
    fixed = getattr(module, "FIXED_FPS", None)
    if fixed and options.fps not in (None, fixed):
        raise ExportError(f"--fps {options.fps:g}: {name} files have {fixed:g} frames per second")
    if out is not None:
        check_suffix(out, *getattr(module, "SUFFIXES", (module.SUFFIX,)))
    motion = load_dance(source, options.row)
    if options.dancer is not None:
        if not 1 <= options.dancer <= motion.num_dancers:
            raise ExportError(f"--dancer {options.dancer}: the dance has {motion.num_dancers} dancer(s)")
        motion = motion.dancer(options.dancer - 1)
    if motion.poses is None:
        log.warning(
            "the dance has joint positions only: its rotations are computed from them, without twist of the bones"
        )
    motion = resampled(with_poses(motion), float(options.fps or fixed or motion.fps))
    out = out or Path(f"{_file_name(motion)}{module.SUFFIX}")
    inputs = [Path(source), *([options.audio] if options.audio else [])]
    beside = {"audio": out.with_suffix(".wav"), "terms": out.with_suffix(".licence.txt")}
    numbered = [file for _, file in one_file_a_dancer(motion, out)]
    licence = motion.meta.get("licence")
    files = numbered if getattr(module, "FILE_A_DANCER", False) else [out]
    files += [beside["audio"]] * bool(options.audio) + [beside["terms"]] * bool(licence)
    for file in files:
        check_output(file, inputs, overwrite=options.overwrite)
    samples = None
    if options.audio is not None:
        samples = song_part(motion, options.audio, options.audio_start_s, _SAMPLE_RATE)
    written: list[Path] = list(module.write(motion, out, **extra))
    if samples is not None:
        _write_audio(samples, beside["audio"])
        written.append(beside["audio"])
    if licence:
        with atomic_write(beside["terms"]) as partial:
            partial.write_text(f"{licence}\n", encoding="utf-8")
        written.append(beside["terms"])
    return written


def readable_answers(path: Path) -> set[str]:
    """Return what can be said of a motion file that does not tell: ``fps``, ``up`` or ``names``; nothing of a folder."""
    if not path.is_file():
        return set()
    return set(inspect.signature(format_named(format_of(path)).read).parameters) & {"fps", "up", "names"}


def load_dance(source: str, row: str | None, **answers: Any) -> Motion:
    """Load one dance from a motion file or a dataset.

    Args:
        source: a file of :data:`opendance_hf.formats.FORMATS`, a dataset folder, or a Hub id.
        row: id of the row, if there are several.
        answers: see :func:`readable_answers`.

    Raises:
        ExportError: if there is no such file or row, or which row is not said.
        FormatError: if the file cannot be read.
    """
    path = Path(source)
    if path.is_file():
        if row is not None:
            raise ExportError(f"{path}: is one dance; --row is for datasets")
        return format_named(format_of(path)).read(path, **answers)
    if path.is_dir():
        return _row_of_folder(path, row)
    if (
        HUB_ID.fullmatch(source)
        and not names_a_folder(source)
        and path.suffix.lower() not in chain(*SUFFIXES)
    ):
        return _row_of_hub(source, row)
    raise ExportError(f"{source}: no such file, folder or dataset")


def _row_of_folder(folder: Path, row: str | None) -> Motion:
    from opendance_hf.schema import from_row
    from opendance_hf.storage import list_splits, read_rows

    splits = list_splits(folder)
    if not splits:
        raise ExportError(f"{folder}: not a dataset (data/CONFIG/*.parquet); name one motion file")
    ids = {str(found["id"]): part for part in splits for found in read_rows(folder, *part, ["id"])}
    chosen = _choose(str(folder), list(ids), row)
    rows = (found for found in read_rows(folder, *ids[chosen]) if found["id"] == chosen)
    return motion_of(from_row(next(rows)))


def _row_of_hub(name: str, row: str | None) -> Motion:
    from datasets import get_dataset_config_names, load_dataset

    from opendance_hf.schema import from_row

    try:
        splits = [
            split
            for config in get_dataset_config_names(name)
            for split in load_dataset(name, config).with_format("numpy").values()
        ]
    except Exception as error:  # of datasets and the Hub: many types
        raise ExportError(f"{name}: not a dataset that can be loaded ({error})") from None
    ids = {str(found): (split, at) for split in splits for at, found in enumerate(split["id"])}
    split, at = ids[_choose(name, list(ids), row)]
    return motion_of(from_row(split[at]))


def _choose(source: str, ids: list[str], row: str | None) -> str:
    if row in ids or (row is None and len(ids) == 1):
        return row or ids[0]
    asked = "has several dances" if row is None else f"has no row {row!r}"
    shown = ", ".join(ids[:8]) + (", ..." if len(ids) > 8 else "")
    raise ExportError(f"{source}: {asked}; choose one with --row: {shown}")


def _file_name(motion: Motion) -> str:
    name = re.sub(r"[^\w.-]+", "_", str(motion.meta.get("id", "")))[:100].strip("._")
    return name or "dance"


def song_part(motion: Motion, audio: Path, start_s: float | None, sample_rate: int) -> Floats:
    """Return the (N,) samples of the part of a song that belongs to a dance.

    Args:
        motion: the dance.
        audio: the song, or a video with it.
        start_s: where that part begins; None for what the dance says, or 0.
        sample_rate: of the result, Hz.

    Raises:
        ExportError: if the song ends before the dance.
        AudioError: if it cannot be read.
    """
    start = start_s
    if start is None:
        start = float(motion.meta.get("song_start_s", motion.meta.get("start_s", 0.0)))
    end = start + motion.num_frames / motion.fps
    missing = end - float(measure_sound(audio).ends_s[-1])
    if missing > _MISSING_S:
        raise ExportError(
            f"{audio}: ends {missing:.1f} s before the dance, which begins at {start:g} s of it; is it another song? "
            "Give the start with --audio-start"
        )
    return decode_audio(audio, sample_rate, start, end)


def _write_audio(samples: Floats, path: Path) -> None:
    import soundfile

    with atomic_write(path) as partial, partial.open("wb") as file:
        soundfile.write(file, samples, _SAMPLE_RATE, format="WAV", subtype="PCM_16")
