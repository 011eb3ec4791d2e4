"""Files of dance datasets: independent fixtures within what they hold exactly, and what the readers refuse."""

from __future__ import annotations

import json
import logging
import pickle
import re
import tracemalloc
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opendance_hf.formats import (
    FormatError,
    aistpp,
    coco,
    dd100,
    format_named,
    gdance,
    humanml3d,
    phantomdance,
)
from opendance_hf.formats.body import REST_PELVIS
from opendance_hf.formats.detect import SUFFIXES, SUFFIXES_OF, format_of
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.positions import leg_length, motion_of_positions
from opendance_hf.metrics.person import LEGS_M
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from tests.formats.support import dance, joint_error_mm, rotation_error_deg
from tests.formats.table import FIXTURES, notes, truth

AIST = "aist_plusplus_final"


def fixture(name: str, file: str) -> tuple[Motion, np.ndarray, np.ndarray, dict[str, Any]]:
    """Return what the reader makes of a fixture, and the joints, the poses and the note of its author."""
    note = notes()[file]
    found = format_named(name).read(FIXTURES / file)
    assert (found.fps, found.num_frames) == (note["fps"], note["frames"])
    joints, poses = truth(note, found.num_frames, found.fps)
    return found, joints, poses, note


@pytest.mark.parametrize("sequence", ["gBR_sBM_cAll_d04_mBR0_ch03", "gLH_sBM_cAll_d16_mLH0_ch01"])
def test_keypoints_of_aistpp(sequence: str) -> None:
    found, joints, _, note = fixture("coco", f"{AIST}/keypoints3d/{sequence}.pkl")
    joints = joints * 0.9378  # the person's size
    limbs = [JOINT_INDEX[name] for name in LIMB_JOINTS]
    assert joint_error_mm(found.joints[:, :, limbs], joints[:, :, limbs]) < 2.5
    trunk = [JOINT_INDEX[name] for name in ("pelvis", "spine1", "spine2", "spine3", "neck", "left_collar")]
    assert joint_error_mm(found.joints[:, :, trunk], joints[:, :, trunk]) < 25
    assert found.meta["group"] == note.get("group", re.search(r"m[A-Z]{2}\d", sequence)[0])  # type: ignore[index]
    assert format_of(FIXTURES / AIST / "keypoints3d" / f"{sequence}.pkl") == "coco"


@pytest.mark.parametrize("sequence", ["gBR_sBM_cAll_d04_mBR0_ch03", "gLH_sBM_cAll_d16_mLH0_ch01"])
def test_motions_of_aistpp(sequence: str) -> None:
    found, joints, poses, note = fixture("aistpp", f"{AIST}/motions/{sequence}.pkl")
    # The reader puts the pelvis at the translation.
    assert joint_error_mm(found.joints + note["rest_pelvis"], joints) < 0.1
    assert found.poses is not None
    assert rotation_error_deg(found.poses, poses) < 0.1


def points() -> np.ndarray:
    """Return 60 frames of valid keypoints, centimetres."""
    path = FIXTURES / AIST / "keypoints3d/gBR_sBM_cAll_d04_mBR0_ch03.pkl"
    with path.open("rb") as file:
        frames: np.ndarray = pickle.load(file)["keypoints3d_optim"]
    return np.concatenate([frames, frames[::-1]])


def dumped(folder: Path, **content: Any) -> Path:
    (folder / "a.pkl").write_bytes(pickle.dumps(content))
    return folder / "a.pkl"


def test_the_smoothed_keypoints_are_preferred(tmp_path: Path) -> None:
    whole = coco.read(dumped(tmp_path, keypoints3d_optim=points(), keypoints3d=points() * np.nan))
    assert whole.num_frames == 60


