"""``opendance clean``: dances without sliding feet, jitter and bodies inside bodies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from rich.table import Table

from opendance_hf.cleanup import CleanedMotion, CleanError, clean_motion
from opendance_hf.files import check_output
from opendance_hf.formats import FormatError, opendance
from opendance_hf.formats.motion import Motion

#: Rows of the table: field of :class:`~opendance_hf.cleanup.Quality`, label, digits.
_ROWS: Final = (
    ("skate", "steps without a standing foot", 3),
    ("slide_cmps", "feet in contact slide, cm/s", 1),
    ("hover_mm", "feet in contact hover, mm", 1),
    ("below_floor_mm", "below the floor, mm", 2),
    ("self_mm", "limbs in the own body, mm", 1),
    ("partner_mm", "in partners, mm", 1),
    ("jitter", "jitter, m/s³", 0),
)


@dataclass(frozen=True)
class CleanedFile:
    """Result for one file: the input, the output and the cleaned motion."""

    source: Path
    target: Path
    result: CleanedMotion


def cleaned(motion: Motion, floor: float | None = None) -> tuple[Motion, CleanedMotion]:
    """Clean a motion and return it with the result of :func:`opendance_hf.cleanup.clean_motion`.

    Args:
        motion: of any number of dancers.
        floor: height of the ground, metres; by default ``meta["ground"]``, or estimated if that is missing.

    Raises:
        CleanError: if the motion is too short.
    """
    result = clean_motion(
        motion.joints,
        motion.fps,
        poses=motion.poses,
        transl=motion.transl,
        rest_offsets=motion.rest_offsets,
        floor=motion.meta.get("ground") if floor is None else floor,
    )
    same_body = motion.rest_offsets is not None and (result.rest_offsets == motion.rest_offsets).all()
    arrays = {name: getattr(result, name).astype("float32") for name in ("joints", "poses", "transl")}
    return replace(
        motion,
        **arrays,
        rest_offsets=result.rest_offsets.astype("float32"),
        betas=motion.betas if same_body else None,
        meta={**motion.meta, "ground": result.floor},
    ), result


def clean_files(
    files: Sequence[Path], out: Path, *, floor: float | None = None, overwrite: bool = False
) -> Iterator[CleanedFile]:
    """Clean sequences or dances, one after another.

    Args:
        files: ``.npz`` files of sequences or dances.
        out: an ``.npz`` file for one input, or a folder, for files of the same names.
        floor: see :func:`cleaned`.
        overwrite: True if existing files may be replaced; never an input.

    Raises:
        CleanError: if two inputs have one name, or a motion is too short.
        FormatError, FileNotFoundError: if an input is not a sequence or dance.
        OutputError, DiskError: if an output is an input, exists or cannot be written.
    """
    targets = _targets(files, out, overwrite)
    for source, target in zip(files, targets, strict=True):
        try:
            motion, result = cleaned(opendance.read(source), floor)
        except FormatError as error:
            raise FormatError(
                f"{error}. Files of other projects are imported with opendance convert first"
            ) from None
        except CleanError as error:
            raise CleanError(f"{source}: {error}") from None
        opendance.write(motion, target)
        yield CleanedFile(source, target, result)


def table(done: CleanedFile) -> Table:
    """Make the table of a file's measures before and after."""
    before, after = done.result.before, done.result.after
    out = Table("", "before", "after", title=done.source.name, title_justify="left", box=None)
    for column in out.columns[1:]:
        column.justify = "right"
    for field, label, digits in _ROWS:
        values = [getattr(quality, field) for quality in (before, after)]
        if any(values):
            out.add_row(label, *(f"{value:.{digits}f}" for value in values))
    out.add_row("mean distance from the input, mm", "", f"{done.result.moved_mm:.1f}")
    if done.result.left_out:
        out.caption, out.caption_justify = "\n".join(("left out:", *done.result.left_out)), "left"
    return out


def _targets(files: Sequence[Path], out: Path, overwrite: bool) -> list[Path]:
    if out.suffix and not out.is_dir():
        if out.suffix.lower() != ".npz":
            raise CleanError(f"{out}: write to a file that ends in .npz, or to a folder")
        if len(files) > 1:
            raise CleanError(f"{out}: one file for {len(files)} dances; give --out a folder")
        targets = [out]
    else:
        targets = [out / file.name for file in files]
    if len(set(targets)) < len(targets):
        raise CleanError(f"{out}: two inputs have the same name; rename one of them")
    for target in targets:
        check_output(target, files, overwrite=overwrite)
    return targets
