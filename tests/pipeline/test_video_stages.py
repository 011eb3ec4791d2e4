"""Stages that read the video's file look at the span they were given, and add what they found to the clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.music import MusicAnnotation, decode_audio
from opendance_hf.pipeline.backends.base import Backend
from opendance_hf.pipeline.clip import Clip, Job, Motion, VideoInfo
from opendance_hf.pipeline.group import fingerprint_of, load_fingerprint
from opendance_hf.pipeline.stages import music as music_stage
from opendance_hf.pipeline.stages.detect import Detect
from opendance_hf.pipeline.stages.fingerprint import Fingerprint
from opendance_hf.pipeline.stages.music import Music
from opendance_hf.pipeline.stages.preview import Preview
from opendance_hf.render import preview
from tests.factories import make_sequence
from tests.pipeline.clips import flat, write_clip

ID = f"{'c' * 16}_02"


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds that grow lighter, with a tone; clearer from second to second."""
    path = tmp_path_factory.mktemp("video") / "a.mkv"
    return write_clip(path, flat(np.linspace(20, 220, 100)), sound_s=(0.0, 5.0))


def clip_of(video: Path, build: Path) -> Clip:
    """The third sequence of a video: its second and third second."""
    joints = np.random.default_rng(0).normal(size=(1, 120, 24, 3)).astype(np.float32)
    motion = Motion(1.0, 3.0, joints, joints[:, :, 0], joints, np.ones((1, 120), np.float32))
    return Clip(
        video, "c" * 64, start_s=1.0, end_s=3.0, video=VideoInfo(64, 48, 20.0, 5.0, True), motion=motion,
        number=2, job=Job(build), columns={"earlier": 1},
    )  # fmt: skip


LOADED: list[str] = []


@dataclass(frozen=True)
class Lightness(Backend):
    """Finds a person as wide as the picture is light."""

    name = "lightness"
    version = "1"

    def load(self) -> Lightness:
        LOADED.append(self.name)
        return self

    def detect(self, image: np.ndarray) -> np.ndarray:
        return np.array([[0, 0, image.mean() / 4, 40, 0.9]], np.float32)


def test_people_are_detected_over_the_whole_video_with_progress(video: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    job = Job(tmp_path, threads=2, report=shares.append)
    whole = Clip(video, "c" * 64, video=VideoInfo(64, 48, 20.0, 5.0, True), job=job)
    LOADED.clear()
    found = Detect(detector=Lightness())(whole).detections
    assert LOADED == ["lightness"] * 2, "one for each thread"
    np.testing.assert_allclose(found.times_s, np.arange(0, 5, 0.15), atol=2e-3)
    assert (found.counts == 1).all()
    np.testing.assert_allclose(found.boxes[:, 2] * 4, 20 + 40.4 * found.times_s, atol=6)
    assert found.clothing.shape[0] == len(found.boxes)
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0.0, pytest.approx(0.99))


def test_a_video_with_nobody_in_it_has_frames_without_boxes(video: Path, tmp_path: Path) -> None:
    @dataclass(frozen=True)
    class Nobody(Lightness):
        def detect(self, image: np.ndarray) -> np.ndarray:
            return np.zeros((0, 5), np.float32)

    whole = Clip(video, "c" * 64, video=VideoInfo(64, 48, 20.0, 5.0, True), job=Job(tmp_path))
    found = Detect(detector=Nobody(), rate_hz=2.0)(whole).detections
    assert found.counts.tolist() == [0] * 10
    assert (found.boxes.shape, found.clothing.shape[0]) == ((0, 5), 0)


def test_the_music_is_that_of_the_span_frame_by_frame(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = make_sequence(0, num_frames=120)
    annotation = MusicAnnotation(
        full.music_features, full.music_features_7p5fps, full.music_features_fact, full.music_beats, 123.0
    )
    asked: list[object] = []
    monkeypatch.setattr(music_stage, "extract", lambda *values: asked.append(values) or annotation)
    found = Music()(clip_of(video, tmp_path))
    assert asked == [(video, 1.0, 3.0, 120)]
    assert found.columns == {"earlier": 1, **vars(annotation)}
    assert [row[:2] for row in Music().provenance()] == [("music", "librosa")]


def test_the_fingerprint_is_that_of_the_span(video: Path, tmp_path: Path) -> None:
    clip = clip_of(video, tmp_path)
    assert Fingerprint()(clip) is clip
    found = load_fingerprint(tmp_path / "fingerprints" / f"{ID}.npz")
    wanted = fingerprint_of(video, 1.0, 3.0, clip.motion.joints)
    np.testing.assert_array_equal(found.music.times_s, wanted.music.times_s)
    np.testing.assert_array_equal(found.music.octaves, wanted.music.octaves)
    np.testing.assert_array_equal(found.dancers, wanted.dancers)


def test_the_videos_to_look_at_show_the_span_with_its_sound(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seq = make_sequence(0, num_frames=120)
    assert seq.provenance.camera is not None
    camera = replace(seq.provenance.camera, width_px=64, height_px=48)
    seq = replace(seq, id=ID, provenance=replace(seq.provenance, start_s=1.0, end_s=3.0, camera=camera))
    clip = clip_of(video, tmp_path)
    clip = replace(clip, sequence=seq, job=replace(clip.job, threads=3))
    written: dict[str, Any] = {}

    def note(path: Path, frames: Any, sequence: Any, sound: tuple[np.ndarray, int], **values: Any) -> None:
        names = ("path", "frames", "sequence", "sound", "rate")
        written.update(zip(names, (path, list(frames), sequence, *sound), strict=True), **values)

    monkeypatch.setattr(preview, "write_preview", note)
    assert Preview(height_px=96, rate_hz=10.0, sample_rate_hz=22_050)(clip) is clip
    assert written["path"] == tmp_path / "previews" / f"{ID}.mp4"
    assert written["source_path"] == tmp_path / "clips" / f"{ID}.mp4"
    assert written["path"].parent.is_dir()
    assert written["source_path"].parent.is_dir()
    times = [time_s for time_s, _ in written["frames"]]
    np.testing.assert_allclose(times, np.arange(0.9, 3.1, 0.05), atol=2e-3)
    assert {image.shape for _, image in written["frames"]} == {(96, 128, 3)}
    assert written["sequence"] is seq
    np.testing.assert_array_equal(written["sound"], decode_audio(video, 22_050, 1.0, 3.0))
    assert (written["rate"], written["height"], written["fps"], written["threads"]) == (22_050, 96, 10.0, 3)
