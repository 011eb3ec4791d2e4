"""The user's SMPL file: out of a pickle with chumpy in it, without running it, into what smplx computes with."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch
from typer.testing import CliRunner

from opendance_hf.cli import app
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.smpl import SMPLFileError, convert_smpl, load_smpl, smplx_layer
from opendance_hf.pickles import PickleError, load_pickled_arrays
from tests.bodies import fake_chumpy, rest_joints, smpl_arrays


@pytest.fixture(scope="module")
def body(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("body") / "SMPL.npz"
    np.savez(path, **smpl_arrays())  # type: ignore[arg-type]
    return path


@pytest.mark.parametrize("protocol", [0, 2])
def test_the_official_layout_by_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    arrays = smpl_arrays()
    ch, select = fake_chumpy(monkeypatch)
    flat = arrays["v_template"].reshape(-1)
    official = arrays | {
        "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
        "shapedirs": ch(x=arrays["shapedirs"], _dirty_vars=set(), _itr=None),
        "v_template": select(
            a=ch(x=np.concatenate([np.zeros(4), flat])),
            idxs=np.arange(4, 4 + len(flat)),
            preferred_shape=arrays["v_template"].shape,
        ),
        "bs_style": "lbs",
        "pose_training_info": {"gender": "neutral"},
    }
    if protocol == 0:  # text: the large arrays would take minutes
        official |= {"posedirs": np.zeros((2, 3)), "shapedirs": np.zeros((2, 3))}
    data = pickle.dumps(official, protocol=protocol)
    source = tmp_path / "neutral.pkl"
    source.write_bytes(data.replace(b"scipy.sparse._csc\n", b"scipy.sparse.csc\n"))
    if protocol == 0:
        found = load_pickled_arrays(source)
        np.testing.assert_array_equal(found["J_regressor"], arrays["J_regressor"])
        np.testing.assert_array_equal(found["v_template"], arrays["v_template"])
        return
    done = CliRunner().invoke(app, ["convert", "smpl", str(source), "--out", str(tmp_path / "SMPL.npz")])
    assert done.exit_code == 0, done.output
    with np.load(tmp_path / "SMPL.npz", allow_pickle=False) as archive:
        for name, value in arrays.items():
            if name != "kintree_table":
                np.testing.assert_allclose(archive[name], value, atol=1e-6)
    assert load_smpl(tmp_path / "SMPL.npz").kintree_table[0, 0] == -1


def test_smplx_computes_with_it_and_our_kinematics_agree(body: Path) -> None:
    data = load_smpl(body)
    rng = np.random.default_rng(1)
    betas = rng.normal(size=(4, 10)).astype(np.float32)
    poses = rng.normal(0, 0.4, (4, 24, 3)).astype(np.float32)
    transl = rng.normal(size=(4, 3)).astype(np.float32)
    from opendance_hf.motion.rotations import axis_angle_to_matrix

    turns = torch.from_numpy(axis_angle_to_matrix(poses))
    out = smplx_layer(data)(
        betas=torch.from_numpy(betas),
        global_orient=turns[:, :1],
        body_pose=turns[:, 1:],
        transl=torch.from_numpy(transl),
    )
    ours = forward_kinematics(poses, transl, data.rest_offsets(betas))
    np.testing.assert_allclose(out.joints[:, :24], ours, atol=1e-5)
    np.testing.assert_allclose(data.rest_offsets(np.zeros(10, np.float32))[0], rest_joints()[0], atol=1e-6)


def test_three_hundred_shapes(tmp_path: Path) -> None:
    np.savez(tmp_path / "SMPL.npz", **smpl_arrays(300))  # type: ignore[arg-type]
    data = load_smpl(tmp_path / "SMPL.npz")
    assert data.shapedirs.shape[2] == 300
    assert data.rest_offsets(np.ones(10, np.float32)).shape == (24, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": np.zeros((6890, 23))}, r"'weights' has shape \(6890, 23\)"),
        ({"weights": np.zeros((6890, 24))}, "do not add up to one"),
        ({"f": np.array([[0, 1, 6890]])}, "vertices that do not exist"),
        ({"v_template": np.full((6890, 3), 100.0)}, "not in metres"),
        ({"v_template": np.full((6890, 3), np.nan)}, "NaN"),
        ({"shapedirs": np.zeros((6890, 3, 4))}, "4 shape coefficients"),
        ({"kintree_table": np.zeros((2, 24))}, "joints are not those"),
        ({"posedirs": np.array("text")}, "no array 'posedirs'"),
    ],
)
def test_what_is_no_body_is_named(tmp_path: Path, change: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "SMPL.npz", **(smpl_arrays() | change))  # type: ignore[arg-type]
    with pytest.raises(SMPLFileError, match=message) as error:
        load_smpl(tmp_path / "SMPL.npz")
    assert "basicmodel_neutral_lbs_10_207_0_v1.1.0.pkl" in str(error.value)


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SMPLFileError, match="no such file; register"):
        load_smpl(tmp_path / "none.npz")
    with pytest.raises(SMPLFileError, match=r"still a pickle: run `opendance convert smpl x\.pkl"):
        load_smpl(tmp_path / "x.pkl")
    (tmp_path / "x.npz").write_bytes(b"PK nonsense")
    with pytest.raises(SMPLFileError, match="not a converted SMPL body"):
        load_smpl(tmp_path / "x.npz")
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(SMPLFileError, match=r"x\.npz: not a converted SMPL body \(a single \.npy array"):
        load_smpl(tmp_path / "x.npz")
    with pytest.raises(SMPLFileError, match=r"ends in \.npz"):
        convert_smpl(tmp_path / "x.pkl", tmp_path / "folder")


@pytest.mark.parametrize(
    "state",
    [
        {"_shape": (2, 2), "data": np.ones(1), "indices": np.array([5]), "indptr": np.array([0, 1, 1])},
        {"_shape": (2, 2), "data": np.ones(1), "indices": np.array([0]), "indptr": np.array([0, 9, 1])},
        {"_shape": (10**6, 10**6), "data": np.ones(0), "indices": np.zeros(0, int), "indptr": np.zeros(10**6 + 1, int)},
        {"_shape": (2, 2)},
    ],
)  # fmt: skip
def test_sparse_matrices_that_lie_are_refused(tmp_path: Path, state: dict[str, object]) -> None:
    matrix = scipy.sparse.csc_matrix((2, 2))
    matrix.__dict__.clear()
    matrix.__dict__.update(state)
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"x": matrix}, protocol=2))
    with pytest.raises(PickleError):
        load_pickled_arrays(path)


def test_chumpy_that_lies_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ch, select = fake_chumpy(monkeypatch)
    for value in (
        ch(y=np.ones(2)),
        ch(x="text"),
        select(a=np.ones(2), idxs=np.array([2])),
        select(a=1, idxs=2),
    ):
        path = tmp_path / "a.pkl"
        path.write_bytes(pickle.dumps({"x": value}, protocol=2))
        with pytest.raises(PickleError, match="nothing of it was executed"):
            load_pickled_arrays(path)
