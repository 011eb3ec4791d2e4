from __future__ import annotations

import io
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from rich.console import Console

import opendance_hf.apps.pair_item as pair_item
from opendance_hf.apps.importing import ImportingError, ImportResult
from opendance_hf.apps.pair_item import event_times, licence_of, step_beat
from opendance_hf.apps.pairing import PairOptions, run_pair
from opendance_hf.files import OutputError
from opendance_hf.formats import opendance
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.resample import mirrored
from opendance_hf.metrics.person import measure_person
from opendance_hf.metrics.steps import foot_events
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.phase import beat_phase, phase_score
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.schema import DanceSequence, per_dancer, validate
from opendance_hf.storage import read_parquet, read_webdataset
from opendance_hf.storage.splits import assign_splits

RATE = 22050
SECONDS = 7.0


def stepping(
    interval_s: float, seconds: float = SECONDS, dancers: int = 1, fps: float = 60.0, **meta: Any
) -> Motion:
    """A person who puts one foot after the other ahead, and back; from take-off to landing it takes 0.55 s."""
    times = np.arange(round(seconds * fps)) / fps
    poses = np.zeros((dancers, len(times), 24, 3))
    for dancer in range(dancers):
        first_s = 0.2 + 0.13 * dancer
        for number in range(int((seconds - first_s - 0.8) / interval_s) + 1):
            side, way = ("left", "right")[number % 2], (-1, 1)[number // 2 % 2]
            swing = np.clip((times - first_s - number * interval_s) / 0.73, 0, 1)
            poses[dancer, :, JOINT_INDEX[f"{side}_hip"], 0] += way * 0.3 * (1 - np.cos(np.pi * swing))
    transl = np.zeros((dancers, len(times), 3)) + [0, 0.95, 0] + np.arange(dancers)[:, None, None] * [1, 0, 0]
    offsets = np.repeat(MEAN_OFFSETS[None].astype(np.float64), dancers, axis=0)
    joints = forward_kinematics(poses, transl, offsets[:, None])
    return Motion(joints, fps, poses, transl, offsets, meta=meta)


def write_song(path: Path, bpm: float, seconds: float = 12.0, *, beats: bool = True) -> None:
    path.parent.mkdir(exist_ok=True)
    period = round(60 / bpm * RATE)
    clock = np.arange(round(seconds * RATE))
    soundfile.write(path, 0.5 * np.sin(0.4 * clock) * (clock % period < 0.05 * RATE), RATE)
    if beats:
        text = "\n".join(f"{beat:.4f}" for beat in np.arange(0, seconds, 60 / bpm))
        path.with_name(f"{path.stem}.beats.txt").write_text(text)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    motions, songs = tmp_path / "motions", tmp_path / "songs"
    motions.mkdir()
    opendance.write(stepping(0.55), motions / "solo.npz")
    write_song(songs / "fast.wav", 120)
    write_song(songs / "slow.wav", 100)
    return motions, songs, tmp_path / "out"


def paired(places: tuple[Path, Path, Path], said: io.StringIO | None = None, **options: Any) -> ImportResult:
    console = Console(file=said or io.StringIO(), width=400)
    return run_pair(*places, PairOptions(**{"all_train": True, **options}), console)


def rows_of(out: Path, config: str = "individual", split: str = "train") -> dict[str, DanceSequence]:
    return {row.id: row for row in read_parquet(out, config, split)}


def joints_of(row: DanceSequence) -> np.ndarray:
    return per_dancer(row.joints, row.num_dancers, 24, 3)


def reasons(result: ImportResult) -> dict[str, str]:
    return {o.name: f"{o.status}: {o.reason}" for o in result.outcomes if o.status != "published"}


def test_steps_fall_on_the_beats(places: tuple[Path, Path, Path]) -> None:
    said = io.StringIO()
    paired(places, said, songs_per_motion=2)
    rows = rows_of(places[2])
    assert {round(row.bpm or 0) for row in rows.values()} == {100, 120}
    for row in rows.values():
        validate(row)
        pairing = row.provenance.pairing
        assert pairing is not None
        assert pairing.kind == "retimed"
        after = step_beat(joints_of(row), row.music_beats / 60)
        assert after == pytest.approx(pairing.step_beat_after, abs=0.02)
        assert after > pairing.step_beat_before + 0.2
        assert row.has_music
        # The beats of the row are those of the song from its start on.
        song = np.arange(0, 12, 60 / row.bpm) - row.provenance.song_start_s
        assert row.music_beats == pytest.approx(
            song[(song > -1e-3) & (song < row.num_frames / 60)] * 60, abs=0.6
        )
    fast = next(row for row in rows.values() if round(row.bpm or 0) == 120)
    assert fast.provenance.pairing is not None
    assert fast.provenance.pairing.step_beat_after > 0.5
    assert "step beat: " in said.getvalue()


def test_the_warp_of_a_row_gives_its_motion(places: tuple[Path, Path, Path]) -> None:
    paired(places)
    source = stepping(0.55).joints[0]
    ankle = JOINT_INDEX["left_ankle"]
    for row in rows_of(places[2]).values():
        pairing = row.provenance.pairing
        assert pairing is not None
        song_s = row.provenance.song_start_s + np.arange(row.num_frames) / 60
        source_s = np.interp(song_s, pairing.warp_song_s, pairing.warp_source_s)
        slopes = np.diff(pairing.warp_song_s) / np.diff(pairing.warp_source_s)
        assert np.abs(slopes - 1).max() <= 0.12 + 0.01
        for axis in range(3):
            path = np.interp(source_s, np.arange(len(source)) / 60, source[:, ankle, axis])
            moved = joints_of(row)[0, :, ankle, axis]
            assert moved - moved.mean() == pytest.approx(path - path.mean(), abs=0.02)


def test_standing_before_and_after_the_dance_is_left_out(places: tuple[Path, Path, Path]) -> None:
    moving = stepping(0.55, 8.0)
    before, after = 180, 240
    stood = [
        np.concatenate([part[:, :1].repeat(before, 1), part, part[:, -1:].repeat(after, 1)], axis=1)
        for part in (moving.joints, moving.poses, moving.transl)
        if part is not None
    ]
    opendance.write(
        Motion(stood[0], 60.0, stood[1], stood[2], moving.rest_offsets),
        places[0] / "solo.npz",
    )
    paired(places, songs_per_motion=2)
    first, *_, last = event_times(stood[0])
    for row in rows_of(places[2]).values():
        pairing = row.provenance.pairing
        assert pairing is not None
        assert row.provenance.start_s == pytest.approx(first - 1, abs=1 / 60)
        song_end_s = row.provenance.song_start_s + (row.num_frames - 1) / 60
        end_s = np.interp(song_end_s, pairing.warp_song_s, pairing.warp_source_s)
        assert end_s == pytest.approx(last + 1, abs=0.05)


@pytest.mark.parametrize("max_warp", [0.0, 0.06])
def test_a_smaller_warp_is_kept(places: tuple[Path, Path, Path], max_warp: float) -> None:
    paired(places, max_warp=max_warp)
    for row in rows_of(places[2]).values():
        pairing = row.provenance.pairing
        assert pairing is not None
        slopes = np.diff(pairing.warp_song_s) / np.diff(pairing.warp_source_s)
        assert np.abs(slopes - 1).max() <= max_warp + 1e-6


def test_each_dancer_alone_and_both_with_mirrored_copies(places: tuple[Path, Path, Path]) -> None:
    motions, _, out = places
    opendance.write(stepping(0.55, dancers=2), motions / "solo.npz")
    paired(places, songs_per_motion=1, mirror=True)
    solos, duets = rows_of(out), rows_of(out, "collaborative")
    found = [row.provenance.pairing for row in [*solos.values(), *duets.values()]]
    cast = [(one.dancers, one.mirrored) for one in found if one is not None]
    assert sorted(cast) == [((0,), 0), ((0,), 1), ((0, 1), 0), ((0, 1), 1), ((1,), 0), ((1,), 1)]
    for rows in (solos, duets):
        plain = {
            row.provenance.pairing.dancers: row
            for row in rows.values()
            if row.provenance.pairing.mirrored == 0
        }  # type: ignore[union-attr]
        for row in rows.values():
            assert row.provenance.pairing is not None
            if row.provenance.pairing.mirrored:
                other = plain[row.provenance.pairing.dancers]
                left, right = JOINT_INDEX["left_foot"], JOINT_INDEX["right_foot"]
                there = joints_of(other)[:, :, right] * [-1, 1, 1]
                assert joints_of(row)[:, :, left] == pytest.approx(there, abs=1e-5)
                assert row.music_features is not None
                assert np.array_equal(row.music_features, other.music_features)  # type: ignore[arg-type]
                assert row.provenance.backends == other.provenance.backends
                assert measure_person(joints_of(row)[0], 60).ahead > 0


def test_a_motion_that_is_longer_than_its_song_is_cut(places: tuple[Path, Path, Path]) -> None:
    motions, _, out = places
    opendance.write(stepping(0.55, seconds=25), motions / "solo.npz")
    paired(places, songs_per_motion=1)
    rows = [row.provenance for row in rows_of(out).values()]
    assert sorted(one.start_s for one in rows) == pytest.approx([0, 25 / 3, 50 / 3], abs=0.02)
    for row in rows_of(out).values():
        assert row.num_frames / 60 >= 4
        assert row.provenance.pairing is not None
        assert row.provenance.song_start_s + row.num_frames / 60 <= 12.02


def test_a_short_motion_still_makes_a_row_of_four_seconds(places: tuple[Path, Path, Path]) -> None:
    motions, _, out = places
    opendance.write(stepping(0.55, seconds=4.05), motions / "solo.npz")
    write_song(places[1] / "quick.wav", 130)
    paired(places)
    assert all(row.num_frames >= 240 for row in rows_of(out).values())


def test_what_cannot_be_paired_is_named(places: tuple[Path, Path, Path]) -> None:
    motions, songs, _ = places
    still = stepping(0.55)
    opendance.write(replace(still, poses=0 * still.poses[:]), motions / "still.npz")  # type: ignore[index]
    opendance.write(stepping(0.55, seconds=3), motions / "short.npz")
    (motions / "again.npz").write_bytes((motions / "solo.npz").read_bytes())
    (motions / "broken.bvh").write_text("nothing")
    write_song(songs / "jingle.wav", 120, seconds=5)
    write_song(songs / "listed.wav", 120)
    (songs / "listed.beats.txt").write_text("0.5\n0.4\n")
    (songs / "noise.mp3").write_bytes(b"none")
    soundfile.write(songs / "silent.wav", np.zeros(12 * RATE), RATE)
    (songs / "fast2.wav").write_bytes((songs / "fast.wav").read_bytes())
    found = reasons(paired(places))
    assert found["solo.npz"] == "rejected: the same file as again.npz"
    assert "4 s" in found["short.npz"]
    assert "landings" in found["still.npz"]
    assert found["broken.bvh"].startswith("failed")
    assert "5.00 s" in found["jingle.wav"]
    assert "line 2" in found["listed.wav"]
    assert "silent" in found["silent.wav"]
    assert "fast.wav" in found["fast2.wav"]
    assert found["noise.mp3"].startswith("failed")
    report = json.loads((places[2].with_name("out.import") / "report.json").read_text())
    assert report["counts"]["published"] == 1
    assert {item["name"] for item in report["items"] if item["status"] != "published"} == set(found)


def test_without_songs_nothing_is_written(places: tuple[Path, Path, Path]) -> None:
    empty = places[1].with_name("none")
    empty.mkdir()
    with pytest.raises(ImportingError, match="no songs"):
        run_pair(places[0], empty, places[2], PairOptions(), Console(file=io.StringIO()))
    with pytest.raises(ImportingError, match="no motion files"):
        run_pair(empty, places[1], places[2], PairOptions(), Console(file=io.StringIO()))
    with pytest.raises(OutputError):
        run_pair(places[0], places[1], places[0] / "out", PairOptions(), Console(file=io.StringIO()))
    assert not places[2].exists()


def test_given_beats_win(places: tuple[Path, Path, Path], tmp_path: Path) -> None:
    _, songs, out = places
    (songs / "slow.wav").unlink()
    (songs / "fast.beats.txt").unlink()
    paired(places, songs_per_motion=1)
    (tracked,) = rows_of(out).values()
    assert tracked.bpm == pytest.approx(120, rel=0.03)
    given = tmp_path / "beats"
    given.mkdir()
    (given / "fast.beats.txt").write_text(
        "\n".join(f"{0.1 + 0.6 * k + 0.01 * (k % 3 == 1):.3f}" for k in range(20))
    )
    paired(places, songs_per_motion=1, beats=given)
    (row,) = rows_of(out).values()
    assert row.bpm == pytest.approx(100, abs=0.1)
    assert np.diff(row.music_beats) == pytest.approx(36, abs=1)


def test_a_second_run_makes_nothing_again(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    motions, _, out = places
    paired(places)
    before = {path.name: path.read_bytes() for path in out.rglob("*.parquet")}
    opendance.write(stepping(0.6), motions / "other.npz")
    calls = []
    rows_of_motion = pair_item._rows

    def spy(pair: Any, sha256: str) -> Any:
        calls.append(pair.name)
        return rows_of_motion(pair, sha256)

    monkeypatch.setattr(pair_item, "_rows", spy)
    result = paired(places)
    assert calls == ["other.npz"]
    assert [outcome.reused for outcome in result.outcomes] == [False, True]
    (motions / "other.npz").unlink()
    paired(places)
    assert {path.name: path.read_bytes() for path in out.rglob("*.parquet")} == before
    paired(places, seed=1)
    assert calls == ["other.npz", "solo.npz"]


def test_an_item_that_failed_to_be_stored_is_made_again(
    places: tuple[Path, Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = places[2]
    with monkeypatch.context() as patched:
        patched.setattr("opendance_hf.apps.importing.pack_files", _fail)
        with pytest.raises(OSError, match="stopped"):
            paired(places)
    assert not out.exists()
    result = paired(places)
    assert [outcome.reused for outcome in result.outcomes] == [True]
    assert len(rows_of(out)) == 2


def _fail(*_: Any, **__: Any) -> None:
    raise OSError("stopped")


def test_no_motion_or_song_is_in_two_splits(places: tuple[Path, Path, Path]) -> None:
    motions, songs, out = places
    for folder in (motions, songs):
        for path in folder.iterdir():
            path.unlink()
    names = [name for name in (f"m{number}" for number in range(200))]
    split_of = assign_splits(names)
    test = [name for name in names if split_of[name] == "test"][:2]
    train = [name for name in names if split_of[name] == "train"][:3]
    held = [name for name in names if split_of[name] == "validation"][:1]
    for number, name in enumerate([*test[:1], *train[:2], *held]):
        opendance.write(stepping(0.5 + 0.03 * number), motions / f"{name}.npz")
    for number, name in enumerate([*test, *train]):
        write_song(songs / f"{name}.wav", 100 + 5 * number)
    result = paired(places, all_train=False, mirror=True)
    assert set(reasons(result)) == {f"{held[0]}.npz"}
    assert "validation" in reasons(result)[f"{held[0]}.npz"]
    songs_of, motions_of = {}, {}
    for split in ("train", "test"):
        rows = rows_of(out, split=split).values()
        songs_of[split] = {row.provenance.pairing.song_sha256 for row in rows if row.provenance.pairing}
        motions_of[split] = {row.group for row in rows}
    assert motions_of == {"train": set(train[:2]), "test": set(test[:1])}
    assert not songs_of["train"] & songs_of["test"]
    assert (len(songs_of["train"]), len(songs_of["test"])) == (3, 2)


def test_the_licence_is_that_of_the_file_or_of_the_user(places: tuple[Path, Path, Path]) -> None:
    motions, _, out = places
    opendance.write(stepping(0.55, licence="cmu-mocap: The data ..."), motions / "solo.npz")
    paired(places)
    assert {row.provenance.licence for row in rows_of(out).values()} == {"cmu-mocap"}
    card = (out / "README.md").read_text()
    assert "mocap.cs.cmu.edu" in card
    assert "may not be resold" in card
    assert "was danced to" not in card
    assert "2 sequence(s) are motion that was recorded without the song" in card
    assert "program" not in card
    paired(places, licence="cc-by-4.0")
    assert {row.provenance.licence for row in rows_of(out).values()} == {"cc-by-4.0"}
    assert licence_of(stepping(0.5, seconds=1)) == "unknown"
    assert licence_of(stepping(0.5, seconds=1, licence="ask me")) == "unknown"


def test_the_pairing_is_in_all_formats(places: tuple[Path, Path, Path]) -> None:
    paired(places, songs_per_motion=1)
    (parquet,) = rows_of(places[2]).values()
    (tar,) = read_webdataset(places[2], "individual", "train")
    assert parquet.provenance.pairing == tar.provenance.pairing
    assert parquet.provenance.pairing is not None
    assert len(parquet.provenance.pairing.warp_source_s) == len(parquet.provenance.pairing.warp_song_s) > 10


def test_paths_are_not_in_the_rows(places: tuple[Path, Path, Path]) -> None:
    paired(places, songs_per_motion=1)
    (row,) = rows_of(places[2]).values()
    assert os.fspath(places[0].parent) not in repr(row.provenance)


def test_mirroring_twice_gives_the_motion_again() -> None:
    motion = stepping(0.55, dancers=2)
    twice = mirrored(mirrored(motion))
    assert twice.joints == pytest.approx(motion.joints)
    assert twice.poses == pytest.approx(motion.poses)
    once = mirrored(motion)
    assert once.poses is not None
    assert once.transl is not None
    assert once.rest_offsets is not None
    posed = forward_kinematics(once.poses, once.transl, once.rest_offsets[:, None])
    assert posed == pytest.approx(once.joints, abs=1e-9)


def test_events_of_all_dancers_count() -> None:
    one, two = event_times(stepping(0.55).joints), event_times(stepping(0.55, dancers=2).joints)
    assert len(two) > 1.5 * len(one)
    assert (np.diff(two) >= 0).all()


def test_choreographies_land_on_the_beats(places: tuple[Path, Path, Path]) -> None:
    said = io.StringIO()
    result = paired(places, said, choreographies=2, songs_per_motion=2, licence="cmu-mocap")
    assert result.count("published") == 3
    rows = [*rows_of(places[2]).values(), *rows_of(places[2], "collaborative").values()]
    card = (places[2] / "README.md").read_text()
    assert "4 sequence(s) are choreographies" in card
    assert "2 sequence(s) are motion" in card
    made = [row for row in rows if row.group.startswith("choreography")]
    assert [row.num_dancers for row in made] == [1, 1, 2, 2]
    assert {round(row.bpm or 0) for row in made} == {100, 120}
    for row in made:
        validate(row)
        assert row.provenance.licence == "apache-2.0"
        assert row.provenance.pairing is not None
        assert row.provenance.pairing.kind == "choreographed"
        assert row.provenance.pairing.warp_song_s == ()
        for dancer in joints_of(row):
            landings = foot_events(dancer, 60).landings
            assert len(landings) > 5
            assert phase_score(beat_phase(landings, row.music_beats)).mean() > 0.7
            assert measure_person(dancer, 60).fault() == ""
    assert {row.provenance.licence for row in rows if not row.group.startswith("choreography")} == {
        "cmu-mocap"
    }
