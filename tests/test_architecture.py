"""The import contract of pyproject.toml holds, and would notice if it did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOMS = ("modeling", "pipeline", "loading_scripts")


@pytest.fixture
def house(repo: Path, tmp_path: Path) -> Path:
    """A copy of the source tree, symlinks as they are, to plant imports in."""
    for name in ("opendance_hf", *ROOMS):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(repo / name, tmp_path / name, symlinks=True, ignore=ignore)
    shutil.copy(repo / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(house: Path) -> tuple[int, str]:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=house, capture_output=True, text=True, timeout=120
    )
    return done.returncode, done.stdout + done.stderr


def plant(path: Path, statement: str) -> None:
    with path.open("a") as file:
        file.write(f"\n\n{statement}\n")


def test_contract_holds(house: Path) -> None:
    code, output = lint_imports(house)
    assert code == 0, output
    assert "2 kept, 0 broken" in output
    for room in ROOMS:
        assert (house / "opendance_hf" / room).is_symlink()


@pytest.mark.parametrize(
    ("file", "statement", "arrow"),
    [
        (
            "opendance_hf/motion/body.py",
            "import opendance_hf.pipeline",
            "motion.body -> opendance_hf.pipeline",
        ),
        (
            "opendance_hf/motion/body.py",
            "def lazy():\n    import opendance_hf.pipeline",
            "motion.body -> opendance_hf.pipeline",
        ),
        ("opendance_hf/schema.py", "from opendance_hf import modeling", "schema -> opendance_hf.modeling"),
        (
            "loading_scripts/opendance_3d.py",
            "import opendance_hf.modeling",
            "loading_scripts.opendance_3d -> opendance_hf.modeling",
        ),
        ("pipeline/__init__.py", "import opendance_hf.modeling", "pipeline -> opendance_hf.modeling"),
        ("modeling/__init__.py", "import opendance_hf.door_of_tomorrow", "door_of_tomorrow"),
        ("opendance_hf/motion/body.py", "import opendance_hf.storage", "motion.body -> opendance_hf.storage"),
        (
            "opendance_hf/render/camera.py",
            "import opendance_hf.storage",
            "render.camera -> opendance_hf.storage",
        ),
    ],
)
def test_contract_notices(house: Path, file: str, statement: str, arrow: str) -> None:
    if "tomorrow" in statement:
        (house / "opendance_hf/door_of_tomorrow.py").write_text("")
    plant(house / file, statement)
    code, output = lint_imports(house)
    assert code != 0
    assert arrow in output


@pytest.mark.parametrize(
    ("file", "statement", "arrow"),
    [
        (
            "opendance_hf/synthetic/choreography.py",
            "from opendance_hf.synthetic import clips",
            ".choreography -> .clips",
        ),
        (
            "opendance_hf/storage/splits.py",
            "def lazy():\n    from opendance_hf.storage import pack",
            ".splits -> .pack",
        ),
    ],
)
def test_contract_notices_cycles(house: Path, file: str, statement: str, arrow: str) -> None:
    plant(house / file, statement)
    code, output = lint_imports(house)
    assert code != 0
    assert arrow in output


def test_the_pipeline_may_run_the_estimators(house: Path) -> None:
    (house / "modeling/cliff").mkdir(exist_ok=True)
    (house / "modeling/cliff/__init__.py").write_text("")
    (house / "modeling/cliff/planted.py").write_text("")
    (house / "pipeline/planted.py").write_text("from opendance_hf.modeling.cliff import planted\n")
    code, output = lint_imports(house)
    assert code == 0, output
