"""Animations of any hierarchy become SMPL's joints: round trips over rigs, units, axes, rest poses, sides."""

from __future__ import annotations

import json
import logging
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opendance_hf.formats import FormatError, bvh, format_named, glb
from opendance_hf.formats.animation import UNITS_M, Animation, to_motion
from opendance_hf.formats.gltf import GltfFile
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import RIGS, names_of
from opendance_hf.motion.rotations import axis_angle_to_matrix
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from tests.formats.support import dance, joint_error_mm, rotation_error_deg

HERE = Path("dance.bvh")


def animation_of(motion: Motion, rig: str = "smpl") -> Animation:
    return rigged(HERE, motion, names_of(rig)).animation


def read_back(animation: Animation, **answers: object) -> Motion:
    return to_motion(HERE, [animation], kind="BVH", **answers)  # type: ignore[arg-type]


@pytest.mark.parametrize("rig", RIGS)
@pytest.mark.parametrize("name", ["bvh", "glb"])
def test_a_round_trip_gives_positions_and_rotations_back(name: str, rig: str, tmp_path: Path) -> None:
    motion = dance(2)
    module = {"bvh": bvh, "glb": glb}[name]
    files = module.write(motion, tmp_path / f"dance.{name}", rig=rig)
    found = [module.read(file) for file in files]
    joints = np.concatenate([one.joints for one in found])
    poses = np.concatenate([one.poses for one in found])
    assert joint_error_mm(joints, motion.joints) < 0.01
    assert rotation_error_deg(poses, motion.poses) < 0.001
    assert {one.fps for one in found} == {60.0}


def test_vrm_animations_come_back(tmp_path: Path) -> None:
    vrma = format_named("vrma")
    motion = dance(2)
    files = vrma.write(motion, tmp_path / "dance.vrma")  # type: ignore[attr-defined]
    assert [file.name for file in files] == ["dance_0.vrma", "dance_1.vrma"]
    for dancer, file in enumerate(files):
        found = vrma.read(file)
        assert joint_error_mm(found.joints[0], motion.joints[dancer]) < 0.01
        assert rotation_error_deg(found.poses[0], motion.poses[dancer]) < 0.001


def _with_other_names(path: Path, bones: object = None) -> Path:
    """Change the names of the nodes of a GLB; the extension keeps those of the bones."""
    file = GltfFile.load(path)
    for number, node in enumerate(file.content["nodes"]):
        # Two other nodes have the names of bones that they are not.
        node["name"] = {3: "head", 5: "hips"}.get(number, f"Bone.{number:03}")
    if bones is not None:
        file.content["extensions"]["VRMC_vrm_animation"]["humanoid"]["humanBones"] = bones
    text = json.dumps(file.content).encode()
    text += b" " * (-len(text) % 4)
    data = struct.pack("<II", len(text), 0x4E4F534A) + text
    data += struct.pack("<II", len(file.buffers[0]), 0x004E4942) + file.buffers[0]
    path.write_bytes(struct.pack("<4sII", b"glTF", 2, 12 + len(data)) + data)
    return path


def test_vrm_animations_with_other_names_of_nodes_are_read_by_their_bones(tmp_path: Path) -> None:
    vrma, motion = format_named("vrma"), dance()
    (file,) = vrma.write(motion, tmp_path / "dance.vrma")  # type: ignore[attr-defined]
    found = vrma.read(_with_other_names(file))
    assert joint_error_mm(found.joints, motion.joints) < 0.01
    assert rotation_error_deg(found.poses, motion.poses) < 0.001


@pytest.mark.parametrize("bones", [{"hips": {"node": 10_000}}, {"hips": 3}, {"hips": {"node": True}}])
def test_vrm_bones_that_are_not_nodes_are_refused(bones: object, tmp_path: Path) -> None:
    vrma = format_named("vrma")
    (file,) = vrma.write(dance(), tmp_path / "dance.vrma")  # type: ignore[attr-defined]
    with pytest.raises(FormatError, match=r"dance\.vrma: there is no number .* in 'nodes'"):
        vrma.read(_with_other_names(file, bones))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from(RIGS))
def test_any_pose_comes_back(seed: int, rig: str) -> None:
    rng = np.random.default_rng(seed)
    motion = dance(1, 30)
    poses = rng.normal(0, 0.8, (1, 30, NUM_JOINTS, 3))
    poses[:, :, 0] = motion.poses[:, :, 0]
    # The body stands, whatever its arms, head and trunk do.
    for joint in ("left_hip", "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "spine1"):
        poses[:, :, JOINT_INDEX[joint]] *= 0.1
    motion = Motion(_joints(motion, poses), 60.0, poses, motion.transl, motion.rest_offsets)
    found = read_back(animation_of(motion, rig))
    assert joint_error_mm(found.joints, motion.joints) < 1e-6
    assert rotation_error_deg(found.poses, poses) < 1e-4


def _joints(motion: Motion, poses: np.ndarray) -> np.ndarray:
    from opendance_hf.motion.body import forward_kinematics

    assert motion.transl is not None
    assert motion.rest_offsets is not None
    return forward_kinematics(poses, motion.transl, motion.rest_offsets[:, None])


@pytest.mark.parametrize("unit", list(UNITS_M))
def test_the_unit_is_measured(unit: str, caplog: pytest.LogCaptureFixture) -> None:
    motion, scale = dance(), UNITS_M[unit]
    made = animation_of(motion)
    scaled = replace(
        made, rest_translations=made.rest_translations / scale, translations=made.translations / scale
    )
    with caplog.at_level(logging.INFO):
        found = read_back(scaled)
    assert joint_error_mm(found.joints, motion.joints) < 1e-3
    assert f"unit {unit}" in caplog.text


def test_a_body_of_no_unit_is_refused() -> None:
    made = animation_of(dance())
    scaled = replace(made, rest_translations=made.rest_translations * 5, translations=made.translations * 5)
    with pytest.raises(FormatError, match=r"dance\.bvh: a leg is 4.* scale the file first"):
        read_back(scaled)


def test_axes_with_z_up_are_turned() -> None:
    motion, made = dance(), animation_of(dance())
    to_z = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    turned, moved = made.rotations.copy(), made.translations.copy()
    turned[:, 0], moved[:, 0] = to_z @ turned[:, 0], moved[:, 0] @ to_z.T
    rest = made.rest_rotations.copy()
    rest[0] = to_z
    for given_up in (None, "z"):
        found = read_back(
            replace(made, rotations=turned, translations=moved, rest_rotations=rest), up=given_up
        )
        assert joint_error_mm(found.joints, motion.joints) < 1e-6
        assert rotation_error_deg(found.poses, motion.poses) < 1e-4


def test_a_body_that_lies_asks_for_the_axis() -> None:
    made = animation_of(dance())
    lying = np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]])
    turned = made.rotations.copy()
    turned[:, 0] = lying @ turned[:, 0]
    with pytest.raises(FormatError, match=r"do not stand along y or z.*--up"):
        read_back(replace(made, rotations=turned))


