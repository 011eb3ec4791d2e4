"""What every format reads and writes."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from opendance_hf.formats import FORMATS, FormatError, WritableFormat, format_named
from opendance_hf.formats.motion import Motion, one_file_a_dancer
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import MEAN_OFFSETS

RNG = np.random.default_rng(0)


def motion(num_dancers: int = 2, num_frames: int = 5) -> Motion:
    """A motion with all that one can have, in float32; the dancers stand upright."""
    poses = RNG.normal(0, 0.2, (num_dancers, num_frames, 24, 3)).astype(np.float32)
    transl = RNG.normal(0, 1, (num_dancers, num_frames, 3)).astype(np.float32)
    rest = np.repeat(MEAN_OFFSETS[None], num_dancers, axis=0).astype(np.float32)
    return Motion(
        forward_kinematics(poses, transl, rest[:, None]).astype(np.float32),
        60.0,
        poses=poses,
        transl=transl,
        rest_offsets=rest,
        betas=RNG.normal(0, 1, (num_dancers, 10)).astype(np.float32),
        confidence=RNG.uniform(0, 1, (num_dancers, num_frames)).astype(np.float32),
        meta={"id": "a", "group": "song", "ground": 0.0, "music_beats": (0, 3)},
    )


def test_equal_means_equal_to_the_last_bit() -> None:
    one = motion()
    assert one == replace(one)
    for change in (
        {"joints": one.joints + np.float32(1e-6)},
        {"joints": one.joints.astype(np.float64)},
        {"poses": None},
        {"fps": 30.0},
        {"meta": {"id": "b"}},
    ):
        assert one != replace(one, **change)
    assert one != "a motion"


@pytest.mark.parametrize(
    ("changes", "name", "fact"),
    [
        ({"joints": np.zeros((5, 24, 3))}, "joints", "(5, 24, 3)"),
        ({"joints": np.zeros((0, 5, 24, 3))}, "joints", "(0, 5, 24, 3)"),
        ({"joints": np.zeros((2, 5, 22, 3))}, "joints", "(2, 5, 22, 3)"),
        ({"joints": np.full((2, 5, 24, 3), np.nan)}, "joints", "NaN"),
        ({"joints": np.zeros((2, 5, 24, 3), bool)}, "joints", "bool"),
        ({"poses": np.zeros((2, 5, 72))}, "poses", "(2, 5, 72)"),
        ({"poses": [[1.0]]}, "poses", "1.0"),
        ({"transl": np.zeros((5, 3))}, "transl", "(5, 3)"),
        ({"rest_offsets": np.full((2, 24, 3), np.inf)}, "rest_offsets", "infinity"),
        ({"betas": np.zeros((2, 300))}, "betas", "(2, 300)"),
        ({"confidence": np.zeros((5, 2))}, "confidence", "(5, 2)"),
        ({"fps": 0.0}, "fps", "0"),
        ({"fps": float("nan")}, "fps", "nan"),
    ],
)
def test_what_is_not_a_motion_is_named(changes: dict[str, Any], name: str, fact: str) -> None:
    with pytest.raises(FormatError) as error:
        replace(motion(), **changes)
    assert name in str(error.value)
    assert fact in str(error.value)


def test_dancers_one_by_one() -> None:
    both = motion()
    alone = both.dancer(1)
    np.testing.assert_array_equal(alone.joints, both.joints[1:])
    assert (alone.num_dancers, alone.num_frames, alone.meta["dancer"]) == (1, 5, 1)
    assert alone.dancer(0) == alone
    files = [path for _, path in one_file_a_dancer(both, Path("a/b.npz"))]
    assert files == [Path("a/b_0.npz"), Path("a/b_1.npz")]
    assert [path for _, path in one_file_a_dancer(alone, Path("b.npz"))] == [Path("b.npz")]


READ_ONLY = {
    "amc", "c3d", "coco", "dd100", "edge", "gdance", "gvhmr", "humanml3d", "lodge", "phantomdance", "wham",
}  # fmt: skip


def test_every_format_reads_and_most_write(tmp_path: Path) -> None:
    for name in FORMATS:
        module = format_named(name)
        assert callable(module.read)
        missing = tmp_path / "missing.npz"
        with pytest.raises(FileNotFoundError):
            module.read(missing)
        assert isinstance(module, WritableFormat) == (name not in READ_ONLY)
        if isinstance(module, WritableFormat):
            with pytest.raises(FormatError, match=r"wrong\.suffix"):
                module.write(motion(), tmp_path / "wrong.suffix")
        (tmp_path / "noise").write_bytes(b"noise")
        with pytest.raises(FormatError, match="noise"):
            module.read(tmp_path / "noise")


def test_an_unknown_format_is_answered_with_the_list() -> None:
    with pytest.raises(FormatError, match=r"'maya'.*aistpp, amass, .*opendance, .*wham"):
        format_named("maya")


def test_the_table_is_cheap_to_import() -> None:
    code = "import sys, opendance_hf.formats; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
