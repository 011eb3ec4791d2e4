"""A column is one line; a format, backend or stage one file and one line: planted in a copy and used there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.pipeline.clips import write_clip


@pytest.fixture
def copied(repo: Path, tmp_path: Path) -> Path:
    """A copy of the package and the factories, with the symlinks of the package."""
    ignore = shutil.ignore_patterns("*.pyc")  # numba's compiled functions are worth keeping
    for name in ("opendance_hf", "modeling", "pipeline", "loading_scripts"):
        shutil.copytree(repo / name, tmp_path / "copy" / name, symlinks=True, ignore=ignore)
    (tmp_path / "copy/tests").mkdir()
    for name in ("__init__.py", "factories.py"):
        shutil.copy(repo / "tests" / name, tmp_path / "copy/tests")
    return tmp_path / "copy"


@pytest.fixture
def run(copied: Path, tmp_path: Path) -> Callable[..., str]:
    """Run Python on the copy, in a folder of its own, and return what it printed."""

    def python(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            env=os.environ | {"PYTHONPATH": str(copied), "HF_HOME": str(tmp_path / "hf")},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr[-3000:]
        return done.stdout

    return python


def insert_before(path: Path, marker: str, line: str) -> None:
    text = path.read_text()
    assert text.count(marker) == 1
    path.write_text(text.replace(marker, line + marker))


COLUMN = (
    '    energy: Annotated[Floats | None, Column("float32", ("T", "D*2"), unit="J", minimum=0, '
    'meaning="energy of both legs")] = None\n'
)

USE_THE_COLUMN = """
import opendance_hf, sys
assert opendance_hf.__file__.startswith(sys.argv[1])
import numpy as np, datasets, webdataset
from opendance_hf.schema import SchemaError, from_row, validate
from opendance_hf.storage import load_sequence, pack, read_parquet, read_webdataset, save_sequence
from tests.factories import make_sequence

energy = np.arange(160, dtype=np.float32).reshape(40, 4)
full, empty = make_sequence(0, 2, energy=energy), make_sequence(1, 2)
pack([full, empty], "dances")

back = load_sequence(save_sequence("full.npz", full))
assert np.array_equal(back.energy, energy)
assert load_sequence(save_sequence("empty.npz", empty)).energy is None
# Written by the package without the column.
assert load_sequence("old.npz").energy is None

for read in (read_parquet, read_webdataset):
    first, second = read("dances", "collaborative", "train")
    assert np.array_equal(first.energy, energy) and second.energy is None

rows = datasets.load_dataset("dances", split="train")
assert rows.features["energy"] == datasets.Array2D((None, 4), "float32")
assert np.array_equal(from_row(rows[0]).energy, energy) and from_row(rows[1]).energy is None

samples = list(webdataset.WebDataset("dances/webdataset/collaborative/train-00000.tar", shardshuffle=False).decode())
assert np.array_equal(samples[0]["energy.npy"], energy) and samples[1]["energy.npy"].shape == (1, 4)
assert np.isnan(samples[1]["energy.npy"]).all()
rows = datasets.load_dataset("webdataset", data_files="dances/webdataset/collaborative/*.tar", split="train")
assert np.array_equal(np.asarray(rows[0]["energy.npy"], np.float32), energy)

assert r"| `energy` | float32 (T, D\\*2) or null | J | energy of both legs |" in open("dances/README.md").read()

for wrong in (energy[:-1], -energy, energy.astype(float)):
    try:
        validate(make_sequence(0, 2, energy=wrong))
    except SchemaError as error:
        assert "energy" in str(error)
    else:
        raise AssertionError("not refused")
