"""Write a static report page of a build: all inputs and sequences, with numbers and previews."""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from opendance_hf.files import atomic_write
from opendance_hf.music.tempo import tempo_doubt
from opendance_hf.pipeline.ledger import DropCount
from opendance_hf.pipeline.stages.gate import Gate
from opendance_hf.pipeline.stages.steady import Steady
from opendance_hf.schema import sorted_configs

#: Units by the suffix of a metric's name, as in ``fit_residual_mm``.
_UNITS: Final = {
    "mm": "mm", "cm": "cm", "m": "m", "px": "px", "s": "s", "ms": "ms", "deg": "°", "mps": "m/s", "mps2": "m/s²",
    "fps": "fps", "percent": "%", "pct": "%",
}  # fmt: skip


class BuildScore(NamedTuple):
    """Explanation of a score of the pipeline.

    Attributes:
        label: name in tables.
        unit: unit; empty for a plain number.
        meaning: one line.
        wanted: good values, or the default limit of the gate.
    """

    label: str
    unit: str
    meaning: str
    wanted: str


#: Scores of the stages reprojection, track, pose, complete, steady and gate, by name.
BUILD_SCORES: Final = {
    "reprojection_pck": BuildScore(
        "reprojection PCK",
        "",
        "share of projected limb joints within 0.2 torso lengths of the 2D estimate",
        "good: near 1",
    ),
    "speed_correlation": BuildScore(
        "speed correlation",
        "",
        "correlation of projected and 2D speeds of wrists and ankles, -1 to 1",
        "good: near 1",
    ),
    "foot_slide_mps": BuildScore(
        "foot slide", "m/s", "median speed of the slower foot near the ground", "good: near 0"
    ),
    "legs_out": BuildScore(
        "legs out", "", "share of the frames with the legs outside the picture", "good: near 0"
    ),
    "exchanged": BuildScore(
        "exchanged sides",
        "",
        "share of the frames in which left and right limbs were exchanged, which was undone",
        "good: near 0",
    ),
    "camera_turn_deg": BuildScore(
        "camera turn",
        "°",
        "largest turn of the camera that was taken out of the motion",
        "0 for a still camera",
    ),
    "camera_zoom": BuildScore(
        "camera zoom",
        "",
        "largest change of the focal length that was taken out, as a ratio",
        "1 for a still camera",
    ),
    "camera_parallax_deg": BuildScore(
        "camera parallax",
        "°",
        "motion of the background that turn and zoom of the camera do not explain",
        f"at most {Steady.max_parallax_deg:g} for a turn or zoom to be taken out",
    ),
    "bystanders": BuildScore(
        "bystanders", "people", "number of people in the shot who were not taken as dancers", "good: near 0"
    ),
    "upside_down": BuildScore(
        "upside down",
        "",
        "share of the time with the head below the pelvis",
        f"limit: at most {Gate.max_upside_down:g}",
    ),
    "jitter_mps2": BuildScore(
        "joint acceleration",
        "m/s²",
        "mean acceleration of the joints; the jitter of opendance evaluate is their jerk, in m/s³",
        f"limit: at most {Gate.max_jitter_mps2:g}",
    ),
    "mean_speed_mps": BuildScore(
        "mean speed", "m/s", "mean speed of the joints", f"limit: at least {Gate.min_mean_speed_mps:g}"
    ),
    "repetition": BuildScore(
        "repetition",
        "",
        "share of the motion explained by repeating one movement",
        f"limit: at most {Gate.max_repetition:g}",
    ),
    "back_to_camera": BuildScore(
        "back to camera",
        "",
        "share of the time with the hips facing away",
        f"limit: at most {Gate.max_back_to_camera:g}",
    ),
    "camera_motion": BuildScore(
        "camera motion",
        "",
        "speed of the background, image heights a second",
        f"limit: at most {Gate.max_camera_motion:g}",
    ),
    "missing_picture": BuildScore(
        "missing picture",
        "",
        "share of the time between source frames more than 0.2 s apart; the motion there is interpolated, confidence 0",
        f"limit: at most {Gate.max_missing_picture:g}",
    ),
    "missing_sound": BuildScore(
        "missing sound",
        "",
        "share of the time whose sound is missing in the source or damaged",
        f"limit: at most {Gate.max_missing_sound:g}",
    ),
}
#: Inputs of each status, and sequences, that a page lists.
MAX_LISTED: Final = 1000
#: Names of scores as the paper writes them.
_LABELS: Final = {
    "fid_k": "FID_k", "fid_g": "FID_g", "div_k": "Div_k", "div_g": "Div_g",
    "music_motion_score": "music-motion score", "motion_motion_score": "motion-motion score",
}  # fmt: skip
_PLOT_COLOUR: Final = "#2e86de"
#: Placeholder that is replaced by ``currentColor``, so that plots follow the page's light or dark scheme.
_TEXT_COLOUR: Final = "#010203"
_MIN_HISTOGRAM_VALUES: Final = 12


