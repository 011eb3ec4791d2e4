"""More than sixty damaged or hostile files in one build: none crashes it, each has a reason, memory stays bounded."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import socket
import struct
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from opendance_hf.music import open_media
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.printable import printable
from tests.pipeline.media import RATE, write_clip
from tests.pipeline.test_bad_inputs import weights  # noqa: F401 (a fixture)

_SECONDS = 4.4


def tone(seconds: float = _SECONDS) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * RATE)) / RATE)).astype(np.float32)


def video(
    path: Path,
    *,
    size: tuple[int, int] = (128, 96),
    codec: str = "mpeg4",
    fps: int = 10,
    frames: int = 44,
    sound: np.ndarray | None = None,
    audio_codec: str = "aac",
    pts: object = None,
    container: str | None = None,
    pix_fmt: str = "yuv420p",
) -> Path:
    """A small video of a moving bar, with what a test wants to be odd about it."""
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream(codec, rate=fps)
        stream.width, stream.height, stream.pix_fmt = *size, pix_fmt
        stream.codec_context.time_base = Fraction(1, fps)
        audio = None if sound is None else out.add_stream(audio_codec, rate=RATE, layout="mono")
        for number in range(frames):
            picture = np.full((size[1], size[0], 3), 40, np.uint8)
            picture[:, number % size[0] : number % size[0] + 9] = 200
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts = pts(number) if callable(pts) else number
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
        if audio is not None:
            for start in range(0, len(sound), 1024):  # type: ignore[arg-type]
                piece = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], "fltp", "mono")  # type: ignore[index]
                piece.sample_rate, piece.pts, piece.time_base = RATE, start, Fraction(1, RATE)
                fitted = av.AudioResampler(format=audio.format.name)
                for ready in fitted.resample(piece):
                    out.mux(audio.encode(ready))
            out.mux(audio.encode(None))
    return path


def patched(data: bytes, box: bytes, at: int, value: bytes) -> bytes:
    """An MP4 file with bytes of its first box of a kind replaced, counted from the box's name."""
    start = data.index(box) + at
    return data[:start] + value + data[start + len(value) :]


