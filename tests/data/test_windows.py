from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from datasets import load_dataset

from opendance_hf.data import MotionWindows, NpzMotions, SequenceReader
from opendance_hf.data.arrow_files import ArrowFiles
from opendance_hf.motion.skeleton import JOINT_INDEX, mirror_index
from opendance_hf.schema import per_dancer
from opendance_hf.storage import pack
from tests.factories import make_sequence


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list]:
    sequences = [
        make_sequence(i, (1, 2, 1, 2, 1, 3)[i], 90 + 7 * i, group=f"piece-{i:04d}") for i in range(6)
    ]
    folder = tmp_path_factory.mktemp("windows") / "opendance-3d"
    pack(sequences, folder)
    return folder, sequences


def test_windows_are_the_rows_of_every_dancer(dataset: tuple[Path, list]) -> None:
    folder, sequences = dataset
    windows = MotionWindows(folder, num_frames=32, stride=10)
    expected = []
    for config in ("individual", "collaborative", "group_3"):
        for seq in sorted((s for s in sequences if s.config == config), key=lambda s: s.id):
            for joints in per_dancer(seq.joints, seq.num_dancers, 24, 3):
                expected += [joints[s : s + 32] for s in range(0, seq.num_frames - 31, 10)]
    assert len(windows) == len(expected)
    for index in range(0, len(windows), 7):
        np.testing.assert_array_equal(windows[index]["joints"], expected[index])


def test_a_subset_is_part_of_the_next_and_its_rows_are_still_views(dataset: tuple[Path, list]) -> None:
    folder, _ = dataset

    def ids(reader: SequenceReader) -> list[str]:
        return [reader.scalar(reader.row(index), "id") for index in range(len(reader))]

    one, two = (ids(SequenceReader(folder, ["individual"], subset=size)) for size in (1, 2))
    assert (len(one), len(two)) == (1, 2)
    assert set(one) < set(two) < set(ids(SequenceReader(folder, ["individual"])))
    reader = SequenceReader(folder, subset=1)
    assert len(reader) == 3, "one of each configuration"
    assert not reader.matrix(reader.row(1), "joints").flags.owndata
    assert len(MotionWindows(folder, num_frames=32, stride=10, subset=1)) < len(
        MotionWindows(folder, num_frames=32, stride=10)
    )


def test_columns_are_views(dataset: tuple[Path, list]) -> None:
    folder, sequences = dataset
    reader = SequenceReader(folder, ["individual"])
    row = reader.row(0)
    wanted = next(s for s in sequences if s.id == reader.scalar(row, "id"))
    music = reader.matrix(row, "music_features_7p5fps", 2, 5)
    np.testing.assert_array_equal(music, wanted.music_features_7p5fps[2:7])
    assert not music.flags.owndata


