"""One video from file to sequences: the stages in order, each expensive result kept for a resumed build."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

import opendance_hf
from opendance_hf.music import AudioError, NoAudioError, decode_audio, extract
from opendance_hf.pipeline.backends.base import Detector, PoseEstimator
from opendance_hf.pipeline.backends.blazepose import BlazePose
from opendance_hf.pipeline.backends.bytetrack import ByteTrack
from opendance_hf.pipeline.backends.nanodet import NanoDet
from opendance_hf.pipeline.group import FOLDER, make_print, save_print
from opendance_hf.pipeline.outcome import Rejected
from opendance_hf.pipeline.stages.check import reprojection
from opendance_hf.pipeline.stages.complete import complete, usable_runs
from opendance_hf.pipeline.stages.decode import VideoInfo, probe, read_frames
from opendance_hf.pipeline.stages.detect import Detections, detect_people
from opendance_hf.pipeline.stages.fit import fit
from opendance_hf.pipeline.stages.genre import GenreModel
from opendance_hf.pipeline.stages.pose import Landmarks, estimate_landmarks
from opendance_hf.pipeline.stages.retime import Motion, retime
from opendance_hf.pipeline.stages.segment import MAX_DANCERS, MIN_SPAN_S, Dropped, Span, find_spans
from opendance_hf.pipeline.stages.shots import Shot, find_shots
from opendance_hf.pipeline.stages.smooth import smooth
from opendance_hf.pipeline.stages.track import count_people, track_dancers
from opendance_hf.render.preview import write_preview
from opendance_hf.schema import (
    Backend,
    Camera,
    DanceSequence,
    Provenance,
    flat_dancers,
    mean_joint_speed,
    validate,
)
from opendance_hf.storage import save_sequence

_NO_AUDIO = "no audio track: a music-dance pair needs the music; mux it into the file"
#: Raise it when a stage's result changes: builds made with another revision are not resumed but redone.
REVISION = 2


@dataclass(frozen=True)
class Settings:
    """What a build's results depend on, besides its inputs."""

    licence: str = "unknown"
    previews: bool = True
    genre_model: str = ""
    revision: int = REVISION

    @property
    def fingerprint(self) -> str:
        """Short hash of the settings."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass
class Models:
    """The estimators of a worker, loaded once."""

    detector: Detector = field(default_factory=NanoDet)
    light: PoseEstimator = field(default_factory=lambda: BlazePose("full"))
    accurate: PoseEstimator = field(default_factory=lambda: BlazePose("heavy"))
    genre: GenreModel | None = None


@dataclass
class Outcome:
    """What came out of one video: a summary of each sequence (its ``id`` names the files), and unused spans."""

    sequences: list[dict[str, Any]]
    dropped: list[Dropped]


class Log:
    """Receives what a video's processing reports; the local runner sends it to the parent process."""

    def __init__(self, on_stage: Callable[[str, float], None], on_step: Callable[[str, float], None]) -> None:
        self._on_stage, self._on_step = on_stage, on_step
        self._seconds: dict[str, float] = {}

    def timed(self, stage: str, work: Callable[[], Any]) -> Any:
        """Run one stage and report the time this video has spent in it."""
        self._on_step(stage, 0.0)
        start = time.perf_counter()
        result = work()
        self._seconds[stage] = self._seconds.get(stage, 0.0) + time.perf_counter() - start
        self._on_stage(stage, self._seconds[stage])
        return result

    def progress(self, stage: str, share: float) -> None:
        """Report how much of a stage is done, 0 to 1."""
        self._on_step(stage, min(share, 1.0))


