from __future__ import annotations

import io
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
from rich.console import Console

import opendance_hf.apps.importing as importing
from opendance_hf.apps.clips import load_clips
from opendance_hf.apps.import_item import Job, Outcome, Rejected, digests_of, import_item, valid_name
from opendance_hf.apps.importing import ImportingError, ImportOptions, ImportResult, run_import
from opendance_hf.apps.stats import stats, tables
from opendance_hf.data import MotionWindows
from opendance_hf.data.windows import NoMusicError, SequenceReader
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import OutputError
from opendance_hf.formats import aistpp, amass, bvh, glb
from opendance_hf.formats.motion import Motion
from opendance_hf.loading_scripts import Item, OpenDance3D
from opendance_hf.metrics.person import fall_doubt, measure_person
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.music import extract
from opendance_hf.schema import MUSIC_COLUMNS, SchemaError, from_row, validate
from opendance_hf.storage import load_sequence, read_parquet, read_webdataset
from opendance_hf.terms import TERMS
from tests.formats.support import dance

FIXTURES = Path(__file__).parents[1] / "fixtures" / "formats"


def imported(
    name: str, path: Path, out: Path, *, said: io.StringIO | None = None, **options: Any
) -> ImportResult:
    console = Console(file=said or io.StringIO(), width=400)
    return run_import(name, path, out, ImportOptions(**options), console)


def reasons(result: ImportResult) -> dict[str, str]:
    return {o.name: f"{o.status}: {o.reason}" for o in result.outcomes if o.status != "published"}


def write_song(path: Path, seconds: float, rate: int = 22050) -> Path:
    clock = np.arange(round(seconds * rate)) / rate
    clicks = np.sin(2 * np.pi * 440 * clock) * (clock % 0.5 < 0.05)
    path.parent.mkdir(exist_ok=True)
    soundfile.write(path, 0.5 * clicks, rate)
    return path


def folder_of(tmp_path: Path, count: int = 2, frames: int = 300) -> Path:
    folder = tmp_path / "in"
    folder.mkdir(exist_ok=True)
    for number in range(count):
        bvh.write(dance(1, frames + 30 * number), folder / f"d{number}.bvh")
    return folder


