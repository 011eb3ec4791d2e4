"""Our own files; what damaged ones say is tested through ``opendance evaluate`` (tests/apps/test_evaluate.py)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.formats import FormatError
from opendance_hf.formats.opendance import is_opendance_file, motion_of, read, write
from opendance_hf.schema import per_dancer
from opendance_hf.storage import save_sequence
from tests.factories import make_sequence
from tests.formats.test_motion import motion


@pytest.mark.parametrize("num_dancers", [1, 2, 3])
def test_round_trip(tmp_path: Path, num_dancers: int) -> None:
    one = motion(num_dancers)
    (path,) = write(one, tmp_path / "new" / "a.npz")
    assert read(path) == one
    assert is_opendance_file(path)


@pytest.mark.parametrize("full", [True, False])
def test_a_sequence_is_read_whole(tmp_path: Path, full: bool) -> None:
    seq = make_sequence(3, 2, full=full)
    path = save_sequence(tmp_path / "s.npz", seq)
    assert is_opendance_file(path)
    found = read(path)
    assert found == motion_of(seq)
    np.testing.assert_array_equal(found.joints, per_dancer(seq.joints, 2, 24, 3))
    np.testing.assert_array_equal(found.confidence, seq.confidence.T)
    assert (found.betas is None) == (not full)
    assert found.meta["music_beats"] == tuple(seq.music_beats)


def test_dances_as_generate_writes_them(tmp_path: Path) -> None:
    one = motion(1)
    np.savez(
        tmp_path / "a.npz",
        joints=one.joints[0],
        smpl_pose=one.poses[0],
        smpl_transl=one.transl[0],
        rest_offsets=one.rest_offsets[0],
        music_beats=np.array([0, 3]),
        fps=np.int32(60),
        seed=np.int64(0),
        notes=np.array([{"any": "object"}], dtype=object),
    )
    found = read(tmp_path / "a.npz")
    for name in ("joints", "poses", "transl", "rest_offsets"):
        np.testing.assert_array_equal(getattr(found, name), getattr(one, name))
    assert found.meta == {"music_beats": (0, 3)}


def test_an_array_of_another_size_is_named(tmp_path: Path) -> None:
    one = motion(1)
    np.savez(tmp_path / "a.npz", joints=one.joints, smpl_pose=one.poses[:, :-1])
    with pytest.raises(FormatError, match=r"a\.npz.*poses"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("rest_offsets", np.array(0.0), r"'rest_offsets' has the shape \(\), expected 1 axes"),
        ("smpl_betas", np.array(2**40), r"'smpl_betas' has the shape \(\), expected 1 axes"),
        ("music_beats", np.array(0), r"'music_beats' has the shape \(\), expected 1 axes"),
        ("num_dancers", np.array(True), "does not match num_dancers True"),
    ],
)
def test_a_column_with_other_axes_is_named(
    tmp_path: Path, name: str, value: np.ndarray, message: str
) -> None:
    path = save_sequence(tmp_path / "a.npz", make_sequence(0))
    with np.load(path) as archive:
        arrays = dict(archive)
    np.savez(path, **{**arrays, name: value})
    with pytest.raises(FormatError, match=message) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_a_sequence_becomes_a_dance_by_the_command(tmp_path: Path) -> None:
    seq = make_sequence(3, 2)
    source = save_sequence(tmp_path / "s.npz", seq)
    done = CliRunner().invoke(app, ["convert", "opendance", str(source), "--out", str(tmp_path / "d.npz")])
    assert done.exit_code == 0, done.output
    assert read(tmp_path / "d.npz") == motion_of(seq)


def test_other_files_are_not_ours(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", keypoints3d=np.zeros(3))
    (tmp_path / "b.npz").write_bytes(b"noise")
    assert not any(is_opendance_file(tmp_path / name) for name in ("a.npz", "b.npz", "c.npz"))
