"""``opendance evaluate``: dances from files, their scores as a table, as JSON and as figures."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich import box
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from opendance_hf.apps.clips import EvaluateError, load_clips
from opendance_hf.apps.targets import check_targets
from opendance_hf.files import atomic_write
from opendance_hf.metrics import (
    MEASURES,
    Clip,
    ClipScores,
    EvaluationResult,
    Interval,
    PairedTest,
    Score,
    SubsampleInterval,
    compare_sets,
    compare_systems,
    get_protocol,
    measure,
)

#: Longer sets are cut in the terminal; the JSON has every clip.
_MAX_ROWS: Final = 30
#: Of each clip in the terminal.
_CLIP_COLUMNS: Final = ("music_motion", "beat_f1", "motion_motion", "foot_skate")


def run_evaluate(
    predictions: str | Path,
    reference: str | Path,
    out: Path | None = None,
    *,
    protocol: str = "opendance-3d",
    versus: str | Path | None = None,
    figures: Path | None = None,
    seed: int = 0,
    console: Console | None = None,
) -> EvaluationResult:
    """Evaluate the dances of one set against those of another, print tables and write JSON and figures.

    Args:
        predictions, reference: see :func:`opendance_hf.apps.clips.load_clips`.
        out: where to write the JSON, or None.
        protocol: a key of :data:`opendance_hf.metrics.PROTOCOLS`.
        versus: the dances of another system to the same songs, for paired tests, or None.
        figures: a folder for figure 5 of the paper of every predicted clip, or None.
        seed: of everything drawn at random.
        console: where to print, or None.

    Raises:
        EvaluateError: if a file holds no valid dance, a set has none, the protocol is unknown, or two systems have no
            clip in common.
        TargetError: before anything is measured, if ``out`` or ``figures`` cannot be written.
    """
    check_targets(out, figures)
    try:
        rule = get_protocol(protocol)
        found = measure(_told(load_clips(predictions), "predictions", console), rule, rule.prediction_frames)
        truth = measure(_told(load_clips(reference), "reference", console), rule)
        result = compare_sets(found, truth, rule, seed=seed)
        tests, other = {}, None
        if versus is not None:
            rows = measure(_told(load_clips(versus), "versus", console), rule, rule.prediction_frames)
            other = compare_sets(rows, truth, rule, seed=seed)
            tests = compare_systems(result.predictions, other.predictions, seed=seed)
    except EvaluateError:
        raise
    except ValueError as error:
        raise EvaluateError(str(error)) from None
    if out is not None:
        report: dict[str, Any] = asdict(result)
        if other is not None:
            report["versus"] = {
                "fid": {"k": asdict(other.fid_k), "g": asdict(other.fid_g), "cd": asdict(other.fid_cd)},
                "fid_at_n": {kind: asdict(at_n) for kind, at_n in other.fid_at_n.items()},
                "predictions": asdict(other.predictions),
                "tests": {name: asdict(test) for name, test in tests.items()},
            }
        with atomic_write(out) as partial:
            partial.write_text(json.dumps(report, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    if console is not None:
        print_result(console, result, other)
        if tests:
            print_tests(console, tests)
    if figures is not None:
        written = write_figures(predictions, reference, figures, {clip.id for clip in found.clips})
        if console is not None:
            console.print(f"figures:  {figures} ({written})", markup=False, highlight=False)
    return result


def _told(clips: Iterator[Clip], what: str, console: Console | None) -> Iterable[Clip]:
    if console is None or not console.is_terminal:
        return clips
    return track(clips, f"measuring the {what}", console=console, transient=True)


def write_figures(predictions: str | Path, reference: str | Path, folder: Path, predicted: set[str]) -> int:
    """Figure 5 of the paper for every dancer of every predicted clip; returns how many PNG files were written.

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
            beat_figure(rows, folder / f"{name}{dancer}.png")
            written += 1
    return written