def rows_of(out: Path, config: str = "individual", cache: Path | None = None) -> dict[str, Any]:
    loaded = datasets.load_dataset(str(out), config, cache_dir=str(cache or out.parent / "cache"))
    return {row["id"]: row for split in loaded.values() for row in split.with_format("numpy")}


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_bvh_without_songs_is_loaded_with_null_music_and_its_motion(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    result = imported("bvh", folder, tmp_path / "out")
    assert reasons(result) == {}
    rows = rows_of(tmp_path / "out")
    assert set(rows) == {"d0", "d1"}
    for number in range(2):
        seq = validate(from_row(rows[f"d{number}"]))
        assert not seq.has_music
        assert [getattr(seq, column) for column in MUSIC_COLUMNS] == [None] * 3
        assert seq.bpm is None
        assert seq.music_beats.size == 0
        joints, true = seq.joints.reshape(-1, 24, 3), dance(1, 300 + 30 * number).joints[0]
        shift = (joints - true).reshape(-1, 3).mean(axis=0)  # one constant shift, upwards alone
        assert np.abs(joints - true - shift).max() < 2e-3
        assert np.abs(shift[[0, 2]]).max() < 1e-3
        assert (seq.provenance.licence, seq.provenance.source_fps) == ("unknown", 60.0)
        assert [(b.stage, b.name) for b in seq.provenance.backends] == [("import", "bvh")]


def test_feet_stand_at_the_height_of_the_ground(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    motion = dance(1, 300)
    assert motion.transl is not None
    up = np.array([0, 3.0, 0])
    bvh.write(replace(motion, joints=motion.joints + up, transl=motion.transl + up), folder / "a.bvh")
    imported("bvh", folder, tmp_path / "out")
    joints = rows_of(tmp_path / "out")["a"]["joints"].reshape(-1, 24, 3)
    assert np.percentile(joints[:, [7, 8, 10, 11], 1].min(axis=1), 5) == pytest.approx(0.025, abs=2e-3)


def test_datasets_stream_rows_without_songs(tmp_path: Path) -> None:
    imported("bvh", folder_of(tmp_path), tmp_path / "out")
    streamed = datasets.load_dataset(str(tmp_path / "out"), "individual", split="train", streaming=True)
    assert all(from_row(row).bpm is None for row in streamed)
    for read in (read_parquet, read_webdataset):
        assert all(seq.bpm is None for seq in read(tmp_path / "out", "individual", "train"))
    folder = tmp_path / "out.import" / "sequences"
    builder = OpenDance3D(data_dir=str(folder), cache_dir=str(tmp_path / "cache"))
    builder.download_and_prepare()
    assert all(from_row(row).bpm is None for row in builder.as_dataset(split="train"))


def test_consumers_without_music_work_and_those_with_music_name_the_row(tmp_path: Path) -> None:
    out = tmp_path / "out"
    imported("bvh", folder_of(tmp_path), out)
    assert MotionWindows(str(out), 120)[0]["joints"].shape == (120, 24, 3)
    assert all(clip.music_beats is None for clip in load_clips(out))
    found = stats(out, json_file=tmp_path / "s.json", figure=tmp_path / "s.png")
    assert found["all"]["min_bpm"] is None
    assert len(tables(found)) == 2
    assert "no songs" in (out / "README.md").read_text()
    reader = SequenceReader(str(out))
    for column in MUSIC_COLUMNS:
        with pytest.raises(NoMusicError, match=f"sequence d. has no {column}.*--audio"):
            reader.matrix(reader.row(0), column)


def test_songs_are_annotated_as_by_the_pipeline(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    song = write_song(tmp_path / "songs" / "d0.wav", 5.9)
    assert reasons(imported("bvh", folder, tmp_path / "out", audio=tmp_path / "songs")) == {}
    seq = validate(from_row(rows_of(tmp_path / "out")["d0"]))
    want = extract(song, 0.0, 5.0, 300)
    assert seq.num_frames == 300
    for column in MUSIC_COLUMNS:
        assert np.array_equal(getattr(seq, column), getattr(want, column))
    assert np.array_equal(seq.music_beats, want.music_beats)
    assert (seq.bpm, seq.group) == (want.bpm, "d0")


def test_the_shorter_of_song_and_motion_counts(tmp_path: Path) -> None:
    write_song(tmp_path / "songs" / "d0.wav", 4.5)
    result = imported("bvh", folder_of(tmp_path, 1), tmp_path / "out", audio=tmp_path / "songs")
    assert result.outcomes[0].rows[0].seconds == pytest.approx(4.5, abs=0.03)


def test_a_song_may_go_on_after_the_motion(tmp_path: Path) -> None:
    write_song(tmp_path / "songs" / "d0.wav", 12)
    result = imported("bvh", folder_of(tmp_path, 1), tmp_path / "out", audio=tmp_path / "songs")
    assert result.outcomes[0].rows[0].seconds == pytest.approx(5.0)


def test_songs_that_end_too_soon_and_missing_songs_are_rejected_by_name(tmp_path: Path) -> None:
    write_song(tmp_path / "songs" / "d0.wav", 2.5)
    result = imported("bvh", folder_of(tmp_path), tmp_path / "out", audio=tmp_path / "songs")
    found = reasons(result)
    assert "rejected: the song d0.wav lasts 2.5" in found["d0.bvh"]
    assert "the motion 5.00 s" in found["d0.bvh"]
    assert found["d1.bvh"].startswith("rejected: no song d1 in")
    assert result.packed is None
    assert not (tmp_path / "out").exists()


def test_aist_pickles_find_the_song_of_the_code_in_their_name(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("gBR_sBM_cAll_d04_mBR0_ch01", "gBR_sBM_cAll_d05_mBR0_ch02"):
        aistpp.write(dance(1, 300), folder / f"{name}.pkl")
    write_song(tmp_path / "songs" / "mBR0.wav", 5)
    assert reasons(imported("aistpp", folder, tmp_path / "out", audio=tmp_path / "songs")) == {}
    rows = rows_of(tmp_path / "out")
    assert {row["group"] for row in rows.values()} == {"mBR0"}
    assert all(from_row(row).has_music for row in rows.values())


def test_amass_is_imported_upright(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    amass.write(dance(1, 600, 120.0), folder / "a_poses.npz")
    assert reasons(imported("amass", folder, tmp_path / "out")) == {}
    row = rows_of(tmp_path / "out")["a_poses"]
    assert row["joints"].reshape(-1, 24, 3)[:, 15, 1].mean() > 1.3
    assert row["provenance"]["source_fps"] == 120
    assert row["num_frames"] == 300


def test_fixtures_are_read_and_too_short(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for path in FIXTURES.glob("*.bvh"):
        shutil.copy(path, folder)
    found = reasons(imported("bvh", folder, tmp_path / "out"))
    assert found.pop("odd.bvh").startswith("failed: odd.bvh: the joints have the names of no known skeleton")
    assert len(found) == 5
    assert all("s, a row at least 4 s" in reason for reason in found.values())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImportingError, match=r"no \.bvh files"):
        imported("bvh", tmp_path / "empty", tmp_path / "out")


def test_a_damaged_file_costs_itself_alone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    text = (folder / "d0.bvh").read_text()
    (folder / "cut.bvh").write_text(text[: len(text) // 2])
    (folder / "noise.bvh").write_bytes(os.urandom(2000))
    lines = text.splitlines()
    (folder / "nan.bvh").write_text("\n".join([*lines[:-3], lines[-3].replace(lines[-3].split()[0], "nan"), *lines[-2:]]))  # fmt: skip
    result = imported("bvh", folder, tmp_path / "out")
    assert {name: why.split(":")[0] for name, why in reasons(result).items()} == dict.fromkeys(
        ("cut.bvh", "noise.bvh", "nan.bvh"), "failed"
    )
    assert set(rows_of(tmp_path / "out")) == {"d0", "d1"}
    report = json.loads((tmp_path / "out.import" / "report.json").read_text())
    assert report["counts"] == {"published": 2, "failed": 3}
    assert len(report["items"]) == 5


def test_long_motions_are_cut_to_equal_rows(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    amass.write(dance(1, 30 * 130, 30.0), folder / "long.npz")
    result = imported("amass", folder, tmp_path / "out")
    assert [(row.id, row.seconds) for row in result.outcomes[0].rows] == [("long-1", 65), ("long-2", 65)]
    rows = rows_of(tmp_path / "out")
    assert [rows[f"long-{n}"]["provenance"]["start_s"] for n in (1, 2)] == [0, 65]
    assert {row["group"] for row in rows.values()} == {"long"}


def test_two_items_of_one_id_are_one_row(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    (folder / "b").mkdir()
    shutil.copy(folder / "d0.bvh", folder / "b" / "d0.bvh")
    result = imported("bvh", folder, tmp_path / "out")
    assert reasons(result) == {"d0.bvh": "rejected: b/d0.bvh has the same id 'd0'; rename one"}


def test_links_that_leave_the_folder_are_rejected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    bvh.write(dance(1, 300), tmp_path / "private.bvh")
    (folder / "link.bvh").symlink_to(tmp_path / "private.bvh")
    found = reasons(imported("bvh", folder, tmp_path / "out"))
    assert found == {"link.bvh": "rejected: link.bvh is a link that leaves the folder; copy the file into it"}


def test_control_characters_in_names_reach_neither_terminal_nor_dataset(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    bvh.write(dance(1, 300), folder / "a\x1b[31m b.bvh")
    (folder / "bad\x1b[2J.bvh").write_text("nothing")
    said = io.StringIO()
    imported("bvh", folder, tmp_path / "out", said=said)
    assert "\x1b" not in said.getvalue()
    assert set(rows_of(tmp_path / "out")) == {valid_name("a\x1b[31m b")}


def test_outputs_in_the_input_and_bad_answers_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    before = tree(folder)
    for out in (folder / "out", folder, tmp_path):
        with pytest.raises(OutputError, match="choose another --out"):
            imported("bvh", folder, out)
    with pytest.raises(ImportingError, match="unknown format 'nonsense'"):
        imported("nonsense", folder, tmp_path / "out")
    with pytest.raises(ImportingError, match="expected y or z"):
        imported("bvh", folder, tmp_path / "out", answers={"up": "x"})
    with pytest.raises(ImportingError, match="takes no --names"):
        imported("aistpp", folder, tmp_path / "out", answers={"names": "cmu"})
    with pytest.raises(ImportingError, match="no such file"):
        imported("bvh", tmp_path / "none", tmp_path / "out")
    assert tree(folder) == before
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_places_are_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(OpenDanceError, match="locked"):
        imported("bvh", folder, tmp_path / "locked" / "out")


def test_reads_a_read_only_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    folder.chmod(0o500)
    try:
        assert reasons(imported("bvh", folder, tmp_path / "out")) == {}
    finally:
        folder.chmod(0o700)


def test_one_file_is_imported(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    assert len(imported("bvh", folder / "d1.bvh", tmp_path / "out").outcomes) == 1


def test_finished_items_are_kept_and_changed_files_redone(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    imported("bvh", folder, tmp_path / "out")
    before = tree(tmp_path / "out")
    result = imported("bvh", folder, tmp_path / "out")
    assert [outcome.reused for outcome in result.outcomes] == [True, True]
    assert tree(tmp_path / "out") == before
    bvh.write(dance(1, 360), folder / "d0.bvh")
    result = imported("bvh", folder, tmp_path / "out")
    assert [outcome.reused for outcome in result.outcomes] == [False, True]
    assert rows_of(tmp_path / "out")["d0"]["num_frames"] == 360
    assert len(list((tmp_path / "out.import" / "sequences").iterdir())) == 2


@pytest.mark.slow
def test_a_killed_import_continues_to_the_same_dataset(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 10)
    code = "import sys; from opendance_hf.cli import main; main()"
    command = [sys.executable, "-c", code, "import", "bvh", str(folder), "--workers", "2", "--out"]
    store = tmp_path / "killed.import" / "items"
    running = subprocess.Popen([*command, str(tmp_path / "killed")], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(store.glob("*.json"))) < 3 and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    running.send_signal(signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    done = subprocess.run([*command, str(tmp_path / "killed")], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "imported before" in done.stdout
    imported("bvh", folder, tmp_path / "calm")
    calm, killed = tree(tmp_path / "calm"), tree(tmp_path / "killed")
    for text in ("README.md",):  # has the name of the folder
        assert calm.pop(text).replace(b"calm", b"").replace(b"Calm", b"") == killed.pop(text).replace(
            b"killed", b""
        ).replace(b"Killed", b"")
    assert killed == calm


def _dies(job: Job) -> Outcome:
    if job.item.id == "d1":
        os.kill(os.getpid(), signal.SIGKILL)
    return import_item(job)


def test_a_worker_that_dies_costs_its_item_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "import_item", _dies)
    result = imported("bvh", folder_of(tmp_path, 4), tmp_path / "out", workers=2)
    assert [o.status for o in result.outcomes] == ["published", "failed", "published", "published"]
    assert "died" in result.outcomes[1].reason


class _Duets:
    """A dataset of pairs of files, with official splits."""

    LICENCE = "cc-by-4.0"

    def items(self, root: Path, /) -> list[Item]:
        names = sorted({path.stem[:-2] for path in root.glob("*.pkl")})
        return [
            Item(
                name,
                (root / f"{name}_0.pkl", root / f"{name}_1.pkl"),
                "aistpp",
                group="song",
                split=("test", "train", "train")[number],
                ignored="broken" if name == "c" else "",
            )
            for number, name in enumerate(names)
        ]


def write_duets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, later: int = 0) -> Path:
    monkeypatch.setitem(importing.DATASETS, "duets", "none")
    monkeypatch.setattr(importing, "layout_named", lambda _: _Duets())
    folder = tmp_path / "in"
    folder.mkdir()
    for name in "abc":
        motion = dance(2, 300)
        aistpp.write(motion.dancer(0), folder / f"{name}_0.pkl")
        aistpp.write(dance(2, 300 + later).dancer(1), folder / f"{name}_1.pkl")
    return folder


def test_official_splits_are_kept_and_shared_songs_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = io.StringIO()
    result = imported("duets", write_duets(tmp_path, monkeypatch, later=3), tmp_path / "out", said=said)
    assert reasons(result) == {"c": "rejected: left out by the authors of the dataset: broken"}
    loaded = datasets.load_dataset(str(tmp_path / "out"), "collaborative", cache_dir=str(tmp_path / "cache"))
    assert {split: rows["id"][:] for split, rows in loaded.items()} == {"train": ["b"], "test": ["a"]}
    assert {row["num_frames"] for rows in loaded.values() for row in rows} == {300}
    assert "official splits share 1 song(s)" in said.getvalue()
    report = json.loads((tmp_path / "out.import" / "report.json").read_text())
    assert report["shared_groups"] == {"song": ["test", "train"]}
    assert report["licence"] == "cc-by-4.0"
    assert "1 `group`(s), each one song" in (tmp_path / "out" / "README.md").read_text()


def test_dancers_of_other_lengths_are_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = imported("duets", write_duets(tmp_path, monkeypatch, later=7), tmp_path / "out")
    assert reasons(result)["a"] == (
        "rejected: the files of its dancers last 5.00, 5.12 s; they may differ by 0.1 s"
    )


def test_the_card_quotes_terms(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 1)
    imported("bvh", folder, tmp_path / "out", licence="cmu-mocap")
    card = (tmp_path / "out" / "README.md").read_text()
    assert TERMS["cmu-mocap"] in card
    assert "license: other" in card
    assert rows_of(tmp_path / "out")["d0"]["provenance"]["licence"] == "cmu-mocap"
    imported("bvh", folder, tmp_path / "other", licence="cc-by-4.0")
    assert TERMS["cmu-mocap"] not in (tmp_path / "other" / "README.md").read_text()
    with pytest.raises(OpenDanceError, match="unknown licence"):
        imported("bvh", folder, tmp_path / "third", licence="nonsense")


def fault(joints: np.ndarray) -> str:
    return measure_person(joints, 60).fault()


def test_measures_tell_wrong_units_axes_sides_and_slopes() -> None:
    joints = dance(1, 600).joints[0]
    assert fault(joints) == ""
    assert "is the unit another one" in fault(joints * 2)
    assert "--up" in fault(joints[..., [0, 2, 1]] * [1, 1, -1])
    assert "left and right" in fault(joints * [-1, 1, 1])


def walk(slope_deg: float) -> np.ndarray:
    """Feet that rest on a grid of places; a standing body above them."""
    stand = dance(1, 2).joints[0, 0]
    places = [(x, z) for x in (0.0, 1.5, 3.0, 4.5) for z in (0.0, 1.5, 3.0, 4.5)]
    frames = []
    for at, then in zip(places, [*places[1:], places[0]], strict=True):
        for share in [0.0] * 20 + list(np.linspace(0, 1, 20)):
            x, z = (a + (b - a) * share for a, b in zip(at, then, strict=True))
            frames.append(stand + np.array([x, np.tan(np.radians(slope_deg)) * x, z]))
    return np.array(frames)


@pytest.mark.parametrize("slope", [0.0, 3.0, 10.0])
def test_slope_of_the_ground_is_measured(slope: float) -> None:
    person = measure_person(walk(slope), 60)
    assert person.slope_deg == pytest.approx(slope, abs=0.5)
    assert ("slopes" in person.fault()) == (slope == 10)


@pytest.mark.parametrize(("rate", "doubt"), [(1.0, False), (2.0, True)])
def test_free_fall_tells_a_wrong_rate(rate: float, doubt: bool) -> None:
    stand = dance(1, 2).joints[0, 0]
    stand = stand - [0, stand[:, 1].min(), 0]
    time_s = np.arange(120) / 60 * rate
    height = np.maximum(0, 3.0 * (time_s - 0.5) - 9.81 / 2 * (time_s - 0.5) ** 2) * (time_s > 0.5)
    joints = stand + np.stack([0 * height, height, 0 * height], 1)[:, None]
    (fall,) = measure_person(joints, 60).falls_mps2
    assert fall == pytest.approx(9.81 * rate**2, rel=0.02)
    assert bool(fall_doubt((fall,))) == doubt


def test_a_motion_of_joints_alone_gets_rotations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Reader:
        @staticmethod
        def read(path: Path, /) -> Motion:
            return Motion(dance(1, 300).joints, 60.0)

    monkeypatch.setattr("opendance_hf.apps.import_item.format_named", lambda _: Reader)
    file = tmp_path / "a.bvh"
    file.touch()
    said = io.StringIO()
    result = imported("bvh", file, tmp_path / "out", said=said)
    assert reasons(result) == {}
    assert "rotations of 1 item(s) computed from positions" in said.getvalue()
    (path,) = (tmp_path / "out.import" / "sequences").iterdir()
    seq = load_sequence(path)
    error = seq.joints.reshape(-1, 24, 3) - dance(1, 300).joints[0]
    assert np.abs(error - error.mean(axis=(0, 1))).max() < 0.03


def test_music_is_there_in_full_or_not_at_all(tmp_path: Path) -> None:
    imported("bvh", folder_of(tmp_path, 1), tmp_path / "out")
    (path,) = (tmp_path / "out.import" / "sequences").iterdir()
    seq = load_sequence(path)
    with pytest.raises(SchemaError, match="music_features"):
        validate(replace(seq, bpm=120.0))
    with pytest.raises(SchemaError, match="music_beats"):
        validate(replace(seq, music_beats=np.array([3], np.int32)))


def test_pickles_with_code_fail_and_run_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    (folder / "evil.pkl").write_bytes(pickle.dumps({"smpl_poses": Evil()}))
    result = imported("aistpp", folder, tmp_path / "out", allow_empty=True)
    assert result.count("failed") == 1
    assert not (tmp_path / "ran").exists()


def test_files_of_others_in_the_store_are_kept(tmp_path: Path) -> None:
    store = tmp_path / "out.import"
    mine = [store / "sequences" / "mine.npz", store / "items" / "mine.json", store / "x" / ".mine.partial"]
    for path in mine:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("mine")
    left = store / "sequences" / f".{'a' * 32}-0.npz.{'b' * 32}.partial"
    left.write_text("of a killed import")
    imported("bvh", folder_of(tmp_path), tmp_path / "out")
    assert [path.read_text() for path in mine] == ["mine"] * 3
    assert not left.exists()


def test_a_report_of_others_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "out.import").mkdir()
    (tmp_path / "out.import" / "report.json").write_text('{"mine": 1}')
    with pytest.raises(ImportingError, match=r"report\.json.*not written by an import"):
        imported("bvh", folder_of(tmp_path), tmp_path / "out")
    assert (tmp_path / "out.import" / "report.json").read_text() == '{"mine": 1}'


def test_a_changed_buffer_beside_a_gltf_is_read_again(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(2):
        motion = dance(1, 300)
        poses = np.asarray(motion.poses).copy()
        poses[:, :, 16, 2] += 0.4 * number
        joints = forward_kinematics(poses, motion.transl, np.asarray(motion.rest_offsets)[:, None])
        glb.write(replace(motion, poses=poses, joints=joints), tmp_path / "a.glb", detail="none")
        data = (tmp_path / "a.glb").read_bytes()
        size = int.from_bytes(data[12:16], "little")
        content = json.loads(data[20 : 20 + size])
        content["buffers"][0]["uri"] = "a.bin"
        (folder / "a.gltf").write_text(json.dumps(content))
        (folder / "a.bin").write_bytes(data[28 + size :])
        result = imported("glb", folder, tmp_path / "out")
        assert not result.outcomes[0].reused
    assert imported("glb", folder, tmp_path / "out").outcomes[0].reused
    (folder / "a.bin").unlink()
    (folder / "a.bin").symlink_to(tmp_path / "a.glb")
    assert "a.bin" in reasons(imported("glb", folder, tmp_path / "out", allow_empty=True))["a.gltf"]


def test_the_skeleton_that_a_motion_uses_is_part_of_its_key(tmp_path: Path) -> None:
    for name in ("60.ASF", "61.asf", "60_1.amc"):
        (tmp_path / name).write_text(name)
    job = Job(
        Item("a", (tmp_path / "60_1.amc",), "amc", group="a"),
        "a",
        tmp_path,
        None,
        None,
        {},
        "unknown",
        tmp_path / "store",
    )
    first = digests_of(job)
    (tmp_path / "61.asf").write_text("of another subject")
    assert digests_of(job) == first
    (tmp_path / "60.ASF").write_text("changed")
    assert digests_of(job) != first
    (tmp_path / "60.ASF").unlink()
    outside = tmp_path.parent / f"{tmp_path.name}.asf"
    outside.write_text("outside")
    (tmp_path / "60.ASF").symlink_to(outside)
    with pytest.raises(Rejected, match=r"60\.ASF is a link that leaves the folder"):
        digests_of(job)


@pytest.mark.parametrize(("splits", "status"), [(("test", None), "rejected"), (("train", None), "published")])
def test_dances_without_a_split_do_not_train_on_songs_that_are_held_out(
    splits: tuple[str | None, ...], status: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path)
    layout = _Listed(splits)
    monkeypatch.setitem(importing.DATASETS, "listed", "none")
    monkeypatch.setattr(importing, "layout_named", lambda _: layout)
    result = imported("listed", folder, tmp_path / "out")
    assert result.outcomes[1].status == status
    if status == "rejected":
        assert "its song is in the official test split, and it is in none" in result.outcomes[1].reason


class _Listed:
    """A dataset of one song whose lists leave a dance out."""

    LICENCE = "cc-by-4.0"

    def __init__(self, splits: tuple[str | None, ...]) -> None:
        self.splits = splits

    def items(self, root: Path, /) -> list[Item]:
        files = zip(sorted(root.glob("*.bvh")), self.splits, strict=True)
        return [Item(path.stem, (path,), "bvh", group="song", split=split) for path, split in files]
