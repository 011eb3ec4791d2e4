"""MMHuman3D's HumanData: what it reads of ours, what we read of its, and what is never unpickled."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.data.windows import _load_motion
from opendance_hf.formats import FormatError, opendance
from opendance_hf.formats.humandata import SMPL_TO_HUMAN_DATA, read, write
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_NAMES, MEAN_OFFSETS
from opendance_hf.pickles import PickleError, load_pickled_arrays
from opendance_hf.schema import per_dancer
from opendance_hf.storage import save_sequence
from tests.factories import make_sequence

RNG = np.random.default_rng(0)
POSES = RNG.normal(0, 0.3, (5, 24, 3)).astype(np.float32)
TRANSL = RNG.normal(size=(5, 3)).astype(np.float32)
SMPL = {"body_pose": POSES[:, 1:], "global_orient": POSES[:, 0]}
JOINTS = np.asarray(forward_kinematics(POSES, TRANSL, MEAN_OFFSETS), dtype=np.float32)


def theirs(path: Path, **changes: Any) -> Path:
    """A file as MMHuman3D's ``HumanData.dump`` writes it: whatever is in the dictionary, through savez."""
    keypoints = np.zeros((5, 190, 4))
    keypoints[:, :22, :3], keypoints[:, 188:, :3] = JOINTS[:, :22], JOINTS[:, 22:]
    keypoints[..., 3] = 0.75
    mask = np.zeros(190, dtype=np.uint8)
    mask[[*range(22), 188, 189]] = 1
    content: dict[str, Any] = {
        "__key_strict__": False,
        "__temporal_len__": 5,
        "__keypoints_compressed__": False,
        "image_path": [f"{i}.jpg" for i in range(5)],
        "bbox_xywh": np.ones((5, 5)),
        "smpl": {
            "body_pose": POSES[:, 1:],
            "global_orient": POSES[:, 0],
            "betas": np.ones((5, 10)),
            "transl": TRANSL,
        },
        "keypoints3d": keypoints,
        "keypoints3d_mask": mask,
        "meta": {"gender": ["neutral"] * 5},
        "config": "made up",
    }
    np.savez_compressed(path, **(content | changes))
    return path


def test_the_table_of_names() -> None:
    assert len(SMPL_TO_HUMAN_DATA) == 24
    assert SMPL_TO_HUMAN_DATA[JOINT_NAMES.index("right_wrist")] == 21
    assert SMPL_TO_HUMAN_DATA[JOINT_NAMES.index("left_hand")] == 188


def motion(**changes: Any) -> Motion:
    """A motion of one dancer with all that the format holds."""
    values: dict[str, Any] = {
        "poses": POSES[None],
        "transl": TRANSL[None],
        "betas": np.arange(10, dtype=np.float32)[None],
        "confidence": np.full((1, 5), 0.5, np.float32),
        "meta": {"id": "a", "take": 3},
    }
    return Motion(JOINTS[None], 30.0, **(values | changes))


@pytest.mark.parametrize("compressed", [False, True])
def test_round_trip(tmp_path: Path, compressed: bool) -> None:
    (path,) = write(motion(), tmp_path / "a.npz", compressed=compressed)
    assert read(path) == motion()
    # As MMHuman3D's own load sees it (which unpickles, so only what we have written ourselves).
    with np.load(path, allow_pickle=True) as archive:
        loaded = {key: value.item() if value.shape == () else value for key, value in archive.items()}
    assert loaded["__temporal_len__"] == 5
    assert type(loaded["smpl"]) is dict
    assert loaded["smpl"]["body_pose"].shape == (5, 23, 3)
    assert loaded["keypoints3d"].shape == (5, 24 if compressed else 190, 4)
    assert loaded["keypoints3d_mask"].sum() == 24
    assert loaded["keypoints3d_convention"] == "human_data"


@pytest.mark.parametrize("flat", [False, True])
def test_their_files(tmp_path: Path, flat: bool) -> None:
    smpl = {"body_pose": POSES[:, 1:].reshape(5, 69), "global_orient": POSES[:, 0]}
    found = read(theirs(tmp_path / "a.npz", **({"smpl": smpl} if flat else {})))
    np.testing.assert_array_equal(found.poses, POSES[None])
    np.testing.assert_allclose(found.joints, JOINTS[None])
    assert found.fps == 60
    np.testing.assert_allclose(found.confidence, 0.75)
    assert (found.betas is None) == flat
    np.testing.assert_array_equal(found.transl, [np.zeros((5, 3)) if flat else TRANSL])


