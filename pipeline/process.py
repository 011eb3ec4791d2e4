"""One video from file to sequences: the stages in order, each expensive result kept for a resumed build."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import av.logging
import cv2
import numpy as np

import opendance_hf
from opendance_hf.music import AudioError, NoAudioError, decode_audio, extract
from opendance_hf.pipeline.backends.base import Detector, PoseEstimator
from opendance_hf.pipeline.backends.blazepose import BlazePose
from opendance_hf.pipeline.backends.bytetrack import ByteTrack
from opendance_hf.pipeline.backends.choice import Choice
from opendance_hf.pipeline.backends.nanodet import NanoDet
from opendance_hf.pipeline.group import FOLDER, make_print, save_print
from opendance_hf.pipeline.ledger import Item
from opendance_hf.pipeline.outcome import Dropped, Outcome, Rejected
from opendance_hf.pipeline.settings import Settings
from opendance_hf.pipeline.stages.check import reprojection
from opendance_hf.pipeline.stages.complete import complete, usable_runs
from opendance_hf.pipeline.stages.decode import VideoInfo, probe, read_frames, read_pictures
from opendance_hf.pipeline.stages.detect import EVERY_S, Detections, boxes_at, detect_people
from opendance_hf.pipeline.stages.gate import quality_scores, why_rejected
from opendance_hf.pipeline.stages.pose import Landmarks, estimate_landmarks
from opendance_hf.pipeline.stages.retime import Motion, retime
from opendance_hf.pipeline.stages.segment import MAX_DANCERS, MIN_SPAN_S, Span, find_spans
from opendance_hf.pipeline.stages.shake import camera_speed
from opendance_hf.pipeline.stages.shots import Shot, ShotFinder
from opendance_hf.pipeline.stages.smooth import smooth
from opendance_hf.pipeline.stages.track import count_people, track_dancers
from opendance_hf.pipeline.stages.trim import dancing_runs
from opendance_hf.render.preview import PREVIEW_HEIGHT_PX, write_preview
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

if TYPE_CHECKING:
    # Imported where they are used: the paper's models and classifiers bring libraries that take seconds to load.
    from opendance_hf.modeling.smoothnet import SmoothNetModel
    from opendance_hf.motion.smpl import SMPLData
    from opendance_hf.pipeline.backends.cliff import CLIFF
    from opendance_hf.pipeline.stages.bodies import Bodies
    from opendance_hf.pipeline.stages.fit import Fit
    from opendance_hf.pipeline.stages.genre import GenreModel

#: Each holds two or three frames; more would be faster than frames can be decoded.
_MAX_THREADS = 8
_NO_AUDIO = "no audio track: a music-dance pair needs the music; mux it into the file"


@dataclass
class Models:
    """The estimators of a worker, loaded once: as many of each as it has threads."""

    threads: int = 1
    detectors: Sequence[Detector] = ()
    estimators: Sequence[PoseEstimator] = ()
    cliff: CLIFF | None = None
    smoothnet: SmoothNetModel | None = None
    body: SMPLData | None = None
    genre: GenreModel | None = None

    @classmethod
    def load(cls, choice: Choice, threads: int = 1) -> Models:
        """The models of a choice."""
        version = dict(choice.digests)
        detectors: Sequence[Detector] = ()
        cliff = smoothnet = body = None
        if choice.detector:
            from opendance_hf.pipeline.backends.yolox import YOLOX

            detectors = [YOLOX(Path(choice.detector)) for _ in range(threads)]
        if choice.pose:
            from opendance_hf.pipeline.backends.cliff import CLIFF

            cliff = CLIFF(choice.pose, version["pose"][:12])
        if choice.smoother:
            from opendance_hf.modeling.smoothnet import SmoothNetModel

            smoothnet = SmoothNetModel.from_pretrained(choice.smoother).eval()
        if choice.smpl:
            from opendance_hf.motion.smpl import load_smpl

            body = load_smpl(choice.smpl)
        return cls(threads, detectors, cliff=cliff, smoothnet=smoothnet, body=body)

    def __post_init__(self) -> None:
        # One of each a thread, so that the numbers do not depend on how many there are.
        every = range(self.threads)
        self.detectors = self.detectors or [NanoDet() for _ in every]
        self.estimators = self.estimators or [BlazePose() for _ in every]


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


class VideoProcessor:
    """What a worker of the local runner does with an item."""

    def __init__(self, build: Path, settings: Settings, threads: int) -> None:
        # Its remarks (what x264 thinks of the CPU) are no one's business; its errors are still printed.
        av.logging.set_libav_level(av.logging.ERROR)
        cv2.setNumThreads(1)
        threads = min(threads, _MAX_THREADS)
        self.build, self.settings, self.models = build, settings, Models.load(settings.choice, threads)
        if settings.genre_model:
            from opendance_hf.pipeline.stages.genre import GenreModel

            self.models.genre = GenreModel(settings.genre_model)
        # The fit brings torch, which takes seconds to load: let that be while people are looked for.
        Thread(target=import_module, args=("opendance_hf.pipeline.stages.fit",), daemon=True).start()

    def __call__(self, item: Item, on_stage: Callable[..., None], on_step: Callable[..., None]) -> Outcome:
        path = Path(item.path)
        if not path.is_file():
            raise Rejected("not a regular file" if path.exists() else "a broken link, or the file is gone")
        return process_video(
            path, item.sha256, self.build, self.settings, self.models, Log(on_stage, on_step)
        )


def process_video(
    path: Path, sha256: str, build: Path, settings: Settings, models: Models, log: Log
) -> Outcome:
    """Turn one video into sequences, written to ``build/sequences``, with previews in ``build/previews``
    and the source alone in ``build/clips``.

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

    keep = build / "work" / settings.fingerprint / sha256[:16]
    keep.mkdir(parents=True, exist_ok=True)
    outcome = Outcome([], [])
    everybody = _kept(
        keep / "detections.npz",
        Detections.load,
        lambda: log.timed("detect", lambda: _detect(path, info, models, log, keep / "shots.json")),
    )
    # Waits until it is loaded: scipy looks into a torch that it finds, and must not find half of one.
    import torch

    # One thread: reproducible sums, and workers that do not fight over cores.
    torch.set_num_threads(1)
    shots = [Shot(*edges) for edges in json.loads((keep / "shots.json").read_text())]
    for number, shot in enumerate(shots):
        detections = everybody.between(shot.start_s, shot.end_s)
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
            bodies: Bodies | None = None
            if models.cliff is not None:
                from opendance_hf.pipeline.stages.bodies import Bodies

                bodies = _kept(
                    keep / f"bodies_{number}_{round(span.start_s * 1000)}.npz",
                    Bodies.load,
                    lambda span=span, boxes=boxes: log.timed(  # type: ignore[misc]
                        "bodies", lambda: _bodies(path, span, boxes, models, log)
                    ),
                )
            runs, dropped = usable_runs(found)
            outcome.dropped += dropped
            for run in runs:
                whole = complete(found, run)
                steady = _steady(whole, models)
                near = None if bodies is None else _near(bodies.part(run), whole, models)
                dances, dropped = dancing_runs(steady)
                outcome.dropped += dropped
                for dance in dances:
                    name = f"{sha256[:16]}_{len(outcome.sequences):02d}"
                    parts = (
                        whole.part(dance),
                        steady.part(dance),
                        None if near is None else near.part(dance),
                    )
                    made = _sequence(
                        path, name, sha256, info, everybody, *parts, build, settings, models, log
                    )
                    if isinstance(made, Dropped):
                        outcome.dropped.append(made)
                    else:
                        outcome.sequences.append(made)
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


