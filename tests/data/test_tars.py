"""Tars give the same windows as the Arrow files of the same dataset; damaged ones are named."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest

from opendance_hf.data import MotionWindows, NoMusicError, SequenceReader, TarError, TarReader, open_reader
from opendance_hf.data import tar_files as tar_files_module
from opendance_hf.data.tar_files import find_tars
from opendance_hf.storage import pack, write_webdataset
from tests.factories import make_sequence
from tests.fakehub import FakeHub, Repo

MUSIC = ("music_features", "music_features_7p5fps", "music_features_fact")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tars") / "opendance-3d"
    pack([make_sequence(i, num_frames=90 + 7 * i) for i in range(12)], folder, shard_bytes=600_000)
    return folder


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDANCE_CACHE", str(tmp_path / "cache"))


def pattern(dataset: Path, split: str = "train") -> str:
    return f"{dataset}/webdataset/individual/{split}-*.tar"


def test_tars_have_the_windows_of_the_arrow_files(dataset: Path) -> None:
    assert len(find_tars(pattern(dataset))) > 2
    options = {"num_frames": 32, "stride": 10, "mirror": True}
    left, right = MotionWindows(pattern(dataset), **options), MotionWindows(dataset, **options)
    assert len(left) == len(right) > 0
    for index in range(len(left)):
        assert left[index]["joints"].equal(right[index]["joints"])
    again = MotionWindows(pattern(dataset), **options)  # from the index in the cache
    assert list(again.windows) == list(left.windows)
    assert again.fingerprint() == left.fingerprint()
    assert pickle.loads(pickle.dumps(again))[0]["joints"].equal(left[0]["joints"])


def test_columns_are_those_of_the_arrow_files(dataset: Path) -> None:
    tars, arrow = open_reader(pattern(dataset)), SequenceReader(dataset)
    assert len(tars) == len(arrow)
    for index in range(len(tars)):
        left, right = tars.row(index), arrow.row(index)
        for name in ("id", "group", "num_frames", "bpm", "music_beats", "rest_offsets", "genre"):
            assert tars.scalar(left, name) == arrow.scalar(right, name), name
        for name in ("joints", "smpl_pose", *MUSIC):
            np.testing.assert_array_equal(tars.matrix(left, name, 2, 5), arrow.matrix(right, name, 2, 5))
        heard = [
            r.heard(row, "music_features_7p5fps+beat_phase_7p5fps", 443)
            for r, row in ((tars, left), (arrow, right))
        ]
        np.testing.assert_array_equal(*heard)


def test_selections_and_splits(dataset: Path) -> None:
    ids = TarReader(pattern(dataset)).column("id")
    assert TarReader(pattern(dataset), only=ids[:2]).column("id") == ids[:2]
    assert TarReader(pattern(dataset), leave_out=ids[:2]).column("id") == ids[2:]
    assert len(TarReader(pattern(dataset), subset=3)) == 3
    held_out = SequenceReader(dataset, split="test").column("id")
    assert TarReader(pattern(dataset), split="test").column("id") == held_out
    with pytest.raises(ValueError, match="no sequence nobody"):
        TarReader(pattern(dataset), leave_out=["nobody"])
    with pytest.raises(ValueError, match=r"data\.configs"):
        TarReader(pattern(dataset), ["individual"])
    with pytest.raises(ValueError, match="no split 'test'"):
        TarReader(pattern(dataset).replace("train-", "[t]rain-"), split="test")


def test_numbers_in_braces(dataset: Path) -> None:
    folder = f"{dataset}/webdataset/individual"
    some = find_tars(f"{folder}/train-{{00000..00002}}.tar")
    assert [Path(tar.name).name for tar in some] == [f"train-0000{i}.tar" for i in range(3)]
    with pytest.raises(TarError, match=r"train-00099\.tar: no such tar"):
        find_tars(f"{folder}/train-{{00099..00100}}.tar")
    with pytest.raises(TarError, match="no such tars"):
        find_tars(f"{folder}/nothing-*.tar")


def test_a_sequence_without_a_song(tmp_path: Path) -> None:
    silent = dict.fromkeys((*MUSIC, "bpm"))
    sequences = [make_sequence(0), make_sequence(1, music_beats=np.zeros(0, np.int32), **silent)]
    write_webdataset(tmp_path, "individual", "train", sequences)
    reader = TarReader(f"{tmp_path}/webdataset/individual/train-*.tar")
    assert reader.scalar(reader.row(1), "bpm") is None
    with pytest.raises(NoMusicError, match="seq-0001-1 has no music_features"):
        reader.matrix(reader.row(1), "music_features")
    with pytest.raises(NoMusicError, match="seq-0001-1"):
        reader.check_heard("music_features", 438)
    TarReader(reader.name, leave_out=["seq-0001-1"]).check_heard("music_features", 438)


Members = dict[str, bytes]


def array(value: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, value)
    return buffer.getvalue()


def longer(members: Members) -> None:
    row = json.loads(members["json"])
    members["json"] = json.dumps({**row, "num_frames": 2**60}).encode()


def hostile(members: Members) -> None:
    # Objects of numpy are pickles.
    members["joints.npy"] = array(np.zeros((40, 72), np.float32)).replace(b"'<f4'", b"'|O' ")


CHANGES: dict[str, tuple[Callable[[Members], object], str]] = {
    "no scalars": (lambda members: members.pop("json"), "'json' is missing"),
    "broken scalars": (lambda members: members.update(json=b"{"), "Expecting property name"),
    "a list": (lambda members: members.update(json=b"[]"), "list indices"),
    "more frames": (longer, "bytes, expected"),
    "no joints": (lambda members: members.pop("joints.npy"), "'joints.npy' is missing"),
    "pickles": (hostile, "object"),
    "not an array": (
        lambda members: members.update({"joints.npy": b"x" * len(members["joints.npy"])}),
        "not a .npy file",
    ),
    "another shape": (
        lambda members: members.update({"joints.npy": array(np.zeros((80, 36), np.float32))}),
        r"\(80, 36\), expected float32",
    ),
    "columns first": (
        lambda members: members.update({"joints.npy": array(np.zeros((72, 40), np.float32).T)}),
        "expected rows first",
    ),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_damaged_sample_is_named(change: str, tmp_path: Path) -> None:
    (shard,) = write_webdataset(tmp_path, "individual", "train", [make_sequence(i) for i in range(2)])
    with tarfile.open(shard) as tar:
        members = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    one = {name.partition(".")[2]: content for name, content in members.items() if "0001" in name}
    damage, told = CHANGES[change]
    damage(one)
    with tarfile.open(shard, "w") as tar:
        for key, content in ("seq-0000-1", members), ("seq-0001-1", one):
            for name, value in content.items():
                if "seq-" not in name or name.startswith(key):
                    info = tarfile.TarInfo(name if "seq-" in name else f"{key}.{name}")
                    info.size = len(value)
                    tar.addfile(info, io.BytesIO(value))
    with pytest.raises(TarError, match=rf"train-00000\.tar, sample 'seq-0001-1': .*{told}"):
        MotionWindows(str(shard), 32, 8)[3]


@pytest.mark.parametrize("kept", [0.3, 0.9])
def test_a_cut_tar_is_named(kept: float, tmp_path: Path) -> None:
    (shard,) = write_webdataset(tmp_path, "individual", "train", [make_sequence(i) for i in range(4)])
    content = shard.read_bytes()
    whole = TarReader(str(shard))
    shard.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(TarError, match=r"train-00000\.tar"):
        TarReader(str(shard))
    with pytest.raises(TarError, match=r"train-00000\.tar: .*it was changed since it was opened"):
        whole.matrix(whole.row(3), "smpl_pose")


def test_a_tar_that_is_written_again_has_its_new_values(tmp_path: Path) -> None:
    for seed in (1, 2):
        sequence = make_sequence(seed)
        pack([sequence], tmp_path / "dances")
        reader = TarReader(str(tmp_path / "dances/webdataset/individual/*.tar"))
        np.testing.assert_array_equal(reader.matrix(reader.row(0), "joints"), sequence.joints)


def test_a_url_that_dates_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shard,) = write_webdataset(tmp_path, "individual", "train", [make_sequence(1)])
    fs = fsspec.filesystem("memory")
    fs.pipe("/shelf/a.tar", shard.read_bytes())
    monkeypatch.setenv("OPENDANCE_CACHE", str(tmp_path / "cache"))
    assert len(TarReader("memory://shelf/a.tar")) == 1
    monkeypatch.setattr(type(fs), "info", lambda self, path, **_: {"name": path, "size": 9, "type": "file"})
    with pytest.raises(TarError, match=r"neither a hash nor a date is told of memory:///shelf/a\.tar"):
        TarReader("memory://shelf/a.tar")


def test_no_sample_is_lost_behind_a_damaged_header(tmp_path: Path) -> None:
    (shard,) = write_webdataset(tmp_path, "individual", "train", [make_sequence(i) for i in range(3)])
    with tarfile.open(shard) as tar:
        at = next(info.offset for info in tar if info.name.startswith("seq-0001"))
    content = shard.read_bytes()
    shard.write_bytes(content[: at + 100] + b"\xff" * 100 + content[at + 200 :])
    with pytest.raises(TarError, match=f"damaged at byte {at}"):
        TarReader(str(shard))
    shard.write_bytes(content[:at])  # cut between two samples
    with pytest.raises(TarError, match=f"cut off or damaged at byte {at}"):
        TarReader(str(shard))


def test_one_id_twice(dataset: Path, tmp_path: Path) -> None:
    shutil.copytree(dataset / "webdataset" / "individual", tmp_path / "twice")
    shutil.copy(tmp_path / "twice" / "train-00000.tar", tmp_path / "twice" / "train-99999.tar")
    with pytest.raises(TarError, match=r"train-99999\.tar, sample '.*': is also in .*train-00000\.tar"):
        TarReader(f"{tmp_path}/twice/train-*.tar")


_REMOTE = """
import sys
from opendance_hf.data import MotionWindows, TarError
try:
    remote = MotionWindows(sys.argv[1], 32, 10)