def process_video(
    path: Path, sha256: str, build: Path, settings: Settings, models: Models, log: Log
) -> Outcome:
    """Turn one video into sequences, written to ``build/sequences`` with previews in ``build/previews``.

    Results depend on the file's content and the settings only, and every file is written atomically, so a run that
    was killed can be repeated at no loss.

    Raises:
        Rejected: if nothing of the video can be used; the message says why.
    """
    info: VideoInfo = log.timed("probe", lambda: probe(path))
    if not info.has_audio:
        raise Rejected(_NO_AUDIO)
    if info.duration_s < MIN_SPAN_S:
        raise Rejected(f"{info.duration_s:.1f} s long; at least {MIN_SPAN_S:.0f} s needed")
    log.timed("audio", lambda: _check_audio(path))
    shots: list[Shot] = log.timed("shots", lambda: find_shots(path))

    keep = build / "work" / settings.fingerprint / sha256[:16]
    keep.mkdir(parents=True, exist_ok=True)
    outcome = Outcome([], [])
    for number, shot in enumerate(shots):
        detections = _kept(
            keep / f"detections_{number}.npz",
            Detections.load,
            lambda shot=shot: log.timed("detect", lambda: _detect(path, shot, info, models, log)),  # type: ignore[misc]
        )
        spans, dropped = log.timed("track", partial(_spans, detections, shot, info))
        outcome.dropped += dropped
        for span, boxes in spans:
            found = _kept(
                keep / f"landmarks_{number}_{round(span.start_s * 1000)}.npz",
                Landmarks.load,
                lambda span=span, boxes=boxes: log.timed(  # type: ignore[misc]
                    "pose", lambda: _landmarks(path, span, boxes, models, log)
                ),
            )
            runs, dropped = usable_runs(found)
            outcome.dropped += dropped
            for run in runs:
                name = f"{sha256[:16]}_{len(outcome.sequences):02d}"
                summary = _sequence(
                    path, name, sha256, info, complete(found, run), build, settings, models, log
                )
                outcome.sequences.append(summary)
    if not outcome.sequences:
        raise Rejected(_why(outcome.dropped))
    return outcome


def _kept(file: Path, load: Callable[[Path], Any], make: Callable[[], Any]) -> Any:
    """A stage's result from an earlier, interrupted run, or made now and kept."""
    if file.is_file():
        return load(file)
    result = make()
    result.save(file)
    # Read back, so that a resumed run continues from the very same numbers.
    return load(file)


def _check_audio(path: Path) -> None:
    try:
        decode_audio(path, 3840, 0.0, MIN_SPAN_S)
    except NoAudioError:
        raise Rejected(_NO_AUDIO) from None
    except AudioError as error:
        raise Rejected(f"the sound cannot be read: {str(error).removeprefix(f'{path}: ')}") from None


def _detect(path: Path, shot: Shot, info: VideoInfo, models: Models, log: Log) -> Detections:
    def frames() -> Any:
        for time_s, image in read_frames(path, shot.start_s, shot.end_s):
            log.progress("detect", time_s / max(info.duration_s, 1e-3))
            yield time_s, image

    return detect_people(frames(), models.detector)


def _spans(
    detections: Detections, shot: Shot, info: VideoInfo
) -> tuple[list[tuple[Span, np.ndarray]], list[Dropped]]:
    times = detections.times_s
    end_s = min(shot.end_s, info.duration_s)
    count = count_people(detections)
    if count == 0:
        return [], [Dropped(shot.start_s, end_s, "nobody in the picture")]
    if count > MAX_DANCERS:
        return [], [Dropped(shot.start_s, end_s, f"more than two people ({count})")]
    tracks = track_dancers(detections, count, ByteTrack(info.fps))
    spans, dropped = find_spans(tracks, info.height_px)
    out = []
    for span in spans:
        inside = (times >= span.start_s - 1e-6) & (times < span.end_s - 1e-6)
        out.append((span, tracks.boxes[list(span.dancers)][:, inside]))
    return out, dropped


def _landmarks(path: Path, span: Span, boxes: np.ndarray, models: Models, log: Log) -> Landmarks:
    passes = 0

    def frames() -> Any:
        nonlocal passes
        done, passes = passes / 2, passes + 1
        for time_s, image in read_frames(path, span.start_s, span.end_s):
            share = (time_s - span.start_s) / (span.end_s - span.start_s)
            # The second pass runs the heavier model: about two thirds of the work.
            log.progress("pose", share / 3 if done == 0 else 1 / 3 + share * 2 / 3)
            yield time_s, image

    return estimate_landmarks(frames, boxes, models.light, models.accurate)


