"""A dataset of the paper's size: 28,051 synthetic sequences in the splits of table 2, packed and loaded.

    python -m benchmarks.full_size [--length 0.125] [--sequences 28051] [--folder DIR] [--keep]

The numbers in the sequences are random, durations are distributed as the paper says (4 to 120 s, 22.74 s on average for one
dancer and 11.82 s for two) and multiplied by LENGTH: at full length it is 36 million frames and 79 GB. The files of the sequences, the
Parquet shards, the tars, and the cache of ``load_dataset`` need a disk; it is checked first. Every step runs in a
process of its own, for its peak of memory. Writes ``benchmarks/full_size.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import machine
from benchmarks.reader_scale import measure as measure_reader
from opendance_hf.storage import load_sequence, pack_files, save_sequence
from tests.factories import make_sequence

OUT = Path(__file__).with_name("full_size.json")
#: Paper, table 2: sequences by number of dancers and split.
TABLE_2 = {
    1: {"train": 22_606, "validation": 1_256, "test": 1_256},
    2: {"train": 2_733, "validation": 100, "test": 100},
}
SEQUENCES = sum(sum(splits.values()) for splits in TABLE_2.values())
#: Paper, section 3.2: mean seconds of a sequence by number of dancers; the shortest and the longest.
MEAN_S = {1: 22.74, 2: 11.82}
SHORTEST_S, LONGEST_S = 4.0, 120.0
FULL_FRAMES = 36e6
#: Disk per frame of the whole run, bytes: files, Parquet, tars, and the Arrow files of load_dataset instead of the first.
BYTES_PER_FRAME = 9_000
#: Rows that are streamed.
STREAMED = 1_000


def plan(sequences: int) -> Iterator[tuple[int, int, str]]:
    """Yield number, dancers and split of every sequence, in the proportions of table 2."""
    number = 0
    for dancers, splits in TABLE_2.items():
        for split, count in splits.items():
            for _ in range(max(1, round(count * sequences / SEQUENCES))):
                yield number, dancers, split
                number += 1


def make(folder: Path, sequences: int, length: float) -> dict[str, Any]:
    """Write the files of the sequences; return the split of each id and the number of frames."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(3)
    splits, frames = {}, 0
    for number, dancers, split in plan(sequences):
        seconds = min(LONGEST_S, SHORTEST_S + rng.exponential(MEAN_S[dancers] - SHORTEST_S))
        count = max(2, round(60 * seconds * length))
        name = f"{number:016x}_00"
        save_sequence(folder / f"{name}.npz", make_sequence(number, dancers, count, id=name, group=name[:16]))
        splits[name] = split
        frames += count
    return {"splits": splits, "frames": frames}


def pack_all(folder: Path, out: Path, splits: dict[str, str]) -> dict[str, Any]:
    """Pack the files as ``opendance build`` does; return the bytes and the number of the shards."""
    report = pack_files(sorted(folder.iterdir()), out, splits=splits, figure=True)
    kinds = {"parquet": "data/", "tars": "webdataset/"}
    found: dict[str, Any] = {"sequences": report.num_sequences}
    for kind, start in kinds.items():
        sizes = [size for name, size in report.files.items() if name.startswith(start)]
        found |= {f"{kind}_gb": round(sum(sizes) / 1e9, 2), f"{kind}_shards": len(sizes)}
    return found


def load_map(out: Path, cache: Path) -> dict[str, Any]:
    """Load all configurations with ``load_dataset``."""
    import datasets

    rows = 0
    for config in ("individual", "collaborative"):
        splits = datasets.load_dataset(str(out), config, cache_dir=str(cache))
        rows += sum(len(split) for split in splits.values())
    return {"rows": rows}


def stream(out: Path) -> dict[str, Any]:
    """Stream rows of the training split with ``load_dataset(streaming=True)``, as numpy arrays."""
    import datasets

    start = time.perf_counter()
    rows = datasets.load_dataset(str(out), "individual", split="train", streaming=True).with_format("numpy")
    count = sum(1 for _ in rows.take(STREAMED))
    return {"rows": count, "rows_per_second": round(count / (time.perf_counter() - start), 1)}


def read_files(folder: Path) -> dict[str, Any]:
    """Read every file once, which is the least that packing needs."""
    return {"rows": sum(1 for file in folder.iterdir() if load_sequence(file))}


def _alone(work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    start = time.perf_counter()
    result = work(*arguments)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {**result, "seconds": round(time.perf_counter() - start, 1), "peak_mb": round(peak / 1e6)}


def alone(name: str, work: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Call a function in a process of its own; return its result with seconds and peak memory."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        result = pool.submit(_alone, work, *arguments).result()
    print(
        f"{name}: { ({key: value for key, value in result.items() if key not in ('splits', 'groups', 'original')}) }",
        flush=True,
    )
    return result


def measure(folder: Path, length: float, sequences: int = SEQUENCES) -> dict[str, Any]:
    """Run all steps in a folder."""
    free, needed = (
        shutil.disk_usage(folder).free,
        FULL_FRAMES * length * sequences / SEQUENCES * BYTES_PER_FRAME,
    )
    if free < needed:
        sys.exit(
            f"{folder}: needs {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free; choose a smaller --length"
        )
    files, out, cache = folder / "sequences", folder / "opendance-3d", folder / "cache"
    made = alone("make", make, files, sequences, length)
    steps = {
        "read": alone("read", read_files, files),
        "pack": alone("pack", pack_all, files, out, made.pop("splits")),
    }
    shutil.rmtree(files)
    steps["load"] = alone("load", load_map, out, cache)
    steps["load again"] = alone("load again", load_map, out, cache)
    shutil.rmtree(cache)
    steps["stream"] = alone("stream", stream, out)
    readers = {"Arrow files": str(out), "tars": str(out / "webdataset" / "individual" / "train-*.tar")}
    os.environ.update(HF_DATASETS_CACHE=str(cache), OPENDANCE_CACHE=str(folder / "index"))
    share = made["frames"] / FULL_FRAMES
    whole = {name: round(steps["pack"][name] / share, 1) for name in ("seconds", "parquet_gb", "tars_gb")}
    return {
        "length": length,
        "frames": made["frames"],
        **steps,
        "pack, extrapolated to 36 million frames": whole,
        # Opened first, Parquet is converted and tars are indexed.
        "reader": {
            f"{kind}, {opened}": measure_reader(place)
            for kind, place in readers.items()
            for opened in ("opened first", "opened again")
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--length", type=float, default=0.125)
    parser.add_argument("--sequences", type=int, default=SEQUENCES)
    parser.add_argument("--folder", type=Path, help="where to work; default: the folder for temporary files")
    parser.add_argument("--keep", action="store_true", help="do not remove the dataset")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="full-size-", dir=options.folder))
    try:
        result = measure(folder, options.length, options.sequences)
    finally:
        if not options.keep:
            shutil.rmtree(folder)
    OUT.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
