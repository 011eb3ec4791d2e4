"""``opendance clean``: files in, clean files out, with a table; wrong uses are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cleanup.bodies import Body
from opendance_hf.cli import app
from opendance_hf.formats import opendance
from opendance_hf.formats.motion import Motion
from tests.cleanup.dancers import stepping_dancer


def drifting(dancers: int) -> Motion:
    """A motion of dancers 2 m apart who glide over the floor."""
    bodies: list[Body] = []
    for number in range(dancers):
        body = stepping_dancer(180, seed=number)
        body.pelvis[:, 0] += 2 * number + 0.05 * np.sin(np.arange(180) / 10)
        bodies.append(body)
    return Motion(
        np.stack([body.joints for body in bodies]),
        60.0,
        poses=np.stack([body.poses for body in bodies]),
        transl=np.stack([body.transl for body in bodies]),
        rest_offsets=np.stack([body.rest_offsets for body in bodies]),
        meta={"id": "glide", "group": "song", "ground": 0.0, "music_beats": (0, 30, 60)},
    )


def run(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["clean", *map(str, arguments)])
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


def test_a_dance_is_cleaned_with_a_table(tmp_path: Path) -> None:
    source, out = tmp_path / "glide.npz", tmp_path / "made" / "clean.npz"
    opendance.write(drifting(2), source)
    before = source.read_bytes()
    code, text = run(source, "--out", out)
    assert code == 0, text
    assert "feet in contact slide, cm/s" in text
    assert "mean distance from the input, mm" in text
    found = opendance.read(out)
    assert found.num_dancers == 2
    assert found.meta == opendance.read(source).meta
    assert source.read_bytes() == before
    assert np.abs(found.joints - opendance.read(source).joints).max() > 0.01


def test_several_go_into_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        opendance.write(drifting(1), tmp_path / f"{name}.npz")
    code, text = run(tmp_path / "a.npz", tmp_path / "b.npz", "--out", tmp_path / "clean")
    assert code == 0, text
    assert sorted(path.name for path in (tmp_path / "clean").iterdir()) == ["a.npz", "b.npz"]


def test_a_floor_may_be_given(tmp_path: Path) -> None:
    motion = drifting(1)
    raised = Motion(motion.joints + np.array([0, 1.0, 0]), 60.0, meta={"id": "x"})
    opendance.write(raised, tmp_path / "x.npz")
    for option in ([], ["--floor", 1.0]):
        code, text = run(tmp_path / "x.npz", "--out", tmp_path / "y.npz", *option)
        assert code == 0, text
        toes = opendance.read(tmp_path / "y.npz").joints[0, :, [10, 11], 1]
        assert toes.min() == pytest.approx(1.025, abs=0.02)
        assert opendance.read(tmp_path / "y.npz").meta["ground"] == pytest.approx(1.0, abs=0.01)
        (tmp_path / "y.npz").unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.npz", "--out", "a.npz"], "would be overwritten"),
        (["a.npz", "--out", "."], "would be overwritten"),
        (["a.npz", "b.npz", "--out", "c.npz"], "a folder"),
        (["a.npz", "--out", "c.pkl"], "ends in .npz"),
        (["a.npz", "--out", "b.npz"], "--overwrite"),
        (["a.npz", "--out", "c.npz", "--floor", "nan"], "floor must be finite"),
        (["song.npz", "--out", "c.npz"], "opendance convert"),
        (["short.npz", "--out", "c.npz"], "short.npz: joints must be"),
    ],
)
def test_wrong_uses_are_named(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        opendance.write(drifting(1), tmp_path / f"{name}.npz")
    np.savez(tmp_path / "song.npz", music=np.zeros(3))
    opendance.write(Motion(drifting(1).joints[:, :3], 60.0), tmp_path / "short.npz")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    code, text = run(*arguments)
    assert code == 2, text
    assert words in text
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