@pytest.mark.parametrize("gap", [slice(0, 20), slice(20, 45), slice(40, 60)])
def test_short_gaps_are_interpolated(gap: slice, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holed = points()
    holed[gap, 9] = np.nan
    found = coco.read(dumped(tmp_path, keypoints3d=holed))
    whole = coco.read(dumped(tmp_path, keypoints3d=points()))
    error = np.linalg.norm(found.joints - whole.joints, axis=-1)[0, :, JOINT_INDEX["left_wrist"]]
    assert 0.005 < error.max() < 0.3
    assert "points are missing" in caplog.text


def test_long_gaps_are_refused(tmp_path: Path) -> None:
    holed = points()
    holed[10:41, 9] = np.nan
    with pytest.raises(FormatError, match=r"a\.pkl: left_wrist is missing for 31 frames in a row"):
        coco.read(dumped(tmp_path, keypoints3d=holed))
    with pytest.raises(FormatError, match="nose is missing"):
        coco.read(dumped(tmp_path, keypoints3d=holed * np.nan))


@pytest.mark.parametrize(("scale", "said"), [(0.01, "another unit"), (10.0, "another unit")])
def test_keypoints_in_another_unit_are_refused(scale: float, said: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=rf"a\.pkl.*legs.*{said}"):
        coco.read(dumped(tmp_path, keypoints3d=points() * scale))


def test_keypoints_with_z_up_are_asked_about(tmp_path: Path) -> None:
    x, y, z = np.moveaxis(points(), -1, 0)
    path = dumped(tmp_path, keypoints3d=np.stack([x, -z, y], -1))
    with pytest.raises(FormatError, match="--up z"):
        coco.read(path)
    straight = coco.read(dumped(tmp_path, keypoints3d=points()))
    path = dumped(tmp_path, keypoints3d=np.stack([x, -z, y], -1))
    assert joint_error_mm(coco.read(path, up="z").joints, straight.joints) < 0.01


def test_keypoints_are_no_motions(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="coco"):
        aistpp.read(dumped(tmp_path, keypoints3d=points()))
    for wrong in (points()[:0], points()[0], points()[..., :2], np.zeros(()), np.array(["a"])):
        with pytest.raises(FormatError, match=r"a\.pkl"):
            coco.read(dumped(tmp_path, keypoints3d=wrong))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("lodge", "finedance/motion/001.npy"),
        ("lodge", "finedance/motion/063.npy"),
        ("lodge", "finedance/motion_fea319/001.npy"),
        *(("dd100", f"dd100/motion/smplx/all/{s}_{d}.npy") for s in ("Waltz_5_0", "Tango_1_0") for d in ("00", "01")),
        ("gdance", "gdance/motions_smpl/sBM_two_00_120.pkl"),
        ("gdance", "gdance/motions_smpl/sBM_three_120_240.pkl"),
        ("phantomdance", "phantomdance/motion/001.json"),
    ],
)  # fmt: skip
def test_files_of_poses(name: str, file: str) -> None:
    assert format_of(FIXTURES / file) == name
    found, joints, poses, note = fixture(name, file)
    joints = joints + np.array(note.get("shift", [0, 0, 0])).reshape(-1, 1, 1, 3)
    held = 24 if name in ("gdance", "phantomdance") else 22  # SMPL-X has no joints of SMPL's hands
    # The rest pelvis of SMPL-X is rounded to 0.1 mm in the fixtures.
    assert joint_error_mm(found.joints[:, :, :held], joints[:, :, :held]) < 0.2
    assert found.poses is not None
    assert rotation_error_deg(found.poses[:, :, :held], poses[:, :, :held]) < 0.1


@pytest.mark.parametrize("dance", ["kthjazz_gCH_sFM_cAll_d02_mCH_ch01_invented_001", "kthstreet_gLH_sFM_cAll_d02_mLH_ch01_invented_002"])  # fmt: skip
def test_bvh_of_motorica(dance: str) -> None:
    found, joints, _, note = fixture("bvh", f"motorica_dance_dataset/bvh/{dance}.bvh")
    held = [JOINT_INDEX[name] for name in note["joints"].values()]
    assert joint_error_mm(found.joints[:, :, held], joints[:, :, held]) < 0.1


def test_features_of_humanml3d() -> None:
    file = "humanml3d/new_joint_vecs/000001.npy"
    assert format_of(FIXTURES / file) == "humanml3d"
    found, joints, _, note = fixture("humanml3d", file)
    turn = np.radians(note["yaw"])
    expected = (joints[0, :, :22] + note["shift"]) @ about_y(turn).T
    positions = np.load(FIXTURES / "humanml3d/new_joints/000001.npy")
    assert joint_error_mm((expected - expected[0, 0])[:, :, [0, 2]], positions[:, :, [0, 2]]) < 0.1
    # The facing of the first frame, smoothed, is not in the file: the whole dance is turned by it about the vertical.
    features = np.load(FIXTURES / file).astype(np.float64)
    exact = humanml3d.joints_of(features)[:, :22]
    (ax, _, az), (bx, _, bz) = (np.moveaxis(a, -1, 0) for a in (exact, positions))
    facing = about_y(np.arctan2((az * bx - ax * bz).sum(), (ax * bx + az * bz).sum()))
    assert joint_error_mm(exact @ facing.T, positions) < 0.01
    assert joint_error_mm(found.joints[0, :, :22] @ facing.T, positions) < 0.01