def _detect(path: Path, info: VideoInfo, models: Models, log: Log, shots_file: Path) -> Detections:
    """People and cuts, in one pass over the video; the cuts go to a file of their own."""
    finder = ShotFinder()

    def frames() -> Any:
        for picture in read_pictures(path):
            log.progress("detect", picture.time_s / max(info.duration_s, 1e-3))
            finder.see(picture.time_s, picture.small)
            yield picture

    found = detect_people(frames(), models.detectors)
    part = shots_file.with_suffix(".part")
    part.write_text(json.dumps([[shot.start_s, shot.end_s] for shot in finder.shots]))
    part.replace(shots_file)
    return found


def _spans(
    detections: Detections, shot: Shot, info: VideoInfo
) -> tuple[list[tuple[Span, np.ndarray]], list[Dropped]]:
    end_s = min(shot.end_s, info.duration_s)
    count = count_people(detections)
    if count == 0:
        return [], [Dropped(shot.start_s, end_s, "nobody in the picture")]
    if count > MAX_DANCERS:
        return [], [Dropped(shot.start_s, end_s, f"more than two people ({count})")]
    step_s = float(np.median(np.diff(detections.times_s))) if len(detections.times_s) > 1 else EVERY_S
    tracks = track_dancers(detections, count, ByteTrack(1 / step_s))
    spans, dropped = find_spans(tracks, info.height_px)
    every = detections.frames_s
    out = []
    for span in spans:
        # The last frame that was looked at stands for those after it, but not for the next shot's.
        span = replace(span, end_s=min(span.end_s, shot.end_s))
        inside = every[(every >= span.start_s - 1e-6) & (every < span.end_s - 1e-6)]
        boxes = boxes_at(tracks.times_s, tracks.boxes[list(span.dancers)], inside)
        out.append((span, boxes))
    return out, dropped