@pytest.mark.parametrize("up", [None, "y"])
def test_a_body_that_is_upside_down_is_refused_whatever_points_up(up: str | None) -> None:
    made = animation_of(dance())
    turned = made.rotations.copy()
    turned[:, 0] = np.diag([1.0, -1, -1]) @ turned[:, 0]
    with pytest.raises(FormatError, match=r"dance\.bvh: bodies stand upside down along y"):
        read_back(replace(made, rotations=turned), up=up)


def test_exchanged_sides_are_refused() -> None:
    made = animation_of(dance())
    swap = {"left": "right", "right": "left"}
    names = tuple(
        f"{swap[name.split('_')[0]]}_{name.split('_', 1)[1]}" if "_" in name else name for name in made.names
    )
    with pytest.raises(FormatError, match="left and right are exchanged, or the motion is mirrored"):
        read_back(replace(made, names=names))


def test_a_rest_pose_that_is_no_body_keeps_positions_and_the_mean_twist(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in LaFAN1, whose bones all lie along x at rest."""
    motion = dance(1, 240)
    made = animation_of(motion)
    rng = np.random.default_rng(2)
    # Every joint gets other axes: what it did in the old ones, it does in these.
    axes = axis_angle_to_matrix(rng.normal(0, 1.5, (NUM_JOINTS, 3)))
    turned, placed = made.world()
    turned = turned @ axes
    local, moved = turned.copy(), placed.copy()
    for joint, parent in enumerate(made.parents):
        if parent >= 0:
            back = np.swapaxes(turned[:, parent], -1, -2)
            local[:, joint] = back @ turned[:, joint]
            moved[:, joint] = np.einsum("tij,tj->ti", back, placed[:, joint] - placed[:, parent])
    plain = np.broadcast_to(np.eye(3), (NUM_JOINTS, 3, 3))
    odd = replace(made, rotations=local, translations=moved, rest_rotations=plain, rest_translations=moved[0])
    with caplog.at_level(logging.INFO):
        found = read_back(odd)
    assert "no T-pose or A-pose at rest" in caplog.text
    assert joint_error_mm(found.joints, motion.joints) < 1
    # A joint's twist is off by one constant angle; how it changes is kept.
    elbow = JOINT_INDEX["right_elbow"]
    ours = axis_angle_to_matrix(found.poses[0, :, elbow])
    true = axis_angle_to_matrix(motion.poses[0, :, elbow])
    changes = np.swapaxes(ours[:-1], -1, -2) @ ours[1:], np.swapaxes(true[:-1], -1, -2) @ true[1:]
    angles = [np.degrees(np.arccos(np.clip((np.trace(c, axis1=1, axis2=2) - 1) / 2, -1, 1))) for c in changes]
    assert np.abs(angles[0] - angles[1]).max() < 3


def test_hands_that_a_file_lacks_are_beyond_the_forearms() -> None:
    motion, made = dance(), animation_of(dance())
    keep = [index for index, name in enumerate(made.names) if name not in ("left_hand", "right_hand")]
    few = Animation(
        tuple(made.names[k] for k in keep),
        tuple(made.parents[k] for k in keep),
        made.rest_rotations[keep], made.rest_translations[keep],
        made.rotations[:, keep], made.translations[:, keep], made.fps,
    )  # fmt: skip
    found = read_back(few)
    assert joint_error_mm(found.joints[:, :, :22], motion.joints[:, :, :22]) < 1e-6
    assert 1 < joint_error_mm(found.joints, motion.joints) < 100


def test_joints_between_that_move_are_said_and_bones_stay_rigid(caplog: pytest.LogCaptureFixture) -> None:
    """As CMU's Neck1, which bends between two joints of SMPL."""
    made = animation_of(dance())
    moved = made.translations.copy()
    neck = JOINT_INDEX["neck"]
    moved[:, neck, 2] += 0.03 * np.sin(np.arange(len(moved)) / 5)
    with caplog.at_level(logging.INFO):
        found = read_back(replace(made, translations=moved))
    assert np.ptp(np.linalg.norm(found.joints[0, :, neck] - found.joints[0, :, 9], axis=-1)) < 1e-9
    said = float(caplog.text.split("joints move by up to ")[1].split(" mm")[0])
    assert 5 < said < 35
