from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from datasets import load_dataset

from opendance_hf.schema import (
    SCHEMA_VERSION,
    DanceSequence,
    SchemaError,
    config_of,
    features,
    flat_dancers,
    from_row,
    mean_joint_speed,
    per_dancer,
    sorted_configs,
    to_row,
    validate,
)
from opendance_hf.storage import load_sequence, pack, save_sequence
from tests.factories import assert_same, make_sequence


@pytest.mark.parametrize("num_dancers", [1, 2, 3])
@pytest.mark.parametrize("full", [True, False])
def test_a_valid_sequence_passes_and_survives_a_row(num_dancers: int, full: bool) -> None:
    seq = make_sequence(1, num_dancers, full=full)
    assert validate(seq) is seq
    assert_same(from_row(to_row(seq)), seq)


def test_rows_of_python_lists_are_taken() -> None:
    seq = make_sequence(1, 2)
    row = to_row(seq)
    plain = {key: value.tolist() if isinstance(value, np.ndarray) else value for key, value in row.items()}
    assert_same(from_row(plain), seq)


def test_rows_in_the_formats_of_datasets_give_the_same_sequence(tmp_path: Path) -> None:
    seq = make_sequence(3, num_dancers=2)
    pack([seq], tmp_path / "d")
    (split,) = load_dataset(str(tmp_path / "d"), "collaborative", cache_dir=str(tmp_path / "c")).values()
    assert_same(dataclasses.replace(from_row(split[0]), subset_rank=None), seq)
    found = from_row(split.with_format("numpy")[0])
    save_sequence(tmp_path / "a.npz", found)
    assert_same(load_sequence(tmp_path / "a.npz"), found)
    # The format itself rounds numbers to 32 bits.
    exact = {
        "subset_rank": None,
        "bpm": seq.bpm,
        "motion_velocity": seq.motion_velocity,
        "provenance": seq.provenance,
    }
    assert found.bpm == np.float32(seq.bpm)
    assert_same(dataclasses.replace(found, **exact), seq)


def test_a_sequence_is_printed_in_brief() -> None:
    seq = make_sequence(3, num_dancers=2)
    text = repr(seq)
    assert f"id={seq.id!r}" in text
    assert f"joints=<float32 ({seq.num_frames}, 144)>" in text
    assert "\n" not in text
    assert len(text) < 2000


def test_one_column_a_field() -> None:
    assert set(features(1)) == {field.name for field in dataclasses.fields(DanceSequence)}
    assert features(2)["joints"] == datasets.Array2D((None, 144), "float32")


def _shifted(array: np.ndarray, index: Any, by: float) -> np.ndarray:
    out = array.copy()
    out[index] += by
    return out


GOOD = make_sequence(1)
BAD: list[tuple[str, dict[str, Any], str]] = [
    ("id", {"id": "a b"}, "must match"),
    ("id", {"id": "a.b"}, "must match"),
    ("group", {"group": "../up"}, "must match"),
    ("num_dancers", {"num_dancers": 0}, "at least 1, got 0"),
    ("num_dancers", {"num_dancers": 1.0}, "int32, got float 1.0"),
    ("genre", {"genre": 3}, "string, got int 3"),
    ("joints", {"joints": [1.0]}, "array, got list"),
    ("num_frames", {"num_frames": 1}, "at least 2, got 1"),
    ("fps", {"fps": 30.0}, "60, got 30.0; resample"),
    ("smpl_pose", {"smpl_pose": GOOD.smpl_pose[:-1]}, r"has shape \(39, 72\), expected \(40, 72\)"),
    ("music_features_7p5fps", {"music_features_7p5fps": GOOD.music_features}, r"expected \(5, 438\)"),
    ("smpl_betas", {"smpl_betas": np.zeros(11, np.float32)}, r"expected \(10,\)"),
    ("genre_scores", {"genre_scores": np.zeros(9, np.float32)}, r"expected \(10,\)"),
    ("joints", {"joints": GOOD.joints.astype(np.float64)}, "is float64, expected float32"),
    ("music_features", {"music_features": GOOD.music_features * np.float32(np.nan)}, "holds NaN or infinity"),
    ("bpm", {"bpm": float("inf")}, "finite, got inf"),
    ("motion_velocity", {"motion_velocity": -1.0}, "at least 0, got -1.0"),
    ("confidence", {"confidence": GOOD.confidence + np.float32(1)}, r"at most 1, got 1\.[0-9]"),
    ("genre", {"genre": "polka"}, "must be one of blues"),
    ("music_beats", {"music_beats": GOOD.music_beats.astype(np.int64)}, "is int64, expected int32"),
    ("music_beats", {"music_beats": np.zeros((2, 1), np.int32)}, r"shape \(2, 1\), expected \(B,\)"),
    ("music_beats", {"music_beats": np.array([-1], np.int32)}, "at least 0, got -1"),
    ("subset_rank", {"subset_rank": -1}, "at least 0, got -1"),
    ("smpl_betas", {"smpl_betas": np.zeros((0,), np.float32)}, r"shape \(0,\), expected \(10,\)"),
    (
        "provenance.licence",
        {"provenance": dataclasses.replace(GOOD.provenance, licence=None)},
        "string, got None",
    ),
    ("music_beats", {"music_beats": np.array([3, 3], np.int32)}, r"must increase strictly within \[0, 40\)"),
    ("music_beats", {"music_beats": np.array([40], np.int32)}, r"must increase strictly within \[0, 40\)"),
    ("joints", {"joints": _shifted(GOOD.joints, (7, 30), 0.05)}, r"50\.0 mm from forward kinematics"),
    (
        "provenance",
        {"provenance": dataclasses.replace(GOOD.provenance, end_s=9.0)},
        "465 frames, but num_frames is 40",
    ),
]