def _landmarks(path: Path, span: Span, boxes: np.ndarray, models: Models, log: Log) -> Landmarks:
    passes = 0

    def frames() -> Any:
        nonlocal passes
        done, passes = passes / 2, passes + 1
        for picture in read_pictures(path, span.start_s, span.end_s):
            share = (picture.time_s - span.start_s) / (span.end_s - span.start_s)
            # The second pass looks at every frame: of 30 a second, four fifths of the work.
            log.progress("pose", share / 5 if done == 0 else (1 + 4 * share) / 5)
            yield picture

    return estimate_landmarks(frames, boxes, models.estimators)


def _bodies(path: Path, span: Span, boxes: np.ndarray, models: Models, log: Log) -> Bodies:
    from opendance_hf.pipeline.stages.bodies import estimate_bodies

    assert models.cliff is not None

    def frames() -> Any:
        for time_s, image in read_frames(path, span.start_s, span.end_s):
            log.progress("bodies", (time_s - span.start_s) / (span.end_s - span.start_s))
            yield time_s, image

    return estimate_bodies(frames, boxes, models.cliff, models.threads)


def _steady(found: Landmarks, models: Models) -> Landmarks:
    # With bodies, SmoothNet smooths these; their 2D keypoints stay what our filters make of them.
    if models.smoothnet is None or models.cliff is not None:
        return smooth(found)
    from opendance_hf.pipeline.stages.bodies import smooth_landmarks

    return smooth_landmarks(found, models.smoothnet)


def _near(bodies: Bodies, found: Landmarks, models: Models) -> Bodies:
    from opendance_hf.pipeline.stages.bodies import complete_bodies, smooth_bodies

    return smooth_bodies(complete_bodies(bodies, found), models.smoothnet)


def _fit(steady: Landmarks, near: Bodies | None, info: VideoInfo, models: Models) -> Fit:
    from opendance_hf.pipeline.stages.fit import fit

    if near is None or models.body is None:
        return fit(steady, info.width_px, info.height_px)
    from opendance_hf.pipeline.stages.smplify import smplify

    return smplify(near, steady, models.body, info.width_px, info.height_px)


