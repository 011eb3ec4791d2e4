"""Every reader of the package, fed with mutated files for a stated time: it reads them, or refuses them with one clear error.

    python -m benchmarks.fuzz [--seconds 600] [--seed 1] [--readers NAME ...] [--only NUMBER]

Readers take turns. A file is a mutation of a valid one that its number determines, so that ``--readers NAME --only NUMBER`` reads it
again. Readers run in a worker process, which is replaced if it crashes, takes longer than 20 s or more than 1.5 GB. Anything but a result
or an error that the reader documents, of four lines at most, is wrong. Writes ``benchmarks/fuzz.json`` and every wrong file's reader, number and
cause to ``benchmarks/fuzz.log``; exits with 1 if there is any.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from inspect import signature
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.__main__ import machine
from benchmarks.mutations import mutate
from opendance_hf.errors import OpenDanceError

OUT = Path(__file__).with_name("fuzz.json")
LOG = OUT.with_suffix(".log")
FIXTURES = Path(__file__).parents[1] / "tests" / "fixtures" / "formats"
LONGEST_S, LARGEST_MB = 20.0, 1500.0
#: Files of the fixtures that are no motion.
NO_MOTION = {".py", ".yaml", ".asf", ".txt", "", ".csv"}


@dataclass(frozen=True)
class Reader:
    """A reader, valid files for it, and the errors that it documents beside those of the package.

    Attributes:
        seeds: valid files; the mutated one gets the name of its seed, below a folder of its own.
        read: reads a file.
        errors: what it may raise.
    """

    seeds: list[Path]
    read: Callable[[Path], object]
    errors: tuple[type[Exception], ...] = (OpenDanceError,)


def motion(path: Path) -> object:
    from opendance_hf.formats import format_named
    from opendance_hf.formats.detect import format_of

    read = format_named(format_of(path)).read
    answers = {"fps": 30.0, "up": "y"}
    return read(path, **{name: answers[name] for name in answers.keys() & signature(read).parameters.keys()})


def shards(path: Path) -> object:
    from opendance_hf.storage import read_parquet

    return list(read_parquet(path.parents[2], "individual", "train"))


def tars(path: Path) -> object:
    from opendance_hf.storage import read_webdataset

    return list(read_webdataset(path.parents[2], "individual", "train"))


def windows_of_tars(path: Path) -> object:
    from opendance_hf.data import MotionWindows

    found = MotionWindows(str(path), num_frames=16, stride=8)
    return [found[number] for number in range(0, len(found), 5)]


def windows_of_npz(path: Path) -> object:
    from opendance_hf.data import MotionWindows

    return len(MotionWindows(path.parent, num_frames=16))


def sequence(path: Path) -> object:
    from opendance_hf.storage import load_sequence

    return load_sequence(path)


def sound(path: Path) -> object:
    from opendance_hf.music import decode_audio

    return decode_audio(path, 16_000)


def pictures(path: Path) -> object:
    from opendance_hf.pipeline.video import probe, read_pictures

    return probe(path), sum(1 for _ in read_pictures(path))


def recipe(path: Path) -> object:
    from opendance_hf.training.recipe import load_recipe

    return load_recipe(path.name.partition("-")[0], str(path))


def config(path: Path) -> object:
    from opendance_hf.pipeline.config import read_config

    return read_config(path)


def beats(path: Path) -> object:
    from opendance_hf.music.beat_file import read_beats

    return read_beats(path)


def selection(path: Path) -> object:
    from opendance_hf.pipeline.collect import read_selection

    return read_selection(path)


def pickled(path: Path) -> object:
    from opendance_hf.pickles import load_pickled_arrays

    return load_pickled_arrays(path)


def readers(folder: Path) -> dict[str, Reader]:
    """Make the valid files and return all readers by name."""
    from opendance_hf.pipeline.collect import LIST_HEADER
    from opendance_hf.pipeline.config import dump_config
    from opendance_hf.pipeline.pipelines import PROFILES
    from opendance_hf.pipeline.stage import Rejected
    from opendance_hf.storage import save_sequence, write_parquet, write_webdataset
    from tests.factories import make_sequence
    from tests.pipeline.test_hostile_inputs import tone, video

    made = [make_sequence(number, num_frames=40) for number in range(3)]
    single = save_sequence(folder / "a.npz", made[0])
    parquet = write_parquet(folder, "individual", "train", made)
    tar = write_webdataset(folder, "individual", "train", made)
    joints = folder / "joints.npz"
    np.savez(joints, joints=made[0].joints.reshape(1, -1, 24, 3), fps=60.0, music_beats=np.arange(3.0))
    settings = folder / "config.yaml"
    settings.write_text(dump_config(PROFILES["default"]()))
    lists = folder / "list.csv"
    lists.write_text(
        ",".join(LIST_HEADER) + "\n" + ",".join(["a.mp4", *[""] * (len(LIST_HEADER) - 1)]) + "\n"
    )
    times = folder / "beats.csv"
    times.write_text("0.5\n1.0\n1.5\n2.0\n")
    recipes = []
    for packaged in sorted(
        (Path(__file__).parents[1] / "opendance_hf/training/recipes").glob("*_debug.yaml")
    ):
        recipes.append(folder / f"{packaged.name.removesuffix('_debug.yaml')}-recipe.yaml")
        recipes[-1].write_bytes(packaged.read_bytes())
    clips = [video(folder / f"clip{end}", frames=20, sound=tone(2)) for end in (".mp4", ".mkv", ".ts")]
    fixtures = [
        path for path in sorted(FIXTURES.rglob("*")) if path.is_file() and path.suffix not in NO_MOTION
    ]
    motions: dict[str, list[Path]] = {}
    for path in fixtures:
        if path.suffix != ".json" or "phantomdance" in path.parts:
            motions.setdefault(f"motion {path.suffix}", []).append(path)
    return {
        **{name: Reader(seeds, motion) for name, seeds in motions.items()},
        "pickle": Reader([path for path in fixtures if path.suffix == ".pkl"], pickled),
        "sequence": Reader([single], sequence),
        "parquet": Reader(parquet, shards),
        "tar": Reader(tar, tars),
        "windows of tars": Reader(tar, windows_of_tars, (OpenDanceError, ValueError)),
        "windows of npz": Reader([joints], windows_of_npz, (OpenDanceError, ValueError)),
        "sound": Reader(clips, sound),
        "video": Reader(clips, pictures, (OpenDanceError, Rejected)),
        "recipe": Reader(recipes, recipe),
        "config": Reader([settings], config),
        "beats": Reader([times], beats),
        "selection": Reader([lists], selection),
    }


def make(reader: Reader, name: str, number: int, seed: int, folder: Path) -> Path:
    """Write the mutated file of a number."""
    rng = np.random.default_rng([seed, zlib.crc32(name.encode()), number])
    source = reader.seeds[int(rng.integers(len(reader.seeds)))]
    others = [path.read_bytes() for path in reader.seeds if path != source]
    data = mutate(source.read_bytes(), source.suffix, others, rng)
    # The folders above it are those that the reader looks into.
    target = folder.joinpath(*source.parts[-3:])
    target.parent.mkdir(parents=True, exist_ok=True)
    for beside in source.parent.glob("*.asf"):
        (target.parent / beside.name).write_bytes(beside.read_bytes())
    target.write_bytes(data)
    return target


def work(pipe: Connection, folder: Path) -> None:
    """Read files that come through the pipe, and say what became of each."""
    known = readers(folder)
    pipe.send("ready")
    while True:
        name, path = pipe.recv()
        try:
            known[name].read(path)
            answer = ("read", "")
        except known[name].errors as error:
            text = str(error)
            # Some have an example of what to write below.
            is_clear = text and text.count("\n") < 4 and "\x1b" not in text
            answer = ("refused", "") if is_clear else ("wrong", f"unclear: {text!r:.200}")
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(where.filename).name}:{where.lineno}"
            answer = ("wrong", f"{type(error).__name__}: {' '.join(str(error).split())[:160]} ({place})")
        pipe.send(answer)


class Worker:
    """A process that reads files, and its parent's view of it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.peak_mb = folder, 0.0
        self.start()

    def start(self) -> None:
        context = get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.process = context.Process(target=work, args=(theirs, self.folder), daemon=True)
        self.process.start()
        theirs.close()
        if self.pipe.recv() != "ready":
            raise RuntimeError("the worker does not start")

    def read(self, name: str, path: Path) -> tuple[str, str]:
        """Return ``read``, ``refused`` or ``wrong``, and the cause."""
        start, self.peak_mb, fault = time.monotonic(), 0.0, ""
        self.pipe.send((name, path))
        while not fault and not self.pipe.poll(0.02):
            try:
                self.peak_mb = max(self.peak_mb, psutil.Process(self.process.pid).memory_info().rss / 1e6)
            except psutil.Error:
                fault = "it crashed"
            if time.monotonic() - start > LONGEST_S:
                fault = f"took longer than {LONGEST_S:.0f} s"
            if self.peak_mb > LARGEST_MB:
                fault = f"needed {self.peak_mb:.0f} MB"
        if not fault:
            try:
                kind, cause = self.pipe.recv()
                return str(kind), str(cause)
            except (EOFError, OSError):
                self.process.join(5)
                fault = f"it crashed (exit code {self.process.exitcode})"
        self.stop()
        self.start()
        return "wrong", fault

    def stop(self) -> None:
        self.process.kill()
        self.process.join()