def print_result(console: Console, result: EvaluationResult, other: EvaluationResult | None = None) -> None:
    """The row of paper table 3 for each set, what a perfect model would get, every mean, and every predicted clip."""
    sets = {"reference": result.reference, "predictions": result.predictions}
    if other is not None:
        sets["versus"] = other.predictions
    fids: dict[str, dict[str, Score]] = {
        name: {"FID_k": of.fid_k, "FID_g": of.fid_g, "FID_cd": of.fid_cd}
        for name, of in (("predictions", result), ("versus", other))
        if of is not None
    }
    kinds = ["k", "g"] + (["cd"] if any(of.fid_cd.n for of in (result, other) if of is not None) else [])
    table = _table(
        f"Evaluation, protocol {result.protocol.name}", "set", "clips", "dancers",
        *(f"{score}_{kind}" for score in ("FID", "Div") for kind in kinds),
    )  # fmt: skip
    notes: dict[str, None] = {}
    for name, scores in sets.items():
        columns = fids.get(name, dict.fromkeys((f"FID_{kind}" for kind in kinds), Score(None, 0)))
        columns = {key: score for key, score in columns.items() if key.removeprefix("FID_") in kinds}
        columns |= {f"Div_{kind}": getattr(scores, f"div_{kind}") for kind in kinds}
        cells = [_number(score.value) + ("*" if score.note else "") for score in columns.values()]
        table.add_row(name, str(scores.num_clips), str(scores.num_samples), *cells)
        for column, score in columns.items():
            if score.note:
                biased = "biased upwards, comparable at this N only; " if score.value is not None else ""
                notes[f"* {column} of {name}: {biased}{score.note}"] = None
        if scores.num_short:
            window = f"{result.protocol.window_s:g} s"
            notes[f"* {name}: {scores.num_short} of {scores.num_clips} dances are shorter than the {window} windows "
                  f"of this protocol, and left out of FID and Div"] = None  # fmt: skip
    rates = {fps for scores in sets.values() for fps in (scores.min_fps, scores.max_fps)}
    if len(rates) > 1:
        notes[f"* frame rates differ ({', '.join(f'{fps:g}' for fps in sorted(rates))}): noise makes jitter, foot "
              "skate and kinetic features grow with the rate; resample before you compare them"] = None  # fmt: skip
    console.print(table)
    for note in notes:
        console.print(note, markup=False, highlight=False)

    others = [other] if other is not None else []
    table = _table(
        "The same at equal N: median [2.5%, 97.5%] over subsets", "FID", "N", "predictions",
        *("versus" for _ in others), "reference",
    )  # fmt: skip
    reasons: dict[str, None] = {}
    for kind in kinds:
        spreads = [result.fid_at_n[kind], *(of.fid_at_n[kind] for of in others), result.floor_at_n[kind]]
        table.add_row(f"FID_{kind}", str(spreads[0].n), *map(_spread, spreads))
        reasons |= {
            f"* FID_{kind} at equal N: {of.note}": None for of in spreads if of.note and of.median is None
        }
    if any(spread.median is not None for spread in (*result.fid_at_n.values(), *result.floor_at_n.values())):
        console.print(table)
        for reason in reasons:
            console.print(reason, markup=False, highlight=False)
        console.print(
            "  All are biased upwards by the small N; predictions within the spread of the reference cannot be told\n"
            "  from it. These are not confidence intervals.",
            highlight=False,
        )  # fmt: skip

    table = _table("Means with 95% intervals over groups (songs)", "score", *sets, "better")
    without: dict[str, list[str]] = {}
    for name, about in MEASURES.items():
        if any(scores.means[name].n for scores in sets.values()):
            cells = [_interval(scores.means[name]) for scores in sets.values()]
            for which, scores in sets.items():
                mean = scores.means[name]
                if mean.n and mean.note:
                    without.setdefault(f"{which}: {mean.note}", []).append(about.label)
            table.add_row(f"{about.label}{f', {about.unit}' if about.unit else ''}", *cells, about.better)
    console.print(table)
    for reason, labels in without.items():
        console.print(f"* {', '.join(labels)} of {reason}", markup=False, highlight=False)

    clips = result.predictions.clips
    table = _table("Predicted clips", "id", "dancers", "frames", "music beats", "motion beats", *(MEASURES[name].label for name in _CLIP_COLUMNS))  # fmt: skip
    for clip in clips[:_MAX_ROWS]:
        table.add_row(*_cells(clip))
    console.print(table)
    if len(clips) > _MAX_ROWS:
        console.print(f"... and {len(clips) - _MAX_ROWS} more", highlight=False)


def print_tests(console: Console, tests: dict[str, PairedTest]) -> None:
    """Predictions minus the other system, on the clips both danced."""
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
        ", ".join(map(str, clip.num_motion_beats)),
        *(
            ", ".join("-" if value is None else f"{value:.3f}" for value in clip.scores.get(name, (None,)))
            for name in _CLIP_COLUMNS
        ),
    ]


def _table(title: str, first: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column(first, overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
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
