"""What a file is, and its frames: their times, their orientation, damage, and files that are no videos."""

from __future__ import annotations

import io
import wave
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest

from opendance_hf.music import decode_audio
from opendance_hf.music.media import Packets
from opendance_hf.pipeline import video
from opendance_hf.pipeline.stage import Rejected
from opendance_hf.pipeline.video import probe, read_frames, read_pictures
from tests.pipeline.clips import RATE, flat, turn, write_clip


def times_of(path: Path, *span: float) -> list[float]:
    return [time_s for time_s, _ in read_frames(path, *span)]


def test_frames_are_the_pictures_in_rgb(tmp_path: Path) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24], picture[24:] = (200, 40, 40), (40, 40, 200)
    ((time_s, image), *_) = read_frames(write_clip(tmp_path / "a.mp4", [picture] * 5))
    assert (time_s, image.dtype, image.shape) == (0.0, np.uint8, (48, 64, 3))
    np.testing.assert_allclose(image.astype(int), picture, atol=30)  # chroma bleeds at the edge


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_variable_frame_rate_keeps_its_times(tmp_path: Path, suffix: str) -> None:
    times = np.cumsum(np.random.default_rng(3).choice([0.02, 0.033, 0.05, 0.4], 40))
    times -= times[0]
    levels = np.linspace(20, 235, 40)
    path = write_clip(tmp_path / f"vfr.{suffix}", flat(levels), times)
    frames = list(read_frames(path))
    assert [time_s for time_s, _ in frames] == pytest.approx(times, abs=2e-3)
    assert [image.mean() for _, image in frames] == pytest.approx(levels, abs=6)


def test_span_holds_its_start_and_not_its_end(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", flat([100] * 40))
    whole = times_of(path)
    assert times_of(path, 0.5, 1.0) == [time_s for time_s in whole if 0.5 <= time_s < 1.0]
    assert len(times_of(path, 0.5, 1.0)) == 10
    assert times_of(path, 0.0, 0.7) + times_of(path, 0.7) == whole
    assert times_of(path, 5.0) == []


@pytest.mark.parametrize("late_s", [0.0, 0.75])
def test_pictures_and_sound_share_a_clock(tmp_path: Path, late_s: float) -> None:
    """Whichever stream starts late, a flash and a click of the same instant get the same time."""
    path = write_clip(
        tmp_path / "a.mkv",
        flat([20] * 10 + [230] * 30),
        1.0 + np.arange(40) / 20,
        sound_s=(1.5 - late_s, 3.0),
    )
    flash_s = next(time_s for time_s, image in read_frames(path) if image.mean() > 120)
    sound = decode_audio(path, RATE)
    click_s = np.flatnonzero(np.abs(sound) > 0.05)[0] / RATE
    assert flash_s - click_s == pytest.approx(late_s, abs=0.003)


def test_late_pictures_start_late(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.mkv", flat([100] * 40), 1.0 + np.arange(40) / 20, sound_s=(0.0, 3.0))
    assert times_of(path)[0] == pytest.approx(1.0, abs=2e-3)
    assert probe(path).duration_s == pytest.approx(3.0, abs=0.06)


@pytest.mark.parametrize("clockwise_deg", [90, 180, 270])
def test_turned_video_comes_out_upright(tmp_path: Path, clockwise_deg: int) -> None:
    picture = np.full((64, 128, 3), 128, np.uint8)
    picture[:, :32], picture[:, -32:], picture[:16] = (220, 30, 30), (30, 30, 220), (30, 220, 30)
    path = turn(write_clip(tmp_path / "phone.mp4", [picture] * 10), clockwise_deg)
    upright = np.rot90(picture, -clockwise_deg // 90)
    info = probe(path)
    assert (info.height_px, info.width_px) == upright.shape[:2]
    _, image = next(read_frames(path))
    assert image.shape == upright.shape
    assert image.flags.c_contiguous
    assert np.abs(image.astype(int) - upright).mean() < 10
    # A player of its own agrees.
    _, shown = cv2.VideoCapture(str(path)).read()
    assert np.abs(image.astype(int) - shown[..., ::-1]).mean() < 5


def test_info(tmp_path: Path) -> None:
    info = probe(write_clip(tmp_path / "a.mkv", flat([90] * 50), sound_s=(0.0, 2.5)))
    assert (info.width_px, info.height_px, info.has_audio) == (64, 48, True)
    assert info.fps == pytest.approx(20, rel=0.02)
    assert info.duration_s == pytest.approx(2.5, abs=0.06)
    assert not probe(write_clip(tmp_path / "mute.mp4", flat([90] * 50))).has_audio


def test_truncated_file_plays_up_to_the_damage(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3)).astype(np.uint8)
    whole = write_clip(tmp_path / "whole.mkv", list(noise))
    cut = tmp_path / "cut.mkv"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert 10 < len(times_of(cut)) < 50
    assert times_of(cut) == times_of(whole)[: len(times_of(cut))]


def test_damage_in_the_middle_ends_quietly_and_in_order(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (60, 48, 64, 3)).astype(np.uint8)
    path = write_clip(tmp_path / "bad.mp4", list(noise))
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 3000] = b"\xff" * 3000
    path.write_bytes(data)
    times = times_of(path)
    assert len(times) > 10
    assert (np.diff(times) > 0).all()


def test_tag_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "tag.mkv"
    with (
        av.open(str(write_clip(tmp_path / "a.mkv", flat([90] * 20)))) as source,
        av.open(str(path), "w") as out,
    ):
        out.metadata["title"] = "TITLE-OF-THE-CLIP"
        stream = out.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                out.mux(packet)
    data = path.read_bytes()
    assert b"TITLE-OF" in data
    path.write_bytes(data.replace(b"TITLE-OF", b"\xffITLE-\xfe\xfd"))
    assert probe(path).width_px == 64
    assert len(times_of(path)) == 20


def _wav(path: Path) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(b"\0\1" * RATE)


def _png(path: Path) -> None:
    path.write_bytes(cv2.imencode(".png", flat([90])[0])[1].tobytes())


def _jpeg(path: Path) -> None:
    path.write_bytes(cv2.imencode(".jpg", flat([90])[0])[1].tobytes())


def _song_with_cover(path: Path) -> None:
    cover = cv2.imencode(".png", flat([90])[0])[1].tobytes()
    with av.open(str(path), "w", format="mp3") as out:
        sound = out.add_stream("mp3", rate=44100, layout="mono")
        picture = out.add_stream("png")
        picture.width, picture.height, picture.pix_fmt = 64, 48, "rgb24"
        picture.disposition = av.stream.Disposition.attached_pic
        for offset in range(0, 44100 * 5, 1152):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16p", "mono")
            frame.sample_rate, frame.pts = 44100, offset
            out.mux(sound.encode(frame))
        out.mux(sound.encode(None))
        packet = av.Packet(cover)
        packet.stream = picture
        out.mux(packet)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        ("empty.mp4", lambda path: path.touch(), "empty"),
        ("notes.mp4", lambda path: path.write_text("buy milk\n" * 500), "not a readable video"),
        (
            "noise.mp4",
            lambda path: path.write_bytes(np.random.default_rng(0).bytes(50_000)),
            "not a readable",
        ),
        ("photo.png", _png, "a still image"),
        ("photo.mp4", _jpeg, "a still image"),
        ("still.mp4", lambda path: write_clip(path, flat([90])), "a still image"),
        ("song.wav", _wav, "audio only"),
        ("song.mp3", _song_with_cover, "audio only"),
    ],
)
def test_no_video(tmp_path: Path, name: str, make: object, reason: str) -> None:
    make(tmp_path / name)  # type: ignore[operator]
    with pytest.raises(Rejected, match=reason) as caught:
        probe(tmp_path / name)
    assert str(tmp_path) not in str(caught.value), "reasons name no paths"