def measure(
    seconds: float,
    seed: int = 1,
    only: list[str] | None = None,
    number: int | None = None,
    rounds: int | None = None,
) -> tuple[dict[str, Any], list[str]]:
    """Fuzz the readers in turn, for a time or a number of rounds; return the figures and a line for every wrong file."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as place:
        folder = Path(place)
        known = {name: reader for name, reader in readers_in(folder).items() if not only or name in only}
        counts: dict[str, Counter[str]] = {name: Counter() for name in known}
        spent, peak, wrong = Counter[str](), Counter[str](), dict[str, str]()
        worker, start, turn = Worker(folder / "worker"), time.monotonic(), number or 0
        while time.monotonic() - start < seconds and (rounds is None or turn < rounds):
            for name, reader in known.items():
                path = make(reader, name, turn, seed, folder / "mutated" / f"{turn}")
                before = time.monotonic()
                kind, cause = worker.read(name, path)
                spent[name] += time.monotonic() - before  # type: ignore[assignment]
                peak[name] = max(peak[name], worker.peak_mb)  # type: ignore[assignment]
                counts[name][kind] += 1
                if kind == "wrong":
                    wrong.setdefault(f"{name}: {cause}", f"{name} {turn} ({path.name}): {cause}")
                path.unlink()
            turn += 1
            if number is not None:
                break
        worker.stop()
    return {
        "seed": seed,
        "seconds": round(time.monotonic() - start, 1),
        "files": sum(map(Counter.total, counts.values())),
        "readers": {
            name: {
                **{kind: count[kind] for kind in ("read", "refused", "wrong")},
                "seconds": round(spent[name], 1),
                "peak_mb": round(peak[name]),
            }
            for name, count in counts.items()
        },
    }, sorted(wrong.values())


def readers_in(folder: Path) -> dict[str, Reader]:
    (folder / "seeds").mkdir()
    return readers(folder / "seeds")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--readers", nargs="*")
    parser.add_argument("--only", type=int, help="read the file of this number alone")
    options = parser.parse_args()
    result, wrong = measure(options.seconds, options.seed, options.readers, options.only)
    print(json.dumps(result, indent=1), *wrong, sep="\n")
    if not options.readers:
        OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
        LOG.write_text("".join(f"{line}\n" for line in wrong))
    if wrong:
        sys.exit(f"{len(wrong)} kinds of wrong answers")


if __name__ == "__main__":
    main()
