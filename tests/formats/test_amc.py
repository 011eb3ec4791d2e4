"""ASF and AMC files: what they hold, how the skeleton is found, and what is refused."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.formats import FormatError, amc
from opendance_hf.formats.detect import format_of
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from tests.formats import asffile

#: A person with the names of CMU's files, whose legs are 20 degrees apart at rest, as those of Vicon's skeletons are. Lengths
#: are in metres.
_BONES = """
lhipjoint  1 0 0         0.1   0 0 0
lfemur     0.34202 -0.939693 0  0.4  0 0 20  rx ry rz
ltibia     0.34202 -0.939693 0  0.4  0 0 20  rx
lfoot      0 0 1         0.15  0 0 0   rx rz
ltoes      0 0 1         0.05  90 0 0  rx
rhipjoint  -1 0 0        0.1   0 0 0
rfemur     -0.34202 -0.939693 0  0.4  0 0 -20  rx ry rz
rtibia     -0.34202 -0.939693 0  0.4  0 0 -20  rx
rfoot      0 0 1         0.15  0 0 0   rx rz
rtoes      0 0 1         0.05  90 0 0  rx
lowerback  0 1 0         0.12  0 0 0   rx ry rz
upperback  0 1 0         0.12  0 0 0   rx ry rz
thorax     0 1 0         0.12  0 0 0   rx ry rz
lowerneck  0 1 0         0.1   0 0 0   rx ry rz
upperneck  0 1 0         0.1   0 0 0   rx ry rz
head       0 1 0         0.1   0 0 0   rx ry rz
lclavicle  1 0 0         0.2   0 0 0   ry rz
lhumerus   1 0 0         0.28  180 30 90  rx ry rz
lradius    1 0 0         0.14  180 30 90  rx
lwrist     1 0 0         0.12  180 90 90  ry
lhand      1 0 0         0.04  180 90 90  rx rz
lfingers   1 0 0         0.03  180 90 90  rx
rclavicle  -1 0 0        0.2   0 0 0   ry rz
rhumerus   -1 0 0        0.28  180 -30 -90  rx ry rz
rradius    -1 0 0        0.14  180 -30 -90  rx
rwrist     -1 0 0        0.12  180 -90 -90  ry
rhand      -1 0 0        0.04  180 -90 -90  rx rz
rfingers   -1 0 0        0.03  180 -90 -90  rx
"""
_LINKS = """
root lhipjoint rhipjoint lowerback
lhipjoint lfemur
lfemur ltibia
ltibia lfoot
lfoot ltoes
rhipjoint rfemur
rfemur rtibia
rtibia rfoot
rfoot rtoes
lowerback upperback
upperback thorax
thorax lowerneck lclavicle rclavicle
lowerneck upperneck
upperneck head
lclavicle lhumerus
lhumerus lradius
lradius lwrist
lwrist lhand
lhand lfingers
rclavicle rhumerus
rhumerus rradius
rradius rwrist
rwrist rhand
rhand rfingers
"""


def cmu(folder: Path, **angles: str) -> Path:
    """Write 07.asf and 07_01.amc with two frames: at rest but for the angles given."""
    asf = [
        ":version 1.10",
        ":units",
        "  length 0.45",
        "  angle deg",
        ":root",
        "  order TX TY TZ RX RY RZ",
        ":bonedata",
    ]
    amc_lines = {}
    for line in _BONES.strip().splitlines():
        name, *rest = line.split()
        asf += ["  begin", f"    name {name}", f"    direction {' '.join(rest[:3])}", f"    length {rest[3]}"]
        asf += [
            f"    axis {' '.join(rest[4:7])} XYZ",
            *([f"   dof {' '.join(rest[7:])}"] if rest[7:] else []),
            "  end",
        ]
        if rest[7:]:
            amc_lines[name] = " ".join("0" for _ in rest[7:])
    (folder / "07.asf").write_text("\n".join([*asf, ":hierarchy", " begin", _LINKS, " end"]))
    frames = [
        [name, angles.get(name, zeros)] for name, zeros in {"root": "0 0.9 0 0 0 0", **amc_lines}.items()
    ]
    text = "\n".join(" ".join(frame) for frame in frames)
    path = folder / "07_01.amc"
    path.write_text(f":FULLY-SPECIFIED\n:DEGREES\n1\n{text}\n2\n{text}\n")
    return path


def joint(motion: Motion, name: str) -> np.ndarray:
    return motion.joints[0, 0, JOINT_INDEX[name]]


def bone(motion: Motion, start: str, end: str) -> np.ndarray:
    return joint(motion, end) - joint(motion, start)


def test_a_pose_that_was_worked_out_by_hand(tmp_path: Path) -> None:
    # The left thigh turns by -90 degrees about its own x axis, which the 20 degrees about z leave in the plane of the legs:
    # it points to the front. The knee then bends by 90 degrees: the shin hangs along the thigh's old direction.
    path = cmu(tmp_path, lfemur="-90 0 0", ltibia="90", lradius="90")
    motion = amc.read(path)
    assert format_of(path) == "amc"
    np.testing.assert_allclose(joint(motion, "pelvis"), [0, 0.9, 0], atol=1e-9)
    np.testing.assert_allclose(joint(motion, "left_hip"), [0.1, 0.9, 0], atol=1e-9)
    np.testing.assert_allclose(bone(motion, "left_hip", "left_knee"), [0, 0, 0.4], atol=1e-6)
    down = np.array([0.34202, -0.939693, 0]) * 0.4
    np.testing.assert_allclose(bone(motion, "left_knee", "left_ankle"), down, atol=1e-6)
    np.testing.assert_allclose(bone(motion, "right_hip", "right_knee"), down * [-1, 1, 1], atol=1e-6)
    # The wrist is at the end of the forearm's second half.
    assert np.linalg.norm(bone(motion, "left_elbow", "left_wrist")) == pytest.approx(0.26)
    assert np.linalg.norm(bone(motion, "left_wrist", "left_hand")) == pytest.approx(0.04)
    # The elbow's axis is perpendicular to the arm.
    assert bone(motion, "left_elbow", "left_wrist") @ [1, 0, 0] == pytest.approx(0, abs=1e-9)
    assert (motion.fps, motion.num_frames, motion.meta["id"]) == (120, 2, "07_01")


def test_the_root_turns_about_fixed_axes_in_the_order_of_its_channels(tmp_path: Path) -> None:
    path = cmu(tmp_path)
    path.write_text(path.read_text().replace("root 0 0.9 0 0 0 0", "root 0 0.9 0 30 40 50"))
    x, y, z = (axis_angle_to_matrix(np.radians(a) * e) for a, e in zip((30, 40, 50), np.eye(3), strict=True))
    np.testing.assert_allclose(amc.read_animation(path).rotations[0, 0], z @ y @ x, atol=1e-12)
    asf = tmp_path / "07.asf"
    asf.write_text(asf.read_text().replace("TX TY TZ RX RY RZ", "RZ RX RY TX TY TZ"))
    path.write_text(path.read_text().replace("root 0 0.9 0 30 40 50", "root 50 30 40 1 2 3"))
    other = amc.read_animation(path)
    np.testing.assert_allclose(other.rotations[0, 0], y @ x @ z, atol=1e-12)
    np.testing.assert_allclose(other.translations[0, 0], [1, 2, 3])


def dance(frames: int = 40) -> Motion:
    rng = np.random.default_rng(2)
    time = np.linspace(0, 2, frames)[:, None, None]
    poses = (0.5 * np.sin(2 * np.pi * (time + rng.uniform(size=(1, 24, 3)))))[None]
    poses[:, :, 0, 1] = 3 * time[:, 0, 0]
    poses[:, :, JOINT_INDEX["spine2"]] = 0  # an ASF skeleton has two joints in the spine
    transl = np.stack([np.sin(time[:, 0, 0]), 0.95 + 0 * time[:, 0, 0], time[:, 0, 0]], axis=-1)[None]
    rest = MEAN_OFFSETS[None].astype(np.float64)
    return Motion(forward_kinematics(poses, transl, rest), 120, poses, transl, rest)


@pytest.mark.parametrize("degrees", [True, False])
def test_a_dance_comes_back(degrees: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    motion = dance()
    path = asffile.write(motion, tmp_path / "60_12.amc", degrees=degrees)
    with caplog.at_level(logging.INFO):
        again = amc.read(path)
    held = [joint for joint in range(24) if joint != JOINT_INDEX["spine2"]]
    np.testing.assert_allclose(again.joints[:, :, held], motion.joints[:, :, held], atol=1e-6)
    assert again.poses is not None
    assert motion.poses is not None
    between = np.swapaxes(axis_angle_to_matrix(motion.poses), -1, -2) @ axis_angle_to_matrix(again.poses)
    # Hands have no joint beyond them; their own rotation is kept all the same.
    np.testing.assert_allclose(between, np.broadcast_to(np.eye(3), between.shape), atol=1e-5)
    assert "inch" in caplog.text
    assert "120 FPS" in caplog.text
    assert "--fps 60" in caplog.text
    caplog.clear()
    assert amc.read(path, fps=60).fps == 60
    assert "--fps 60" not in caplog.text


def test_the_skeleton_is_that_of_the_subject(tmp_path: Path) -> None:
    path = cmu(tmp_path)
    (tmp_path / "08.asf").write_text("not this one")
    amc.read(path)
    # The same name comes first, and a skeleton of another name is taken only if it is alone.
    (tmp_path / "07_01.asf").write_text("not this one either")
    with pytest.raises(FormatError, match=r"07_01\.asf"):
        amc.read(path)
    (tmp_path / "07_01.asf").unlink()
    (tmp_path / "07.asf").rename(tmp_path / "subject.asf")
    with pytest.raises(FormatError, match=r"07_01\.amc: needs the skeleton.*07\.asf.*08\.asf, subject\.asf"):
        amc.read(path)
    assert amc.read(path, skeleton=tmp_path / "subject.asf").num_frames == 2
    (tmp_path / "08.asf").unlink()
    assert amc.read(path).num_frames == 2
    (tmp_path / "subject.asf").unlink()
    with pytest.raises(FormatError, match="which has none"):
        amc.read(path)


@pytest.mark.parametrize(
    ("file", "old", "new", "fact"),
    [
        ("asf", "root lhipjoint", "root lhipjoint nobody", "'nobody'"),
        ("asf", "lfoot ltoes", "ltoes lfoot", "two parents"),
        ("asf", "ltibia lfoot\nlfoot ltoes", "lfoot ltoes\nltoes lfoot", "lfoot, ltoes.*cycle"),
        ("asf", "length 0.15", "length long", "long"),
        ("asf", "length 0.15", "length nan", "nan"),
        ("asf", "name lfoot", "name lfemur", "twice"),
        ("asf", "dof rx ry rz", "dof rx ry rz l", "changing length"),
        ("asf", "angle deg", "angle grad", "grad"),
        ("asf", ":bonedata", "  orientation 0 90 0\n:bonedata", "orientation"),
        ("asf", ":hierarchy", ":hierarchie", "hierarchy"),
        ("asf", "  order", "  odor", "no 'order'"),
        ("amc", "lfemur 0 0 0", "lfemur 0 0", "line 5.*expected 3"),
        ("amc", "lfemur 0 0 0", "lfemur 0 inf 0", "inf"),
        ("amc", "lfemur 0 0 0", "lfemur 0 x 0", "line 5"),
        ("amc", "ltibia 0\n", "", "truncated"),
        ("amc", "ltibia 0", "tail 0", "tail.*07.asf"),
        ("amc", "1\nroot", "root", "before the first frame"),
    ],
)  # fmt: skip
def test_what_is_damaged_is_named(file: str, old: str, new: str, fact: str, tmp_path: Path) -> None:
    path = cmu(tmp_path)
    damaged = tmp_path / ("07.asf" if file == "asf" else "07_01.amc")
    text = damaged.read_text()
    assert old in text
    damaged.write_text(text.replace(old, new, 1))
    with pytest.raises(FormatError, match=fact) as error:
        amc.read(path)
    assert str(error.value).startswith(str(tmp_path))


def test_a_bone_without_angles_stays_at_rest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = cmu(tmp_path)
    path.write_text(path.read_text().replace("lfingers 0\n", ""))
    assert amc.read(path).num_frames == 2
    assert "lfingers" in caplog.text


def test_legs_that_rest_apart_are_apart_on_smpls_body_too(tmp_path: Path) -> None:
    motion = amc.read(cmu(tmp_path))
    assert motion.poses is not None
    assert motion.rest_offsets is not None
    for side, sign in (("left", 1), ("right", -1)):
        hip, knee = JOINT_INDEX[f"{side}_hip"], JOINT_INDEX[f"{side}_knee"]
        # SMPL's thigh leans out by 6 degrees at rest, so that about 14 are left of the 20.
        assert np.degrees(motion.poses[0, 0, hip, 2]) * sign == pytest.approx(14, abs=1)
        along = motion.rest_offsets[0, knee] / np.linalg.norm(motion.rest_offsets[0, knee])
        np.testing.assert_allclose(along, MEAN_OFFSETS[knee] / np.linalg.norm(MEAN_OFFSETS[knee]), atol=1e-6)
    np.testing.assert_allclose(
        bone(motion, "left_hip", "left_knee"), np.multiply([0.34202, -0.939693, 0], 0.4), atol=1e-6
    )
