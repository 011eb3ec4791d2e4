"""A column is one line, a format one file and one line: planted in a copy of the package and used there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def copied(repo: Path, tmp_path: Path) -> Path:
    """A copy of the package and the factories, with the symlinks of the package."""
    ignore = shutil.ignore_patterns("__pycache__")
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
assert np.array_equal(samples[0]["energy.npy"], energy) and samples[1]["energy.npy"].shape == (0, 4)
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