@pytest.mark.parametrize(
    ("column", "changes", "why"), BAD, ids=[f"{c}-{i}" for i, (c, _, _) in enumerate(BAD)]
)
def test_every_rule_names_sequence_and_column(column: str, changes: dict[str, Any], why: str) -> None:
    with pytest.raises(SchemaError, match=f"sequence .*column '{column}': .*{why}"):
        validate(dataclasses.replace(GOOD, **changes))


def old_row(version: str) -> dict[str, Any]:
    """A row as the schema of that version had it."""
    row = to_row(make_sequence(1))
    row["provenance"] = {**row["provenance"], "schema_version": version}
    camera = row["provenance"]["camera"]
    assert camera is not None
    added = ("focal_sd", "tilt_sd_deg", "turn_deg", "zoom")
    row["provenance"]["camera"] = {key: value for key, value in camera.items() if key not in added}
    del row["joint_confidence"]
    del row["provenance"]["repairs"]
    if version < "1.2":
        del row["provenance"]["pipeline"]
    if version == "1.0":
        del row["subset_rank"]
    return row


@pytest.mark.parametrize("version", ["1.0", "1.1", "1.2"])
def test_rows_of_older_schemas_load(version: str) -> None:
    seq = from_row(old_row(version))
    assert seq.subset_rank is None
    assert seq.joint_confidence is None
    assert seq.provenance.pipeline == ""
    assert seq.provenance.repairs == ()
    assert seq.provenance.schema_version == version
    camera = seq.provenance.camera
    assert camera is not None
    assert (camera.focal_sd, camera.tilt_sd_deg, camera.turn_deg, camera.zoom) == (None, None, 0.0, 1.0)
    validate(seq)


def test_a_row_of_a_newer_schema_is_read_as_far_as_it_goes() -> None:
    seq = make_sequence(1)
    assert_same(from_row({**to_row(seq), "column_of_tomorrow": [1.0]}), seq)


def test_a_row_without_a_required_column_is_refused() -> None:
    row = to_row(make_sequence(1))
    del row["joints"]
    with pytest.raises(KeyError, match="joints"):
        from_row(row)


def test_the_version_counts_the_rows_that_were_repaired() -> None:
    assert SCHEMA_VERSION == "1.6"
    assert features(2)["joint_confidence"] == datasets.Array2D((None, 48), "float32")


def test_configurations_by_number_of_dancers() -> None:
    names = [config_of(count) for count in (12, 3, 2, 1)]
    assert names == ["group_12", "group_3", "collaborative", "individual"]
    assert make_sequence(1, 3).config == "group_3"
    found = sorted_configs([*names, "default", "group_3"])
    assert found == ["individual", "collaborative", "group_3", "group_12", "default"]


MUSIC = ("music_features", "music_features_7p5fps", "music_features_fact", "bpm")


def test_a_dance_without_a_song_has_no_music_at_all() -> None:
    silent = dataclasses.replace(GOOD, **dict.fromkeys(MUSIC), music_beats=np.zeros(0, np.int32))
    assert_same(from_row(to_row(validate(silent))), silent)
    for name in MUSIC:
        with pytest.raises(SchemaError, match="a song has all of"):
            validate(dataclasses.replace(GOOD, **{name: None}))
    with pytest.raises(SchemaError, match=r"music_beats.*no song"):
        validate(dataclasses.replace(silent, music_beats=np.array([3], np.int32)))


def test_no_beats_are_fine() -> None:
    validate(dataclasses.replace(GOOD, music_beats=np.zeros(0, np.int32)))


def test_per_dancer_and_back() -> None:
    seq = make_sequence(2, 3)
    joints = per_dancer(seq.joints, 3, 24, 3)
    assert joints.shape == (3, 40, 24, 3)
    np.testing.assert_array_equal(joints[1, 5], seq.joints[5, 72:144].reshape(24, 3))
    np.testing.assert_array_equal(flat_dancers(joints), seq.joints)
    assert per_dancer(seq.rest_offsets, 3, 24, 3).shape == (3, 24, 3)


def test_mean_joint_speed() -> None:
    walk = np.zeros((2, 11, 24, 3))
    walk[0, :, :, 2] = np.arange(11)[:, None] / 60
    assert mean_joint_speed(walk) == pytest.approx(0.5)
    assert mean_joint_speed(walk[:, :1]) == 0.0


def test_camera_projects_the_optical_axis_to_the_centre() -> None:
    camera = make_sequence(1).provenance.camera
    assert camera is not None
    # The factory's camera stands 4.2 m from the origin at a height of 1.1 m and looks along -z.
    image = camera.project(np.array([[0.0, 1.1, 0.0], [0.5, 1.1, 0.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(image[0], [360, 640])
    assert image[1, 0] > 360
    assert image[2, 1] > 640
