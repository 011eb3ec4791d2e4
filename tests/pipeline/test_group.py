"""One song in two videos ends up in one split, whatever was done to the videos; two songs do not share a group."""

from __future__ import annotations

import dataclasses
import hashlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import soxr

from opendance_hf.archives import ArchiveError
from opendance_hf.motion.twins import tracks
from opendance_hf.music.fingerprint import Fingerprint, fingerprint
from opendance_hf.pipeline import group
from opendance_hf.pipeline.group import (
    FOLDER,
    SequenceFingerprint,
    assign_groups,
    components,
    fingerprint_of,
    load_fingerprint,
    name_groups,
    save_fingerprint,
)
from opendance_hf.pipeline.ledger import Ledger
from opendance_hf.storage import load_sequence, pack, read_parquet, save_sequence
from opendance_hf.synthetic.tune import SAMPLE_RATE, make_tune
from tests.factories import make_sequence
from tests.motion.test_twins import dance, estimated

SECONDS = 9
SILENT = Fingerprint(np.zeros(0, np.float32), np.zeros(0, np.float32))


def write_video(path: Path, sound: np.ndarray, codec: str, bit_rate: int) -> Path:
    """A grey video with this 48 kHz sound."""
    with av.open(str(path), "w") as out:
        video = out.add_stream("mpeg4", rate=5)
        video.width, video.height, video.pix_fmt = 64, 64, "yuv420p"
        audio = out.add_stream(codec, rate=48_000, layout="mono", bit_rate=bit_rate)
        for _ in range(5 * len(sound) // 48_000):
            out.mux(video.encode(av.VideoFrame.from_ndarray(np.full((64, 64, 3), 90, np.uint8), "rgb24")))
        out.mux(video.encode(None))
        frame = av.AudioFrame.from_ndarray(sound[None], format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, 0, Fraction(1, 48_000)
        fitted = av.AudioResampler(format=audio.format.name, frame_size=audio.codec_context.frame_size)
        for piece in fitted.resample(frame) + fitted.resample(None):
            out.mux(audio.encode(piece))
        out.mux(audio.encode(None))
    return path


def enter(ledger: Ledger, build: Path, name: str, found: SequenceFingerprint) -> str:
    """Publish a sequence of a video with this print, as the worker does; returns its id."""
    sha = hashlib.sha256(name.encode()).hexdigest()
    key = f"{sha[:16]}_00"
    (build / "sequences").mkdir(exist_ok=True)
    seed = int(sha[:6], 16)
    save_sequence(
        build / "sequences" / f"{key}.npz", make_sequence(seed, id=key, group=sha[:16], num_frames=8)
    )
    save_fingerprint(build / FOLDER / f"{key}.npz", found)
    ledger.add(name, name, sha, "f")
    ledger.finish(name, "published", "", 0.0, [{"id": key}])
    return key


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(tmp_path / "ledger.sqlite")


def test_one_song_in_two_videos_lands_in_one_split(tmp_path: Path, ledger: Ledger) -> None:
    song = soxr.resample(make_tune(0, 16), SAMPLE_RATE, 48_000).astype(np.float32)
    shifted = song[int(3.3 * 48_000) :]
    fast = soxr.resample(song[2 * 48_000 :], 48_000 * 1.03, 48_000).astype(np.float32)
    videos = {
        "first": write_video(tmp_path / "first.mp4", song, "aac", 128_000),
        "shifted": write_video(tmp_path / "shifted.mkv", shifted, "libopus", 48_000),
        "fast": write_video(tmp_path / "fast.mp4", fast, "aac", 64_000),
    }
    # Twenty-four more songs, so that splits are drawn; all of one tempo and key, as the first is not.
    for seed in range(1, 25):
        sound = soxr.resample(make_tune(seed, 5, bpm=118, key=3), SAMPLE_RATE, 48_000).astype(np.float32)
        videos[f"song{seed}"] = write_video(tmp_path / f"song{seed}.mp4", sound, "aac", 64_000)
    keys = {}
    for number, (name, path) in enumerate(videos.items()):
        end_s = 4.9 if name.startswith("song") else float(SECONDS)
        keys[name] = enter(ledger, tmp_path, name, fingerprint_of(path, 0.1, end_s, dance(number)))
    groups = assign_groups(tmp_path, ledger, "mit")
    assert len({groups[keys[name]] for name in ("first", "shifted", "fast")}) == 1
    assert len(set(groups.values())) == 25

    files = [tmp_path / "sequences" / f"{key}.npz" for key in keys.values()]
    half = {"train": 0.5, "validation": 0.25, "test": 0.25}
    report = pack(map(load_sequence, files), tmp_path / "d", splits=half, webdataset=False)
    split_of = {
        seq.id: split
        for split in report.statistics["individual"]
        for seq in read_parquet(tmp_path / "d", "individual", split)
    }
    assert len(set(split_of.values())) == 3
    assert len({split_of[keys[name]] for name in ("first", "shifted", "fast")}) == 1


def test_one_motion_to_two_songs_is_one_group() -> None:
    dances = (dance(1), dance(2), estimated(dance(1))[:, 60:])
    found = {n: SequenceFingerprint(SILENT, tracks(joints)) for n, joints in enumerate(dances)}
    assert components(["a", "b", "c"], found) == [[0, 2], [1]]
    assert components(["a", "b", "b"], found) == [[0, 1, 2]], "and sequences of one video always are"


def test_names_stay_when_videos_come(tmp_path: Path, ledger: Ledger) -> None:
    ids = ["bb_00", "dd_00", "ff_00"]
    first = name_groups(ids, [[0], [1, 2]], {})
    assert first == {"bb_00": "bb", "dd_00": "dd", "ff_00": "dd"}
    assert ledger.name_groups(first) == 0
    more = name_groups(["aa_00", *ids], [[0, 1], [2, 3]], ledger.group_names())
    assert more == {"aa_00": "bb", **first}, "though aa comes before bb"
    assert ledger.name_groups(more) == 0
    later = {**more, "ee_00": "ee"}
    ledger.name_groups(later)
    one = name_groups(sorted(later), [[0, 1, 2, 3, 4]], ledger.group_names())
    assert set(one.values()) == {"bb"}, "of names given together the smaller one stays"
    assert ledger.name_groups(one) == 3
    ledger.close()


def test_fingerprints_and_groups_are_files_a_build_can_be_resumed_from(
    tmp_path: Path, ledger: Ledger, caplog: pytest.LogCaptureFixture
) -> None:
    found = SequenceFingerprint(
        Fingerprint(np.array([0.5, 1], np.float32), np.array([8, 9], np.float32)), tracks(dance(1))
    )
    key = enter(ledger, tmp_path, "a", found)
    again = load_fingerprint(tmp_path / FOLDER / f"{key}.npz")
    np.testing.assert_array_equal(again.music.octaves, found.music.octaves)
    np.testing.assert_array_equal(again.dancers, found.dancers)
    damaged = tmp_path / "damaged.npz"
    damaged.write_bytes(b"")
    with pytest.raises(ArchiveError, match=r"damaged\.npz: .*delete the file"):
        load_fingerprint(damaged)
    other = enter(ledger, tmp_path, "b", dataclasses.replace(found, dancers=tracks(estimated(dance(1)))))
    caplog.set_level("INFO")
    groups = assign_groups(tmp_path, ledger, "mit")
    assert groups[key] == groups[other] == min(key, other)[:16]
    assert load_sequence(tmp_path / "sequences" / f"{max(key, other)}.npz").group == groups[key]
    assert caplog.messages == [
        "1 video(s) share a song or a motion with another video and are in the same group and split."
    ]
    assert assign_groups(tmp_path, ledger, "mit") == groups
    ledger.close()


def test_groups_are_the_same_whenever_videos_come(
    tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    tunes = [fingerprint(make_tune(seed, 6)) for seed in (1, 2)]
    prints = {
        "a": SequenceFingerprint(tunes[0], tracks(dance(1))),
        "b": SequenceFingerprint(SILENT, tracks(dance(2))),
        "c": SequenceFingerprint(tunes[1], tracks(dance(3))),
        "d": SequenceFingerprint(SILENT, tracks(estimated(dance(1)))),
        "e": SequenceFingerprint(tunes[1], tracks(dance(4))),
        "f": SequenceFingerprint(tunes[0], tracks(dance(5))),
    }
    keys = {name: enter(ledger, tmp_path, name, prints[name]) for name in "abc"}
    assert len(set(assign_groups(tmp_path, ledger, "mit").values())) == 3
    loaded = []
    monkeypatch.setattr(group, "load_fingerprint", lambda file: loaded.append(file) or load_fingerprint(file))
    assign_groups(tmp_path, ledger, "mit")
    assert loaded == [], "nothing is new"
    keys |= {name: enter(ledger, tmp_path, name, prints[name]) for name in "def"}
    groups = assign_groups(tmp_path, ledger, "mit")
    found = {frozenset(name for name in keys if groups[keys[name]] == one) for one in groups.values()}
    assert found == {frozenset("adf"), frozenset("b"), frozenset("ce")}
    # A video that is processed again has another fingerprint, and meets all others.
    save_fingerprint(tmp_path / FOLDER / f"{keys['b']}.npz", prints["e"])
    groups = assign_groups(tmp_path, ledger, "mit")
    assert groups[keys["b"]] == groups[keys["c"]] != groups[keys["a"]]
    ledger.close()


def test_what_was_withheld_is_compared_with_what_came_meanwhile(tmp_path: Path, ledger: Ledger) -> None:
    first = enter(ledger, tmp_path, "a", SequenceFingerprint(SILENT, tracks(dance(1))))
    enter(ledger, tmp_path, "b", SequenceFingerprint(SILENT, tracks(dance(2))))
    assign_groups(tmp_path, ledger, "mit")
    ledger.withhold({first: (True, "rejected")})
    other = enter(ledger, tmp_path, "c", SequenceFingerprint(SILENT, tracks(estimated(dance(1)))))
    assert first not in assign_groups(tmp_path, ledger, "mit")
    ledger.withhold({})
    groups = assign_groups(tmp_path, ledger, "mit")
    assert groups[first] == groups[other]
    ledger.close()


def test_the_group_and_the_licence_are_written_into_every_sequence(tmp_path: Path, ledger: Ledger) -> None:
    keys = [
        enter(ledger, tmp_path, name, SequenceFingerprint(SILENT, tracks(dance(n))))
        for n, name in enumerate("ab")
    ]
    files = [tmp_path / "sequences" / f"{key}.npz" for key in keys]

    def written() -> list[tuple[str, str]]:
        found = [load_sequence(file) for file in files]
        return [(seq.group, seq.provenance.licence) for seq in found]

    assign_groups(tmp_path, ledger, "mit")
    own = [key[:16] for key in keys]
    assert written() == [(own[0], "mit"), (own[1], "mit")]
    assign_groups(tmp_path, ledger, "cc0-1.0")
    assert written() == [(own[0], "cc0-1.0"), (own[1], "cc0-1.0")]
    # A worker that processes a video again writes the name it starts with.
    save_sequence(files[0], dataclasses.replace(load_sequence(files[0]), group="another"))
    assign_groups(tmp_path, ledger, "cc0-1.0")
    assert written() == [(own[0], "cc0-1.0"), (own[1], "cc0-1.0")]
    # And a build of an earlier version has no fingerprints.
    (tmp_path / FOLDER / f"{keys[0]}.npz").unlink()
    assert assign_groups(tmp_path, ledger, "mit") == dict(zip(keys, own, strict=True))
    ledger.close()
