"""Hundreds of damaged and crafted files in one build: none may crash it, and every one is accounted for.

    python -m benchmarks.hostile VIDEOS [--files 500] [--seed 1]

VIDEOS are files with dancers. Clips of them are the good inputs, which must end as they do without the others. The hostile ones are crafted (bombs,
absurd headers, edit lists, thousands of streams, names with control characters, links, pipes, sockets) and mutations of real containers.
The driver and its workers are watched for memory. Writes ``benchmarks/hostile.json`` and a line for every input to
``benchmarks/hostile.log``; exits with 1 if something went wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.__main__ import machine
from benchmarks.kills import PROFILE, cut
from benchmarks.mutations import mutate
from opendance_hf.pipeline.ledger import Item, Ledger
from opendance_hf.pipeline.printable import printable
from tests.pipeline.media import write_clip
from tests.pipeline.test_hostile_inputs import make_all, patched, tone, video

OUT = Path(__file__).with_name("hostile.json")
LOG = OUT.with_suffix(".log")
GOOD_CLIPS = 4
#: Limits of a video in the build.
TIMEOUT_S, MEMORY_GB = 120, 3.0
#: No process may take more.
LARGEST_MB = 3300


def boxed(name: bytes, content: bytes) -> bytes:
    """Return a box of an MP4 file."""
    return struct.pack(">I4s", 8 + len(content), name) + content


def many_tracks(data: bytes, count: int) -> bytes:
    """Repeat the first track of an MP4 file whose moov is its last box."""
    start = data.index(b"moov") - 4
    moov = data[start + 8 :]
    at = moov.index(b"trak") - 4
    (size,) = struct.unpack_from(">I", moov, at)
    return data[:start] + boxed(b"moov", moov[:at] + moov[at : at + size] * count + moov[at + size :])


def craft(folder: Path) -> None:
    """Write bombs, edit lists and files with thousands of streams, beside those of the tests."""
    good = write_clip(folder / "crafted_good.mp4").read_bytes()
    elst = {
        "before": struct.pack(">II", 4000, 2**32 - 2000),
        "late": struct.pack(">II", 4000, 2**31 - 1),
        "long": struct.pack(">II", 2**32 - 1, 0),
        "nothing": struct.pack(">II", 0, 0),
        "empty": struct.pack(">II", 4000, 2**32 - 1),
    }
    for name, entry in elst.items():
        (folder / f"edit_{name}.mp4").write_bytes(patched(good, b"elst", 12, entry) + name.encode())
    (folder / "edit_many.mp4").write_bytes(patched(good, b"elst", 8, b"\x7f\xff\xff\xff"))
    for count in (50, 3000):
        (folder / f"tracks_{count}.mp4").write_bytes(many_tracks(good, count))
    video(folder / "frames_120000.mp4", size=(32, 32), frames=120_000, sound=tone())
    video(folder / "vast_frames.mp4", size=(7680, 4320), frames=60, sound=tone())
    video(folder / "long_sound.mkv", sound=np.zeros(22_050 * 3600, np.float32), audio_codec="flac")
    with zipfile.ZipFile(folder / "npz_bomb.mp4", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", bytes(200_000_000))
    levels = "\n".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 30))
    (folder / "yaml_bomb.mp4").write_text(f"l0: &l0 [x]\n{levels}\n")


def mutated(folder: Path, clips: list[Path], count: int, rng: np.random.Generator) -> None:
    """Write mutations of real containers: of clips with dancers, and of small videos of every kind."""
    with tempfile.TemporaryDirectory() as name:
        kinds = {".mp4": {}, ".mkv": {}, ".ts": {"codec": "mpeg2video", "fps": 25}, ".flv": {"codec": "flv1", "audio_codec": "mp3"},
                 ".avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "audio_codec": "mp3"}, ".mov": {}}  # fmt: skip
        made = [video(Path(name) / f"seed{end}", sound=tone(), **options) for end, options in kinds.items()]  # type: ignore[arg-type]
        seeds = [path.read_bytes() for path in (*made, *clips)]
        ends = [path.suffix for path in (*made, *clips)]
    for number in range(count):
        # Clips with dancers cost most: one in five.
        of_clips = rng.random() < 0.2
        place = int(rng.integers(len(made), len(seeds)) if of_clips else rng.integers(len(made)))
        others = [seed for at, seed in enumerate(seeds) if at != place]
        data = mutate(seeds[place], ends[place], others, rng)
        (folder / f"mutated_{number:03d}{ends[place]}").write_bytes(data)


class Watch:
    """The largest memory of a process and of all of them together, while a command runs."""

    def __init__(self) -> None:
        self.largest_mb = self.together_mb = 0.0
        self.seen: dict[int, float] = {}

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            sizes = []
            try:
                tree = [root, *root.children(recursive=True)]
            except psutil.Error:
                break
            for one in tree:
                try:
                    sizes.append(one.memory_info().rss / 1e6)
                    self.seen[one.pid] = one.create_time()
                except psutil.Error:
                    continue
            self.largest_mb = max([self.largest_mb, *sizes])
            self.together_mb = max(self.together_mb, sum(sizes))
            time.sleep(0.1)
        return process.wait()

    def left(self) -> list[int]:
        """Return the processes that are still there."""
        time.sleep(2)
        return [
            pid
            for pid, born in self.seen.items()
            if psutil.pid_exists(pid) and psutil.Process(pid).create_time() == born
        ]


def build(videos: Path, out: Path, watch: Watch) -> tuple[int, str, dict[str, Item]]:
    """Build a folder; return the exit code, what was said, and the inputs by name."""
    code = "from opendance_hf.cli import main; main()"
    command = [sys.executable, "-c", code, "build", str(videos), "--out", str(out), "--workers", "2"]
    command += ["--profile", PROFILE, "--timeout", str(TIMEOUT_S), "--max-memory-gb", str(MEMORY_GB)]
    log = out.with_name("log")
    with log.open("wb") as file:
        exit_code = watch.wait(subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True))
    ledger = Ledger(out.with_name(f"{out.name}.build") / "ledger.sqlite")
    items = {item.name: item for item in ledger.each_item()}
    ledger.close()
    return exit_code, log.read_text(errors="replace"), items


def names_in(folder: Path) -> set[str]:
    """Return the names of all inputs of a folder, as a build shows them."""
    names = set()
    for place, folders, files in os.walk(os.fsencode(folder)):
        for name in (*files, *(one for one in folders if os.path.islink(os.path.join(place, one)))):
            names.add(printable(Path(os.fsdecode(os.path.join(place, name))).relative_to(folder)))
    return names


def is_clean(text: str) -> bool:
    """Return True for one line without characters that control a terminal or hide what is written."""
    return bool(text) and all(c.isprintable() for c in text)


def measure(videos: list[Path], files: int = 500, seed: int = 1) -> tuple[dict[str, Any], list[str]]:
    """Run the campaign; return its figures and a line for every input."""
    rng = np.random.default_rng(seed)
    with tempfile.TemporaryDirectory(prefix="hostile-") as name:
        work = Path(name)
        cut(videos, GOOD_CLIPS, work / "good")
        (work / "calm").mkdir()
        _, _, alone = build(work / "good", work / "calm" / "d", Watch())
        folder, outside = work / "videos", work / "outside"
        for place in (folder, outside, work / "stormy"):
            place.mkdir()
        make_all(folder, outside)
        craft(folder)
        clips = sorted((work / "good").iterdir())
        mutated(folder, clips, max(0, files - len(names_in(folder))), rng)
        for clip in clips:
            shutil.copy2(clip, folder)
        names, watch, start = names_in(folder), Watch(), time.monotonic()
        code, said, items = build(folder, work / "stormy" / "d", watch)
        seconds = time.monotonic() - start
        page = (work / "stormy" / "d.build" / "index.html").read_text(errors="replace")
        left = watch.left()
        (folder / "unreadable.mp4").chmod(0o600)
    hidden = "\x1b\u202e\u2028"
    wrong = {
        "exit": code != 0,
        "traceback": "Traceback" in said,
        "not accounted for": sorted(names - items.keys()),
        "not finished": [n for n, item in items.items() if item.status in ("pending", "running")],
        "no clean reason": [
            n for n, i in items.items() if i.status != "published" and not is_clean(i.reason)
        ],
        "good clips changed": [n for n, item in alone.items() if items[n].status != item.status],
        "control characters shown": any(character in said + page for character in hidden),
        "memory": watch.largest_mb > LARGEST_MB,
        "processes left": left,
        "script ran": Path("owned").exists(),
    }
    lines = [
        f"{item.status:9} {item.seconds:6.1f} s  {shown}: {item.reason}"
        for shown, item in sorted(items.items())
    ]
    return {
        "files": len(names),
        "seed": seed,
        "states": dict(Counter(item.status for item in items.values())),
        "reasons": dict(
            Counter(
                item.reason.partition("(")[0].partition(":")[0][:60] for item in items.values()
            ).most_common(12)
        ),
        "seconds": round(seconds, 1),
        "largest_process_mb": round(watch.largest_mb),
        "all_processes_mb": round(watch.together_mb),
        "wrong": {what: found for what, found in wrong.items() if found},
    }, lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    result, lines = measure(options.videos, options.files, options.seed)
    OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    LOG.write_text("".join(f"{line}\n" for line in lines))
    print(json.dumps(result, indent=1))
    if result["wrong"]:
        sys.exit("something went wrong")


if __name__ == "__main__":
    main()