def test_mp4_without_its_index(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", flat([90] * 20))
    path.write_bytes(path.read_bytes()[:400])
    with pytest.raises(Rejected, match="not a readable video"):
        probe(path)


def test_too_long_and_too_large(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match=r"7000 s long; the limit is 3600 s"):
        probe(write_clip(tmp_path / "long.mkv", flat([90, 91]), [0.0, 6999.95]))
    with pytest.raises(Rejected, match=r"8200 x 16 pixels"):
        probe(write_clip(tmp_path / "wide.mkv", flat([90] * 3, 16, 8200), codec="ffv1"))


def test_reading_is_the_same_every_time(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (12, 48, 64, 3)).astype(np.uint8)
    path = write_clip(tmp_path / "a.mp4", list(noise))

    def digest() -> bytes:
        out = io.BytesIO()
        for time_s, image in read_frames(path):
            out.write(np.float64(time_s).tobytes() + image.tobytes())
        return out.getvalue()

    assert digest() == digest()


def test_the_duration_counts_from_the_first_picture(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "late.mp4", flat([100] * 40), 1.0 + np.arange(40) / 20)
    assert times_of(path)[0] == 0.0
    assert probe(path).duration_s == pytest.approx(2.0, abs=0.06)


@dataclass
class Frame:
    """A decoded frame of a file that no encoder writes."""

    time: float | None
    width: int = 64
    height: int = 48
    is_corrupt: bool = False
    side_data: dict[str, bytes] = field(default_factory=dict)


def opened(monkeypatch: pytest.MonkeyPatch, *frames: Frame) -> None:
    """Make every file one of these frames."""
    stream = SimpleNamespace(
        disposition=0, index=0, width=64, height=48, average_rate=20, guessed_rate=20, sample_aspect_ratio=None,
        codec_context=SimpleNamespace(sample_aspect_ratio=None),
    )  # fmt: skip
    packets = [SimpleNamespace(size=1, pts=None, decode=lambda frame=frame: [frame]) for frame in frames]
    container = SimpleNamespace(
        streams=SimpleNamespace(video=[stream], audio=[], best=lambda kind: None),
        name="odd",
        format=SimpleNamespace(name="odd"),
        demux=lambda wanted: iter(packets),
    )
    monkeypatch.setattr(video, "open_media", lambda path: nullcontext(container))
    monkeypatch.setattr(video, "clock_origin", lambda container: 0.0)
    monkeypatch.setattr(video, "read_packets", lambda path: {0: Packets(50, 0.0, 5.0)})


def test_a_frame_that_does_not_come_after_the_last_one_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, *(Frame(time) for time in (0.0, 0.1, 0.1, None, 0.05, 0.2)))
    assert [picture.time_s for picture in read_pictures(Path("odd"))] == [0.0, 0.1, 0.2]


def test_a_picture_that_changes_its_size_is_rejected_with_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, Frame(0.0), Frame(3.5, width=160))
    with pytest.raises(Rejected, match=r"from 64 x 48 to 160 x 48 pixels at 3\.5 s"):
        list(read_pictures(Path("odd")))


def test_a_video_without_a_frame_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "odd").write_bytes(b"x")
    opened(monkeypatch)
    with pytest.raises(Rejected, match="no decodable frame"):
        probe(tmp_path / "odd")