def test_rows_are_those_of_load_dataset_in_another_process_too(
    dataset: tuple[Path, list], tmp_path: Path
) -> None:
    folder, _ = dataset
    expected = load_dataset(str(folder), "individual", split="train").with_format("arrow")[:]
    files = []
    for first in (0, 2):  # batches of two rows, and of one
        files.append(tmp_path / f"{first}.arrow")
        with pa.OSFile(str(files[-1]), "wb") as file, pa.ipc.new_stream(file, expected.schema) as stream:
            stream.write_table(expected.slice(first, 2 if not first else None), max_chunksize=2 - first // 2)
    for reader in (ArrowFiles(files), pickle.loads(pickle.dumps(ArrowFiles(files)))):
        assert len(reader) == len(expected) == 3
        assert pa.Table.from_batches(list(reader)) == expected
        assert reader[-1] == reader[2]
        assert reader.column("id") == expected["id"].to_pylist()
        with pytest.raises(IndexError):
            reader[3]


def test_nothing_to_cut_is_said(dataset: tuple[Path, list]) -> None:
    folder, _ = dataset
    with pytest.raises(ValueError, match="no sequence has 1000 frames"):
        MotionWindows(folder, num_frames=1000, stride=10)
    with pytest.raises(ValueError, match="no rows in split 'test'"):
        SequenceReader(folder, split="test")


def test_copies_are_the_same_dance_mirrored_and_turned(dataset: tuple[Path, list]) -> None:
    folder, _ = dataset
    plain = MotionWindows(folder, num_frames=32, stride=10)
    copies = MotionWindows(folder, num_frames=32, stride=10, mirror=True, turns=3)
    assert len(copies) == 6 * len(plain)
    for index in (0, 5, len(plain) + 2, 3 * len(plain) + 1, len(copies) - 1):
        np.testing.assert_array_equal(copies[index]["joints"], copies[index]["joints"])
        one, original = copies[index]["joints"].numpy(), plain[index % len(plain)]["joints"].numpy()
        mirrored = (index // len(plain)) % 2 == 1
        np.testing.assert_allclose(
            one[..., 1], (original[:, mirror_index()] if mirrored else original)[..., 1], atol=1e-6
        )
        # Distances between joints survive; a mirrored left hand is as far from the head as the right one was.
        left, right = JOINT_INDEX["left_hand"], JOINT_INDEX["right_hand"]
        hand = right if mirrored else left
        head = JOINT_INDEX["head"]
        np.testing.assert_allclose(
            np.linalg.norm(one[:, left] - one[:, head], axis=-1),
            np.linalg.norm(original[:, hand] - original[:, head], axis=-1),
            rtol=1e-4,
        )
    quarter = MotionWindows(folder, num_frames=32, stride=10, turns=4)
    first = [quarter[i * len(plain)]["joints"].numpy() for i in range(4)]
    np.testing.assert_allclose(first[2][..., [0, 2]], -first[0][..., [0, 2]], atol=1e-5)
    np.testing.assert_allclose(first[0], plain[0]["joints"], atol=1e-6)


def test_a_folder_of_motion_capture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    slow = rng.normal(size=(2, 61, 24, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", joints=slow, fps=30)
    np.savez(tmp_path / "b.npz", joints=slow[0], fps=120.0)
    np.savez(tmp_path / "c.npz", joints=slow[0, :40])
    windows = MotionWindows(tmp_path, num_frames=30, stride=30)
    assert len(windows) == 2 * 4 + 1 + 1
    np.testing.assert_allclose(windows[0]["joints"][::2], slow[0, :15], atol=1e-6)
    np.testing.assert_allclose(windows[0]["joints"][1], (slow[0, 0] + slow[0, 1]) / 2, atol=1e-6)
    np.testing.assert_allclose(windows[8]["joints"], slow[0, :60:2], atol=1e-6)
    assert len(MotionWindows(tmp_path, 30, 30, leave_out=["a"])) == 2
    assert len(MotionWindows(tmp_path, 30, 30, only=["c"])) == 1
    with pytest.raises(ValueError, match="no sequence d"):
        MotionWindows(tmp_path, 30, 30, leave_out=["d"])
    np.savez(tmp_path / "d.npz", joints=slow[:, :, :22])
    with pytest.raises(ValueError, match=r"d.npz: joints must be finite \(dancers, frames, 24, 3\)"):
        MotionWindows(tmp_path, 30, 30)


def test_motions_may_have_the_beats_of_their_music(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(61, 24, 3)).astype(np.float32)
    np.savez(tmp_path / "a.npz", joints=joints, fps=30, music_beats=[20, 5, 20])
    np.savez(tmp_path / "b.npz", joints=joints, music_beats=[5, 20])
    np.savez(tmp_path / "c.npz", joints=joints)
    motions = NpzMotions(tmp_path)
    assert [beats.tolist() for beats in motions.beats] == [[10, 40], [5, 20], []]
    before = motions.fingerprint(), motions.fingerprint(music=True)
    np.savez(tmp_path / "b.npz", joints=joints, music_beats=[5, 21])
    after = NpzMotions(tmp_path)
    assert after.fingerprint() == before[0]
    assert after.fingerprint(music=True) != before[1]
    for wrong in ([[5, 20]], [5, np.inf]):
        np.savez(tmp_path / "d.npz", joints=joints, music_beats=wrong)
        with pytest.raises(ValueError, match=r"d.npz: music_beats must be a finite vector of frames"):
            NpzMotions(tmp_path)


def test_motion_in_another_unit_is_refused(tmp_path: Path) -> None:
    joints = np.random.default_rng(0).normal(size=(61, 24, 3)).astype(np.float32)
    for name, factor in (("mm", 1000.0), ("km", 0.001)):
        folder = tmp_path / name
        folder.mkdir()
        np.savez(folder / "a.npz", joints=joints * factor)
        with pytest.raises(ValueError, match="must be in metres, but the distance from pelvis to head is"):
            MotionWindows(folder, num_frames=30, stride=30)
