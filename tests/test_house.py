"""The house rules: every source file is in the wheel once, dependencies are pinned, functions are short."""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from tests.wheel_check import modules_of, sources_of

ROOMS = ("modeling", "pipeline", "loading_scripts")
#: Folders whose functions stay short. Commands of the command line and published configurations have as many parameters
#: as they have options.
SHORT = ("pipeline", "modeling", "opendance_hf", "loading_scripts")
WIDE = ("cli.py", "configuration_*.py")
MAX_BODY_LINES = 60
MAX_PARAMETERS = 8


@pytest.fixture(scope="module")
def wheel(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    # Built from a copy: setuptools leaves build/ and *.egg-info behind, and takes stale files from them.
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("opendance_hf", *ROOMS):
        shutil.copytree(repo / name, source / name, symlinks=True, ignore=ignore)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(repo / name, source)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(dist), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = dist.glob("*.whl")
    return path


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_are_relative_symlinks(repo: Path, room: str) -> None:
    link = repo / "opendance_hf" / room
    assert link.is_symlink(), "the clone has no symlinks: git config core.symlinks true, then check out again"
    assert link.readlink() == Path("..", room)


def test_every_source_is_in_the_wheel_once(repo: Path, wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = Counter(name for name in archive.namelist() if ".dist-info/" not in name)
    wanted = {path.as_posix() for path in sources_of(repo)}
    assert {name for name in names if name.endswith(".py")} == wanted
    assert set(names.values()) == {1}
    assert all(name.startswith("opendance_hf/") for name in names)
    assert len([name for name in wanted if name.startswith("opendance_hf/loading_scripts/")]) >= 2


def test_package_data_is_in_the_wheel(repo: Path, wheel: Path) -> None:
    suffixes = tomllib.loads((repo / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["*"]
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    for path in sources_of(repo, ""):
        if path.suffix not in (".py", ".pyc"):
            assert path.as_posix() in names, f"{path} is not in the wheel; package-data has {suffixes}"
    assert "opendance_hf/storage/dataset_card.md.jinja" in names
    assert "opendance_hf/py.typed" in names
    assert {f"opendance_hf/body/{name}" for name in ("body.npz", "LICENSE.md", "README.md")} <= names


def test_modules_are_found_through_symlinks(repo: Path) -> None:
    modules = modules_of(repo)
    assert {"opendance_hf", "opendance_hf.schema", "opendance_hf.loading_scripts.opendance_3d"} <= set(
        modules
    )
    assert len(modules) == len(set(modules))


def test_every_dependency_is_pinned(repo: Path) -> None:
    project = tomllib.loads((repo / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    wanted = [spec for part in (project["dependencies"], *extras) for spec in part]
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (repo / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    for spec in wanted:
        name = spec.lower().replace("_", "-")
        for sign in "[<>=":
            name = name.split(sign)[0]
        assert name in pins or name == "opendance-hf", f"{name} is not in constraints.txt"
    assert all("+" not in version for version in pins.values())


def functions_of(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of the body, its docstring left out."""
    body = function.body[ast.get_docstring(function) is not None :]
    return (function.end_lineno or 0) - body[0].lineno + 1 if body else 0


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters that a caller may give, keyword-only ones included; self and cls are not given."""
    arguments = function.args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
    given = [name for i, name in enumerate(names) if not (i == 0 and name in ("self", "cls"))]
    return len(given) + (arguments.vararg is not None) + (arguments.kwarg is not None)


@pytest.mark.parametrize("place", SHORT)
def test_functions_are_short_and_signatures_too(repo: Path, place: str) -> None:
    path = repo / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files
    for file in files:
        for function in functions_of(file):
            where = f"{file.relative_to(repo)}:{function.lineno} {function.name}"
            assert body_lines(function) <= MAX_BODY_LINES, where
            if not any(file.match(pattern) for pattern in WIDE):
                assert parameters(function) <= MAX_PARAMETERS, where


def test_long_functions_would_be_noticed(tmp_path: Path) -> None:
    lines = "".join(f"    x = {i}\n" for i in range(61))
    text = f'def long(a, *, b, c, d, e, f, g, h, i):\n    """Doc.\n\n    Doc.\n    """\n{lines}'
    (tmp_path / "a.py").write_text(text)
    (function,) = functions_of(tmp_path / "a.py")
    assert (body_lines(function), parameters(function)) == (61, 9)
