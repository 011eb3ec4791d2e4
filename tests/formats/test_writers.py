"""AMASS, smplcodec and tables: what is written comes back."""

from __future__ import annotations

import csv
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.formats import FormatError, amass, csvtable, opendance, smplcodec
from opendance_hf.formats.detect import format_of
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import MEAN_OFFSETS


def duet(frames: int = 30, *, fps: float = 60, hands: bool = False) -> Motion:
    rng = np.random.default_rng(0)
    time = np.linspace(0, 3, frames)[None, :, None, None]
    poses = 0.3 * np.sin(2 * np.pi * (time + rng.uniform(size=(2, 1, 24, 3))))
    poses[:, :, 0] *= [0.2, 2.0, 0.2]
    if not hands:
        poses[:, :, 22:] = 0
    transl = np.stack(
        [np.sin(time[0, :, 0, 0]), 0.9 + 0 * time[0, :, 0, 0], np.cos(time[0, :, 0, 0])], axis=-1
    )
    transl = np.stack([transl, np.add(transl, [1.0, 0, 0])])
    rest = np.repeat(MEAN_OFFSETS[None].astype(np.float64), 2, axis=0)
    return Motion(forward_kinematics(poses, transl, rest[:, None]), fps, poses, transl, rest)


def same(again: Motion, motion: Motion, atol: float = 1e-6) -> None:
    """Compare positions in metres and rotations as matrices."""
    np.testing.assert_allclose(again.joints, motion.joints, atol=atol)
    assert again.poses is not None
    assert motion.poses is not None
    np.testing.assert_allclose(
        axis_angle_to_matrix(again.poses), axis_angle_to_matrix(motion.poses), atol=atol
    )
    assert again.fps == motion.fps


def test_amass_comes_back(tmp_path: Path) -> None:
    motion = duet()
    files = amass.write(motion, tmp_path / "d.npz")
    assert [file.name for file in files] == ["d_0.npz", "d_1.npz"]
    for index, file in enumerate(files):
        assert format_of(file) == "amass"
        same(amass.read(file), motion.dancer(index), 1e-7)
    content = np.load(files[0])
    assert {name: content[name].shape for name in content.files} == {
        "poses": (30, 156), "trans": (30, 3), "betas": (16,), "dmpls": (30, 8), "gender": (), "mocap_framerate": (),
    }  # fmt: skip
    # z points up; the translation is that of SMPL-H, whose pelvis at rest is (-0.002, -0.241, 0.029) from its origin.
    x, y, z = motion.joints[0, :, 0].T
    pelvis = content["trans"] + [-0.00217, -0.24079, 0.02858]
    np.testing.assert_allclose(pelvis, np.column_stack([x, -z, y]), atol=1e-4)
    assert content["gender"] == "neutral"


def test_smplcodec_comes_back(tmp_path: Path) -> None:
    motion = duet(fps=120)
    files = smplcodec.write(motion, tmp_path / "d.smpl")
    for index, file in enumerate(files):
        assert format_of(file) == "smplcodec"
        same(smplcodec.read(file), motion.dancer(index), 2e-6)
    # Only the types that the format has.
    content = np.load(files[0])
    assert {str(content[name].dtype) for name in content.files} == {"int32", "float32"}
    assert content["bodyPose"].shape == (30, 22, 3)
    assert (content["smplVersion"], content["frameCount"], content["frameRate"]) == (2, 30, 120)
    turning = duet(hands=True)
    same(
        smplcodec.read(smplcodec.write(turning.dancer(0), tmp_path / "h.smpl", body="smpl")[0]),
        turning.dancer(0),
        2e-6,
    )


def test_lost_hands_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for module, name in ((amass, "a.npz"), (smplcodec, "a.smpl")):
        caplog.clear()
        module.write(duet(), tmp_path / name)
        assert not caplog.text
        module.write(duet(hands=True), tmp_path / name)
        assert "hands" in caplog.text


def smpl_file(path: Path, **changes: object) -> Path:
    content = dict(np.load(smplcodec.write(duet().dancer(0), path)[0]))
    content |= changes
    with path.open("wb") as file:
        np.savez(file, **{name: value for name, value in content.items() if value is not None})
    return path


def test_smplcodec_as_others_write_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # SMPL-H with hands and without a codec version, as files of version 1.
    read = smplcodec.read(
        smpl_file(
            tmp_path / "a.smpl", codecVersion=None, smplVersion=np.int32(1), leftHandPose=np.ones((30, 15, 3))
        )
    )
    pelvis = duet().joints[0, :, 0] + np.subtract([-0.00217, -0.24079, 0.02858], [0.00312, -0.35141, 0.01206])
    np.testing.assert_allclose(read.joints[0, :, 0], pelvis, atol=1e-4)
    still = smplcodec.read(smpl_file(tmp_path / "b.smpl", bodyTranslation=None))
    assert np.ptp(still.joints[0, :, 0], axis=0).max() < 1e-6
    assert "bodyTranslation" in caplog.text
    with pytest.raises(FormatError, match="do not have the frame rate"):
        smplcodec.read(smpl_file(tmp_path / "c.smpl", frameRate=None))
    assert smplcodec.read(tmp_path / "c.smpl", fps=25).fps == 25
    with pytest.raises(FormatError, match=r"\(30, 22, 3\).*\(31, 22, 3\)"):
        smplcodec.read(smpl_file(tmp_path / "d.smpl", frameCount=np.int32(31)))
    with pytest.raises(FormatError, match="smplVersion 5"):
        smplcodec.read(smpl_file(tmp_path / "e.smpl", smplVersion=np.int32(5)))
    with pytest.raises(FormatError, match=r"codecVersion.*expected bodyPose"):
        smplcodec.read(smpl_file(tmp_path / "f.smpl", bodyPose=None))
    lying = np.zeros((30, 22, 3), np.float32)
    lying[:, 0, 0] = np.pi / 2
    with pytest.raises(FormatError, match="Which axis"):
        smplcodec.read(smpl_file(tmp_path / "g.smpl", bodyPose=lying))


