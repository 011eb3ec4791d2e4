"""Files play: exact counts, rates and lengths; nothing half-written stays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from opendance_hf.render.video import VideoWriter


def pictures(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Flat pictures that get brighter."""
    levels = np.linspace(20, 235, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3))


def tone(seconds: float, rate: int) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def failing_midway() -> Iterator[np.ndarray]:
    yield from pictures(5)
    raise RuntimeError("midway")


def write(path: Path, frames: Iterable[np.ndarray], **options: object) -> Path:
    with VideoWriter(path, **options) as video:  # type: ignore[arg-type]
        for frame in frames:
            video.write(frame)
    return path


@pytest.mark.parametrize("fps", [30, 25, Fraction(30_000, 1_001)])
def test_pictures_come_back_at_their_instants(tmp_path: Path, fps: Fraction) -> None:
    path = write(tmp_path / "a.mp4", pictures(45), fps=fps)
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = list(file.decode(video=0))
        assert stream.average_rate == Fraction(fps)
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert not file.streams.audio
    assert len(frames) == 45
    assert [frame.time for frame in frames] == pytest.approx([float(n / fps) for n in range(45)], abs=1e-4)
    seen = [frame.to_ndarray(format="rgb24").mean() for frame in frames]
    assert seen == pytest.approx(pictures(45).mean(axis=(1, 2, 3)), abs=4)


@pytest.mark.parametrize("rate", [44_100, 22_050, 15_360])
@pytest.mark.parametrize("seconds", [2.0, 5.0])
def test_sound_is_there_and_ends_with_the_pictures(tmp_path: Path, rate: int, seconds: float) -> None:
    path = write(tmp_path / "a.mp4", pictures(60), fps=30, audio=tone(seconds, rate), sample_rate=rate)
    with av.open(str(path)) as file:
        stream = file.streams.audio[0]
        assert stream.codec_context.name == "aac"
        assert float(stream.duration * stream.time_base) == pytest.approx(2.0, abs=0.05)
        samples = np.concatenate([frame.to_ndarray()[0] for frame in file.decode(audio=0)])
    assert len(samples) / stream.rate == pytest.approx(2.0, abs=0.1)
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    assert np.sqrt((middle**2).mean()) == pytest.approx(0.5 / np.sqrt(2), rel=0.1)
    crossings = (np.diff(np.sign(middle)) > 0).sum() / (len(middle) / stream.rate)
    assert crossings == pytest.approx(440, rel=0.02)


def test_odd_sizes_become_even(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", pictures(3, 47, 63))
    with av.open(str(path)) as file:
        assert [(frame.width, frame.height) for frame in file.decode(video=0)] == [(64, 48)] * 3


def test_the_index_comes_first(tmp_path: Path) -> None:
    data = write(tmp_path / "a.mp4", pictures(10)).read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_same_input_same_bytes(tmp_path: Path) -> None:
    first, second = (
        write(tmp_path / name, pictures(40), audio=tone(1.3, 44_100)).read_bytes()
        for name in ("a.mp4", "b.mp4")
    )
    assert first == second


def test_an_error_leaves_no_file_and_spares_the_old_one(tmp_path: Path) -> None:
    old = tmp_path / "old.mp4"
    old.write_bytes(b"before")
    for path in (old, tmp_path / "new.mp4"):
        with pytest.raises(RuntimeError, match="midway"):
            write(path, failing_midway(), audio=tone(1, 44_100))
    assert [path.name for path in tmp_path.iterdir()] == ["old.mp4"]
    assert old.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("frames", "options", "words"),
    [
        ([], {}, "at least one"),
        ([np.zeros((8, 8, 3))], {}, "uint8"),
        ([np.zeros((8, 8, 3), np.uint8), np.zeros((8, 10, 3), np.uint8)], {}, "before"),
        ([], {"fps": 0}, "positive"),
        ([], {"audio": np.zeros((10, 2), np.float32)}, "one channel"),
        ([], {"audio": np.full(10, np.nan, np.float32)}, "finite"),
    ],
)
def test_what_cannot_be_written_is_refused(tmp_path: Path, frames: list, options: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        write(tmp_path / "a.mp4", frames, **options)
    assert not list(tmp_path.iterdir())
