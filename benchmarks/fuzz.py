"""Feed mutated files to every reader of the package: each is read or refused by one error on one line, and nothing else happens.

    python -m benchmarks.fuzz [--seconds 600] [--seed 1] [--reader NAME] [--inputs N] [--input NUMBER]

Every reader of :data:`benchmarks.fuzz_readers.READERS` gets an equal share of the time. Inputs are made from its valid files
(:mod:`benchmarks.mutations`) and depend only on the seed, the reader and their number. A reader runs in a process of its own with a
limit of memory, and a limit of time for each input. An input is *read*, or *refused* by an error of the package; any other exception,
a message of several lines or with control characters, a crash, too much time or memory is *wrong*. ``--reader NAME --input NUMBER``
runs one input again here and shows the traceback. Writes ``benchmarks/fuzz.json`` and ``benchmarks/fuzz.log``, and exits with 1 if
anything was wrong.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
import zlib
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np
import psutil

from benchmarks.fuzz_readers import READERS, Reader, Seed
from benchmarks.mutations import mutate

OUT: Final = Path(__file__).with_name("fuzz.json")
LOG: Final = OUT.with_suffix(".log")
#: Longest time that one input may take, seconds.
INPUT_S: Final = 20.0
#: Memory that a reader may take beyond that of the loaded libraries, bytes.
MEMORY: Final = 1 << 30
#: Time that a reader has to import its libraries and to read its valid files, seconds.
START_S: Final = 120.0
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_REPOSITORY: Final = str(Path(__file__).parents[1])


@dataclass
class Tally:
    """Outcomes of one reader.

    Attributes:
        tried: number of inputs.
        read: those that were read.
        refused: those that were refused as they should be.
        wrong: number of the rest.
        seconds: time of the process.
        peak_mb: largest memory of the process beyond what it had at its start, MB.
        faults: for every kind of wrong outcome the number of its first input and how often it came.
    """

    tried: int = 0
    read: int = 0
    refused: int = 0
    wrong: int = 0
    seconds: float = 0.0
    peak_mb: float = 0.0
    faults: dict[str, list[int]] = field(default_factory=dict)

    def add(self, number: int, outcome: str, peak_mb: float = 0.0) -> None:
        """Count an outcome: ``read``, ``refused``, or what was wrong."""
        self.tried += 1
        self.peak_mb = max(self.peak_mb, peak_mb)
        if outcome in ("read", "refused"):
            setattr(self, outcome, getattr(self, outcome) + 1)
            return
        self.wrong += 1
        self.faults.setdefault(outcome, [number, 0])[1] += 1


def write_input(seeds: list[Seed], folder: Path, rng: np.random.Generator) -> Path:
    """Write a copy of one valid input with one of its files mutated, and return the file to read."""
    seed = seeds[int(rng.integers(len(seeds)))]
    changed = int(rng.integers(len(seed)))
    others = [one[min(changed, len(one) - 1)] for one in seeds]
    other = others[int(rng.integers(len(others)))].read_bytes()
    for place, path in enumerate(seed):
        data = path.read_bytes()
        if place == changed:
            data = mutate(data, path.suffix, [other], rng)
        (folder / path.name).write_bytes(data)
    return folder / seed[0].name


def outcome_of(reader: Reader, path: Path) -> str:
    """Read a file and return ``read``, ``refused``, or what was wrong."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            reader.read(path)
    except reader.refuses as error:
        message = str(error)
        if not message:
            return f"{type(error).__name__} without a message"
        if found := _CONTROL.search(message.replace("\n", "") if reader.lines else message):
            return f"{type(error).__name__} with the character {found[0]!a} in its message ({_place(error)})"
        return (
            "refused"
            if len(message) < 2000
            else f"{type(error).__name__} of {len(message)} characters ({_place(error)})"
        )
    except Exception as error:
        return f"{type(error).__module__}.{type(error).__name__} ({_place(error)})"
    return "read"


def _place(error: BaseException) -> str:
    """Return the last place in the package on the way of an error."""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(_REPOSITORY)
    ]
    frames = [frame for frame in frames if ".venv" not in frame.filename] or frames
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "outside"


def seeds_of(name: str, folder: Path) -> list[Seed]:
    """Write the valid files of a reader, all of which it reads, unless it refuses everything."""
    folder.mkdir()
    return READERS[name].seeds(folder)


