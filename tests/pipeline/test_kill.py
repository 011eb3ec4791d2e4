"""A build that is killed at any moment and resumed ends with the very same dataset as one left in peace."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.storage import load_sequence
from opendance_hf.storage.npz import load_header
from tests.pipeline.media import trim

KILLS = 5


def _kill(process: subprocess.Popen[str], whole_group: bool) -> None:
    """The end of a machine (every process at once) or of the parent alone, whose workers have to notice."""
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()


# A stand-in for the pipeline: no weights, no video, a known result for every item.
_FAKE = """
import sys, time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
import numpy as np
from opendance_hf.pipeline.arrays import save_arrays
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.pipeline.runners.local import run_local
from opendance_hf.pipeline.runners.worker import Limits

class Quiet:
    def started(self, item): print("started", flush=True)
    def step(self, item, stage, share): pass
    def ended(self, item, status, reason): pass

def process(folder, item, on_stage, on_step):
    with open(folder / "work.log", "a") as log:
        log.write(item.name + "\\n")
    on_stage("work", 0.0, 1, 0)
    rng = np.random.default_rng(int(item.name))
    values = []
    for _ in range(10):
        values.append(rng.standard_normal(1000))
        time.sleep(0.02)
    save_arrays(folder / f"{item.name}.npz", values=np.concatenate(values))
    return SimpleNamespace(sequences=[{"id": item.name}], dropped=[])

def make(folder):
    return partial(process, folder)

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    ledger = Ledger(folder / "ledger.sqlite")
    for number in range(40):
        ledger.add(f"/videos/{number}", f"{number:02d}", "hash", "settings")
    run_local(ledger, partial(make, folder), workers=2, limits=Limits(60), progress=Quiet())
    ledger.close()
"""


def test_the_ledger_and_the_runner_survive_kills(tmp_path: Path) -> None:
    script = tmp_path / "fake_build.py"
    script.write_text(_FAKE)
    moments = random.Random(1)
    killed = 0
    for _ in range(KILLS):
        command = [sys.executable, str(script), str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(moments.uniform(0, 0.6))
        killed += process.poll() is None
        _kill(process, whole_group=moments.random() < 0.5)
        process.stdout.close()
    assert killed == KILLS
    subprocess.run([sys.executable, str(script), str(tmp_path)], check=True, capture_output=True, timeout=60)

    ledger = Ledger(tmp_path / "ledger.sqlite")
    items, rows = ledger.items(), ledger.sequences()
    ledger.close()
    names = [f"{number:02d}" for number in range(40)]
    assert sorted(item.name for item in items) == names
    assert {item.status for item in items} == {"published"}
    assert [row["id"] for row in rows] == names
    for name in names:
        with np.load(tmp_path / f"{name}.npz") as data:
            wanted = np.random.default_rng(int(name)).standard_normal((10, 1000)).ravel()
            np.testing.assert_array_equal(data["values"], wanted)
    # What was done stays done: a kill costs no more than what the two workers had in hand.
    started = len((tmp_path / "work.log").read_text().splitlines())
    assert started <= len(names) + 2 * KILLS


def _command(video: Path, out: Path) -> list[str]:
    code = "from opendance_hf.cli import main; main()"
    return [sys.executable, "-c", code, "build", str(video), "--out", str(out), "--workers", "2"]


def _start(video: Path, out: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        _command(video, out),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def _wait_for(process: subprocess.Popen[str], text: str) -> bool:
    """Read the build's lines up to the one that starts a stage; False if it never comes."""
    assert process.stdout is not None
    return any(text in line for line in process.stdout)


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(900)
def test_a_killed_build_gives_the_same_dataset(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "videos" / "solo_sea.mp4"
    if not source.is_file():
        pytest.skip(f"{source} is not there")
    video = trim(source, tmp_path / "solo_sea.mp4", seconds=7.0)

    calm = tmp_path / "calm" / "opendance-3d"
    process = _start(video, calm)
    assert _wait_for(process, "probe")
    start = time.monotonic()
    assert process.stdout is not None
    output = process.stdout.read()
    assert process.wait() == 0, output
    usual_s = time.monotonic() - start

    stormy = tmp_path / "stormy" / "opendance-3d"
    build = stormy.with_name("opendance-3d.build")
    moments = random.Random(7)
    killed = 0
    while killed < KILLS:
        process = _start(video, stormy)
        # Intermediate results are kept, so each resumed build is shorter than the one before it.
        running = _wait_for(process, "probe")
        time.sleep(moments.uniform(0, usual_s * (1 - killed / KILLS)))
        if not running or process.poll() is not None:
            process.wait()
            shutil.rmtree(stormy.parent)  # done before the blow fell: from the beginning
            killed = 0
            continue
        _kill(process, whole_group=moments.random() < 0.5)
        killed += 1
        assert (build / "ledger.sqlite").is_file()
    # And once while the dataset itself is written.
    process = _start(video, stormy)
    assert _wait_for(process, "Packing")
    time.sleep(moments.uniform(0, 0.3))
    _kill(process, whole_group=False)
    done = subprocess.run(_command(video, stormy), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr

    _assert_same_sequences(calm.with_name("opendance-3d.build"), build)
    for folder in (calm, stormy):
        assert (folder / "README.md").is_file()
    assert _files(calm) == _files(stormy)
    assert _files(calm.parent) == _files(stormy.parent), "half-written files were left behind"


def _files(folder: Path) -> list[str]:
    names = (path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.endswith(("-wal", "-shm")))


def _assert_same_sequences(calm: Path, stormy: Path) -> None:
    one, two = (sorted((build / "sequences").glob("*.npz")) for build in (calm, stormy))
    assert one
    assert [load_header(path) for path in one] == [load_header(path) for path in two]
    for left, right in zip(map(load_sequence, one), map(load_sequence, two), strict=True):
        assert left.provenance == right.provenance
        for name, value in vars(left).items():
            if isinstance(value, np.ndarray):
                np.testing.assert_allclose(getattr(right, name), value, rtol=0, atol=1e-6, err_msg=name)