def _sequence(
    path: Path,
    name: str,
    sha256: str,
    info: VideoInfo,
    found: Landmarks,
    build: Path,
    settings: Settings,
    models: Models,
    log: Log,
) -> dict[str, Any]:
    fitted = log.timed("fit", lambda: fit(smooth(found), info.width_px, info.height_px))
    motion: Motion = log.timed("retime", lambda: retime(fitted, found.confidence()))
    music = log.timed("music", lambda: extract(path, motion.start_s, motion.end_s, motion.num_frames))
    genre, genre_scores = None, None
    if models.genre is not None:
        classify = models.genre.classify
        genre, genre_scores = log.timed("genre", lambda: classify(path, motion.start_s, motion.end_s))
    seq = validate(
        DanceSequence(
            id=name,
            group=sha256[:16],
            num_dancers=len(motion.poses),
            num_frames=motion.num_frames,
            joints=flat_dancers(motion.joints),
            smpl_pose=flat_dancers(motion.poses),
            smpl_transl=flat_dancers(motion.transl),
            rest_offsets=fitted.rest_offsets.reshape(-1),
            music_features=music.music_features,
            music_features_7p5fps=music.music_features_7p5fps,
            music_features_fact=music.music_features_fact,
            music_beats=music.music_beats,
            bpm=music.bpm,
            motion_velocity=mean_joint_speed(motion.joints),
            confidence=flat_dancers(motion.confidence),
            genre=genre,
            genre_scores=genre_scores,
            provenance=_provenance(sha256, info, motion, fitted.camera, settings, models),
        )
    )
    (build / "sequences").mkdir(exist_ok=True)
    save_sequence(build / "sequences" / f"{name}.npz", seq)
    found_print = log.timed("print", lambda: make_print(path, motion.start_s, motion.end_s, motion.joints))
    save_print(build / FOLDER / f"{name}.npz", found_print)
    metrics = reprojection(motion, fitted.camera, found)
    if settings.previews:
        preview = build / "previews" / f"{name}.mp4"
        preview.parent.mkdir(exist_ok=True)
        log.timed("preview", lambda: _preview(path, preview, seq))
    return {
        "id": name,
        "config": seq.config,
        "num_dancers": seq.num_dancers,
        "num_frames": seq.num_frames,
        "start_s": motion.start_s,
        "end_s": motion.end_s,
        "bpm": seq.bpm,
        "motion_velocity": seq.motion_velocity,
        "mean_confidence": float(seq.confidence.mean()),
        "metrics": metrics,
    }


def _preview(path: Path, target: Path, seq: DanceSequence) -> None:
    source = seq.provenance
    sound = decode_audio(path, 44100, source.start_s, source.end_s)
    frames = read_frames(path, source.start_s - 0.1, source.end_s + 0.1)
    write_preview(target, frames, seq, sound, 44100)


def _provenance(
    sha256: str, info: VideoInfo, motion: Motion, camera: Camera, settings: Settings, models: Models
) -> Provenance:
    from importlib.metadata import version

    own = opendance_hf.__version__
    backends: tuple[Backend, ...] = (
        Backend("shots", "scenedetect-content", version("scenedetect")),
        Backend("detect", models.detector.name, models.detector.version),
        Backend("track", ByteTrack.name, ByteTrack.version),
        Backend("relink", "clothing-viterbi", own),
        Backend("pose", models.accurate.name, models.accurate.version),
        Backend("smooth", "median-savgol", own),
        Backend("fit", "skeleton-adam", f"{own}+torch{torch.__version__.split('+')[0]}"),
        Backend("music", "librosa", version("librosa")),
    )
    if models.genre is not None:
        backends = (*backends, Backend("genre", models.genre.name, models.genre.version))
    return Provenance(
        source_sha256=sha256,
        start_s=motion.start_s,
        end_s=motion.end_s,
        source_fps=info.fps,
        licence=settings.licence,
        opendance_version=own,
        camera=camera,
        backends=backends,
    )


def _why(dropped: list[Dropped]) -> str:
    """The reason that took away most of the video."""
    lost: dict[str, float] = {}
    for span in dropped:
        lost[span.reason] = lost.get(span.reason, 0.0) + span.end_s - span.start_s
    return max(lost, key=lambda reason: lost[reason]) if lost else "no frame could be decoded"