@pytest.mark.parametrize("fps", [60, 24, 29.97, 30000 / 1001])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_table_comes_back_to_the_last_bit(fps: float, dtype: type, tmp_path: Path) -> None:
    motion = duet(fps=fps, hands=True)
    motion = replace(
        motion,
        **{
            name: getattr(motion, name).astype(dtype)
            for name in ("joints", "poses", "transl", "rest_offsets")
        },
    )
    (path,) = csvtable.write(motion, tmp_path / "d.csv")
    assert format_of(path) == "csv"
    again = csvtable.read(path)
    np.testing.assert_array_equal(again.joints, motion.joints)
    np.testing.assert_array_equal(again.poses, motion.poses)
    assert again.fps == pytest.approx(fps, abs=1e-6)
    assert again.rest_offsets is not None
    np.testing.assert_allclose(again.rest_offsets[:, 1:], motion.rest_offsets[:, 1:], atol=1e-6)
    (path,) = csvtable.write(replace(motion, poses=None), tmp_path / "j.csv")
    np.testing.assert_array_equal(csvtable.read(path).joints, motion.joints)
    assert csvtable.read(path).poses is None


def test_a_table_is_one_that_a_person_reads(tmp_path: Path) -> None:
    (path,) = csvtable.write(duet(2), tmp_path / "d.csv")
    with path.open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["frame"], row["dancer"]) for row in rows] == [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")]
    assert float(rows[2]["time_s"]) == pytest.approx(1 / 60)
    assert float(rows[1]["left_wrist_y_m"]) == duet(2).joints[1, 0, 20, 1]
    assert float(rows[1]["left_elbow_rz_rad"]) == duet(2).poses[1, 0, 18, 2]
    # As a spreadsheet saves it: other order, a column more, a byte order mark.
    other = sorted(rows, key=lambda row: row["dancer"])
    with path.open("w", encoding="utf-8-sig") as file:
        table = csv.DictWriter(file, ["note", *reversed(rows[0])])
        table.writeheader()
        table.writerows([{"note": "x", **row} for row in other])
    same(csvtable.read(path), duet(2))


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda lines: lines[:-1], "rows are missing"),
        (lambda lines: [*lines, lines[-1]], "there twice"),
        (lambda lines: [*lines[:-1], lines[-1][:100]], "line 7.*damaged"),
        (lambda lines: [lines[0].replace("head_y_m", "head_y"), *lines[1:]], "1 columns are missing, such as head_y_m"),
        (lambda lines: [line.replace(",", ";") for line in lines], "commas"),
        (lambda lines: lines[:1], "no rows"),
        (lambda lines: [], "columns are missing"),
        (lambda lines: [*lines[:-2], *(line.replace("2,", "4,", 1) for line in lines[-2:])], "rows are missing"),
        (lambda lines: [*lines[:-2], *(line.replace("0.0333", "0.0433") for line in lines[-2:])], "evenly"),
        (lambda lines: [*lines[:-1], lines[-1].replace(",1,", ",nan,", 1)], "finite"),
        (lambda lines: [lines[0], '"' + lines[1], *lines[1:2] * 200], "table of text"),
    ],
)  # fmt: skip
def test_a_damaged_table_is_named(change: object, fact: str, tmp_path: Path) -> None:
    (path,) = csvtable.write(duet(3), tmp_path / "d.csv")
    lines = path.read_text().splitlines()
    path.write_text("\n".join(change(lines)))  # type: ignore[operator]
    with pytest.raises(FormatError, match=fact) as error:
        csvtable.read(path)
    assert str(error.value).startswith(str(path))


def test_a_table_whose_joints_were_moved_has_joints_only(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    motion = duet()
    moved = motion.joints.copy()
    moved[0, 3, 20, 1] += 0.2
    (path,) = csvtable.write(replace(motion, joints=moved), tmp_path / "d.csv")
    again = csvtable.read(path)
    assert again.poses is None
    np.testing.assert_array_equal(again.joints, moved)
    assert "disagree by 0.19" in caplog.text
    (path,) = csvtable.write(duet(1), tmp_path / "one.csv")
    with pytest.raises(FormatError, match="--fps"):
        csvtable.read(path)
    assert csvtable.read(path, fps=30).fps == 30


def test_the_command_writes_and_reads_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    source = opendance.write(duet(), tmp_path / "dance.npz")[0]
    for name, suffix, first in (
        ("csv", ".csv", "x.csv"),
        ("amass", ".npz", "x_0.npz"),
        ("smplcodec", ".smpl", "x_0.smpl"),
    ):
        done = CliRunner().invoke(app, ["convert", name, str(source), "--out", str(tmp_path / f"x{suffix}")])
        assert done.exit_code == 0, done.output
        done = CliRunner().invoke(
            app, ["convert", name, str(tmp_path / first), "--out", str(tmp_path / f"back_{name}.npz")]
        )
        assert done.exit_code == 0, done.output
        again = opendance.read(tmp_path / f"back_{name}.npz")
        np.testing.assert_allclose(again.joints, duet().joints[: again.num_dancers], atol=1e-5)
