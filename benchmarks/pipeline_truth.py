"""How far the pipeline is from the truth of rendered clips: ``make bench-pipeline``, ``make bench-rendered``.

    python -m benchmarks.pipeline_truth [usual|conditions|development] [--mocap MOCAP] [--work DIR] [--only NAME ...]

Renders the clips of a set (once), builds them like any folder of videos, and compares what was published with what was
rendered. Writes every clip, the means, the means by condition and which targets hold: ``benchmarks/pipeline.json`` for the
twenty usual clips, ``benchmarks/rendered_truth.json`` for the forty clips of all conditions. The clips for development are
for choosing; nothing is written. Rows are named as in the report of ``opendance demo``;
:class:`opendance_hf.synthetic.score.Score` says what they mean.

A clip with a trial dances what was captured, if MOCAP is a folder of the CMU database's trials as
:mod:`benchmarks.metrics_study` describes it, or is choreographed as well. Seeds were fixed before anything was measured; the
trials of ``conditions`` are those that :data:`opendance_hf.synthetic.pairs.HELD_OUT` keeps from the lifter.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from benchmarks.__main__ import machine
from benchmarks.truth_stages import WORST, write_worst
from opendance_hf.apps.build import Shortcuts, make_pipeline, run_build
from opendance_hf.motion.skeleton import JOINT_INDEX
from opendance_hf.pipeline.build import BuildOptions
from opendance_hf.synthetic.clips import Capture, Trouble, clip_name, render_clip
from opendance_hf.synthetic.filming import View
from opendance_hf.synthetic.moves import Moves
from opendance_hf.synthetic.score import Score, score_build
from opendance_hf.synthetic.truth import truth_path

DURATION_S: Final = 8.0
MOVES_MPS: Final = 0.25
NTSC: Final = 30_000 / 1_001
TALL, WIDE, SMALL_WIDE = (720, 1280), (1280, 720), (854, 480)

#: What makes a clip hard.
CONDITIONS: Final = {
    "plain": Trouble(),
    "title": Trouble(title_s=1.5),
    "still end": Trouble(still_s=2.0),
    "crate": Trouble(obstacle=True),
    "uneven": Trouble(title_s=1.2, still_s=1.5, variable=True),
    "pitch": Trouble(view=View(pitch_deg=24)),
    "low camera": Trouble(view=View(pitch_deg=-5)),
    "roll": Trouble(view=View(roll_deg=16)),
    "pitch and roll": Trouble(view=View(pitch_deg=20, roll_deg=-24)),
    "wide angle": Trouble(view=View(focal_ratio=0.66)),
    "telephoto": Trouble(view=View(focal_ratio=1.5)),
    "back": Trouble(view=View(yaw_deg=180)),
    "side": Trouble(view=View(yaw_deg=90)),
    "bystander": Trouble(bystander=True, view=View(slack=1.25)),
    "half body": Trouble(view=View(legs=False)),
    "dressed alike": Trouble(alike=True),
    "trio": Trouble(),
    "poster": Trouble(poster=True),
    "mirror": Trouble(mirror=True),
    "passer-by": Trouble(passer_by=True),
    "edge": Trouble(edge=True),
    "loose clothes": Trouble(loose_m=0.045),
    "motion blur": Trouble(exposure_s=1 / 30),
    "compression": Trouble(crf=40),
    "low light": Trouble(light=0.1),
    "turns": Trouble(moves=Moves(turns=3)),
    "jumps": Trouble(moves=Moves(hop_m=0.22)),
    "crouch": Trouble(moves=Moves(crouch_m=0.42)),
    "held pose": Trouble(moves=Moves(hold_from_s=2.5, hold_s=2.5)),
    "pan": Trouble(view=View(pan_deg=13)),
    "zoom": Trouble(view=View(zoom=1.3)),
    "handheld": Trouble(view=View(shake_deg=0.7)),
    "travel": Trouble(view=View(travel_m=1.2, slack=1.3)),
}
#: Conditions whose clips must not be published.
REFUSED: Final = ("half body", "travel")


@dataclass(frozen=True)
class Spec:
    """One clip; ``trial`` and ``from_s`` say which captured seconds it dances, where there are any."""

    seed: int
    num_dancers: int
    fps: float
    condition: str = "plain"
    size: tuple[int, int] | None = None
    trial: str = ""
    from_s: float = 0.5
    duration_s: float = DURATION_S


def short(
    seed: int,
    num_dancers: int,
    fps: float,
    condition: str,
    trial: str = "",
    from_s: float = 0.5,
    size: tuple[int, int] | None = None,
) -> Spec:
    """A clip of a small picture."""
    return Spec(seed, num_dancers, fps, condition, size, trial, from_s, 7.0)


USUAL: Final = (
    Spec(101, 1, 24), Spec(102, 1, 25, "title", TALL), Spec(103, 1, NTSC, "still end"), Spec(104, 1, 30, "crate"),
    Spec(105, 1, 60), Spec(106, 1, 30, "uneven"),
    Spec(107, 2, 30), Spec(108, 2, 25, "title"), Spec(109, 2, NTSC, "crate"), Spec(110, 2, 30, "uneven", WIDE),
    Spec(111, 1, 24, trial="modern_05_02"), Spec(112, 1, 25, "title", trial="modern_05_04"),
    Spec(113, 1, NTSC, "crate", trial="modern_05_07"), Spec(114, 1, 30, "still end", trial="modern_05_09"),
    Spec(115, 1, 60, size=TALL, trial="modern_05_06"), Spec(116, 1, 30, "uneven", trial="modern_05_04", from_s=1.8),
    Spec(117, 2, 30, trial="salsa_01", from_s=5.0), Spec(118, 2, 25, "still end", trial="salsa_03", from_s=5.0),
    Spec(119, 2, NTSC, "title", trial="salsa_08", from_s=10.0), Spec(120, 2, 60, trial="salsa_10", from_s=3.0),
)  # fmt: skip
#: Choreographies, then captures that no network saw; solos, then duos.
EVALUATION: Final = (
    short(301, 1, 30, "pitch"), short(302, 1, 24, "roll"), short(303, 1, 30, "pitch and roll"), short(304, 1, 25, "back"),
    short(305, 1, 30, "bystander"), short(306, 1, 30, "half body"), short(307, 1, 24, "motion blur"),
    short(308, 1, NTSC, "low light"), short(309, 1, 30, "turns"), short(310, 1, 60, "jumps"), short(311, 1, 30, "crouch"),
    short(312, 1, 25, "wide angle"), short(313, 1, 30, "loose clothes"),
    short(314, 1, 30, "pitch", "modern_05_02"), short(315, 1, 25, "roll", "modern_05_04"),
    short(316, 1, 24, "pitch and roll", "modern_05_07"), short(317, 1, 30, "back", "modern_05_09"),
    short(318, 1, 30, "bystander", "modern_05_06"), short(319, 1, 25, "half body", "modern_05_02"),
    short(320, 1, 30, "motion blur", "modern_05_06"), short(321, 1, 30, "low light", "modern_05_04", 2.0),
    short(322, 1, 60, "turns", "modern_05_09", 1.5), short(323, 1, 24, "compression", "modern_05_07"),
    short(324, 1, NTSC, "telephoto", "modern_05_02", 2.0), short(325, 1, 30, "loose clothes", "modern_05_09"),
    short(326, 1, 30, "low camera", "modern_05_07", 2.0),
    short(327, 2, 30, "pitch"), short(328, 2, 24, "roll"), short(329, 2, 30, "back"), short(330, 2, 25, "bystander"),
    short(331, 2, 30, "motion blur"), short(332, 2, 60, "jumps"), short(333, 2, NTSC, "loose clothes"),
    short(334, 2, 30, "plain", "salsa_09", 3.0), short(335, 2, 24, "pitch", "salsa_09", 11.0),
    short(336, 2, 25, "roll", "salsa_09", 19.0), short(337, 2, 30, "back", "salsa_09", 26.0),
    short(338, 2, NTSC, "low light", "salsa_09", 34.0), short(339, 2, 30, "plain", "salsa_10", 3.0),
    short(340, 2, 60, "compression", "salsa_10", 11.0),
    short(341, 2, 30, "dressed alike"), short(342, 2, 24, "dressed alike"),
    short(343, 2, 30, "dressed alike", "salsa_09", 7.0), short(344, 2, 25, "dressed alike", "salsa_10", 7.0),
    short(345, 3, 30, "trio"), short(346, 3, 25, "trio"), short(347, 1, 30, "poster", size=SMALL_WIDE),
    short(348, 2, 25, "poster"), short(349, 1, 30, "mirror", size=SMALL_WIDE),
    short(350, 1, 24, "mirror", "modern_05_06", size=SMALL_WIDE), short(351, 1, 30, "passer-by"),
    short(352, 2, 30, "passer-by"), short(353, 1, 25, "edge"), short(354, 2, 30, "edge"),
    # Cameras that move.
    Spec(361, 1, 30, "pan", SMALL_WIDE, duration_s=7.0), short(362, 1, 24, "zoom"), short(363, 1, 30, "handheld"),
    short(364, 1, 25, "travel"),
    short(365, 1, 30, "pan", "modern_05_02"), short(366, 1, 30, "zoom", "modern_05_09"),
    short(367, 1, 24, "handheld", "modern_05_07"), short(368, 1, 30, "travel", "modern_05_04"),
    short(369, 2, 30, "pan"), short(370, 2, NTSC, "handheld"), short(371, 2, 30, "zoom", "salsa_09", 26.0),
    short(372, 2, 30, "travel", "salsa_10", 3.0),
)  # fmt: skip
DEVELOPMENT: Final = (
    short(201, 1, 30, "pitch and roll"), short(202, 1, 25, "back"), short(203, 1, 24, "motion blur"),
    short(204, 1, 30, "jumps"), short(205, 1, 30, "half body"), short(206, 1, NTSC, "bystander", "modern_05_05"),
    short(207, 1, 30, "roll", "modern_05_10"), short(208, 1, 60, "low light", "modern_05_08"),
    short(209, 2, 30, "pitch"), short(210, 2, 24, "bystander"), short(211, 2, 30, "plain", "salsa_02", 12.0),
    short(212, 2, 25, "roll", "salsa_06", 8.0), short(213, 2, 30, "dressed alike"),
    short(214, 2, 30, "dressed alike", "salsa_02", 20.0), short(215, 2, 25, "dressed alike", "salsa_06", 2.0),
    short(216, 3, 30, "trio"), short(217, 1, 30, "poster", size=SMALL_WIDE), short(218, 1, 25, "mirror", size=SMALL_WIDE),
    short(219, 1, 30, "passer-by"), short(220, 1, 24, "edge"),
    # Cameras that move.
    Spec(221, 1, 30, "pan", SMALL_WIDE, duration_s=7.0), short(222, 1, 25, "pan", "modern_05_05"), short(223, 1, 30, "zoom"),
    short(224, 2, 24, "zoom"), short(225, 1, 30, "handheld", "modern_05_10"), short(226, 2, 30, "handheld"),
    short(227, 1, 30, "travel"), short(228, 2, NTSC, "travel"), short(229, 2, 25, "pan"),
)  # fmt: skip
SETS: Final = {"usual": USUAL, "conditions": EVALUATION, "development": DEVELOPMENT}
OUT: Final = {
    "usual": Path(__file__).with_name("pipeline.json"),
    "conditions": Path(__file__).with_name("rendered_truth.json"),
}

#: What issue and paper ask for: (name, what must hold of the means).
TARGETS: Final = {
    "solo pa_mpjpe_mm <= 64": lambda solo, duo, every: solo["pa_mpjpe_mm"] <= 64,
    "duo pa_mpjpe_mm <= 62": lambda solo, duo, every: duo["pa_mpjpe_mm"] <= 62,
    "solo pa_mpjpe_mm at least 15% below raw": lambda solo, duo, every: (
        solo["pa_mpjpe_mm"] <= 0.85 * solo["raw_pa_mpjpe_mm"]
    ),
    "duo pa_mpjpe_mm at least 15% below raw": lambda solo, duo, every: (
        duo["pa_mpjpe_mm"] <= 0.85 * duo["raw_pa_mpjpe_mm"]
    ),
    "median facing_error_deg <= 15": lambda solo, duo, every: every["median_facing_error_deg"] <= 15,
    "no identity swaps": lambda solo, duo, every: every["identity_swaps"] == 0,
    "start and end within 0.3 s of every clip": lambda solo, duo, every: every["worst_span_error_s"] <= 0.3,
    "foot slide at most truth + 1 cm/s": lambda solo, duo, every: (
        every["foot_slide_cmps"] <= every["true_foot_slide_cmps"] + 1
    ),
    "duo foot slide at most truth + 3 cm/s": lambda solo, duo, every: (
        duo["foot_slide_cmps"] <= duo["true_foot_slide_cmps"] + 3
    ),
    "clock within 2 ms": lambda solo, duo, every: every["clock_error_ms"] <= 2,
    "at least 95% published of what should be": lambda solo, duo, every: every["published_share"] >= 0.95,
    "nothing published of what should not be": lambda solo, duo, every: every["wrongly_published"] == 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("clips", nargs="?", choices=SETS, default="usual", help="set of clips")
    parser.add_argument("--work", type=Path, default=Path("build/bench-pipeline"), help="folder of the build")
    parser.add_argument("--videos", type=Path, help="folder of the rendered clips (default: in WORK)")
    parser.add_argument("--mocap", type=Path, help="folder of captured trials (.npz)")
    parser.add_argument(
        "--only", nargs="*", metavar="NAME", help="clips such as solo_101; nothing is written"
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--stages", type=int, default=WORST, help="worst clips to show on a stage, in WORK/stages"
    )
    parser.add_argument("--render-only", action="store_true", help="do not build")
    arguments = parser.parse_args()
    console = Console(soft_wrap=True)
    clips = [spec for spec in SETS[arguments.clips] if not arguments.only or name_of(spec) in arguments.only]
    folder = arguments.videos or arguments.work / ("mocap" if arguments.mocap else "choreographed")
    videos = [render(spec, arguments.mocap, folder) for spec in clips]
    if arguments.render_only:
        return

    started = time.perf_counter()
    suffix = "" if arguments.clips == "usual" else f"-{arguments.clips}"
    scores: list[Score] = []
    builds: list[Path] = []
    for most in sorted({_most(spec) for spec in clips}):
        # More than two dancers are off by default.
        wanted = {spec.seed: video for spec, video in zip(clips, videos, strict=True) if _most(spec) == most}
        name = suffix if most == 2 else f"{suffix}-{most}"
        build = arguments.work / f"build{name}"
        builds.append(build)
        pipeline = make_pipeline("default", None, Shortcuts(max_dancers=most), ())
        run_build(
            list(wanted.values()),
            arguments.work / f"dataset{name}",
            build,
            arguments.work / f"index{name}.html",
            BuildOptions(
                tuple(stage for stage in pipeline if stage.changes_rows),
                licence="apache-2.0",
                workers=arguments.workers,
            ),
            console,
        )
        scores += [
            score for score in score_build(build, truth_path(videos[0]).parent) if score.seed in wanted
        ]
    seconds = time.perf_counter() - started
    result = summary(scores, {spec.seed: spec for spec in clips}, bool(arguments.mocap))
    result |= {"build_s": round(seconds, 1), "machine": machine()}
    show(result, console)
    folder = arguments.work / f"stages{suffix}"
    for page in write_worst(result["clips"], videos, builds, folder, arguments.stages):
        console.print(f"stage: {page}")
    if not arguments.only and arguments.clips in OUT:
        OUT[arguments.clips].write_text(json.dumps(result, indent=2) + "\n")
        console.print(f"written: {OUT[arguments.clips]}")


def _most(spec: Spec) -> int:
    """Return the largest number of dancers with which a clip is built."""
    return max(2, spec.num_dancers)


def name_of(spec: Spec) -> str:
    """The name of a clip."""
    return clip_name(spec.seed, spec.num_dancers)


def render(spec: Spec, mocap: Path | None, folder: Path) -> Path:
    """The clip's video, rendered unless it is there."""
    video = folder / "videos" / f"{name_of(spec)}.mp4"
    if not (video.is_file() and truth_path(video).is_file()):
        capture = load_capture(mocap / f"{spec.trial}.npz", spec) if mocap and spec.trial else None
        render_clip(spec.seed, spec.num_dancers, folder, **clip_options(spec, capture))
    return video