"""


def test_a_column_is_one_line(copied: Path, run: Callable[..., str], tmp_path: Path) -> None:
    run(
        "-c",
        "from tests.factories import *; from opendance_hf.storage import *; save_sequence('old.npz', make_sequence(3))",
    )
    insert_before(copied / "opendance_hf/schema.py", "    genre: Annotated", COLUMN)
    run("-c", USE_THE_COLUMN, str(copied))
    assert "| `energy` |" in run("-m", "opendance_hf.schema")


FORMAT = '''"""Joints as text: a line of 72 numbers a frame."""

from pathlib import Path

import numpy as np

from opendance_hf.formats.motion import Motion, one_file_a_dancer


def read(path: Path) -> Motion:
    """Read one dancer."""
    return Motion(np.loadtxt(path).reshape(1, -1, 24, 3), 60.0)


def write(motion: Motion, path: Path) -> list[Path]:
    """Write one file a dancer."""
    for dancer, file in one_file_a_dancer(motion, path):
        np.savetxt(file, dancer.joints[0].reshape(dancer.num_frames, -1), fmt="%.9g")
    return [file for _, file in one_file_a_dancer(motion, path)]
'''

USE_THE_FORMAT = """
import numpy as np
from opendance_hf.formats import opendance
from opendance_hf.formats.plaintext import read
from pathlib import Path
seq, back = (opendance.read(Path(name)) for name in ("seq.npz", "back.npz"))
assert np.array_equal(back.joints[0].astype(np.float32), seq.joints[1])
assert np.array_equal(read(Path("out_1.txt")).joints, back.joints)
"""


@pytest.mark.slow
def test_a_format_is_a_file_and_a_line(copied: Path, run: Callable[..., str], tmp_path: Path) -> None:
    (copied / "opendance_hf/formats/plaintext.py").write_text(FORMAT)
    insert_before(
        copied / "opendance_hf/formats/__init__.py",
        '    "aistpp": ',
        '    "plaintext": "opendance_hf.formats.plaintext",\n',
    )
    run(
        "-c",
        "from tests.factories import *; from opendance_hf.storage import *; save_sequence('seq.npz', make_sequence(3, 2))",
    )
    command = "from opendance_hf.cli import main; main()"
    said = run("-c", command, "convert", "plaintext", "seq.npz", "--out", "out.txt")
    assert "out_0.txt, out_1.txt" in said
    run("-c", command, "convert", "plaintext", "out_1.txt", "--out", "back.npz")
    run("-c", USE_THE_FORMAT)
    assert "plaintext" in run("-c", command, "convert", "--help")


DETECTOR = '''"""A detector for tests: one person, always in the same place."""

from dataclasses import dataclass

import numpy as np

from opendance_hf.pipeline.backends.base import Backend


@dataclass(frozen=True)
class OnePerson(Backend):
    """Finds one person.

    Args:
        score: of the box.
    """

    name = "one-person"
    version = "1"
    score: float = 0.9

    def load(self) -> "OnePerson":
        return self

    def detect(self, image):
        height, width = image.shape[:2]
        return np.array([[0.3 * width, 0.1 * height, 0.7 * width, 0.9 * height, self.score]], np.float32)
'''

ESTIMATOR = '''"""A pose estimator for tests: the landmarks of a known dance; the picture's grey tells the frame."""

from dataclasses import dataclass

import numpy as np

from opendance_hf.pipeline.backends.base import Backend, Keypoints, Region
from tests.pipeline.truth import camera_at, dance, landmarks_of, together


@dataclass(frozen=True)
class Known(Backend):
    """Knows the dance."""

    name = "known"
    version = "1"

    def load(self) -> "Known":
        truth = together([dance(0, 160, 20.0)], camera_at(), 20.0)
        object.__setattr__(self, "found", landmarks_of(truth))
        return self

    def region_of_box(self, box):
        return Region(float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2, float(box[3] - box[1]))

    def estimate(self, image, region):
        tens, ones = (round((float(image[20, x].mean()) - 40) / 12) for x in (20, 60))
        at = min(10 * tens + ones, 159)
        found, scale = self.found, image.shape[1] / 1280
        return Keypoints(
            found.image[0, at] * scale, found.world[0, at], found.visibility[0, at], 0.99, region
        )
'''

STAGE = '''"""A stage for tests: how much the dancers move up and down."""

from dataclasses import dataclass, replace

import numpy as np

from opendance_hf.pipeline.clip import Clip
from opendance_hf.pipeline.stage import Dropped, Stage


@dataclass(frozen=True)
class Bounce(Stage):
    """Adds the column ``bounce``.

    Args:
        max_m: sequences that bounce more are dropped.
    """

    name = "bounce"
    reads = ("motion",)
    writes = ("columns",)
    max_m: float = 9.0

    def __call__(self, clip: Clip) -> Clip | Dropped:
        bounce = np.ptp(clip.motion.joints[:, :, 0, 1], axis=1)
        if bounce.max() > self.max_m:
            return Dropped(clip.start_s, clip.end_s, "bounces", f"{bounce.max():.3f}, at most {self.max_m:g} allowed")
        return replace(clip, columns={**clip.columns, "bounce": bounce.astype(np.float32)})