@dataclass(frozen=True)
class InputRow:
    """Result of one input.

    Attributes:
        name: display name of the input; any text.
        status: ``published``, ``rejected``, ``failed`` or another status of the ledger.
        reason: reason for rejection or failure; otherwise empty.
        num_sequences: number of its sequences.
        seconds: processing time, seconds.
        stages: processing time of each stage in order, seconds.
    """

    name: str
    status: str
    reason: str
    num_sequences: int
    seconds: float
    stages: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SequenceRow:
    """One published sequence.

    Attributes:
        id: id of the sequence.
        config: its dataset configuration, see :func:`opendance_hf.schema.config_of`.
        num_dancers: number of dancers.
        duration_s: duration in seconds.
        bpm: beats per minute of the music.
        motion_velocity: mean joint speed, metres per second.
        mean_confidence: mean over frames and dancers, 0 to 1.
        preview: path of the preview video relative to the page, with forward slashes; None without one.
        source: display name of its input.
        metrics: quality scores by name; a unit suffix (``_mm``, ``_px``, ``_deg``...) is shown as a unit.
        stage: path of its 3D stage, as ``preview``; None without one.
    """

    id: str
    config: str
    num_dancers: int
    duration_s: float
    bpm: float
    motion_velocity: float
    mean_confidence: float
    preview: str | None
    source: str
    metrics: dict[str, float] = field(default_factory=dict)
    stage: str | None = None


@dataclass(frozen=True)
class DanceRow:
    """A generated dance.

    Attributes:
        video: path relative to the page, with forward slashes.
        caption: description of the model and the song.
        scores: scores by name, as numbers or text.
        stage: path of its 3D stage, as ``video``; None without one.
    """

    video: str
    caption: str
    scores: dict[str, float | str] = field(default_factory=dict)
    stage: str | None = None


@dataclass(frozen=True)
class BuildReport:
    """A finished build.

    Attributes:
        inputs: results of the inputs; of many, the first :data:`MAX_LISTED` of each status.
        sequences: published sequences.
        dropped: how much of the inputs was not used, by stage and reason.
        title: heading of the page.
        dataset: folder or Hub id for ``load_dataset``.
        truth: errors of clips with known 3D motion, one row per clip; keys end in their unit.
        dances: dances of a model trained on the dataset.
        counts: number of inputs by status, where not all are listed.
        seconds: processing time of all inputs, seconds, likewise.
    """

    inputs: list[InputRow]
    sequences: list[SequenceRow]
    dropped: list[DropCount] = field(default_factory=list)
    title: str = "OpenDance-3D build"
    dataset: str = "opendance-3d"
    truth: list[dict[str, float | str]] = field(default_factory=list)
    dances: list[DanceRow] = field(default_factory=list)
    counts: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None

    @property
    def statuses(self) -> Counter[str]:
        """Number of inputs by status."""
        return Counter(self.counts) or Counter(row.status for row in self.inputs)


def write_report(path: str | os.PathLike[str], report: BuildReport) -> None:
    """Write the report page of a build: one HTML file that loads only the previews beside it.

    Args:
        path: the HTML file; its folder is created, an existing file is replaced.
        report: the build; names and reasons are escaped.

    Raises:
        ValueError: if a preview or a stage is not a relative path inside the page's folder.
    """
    for row in report.sequences:
        for kind, link in (("preview", row.preview), ("stage", row.stage)):
            if link is not None and not _is_inside(link):
                raise ValueError(
                    f"sequence {row.id!r}: {kind} {link!r} must be a relative path inside the folder"
                )
    for dance in report.dances:
        for link in (dance.video, dance.stage):
            if link is not None and not _is_inside(link):
                raise ValueError(f"dance {link!r} must be a relative path inside the folder")
    page = render_report(report)
    with atomic_write(path) as partial:
        partial.write_text(page, encoding="utf-8")


