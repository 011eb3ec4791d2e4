"""BVH files: channels in any order, positions on joints, several roots, and what damaged files say."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from opendance_hf.formats import FormatError, bvh
from tests.formats.support import dance, joint_error_mm

SMALL = """HIERARCHY
ROOT Hips
{
\tOFFSET 0 0 0
\tCHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
\tJOINT Spine
\t{
\t\tOFFSET 0 10 0
\t\tCHANNELS 6 Yrotation Xposition Zposition Yposition Xrotation Zrotation
\t\tEnd Site
\t\t{
\t\t\tOFFSET 0 5 0
\t\t}
\t}
}
MOTION
Frames: 2
Frame Time: .0083333
1 2 3 90 0 0 0 0 0 10 0 0
1 2 3 0 0 30 40 1 2 12 50 60
"""


def write_text(folder: Path, text: str) -> Path:
    file = folder / "a.bvh"
    file.write_text(text)
    return file


def test_channels_are_read_in_their_order(tmp_path: Path) -> None:
    (animation,) = bvh.read_animations(write_text(tmp_path, SMALL))
    assert animation.names == ("Hips", "Spine", "Spine_end")
    assert animation.fps == pytest.approx(120, abs=0.01)
    turned, placed = animation.world()
    # A quarter turn about z takes y to -x.
    np.testing.assert_allclose(placed[0], [[1, 2, 3], [-9, 2, 3], [-14, 2, 3]], atol=1e-12)
    first = Rotation.from_euler("Y", 30, degrees=True).as_matrix()
    second = (
        Rotation.from_euler("Y", 40, degrees=True)
        * Rotation.from_euler("X", 50, degrees=True)
        * Rotation.from_euler("Z", 60, degrees=True)
    ).as_matrix()
    np.testing.assert_allclose(turned[1, 1], first @ second, atol=1e-12)
    # A position replaces the offset.
    np.testing.assert_allclose(placed[1, 1], np.array([1, 2, 3]) + first @ [1, 12, 2], atol=1e-12)


def test_windows_lines_tabs_and_broken_frames_are_read(tmp_path: Path) -> None:
    text = SMALL.replace("1 2 3 90 0 0 0 0 0 10 0 0", "1e0 2 3\n90 0 0 0\t0 0\n10 0 0").replace("\n", "\r\n")
    file = tmp_path / "a.bvh"
    file.write_bytes(text.encode())
    (animation,) = bvh.read_animations(file)
    np.testing.assert_allclose(animation.world()[1][0, 1], [-9, 2, 3], atol=1e-12)


def test_every_root_is_a_dancer(tmp_path: Path) -> None:
    files = bvh.write(dance(2), tmp_path / "d.bvh")
    texts = [file.read_text() for file in files]
    heads, tails = zip(*(text.split("MOTION\n") for text in texts), strict=True)
    rows = [tail.splitlines() for tail in tails]
    both = heads[0] + heads[1].replace("HIERARCHY\n", "") + "MOTION\n" + "\n".join(rows[0][:2]) + "\n"
    both += "\n".join(f"{left} {right}" for left, right in zip(rows[0][2:], rows[1][2:], strict=True))
    found = bvh.read(write_text(tmp_path, both))
    assert found.num_dancers == 2
    assert joint_error_mm(found.joints, dance(2).joints) < 0.01


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("HIERARCHY", "HIERARCHIE"), "line 1: starts with 'HIERARCHIE'"),
        (("OFFSET 0 10 0", "OFFSET 0 nan 0"), "line 8: '0 nan 0' are not 3 finite numbers"),
        (("CHANNELS 6 Yrotation", "CHANNELS 7 Yrotation"), "line 9: channels"),
        (("CHANNELS 6 Yrotation", f"CHANNELS 6 {'x' * 5000}"), f"line 9: channels '6 {'x' * 98}' are not"),
        (("Yrotation Xposition", "Zrotation Xposition"), "line 9: a channel is there twice"),
        (("Frames: 2", "Frames: 3"), "has 24 numbers, but 3 frames of 12 channels need 36"),
        (("Frames: 2", "Frames: 99999999999"), "too many"),
        (("Frames: 2", "Frames: -2"), "0 frames"),
        (("Frame Time: .0083333", "Frame Time: 0"), "expected at least one frame"),
        (("1 2 3 90", "1 2 3 inf"), "NaN or infinity in frame 0"),
        (("1 2 3 90", "1 2 3 ninety"), "something other than numbers"),
        (("}\nMOTION", "MOTION"), "MOTION before the hierarchy is complete"),
        (("\nMOTION", "\n}\nMOTION"), "a bracket closes that was not opened"),
        (("JOINT Spine", "ROOT Spine"), "ROOT inside of another joint"),
        (("MOTION", "NOTION"), "unknown word 'NOTION'"),
    ],
)
def test_damaged_files_are_refused_by_name_and_line(
    change: tuple[str, str], said: str, tmp_path: Path
) -> None:
    assert change[0] in SMALL
    file = write_text(tmp_path, SMALL.replace(*change, 1))
    with pytest.raises(FormatError) as error:
        bvh.read(file)
    assert str(error.value).startswith(str(file))
    assert said in str(error.value)


def test_a_truncated_header_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="ends in the hierarchy"):
        bvh.read(write_text(tmp_path, SMALL[: SMALL.index("CHANNELS")]))


def test_joints_alone_cannot_be_written(tmp_path: Path) -> None:
    from opendance_hf.formats.motion import Motion

    with pytest.raises(FormatError, match="only joint positions"):
        bvh.write(Motion(dance().joints, 60.0), tmp_path / "a.bvh")
    assert not list(tmp_path.iterdir())
