"""A command whose optional packages are missing names a remedy that works."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from opendance_hf.errors import EXTRAS, missing_extra
from opendance_hf.pipeline.ledger import Ledger
from tests.test_house import ROOMS


def test_every_extra_has_its_packages(repo: Path) -> None:
    extras = tomllib.loads((repo / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) == set(extras) - {"all", "dev"}
    for module, extra in EXTRAS.items():
        message = missing_extra(ModuleNotFoundError(f"No module named {module!r}", name=f"{module}.part"))
        assert message is not None
        assert f'pip install ".[{extra}]"' in message
    assert missing_extra(ModuleNotFoundError("No module named 'numpy'", name="numpy")) is None


def test_no_remedy_names_a_package_index(repo: Path) -> None:
    for room in ("opendance_hf", *ROOMS):
        for path in (repo / room).rglob("*.py"):
            assert "opendance-hf[" not in path.read_text(encoding="utf-8"), path


@pytest.mark.parametrize(
    ("module", "extra", "command"),
    [("starlette", "inspect", ["inspect", "b"]), ("cv2", "pipeline", ["build", "b"])],
)
def test_commands_without_their_packages_are_one_line(
    tmp_path: Path, module: str, extra: str, command: list[str]
) -> None:
    (tmp_path / "b").mkdir()
    Ledger(tmp_path / "b" / "ledger.sqlite").close()
    program = f"import sys; sys.modules[{module!r}] = None; from opendance_hf.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, *command], cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert module in line
    assert f'pip install ".[{extra}]"' in line
