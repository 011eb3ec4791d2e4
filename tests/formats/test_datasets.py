"""Files of dance datasets: independent fixtures within what they hold exactly, and what the readers refuse."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.formats import FormatError, aistpp, coco, format_named
from opendance_hf.formats.detect import format_of
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.skeleton import JOINT_INDEX, LIMB_JOINTS
from tests.formats.support import joint_error_mm, rotation_error_deg
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