def make_all(folder: Path, outside: Path) -> set[str]:
    """Write every file, and return the names of those that are inputs."""
    rng = np.random.default_rng(0)
    good = write_clip(outside / "good.mp4").read_bytes()
    secret = outside / "secret.mp4"
    write_clip(secret, seconds=5)
    big = struct.pack(">I", 0x7FFFFFFF)
    mdat, moov = good.index(b"mdat"), good.index(b"moov")
    in_mdat = bytearray(good)
    for place in rng.integers(mdat + 200, min(mdat + len(good) // 2, len(good)), 300):
        in_mdat[place] ^= 0xFF
    in_moov = bytearray(good)
    for place in rng.integers(moov + 8, len(good), 40):
        in_moov[place] ^= 0xFF
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(4):
            archive.writestr(f"{number}", bytes(8_000_000))
    picture = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(picture, "png")
    jpeg = io.BytesIO()
    Image.open(picture).convert("RGB").save(jpeg, "jpeg")
    gif = io.BytesIO()
    pages = [Image.fromarray(rng.integers(0, 255, (32, 32, 3), np.uint8)) for _ in range(5)]
    pages[0].save(gif, "gif", save_all=True, append_images=pages[1:])
    vast_png = picture.getvalue()[:16] + struct.pack(">II", 60_000, 60_000) + picture.getvalue()[24:]
    contents = {
        "empty.mp4": b"",
        "one_byte.mp4": b"\0",
        "cut_10.mp4": good[: len(good) // 10],
        "cut_50.mp4": good[: len(good) // 2],
        "cut_90.mp4": good[: len(good) * 9 // 10],
        "no_head.mp4": good[2000:],
        "zeros.mp4": bytes(100_000),
        "random.mp4": rng.bytes(100_000),
        "only_ftyp.mp4": good[:32],
        "flipped_mdat.mp4": bytes(in_mdat),
        "flipped_moov.mp4": bytes(in_moov),
        "ten_hours.mp4": patched(
            patched(good, b"mvhd", 20, struct.pack(">I", 36_000_000)),
            b"mdhd",
            20,
            struct.pack(">I", 36_000 * 10_240),
        ),
        "endless.mp4": patched(patched(good, b"mvhd", 20, big), b"mdhd", 20, big),
        "zero_timescale.mp4": patched(good, b"mdhd", 16, bytes(4)),
        "zero_fps.mp4": patched(good, b"stts", 16, bytes(4)),
        "vast_fps.mp4": patched(good, b"stts", 16, big),
        "huge_header.mp4": patched(good, b"avc1", 28, b"\xff\xff\xff\xff"),
        "no_size.mp4": patched(good, b"avc1", 28, bytes(4)),
        "wrong_codec.mp4": patched(good, b"avc1", 0, b"vp09"),
        "unknown_codec.mp4": patched(good, b"avc1", 0, b"zzzz"),
        "many_samples.mp4": patched(good, b"stsz", 12, big),
        "box_of_2_gb.mp4": patched(good, b"moov", -4, big),
        "turned_37.mp4": patched(
            good, b"tkhd", 44, struct.pack(">iiiii", 52_339, 39_441, 0, -39_441, 52_339)
        ),
        "turned_nowhere.mp4": patched(good, b"tkhd", 44, bytes(36)),
        "text.mp4": b"not a video at all\n" * 20,
        "page.mp4": b"<!DOCTYPE html><video src='/etc/passwd'></video>",
        "numbers.mp4": b'{"video": [1, 2, 3]}',
        "script.mp4": b"#!/bin/sh\nrm -rf ~\n",
        "program.mp4": b"\x7fELF\x02\x01\x01" + rng.bytes(5000),
        "pickle.mp4": b"\x80\x04cos\nsystem\n(S'touch owned'\ntR.",
        "paper.mp4": b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" * 20,
        "drawing.mov": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
        "zip_bomb.mp4": packed.getvalue(),
        "gzip_bomb.mp4": gzip.compress(bytes(32_000_000)),
        "gzipped.mp4": gzip.compress(good),
        "polyglot_zip.mp4": good + packed.getvalue(),
        "polyglot_pdf.mp4": b"%PDF-1.7\n" + good,
        "polyglot_page.mp4": good + b"<script>alert(1)</script>",
        "png.mp4": picture.getvalue(),
        "vast_png.mp4": vast_png,
        "photo.mov": jpeg.getvalue(),
        "moving.gif": gif.getvalue(),
        "playlist.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{secret}\n#EXT-X-ENDLIST\n".encode(),
        "playlist.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        "network.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nhttp://127.0.0.1:9/x.ts\n#EXT-X-ENDLIST\n",
        "concat.mp4": f"ffconcat version 1.0\nfile '{secret}'\n".encode(),
        "concat.ffconcat": b"ffconcat version 1.0\nfile cut_10.mp4\nfile turned_37.mp4\n",
        "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
        "manifest.mpd": b"<?xml version='1.0'?><MPD><Period><BaseURL>/etc/passwd</BaseURL></Period></MPD>",
        "words.mov": b"1\n00:00:00,000 --> 00:00:09,000\nla la la\n",
        "metadata.mp4": b";FFMETADATA1\ntitle=x\n",
        "-rf.mp4": good + b"1",
        "new\nline.mp4": good + b"12",
        "\x1b[31mred.mp4": good + b"123",
        "dance 🕺 \u202e4pm.mp4": good + b"1234",
        "n" * 250 + ".mp4": good + b"12345",
        "unreadable.mp4": good + b"123456",
    }
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    (folder / "unreadable.mp4").chmod(0)
    names = {printable(name) for name in contents}
    with contextlib.suppress(OSError):  # a file system that takes only names of UTF-8
        Path(os.fsdecode(os.fsencode(folder) + b"/bytes_\xff\xfe.mp4")).write_bytes(good + b"1234567")
        names.add("bytes_\\xff\\xfe.mp4")

    sound = tone()
    made = [
        video(folder / "silent.mp4"),
        video(folder / "one_frame.mp4", frames=1, sound=sound),
        video(folder / "short.mp4", frames=10, sound=tone(1)),
        video(folder / "wide.mkv", size=(9000, 16), codec="mjpeg", pix_fmt="yuvj420p", frames=2, sound=sound),
        video(folder / "tiny.mp4", size=(2, 2), sound=sound),
        video(folder / "jump.mkv", pts=lambda n: n if n < 20 else n + 50_000, sound=sound),
        video(folder / "backwards.avi", codec="mjpeg", pix_fmt="yuvj420p", sound=sound, audio_codec="mp3"),
        video(folder / "negative.mkv", pts=lambda n: n - 30, sound=sound),
        video(folder / "slow.mkv", frames=3, pts=lambda n: n * 20, sound=sound),
        video(folder / "sound_of_nothing.mp4", frames=45, sound=np.zeros(0, np.float32)),
        video(folder / "raw.avi", codec="rawvideo", fps=2, frames=10, sound=sound, audio_codec="pcm_s16le"),
        video(folder / "lossless.mkv", codec="ffv1", sound=sound, audio_codec="flac"),
        video(folder / "old.flv", codec="flv1", sound=tone(), audio_codec="mp3"),
    ]
    # Two streams of other sizes after one another; a stream of packets takes that.
    parts = [
        video(
            outside / f"{size}.ts", size=(size, size), codec="mpeg2video", fps=25, frames=125, sound=tone(5)
        )
        for size in (64, 160)
    ]
    (folder / "sizes.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    with av.open(str(folder / "song.m4a"), "w", format="mp4") as out:
        stream = out.add_stream("aac", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None, :1024], "fltp", "mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    with av.open(str(folder / "cover.mp3"), "w") as out:
        stream = out.add_stream("mp3", rate=RATE, layout="mono")
        frame = av.AudioFrame.from_ndarray(sound[None, :1152], "fltp", "mono")
        frame.sample_rate = RATE
        out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    names |= {path.name for path in made} | {"sizes.ts", "song.m4a", "cover.mp3"}

    os.mkfifo(folder / "pipe.mp4")
    listening = socket.socket(socket.AF_UNIX)
    here = os.open(folder, os.O_RDONLY)
    try:  # a socket's path must be short
        listening.bind(f"/proc/self/fd/{here}/socket.mp4")
        names.add("socket.mp4")
    except OSError:
        pass
    finally:
        os.close(here)
        listening.close()
    (folder / "leak.mp4").symlink_to(secret)
    (folder / "zero.mp4").symlink_to("/dev/zero")
    (folder / "broken.mp4").symlink_to(folder / "gone.mp4")
    (folder / "loop.mp4").symlink_to("loop.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "folder.mp4" / "inside.mp4").write_bytes(good + b"8")
    return names | {"pipe.mp4", "leak.mp4", "zero.mp4", "broken.mp4", "loop.mp4", "folder.mp4/inside.mp4"}


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, set[str]]]:
    folder = tmp_path_factory.mktemp("hostile")
    yield folder, make_all(folder, tmp_path_factory.mktemp("outside"))
    (folder / "unreadable.mp4").chmod(0o600)


def test_scripts_and_playlists_open_no_other_file(hostile: tuple[Path, set[str]]) -> None:
    folder, _ = hostile
    for name in ("playlist.m3u8", "playlist.mp4", "network.mp4", "concat.mp4", "concat.ffconcat", "session.sdp",
                 "manifest.mpd"):  # fmt: skip
        with pytest.raises((av.FFmpegError, ValueError)), open_media(folder / name):
            pass


#: A build, and the largest of its processes.
_MEASURED = """
import resource, subprocess, sys
done = subprocess.run([sys.executable, "-c", "from opendance_hf.cli import main; main()", *sys.argv[1:]])
print("largest process:", resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(done.returncode)
"""


@pytest.mark.slow
@pytest.mark.timeout(1600)
def test_one_build_of_all_of_them(
    weights: None,  # noqa: F811
    hostile: tuple[Path, set[str]],
    tmp_path: Path,
) -> None:
    folder, names = hostile
    assert len(names) >= 60
    command = [
        sys.executable,
        "-c",
        _MEASURED,
        "build",
        str(folder),
        "--out",
        str(tmp_path / "d"),
        "--workers",
        "2",
    ]
    start = time.monotonic()
    done = subprocess.run([*command, "--timeout", "120"], capture_output=True, timeout=1500, check=False)
    seconds = time.monotonic() - start
    said = (done.stdout + done.stderr).decode()
    peak_mb = int(said.rsplit("largest process: ")[-1]) / 1024
    ledger = Ledger(tmp_path / "d.build" / "ledger.sqlite")
    items = {item.name: item for item in ledger.items()}
    ledger.close()
    print(f"{len(items)} inputs in {seconds:.0f} s, largest process {peak_mb:.0f} MB")
    for name, item in sorted(items.items()):
        print(f"{item.status:9} {item.attempts} {item.seconds:6.1f} s  {name[:40]!r}: {item.reason}")
    assert done.returncode == 1, said
    assert "Traceback" not in said
    assert "\x1b[31m" not in said
    assert "\u202e" not in said
    assert set(items) == names
    assert all(item.status == "rejected" and item.reason for item in items.values())
    assert peak_mb < 1500
    assert not (tmp_path / "d").exists()
    assert not Path("owned").exists()
