"""Videos on a disk that fails: an error, and never a shorter video, a damaged one, or one without sound."""

from __future__ import annotations

import errno
import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from benchmarks.cases.make_media import song, write_media
from opendance_hf.music import decode_audio
from opendance_hf.music.media import ReadError, read_packets
from opendance_hf.music.sound import measure_sound
from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.ledger import Item
from opendance_hf.pipeline.process import VideoProcessor
from opendance_hf.pipeline.stage import Stage
from opendance_hf.pipeline.stages.probe import Probe
from opendance_hf.pipeline.video import probe, read_pictures
from tests.factories import make_sequence
from tests.pipeline.test_hostile_inputs import RATE, tone, video

#: Largest place that the disk of the tests can hold, bytes; ext4 has such a limit as well.
LIMIT = 2**31


class Disk:
    """Stands in for the disk of media files: reading fails from a byte on, always or a number of times.

    Attributes:
        fails_at: first byte that cannot be read.
        number: of the error.
        times: of failing; -1 for ever, 0 for a healthy disk.
    """

    def __init__(self) -> None:
        self.fails_at, self.number, self.times = 0, errno.EIO, 0

    def breaks(self, fails_at: int, number: int = errno.EIO, times: int = -1) -> None:
        self.fails_at, self.number, self.times = fails_at, number, times

    def open(self, path: str, mode: str, buffering: int) -> io.FileIO:
        disk = self
        assert (mode, buffering) == ("rb", 0)

        class File(io.FileIO):
            def read(self, size: int = -1) -> bytes:  # type: ignore[override]
                left = disk.fails_at - self.tell()
                if disk.times and left <= 0:
                    disk.times -= 1
                    raise OSError(disk.number, "no more")
                return super().read(min(size, left) if disk.times else size)

            def seek(self, offset: int, whence: int = 0) -> int:
                if offset > LIMIT:
                    raise OSError(errno.EINVAL, "Invalid argument")
                return super().seek(offset, whence)

        return File(path, mode)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    found = Disk()
    monkeypatch.setattr("opendance_hf.music.media.open", found.open, raising=False)
    return found


READERS: dict[str, Callable[[Path], object]] = {
    "packets": read_packets,
    "pictures": lambda file: list(read_pictures(file)),
    "probe": probe,
    "sound": measure_sound,
    "samples": lambda file: decode_audio(file, RATE),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(("number", "times"), [(errno.EIO, 1), (errno.ETIMEDOUT, -1)])
def test_a_read_error_is_never_the_end_of_a_video(
    tmp_path: Path, disk: Disk, number: int, times: int, reader: str
) -> None:
    """Keep nothing of half a video, which would have the hash of the whole."""
    file = video(tmp_path / "a.mkv", sound=tone())
    disk.breaks(file.stat().st_size // 2, number, times)
    with pytest.raises(ReadError, match=r"a\.mkv: cannot be read \(no more\); check its disk or share"):
        READERS[reader](file)
    disk.times = 0
    assert len(list(read_pictures(file))) == 44
    assert len(decode_audio(file, RATE)) == pytest.approx(4.4 * RATE, rel=0.03)


@pytest.mark.parametrize("reader", ["probe", "sound"])
@pytest.mark.parametrize("from_end", [False, True])
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_file_that_a_disk_keeps_from_being_opened_is_not_damaged(
    tmp_path: Path, disk: Disk, suffix: str, from_end: bool, reader: str
) -> None:
    """The index of an MP4 file is at its end; a TS file has no list of its streams."""
    file = video(tmp_path / f"a{suffix}", sound=tone())
    disk.breaks(file.stat().st_size - 100 if from_end else 64)
    with pytest.raises(ReadError):
        READERS[reader](file)


@dataclass(frozen=True)
class Publish(Stage):
    name = "publish"
    writes = ("sequence",)
    keeps_result = False

    def __call__(self, clip: Clip) -> Clip:
        assert clip.video is not None
        return replace(clip, sequence=make_sequence(0, id=f"{clip.video.duration_s:.1f}"))


@pytest.mark.parametrize("share", [0.5, 0.99], ids=["pictures", "index"])
def test_nothing_is_kept_of_a_video_whose_disk_failed(tmp_path: Path, disk: Disk, share: float) -> None:
    file = video(tmp_path / "a.mp4", sound=tone())
    item = Item(str(file), file.name, "b" * 64, "pending", "", 0, 0.0)
    process = VideoProcessor((Probe(), Publish()), tmp_path, 1)
    disk.breaks(int(file.stat().st_size * share), times=1)
    with pytest.raises(ReadError):
        process(item, lambda *_: None, lambda *_: None)
    (row,) = process(item, lambda *_: None, lambda *_: None).sequences
    assert row["id"] == "4.4"


def test_a_place_beyond_the_file_system_is_damage(tmp_path: Path, disk: Disk) -> None:
    """FFmpeg goes on where it does not need what is there; found by mutated files."""
    file = write_media(tmp_path / "a.caf", sound=song(2.0), codecs=("", "pcm_s16le"))
    whole = measure_sound(file).ends_s[-1]
    data = file.read_bytes()
    at = data.index(b"data")
    file.write_bytes(data[:at] + b"free" + (1 << 62).to_bytes(8, "big") + data[at:])
    assert measure_sound(file).ends_s[-1] == whole


def test_a_video_ends_at_a_picture_that_is_beyond_the_file_system(tmp_path: Path, disk: Disk) -> None:
    file = video(tmp_path / "a.mp4", sound=tone())
    data = bytearray(file.read_bytes())
    table = data.index(b"stco") + 8  # number of chunks, and the place of each, 4 bytes
    chunks = int.from_bytes(data[table : table + 4], "big")
    middle = table + 4 + 4 * (chunks // 2)
    data[middle : middle + 4] = b"\xff" * 4
    file.write_bytes(data)
    assert len(list(read_pictures(file))) == chunks // 2
