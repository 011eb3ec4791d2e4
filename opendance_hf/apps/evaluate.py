"""Evaluate dances from files, and write their scores as tables, JSON and figures (``opendance evaluate``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from opendance_hf.apps.clips import EvaluateError, load_clips
from opendance_hf.files import atomic_write, check_folder, check_output, staged_folder
from opendance_hf.metrics import (
    MEASURES,
    Clip,
    ClipScores,
    EvaluationResult,
    Interval,
    PairedTest,
    Score,
    SetScores,
    SubsampleInterval,
    compare_sets,
    compare_systems,
    get_protocol,
    measure,
)
from opendance_hf.metrics.uncertainty import MIN_GROUPS

#: Maximum number of clips in the terminal; the JSON has all.
_MAX_ROWS: Final = 30
#: Scores of each clip in the terminal.
_CLIP_COLUMNS: Final = ("music_motion", "step_beat", "beat_f1", "motion_motion", "foot_skate")


@dataclass(frozen=True)
class EvaluateOptions:
    """Options of an evaluation.

    Attributes:
        protocol: a key of :data:`opendance_hf.metrics.PROTOCOLS`.
        versus: dances of another system to the same songs, for paired tests, or None.
        figures: a folder for figure 5 of the paper of every predicted clip, or None.
        seed: random seed of subsets and resampling.
        overwrite: True to replace files that exist; inputs are never replaced.
    """

    protocol: str = "opendance-3d"
    versus: str | Path | None = None
    figures: Path | None = None
    seed: int = 0
    overwrite: bool = False


def run_evaluate(
    predictions: str | Path,
    reference: str | Path,
    out: Path | None = None,
    options: EvaluateOptions | None = None,
    *,
    console: Console | None = None,
) -> EvaluationResult:
    """Evaluate the dances of one set against those of another, print tables and write JSON and figures.

    Args:
        predictions, reference: see :func:`opendance_hf.apps.clips.load_clips`.
        out: the JSON file to write, or None.
        options: see there.
        console: console for the tables, or None.

    Raises:
        EvaluateError: if a file holds no valid dance, a set has none, the protocol is unknown, or two systems have no
            clip in common.
        OutputError: before anything is measured, if a result is an input or in one, or exists and ``options.overwrite`` is
            False.
        DiskError: likewise, if ``out`` or ``figures`` cannot be written.
    """
    options = options or EvaluateOptions()
    versus, figures, seed = options.versus, options.figures, options.seed
    inputs = [source for source in (predictions, reference, versus) if source is not None]
    if out is not None:
        check_output(out, inputs, overwrite=options.overwrite, option="--json")
    if figures is not None:
        check_folder(figures, inputs, overwrite=options.overwrite, option="--figures")
    try:
        rule = get_protocol(options.protocol)
        found = measure(
            _with_progress(load_clips(predictions), "predictions", console), rule, rule.prediction_frames
        )
        truth = measure(_with_progress(load_clips(reference), "reference", console), rule)
        result = compare_sets(found, truth, rule, seed=seed)
        tests, other = {}, None
        if versus is not None:
            rows = measure(
                _with_progress(load_clips(versus), "versus", console), rule, rule.prediction_frames
            )
            other = compare_sets(rows, truth, rule, seed=seed)
            tests = compare_systems(result.predictions, other.predictions, seed=seed)
    except EvaluateError:
        raise
    except ValueError as error:
        raise EvaluateError(str(error)) from None
    with ExitStack() as results:  # all of them are written, or none
        if out is not None:
            _write_json(results.enter_context(atomic_write(out)), result, other, tests)
        written = 0
        if figures is not None:
            folder = results.enter_context(staged_folder(figures))
            written = write_figures(predictions, reference, folder, {clip.id for clip in found.clips})
    if console is not None:
        print_result(console, result, other)
        if tests:
            print_tests(console, tests)
        if figures is not None:
            console.print(f"figures:  {figures} ({written})", markup=False, highlight=False)
    return result


def _write_json(
    path: Path, result: EvaluationResult, other: EvaluationResult | None, tests: Mapping[str, PairedTest]
) -> None:
    report: dict[str, Any] = asdict(result)
    if other is not None:
        report["versus"] = {
            "fid": {"k": asdict(other.fid_k), "g": asdict(other.fid_g), "cd": asdict(other.fid_cd)},
            "fid_at_n": {kind: asdict(at_n) for kind, at_n in other.fid_at_n.items()},
            "predictions": asdict(other.predictions),
            "tests": {name: asdict(test) for name, test in tests.items()},
        }
    path.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")


def _with_progress(clips: Iterator[Clip], what: str, console: Console | None) -> Iterable[Clip]:
    if console is None or not console.is_terminal:
        return clips
    return track(clips, f"measuring the {what}", console=console, transient=True)


def write_figures(predictions: str | Path, reference: str | Path, folder: Path, predicted: set[str]) -> int:
    """Draw figure 5 of the paper for every dancer of every predicted clip; return the number of PNG files.

    A clip that has a reference of the same id is drawn below it, as in the paper.
    """
    from opendance_hf.render.beats import BeatRow, beat_figure

    truth = {clip.id: clip for clip in load_clips(reference) if clip.id in predicted}
    written = 0
    for clip in load_clips(predictions):
        for number, joints in enumerate(clip.joints):
            rows = [BeatRow("prediction", joints, clip.music_beats, clip.fps)]
            real = truth.get(clip.id)
            if real is not None and number < len(real.joints):
                rows.insert(0, BeatRow("reference", real.joints[number], real.music_beats, real.fps))
            dancer = f"-dancer{number}" if len(clip.joints) > 1 else ""
            name = re.sub(r"[^\w-]", "_", clip.id)
            file = folder / f"{name}{dancer}.png"
            if file.exists():  # of a clip whose id differs in other signs only
                file = file.with_stem(f"{file.stem}-{written}")
            beat_figure(rows, file)
            written += 1
    return written


def print_result(console: Console, result: EvaluationResult, other: EvaluationResult | None = None) -> None:
    """Print paper table 3 for each set, the distances at equal N, the mean of every score, and every predicted clip.

    A single dance has neither distances nor intervals, so its scores are printed beside the means of the reference.
    """
    compared = {"predictions": result, **({} if other is None else {"versus": other})}
    sets = {"reference": result.reference, **{name: one.predictions for name, one in compared.items()}}
    if all(one.predictions.num_samples == 1 for one in compared.values()):
        frames = result.predictions.clips[0].frames_used
        console.print(
            f"\nEvaluation of 1 dance, protocol {result.protocol.name}, {frames} frames\nFID and diversity compare sets: "
            "they need at least two dances.",
            highlight=False,
        )
        _print_notes(console, _set_notes(result, sets))
        sets = {("dance" if name == "predictions" else name): scores for name, scores in sets.items()}
    else:
        _print_sets(console, compared, sets)
        _print_equal_n(console, compared)
    _print_means(console, sets)
    if "dance" not in sets:
        _print_clips(console, result)


def _print_clips(console: Console, result: EvaluationResult) -> None:
    """Print the most used scores of every predicted clip, one line for each dancer."""
    clips = result.predictions.clips
    columns = (
        "dancers",
        "frames",
        "music beats",
        "motion beats",
        *(MEASURES[name].label for name in _CLIP_COLUMNS),
    )
    table = _table("Predicted clips", "id", *columns)
    for clip in clips[:_MAX_ROWS]:
        table.add_row(*_cells(clip))
    console.print(table)
    if len(clips) > _MAX_ROWS:
        console.print(f"... and {len(clips) - _MAX_ROWS} more", highlight=False)


def _kinds(compared: Mapping[str, EvaluationResult]) -> list[str]:
    """Return the kinds of features; distances within couples only if there are couples."""
    return ["k", "g"] + (["cd"] if any(one.fid_cd.n for one in compared.values()) else [])


def _print_sets(
    console: Console, compared: Mapping[str, EvaluationResult], sets: Mapping[str, SetScores]
) -> None:
    """Print FID and diversity of each set, and the reason for each value that is missing or biased."""
    result, kinds = compared["predictions"], _kinds(compared)
    table = _table(
        f"Evaluation, protocol {result.protocol.name}", "set", "clips", "dancers",
        *(f"{score}_{kind}" for score in ("FID", "Div") for kind in kinds),
    )  # fmt: skip
    reasons: dict[str, list[str]] = {}
    for name, scores in sets.items():
        one = compared.get(name)
        columns = {
            f"FID_{kind}": Score(None, 0) if one is None else getattr(one, f"fid_{kind}") for kind in kinds
        }
        columns |= {f"Div_{kind}": getattr(scores, f"div_{kind}") for kind in kinds}
        cells = [_number(score.value) + ("*" if score.note else "") for score in columns.values()]
        table.add_row(name, str(scores.num_clips), str(scores.num_samples), *cells)
        for column, score in columns.items():
            if score.note:
                biased = "biased upwards, comparable at this N only; " if score.value is not None else ""
                reasons.setdefault(f"{name}: {biased}{score.note}", []).append(column)
    console.print(table)
    _print_notes(console, [f"{', '.join(columns)} of {reason}" for reason, columns in reasons.items()])
    _print_notes(console, _set_notes(result, sets))


def _set_notes(result: EvaluationResult, sets: Mapping[str, SetScores]) -> list[str]:
    """Return notes on dances that are left out and on frame rates that differ."""
    notes = [
        f"{name}: {scores.num_short} of {scores.num_clips} dances are shorter than the {result.protocol.window_s:g} s "
        "windows of this protocol, and left out of FID and Div"
        for name, scores in sets.items()
        if scores.num_short
    ]
    rates = {fps for scores in sets.values() for fps in (scores.min_fps, scores.max_fps)}
    if len(rates) > 1:
        notes.append(
            f"frame rates differ ({', '.join(f'{fps:g}' for fps in sorted(rates))}): noise makes jitter, foot skate and "
            "kinetic features grow with the rate; resample before you compare them"
        )
    return notes


def _print_equal_n(console: Console, compared: Mapping[str, EvaluationResult]) -> None:
    """Print FID over subsets of equal size, if it is defined for any."""
    result = compared["predictions"]
    if all(spread.median is None for spread in (*result.fid_at_n.values(), *result.floor_at_n.values())):
        return
    title = "The same at equal N: median [2.5%, 97.5%] over subsets"
    table = _table(title, "FID", "N", *compared, "reference")
    reasons: dict[str, list[str]] = {}
    for kind in _kinds(compared):
        spreads = [*(one.fid_at_n[kind] for one in compared.values()), result.floor_at_n[kind]]
        table.add_row(f"FID_{kind}", str(spreads[0].n), *map(_spread, spreads))
        for note in {spread.note for spread in spreads if spread.note and spread.median is None}:
            reasons.setdefault(note, []).append(f"FID_{kind}")
    console.print(table)
    _print_notes(console, [f"{', '.join(names)} at equal N: {reason}" for reason, names in reasons.items()])
    console.print(
        "  All are biased upwards by the small N; predictions within the spread of the reference cannot be told\n"
        "  from it. These are not confidence intervals.",
        highlight=False,
    )


def _print_means(console: Console, sets: Mapping[str, SetScores]) -> None:
    """Print the mean of every score, with its interval or the reason why it has none."""
    names = [name for name in MEASURES if any(scores.means[name].n for scores in sets.values())]
    any_interval = any(scores.means[name].low is not None for scores in sets.values() for name in names)
    title = "Means with 95% intervals over groups (songs)" if any_interval else "Means"
    table = _table("Scores" if "dance" in sets else title, "score", *sets, "better")
    without: dict[str, list[str]] = {}
    for name in names:
        about = MEASURES[name]
        cells = [_interval(scores.means[name]) for scores in sets.values()]
        table.add_row(f"{about.label}{f', {about.unit}' if about.unit else ''}", *cells, about.better)
        for which, scores in sets.items():
            mean = scores.means[name]
            if mean.n and mean.note:
                without.setdefault(f"{which}: {mean.note}", []).append(about.label)
    console.print(table)
    if any_interval:
        _print_notes(console, [f"{', '.join(labels)} of {reason}" for reason, labels in without.items()])
    elif "dance" not in sets:
        counts = ", ".join(
            f"{name} {'has ' if not i else ''}{scores.num_groups}"
            for i, (name, scores) in enumerate(sets.items())
        )
        console.print(f"No intervals: they need {MIN_GROUPS} groups (songs); {counts}.", highlight=False)


def _print_notes(console: Console, notes: Iterable[str]) -> None:
    for note in notes:
        console.print(f"* {note}", markup=False, highlight=False)


def print_tests(console: Console, tests: dict[str, PairedTest]) -> None:
    """Print the difference of predictions and the other system on their common clips."""
    table = _table("Predictions minus versus, paired by clip", "score", "difference", "p", "pairs", "groups")
    for name, test in tests.items():
        if test.n:
            table.add_row(
                MEASURES[name].label,
                _interval(test.interval),
                _number(test.p_value),
                str(test.n),
                str(test.num_groups),
            )
    console.print(table)


def _cells(clip: ClipScores) -> list[str | Text]:
    return [
        Text(clip.id),
        str(clip.num_dancers),
        str(clip.frames_used),
        "-" if clip.num_music_beats is None else str(clip.num_music_beats),
        "\n".join(map(str, clip.num_motion_beats)),
        *(
            "\n".join("-" if value is None else f"{value:.3f}" for value in clip.scores.get(name, (None,)))
            for name in _CLIP_COLUMNS
        ),
    ]


def _table(title: str, first: str, *columns: str) -> Table:
    """Create a table with one word of each header to a line, so that it fits a terminal of 80 columns."""
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, collapse_padding=True
    )
    table.add_column(first, overflow="fold", no_wrap=first in ("set", "FID"))
    for column in columns:
        table.add_column(column.replace(" ", "\n").replace("-", "-\n"), justify="right", overflow="fold")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    if abs(value) < 5e-5:
        return "0.0000"  # and never -0.0000
    return f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}" if abs(value) < 1e5 else f"{value:.3g}"


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return _number(interval.mean)
    return f"{_number(interval.mean)} [{_number(interval.low)}, {_number(interval.high)}]"


def _spread(spread: SubsampleInterval) -> str:
    if spread.median is None:
        return "-"
    return f"{_number(spread.median)} [{_number(spread.low)}, {_number(spread.high)}]"