'''

BOUNCE = '    bounce: Annotated[Floats | None, Column("float32", ("D",), unit="m", meaning="range of the pelvis height")] = None\n'


@pytest.fixture
def extended(copied: Path, repo: Path, tmp_path: Path) -> Path:
    """A copy with two backends, a stage and a column more, each one file at most and one line; and a video beside it."""
    backends = copied / "pipeline/backends"
    (backends / "one_person.py").write_text(DETECTOR)
    (backends / "known.py").write_text(ESTIMATOR)
    (copied / "pipeline/stages/bounce.py").write_text(STAGE)
    for role, name, place in (
        ("detector", "one-person", "one_person:OnePerson"),
        ("pose", "known", "known:Known"),
    ):
        line = f'        "{name}": "opendance_hf.pipeline.backends.{place}",\n'
        first = {"detector": '        "nanodet": ', "pose": '        "blazepose": '}[role]
        insert_before(backends / "__init__.py", first, line)
    insert_before(copied / "pipeline/pipelines.py", "        Sequence,\n", "        Bounce,\n")
    insert_before(
        copied / "pipeline/pipelines.py",
        "from opendance_hf.pipeline.stages.clean",
        "from opendance_hf.pipeline.stages.bounce import Bounce\n",
    )
    insert_before(copied / "opendance_hf/schema.py", "    genre: Annotated", BOUNCE)
    shutil.copytree(repo / "tests/pipeline", copied / "tests/pipeline")
    # A background with texture, so that the changing patches are not taken for a moving camera.
    wall = np.random.default_rng(0).integers(60, 180, (180, 320, 1)).repeat(3, axis=2).astype(np.uint8)
    pictures = [wall.copy() for _ in range(130)]
    for number, picture in enumerate(pictures):
        picture[:40, :40], picture[:40, 40:80] = 40 + 12 * (number // 10), 40 + 12 * (number % 10)
    write_clip(tmp_path / "dance.mkv", pictures, sound_s=(0.0, 6.5), codec="ffv1")
    return copied


USE_THE_STAGE = """
import numpy as np, yaml, subprocess, sys
from pathlib import Path
from datasets import load_dataset
from opendance_hf.pipeline.ledger import Ledger

def build(*options):
    command = [sys.executable, "-c", "from opendance_hf.cli import main; main()", "build", "dance.mkv", "--out", "set",
               "--workers", "1", "--no-previews", "--config", "pipeline.yaml", "--detector", "one-person", "--pose", "known"]
    done = subprocess.run([*command, *options], capture_output=True, text=True)
    ledger = Ledger(Path("set.build/ledger.sqlite"))
    ledger_path = ledger.items()[0].path
    runs, dropped = ledger.stages(ledger_path), ledger.dropped(ledger_path)
    ledger.close()
    computed = [name for name, run in runs.items() if run.computed]
    return done, computed, dropped

print_config = [sys.executable, "-c", "from opendance_hf.cli import main; main()", "build", "--print-config"]
stages = yaml.safe_load(subprocess.run(print_config, capture_output=True, text=True, check=True).stdout)
at = [next(iter(stage)) for stage in stages].index("sequence")
Path("pipeline.yaml").write_text(yaml.safe_dump([*stages[:at], {"bounce": {"max_m": 5.0}}, *stages[at:]]))

done, computed, _ = build()
assert done.returncode == 0, done.stdout + done.stderr
assert computed[:2] == ["probe", "detect"] and "bounce" in computed and "preview" not in computed
row = load_dataset("set", split="train")[0]
assert 0.01 < row["bounce"][0] < 1
names = {(backend["stage"], backend["name"]) for backend in row["provenance"]["backends"]}
assert names >= {("detect", "one-person"), ("pose", "known")}
config = Path("set.build/pipeline.yaml").read_text()
assert "max_m: 5.0" in config and "one-person" in config and len(row["provenance"]["pipeline"]) == 16

# The same again runs nothing; a gate's limit runs the gate and what follows; a stage's limit, less.
done, computed, _ = build()
assert done.returncode == 0 and "model weights" not in done.stdout
done, computed, _ = build("--licence", "mit")
assert done.returncode == 0 and "model weights" not in done.stdout
assert load_dataset("set", split="train")[0]["provenance"]["licence"] == "mit"
done, computed, _ = build("--set", "gate.max_camera_motion=0.6")
assert done.returncode == 0
passing = ["repair", "cut"]  # what they do takes no time, and is not kept
assert computed == [
    *passing, "gate", "clean", "confidence", "reprojection", "music", "genre", "bounce", "sequence", "fingerprint"
], computed
done, computed, _ = build("--set", "gate.max_camera_motion=0.6", "--set", "bounce.max_m=4")
assert computed == [*passing, "bounce", "sequence", "fingerprint"], computed
done, computed, dropped = build("--set", "bounce.max_m=0.001")
assert done.returncode == 1 and "bounces (" in done.stdout and "at most 0.001 allowed" in done.stdout
"""


@pytest.mark.slow
def test_backends_a_stage_and_a_column_are_files_and_lines(extended: Path, run: Callable[..., str]) -> None:
    run("-c", USE_THE_STAGE)
