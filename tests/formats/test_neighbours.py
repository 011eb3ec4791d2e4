"""Result files of other projects: EDGE, LODGE, AMASS, GVHMR, WHAM, as their code writes them."""

from __future__ import annotations

import pickle
from collections import defaultdict
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from opendance_hf.apps.clips import EvaluateError, load_clips
from opendance_hf.cli import app
from opendance_hf.formats import FormatError, aistpp, amass, edge, gvhmr, lodge, opendance, wham
from opendance_hf.formats.detect import format_of
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import MEAN_OFFSETS

#: From y up to z up, as EDGE turns AIST++: 90 degrees about x.
TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def dance(frames: int = 90, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return poses (T, 24, 3), translation (T, 3) and joints (T, 24, 3) of an upright dance, y up; the hands are straight."""
    rng = np.random.default_rng(seed)
    time = np.linspace(0, 3, frames)[:, None, None]
    poses = 0.3 * np.sin(2 * np.pi * (time + rng.uniform(size=(1, 24, 3))))
    poses[:, 0] *= [0.2, 2.0, 0.2]
    poses[:, 22:] = 0
    transl = np.column_stack([np.sin(time[:, 0, 0]), 0.9 + 0 * time[:, 0, 0], np.cos(time[:, 0, 0])])
    return poses, transl, forward_kinematics(poses, transl, MEAN_OFFSETS)


def pelvis_of(model: str) -> np.ndarray:
    """Return the pelvis of the mean body of SMPL, SMPL-H or SMPL-X, which the translations of such files do not have."""
    return np.array(
        {
            "smpl": [-0.0018, -0.2233, 0.0282],
            "smplh": [-0.0022, -0.2408, 0.0286],
            "smplx": [0.0031, -0.3514, 0.0120],
        }[model]
    )


def turned(poses: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poses = poses.copy()
    poses[:, 0] = matrix_to_axis_angle(TO_Z_UP @ axis_angle_to_matrix(poses[:, 0]))
    return poses, transl @ TO_Z_UP.T


def save(path: Path, content: Any) -> Path:
    path.write_bytes(pickle.dumps(content))
    return path


def edge_file(path: Path, **changes: Any) -> Path:
    poses, transl = turned(*dance()[:2])
    content = {
        "smpl_poses": poses.reshape(-1, 72).astype(np.float32),
        "smpl_trans": transl.astype(np.float32),
        "full_pose": (dance()[2] @ TO_Z_UP.T).astype(np.float32),
    }
    return save(path, {**content, **changes})


def same_dance(motion: Motion, joints: np.ndarray, fps: float, atol: float = 1e-5) -> None:
    np.testing.assert_allclose(motion.joints[0], joints, atol=atol)
    assert motion.fps == fps
    assert motion.poses is not None
    assert motion.transl is not None
    assert motion.rest_offsets is not None
    again = forward_kinematics(motion.poses[0], motion.transl[0], motion.rest_offsets[0])
    np.testing.assert_allclose(again, joints, atol=atol)


def test_edge_is_turned_upright_at_its_rate(tmp_path: Path) -> None:
    path = edge_file(tmp_path / "test_mBR0.pkl")
    assert format_of(path) == "edge"
    same_dance(edge.read(path), dance()[2], 30)
    assert edge.read(path).meta == {"id": "test_mBR0", "group": "mBR0"}


def test_edge_is_told_from_aistpp_by_its_keys_in_the_commands(tmp_path: Path) -> None:
    path = edge_file(tmp_path / "e.pkl")
    (clip,) = load_clips(path)
    assert clip.fps == 30
    np.testing.assert_allclose(clip.joints[0], dance()[2], atol=1e-5)
    run = CliRunner().invoke
    wrong = run(app, ["convert", "aistpp", str(path), "--out", str(tmp_path / "d.npz")])
    assert wrong.exit_code == 2
    assert "opendance convert edge" in " ".join(wrong.output.split())
    right = run(app, ["convert", "edge", str(path), "--out", str(tmp_path / "d.npz")])
    assert right.exit_code == 0, right.output
    assert "30 FPS, z up" in " ".join(right.output.split())
    same_dance(opendance.read(tmp_path / "d.npz"), dance()[2], 30)


def test_a_file_that_may_be_two_formats_is_a_question(tmp_path: Path) -> None:
    poses, transl, joints = dance()
    path = save(tmp_path / "a.pkl", {"smpl_poses": poses.reshape(-1, 72), "smpl_trans": transl})
    with pytest.raises(FormatError, match=r"smpl_scaling.*Which rate and axes.*--fps and --up"):
        aistpp.read(path)
    with pytest.raises(EvaluateError, match="Which rate and axes"):
        list(load_clips(path))
    same_dance(aistpp.read(path, fps=30), joints, 30)
    # Saved by somebody who keeps EDGE's names and y up: the body would lie.
    path = edge_file(
        tmp_path / "b.pkl", smpl_poses=poses.reshape(-1, 72), smpl_trans=transl, full_pose=joints
    )
    with pytest.raises(FormatError, match=r"Which axis points up.*--up y"):
        edge.read(path)
    same_dance(edge.read(path, up="y", fps=60), joints, 60)
    done = CliRunner().invoke(
        app, ["convert", "edge", str(path), "--up", "y", "--fps", "60", "--out", str(tmp_path / "b.npz")]
    )
    assert done.exit_code == 0, done.output
    same_dance(opendance.read(tmp_path / "b.npz"), joints, 60)


def to_6d(poses: np.ndarray) -> np.ndarray:
    return axis_angle_to_matrix(poses)[..., :2, :].reshape(len(poses), -1)


@pytest.mark.parametrize("columns", [135, 139, 159, 315, 319])
@pytest.mark.parametrize("batched", [False, True])
def test_lodge_arrays_of_every_width(columns: int, batched: bool, tmp_path: Path) -> None:
    poses, transl, joints = dance(88)
    hands = np.zeros((88, 30, 3))
    body = poses[:, :22] if columns < 159 else np.concatenate([poses[:, :22], hands], axis=1)
    angles = body.reshape(88, -1) if columns == 159 else to_6d(body)
    contacts = np.ones((88, 4 if columns in (139, 319) else 0))
    rows = np.hstack([contacts, transl - pelvis_of("smplx"), angles])
    assert rows.shape[1] == columns
    np.save(tmp_path / "063.npy", rows.reshape(11, 8, -1) if batched else rows)
    assert format_of(tmp_path / "063.npy") == "lodge"
    same_dance(lodge.read(tmp_path / "063.npy"), joints, 30, atol=1e-4)


def test_lodge_pickles(tmp_path: Path) -> None:
    poses, transl, joints = dance()
    transl = transl - pelvis_of("smplx")
    path = save(tmp_path / "l.pkl", {"smpl_poses": poses[:, :22].reshape(-1, 66), "smpl_trans": transl})
    assert format_of(path) == "lodge"
    same_dance(lodge.read(path), joints, 30, atol=1e-4)
    (clip,) = load_clips(path)
    assert clip.fps == 30


def test_arrays_that_are_no_dance_say_so_without_unsafe_advice(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((10, 72)))
    with pytest.raises(FormatError, match=r"\(10, 72\).*135, 139, 159, 315, 319"):
        lodge.read(tmp_path / "a.npy")
    np.save(tmp_path / "zero.npy", np.zeros((10, 139)))
    with pytest.raises(FormatError, match="rows have the length 0"):
        lodge.read(tmp_path / "zero.npy")
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(FormatError, match="Python objects, which are never read") as found:
        lodge.read(tmp_path / "o.npy")
    assert "allow_pickle" not in str(found.value)


@pytest.mark.parametrize(
    ("width", "rate_name", "model"),
    [
        (72, "mocap_framerate", "smpl"),
        (156, "mocap_framerate", "smplh"),
        (165, "mocap_frame_rate", "smplx"),
    ],
)
def test_amass_of_every_body(width: int, rate_name: str, model: str, tmp_path: Path) -> None:
    poses, transl, joints = dance()
    z_poses, z_transl = turned(poses, transl)
    full = np.zeros((90, width))
    full[:, :66] = z_poses[:, :22].reshape(90, 66)
    path = tmp_path / "01_01_poses.npz"
    np.savez(
        path, poses=full, trans=z_transl - pelvis_of(model), betas=np.ones(16), gender=np.array("female"), dmpls=np.ones((90, 8)),
        labels=np.array([{"a": 1}], dtype=object), **{rate_name: np.array(120.0)},
    )  # fmt: skip
    assert format_of(path) == "amass"
    same_dance(amass.read(path), joints, 120, atol=1e-4)
    (clip,) = load_clips(path)
    assert clip.fps == 120


def test_amass_without_a_rate_or_by_parts(tmp_path: Path) -> None:
    poses, transl, joints = dance()
    z_poses, z_transl = turned(poses, transl)
    path = tmp_path / "a.npz"
    z_transl = z_transl - pelvis_of("smplx")
    np.savez(path, root_orient=z_poses[:, 0], pose_body=z_poses[:, 1:22].reshape(90, 63), trans=z_transl)
    with pytest.raises(FormatError, match=r"do not have the frame rate.*--fps"):
        amass.read(path)
    same_dance(amass.read(path, fps=60), joints, 60, atol=1e-4)


def gvhmr_file(path: Path, **changes: Any) -> Path:
    poses, transl, _ = dance()
    section = {
        "global_orient": torch.from_numpy(poses[:, 0]),
        "body_pose": torch.from_numpy(poses[:, 1:22].reshape(90, 63)).float(),
        "transl": torch.from_numpy(transl - pelvis_of("smplx")),
        "betas": torch.zeros(90, 10),
    }
    content = {
        "smpl_params_global": section,
        "smpl_params_incam": section,
        "K_fullimg": torch.eye(3),
        "net_outputs": {},
    }
    path.parent.mkdir(exist_ok=True)
    torch.save({**content, **changes}, path)
    return path


def test_gvhmr_needs_the_rate_of_the_video(tmp_path: Path) -> None:
    path = gvhmr_file(tmp_path / "tennis" / "hmr4d_results.pt")
    assert format_of(path) == "gvhmr"
    with pytest.raises(FormatError, match=r"GVHMR do not have the frame rate.*--fps"):
        gvhmr.read(path)
    motion = gvhmr.read(path, fps=25)
    same_dance(motion, dance()[2], 25, atol=1e-4)
    assert motion.meta["id"] == "tennis"
    out = tmp_path / "d.npz"
    run = CliRunner().invoke
    asked = run(app, ["convert", "gvhmr", str(path), "--out", str(out)])
    assert asked.exit_code == 2
    assert not out.exists()
    done = run(app, ["convert", "gvhmr", str(path), "--fps", "25", "--out", str(out)])
    assert done.exit_code == 0, done.output
    same_dance(opendance.read(out), dance()[2], 25, atol=1e-4)


class Evil:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


def test_no_code_of_a_file_runs_and_nobody_advises_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gvhmr_file(tmp_path / "g" / "evil.pt", extra=Evil())
    joblib.dump({0: {"pose": Evil()}}, tmp_path / "evil.pkl")
    np.savez(tmp_path / "evil.npz", joints=np.array([Evil()], dtype=object))
    for read, file in (
        (gvhmr.read, "g/evil.pt"),
        (wham.read, "evil.pkl"),
        (opendance.read, "evil.npz"),
        (edge.read, "evil.pkl"),
    ):
        with pytest.raises(FormatError) as found:
            read(tmp_path / file)
        assert not any(word in str(found.value) for word in ("allow_pickle", "weights_only", "trust")), (
            found.value
        )
    assert "executed" not in capsys.readouterr().out


def wham_person(frames: np.ndarray, seed: int, world: np.ndarray, offset: np.ndarray) -> dict[str, Any]:
    """A person who stands at ``offset`` in the first person's world, whose own world is turned by ``world``."""
    poses, transl, _ = dance(len(frames), seed)
    camera = axis_angle_to_matrix(np.array([np.pi, 0.0, 0.0]))  # the camera's y axis points down
    own = poses.copy()
    own[:, 0] = matrix_to_axis_angle(world @ axis_angle_to_matrix(poses[:, 0]))
    seen = poses.copy()
    seen[:, 0] = matrix_to_axis_angle(camera @ axis_angle_to_matrix(poses[:, 0]))
    return {
        "pose": seen.reshape(-1, 72),
        "trans": (transl + offset) @ camera.T + [0, 0, 5] - pelvis_of("smpl"),
        "pose_world": own.reshape(-1, 72).astype(np.float32),
        "trans_world": transl @ world.T - pelvis_of("smpl"),
        "betas": np.zeros((len(frames), 10)),
        "verts": np.zeros((len(frames), 100, 3), np.float32),
        "frame_ids": frames,
    }


def test_wham_of_one_person(tmp_path: Path) -> None:
    results: dict[Any, Any] = defaultdict(dict)
    results[0] = wham_person(np.arange(90), 0, np.eye(3), np.zeros(3))
    joblib.dump(results, tmp_path / "wham_output.pkl")
    assert format_of(tmp_path / "wham_output.pkl") == "wham"
    with pytest.raises(FormatError, match=r"WHAM do not have the frame rate.*--fps"):
        wham.read(tmp_path / "wham_output.pkl")
    same_dance(wham.read(tmp_path / "wham_output.pkl", fps=30), dance()[2], 30, atol=1e-4)
    # The same saved again by pickle, as converters do.
    path = save(tmp_path / "p.pkl", {0: results[0]})
    same_dance(wham.read(path, fps=30), dance()[2], 30, atol=1e-4)


def test_wham_of_two_persons_keeps_them_where_the_camera_sees_them(tmp_path: Path) -> None:
    turn = axis_angle_to_matrix(np.array([0.0, 1.1, 0.0]))
    results = {
        np.int64(1): wham_person(np.arange(90), 0, np.eye(3), np.zeros(3)),
        np.int64(4): wham_person(np.arange(10, 100), 1, turn, np.array([1.5, 0.0, -0.5])),
        np.int64(7): wham_person(np.arange(20, 25), 2, np.eye(3), np.zeros(3)),
    }
    joblib.dump(results, tmp_path / "w.pkl")
    motion = wham.read(tmp_path / "w.pkl", fps=30)
    assert motion.joints.shape == (2, 80, 24, 3)
    first, second = dance(90, 0)[2][10:], dance(90, 1)[2][:80] + np.array([1.5, 0.0, -0.5])
    np.testing.assert_allclose(motion.joints[0], first, atol=1e-4)
    # In the first frame the second stands where the camera sees them beside the first.
    np.testing.assert_allclose(motion.joints[1], second, atol=1e-4)


def test_wham_of_persons_who_never_meet(tmp_path: Path) -> None:
    results = {
        0: wham_person(np.arange(60), 0, np.eye(3), np.zeros(3)),
        1: wham_person(np.arange(70, 130), 1, np.eye(3), np.zeros(3)),
    }
    joblib.dump(results, tmp_path / "w.pkl")
    with pytest.raises(FormatError, match="never in the picture together"):
        wham.read(tmp_path / "w.pkl", fps=30)


@pytest.mark.parametrize("name", ["amc", "c3d", "edge", "gvhmr", "lodge", "wham"])
def test_formats_that_are_only_read(name: str, tmp_path: Path) -> None:
    opendance.write(Motion(dance()[2][None], 30), tmp_path / "d.npz")
    done = CliRunner().invoke(
        app, ["convert", name, str(tmp_path / "d.npz"), "--out", str(tmp_path / "o.npz")]
    )
    assert done.exit_code == 2
    assert "not written" in " ".join(done.output.split())
    assert not (tmp_path / "o.npz").exists()


HALF_TURN = np.diag([1.0, -1.0, -1.0])


def upside_down(poses: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    poses = poses.copy()
    poses[:, 0] = matrix_to_axis_angle(HALF_TURN @ axis_angle_to_matrix(poses[:, 0]))
    return poses, transl @ HALF_TURN


def test_a_world_upside_down_is_a_question(tmp_path: Path) -> None:
    poses, transl = upside_down(*dance()[:2])
    lodges = save(tmp_path / "l.pkl", {"smpl_poses": poses[:, :22].reshape(-1, 66), "smpl_trans": transl})
    aists = save(
        tmp_path / "a.pkl", {"smpl_poses": poses.reshape(-1, 72), "smpl_trans": transl, "smpl_scaling": 1.0}
    )
    for read, path in ((lodge.read, lodges), (aistpp.read, aists)):
        with pytest.raises(
            FormatError, match=r"0\.\d\d m below the hips. Does y point down.*half a turn about x.*--up y"
        ):
            read(path)
        assert read(path, up="y").joints.shape == (1, 90, 24, 3)
    # And along the other axis: z down.
    poses, transl = turned(poses, transl)
    path = save(tmp_path / "z.pkl", {"smpl_poses": poses[:, :22].reshape(-1, 66), "smpl_trans": transl})
    with pytest.raises(FormatError, match=r"Which axis.*--up z \(it points down: first turn"):
        lodge.read(path)


def test_aistpp_with_z_up_is_a_question(tmp_path: Path) -> None:
    poses, transl = turned(*dance()[:2])
    path = save(
        tmp_path / "a.pkl",
        {"smpl_poses": poses.reshape(-1, 72), "smpl_trans": transl * 50, "smpl_scaling": np.array([50.0])},
    )
    with pytest.raises(FormatError, match=r"Which axis points up.*--up z, or --up y"):
        aistpp.read(path)
    same_dance(aistpp.read(path, up="z"), dance()[2], 60)


def test_centimetres_are_refused(tmp_path: Path) -> None:
    poses, transl, _ = dance()
    z_poses, z_transl = turned(poses, transl)
    flat = poses.reshape(-1, 72)
    for read, content, fps in (
        (edge.read, {"smpl_poses": z_poses.reshape(-1, 72), "smpl_trans": 100 * z_transl}, 30),
        (lodge.read, {"smpl_poses": flat[:, :66], "smpl_trans": 100 * transl}, 30),
        (lodge.read, {"smpl_poses": flat[:, :66], "smpl_trans": 100 * transl * [1, 0, 1]}, 30),
        (aistpp.read, {"smpl_poses": flat, "smpl_trans": 100 * transl}, 60),
    ):
        with pytest.raises(FormatError, match=r"expected at most 1\d m; is the translation in centimetres"):
            read(save(tmp_path / "a.pkl", content), fps=fps)


def test_edge_of_joints_that_are_not_those_of_the_poses(tmp_path: Path) -> None:
    joints = dance()[2] @ TO_Z_UP.T
    with pytest.raises(FormatError, match=r"full_pose is up to \d.* m from the joints"):
        edge.read(edge_file(tmp_path / "a.pkl", full_pose=joints * 100))
    with pytest.raises(FormatError, match=r"full_pose has the shape \(90, 23, 3\), expected \(90, 24, 3\)"):
        edge.read(edge_file(tmp_path / "b.pkl", full_pose=joints[:, :23]))


def test_answers_that_a_format_does_not_need(tmp_path: Path) -> None:
    path = edge_file(tmp_path / "e.pkl")
    for options, told in ((["--up", "x"], "expected y or z"), (["--fps", "0"], "0.1")):
        done = CliRunner().invoke(
            app, ["convert", "edge", str(path), *options, "--out", str(tmp_path / "o.npz")]
        )
        assert done.exit_code == 2
        assert told in " ".join(done.output.split())
    opendance.write(Motion(dance()[2][None], 30), tmp_path / "d.npz")
    done = CliRunner().invoke(
        app, ["convert", "humandata", str(path), "--up", "z", "--out", str(tmp_path / "o.npz")]
    )
    assert done.exit_code == 2
    assert "takes no --up" in " ".join(done.output.split())
