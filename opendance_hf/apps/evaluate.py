"""``opendance evaluate``: dances from files, their scores as a table and as JSON."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from opendance_hf.metrics import Clip, ClipScores, EvaluationResult, Score, SetScores, evaluate
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence, read_parquet

#: Longer sets are cut in the terminal; the JSON has every clip.
_MAX_ROWS: Final = 30


class EvaluateError(ValueError):
    """The dances cannot be evaluated; the message says which file and why."""


def run_evaluate(
    predictions: Path,
    reference: Path,
    out: Path | None = None,
    *,
    protocol: str = "opendance-3d",
    console: Console | None = None,
) -> EvaluationResult:
    """Evaluate the dances of one folder against those of another, print a table and write JSON.

    Args:
        predictions, reference: see :func:`load_clips`.
        out: where to write the JSON, or None.
        protocol: a key of :data:`opendance_hf.metrics.PROTOCOLS`.
        console: where to print, or None.

    Raises:
        EvaluateError: if a file holds no valid dance, a folder has none, or the protocol is unknown.
    """
    try:
        result = evaluate(load_clips(predictions), load_clips(reference), protocol)
    except EvaluateError:
        raise
    except ValueError as error:
        raise EvaluateError(str(error)) from None
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(asdict(result), indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if console is not None:
        print_result(console, result)
    return result


def load_clips(path: Path) -> Iterator[Clip]:
    """The dances of a dataset folder, a folder of ``.npz`` files, or one ``.npz`` file; one in memory at a time.

    Of a dataset, all configurations and splits. An ``.npz`` file is an annotated sequence
    (:func:`opendance_hf.storage.load_sequence`) or a generated dance: ``joints`` (T, 24, 3) or (D, T, 24, 3) in metres
    at 60 FPS, y-up; optionally ``music_beats`` (frame indices), ``id`` and ``fps`` (which must then be 60).

    Raises:
        EvaluateError: if there are no dances, or a file is damaged or holds something else.
    """
    if not path.exists():
        raise EvaluateError(f"{path}: no such file or folder")
    shards = sorted(path.glob("data/*/*-?????-of-?????.parquet"))
    if shards:
        splits = dict.fromkeys(
            (shard.parent.name, shard.name[: -len("-00000-of-00001.parquet")]) for shard in shards
        )
        for config, split in splits:
            for seq in read_parquet(path, config, split):
                yield _clip(seq)
        return
    files = [path] if path.is_file() else sorted(path.glob("*.npz"))
    if not files:
        raise EvaluateError(f"{path}: neither a dataset (data/CONFIG/*.parquet) nor a folder of .npz files")
    for file in files:
        yield _load_npz(file)


def _clip(seq: DanceSequence) -> Clip:
    return Clip(seq.id, per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3), seq.music_beats)


def _load_npz(file: Path) -> Clip:
    try:
        with np.load(file, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise EvaluateError(f"{file}: a bare .npy array, not an .npz file")
            if "provenance" not in archive.files:
                wanted = ("joints", "music_beats", "id", "fps")
                return _generated(file, {name: archive[name] for name in wanted if name in archive.files})
        return _clip(load_sequence(file))
    except EvaluateError:
        raise
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        text = str(error)
        raise EvaluateError(text if text.startswith(str(file)) else f"{file}: {text}") from None


def _generated(file: Path, arrays: dict[str, Any]) -> Clip:
    if "joints" not in arrays:
        raise EvaluateError(f"{file}: holds no array 'joints'")
    if "fps" in arrays and float(arrays["fps"]) != FPS:
        raise EvaluateError(f"{file}: {float(arrays['fps']):g} FPS; resample the motion to {FPS} first")
    joints = arrays["joints"]
    name = str(arrays["id"]) if "id" in arrays else file.stem
    return Clip(name, joints[None] if joints.ndim == 3 else joints, arrays.get("music_beats"))


def print_result(console: Console, result: EvaluationResult) -> None:
    """The row of paper table 3 for predictions and reference, what to beware of, and every predicted clip."""
    undefined = Score(None, 0)  # the reference has no distance to itself
    rows: list[tuple[str, SetScores, dict[str, Score]]] = []
    for name, scores in (("reference", result.reference), ("predictions", result.predictions)):
        predicted = scores is result.predictions
        rows.append(
            (
                name,
                scores,
                {
                    "FID_k": result.fid_k if predicted else undefined,
                    "FID_g": result.fid_g if predicted else undefined,
                    "Div_k": scores.div_k,
                    "Div_g": scores.div_g,
                    "music-motion": scores.music_motion,
                    "motion-motion": scores.motion_motion,
                },
            )
        )
    table = _table(f"Evaluation, protocol {result.protocol.name}", "set", "clips", "N", *rows[0][2])
    for name, scores, columns in rows:
        cells = [_number(score.value) + ("*" if score.note else "") for score in columns.values()]
        table.add_row(name, str(scores.num_clips), str(scores.num_samples), *cells)
    console.print(table)
    for name, _, columns in rows:
        for column, score in columns.items():
            if score.note:
                console.print(f"* {column} of {name}: {score.note}", markup=False, highlight=False)

    clips = result.predictions.clips
    table = _table("Predicted clips", "id", "dancers", "frames", "music beats", "motion beats", "music-motion", "motion-motion")  # fmt: skip
    for clip in clips[:_MAX_ROWS]:
        table.add_row(*_cells(clip))
    console.print(table)
    if len(clips) > _MAX_ROWS:
        console.print(f"... and {len(clips) - _MAX_ROWS} more", highlight=False)


def _cells(clip: ClipScores) -> list[str | Text]:
    return [
        Text(clip.id),
        str(clip.num_dancers),
        str(clip.frames_used),
        "-" if clip.num_music_beats is None else str(clip.num_music_beats),
        ", ".join(map(str, clip.num_motion_beats)),
        ", ".join(map(_number, clip.music_motion)),
        _number(clip.motion_motion),
    ]


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