@pytest.mark.parametrize(("convention", "count"), [("smpl", 24), ("smpl_45", 45)])
def test_keypoints_of_smpl_itself(tmp_path: Path, convention: str, count: int) -> None:
    points = np.concatenate([JOINTS, np.full((5, count - 24, 3), 9.0)], axis=1)
    path = theirs(tmp_path / "a.npz", keypoints3d=points, keypoints3d_convention=convention)
    np.testing.assert_allclose(read(path).joints, JOINTS[None])


def test_joints_that_are_missing_are_those_of_the_mean_skeleton(tmp_path: Path) -> None:
    mask = np.zeros(190, dtype=np.uint8)
    mask[:20] = 1
    found = read(theirs(tmp_path / "a.npz", keypoints3d_mask=mask))
    np.testing.assert_allclose(found.joints[0], JOINTS, atol=1e-6)
    np.testing.assert_allclose(found.rest_offsets, MEAN_OFFSETS[None], atol=1e-6)


def test_joints_alone_are_enough(tmp_path: Path) -> None:
    alone = motion(poses=None, transl=None, betas=None)
    (path,) = write(alone, tmp_path / "a.npz")
    assert read(path) == alone


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch pwned",)


def test_nothing_of_a_file_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for smpl in ({"body_pose": Evil()}, Evil(), [Evil()], np.array([{}, {}], dtype=object)):
        with pytest.raises(FormatError, match="nothing of it was executed") as error:
            read(theirs(tmp_path / "a.npz", smpl=smpl))
        assert "a.npz: smpl: " in str(error.value)
    # Members that are not read may hold anything.
    theirs(tmp_path / "a.npz", misc=np.array(Evil(), dtype=object))
    read(tmp_path / "a.npz")
    assert not (tmp_path / "pwned").exists()


def test_objects_stay_out_of_pickles_of_arrays(tmp_path: Path) -> None:
    for value in (np.array({"a": 1}, dtype=object), np.array([1, "x"], dtype=object)):
        import pickle

        (tmp_path / "a.pkl").write_bytes(pickle.dumps({"x": value}))
        with pytest.raises(PickleError):
            load_pickled_arrays(tmp_path / "a.pkl")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"smpl": {"body_pose": POSES[:, 1:]}}, "no global_orient"),
        (
            {"smpl": {"body_pose": POSES[:3, 1:], "global_orient": POSES[:, 0]}},
            "global_orient and body_pose have 5 and 3 frames",
        ),
        ({"keypoints3d": np.zeros((5, 17, 4))}, "17 keypoints of convention 'human_data', expected 190"),
        ({"keypoints3d": np.full((5, 190, 4), np.nan)}, "NaN"),
        ({"__keypoints_compressed__": True}, "190 compressed keypoints, expected 24"),
        ({"keypoints3d_mask": np.ones(3)}, "no keypoints3d_mask of 190"),
        ({"keypoints3d_mask": np.full(190, "x")}, "no keypoints3d_mask of 190"),
        ({"keypoints3d": np.full((5, 190, 4), "x")}, "keypoints3d .*<U1"),
        ({"keypoints3d": np.full((5, 190, 4), 1e300)}, "NaN or infinity"),
        ({"keypoints3d": np.zeros((0, 190, 4))}, "no frames"),
        ({"keypoints3d_convention": np.array(["smpl", "smpl"])}, "keypoints3d_convention is a ndarray"),
        ({"keypoints3d_convention": {"a": 1}}, "keypoints3d_convention is a dict"),
        ({"__keypoints_compressed__": np.zeros(3)}, "__keypoints_compressed__ is a ndarray"),
        ({"smpl": {"body_pose": POSES[:0, 1:], "global_orient": POSES[:0, 0]}}, "no frames"),
        ({"smpl": {"body_pose": POSES[:, 1:], "global_orient": POSES[:, 0] > 0}}, "no global_orient"),
        ({"smpl": {**SMPL, "betas": np.full((5, 10), np.nan)}}, "smpl contains NaN"),
        ({"smpl": {**SMPL, "betas": np.ones((5, 10), bool)}}, "smpl's betas .*bool"),
        ({"smpl": {**SMPL, "transl": TRANSL > 0}}, "smpl's transl .*bool"),
    ],
)
def test_what_is_no_human_data_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(FormatError, match=message):
        read(theirs(tmp_path / "a.npz", **changes))
    np.savez(tmp_path / "b.npz", x=1)
    with pytest.raises(FormatError, match="neither SMPL parameters nor"):
        read(tmp_path / "b.npz")
    (tmp_path / "c.npz").write_bytes(b"no zip")
    with pytest.raises(FormatError, match=r"c\.npz: not an \.npz file"):
        read(tmp_path / "c.npz")