def generator(seed: int, name: str, number: int) -> np.random.Generator:
    """Return the source of the choices for one input."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), number])


def _work(name: str, seed: int, first: int, folder: Path, pipe: Connection) -> None:
    """Read inputs from a number on, until killed; send what becomes of each."""
    os.setsid()
    try:
        _read_all(name, seed, first, folder, pipe)
    except Exception:  # of the campaign's own code: what a reader raises is an outcome
        pipe.send(("broken", first, traceback.format_exc()))


def _read_all(name: str, seed: int, first: int, folder: Path, pipe: Connection) -> None:
    with Path(os.devnull).open("wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    seeds = seeds_of(name, folder / f"seeds{first}")
    reader = READERS[name]
    own = psutil.Process().memory_info()
    for limited in (False, True):  # first the libraries are imported
        for number, one in enumerate(seeds):
            place = folder / f"valid{first}-{number}-{limited}"
            place.mkdir()
            for path in one:
                shutil.copy(path, place / path.name)
            pipe.send(("valid", number, outcome_of(reader, place / one[0].name)))
        if not limited:
            own = psutil.Process().memory_info()
            resource.setrlimit(resource.RLIMIT_AS, (own.vms + MEMORY, own.vms + MEMORY))
    number = first
    while True:
        place = folder / f"input{number}"
        place.mkdir()
        path = write_input(seeds, place, generator(seed, name, number))
        pipe.send(("start", number, ""))
        said = outcome_of(reader, path)
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - own.rss / 2**20
        pipe.send(("end", number, (said, max(0.0, peak_mb))))
        shutil.rmtree(place, ignore_errors=True)
        number += 1


def run_reader(name: str, seed: int, seconds: float, inputs: int | None, folder: Path) -> Tally:
    """Fuzz one reader for some seconds, or for a number of inputs."""
    tally, began, number = Tally(), time.monotonic(), 0
    # Forked, so that the libraries are imported once.
    context = multiprocessing.get_context("fork")
    while time.monotonic() - began < seconds and (inputs is None or number < inputs):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, seed, number, folder, theirs))
        process.start()
        theirs.close()
        said = ""
        limit = START_S
        try:
            while time.monotonic() - began < seconds and (inputs is None or number < inputs):
                if not ours.poll(limit):
                    tally.add(number, f"took longer than {limit:g} s")
                    number += 1
                    break
                said, at, more = ours.recv()
                if said == "broken":
                    raise RuntimeError(f"the campaign itself failed at {name}: {more}")
                limit = INPUT_S if said == "start" else START_S
                if said == "valid" and more != ("read" if READERS[name].takes else "refused"):
                    tally.add(-1, f"valid file {at}: {more}")
                if said == "end":
                    tally.add(at, *more)
                    number = at + 1
        except EOFError:
            process.join(5)
            tally.add(number, f"crash: exit code {process.exitcode}")
            number += 1
        finally:
            _kill(process)
            ours.close()
    tally.seconds = round(time.monotonic() - began, 1)
    return tally


def _kill(process: Any) -> None:
    """Kill a worker and what it has started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        process.kill()
    process.join()


def measure(
    seconds: float = 600.0, seed: int = 1, readers: list[str] | None = None, inputs: int | None = None
) -> dict[str, Any]:
    """Fuzz readers and return the outcomes.

    Args:
        seconds: time for all readers together.
        seed: of all inputs.
        readers: names; all by default.
        inputs: number of inputs of each reader; None for as many as fit in the time.
    """
    names = readers or list(READERS)
    found = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            found[name] = run_reader(name, seed, seconds / len(names), inputs, Path(folder))
        print(
            _row(name, found[name]), *(f"    {line}" for line in _faults(found[name])), sep="\n", flush=True
        )
    return {
        "seed": seed,
        "seconds": round(sum(tally.seconds for tally in found.values()), 1),
        "limits": {"input_s": INPUT_S, "memory_mb": MEMORY >> 20},
        **{
            key: sum(getattr(tally, key) for tally in found.values())
            for key in ("tried", "read", "refused", "wrong")
        },
        "peak_mb": round(max(tally.peak_mb for tally in found.values())),
        "readers": {name: asdict(tally) for name, tally in found.items()},
    }


_HEAD: Final = f"{'reader':26}{'tried':>8}{'read':>8}{'refused':>8}{'wrong':>7}{'seconds':>9}{'peak MB':>9}"


def _row(name: str, tally: Tally) -> str:
    return f"{name:26}{tally.tried:8}{tally.read:8}{tally.refused:8}{tally.wrong:7}{tally.seconds:9.1f}{tally.peak_mb:9.0f}"


def _faults(tally: Tally) -> list[str]:
    return [f"{count} x {fault}, first input {number}" for fault, (number, count) in tally.faults.items()]


def again(name: str, seed: int, number: int) -> None:
    """Read one input here, with its traceback; the file is kept and named."""
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    seeds = seeds_of(name, folder / "seeds")
    place = folder / "input"
    place.mkdir()
    path = write_input(seeds, place, generator(seed, name, number))
    print(path)
    READERS[name].read(path)


def main() -> None:
    from benchmarks.__main__ import machine

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0, help="for all readers together")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", action="append", choices=list(READERS), help="repeatable; all by default")
    parser.add_argument("--inputs", type=int, help="number of inputs of each reader")
    parser.add_argument("--input", type=int, help="read this one input of --reader here")
    options = parser.parse_args()
    if options.input is not None:
        again(options.reader[0], options.seed, options.input)
        return
    result = measure(options.seconds, options.seed, options.reader, options.inputs)
    if not options.reader:
        tallies = {name: Tally(**values) for name, values in result["readers"].items()}
        lines = [f"python -m benchmarks.fuzz --seconds {options.seconds:g} --seed {options.seed}", _HEAD]
        for name, tally in tallies.items():
            lines += [_row(name, tally), *(f"    {line}" for line in _faults(tally))]
        totals = {key: result[key] for key in ("tried", "read", "refused", "wrong", "seconds", "peak_mb")}
        LOG.write_text("\n".join([*lines, _row("all", Tally(**totals))]) + "\n")
        OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    if result["wrong"]:
        sys.exit(f"{result['wrong']} inputs were neither read nor refused as they should be")


if __name__ == "__main__":
    main()
