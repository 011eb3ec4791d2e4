"""Show the worst clips of a benchmark on the stage: what was found beside the truth, and the video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.apps.stage_video import video_part
from opendance_hf.apps.view import ready, song_of, stage_data, write_stage
from opendance_hf.formats.coco import POINTS, joints_of
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.opendance import motion_of
from opendance_hf.formats.positions import FEET, HANDS, motion_of_positions
from opendance_hf.motion.rotations import unit
from opendance_hf.motion.skeleton import NUM_JOINTS
from opendance_hf.schema import FPS, DanceSequence, per_dancer
from opendance_hf.storage import load_sequence
from opendance_hf.synthetic.score import heading, hip_middle
from opendance_hf.synthetic.truth import Truth, truth_path

Array = npt.NDArray[np.floating]

#: Clips that get a page by default.
WORST: Final = 3
#: The score that decides, and all that are shown, with their labels and units.
_SORTED_BY: Final = "pa_mpjpe_mm"
_SHOWN: Final = {
    "pa_mpjpe_mm": ("PA-MPJPE", "mm"), "mpjpe_mm": ("MPJPE", "mm"), "facing_error_deg": ("facing error", "°"),
    "coverage": ("coverage", ""),
}  # fmt: skip
#: Face of a truth without one: ears above the joint of the head and above the chest, half their distance, and the nose
#: before them, metres.
_EARS_M, _EARS_ABOVE_CHEST_M, _EAR_M, _NOSE_M = 0.05, 0.25, 0.07, 0.1


def write_worst(
    rows: Sequence[Mapping[str, Any]],
    videos: Sequence[Path],
    builds: Sequence[Path],
    folder: Path,
    count: int,
) -> list[Path]:
    """Write ``NAME.html`` for the published clips with the largest PA-MPJPE, and return the pages.

    Args:
        rows: scores of clips, with ``name``.
        videos: the clips; their truth lies where :func:`truth_path` says.
        builds: working folders with the sequences of the clips.
        folder: of the pages.
        count: number of pages.
    """
    files = {video.stem: video for video in videos}
    scored = [row for row in rows if row.get(_SORTED_BY) is not None and row["name"] in files]
    sequences = [
        load_sequence(path) for build in builds for path in sorted((build / "sequences").glob("*.npz"))
    ]
    pages = []
    for row in sorted(scored, key=lambda row: -row[_SORTED_BY])[:count]:
        video = files[row["name"]]
        truth = Truth.load(truth_path(video))
        mine = [seq for seq in sequences if seq.provenance.source_sha256 == truth.video_sha256]
        longest = max(mine, key=lambda seq: seq.num_frames)
        pages.append(folder / f"{video.stem}.html")
        write_stage(pages[-1], compare(video, truth, longest, row))
    return pages


def compare(video: Path, truth: Truth, seq: DanceSequence, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the stage of a sequence, of the truth in its span, and of the video."""
    found, true = ready(motion_of(seq)), truth_motion(truth, seq)
    numbers = {
        label: f"{row[name]:.4g} {measure}".strip()
        for name, (label, measure) in _SHOWN.items()
        if row.get(name) is not None
    }
    picture = video_part(video, seq.provenance.start_s, seq.num_frames / FPS)
    song = song_of([found], video, seq.provenance.start_s)
    return stage_data(["found", "truth"], [found, true], song, numbers=[numbers, {}], video=picture)


def truth_motion(truth: Truth, seq: DanceSequence) -> Motion:
    """Return the true motion at the frames of a sequence, in its heading and place.

    The truth has 12 to 14 joints: spine, collars, hands, feet and the turn of the head are those of a mean body.
    """
    clock = seq.provenance.start_s + np.arange(seq.num_frames) / FPS
    flat = np.moveaxis(truth.joints, 1, 0).reshape(len(truth.times_s), -1)
    sampled = np.stack([np.interp(clock, truth.times_s, column) for column in flat.T], axis=1)
    joints = np.moveaxis(sampled.reshape(len(clock), *truth.joints.shape[::2], 3), 1, 0)
    if seq.provenance.camera is not None:
        joints = joints @ (heading(seq.provenance.camera).T @ heading(truth.camera)).T
    found = per_dancer(seq.joints, seq.num_dancers, NUM_JOINTS, 3)[:, :, 0]
    shift = found.mean(axis=(0, 1)) - hip_middle(joints).mean(axis=(0, 1))
    joints = joints + shift * [1, 0, 1]  # worlds have origins of their own
    dancers = [
        motion_of_positions(Path(truth.name), joints_of(_points(dancer, truth.names)), float(FPS), asked=False, unknown=HANDS + FEET)
        for dancer in joints
    ]  # fmt: skip
    fields = ("joints", "poses", "transl", "rest_offsets")
    arrays = {name: np.concatenate([getattr(dancer, name) for dancer in dancers]) for name in fields}
    return Motion(arrays.pop("joints"), float(FPS), **arrays, meta={"id": truth.name})


def _points(joints: Array, names: Sequence[str]) -> Array:
    """Return (T, 17, 3) points of COCO of (T, J, 3) true joints; the face looks ahead."""
    known = {name: joints[:, number] for number, name in enumerate(names)}
    hips, chest = ((known[f"left_{part}"] + known[f"right_{part}"]) / 2 for part in ("hip", "shoulder"))
    upwards, across = unit(chest - hips), unit(known["left_shoulder"] - known["right_shoulder"])
    ears = known["head"] + _EARS_M * upwards if "head" in known else chest + _EARS_ABOVE_CHEST_M * upwards
    ahead = unit(np.cross(across, upwards))
    known |= {
        "nose": ears + _NOSE_M * ahead,
        "left_ear": ears + _EAR_M * across,
        "right_ear": ears - _EAR_M * across,
    }
    known |= {"left_eye": known["nose"], "right_eye": known["nose"]}
    return np.stack([known[name] for name in POINTS], axis=1)