def about_y(angle: float) -> np.ndarray:
    """Return the rotation matrix about y, radians."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def test_standardised_features_are_refused_by_name(tmp_path: Path) -> None:
    features = np.load(FIXTURES / "humanml3d/new_joint_vecs/000001.npy")
    mean, deviation = features.mean(0), features.std(0) + 0.05
    np.save(tmp_path / "a.npy", (features - mean) / deviation)
    with pytest.raises(FormatError, match=r"a\.npy.*standardised.*Mean\.npy"):
        humanml3d.read(tmp_path / "a.npy")
    np.save(tmp_path / "a.npy", ((features - mean) / deviation) * deviation + mean)
    assert humanml3d.read(tmp_path / "a.npy").num_frames == len(features)


def dd100_file(folder: Path, turn: np.ndarray) -> tuple[Path, Motion]:
    """Write the dancer of a fixture with its axes turned by a rotation matrix."""
    source = FIXTURES / "dd100/motion/smplx/all/Waltz_5_0_01.npy"
    content = np.load(source, allow_pickle=True).item()
    pelvis = np.array(REST_PELVIS["smplx"])
    content["poses"][:, :3] = matrix_to_axis_angle(turn @ axis_angle_to_matrix(content["poses"][:, :3]))
    content["transl"] = (content["transl"] + pelvis) @ turn.T - pelvis
    np.save(folder / "a.npy", np.array(content, dtype=object), allow_pickle=True)
    return folder / "a.npy", dd100.read(source)


def test_the_axis_of_dd100_is_measured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path, expected = dd100_file(tmp_path, np.diag([1.0, -1.0, -1.0]))
    assert "y down" in caplog.text
    caplog.clear()
    assert joint_error_mm(dd100.read(path).joints, expected.joints) < 0.01
    assert "y up" in caplog.text
    path, _ = dd100_file(tmp_path, np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]))
    assert joint_error_mm(dd100.read(path).joints, expected.joints) < 0.01
    assert joint_error_mm(dd100.read(path, up="z").joints, expected.joints) < 0.01


class Payload:
    """Run code when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("wrapped", [False, True])