except TarError as error:
    sys.exit(f"refused: {error}")
local = MotionWindows(sys.argv[2], 32, 10)
assert len(remote) == len(local) > 0 and remote.fingerprint() == local.fingerprint()
numbers = [number for part in remote.order(0, 0) for number in part]
assert sorted(numbers) == list(range(len(local)))
assert all(remote[n]["joints"].equal(local[n]["joints"]) for n in numbers)
"""


@pytest.mark.slow
def test_tars_of_the_hub_are_read_in_ranges(dataset: Path, tmp_path: Path) -> None:
    with FakeHub() as hub:
        tars = (dataset / "webdataset" / "individual").glob("*.tar")
        hub.repos["dataset", "org/dances"] = Repo()
        contents = {f"webdataset/individual/{tar.name}": tar.read_bytes() for tar in tars}
        hub.change("dataset", "org/dances", contents)
        url = "hf://datasets/org/dances/webdataset/individual/train-*.tar"
        env = {**hub.env(tmp_path / "home"), "OPENDANCE_CACHE": str(tmp_path / "cache")}

        def read(**more: str) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-c", _REMOTE, url, pattern(dataset)]
            return subprocess.run(command, env={**env, **more}, text=True, capture_output=True)

        first = read()
        assert first.returncode == 0, first.stderr
        asked = sum("/resolve/" in request for request in hub.requests)
        assert asked > 0
        again = read()
        assert again.returncode == 0, again.stderr
        assert sum("/resolve/" in request for request in hub.requests) == asked, "all is in the cache"
        offline = read(HF_HUB_OFFLINE="1")
        assert "refused: hf://datasets/org/dances" in offline.stderr
        assert "HF_HUB_OFFLINE" in offline.stderr


def test_the_cache_has_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENDANCE_TAR_CACHE_GB", "0.00001")
    monkeypatch.setattr(tar_files_module, "_LOOK_AFTER", 1)
    (tmp_path / "file").write_bytes(bytes(range(256)) * 200)
    monkeypatch.setattr(
        tar_files_module.RemoteTar,
        "fetch",
        lambda self, at, size: (tmp_path / "file").read_bytes()[at : at + size],
    )
    tar = tar_files_module.RemoteTar("hf://datasets/a/b/c.tar", 51_200, "1")
    for at in range(0, 51_200, 512):
        assert tar.view(at, 512).tobytes() == (tmp_path / "file").read_bytes()[at : at + 512]
    kept = list(tar.cache().iterdir())
    assert 0 < sum(file.stat().st_size for file in kept) <= 10_000 + 512
