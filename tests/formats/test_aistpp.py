"""Motions of AIST++; what its reader refuses is tested through ``opendance evaluate`` (tests/apps/test_evaluate.py)."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.formats import FormatError, opendance
from opendance_hf.formats.aistpp import read, write
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS
from opendance_hf.storage import save_sequence
from tests.factories import make_sequence


def motion() -> Motion:
    rng = np.random.default_rng(0)
    poses, transl = rng.normal(0, 0.2, (1, 7, 24, 3)), rng.normal(0, 1, (1, 7, 3))
    joints = forward_kinematics(poses, transl, MEAN_OFFSETS)
    meta = {"id": "gBR_sBM_cAll_d04_mBR0_ch01", "group": "mBR0"}
    return Motion(joints, 60, poses, transl, MEAN_OFFSETS[None], meta=meta)


def test_round_trip(tmp_path: Path) -> None:
    (path,) = write(motion(), tmp_path / "gBR_sBM_cAll_d04_mBR0_ch01.pkl")
    assert read(path) == motion()
    content = pickle.loads(path.read_bytes())
    assert {name: value.shape for name, value in content.items()} == {
        "smpl_poses": (7, 72),
        "smpl_trans": (7, 3),
        "smpl_scaling": (1,),
    }


def test_what_the_format_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"a\.pkl.*SMPL poses"):
        write(replace(motion(), poses=None), tmp_path / "a.pkl")
    with pytest.raises(FormatError, match=r"a\.pkl.*30.*60"):
        write(replace(motion(), fps=30.0), tmp_path / "a.pkl")


def test_both_ways_by_the_command(tmp_path: Path) -> None:
    seq = make_sequence(3, num_dancers=2)
    source = save_sequence(tmp_path / "s.npz", seq)
    run = CliRunner().invoke
    done = run(app, ["convert", "aistpp", str(source), "--out", str(tmp_path / "a.pkl")])
    assert done.exit_code == 0, done.output
    assert "a_0.pkl, a_1.pkl" in done.output
    done = run(app, ["convert", "aistpp", str(tmp_path / "a_1.pkl"), "--out", str(tmp_path / "d.npz")])
    assert done.exit_code == 0, done.output
    found = opendance.read(tmp_path / "d.npz")
    np.testing.assert_array_equal(found.poses[0], opendance.motion_of(seq).poses[1])
    assert found.meta == {"id": "a_1"}