def render_report(report: BuildReport) -> str:
    """Return the HTML of :func:`write_report`."""
    environment = Environment(
        loader=PackageLoader("opendance_hf.apps", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(label=metric_label, number=metric_number, unit=metric_unit, duration=_duration)
    environment.filters["tempo_doubt"] = tempo_doubt
    statuses = report.statuses
    num_inputs = statuses.total()
    return environment.get_template("report.html.jinja").render(
        report=report,
        totals={
            "inputs": num_inputs,
            **{status: statuses.pop(status, 0) for status in ("published", "rejected", "failed")},
            **dict(sorted(statuses.items())),
            "sequences": len(report.sequences),
        },
        dance_s=sum(row.duration_s for row in report.sequences),
        work_s=sum(row.seconds for row in report.inputs) if report.seconds is None else report.seconds,
        listed=report.sequences[:MAX_LISTED],
        unlisted=num_inputs - len(report.inputs),
        configs=sorted_configs(row.config for row in report.sequences),
        plots=_plots(report.sequences),
        scores=explained_scores(report.sequences),
    )


def _is_inside(preview: str) -> bool:
    return (
        bool(preview)
        and not re.match(r"[/\\]|[A-Za-z][A-Za-z0-9+.-]*:", preview)
        and ".." not in preview.split("/")
    )


def _split_unit(name: str) -> tuple[str, str]:
    stem, _, suffix = name.rpartition("_")
    return (stem, _UNITS[suffix]) if stem and suffix in _UNITS else (name, "")


def explained_scores(rows: Iterable[SequenceRow]) -> list[BuildScore]:
    """Return the explanations of the scores that the sequences have."""
    return [
        BUILD_SCORES[name]
        for name in dict.fromkeys(name for row in rows for name in row.metrics)
        if name in BUILD_SCORES
    ]


def metric_label(name: str) -> str:
    """Return the name of a metric as words, without its unit."""
    if name in BUILD_SCORES:
        return BUILD_SCORES[name].label
    words = _split_unit(name)[0]
    return _LABELS.get(
        words, words.replace("_", " ").replace("pa mpjpe", "PA-MPJPE").replace("mpjpe", "MPJPE")
    )


def metric_unit(name: str) -> str:
    """Return the unit given by the suffix of a metric's name; empty if there is none."""
    return _split_unit(name)[1]


def metric_number(value: float | str) -> str:
    """Format a value with about three significant digits."""
    if isinstance(value, str | int):
        return str(value)
    if value != value or value in (float("inf"), float("-inf")):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _plots(rows: list[SequenceRow]) -> list[tuple[str, Markup]]:
    """Return (title, SVG) of the distributions: none for a single sequence, dots for few, histograms for many."""
    if len(rows) < 2:
        return []
    columns = {
        "Duration, s": [row.duration_s for row in rows],
        "Tempo, bpm": [row.bpm for row in rows],
        "Motion velocity, m/s": [row.motion_velocity for row in rows],
        "Confidence": [row.mean_confidence for row in rows],
    }
    return [(title, _plot(values, number)) for number, (title, values) in enumerate(columns.items())]


def _plot(values: list[float], number: int) -> Markup:
    import matplotlib
    from matplotlib.figure import Figure

    style: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "opendance", "text.color": _TEXT_COLOUR, "axes.edgecolor": _TEXT_COLOUR,
             "xtick.color": _TEXT_COLOUR, "ytick.color": _TEXT_COLOUR, "font.size": 9.0}  # fmt: skip
    with matplotlib.rc_context(style):
        figure = Figure(figsize=(3.6, 1.5), layout="constrained")
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        if len(values) < _MIN_HISTOGRAM_VALUES:
            axes.plot(values, [0] * len(values), "o", color=_PLOT_COLOUR, markersize=9, alpha=0.7)
            axes.set_yticks([])
            axes.set_ylim(-1, 1.5)
            axes.margins(x=0.12)
        else:
            axes.hist(values, bins="auto", color=_PLOT_COLOUR, rwidth=0.92)
            axes.locator_params(axis="y", integer=True, nbins=4)
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(_TEXT_COLOUR, "currentColor")
    # Several SVGs are on one page, so their ids must be unique.
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>plot{number}-", svg)
    return Markup(svg)  # safe: generated from numbers only
