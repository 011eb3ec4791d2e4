from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from opendance_hf.data import MotionWindows, SequenceReader
from opendance_hf.schema import per_dancer
from opendance_hf.storage import pack
from tests.factories import make_sequence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    sequences = [make_sequence(i, 1 + i % 2, 90 + 7 * i) for i in range(5)]
    folder = tmp_path_factory.mktemp("windows") / "opendance-3d"
    pack(sequences, folder)
    return folder, sequences


def test_windows_are_the_rows_of_every_dancer(dataset: tuple[Path, list]) -> None:
    folder, sequences = dataset
    windows = MotionWindows(folder, num_frames=32, stride=10)
    expected = []
    for config in ("individual", "collaborative"):
        for seq in sorted((s for s in sequences if s.config == config), key=lambda s: s.id):
            for joints in per_dancer(seq.joints, seq.num_dancers, 24, 3):
                expected += [joints[s : s + 32] for s in range(0, seq.num_frames - 31, 10)]
    assert len(windows) == len(expected)
    for index in range(0, len(windows), 7):
        np.testing.assert_array_equal(windows[index]["joints"], expected[index])


def test_columns_are_views(dataset: tuple[Path, list]) -> None:
    folder, sequences = dataset
    reader = SequenceReader(folder, ["individual"])
    row = reader.row(0)
    wanted = next(s for s in sequences if s.id == reader.scalar(row, "id"))
    music = reader.matrix(row, "music_features_7p5fps", 2, 5)
    np.testing.assert_array_equal(music, wanted.music_features_7p5fps[2:7])
    assert not music.flags.owndata


def test_nothing_to_cut_is_said(dataset: tuple[Path, list]) -> None:
    folder, _ = dataset
    with pytest.raises(ValueError, match="no sequence has 1000 frames"):
        MotionWindows(folder, num_frames=1000, stride=10)
    with pytest.raises(ValueError, match="no rows in split 'test'"):
        SequenceReader(folder, split="test")