def clip_options(spec: Spec, capture: Capture | None) -> dict[str, Any]:
    """The arguments of :func:`render_clip` for a clip."""
    duration_s = spec.duration_s
    if capture:
        # Both ends need a little more than the dance: a shutter is open before and after the moment of its picture.
        held_s = CONDITIONS[spec.condition].moves.hold_s
        duration_s = min(duration_s, len(capture.joints[0]) / capture.fps - 0.1 + held_s)
    return {
        "duration_s": duration_s,
        "fps": spec.fps,
        "size": spec.size,
        "trouble": CONDITIONS[spec.condition],
        "capture": capture,
    }


def load_capture(path: Path, spec: Spec) -> Capture:
    """The captured seconds, turned so that a soloist faces the camera on average and a couple stands side by side."""
    with np.load(path) as data:
        fps = float(data["fps"])
        joints = data["joints"].astype(np.float64)
    pace = np.linalg.norm(np.diff(joints, axis=1), axis=-1).mean(axis=(0, 2)) * fps
    pace = np.convolve(pace, np.ones(round(fps / 4)) / round(fps / 4), mode="same")
    first = round(spec.from_s * fps)
    # Captures begin with somebody standing there; the dance begins when they move.
    first += int(np.argmax(pace[first:] > MOVES_MPS))
    joints = joints[:, first : first + round((spec.duration_s + 0.2) * fps) + 1]
    left, right = joints[:, :, JOINT_INDEX["left_hip"]], joints[:, :, JOINT_INDEX["right_hip"]]
    across = (left - right)[0] if spec.num_dancers == 1 else joints[1, :, 0] - joints[0, :, 0]
    # A couple turns about itself, and so may a soloist: the direction that is nearest to all of them.
    x, z = across[:, 0].mean(), across[:, 2].mean()
    if spec.num_dancers == 2:
        values, vectors = np.linalg.eigh(across[:, [0, 2]].T @ across[:, [0, 2]])
        x, z = vectors[:, np.argmax(values)]
    angle = math.atan2(z, x)
    cos, sin = math.cos(angle), math.sin(angle)
    turned = joints @ np.array([[cos, 0, -sin], [0, 1, 0], [sin, 0, cos]])
    turned[..., [0, 2]] -= turned[:, :, 0][..., [0, 2]].mean(axis=(0, 1))
    return Capture(turned, fps)