def damaged(folder: Path, how: str) -> Path:
    """A HumanData file after some accident."""
    path = theirs(folder / "h.npz")
    if how == "cut off":
        path.write_bytes(path.read_bytes()[:-200])
    elif how == "garbled":
        with zipfile.ZipFile(path) as archive:
            at = archive.getinfo("keypoints3d.npy").header_offset + 60
        data = bytearray(path.read_bytes())
        data[at : at + 400] = b"\xff" * 400
        path.write_bytes(data)
    elif how == "one array":
        with path.open("wb") as file:
            np.save(file, JOINTS)
    elif how == "empty":
        path.write_bytes(b"")
    elif how.startswith("fps "):
        theirs(path, meta={"fps": float(how[4:])})
    return path


@pytest.mark.parametrize("how", ["cut off", "garbled", "one array", "empty", "fps inf", "fps nan", "fps 0"])
def test_the_command_names_the_file_and_the_cause(tmp_path: Path, how: str) -> None:
    path = damaged(tmp_path, how)
    done = CliRunner().invoke(app, ["convert", "humandata", str(path), "--out", str(tmp_path / "d.npz")])
    assert done.exit_code == 2, done.output
    assert "h.npz:" in "".join(done.output.split()).replace("│", "")
    assert not (tmp_path / "d.npz").exists()


@pytest.mark.parametrize("keypoints", [True, False])
def test_bodies_upside_down_are_refused(tmp_path: Path, keypoints: bool) -> None:
    for turn, works in ((0.0, True), (np.pi, False)):  # of camera axes, where y points down
        poses = np.zeros_like(POSES)
        poses[:, 0, 0] = turn
        joints = np.asarray(forward_kinematics(poses, TRANSL, MEAN_OFFSETS), dtype=np.float32)
        (path,) = write(Motion(joints[None], 60.0, poses[None], TRANSL[None]), tmp_path / "a.npz")
        if not keypoints:
            smpl = {"body_pose": poses[:, 1:], "global_orient": poses[:, 0], "transl": TRANSL}
            np.savez(path, smpl=np.array(smpl, dtype=object))
        if works:
            read(path)
        else:
            with pytest.raises(FormatError, match=r"a\.npz: the head is below the hips.*y up"):
                read(path)


def test_the_folder_of_out_is_made(tmp_path: Path) -> None:
    run = CliRunner().invoke
    source = theirs(tmp_path / "h.npz")
    done = run(app, ["convert", "humandata", str(source), "--out", str(tmp_path / "new" / "er" / "d.npz")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "new" / "er" / "d.npz").is_file()
    save_sequence(tmp_path / "s.npz", make_sequence(4))
    done = run(
        app, ["convert", "humandata", str(tmp_path / "s.npz"), "--out", str(tmp_path / "out" / "h.npz")]
    )
    assert done.exit_code == 0, done.output
    # A file stands where the folder should.
    done = run(app, ["convert", "humandata", str(source), "--out", str(source / "d.npz")])
    assert done.exit_code == 2, done.output
    assert "cannot be written" in " ".join(done.output.split())


def test_sequences_out_and_dances_in_by_the_command(tmp_path: Path) -> None:
    seq = make_sequence(3, num_dancers=2)
    save_sequence(tmp_path / "s.npz", seq)
    run = CliRunner().invoke
    done = run(app, ["convert", "humandata", str(tmp_path / "s.npz"), "--out", str(tmp_path / "h.npz")])
    assert done.exit_code == 0, done.output
    assert "h_0.npz, h_1.npz" in done.output
    done = run(app, ["convert", "humandata", str(tmp_path / "h_1.npz"), "--out", str(tmp_path / "d.npz")])
    assert done.exit_code == 0, done.output
    joints, _ = _load_motion(tmp_path / "d.npz")
    np.testing.assert_array_equal(joints[0], per_dancer(seq.joints, 2, 24, 3)[1])
    with np.load(tmp_path / "d.npz", allow_pickle=False) as dance:
        np.testing.assert_array_equal(dance["smpl_pose"][0], per_dancer(seq.smpl_pose, 2, 24, 3)[1])
    # A dance of ours goes the way of a sequence, and back again.
    done = run(app, ["convert", "humandata", str(tmp_path / "d.npz"), "--out", str(tmp_path / "e.npz")])
    assert done.exit_code == 0, done.output
    np.testing.assert_array_equal(read(tmp_path / "e.npz").poses, opendance.read(tmp_path / "d.npz").poses)
    np.savez(tmp_path / "x.npz", other=1)
    done = run(app, ["convert", "humandata", str(tmp_path / "x.npz"), "--out", str(tmp_path / "y.npz")])
    assert done.exit_code == 2
    assert "neither SMPL parameters nor SMPL's 24 joints" in " ".join(done.output.split())
