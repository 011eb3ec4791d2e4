"""Pictures of odd and damaged files: pixels that are not square, display matrices, restarted clocks, damage, gaps."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from benchmarks.cases.make_media import (
    RATE,
    Matrix,
    damage,
    join,
    merge,
    picture,
    pictures,
    set_matrix,
    song,
    write_media,
)
from opendance_hf.music import decode_audio
from opendance_hf.music.media import demux, open_media, read_packets
from opendance_hf.pipeline.clip import CameraMotion, Clip, Tracks
from opendance_hf.pipeline.stage import Dropped, Rejected
from opendance_hf.pipeline.stages.probe import Probe
from opendance_hf.pipeline.stages.retime import Retime
from opendance_hf.pipeline.stages.segment import Segment
from opendance_hf.pipeline.video import View, probe, read_frames, read_pictures
from tests.pipeline.test_hostile_inputs import tone, video
from tests.pipeline.truth import VIDEO

#: Matrices of the eight orientations, and what they do to the stored picture.
ORIENTATIONS = {
    "plain": ((1, 0, 0, 1), lambda image: image),
    "mirrored": ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda image: image[::-1]),
    "180": ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
    "90": ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    "270": ((0, -1, 1, 0), lambda image: np.rot90(image)),
    "90, then mirrored": ((0, 1, 1, 0), lambda image: np.rot90(image, -1)[:, ::-1]),
    "270, then mirrored": ((0, -1, -1, 0), lambda image: np.rot90(image)[:, ::-1]),
}


def still(path: Path, **options: object) -> Path:
    return write_media(path, [picture()] * 10, options=options)


@pytest.mark.parametrize("name", ORIENTATIONS)
@pytest.mark.parametrize("aspect", [Fraction(1), Fraction(64, 45), Fraction(8, 9)])
def test_pictures_are_given_as_players_show_them(tmp_path: Path, name: str, aspect: Fraction) -> None:
    matrix, shown = ORIENTATIONS[name]
    path = set_matrix(still(tmp_path / "a.mp4", pixel_aspect=aspect), matrix)
    width_px = 96 if aspect == 1 else 2 * round(96 * aspect / 2)
    expected = shown(picture(64, width_px))
    info = probe(path)
    assert (info.height_px, info.width_px) == expected.shape[:2]
    _, image = next(read_frames(path))
    assert image.shape == expected.shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - expected).mean() < 12
    small = next(read_pictures(path)).small
    longer = max(expected.shape[:2])
    assert small.shape[:2] == pytest.approx(np.array(expected.shape[:2]) * 256 / longer, abs=2)


@pytest.mark.parametrize("suffix", ["mp4", "mkv", "ts"])
def test_the_shape_of_pixels_is_read_from_container_and_codec(tmp_path: Path, suffix: str) -> None:
    assert probe(still(tmp_path / f"a.{suffix}", pixel_aspect=Fraction(32, 27))).width_px == 114


def test_absurd_pixels_are_refused(tmp_path: Path) -> None:
    path = still(tmp_path / "a.ts", pixel_aspect=Fraction(9, 2))
    with pytest.raises(Rejected, match="pixels of 9:2, expected 1:4 to 4:1"):
        probe(path)
    path = still(tmp_path / "a.mp4", pixel_aspect=Fraction(64, 45))
    data, stated = path.read_bytes(), b"pasp" + (64).to_bytes(4) + (45).to_bytes(4)
    assert stated in data
    for name, pixel, width_px in (("huge", (1000, 1), None), ("zero", (0, 1), 96)):
        odd = tmp_path / f"{name}.mp4"
        odd.write_bytes(data.replace(stated, b"pasp" + pixel[0].to_bytes(4) + pixel[1].to_bytes(4)))
        if width_px is None:
            with pytest.raises(Rejected, match="pixels of 1000:1"):
                probe(odd)
        else:
            assert probe(odd).height_px == 64


def test_pixels_that_change_their_shape_are_refused(tmp_path: Path) -> None:
    parts = [
        still(tmp_path / f"{k}.ts", pixel_aspect=aspect, start_s=start_s)
        for k, (aspect, start_s) in enumerate([(Fraction(64, 45), 0.0), (Fraction(16, 15), 0.5)])
    ]
    path = join(tmp_path / "changes.ts", *parts)
    with pytest.raises(Rejected, match=r"shape of the pixels changes from 64:45 to 16:15 at 0\.\d s; split"):
        list(read_pictures(path))


@pytest.mark.parametrize(
    "matrix", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0, 0.5, 1), (1, 0, 1, 0)], ids=["45", "shear", "flat"]
)
def test_a_matrix_that_is_not_an_orientation_is_refused(tmp_path: Path, matrix: Matrix) -> None:
    path = set_matrix(still(tmp_path / "a.mp4"), matrix)
    with pytest.raises(Rejected, match=r"display matrix .* expected a multiple of 90"):
        probe(path)


def test_a_matrix_near_an_orientation_is_that_orientation(tmp_path: Path) -> None:
    turn = np.radians(92)
    path = set_matrix(still(tmp_path / "a.mp4"), (np.cos(turn), np.sin(turn), -np.sin(turn), np.cos(turn)))
    assert (probe(path).width_px, probe(path).height_px) == (64, 96)
    assert probe(set_matrix(still(tmp_path / "zero.mp4"), (0, 0, 0, 0))).width_px == 96


@pytest.mark.parametrize("restarts", ["both", "picture", "sound", "three parts"])
def test_a_clock_that_restarts_is_refused(tmp_path: Path, restarts: str) -> None:
    late = {"sound": {"start_s": 2.0, "sound_start_s": -2.0}, "picture": {"sound_start_s": 2.0}}
    first = write_media(tmp_path / "a.ts", pictures(40), song(2.0))
    second = write_media(tmp_path / "b.ts", pictures(40), song(2.0), options=late.get(restarts, {}))
    parts = [first, second, second] if restarts == "three parts" else [first, second]
    path = join(tmp_path / "joined.ts", *parts)
    with pytest.raises(
        Rejected, match=r"the clock restarts after 2\.\d s: time stamps go back by [12]\.\d s"
    ):
        probe(path)


def test_a_clock_that_wraps_and_reordered_frames_do_not_restart(tmp_path: Path) -> None:
    path = write_media(tmp_path / "wrap.ts", pictures(100), song(5.0), options={"start_s": 95_440.0})
    info = probe(path)
    assert info.duration_s == pytest.approx(5.0, abs=0.1)
    times = [picture.time_s for picture in read_pictures(path)]
    assert len(times) == 100
    np.testing.assert_allclose(np.diff(times), 0.05, atol=1e-3)


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_one_damaged_packet_costs_one_frame_at_most(tmp_path: Path, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 64, 96, 3)).astype(np.uint8)
    path = write_media(tmp_path / "a.mp4", list(noise))
    whole = [time_s for time_s, _ in read_frames(path)]
    found = [time_s for time_s, _ in read_frames(damage(path, "video", 30, share))]
    assert set(found) <= set(whole)
    # Of half a picture the decoder makes up the rest.
    assert len(found) == len(whole) - (share == 1.0)


def test_mostly_damaged_pictures_are_refused_at_their_end(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", pictures(80), options={"gop": 1})
    for number in range(10, 70):
        damage(path, "video", number)
    pictures_read = read_pictures(path)
    with pytest.raises(Rejected, match=r"the picture is mostly damaged: \d+ of 80 frames can be decoded"):
        list(pictures_read)
    assert [picture.time_s for picture in read_pictures(path, 0.0, 0.4)] == pytest.approx(np.arange(8) / 20)


def test_a_recording_that_begins_between_key_frames_is_used_from_the_next_one_on(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (80, 64, 96, 3)).astype(np.uint8)
    path = write_media(tmp_path / "a.ts", list(noise), options={"gop": 60})
    whole = [time_s for time_s, _ in read_frames(path)]
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 3 // 188 * 188 :])
    found = [time_s for time_s, _ in read_frames(path)]
    assert 20 <= len(found) <= 22
    assert probe(path).duration_s == pytest.approx(found[-1] + 0.05, abs=0.01)
    assert found[0] > 1.0
    assert len(whole) == 80


def test_a_duration_that_is_not_stated_is_measured(tmp_path: Path) -> None:
    live = {"format": "webm", "container": {"live": "1"}}
    webm = write_media(
        tmp_path / "live.webm", pictures(60), song(3.0), codecs=("libvpx", "libopus"), options=live
    )
    raw = write_media(tmp_path / "raw.h264", pictures(60))
    flv = write_media(tmp_path / "a.flv", pictures(60), song(3.0))
    assert probe(webm).duration_s == pytest.approx(3.0, abs=0.06)
    assert probe(flv).duration_s == pytest.approx(3.0, abs=0.1)
    info = probe(raw)
    assert info.duration_s == pytest.approx(60 / info.fps)
    times = [time_s for time_s, _ in read_frames(raw)]
    np.testing.assert_allclose(times, np.arange(60) / info.fps)


def test_the_duration_of_a_late_matroska_is_that_of_its_frames(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mkv", pictures(40), song(2.0), options={"start_s": 1.0})
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.06)


@pytest.mark.parametrize("first", ["cover", "slides"])
def test_the_stream_that_moves_is_read(tmp_path: Path, first: str) -> None:
    """Streams before the video: a picture that is not marked as a cover; a slide show."""
    video = write_media(tmp_path / "video.mkv", pictures(60), song(3.0))
    times = [0.0] if first == "cover" else [0.0, 1.0, 2.0]
    slides = write_media(tmp_path / "slides.mkv", [picture(128, 160)] * len(times), times_s=times)
    path = merge(tmp_path / "both.mkv", slides, video)
    info = probe(path)
    assert (info.width_px, info.height_px) == (96, 64)
    assert info.fps == pytest.approx(20, abs=0.1)
    assert len(list(read_pictures(path))) == 60


def test_streams_that_a_transport_stream_begins_later_are_skipped(tmp_path: Path) -> None:
    """Damaged bytes look like new streams, which PyAV does not know; found by mutated files."""
    file = video(tmp_path / "a.ts", codec="mpeg2video", fps=25, frames=110, sound=tone())
    rng, data = np.random.default_rng(0), bytearray(file.read_bytes())
    for place in rng.integers(len(data) // 4, len(data) * 3 // 4, 300):
        data[place] = rng.integers(256)
    file.write_bytes(data)
    with av.open(str(file)) as container, pytest.raises(IndexError):
        list(container.demux(container.streams.video))
    with open_media(file) as container:
        times = [
            packet.pts for packet in demux(container, container.streams.video[0]) if packet.pts is not None
        ]
    assert max(times) - min(times) == pytest.approx(90_000 * 109 / 25, rel=0.05), "to the end of the file"
    assert read_packets(file)[0].count == len(times)


def test_a_damaged_video_has_the_same_frames_every_time(tmp_path: Path) -> None:
    """Stages read a video one after the other, and a build that goes on reads it again."""
    file = video(tmp_path / "a.mp4", codec="h264", size=(320, 240), fps=25, frames=110)
    rng, data = np.random.default_rng(0), bytearray(file.read_bytes())
    first = data.index(b"mdat") + 1500
    for place in rng.integers(first, data.index(b"moov"), 100):
        data[place] = rng.integers(256)
    file.write_bytes(data)
    times = [tuple(picture.time_s for picture in read_pictures(file)) for _ in range(8)]
    assert 20 < len(times[0]) < 110, "damaged, and readable"
    assert len(set(times)) == 1


def test_a_stream_that_nothing_decodes_is_no_video(tmp_path: Path) -> None:
    file = video(tmp_path / "a.mkv", codec="ffv1")
    file.write_bytes(file.read_bytes().replace(b"V_FFV1", b"V_XXX1"))
    with av.open(str(file)) as container:
        assert container.streams.video[0].codec_context is None
    with pytest.raises(Rejected, match="not a video: no video stream"):
        probe(file)


def test_silence_is_rejected_with_its_level(tmp_path: Path) -> None:
    path = write_media(tmp_path / "a.mp4", pictures(100), np.zeros(5 * RATE, np.float32))
    dropped = Probe()(Clip(path, "0" * 64))
    assert isinstance(dropped, Dropped)
    assert dropped.reason == "no music: the sound is silent"
    assert "-200.0 dBFS" in dropped.detail


def test_the_probe_finds_the_times_with_music_and_the_gaps(tmp_path: Path) -> None:
    sound = np.concatenate([song(5.0), np.zeros(5 * RATE, np.float32)])
    path = write_media(tmp_path / "a.mkv", pictures(200), sound, codecs=("libx264", "pcm_s16le"))
    found = Probe()(Clip(path, "0" * 64))
    assert isinstance(found, Clip)
    ((start_s, end_s),) = found.video.music_s
    assert (start_s, end_s) == (0.0, pytest.approx(5.0, abs=0.06))
    damaged = damage(write_media(tmp_path / "b.mp4", pictures(100), song(5.0)), "audio", 100)
    found = Probe()(Clip(damaged, "0" * 64))
    assert isinstance(found, Clip)
    assert len(found.video.sound_gaps_s) == 1
    assert found.video.music_s == ((0.0, np.inf),)
    assert len(decode_audio(damaged, RATE)) > 4.9 * RATE


def tracked(times_s: np.ndarray, music_s: tuple[tuple[float, float], ...]) -> list[Clip | Dropped]:
    """One dancer, always in the middle, in the spans that the stage segment makes."""
    boxes = np.tile(np.array([400, 200, 600, 600], np.float32), (1, len(times_s), 1))
    clip = Clip(
        Path("v.mp4"), "0" * 64, video=replace(VIDEO, music_s=music_s), tracks=Tracks(times_s, boxes),
        camera_motion=CameraMotion(times_s, np.zeros(len(times_s))),
    )  # fmt: skip
    return Segment()(clip)


def test_spans_are_cut_to_the_music() -> None:
    times = np.arange(20 * 25) / 25
    whole = tracked(times, ((0.0, np.inf),))
    assert [(found.start_s, found.end_s) for found in whole] == [(0.0, pytest.approx(20.0))]
    first, silent, short = tracked(times, ((0.0, 9.0), (17.0, np.inf)))
    assert isinstance(first, Clip)
    assert (first.start_s, first.end_s) == (0.0, 9.0)
    assert first.boxes.shape[1] == len(first.camera_motion.times_s) == 9 * 25
    assert isinstance(silent, Dropped)
    assert str(silent) == "no music: the sound is silent (for 8.0 s)"
    assert isinstance(short, Dropped)
    assert "too short" in short.reason


def test_spans_are_cut_where_frames_are_missing() -> None:
    times = np.arange(20 * 25) / 25
    seen = times[((times >= 6.5) & (times < 11)) | (times >= 14.0)]
    missing, first, gap, last = tracked(seen, ((0.0, np.inf),))
    reason = "no picture: frames are missing or cannot be decoded"
    assert missing == Dropped(0.0, 6.52, reason, "for 6.5 s")
    assert isinstance(first, Clip)
    assert (first.start_s, first.end_s) == pytest.approx((6.52, 11.0))
    assert isinstance(gap, Dropped)
    assert (gap.reason, gap.detail) == (reason, "for 3.0 s")
    assert isinstance(last, Clip)
    assert (last.start_s, last.end_s) == pytest.approx((14.0, 20.0))


def test_motion_between_frames_far_apart_has_no_confidence() -> None:
    times = np.array([0.0, 0.1, 0.2, 0.7, 0.8])
    count = len(times)
    eye = np.broadcast_to(np.eye(3), (1, count, 24, 3, 3))
    fit = SimpleNamespace(
        times_s=times, rotations=eye, transl=np.zeros((1, count, 3)), rest_offsets=np.zeros((1, 24, 3))
    )
    confidence = Retime().resample(fit, np.ones((1, count))).confidence[0]  # type: ignore[arg-type]
    at = np.arange(len(confidence)) / 60
    np.testing.assert_array_equal(confidence, np.where((at > 0.2 + 1e-6) & (at < 0.7 - 1e-6), 0, 1))


def test_views_are_equal_only_if_shown_alike() -> None:
    view = View(720, 480, Fraction(32, 27), ((0, 1), (-1, 0)))
    assert view.displayed_width_px == 854
    assert view.shown_size == (480, 854)
