"""``opendance import``: from files to a dataset that loads, with songs or without, and nothing is lost."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from opendance_hf.apps.importing import ImportingError, ImportOptions, ImportReport, import_dataset
from opendance_hf.apps.plausible import ImplausibleError, check, ground_height
from opendance_hf.cli import app
from opendance_hf.data import MotionWindows
from opendance_hf.formats import bvh
from opendance_hf.formats.motion import Motion
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.skeleton import JOINT_INDEX, mirror_index
from opendance_hf.schema import from_row, per_dancer, validate
from opendance_hf.storage import read_parquet
from opendance_hf.synthetic.music import SAMPLE_RATE, make_music
from opendance_hf.terms import TERMS
from tests.formats.support import dance, joint_error_mm
from tests.formats.table import FIXTURES


def standing(seconds: float = 5.0, fps: float = 60.0, dancers: int = 1, seed: int = 0) -> Motion:
    """A dance whose lower foot is on the ground at zero."""
    motion = dance(dancers, round(seconds * fps), fps)
    turn = np.array([0.0, 0.7 * seed, 0.0])
    poses = motion.poses.copy()
    poses[:, :, 16] += turn * 0.2
    joints = forward_kinematics(poses, motion.transl, motion.rest_offsets[:, None])
    height = ground_height(joints)
    return replace(motion, poses=poses, transl=motion.transl - [0, height, 0], joints=joints - [0, height, 0])


def captures(folder: Path, count: int = 2, seconds: float = 5.0, rig: str = "mixamo") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        bvh.write(standing(seconds, seed=number), folder / f"take{number}.bvh", rig=rig)
    return folder


def songs(folder: Path, names: list[str], seconds: float = 5.5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        soundfile.write(folder / f"{name}.wav", make_music(seed, seconds).samples, SAMPLE_RATE)
    return folder


def run(name: str, source: Path, out: Path, **options: Any) -> ImportReport:
    return import_dataset(name, source, out, ImportOptions(**options))


def reasons(report: ImportReport) -> dict[str, str]:
    return {outcome.item: f"{outcome.status}: {outcome.reason}" for outcome in report.outcomes}


def rows(out: Path) -> list[Any]:
    parts = {(shard.parent.name, shard.name.rsplit("-", 3)[0]) for shard in out.glob("data/*/*.parquet")}
    return [row for config, split in sorted(parts) for row in read_parquet(out, config, split)]


def test_a_folder_of_captures_becomes_a_dataset_that_loads(tmp_path: Path) -> None:
    source = captures(tmp_path / "bvh")
    tunes = songs(tmp_path / "songs", ["take0", "take1"])
    done = CliRunner().invoke(
        app,
        [
            "import",
            "bvh",
            str(source),
            "--audio",
            str(tunes),
            "--out",
            str(tmp_path / "set"),
            "--licence",
            "cmu-mocap",
        ],
    )
    assert done.exit_code == 0, done.output
    assert "2 item(s): 2 published, 0 rejected, 0 failed; 2 row(s), 10.0 s of dance" in done.output
    loaded = datasets.load_dataset(str(tmp_path / "set"), cache_dir=str(tmp_path / "cache"))
    (row, *_), count = loaded["train"], sum(map(len, loaded.values()))
    assert count == 2
    seq = validate(from_row(row))
    number = next(
        n for n in range(2) if joint_error_mm(per_dancer(seq.joints, 1, 24, 3), standing(seed=n).joints) < 1
    )
    assert seq.bpm == pytest.approx(make_music(number, 5.5).bpm, rel=0.02)
    assert seq.music_features.shape == (300, 438)
    assert seq.provenance.licence == "cmu-mocap"
    assert [(b.stage, b.name) for b in seq.provenance.backends] == [("import", "bvh")]
    assert not {"take0", "take1"} & set(json.dumps(row, default=str).split('"')), (
        "no file names are published"
    )
    card = (tmp_path / "set" / "README.md").read_text()
    assert TERMS["cmu-mocap"] in card


def test_without_songs_rows_have_no_music_and_train_what_hears_none(tmp_path: Path) -> None:
    run("bvh", captures(tmp_path / "bvh"), tmp_path / "set")
    seq = rows(tmp_path / "set")[0]
    assert seq.bpm is seq.music_features is seq.music_features_7p5fps is seq.music_features_fact is None
    assert len(MotionWindows(tmp_path / "set", 120, 60)) > 0
    for streaming in (True, False):
        loaded = datasets.load_dataset(
            str(tmp_path / "set"), split="train", streaming=streaming, cache_dir=str(tmp_path / "cache")
        )
        assert from_row(next(iter(loaded))).music_features is None
    done = CliRunner().invoke(
        app,
        [
            "train",
            "gpt",
            "--dataset",
            str(tmp_path / "set"),
            "--vqvae",
            "x",
            "--output-dir",
            str(tmp_path / "m"),
        ],
    )
    assert done.exit_code != 0
    done = CliRunner().invoke(app, ["stats", str(tmp_path / "set")])
    assert done.exit_code == 0, done.output
    assert "no songs" in done.output


def test_official_splits_are_kept_and_the_ignored_accounted_for(tmp_path: Path) -> None:
    source = Path(shutil.copytree(FIXTURES / "aist_plusplus_final", tmp_path / "aist"))
    for number, name in enumerate(["gBR_sBM_cAll_d04_mBR0_ch03", "gLH_sBM_cAll_d16_mLH0_ch01"]):
        motion = standing(5, seed=number)
        content = {
            "smpl_poses": motion.poses[0].reshape(-1, 72), "smpl_trans": motion.transl[0] * 93.0,
            "smpl_scaling": np.array([93.0]),
        }  # fmt: skip
        (source / "motions" / f"{name}.pkl").write_bytes(pickle.dumps(content, protocol=4))
    report = run("aistpp", source, tmp_path / "set")
    assert report.count("published") == 2
    found = reasons(report)
    assert "ignore_list.txt" in found["gBR_sFM_cAll_d05_mBR5_ch14"]
    assert "is missing" in found["gKR_sBM_cAll_d28_mKR2_ch02"]
    splits = {path.name.rsplit("-", 3)[0] for path in (tmp_path / "set").glob("data/individual/*.parquet")}
    assert splits == {"train", "validation"}
    assert {seq.provenance.licence for seq in rows(tmp_path / "set")} == {"cc-by-4.0"}


def test_partners_in_two_files_are_one_row(tmp_path: Path) -> None:
    from opendance_hf.loading_scripts import Item

    files = bvh.write(standing(5, dancers=2), tmp_path / "d.bvh")
    from opendance_hf.apps.importing import _Task, import_item

    (tmp_path / "rows").mkdir()
    item = Item("d", tuple(files), "bvh", "song")
    outcome = import_item(_Task(item, None, tmp_path / "rows", "unknown", {}))
    assert outcome.status == "published", outcome
    from opendance_hf.storage import load_sequence

    seq = load_sequence(tmp_path / "rows" / f"{outcome.rows[0]}.npz")
    assert seq.num_dancers == 2
    assert joint_error_mm(per_dancer(seq.joints, 2, 24, 3), standing(5, dancers=2).joints) < 1


def test_every_input_is_accounted_for_and_a_damaged_file_costs_itself_only(tmp_path: Path) -> None:
    source = captures(tmp_path / "bvh", 2)
    (source / "cut.bvh").write_text((source / "take0.bvh").read_text()[:-5000])
    (source / "empty.bvh").write_text("")
    bvh.write(standing(2), source / "short.bvh")
    nan = (source / "take1.bvh").read_text().splitlines()
    (source / "nan.bvh").write_text("\n".join([*nan[:-1], nan[-1].replace(nan[-1].split()[7], "nan", 1)]))
    (source / "od\nd.bvh").write_text("no\x1b[31m")
    tunes = songs(tmp_path / "songs", ["take0", "short", "cut", "empty", "nan", "od\nd"])
    report = run("bvh", source, tmp_path / "set", audio=tunes, workers=2)
    found = reasons(report)
    assert len(found) == 7
    assert found["take0"].startswith("published")
    assert found["take1"] == "rejected: no song 'take1' in the folder of --audio"
    assert "numbers" in found["cut"]
    assert found["empty"].startswith("failed")
    assert "2.0 s and its song 5.5 s" in found["short"]
    assert "NaN" in found["nan"]
    saved = json.loads((tmp_path / "set.import" / "report.json").read_text())
    assert [entry["item"] for entry in saved] == [outcome.item for outcome in report.outcomes]
    done = CliRunner().invoke(
        app, ["import", "bvh", str(source), "--audio", str(tunes), "--out", str(tmp_path / "set")]
    )
    assert done.exit_code == 0, done.output
    assert "\x1b" not in done.output


def test_the_shorter_of_music_and_motion_counts(tmp_path: Path) -> None:
    source = captures(tmp_path / "bvh", 1, seconds=6)
    report = run("bvh", source, tmp_path / "set", audio=songs(tmp_path / "songs", ["take0"], 5.2))
    assert report.outcomes[0].seconds == pytest.approx(5.2, abs=0.02)


def test_long_dances_become_several_rows(tmp_path: Path) -> None:
    (tmp_path / "bvh").mkdir()
    bvh.write(standing(121), tmp_path / "bvh" / "long.bvh")
    report = run("bvh", tmp_path / "bvh", tmp_path / "set")
    found = sorted(rows(tmp_path / "set"), key=lambda seq: seq.provenance.start_s)
    assert [seq.num_frames for seq in found] == [3630, 3630]
    assert found[1].provenance.start_s == pytest.approx(60.5)
    assert len({seq.group for seq in found}) == 1
    assert report.outcomes[0].seconds == pytest.approx(121)


def test_an_import_continues_and_redoes_what_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = captures(tmp_path / "bvh", 3)
    run("bvh", source, tmp_path / "set")
    before = {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "set.import" / "sequences").glob("*.npz")
    }
    bvh.write(standing(5, seed=9), source / "take1.bvh")
    run("bvh", source, tmp_path / "set")
    after = {
        path.name: path.stat().st_mtime_ns for path in (tmp_path / "set.import" / "sequences").glob("*.npz")
    }
    assert sum(after.get(name) == at for name, at in before.items()) == 3, "kept, also the former take"
    assert len(after) == 4
    assert len(rows(tmp_path / "set")) == 3


def test_a_killed_import_gives_the_same_dataset(tmp_path: Path) -> None:
    source = captures(tmp_path / "bvh", 6)
    code = "import sys; from opendance_hf.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        "import",
        "bvh",
        str(source),
        "--out",
        str(tmp_path / "set"),
        "--workers",
        "1",
    ]
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    work = tmp_path / "set.import" / "sequences"
    deadline = time.monotonic() + 60
    while len(list(work.glob("*.json"))) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "set").exists() or process.returncode == 0
    run("bvh", source, tmp_path / "set")
    run("bvh", source, tmp_path / "other")
    contents = [
        json.loads((tmp_path / name / "statistics.json").read_text())["contents"] for name in ("set", "other")
    ]
    assert contents[0] == contents[1]


@pytest.mark.parametrize(
    ("name", "said"),
    [("maya", "unknown format 'maya': expected one of"), ("c3d", r"no files of the format c3d \(\.c3d\)")],
)
def test_nothing_to_import_is_said(name: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ImportingError, match=said):
        run(name, captures(tmp_path / "bvh"), tmp_path / "set")


def test_nothing_to_publish_is_an_error_unless_allowed(tmp_path: Path) -> None:
    (tmp_path / "bvh").mkdir()
    bvh.write(standing(2), tmp_path / "bvh" / "short.bvh")
    with pytest.raises(ImportingError, match=r"none of 1 item\(s\) can be published .*at least 4 s"):
        run("bvh", tmp_path / "bvh", tmp_path / "set")
    assert run("bvh", tmp_path / "bvh", tmp_path / "set", allow_empty=True).pack is None


def test_an_output_in_the_input_is_refused(tmp_path: Path) -> None:
    source = captures(tmp_path / "bvh")
    for out in (source, source / "set", tmp_path):
        done = CliRunner().invoke(app, ["import", "bvh", str(source), "--out", str(out)])
        assert done.exit_code != 0, out
    assert sorted(path.name for path in source.iterdir()) == ["take0.bvh", "take1.bvh"]


# What is measured.


def test_a_dance_is_plausible_and_the_ground_is_found() -> None:
    motion = standing()
    assert check(motion) == []
    assert ground_height(motion.joints + np.array([0, 0.37, 0])) == pytest.approx(0.37, abs=1e-6)


def test_lengths_axes_and_sides_are_measured() -> None:
    motion = standing()
    with pytest.raises(ImplausibleError, match=r"leg is \d\.\d+ m long"):
        check(replace(motion, joints=motion.joints * 2))
    with pytest.raises(ImplausibleError, match="the axis that points up is another"):
        check(replace(motion, joints=motion.joints * [1, -1, -1]))
    with pytest.raises(ImplausibleError, match="left and right are exchanged"):
        check(replace(motion, joints=motion.joints[:, :, mirror_index()]))


def test_a_sloping_ground_and_a_wrong_gravity_are_said() -> None:
    motion = standing(8)
    tilt = np.radians(9)
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    walked = motion.joints + np.linspace(0, 3, motion.num_frames)[:, None, None] * [0.3, 0, 1.0]
    # Feet that rest: each stands still on the ground for half a second in turn.
    for number, side in enumerate(("left", "right")):
        foot, ankle = JOINT_INDEX[f"{side}_foot"], JOINT_INDEX[f"{side}_ankle"]
        at = (np.arange(motion.num_frames) // 30 * 30 + 15 * number).clip(max=motion.num_frames - 1)
        shift = walked[0, at, foot] * [1, 0, 1] + [0, 0.025, 0] - walked[0, :, foot]
        walked[0, :, foot] += shift
        walked[0, :, ankle] += shift
    assert any(
        "slope of 9" in note or "slope of 8" in note
        for note in check(replace(motion, joints=walked @ turn.T))
    )

    def jumps(gravity: float) -> Motion:
        time = np.arange(motion.num_frames) / motion.fps % 1.0
        height = np.maximum(2.2 * time - 0.5 * gravity * time**2, 0)
        return replace(
            motion, joints=motion.joints * 0 + motion.joints[:, :1] + height[:, None, None] * [0, 1.0, 0]
        )

    assert not any("fall" in note for note in check(jumps(9.8)))
    assert any("bodies fall with 4" in note for note in check(jumps(4.0)))