def summary(scores: list[Score], specs: dict[int, Spec], mocap: bool) -> dict[str, Any]:
    """Rows, means over solo, duo and all clips, and the targets that hold."""
    rows = []
    for score in scores:
        spec = specs[score.seed]
        kind = spec.trial if mocap and spec.trial else "choreographed"
        rows.append({**score.row(), "motion": kind, "fps": round(spec.fps, 3), "condition": spec.condition})
    solo = means([row for row in rows if row["dancers"] == 1])
    duo = means([row for row in rows if row["dancers"] == 2])
    every = means(rows)
    held = {}
    for name, holds in TARGETS.items():
        try:
            held[name] = bool(holds(solo, duo, every))
        except (TypeError, KeyError):
            held[name] = False
    conditions = {
        name: means([row for row in rows if row["condition"] == name])
        for name in CONDITIONS
        if any(row["condition"] == name for row in rows)
    }
    captured = means([row for row in rows if row["motion"] != "choreographed"])
    return {
        "targets": held, "solo": solo, "duo": duo, "all": every, "captured": captured, "conditions": conditions,
        "clips": rows,
    }  # fmt: skip


def means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Means over the clips that should be published, of the numbers of those that are; counts are added up."""
    wrong = sum(row["pa_mpjpe_mm"] is not None for row in rows if row["condition"] in REFUSED)
    rows = [row for row in rows if row["condition"] not in REFUSED]
    published = [row for row in rows if row["pa_mpjpe_mm"] is not None]
    out: dict[str, Any] = {"clips": len(rows), "published": len(published), "wrongly_published": wrong}
    out["published_share"] = len(published) / len(rows) if rows else None
    for key, value in rows[0].items() if rows else ():
        if key in ("name", "seed", "dancers", "fps") or isinstance(value, str | list):
            continue
        values = [row[key] for row in published if row[key] is not None]
        if values:
            out[key] = sum(values) if key == "identity_swaps" else round(float(np.mean(values)), 4)
    if published:
        # A clip of which nothing was published is as good as a pose that never changes.
        every = [
            row["constant_pa_mpjpe_mm"] if row["pa_mpjpe_mm"] is None else row["pa_mpjpe_mm"] for row in rows
        ]
        out["pa_mpjpe_of_all_mm"] = round(float(np.mean(every)), 4)
        out["median_facing_error_deg"] = float(np.median([row["facing_error_deg"] for row in published]))
        out["worst_span_error_s"] = max(
            abs(row[key]) for row in published for key in ("start_error_s", "end_error_s")
        )
        out["clock_error_ms"] = max(row["clock_error_ms"] for row in published)
    return out


def show(result: dict[str, Any], console: Console) -> None:
    """The table, for people."""
    keys = {
        "pa": "pa_mpjpe_mm", "raw": "raw_pa_mpjpe_mm", "const": "constant_pa_mpjpe_mm", "mpjpe": "mpjpe_mm",
        "facing": "facing_error_deg", "roll": "roll_error_deg", "pitch": "pitch_error_deg", "root": "root_path_error_mm", "accel": "accel_error_mm", "slide": "foot_slide_cmps",
        "true": "true_foot_slide_cmps", "start": "start_error_s", "end": "end_error_s", "cover": "coverage",
        "swaps": "identity_swaps", "apart": "distance_error_mm", "clock": "clock_error_ms", "delay": "delay_ms",
    }  # fmt: skip
    console.print(f"{'clip':15}" + "".join(f"{name:>8}" for name in keys))
    parts = {name: result[name] for name in ("solo", "duo", "captured", "all")} | result["conditions"]
    rows = [*result["clips"], *({**part, "name": name} for name, part in parts.items())]
    for row in rows:
        cells = [row.get(key) for key in keys.values()]
        shown = [
            "-" if cell is None else f"{cell:.2f}" if abs(cell) < 10 else f"{cell:.1f}" for cell in cells
        ]
        console.print(f"{row['name']:15}" + "".join(f"{cell:>8}" for cell in shown))
    for name, holds in result["targets"].items():
        console.print(f"{'met    ' if holds else 'NOT MET'} {name}")


if __name__ == "__main__":
    main()
