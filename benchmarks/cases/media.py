"""Cases of odd and damaged video and sound; the media are made on the spot and last a few seconds."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.cases import Case
from benchmarks.cases.make_media import (
    RATE,
    damage,
    join,
    merge,
    picture,
    pictures,
    set_matrix,
    song,
    write_media,
)
from opendance_hf.music import AudioError, annotate_music, decode_audio
from opendance_hf.music.sound import measure_sound
from opendance_hf.pipeline.clip import Clip, Fit, VideoInfo
from opendance_hf.pipeline.stage import Dropped, Rejected
from opendance_hf.pipeline.stages.gate import Gate, missing_shares
from opendance_hf.pipeline.stages.probe import Probe
from opendance_hf.pipeline.stages.retime import Retime
from opendance_hf.pipeline.video import probe, read_frames
from opendance_hf.schema import Camera

PCM: Final = ("", "pcm_s16le")


def probed(path: Path) -> Clip | str:
    """Return what the first stage of the pipeline makes of a video: a clip, or the reason why it is rejected."""
    try:
        found = Probe()(Clip(path, "0" * 64))
    except Rejected as reason:
        return str(reason)
    assert isinstance(found, Clip | Dropped)
    return found if isinstance(found, Clip) else str(found)


def refused(path: Path) -> str:
    """Return why ``opendance music`` refuses a file; empty if it does not."""
    try:
        annotate_music(path)
    except AudioError as reason:
        return str(reason).removeprefix(f"{path}: ")
    return ""


def concat(folder: Path) -> tuple[str, bool]:
    part = write_media(folder / "part.ts", pictures(100), song(5.0))
    path = join(folder / "concat.ts", part, part)
    found = probed(path)
    text = found if isinstance(found, str) else "taken"
    return text, "the clock restarts" in text and "the clock restarts" in refused(path)


def clock_wrap(folder: Path) -> tuple[str, bool]:
    path = write_media(folder / "wrap.ts", pictures(100), song(5.0), options={"start_s": 95_440.0})
    frames = len(list(read_frames(path)))
    found = probed(path)
    return (
        f"{frames} frames of 100, {found if isinstance(found, str) else 'taken'}",
        frames == 100 and isinstance(found, Clip),
    )


def pixels(folder: Path) -> tuple[str, bool]:
    sizes = {}
    for aspect in (Fraction(64, 45), Fraction(32, 27), Fraction(8, 9)):
        path = write_media(
            folder / f"{aspect.numerator}.mp4", [picture()] * 10, options={"pixel_aspect": aspect}
        )
        info, (_, image) = probe(path), next(read_frames(path))
        sizes[aspect] = (
            (info.width_px, info.height_px) if image.shape[:2] == (info.height_px, info.width_px) else (0, 0)
        )
    right = all(abs(size[0] - 96 * aspect) <= 1 and size[1] == 64 for aspect, size in sizes.items())
    return (
        f"96 x 64 with pixels of 64:45, 32:27 and 8:9 are {', '.join(f'{w} x {h}' for w, h in sizes.values())}",
        right,
    )


def display_matrix(folder: Path) -> tuple[str, bool]:
    stored = picture()
    shown = {
        (-1, 0, 0, 1): stored[:, ::-1],
        (1, 0, 0, -1): stored[::-1],
        (0, 1, 1, 0): stored.transpose(1, 0, 2),
        (0, -1, -1, 0): stored.transpose(1, 0, 2)[::-1, ::-1],
        (0, 1, -1, 0): np.rot90(stored, -1),
    }
    worst = 0.0
    for matrix, expected in shown.items():
        path = set_matrix(write_media(folder / "a.mp4", [stored] * 10), matrix)
        _, image = next(read_frames(path))
        same = image.shape == expected.shape
        worst = max(worst, float(np.abs(image.astype(int) - expected).mean()) if same else 255.0)
    return f"mean difference at most {worst:.1f} grey levels in 5 orientations", worst < 12


def silent(folder: Path) -> tuple[str, bool]:
    path = write_media(folder / "silent.mp4", pictures(100), np.zeros(5 * RATE))
    found = probed(path)
    text = found if isinstance(found, str) else "taken"
    return text, text.startswith("no music") and refused(path).startswith("no music")


def opposite_phase(folder: Path) -> tuple[str, bool]:
    mono = write_media(folder / "mono.wav", (), song(6.0), codecs=PCM)
    path = write_media(folder / "outphase.wav", (), np.stack([song(6.0), -song(6.0)]), codecs=PCM)
    found, expected = annotate_music(path), annotate_music(mono)
    same = np.abs(found.music_features - expected.music_features).max()
    return f"{found.bpm:.1f} bpm, features within {same:.1e} of the mono song", bool(same < 1e-3)


def damaged_sound(folder: Path) -> tuple[str, bool]:
    aac = damage(write_media(folder / "a.m4a", (), song(6.0)), "audio", 100)
    mp3 = write_media(folder / "a.mp3", (), song(6.0), codecs=("", "libmp3lame"))
    data, junk = mp3.read_bytes(), np.random.default_rng(0).bytes(700)
    middle = len(data) // 2
    (folder / "junk_mid.mp3").write_bytes(data[:middle] + junk + data[middle + 700 :])
    (folder / "trailing_tag.mp3").write_bytes(data + b"APETAGEX" + junk[:200])
    seconds = {}
    for path in (aac, folder / "junk_mid.mp3", folder / "trailing_tag.mp3"):
        sound = measure_sound(path)
        seconds[path.name] = float(np.sum(sound.ends_s - sound.starts_s))
        annotate_music(path)
    text = ", ".join(f"{name} {found:.2f} s" for name, found in seconds.items())
    return f"{text} of 6", min(seconds.values()) > 5.4 and seconds["a.m4a"] > 5.95


def damaged_picture(folder: Path) -> tuple[str, bool]:
    noise = list(np.random.default_rng(0).integers(0, 255, (100, 64, 96, 3)).astype(np.uint8))
    path = damage(write_media(folder / "a.mp4", noise, song(5.0)), "video", 40)
    count = len(list(read_frames(path)))
    mostly = write_media(folder / "b.mp4", pictures(100), song(5.0), options={"gop": 1})
    for number in range(10, 90):
        damage(mostly, "video", number)
    try:
        list(read_frames(mostly))
        text = "taken"
    except Rejected as reason:
        text = str(reason)
    return f"{count} of 100 frames; mostly damaged: {text}", count == 99 and "mostly damaged" in text


def middle_of_gop(folder: Path) -> tuple[str, bool]:
    noise = list(np.random.default_rng(0).integers(0, 255, (100, 64, 96, 3)).astype(np.uint8))
    path = write_media(folder / "a.ts", noise, song(5.0), options={"gop": 60})
    data = path.read_bytes()
    path.write_bytes(data[len(data) // 3 // 188 * 188 :])
    times = [time_s for time_s, _ in read_frames(path)]
    return f"{len(times)} frames, from the next key frame at {times[0]:.2f} s on", 40 <= len(times) <= 42


def unknown_duration(folder: Path) -> tuple[str, bool]:
    live = {"format": "webm", "container": {"live": "1"}}
    webm = write_media(
        folder / "live.webm", pictures(100), song(5.0), codecs=("libvpx", "libopus"), options=live
    )
    raw = write_media(folder / "raw.h264", pictures(100))
    late = write_media(folder / "late.mkv", pictures(40), song(2.0), options={"start_s": 1.0})
    found = [probe(path).duration_s for path in (webm, raw, late)]
    text = "live.webm {:.2f} s of 5, raw .h264 {:.2f} s of 5, late .mkv {:.2f} s of 2".format(*found)
    return text, bool(np.allclose(found, [5, 5, 2], atol=0.06))


def hours_of_gap(folder: Path) -> tuple[str, bool]:
    parts = [
        write_media(folder / f"{k}.ts", (), song(2.0), codecs=("", "aac"), options={"start_s": start_s})
        for k, start_s in enumerate((0.0, 20_000.0))
    ]
    text = refused(join(folder / "gap.ts", *parts))
    return text, "time stamps jump ahead" in text


def long_song(folder: Path) -> tuple[str, bool]:
    """Measure the memory of 20 minutes in another process; that of three hours is 0.1 GB more."""
    if not Path("/proc/self/status").is_file():
        return "not measured: this system has no /proc", True
    path = write_media(folder / "long.mp3", (), np.tile(song(10.0), 120), codecs=("", "libmp3lame"))
    # The peak of the process itself: that of getrusage includes the process that started it.
    run = (
        "import sys\nfrom opendance_hf.cli import main\ntry:\n    main()\nfinally:\n"
        "    (peak,) = [line for line in open('/proc/self/status') if line.startswith('VmHWM')]\n"
        "    print('peak', peak.split()[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", run, "music", str(path), "--out", str(folder / "long.npz")],
        check=True,
        capture_output=True,
        text=True,
    )
    peak_mb = int(done.stdout.split()[-1]) / 1024
    return f"{peak_mb:.0f} MB for 20 minutes", peak_mb < 1000


def half_silent(folder: Path) -> tuple[str, bool]:
    sound = np.concatenate([song(5.0), np.zeros(5 * RATE)])
    found = probed(
        write_media(folder / "audio_half.mkv", pictures(200), sound, codecs=("libx264", "pcm_s16le"))
    )
    if isinstance(found, str):
        return found, False
    ((start_s, end_s),) = found.video.music_s
    return f"music from {start_s:.1f} s to {end_s:.1f} s of 10", start_s == 0 and abs(end_s - 5) < 0.1


def cover_first(folder: Path) -> tuple[str, bool]:
    cover = write_media(folder / "cover.mkv", [picture(128, 160)], times_s=[0.0])
    video = write_media(folder / "video.mkv", pictures(100), song(5.0))
    path = merge(folder / "cover_first.mkv", cover, video)
    info, count = probe(path), len(list(read_frames(path)))
    return f"{info.width_px} x {info.height_px}, {count} frames", (info.width_px, info.height_px, count) == (
        96,
        64,
        100,
    )


def heard_as_mixed(folder: Path) -> tuple[str, bool]:
    left, right = song(4.0), np.roll(song(4.0), RATE // 7)
    path = write_media(folder / "stereo.wav", (), np.stack([left, right]) / 2, codecs=PCM)
    error = float(np.abs(decode_audio(path, RATE) - np.sqrt(0.5) * (left + right) / 2).max())
    return f"within {error:.1e} of the mean of both channels", error < 1e-3


def freezes(folder: Path) -> tuple[str, bool]:
    """Resample a fit whose frames are missing for half a second in every two."""
    times = np.arange(0, 8, 1 / 30)
    times = times[(times % 2 < 1) | (times % 2 > 1.5)]
    frames = (1, len(times))
    fit = Fit(
        times,
        np.broadcast_to(np.eye(3), (*frames, 24, 3, 3)),
        np.zeros((*frames, 3)),
        np.zeros((1, 24, 3)),
        Camera(64, 64, 90.0, tuple(np.eye(3).ravel().tolist()), (0.0, 0.0, 4.0)),
    )
    motion = Retime().resample(fit, np.ones(frames, np.float32))
    clip = Clip(
        folder / "vfr.mp4", "0" * 64, 0.0, 8.0, VideoInfo(64, 64, 30.0, 8.0, True), fit=fit, motion=motion
    )
    missing = missing_shares(clip)["missing_picture"]
    unsure = float((motion.confidence == 0).mean())
    kept = missing <= Gate().max_missing_picture
    text = f"missing_picture {missing:.2f}, confidence 0 in {unsure:.0%} of the frames, {'kept' if kept else 'rejected'}"
    return text, kept and abs(missing - 0.26) < 0.03 and abs(unsure - 0.25) < 0.03


CASES: Final[tuple[Case, ...]] = (
    Case("freezes", "published with a measured score and confidence 0 where frames are missing", freezes),
    Case("concat", "the file is refused because its clock restarts, also by opendance music", concat),
    Case("clock-wrap", "33-bit time stamps that wrap are one recording", clock_wrap),
    Case("sar", "frames and sizes in square pixels: 136 x 64, 114 x 64, 86 x 64", pixels),
    Case("selfie", "pictures as players show them, mirrored or turned or both", display_matrix),
    Case("silent", "rejected: no music, with the level", silent),
    Case("outphase", "the music of one channel", opposite_phase),
    Case("stereo", "ordinary stereo is mixed as ever", heard_as_mixed),
    Case("damaged-sound", "what decodes is used: 5.4 s or more of 6, as FFmpeg gives", damaged_sound),
    Case(
        "damaged-picture", "99 of 100 frames; mostly damaged files are refused by that name", damaged_picture
    ),
    Case("midgop", "the frames from the next key frame on", middle_of_gop),
    Case("unknown-duration", "measured by reading", unknown_duration),
    Case("gap", "gaps of hours are refused by name", hours_of_gap),
    Case("long-song", "less than 1 GB for any length", long_song, slow=True),
    Case("audio-half", "the times with music are found, and spans cut to them", half_silent),
    Case("cover-first", "the stream that is a video", cover_first),
)