def test_code_in_object_arrays_never_runs(wrapped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    content: Any = Payload(marker)
    if wrapped:
        content = {"poses": np.zeros((3, 165)), "transl": np.zeros((3, 3)), "meta": content}
    np.save(tmp_path / "a.npy", np.array(content, dtype=object), allow_pickle=True)
    for name in ("dd100", "lodge", "humanml3d"):
        with pytest.raises(FormatError, match=r"a\.npy"):
            format_named(name).read(tmp_path / "a.npy")
    (tmp_path / "a.pkl").write_bytes(pickle.dumps(content))
    for name in ("coco", "gdance", "aistpp"):
        with pytest.raises(FormatError, match=r"a\.pkl"):
            format_named(name).read(tmp_path / "a.pkl")
    assert not marker.exists()


@pytest.mark.parametrize("shape", [(10**9, 24, 3), (10**18, 10**18), (-1, 3), (2**63,)])
@pytest.mark.parametrize("name", ["dd100", "humanml3d", "lodge"])
def test_arrays_that_promise_too_much(name: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    for kind in ("<f4", "|O"):
        header = str({"descr": kind, "fortran_order": False, "shape": shape}).encode().ljust(117) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(200)
        (tmp_path / "a.npy").write_bytes(data)
        tracemalloc.start()
        with pytest.raises(FormatError, match=r"a\.npy"):
            format_named(name).read(tmp_path / "a.npy")
        assert tracemalloc.get_traced_memory()[1] < 10 * 2**20
        tracemalloc.stop()


VALUES = st.sampled_from([np.nan, np.inf, -np.inf, 1e300, -1e300, 1e9, 0.0])
CONTENTS = {"coco": ("keypoints3d",), "gdance": ("smpl_poses", "root_trans"), "dd100": ("poses", "transl")}


@pytest.mark.parametrize("name", [*CONTENTS, "humanml3d", "phantomdance"])
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    values=st.lists(st.tuples(st.integers(0, 10**6), VALUES), min_size=1, max_size=5), key=st.integers(0, 1)
)
def test_numbers_that_are_none(name: str, values: list[tuple[int, float]], key: int, tmp_path: Path) -> None:
    """A file with absurd numbers gives an error that names it, or a motion of finite numbers."""
    path = _absurd(name, values, key, tmp_path)
    try:
        found = format_named(name).read(path)
    except FormatError as error:
        said = str(error)
    else:
        assert np.isfinite(found.joints).all()
        return
    assert path.name in said
    assert len(said) < 1000


def _absurd(name: str, values: list[tuple[int, float]], key: int, folder: Path) -> Path:
    def spoil(array: np.ndarray) -> np.ndarray:
        flat = array.astype(np.float64).reshape(-1).copy()
        for place, value in values:
            flat[place % flat.size] = value
        return flat.reshape(array.shape)

    if name == "humanml3d":
        np.save(folder / "a.npy", spoil(np.load(FIXTURES / "humanml3d/new_joint_vecs/000001.npy")))
        return folder / "a.npy"
    if name == "phantomdance":
        content = json.loads((FIXTURES / "phantomdance/motion/001.json").read_text())
        chosen = ("root_positions", "rotations")[key]
        content[chosen] = spoil(np.array(content[chosen])).tolist()
        (folder / "a.json").write_text(json.dumps(content))
        return folder / "a.json"
    chosen = CONTENTS[name][key % len(CONTENTS[name])]
    if name == "dd100":
        content = np.load(FIXTURES / "dd100/motion/smplx/all/Tango_1_0_00.npy", allow_pickle=True).item()
        content[chosen] = spoil(content[chosen])
        np.save(folder / "a.npy", np.array(content, dtype=object), allow_pickle=True)
        return folder / "a.npy"
    content = {"keypoints3d": points()}
    if name == "gdance":
        with (FIXTURES / "gdance/motions_smpl/sBM_two_00_120.pkl").open("rb") as file:
            content = pickle.load(file)
    content[chosen] = spoil(content[chosen])
    return dumped(folder, **content)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "damaged, or not JSON"),
        ('{"a": NaN}', "NaN is not a number"),
        ("[1, 2]", "contains a list"),
        ('{"bone_name": [], "root_positions": [[1, 2], [3]], "rotations": []}', "different lengths"),
        ('{"bone_name": [], "root_positions": [["x"]], "rotations": []}', "root_positions has the type"),
        ('{"bone_name": {}, "root_positions": [[1, 2, 3]], "rotations": [[[1, 2, 3, 4]]]}', "not of one dance"),
        ('{"bone_name": ["Pelvis"], "root_positions": [[1, 2, 3]], "rotations": [[[1, 2, 3, 4]]]}', "lacks left_hip"),
        ('{"bone_name": [], "root_positions": [[1e999, 2, 3]], "rotations": [[[]]]}', "not of one dance"),
        ('{"bone_name": [], "root_positions": ' + "9" * 10_000 + "}", "damaged, or not JSON"),
    ],
)  # fmt: skip
def test_damaged_json(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FormatError, match=rf"a\.json: .*{said}"):
        phantomdance.read(tmp_path / "a.json")


def test_json_of_left_handed_axes_keeps_the_sides() -> None:
    found = phantomdance.read(FIXTURES / "phantomdance/motion/001.json").joints[0]
    content = json.loads((FIXTURES / "phantomdance/motion/001.json").read_text())
    np.testing.assert_allclose(found[:, 0] * [-1, 1, 1], content["root_positions"], atol=1e-6)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"smpl_poses": np.zeros((2, 5, 66)), "root_trans": np.zeros((2, 5, 3))}, r"\(N, T, 72\)"),
        ({"smpl_poses": np.zeros((2, 5, 72)), "root_trans": np.zeros((2, 4, 3))}, r"\(N, T, 72\)"),
        ({"smpl_poses": np.zeros((0, 5, 72)), "root_trans": np.zeros((0, 5, 3))}, "dancers"),
        ({"smpl_poses": np.zeros((2, 5, 72))}, "contains smpl_poses; expected"),
    ],
)
def test_other_pickles_are_not_gdance(content: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=rf"a\.pkl: .*{said}"):
        gdance.read(dumped(tmp_path, **content))


def test_limits_of_legs_are_those_of_the_import(tmp_path: Path) -> None:
    joints = dance().joints[0]
    leg = leg_length(joints)
    for limit, other in ((LEGS_M[0], 0.98), (LEGS_M[1], 1.02)):
        motion_of_positions(tmp_path / "a", joints * (limit / leg / other), 60.0)
        with pytest.raises(FormatError, match=r"expected 0\.5 to 1\.15 m"):
            motion_of_positions(tmp_path / "a", joints * (limit / leg * other), 60.0)


def test_folders_are_searched_for_every_suffix_that_is_read() -> None:
    assert set(chain(*SUFFIXES)) == set(chain(*SUFFIXES_OF.values()))