def _sequence(
    path: Path,
    name: str,
    sha256: str,
    info: VideoInfo,
    everybody: Detections,
    found: Landmarks,
    steady: Landmarks,
    near: Bodies | None,
    build: Path,
    settings: Settings,
    models: Models,
    log: Log,
) -> dict[str, Any] | Dropped:
    fitted = log.timed("fit", lambda: _fit(steady, near, info, models))
    motion: Motion = log.timed("retime", lambda: retime(fitted, found.confidence()))
    filmed = everybody.between(motion.start_s, motion.end_s)
    scores = quality_scores(motion, fitted.camera, camera_speed(filmed.frames_s, filmed.shifts))
    wrong = why_rejected(scores)
    if wrong is not None and settings.quality_gate:
        return Dropped(motion.start_s, motion.end_s, wrong)
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
            smpl_betas=None if fitted.betas is None else fitted.betas.reshape(-1),
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
    preview, clip = (build / folder / f"{name}.mp4" for folder in ("previews", "clips"))
    for file in (preview, clip):
        # One of earlier settings would show another motion.
        file.unlink(missing_ok=True)
    if settings.previews:
        for file in (preview, clip):
            file.parent.mkdir(exist_ok=True)
        log.timed("preview", lambda: _preview(path, preview, clip, seq, models.threads))
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
        "metrics": {**metrics, **scores},
    }


def _preview(path: Path, target: Path, clip: Path, seq: DanceSequence, threads: int) -> None:
    source = seq.provenance
    sound = decode_audio(path, 44100, source.start_s, source.end_s)
    pictures = read_pictures(path, source.start_s - 0.1, source.end_s + 0.1)
    camera = source.camera
    assert camera is not None
    side_px = round(PREVIEW_HEIGHT_PX / camera.height_px * max(camera.width_px, camera.height_px))
    frames = ((picture.time_s, picture.rgb(side_px)) for picture in pictures)
    write_preview(target, frames, seq, sound, 44100, source_path=clip, threads=threads)


def _provenance(
    sha256: str, info: VideoInfo, motion: Motion, camera: Camera, settings: Settings, models: Models
) -> Provenance:
    own = opendance_hf.__version__
    backends: tuple[Backend, ...] = (
        Backend("shots", "scenedetect-content", version("scenedetect")),
        Backend("detect", models.detectors[0].name, models.detectors[0].version),
        Backend("track", ByteTrack.name, ByteTrack.version),
        Backend("relink", "clothing-viterbi", own),
        *_estimators(settings.choice, models, own),
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


def _estimators(choice: Choice, models: Models, own: str) -> list[Backend]:
    keypoints, torch_version = models.estimators[0], f"{own}+torch{version('torch').split('+')[0]}"
    smooth_by = Backend("smooth", "median-savgol", own)
    if models.smoothnet is not None:
        window = models.smoothnet.config.window_size
        smooth_by = Backend("smooth", f"smoothnet-w{window}", dict(choice.digests)["smoother"][:12])
    if models.cliff is None:
        return [
            Backend("pose", keypoints.name, keypoints.version),
            smooth_by,
            Backend("fit", "skeleton-adam", torch_version),
        ]
    return [
        Backend("pose", models.cliff.name, models.cliff.version),
        Backend("keypoints", keypoints.name, keypoints.version),
        Backend("complete", "slerp", own),
        smooth_by,
        Backend("fit", "smplify-adam", torch_version),
        Backend("body", "smpl", dict(choice.digests)["smpl"][:12]),
    ]


def _why(dropped: list[Dropped]) -> str:
    """The reason that took away most of the video."""
    lost: dict[str, float] = {}
    for span in dropped:
        lost[span.reason] = lost.get(span.reason, 0.0) + span.end_s - span.start_s
    return max(lost, key=lambda reason: lost[reason]) if lost else "no frame could be decoded"
