"""Measure the training reader alone, over several processes and workers: windows a second, and memory of its own.

    python -m benchmarks.reader_scale DATASET [--tars PATTERN] [--workers 2] [--ranks 2] [--seconds 20] [--music]

reads windows of 120 frames in the order of a training, as its loader does, and writes ``benchmarks/reader_scale.json``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import torch
from accelerate.data_loader import BatchSamplerShard
from torch.utils.data import BatchSampler, DataLoader, Dataset

from benchmarks.__main__ import machine
from opendance_hf.data import MotionWindows, open_reader
from opendance_hf.training.order import EpochOrder

RESULT = Path(__file__).with_name("reader_scale.json")
WINDOW, STRIDE, BATCH = 120, 4, 32
#: Batches that are not counted: workers start, files are mapped.
WARM_UP = 50


class MusicWindows(Dataset[dict[str, torch.Tensor]]):
    """Windows of the joints of single dancers with the 438 features of the music at 60 Hz."""

    def __init__(self, dataset: str) -> None:
        self.reader = open_reader(dataset)
        self.windows = self.reader.windows(WINDOW, STRIDE)

    def __len__(self) -> int:
        return len(self.windows)

    def order(self, seed: int, epoch: int) -> Iterator[list[int]]:
        return self.reader.order(self.windows, 1, seed, epoch)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        number, dancer, start = self.windows[index]
        row = self.reader.row(number)
        joints = self.reader.matrix(row, "joints", start, WINDOW)[:, dancer * 72 : (dancer + 1) * 72]
        music = self.reader.matrix(row, "music_features", start, WINDOW)
        return {"joints": torch.from_numpy(joints.copy()), "music": torch.from_numpy(music.copy())}


def measure(
    dataset: str, *, workers: int = 2, ranks: int = 2, seconds: float = 20.0, music: bool = False
) -> dict[str, Any]:
    """Read windows in ``ranks`` processes with ``workers`` workers each.

    Args:
        dataset: folder, Hub id or pattern of tars.
        workers: of each process.
        ranks: number of processes.
        seconds: of reading, after some batches that are not counted.
        music: also the features of the music.

    Returns:
        ``windows_per_s`` of all processes, ``open_s`` of the slowest, and memory in MB at its highest, once a second, of all
        processes and workers: ``anonymous_mb`` (sum of RssAnon, which counts pages that a worker shares with its parent
        twice), ``pss_anonymous_mb`` (these pages divided by the number of their users), and ``imports_mb`` (RssAnon of the
        processes before the dataset is opened).
    """
    context = multiprocessing.get_context("spawn")
    queue, ready = context.Queue(), context.Barrier(ranks)
    arguments = [(dataset, rank, ranks, workers, seconds, music, queue, ready) for rank in range(ranks)]
    processes = [context.Process(target=_read, args=one) for one in arguments]
    for process in processes:
        process.start()
    most = {"anonymous_mb": 0.0, "pss_anonymous_mb": 0.0}
    while any(process.is_alive() for process in processes) and queue.qsize() < ranks:
        now = _memory([process.pid for process in processes if process.pid])
        most = {name: max(value, now[name]) for name, value in most.items()}
        time.sleep(1)
    if queue.qsize() < ranks:
        raise SystemExit(f"{dataset}: a process failed")
    found = [queue.get() for _ in range(ranks)]
    for process in processes:
        process.join()
    return {
        "what": f"windows of {WINDOW} frames every {STRIDE}, batches of {BATCH}"
        + (", with music" if music else ""),
        "ranks": ranks,
        "workers": workers,
        "sequences": found[0]["sequences"],
        "windows": found[0]["windows"],
        "windows_per_s": round(sum(one["windows_per_s"] for one in found)),
        "open_s": round(max(one["open_s"] for one in found), 2),
        "imports_mb": round(sum(one["imports_mb"] for one in found)),
        **{name: round(value) for name, value in most.items()},
    }


def _read(
    dataset: str, rank: int, ranks: int, workers: int, seconds: float, music: bool, queue: Any, ready: Any
) -> None:
    torch.set_num_threads(1)
    imports = _memory([os.getpid()])["anonymous_mb"]
    start = time.perf_counter()
    data: Any = MusicWindows(dataset) if music else MotionWindows(dataset, WINDOW, STRIDE)
    opened = time.perf_counter() - start
    whole = BatchSampler(EpochOrder(data, 0, lambda: 0), BATCH, drop_last=True)
    loader = DataLoader(
        data,
        batch_sampler=BatchSamplerShard(whole, ranks, rank),
        num_workers=workers,
        # As under a launcher; a process that was spawned would spawn its workers, too, which share nothing.
        multiprocessing_context="fork" if workers else None,
    )
    batches, begin = 0, 0.0
    ready.wait()
    while not begin or time.perf_counter() - begin < seconds:
        for _ in loader:  # another epoch, where one is short
            batches += 1
            if batches == WARM_UP:
                begin = time.perf_counter()
            if begin and time.perf_counter() - begin >= seconds:
                break
    counted = (batches - WARM_UP) * BATCH / (time.perf_counter() - begin)
    queue.put(
        {
            "windows_per_s": counted,
            "windows": len(data),
            "sequences": len(data.windows.counts),
            "open_s": opened,
            "imports_mb": imports,
        }
    )


def _memory(processes: list[int]) -> dict[str, float]:
    """Sum up the anonymous memory of processes and of all that they started, in MB."""
    total = {"anonymous_mb": 0.0, "pss_anonymous_mb": 0.0}
    pids = set(processes)
    for pid in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            pids |= {child.pid for child in psutil.Process(pid).children(recursive=True)}
    for pid in pids:
        with contextlib.suppress(OSError):  # it has just ended
            for file, name, key in (
                ("status", "anonymous_mb", "RssAnon:"),
                ("smaps_rollup", "pss_anonymous_mb", "Pss_Anon:"),
            ):
                for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
                    if line.startswith(key):
                        total[name] += int(line.split()[1]) / 1024
    return total


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.reader_scale", description=__doc__.splitlines()[0]
    )
    parser.add_argument("dataset", nargs="?", help="folder or Hub id; read as Arrow files")
    parser.add_argument("--tars", help="pattern of tars, which are read, too")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--music", action="store_true", help="also windows with the features of music")
    options = parser.parse_args()
    results: dict[str, Any] = json.loads(RESULT.read_text()) if RESULT.exists() else {}
    for name, place in (("arrow", options.dataset), ("tars", options.tars)):
        for music in (False, True)[: 1 + options.music] if place else ():
            key = f"{name}_music" if music else name
            results[key] = measure(
                place, workers=options.workers, ranks=options.ranks, seconds=options.seconds, music=music
            ) | {"machine": machine()}
            print(key, json.dumps(results[key]), flush=True)
            partial = RESULT.with_suffix(".partial")
            partial.write_text(json.dumps(results, indent=2) + "\n")
            partial.replace(RESULT)


if __name__ == "__main__":
    main()
