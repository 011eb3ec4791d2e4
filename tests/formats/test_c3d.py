"""C3D files: joints from markers, gaps, units, axes, several people; ezc3d in a process of its own."""

from __future__ import annotations

import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from opendance_hf.formats import FormatError, c3d
from opendance_hf.formats.detect import format_of
from opendance_hf.formats.markers import joints_of, marker_of, missing_markers
from opendance_hf.motion.skeleton import JOINT_INDEX, JOINT_NAMES
from tests.formats import c3dfile

needs_ezc3d = pytest.mark.skipif(find_spec("ezc3d") is None, reason="needs the extra c3d")
TO_Z_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])
LIMBS = [
    JOINT_INDEX[f"{side}_{part}"]
    for side in ("left", "right")
    for part in ("hip", "knee", "ankle", "foot", "shoulder", "elbow", "wrist", "hand")
]


def walk(frames: int = 240, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    time = np.linspace(0, frames / 120, frames)[:, None, None]
    poses = 0.3 * np.sin(2 * np.pi * (time + rng.uniform(size=(1, 24, 3))))
    poses[:, 0, 1] = 2 * time[:, 0, 0]
    # Knees bend about x, elbows about the vertical at rest.
    poses[:, 4:6, 1:] = 0
    poses[:, 4:6, 0] = 0.5 + 0.5 * np.sin(time[:, :, 0])
    transl = np.stack([np.sin(time[:, 0, 0]), 0.95 + 0 * time[:, 0, 0], time[:, 0, 0]], axis=-1)
    return poses, transl


def file(path: Path, *, turned: bool = True, prefix: str = "", **options: object) -> np.ndarray:
    """Write a person, z up and in millimetres; return its joints, y up, in metres."""
    places, joints = c3dfile.markers(*walk())
    scale = 1000 if options.get("unit", "mm") == "mm" else 1
    turn = TO_Z_UP.T if turned else np.eye(3)
    c3dfile.write(path, {prefix + n: p @ turn * scale for n, p in places.items()}, **options)
    return joints


def test_joints_are_where_the_regressions_put_them() -> None:
    places, joints = c3dfile.markers(*walk())
    named = {name: value for label, value in places.items() if (name := marker_of(label))}
    assert not missing_markers(named)
    error = np.linalg.norm(joints_of(named) - joints, axis=-1).max(axis=0)
    # The body was made for these regressions, but its chest bends, and a shoulder's marker goes with the collar bone.
    assert error[LIMBS].max() < 0.03
    for name in (
        "pelvis",
        "left_hip",
        "left_knee",
        "right_ankle",
        "left_wrist",
        "right_hand",
        "left_foot",
        "spine3",
    ):
        assert error[JOINT_INDEX[name]] < 0.002, name
    assert error[[JOINT_INDEX["left_elbow"], JOINT_INDEX["right_elbow"]]].max() < 0.015
    assert error.max() < 0.07, dict(zip(JOINT_NAMES, error.round(3), strict=True))


def test_plug_in_gait_names_and_missing_markers() -> None:
    assert marker_of("lasi ") == marker_of("LFWT") == "left_front_hip"
    assert marker_of("RTIB") == marker_of("RSHN") == "right_shin"
    assert marker_of("RMT5") is None
    places, joints = c3dfile.markers(*walk())
    named = {name: value for label, value in places.items() if (name := marker_of(label))}
    for name in ("left_hand", "t10", "left_upper_arm", "left_thigh", "right_front_head"):
        del named[name]
    assert not missing_markers(named)
    assert np.linalg.norm(joints_of(named) - joints, axis=-1).max() < 0.12
    del named["left_back_hip"]
    assert missing_markers(named) == ["LPSI/LBWT"]
    named["sacrum"] = (places["LBWT"] + places["RBWT"]) / 2
    assert not missing_markers(named)
    np.testing.assert_allclose(joints_of(named)[:, 1], joints[:, 1], atol=2e-3)


@needs_ezc3d
@pytest.mark.parametrize(
    "options", [{}, {"processor": "dec"}, {"scale": 0.1}, {"unit": "m"}, {"turned": False}]
)
def test_a_person_comes_back(
    options: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    joints = file(tmp_path / "a.c3d", **options)
    assert format_of(tmp_path / "a.c3d") == "c3d"
    motion = c3d.read(tmp_path / "a.c3d")
    error = np.linalg.norm(motion.joints[0] - joints, axis=-1).max(axis=0)
    assert error[LIMBS].max() < 0.04
    assert motion.poses is not None
    assert (motion.fps, motion.num_dancers, motion.meta["id"]) == (120, 1, "a")
    assert "twist" in caplog.text
    assert c3d.read(tmp_path / "a.c3d", fps=60).fps == 60


def test_the_order_of_bytes_that_ezc3d_lacks_is_named(tmp_path: Path) -> None:
    file(tmp_path / "a.c3d", processor="mips")
    with pytest.raises(FormatError, match=r"a\.c3d.*MIPS"):
        c3d.read(tmp_path / "a.c3d")


@needs_ezc3d
def test_several_people_and_props(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places, joints = c3dfile.markers(*walk())
    both = {f"Ann:{name}": value for name, value in places.items()}
    both |= {f"Bob:{name}": np.add(value, [1.0, 0, 0]) for name, value in places.items()}
    both |= {"Stick:C7": places["C7"], "*12": places["C7"], "Ann:LKNX": places["C7"]}
    path = c3dfile.write(tmp_path / "a.c3d", {name: value * 1000 for name, value in both.items()})
    motion = c3d.read(path)
    assert motion.num_dancers == 2
    np.testing.assert_allclose(
        motion.joints[1] - motion.joints[0], np.broadcast_to([1.0, 0, 0], joints.shape), atol=1e-4
    )
    assert "'Stick'" in caplog.text
    del both["Ann:LKNE"]
    del both["Bob:C7"]
    c3dfile.write(path, {name: value * 1000 for name, value in both.items()})
    with pytest.raises(FormatError, match=r"no person.*(LKNE|C7) missing.*LFWT"):
        c3d.read(path)


def gapped(path: Path, *gaps: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    places, joints = c3dfile.markers(*walk())
    whole = joints_of({n: v for label, v in places.items() if (n := marker_of(label))})
    places = {name: value * 1000 for name, value in places.items()}
    for start, end in gaps:
        places["LKNE"][start:end] = np.nan
    c3dfile.write(path, places)
    return joints, whole


@needs_ezc3d
def test_short_gaps_are_filled_and_long_ones_cut(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.c3d"
    _, whole = gapped(path, (50, 70))  # 1/6 s
    motion = c3d.read(path)
    assert motion.num_frames == 240
    assert np.linalg.norm(motion.joints[0, 50:70, 4] - whole[50:70, 4], axis=-1).max() < 0.06
    assert not caplog.text
    _, whole = gapped(path, (0, 5), (60, 100))
    motion = c3d.read(path)
    assert motion.num_frames == 140
    np.testing.assert_allclose(motion.joints[0, :, 0], whole[100:, 0], atol=0.03)
    assert "frames 100 to 239 of 240" in caplog.text
    gapped(path, (60, 100), (160, 200))
    with pytest.raises(FormatError, match=r"longest part.*0\.50 s.*1 s"):
        c3d.read(path)


@needs_ezc3d
def test_units_are_checked(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    places, joints = c3dfile.markers(*walk())
    path = c3dfile.write(tmp_path / "a.c3d", places, unit="mm")  # they are metres
    with pytest.raises(FormatError, match=r"'mm'.*in m;.*POINT:UNITS"):
        c3d.read(path)
    c3dfile.write(path, {name: value * 100 for name, value in places.items()}, unit="?")
    np.testing.assert_allclose(c3d.read(path).joints[0, :, 20], joints[:, 20], atol=0.05)
    assert "taken for cm" in caplog.text


@needs_ezc3d
def test_ezc3d_reads_what_the_tests_write(tmp_path: Path) -> None:
    import ezc3d

    file(tmp_path / "a.c3d")
    content = ezc3d.c3d(str(tmp_path / "a.c3d"))
    assert content["data"]["points"].shape == (4, 41, 240)
    assert content["parameters"]["POINT"]["UNITS"]["value"] == ["mm"]
    # And a file that ezc3d writes is one that the check of the header accepts.
    content.write(str(tmp_path / "b.c3d"))
    c3d.check_header(tmp_path / "b.c3d")
    np.testing.assert_allclose(
        c3d.read(tmp_path / "b.c3d").joints, c3d.read(tmp_path / "a.c3d").joints, atol=1e-6
    )


@needs_ezc3d
def test_a_lower_limit_of_memory_is_kept(tmp_path: Path) -> None:
    joints = file(tmp_path / "a.c3d")
    script = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "from pathlib import Path; from opendance_hf.formats.c3d import read\n"
        "print(read(Path(sys.argv[1])).joints.shape[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, tmp_path / "a.c3d"], capture_output=True, text=True)
    assert done.stdout.strip() == str(len(joints)), done.stderr


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path / "a.c3d")
    monkeypatch.setattr(c3d, "find_spec", lambda name: None)
    with pytest.raises(FormatError, match=r"ezc3d.*pip install .*c3d"):
        c3d.read(tmp_path / "a.c3d")


def test_a_crash_of_ezc3d_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file(tmp_path / "a.c3d")
    (tmp_path / "ezc3d.py").write_text("import os\nos.kill(os.getpid(), 11)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(c3d, "find_spec", lambda name: True)
    with pytest.raises(FormatError, match=r"ezc3d cannot read it \(it ended with -11\)"):
        c3d.read(tmp_path / "a.c3d")
