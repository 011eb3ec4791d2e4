"""Pushes and pulls through faults: kills, broken connections, errors of the Hub, other people's commits."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import RepoCard, constants

from opendance_hf import hub as hub_module
from opendance_hf.assets import packaged_weights
from opendance_hf.files import OutputError
from opendance_hf.hub import HubError, PullReport, PushReport, pull, push
from opendance_hf.hub_client import RETRY_WAITS_S
from opendance_hf.schema import SchemaError
from opendance_hf.storage import PackError, pack
from opendance_hf.storage.parquet import IncompleteError
from tests.factories import make_sequence
from tests.fakehub import TOKEN, FakeHub, Fault, Repo

REPO = "org/dances"
KEY = ("dataset", REPO)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A Hub for clients in this process, which wait for nothing."""
    with FakeHub() as running:
        monkeypatch.setattr(constants, "ENDPOINT", running.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", running.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
        yield running


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that clients would have waited."""
    waited: list[float] = []
    monkeypatch.setattr(time, "sleep", waited.append)
    return waited


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed") / "dances"
    pack(map(make_sequence, range(6)), folder, splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    assert len(list(folder.glob("data/*/*.parquet"))) == 6
    return folder


@pytest.fixture
def folder(packed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "dances"))


def pushed(folder: Path, **options: str) -> PushReport:
    return push(folder, REPO, token=TOKEN, **options)  # type: ignore[arg-type]


def pulled(out: Path, **options: str) -> PullReport:
    return pull(REPO, out, token=TOKEN, **options)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_only_what_changed_is_sent_and_stale_shards_go(hub: FakeHub, folder: Path) -> None:
    first = pushed(folder)
    assert (len(first.uploaded), first.unchanged) == (8, 0)
    assert hub.count("^PUT /objects") == 6
    again = pushed(folder)
    assert (again.uploaded, again.deleted, again.commit) == ((), (), first.commit)
    assert hub.count("POST .*/commit/") == 1
    hub.change(*KEY, {"notes.txt": b"ours", "data/readme.txt": b"ours"})
    pack(map(make_sequence, range(5)), folder, splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    shards = [hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("data/*/*.parquet")]
    new = set(shards) - hub.store.blobs.keys()  # those whose rank in the split has changed
    hub.requests.clear()
    changed = pushed(folder)
    assert len(changed.deleted) == 6  # shards are named "of-00006"
    assert set(hub.repos[KEY].main) == {*contents(folder), "notes.txt", "data/readme.txt"}
    assert (
        hub.count("^PUT /objects") == len(new) < 5
    )  # the Hub has the content of the others, by another name
    (shard, *_) = sorted(folder.glob("data/*/*.parquet"))
    pack([make_sequence(9)], folder.parent / "other", webdataset=False)
    shutil.copy(next((folder.parent / "other").glob("data/*/*.parquet")), shard)
    hub.requests.clear()
    assert pushed(folder).uploaded == (shard.relative_to(folder).as_posix(),)
    assert hub.count("^PUT /objects") == 1


@pytest.mark.parametrize("number", [2, 5])
def test_a_shard_that_is_lost_is_not_deleted_from_the_hub(hub: FakeHub, folder: Path, number: int) -> None:
    commit = pushed(folder).commit
    lost = next(folder.glob(f"data/*/train-0000{number}-of-00006.parquet"))
    lost.unlink()
    with pytest.raises(IncompleteError, match=rf"{lost.name}: is missing, 5 of 6 .*restore it from a copy"):
        pushed(folder)
    assert hub.repos[KEY].refs["main"] == commit


def test_rows_that_are_lost_are_not_deleted_from_the_hub(hub: FakeHub, folder: Path) -> None:
    commit = pushed(folder).commit
    for shard in sorted(folder.glob("data/*/*.parquet"))[:5]:
        shard.unlink()
    (rest,) = folder.glob("data/*/*.parquet")
    rest.rename(rest.with_name("train-00000-of-00001.parquet"))
    with pytest.raises(
        IncompleteError, match=r"has 1 sequences of the split 'train', but statistics\.json states 6"
    ):
        pushed(folder)
    assert hub.repos[KEY].refs["main"] == commit


def test_a_tar_that_is_lost_or_cut_is_not_deleted_from_the_hub(hub: FakeHub, tmp_path: Path) -> None:
    pack([make_sequence(i) for i in range(3)], tmp_path / "d", shard_bytes=1)
    commit = pushed(tmp_path / "d").commit
    third = max((tmp_path / "d").glob("webdataset/*/*.tar"))
    data = third.read_bytes()
    third.unlink()
    with pytest.raises(IncompleteError, match=rf"{third.name}: is missing.*restore it from a copy"):
        pushed(tmp_path / "d")
    third.write_bytes(data[:-512])
    with pytest.raises(
        IncompleteError, match=rf"{third.name}: has {len(data) - 512:,} bytes, but statistics"
    ):
        pushed(tmp_path / "d")
    assert hub.repos[KEY].refs["main"] == commit
    third.write_bytes(data)
    stated = json.loads((tmp_path / "d/statistics.json").read_text())
    stated["tars"] |= {"../../etc/passwd": 1, "webdataset/\x1b[31m/a.tar": 1}  # by a stranger: not looked for
    (tmp_path / "d/statistics.json").write_text(json.dumps(stated))
    pushed(tmp_path / "d")
    shutil.rmtree(tmp_path / "d/webdataset")  # all of them: they are not wanted
    assert len(pushed(tmp_path / "d").deleted) == 3


def test_an_incomplete_repository_is_not_pulled(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pushed(folder)
    out = tmp_path / "out"
    pulled(out)
    before = contents(out)
    lost = next(folder.glob("data/*/train-00002-of-00006.parquet"))
    hub.change(*KEY, {lost.relative_to(folder).as_posix(): None})
    with pytest.raises(HubError, match=rf"{lost.name}: is missing.*--revision"):
        pulled(out)
    assert contents(out) == before


def test_other_data_is_not_deleted(hub: FakeHub, folder: Path) -> None:
    hub.repos[KEY] = Repo()
    hub.change(*KEY, {"data/theirs.parquet": b"PAR1PAR1"})
    with pytest.raises(HubError, match=r"did not write, such as data/theirs\.parquet.*another name"):
        pushed(folder)
    assert set(hub.repos[KEY].main) == {"data/theirs.parquet"}


FAULTS = {
    "429": Fault("PUT /objects", status=429, retry_after="7"),
    "500 of an upload": Fault("PUT /objects", status=500),
    "503 of the commit": Fault("POST .*/commit/", status=503),
    "502 of the creation": Fault("POST /api/repos/create", status=502),
    "503 of the tree": Fault("GET .*/tree/", status=503),
    "upload dropped": Fault("PUT /objects", drop_after=1000),
    "answer to the commit lost": Fault("POST .*/commit/", lost=True),
    "answer to the creation lost": Fault("POST /api/repos/create", lost=True),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_push_survives(hub: FakeHub, folder: Path, waits: list[float], name: str) -> None:
    hub.faults = [Fault(**vars(FAULTS[name]))]
    report = pushed(folder)
    assert hub.faults[0].times == 0
    assert len(report.uploaded) == 8
    assert set(hub.repos[KEY].main) == set(contents(folder))
    assert len(hub.repos[KEY].commits) == 2  # the empty one and this one
    assert waits
    assert name != "429" or max(waits) >= 7


def test_faults_that_stay_end_in_one_error(hub: FakeHub, folder: Path, waits: list[float]) -> None:
    hub.faults = [Fault("POST .*/commit/", times=99, status=503)]
    with pytest.raises(HubError, match=rf"^{REPO}: the upload failed \(.*503.*run the command again"):
        pushed(folder)
    assert len(waits) == len(RETRY_WAITS_S)
    assert not set(hub.repos[KEY].main)
    hub.faults.clear()
    hub.requests.clear()
    pushed(folder)
    assert hub.count("^PUT /objects") == 0


def test_a_stale_parent_is_compared_again(hub: FakeHub, folder: Path) -> None:
    other = iter(range(100))

    def commit() -> None:
        hub.change(*KEY, {"notes.txt": str(next(other)).encode()})

    hub.faults = [Fault("POST .*/commit/", hook=commit)]
    pushed(folder)
    assert hub.repos[KEY].main["notes.txt"] == b"0"
    assert hub.count("POST .*/commit/") == 2
    assert hub.count("^PUT /objects") == 6
    (folder / "notes.md").write_text("changed")
    hub.faults = [Fault("POST .*/commit/", times=99, hook=commit)]
    with pytest.raises(HubError, match="somebody else committed during each of 5 attempts"):
        pushed(folder)


def test_readers_see_the_old_dataset_until_the_commit(hub: FakeHub, folder: Path) -> None:
    pushed(folder)
    old = dict(hub.repos[KEY].main)
    seen: list[bool] = []
    pack(map(make_sequence, range(10, 14)), folder, splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    hub.faults = [Fault(".", times=999, hook=lambda: seen.append(dict(hub.repos[KEY].main) == old))]
    pushed(folder)
    puts = [i for i, request in enumerate(hub.requests[-len(seen) :]) if request.startswith("PUT /objects")]
    (commit,) = [i for i, request in enumerate(hub.requests[-len(seen) :]) if "/commit/" in request]
    assert len(puts) == 4
    assert max(puts) < commit
    assert all(seen[: commit + 1])
    assert not any(seen[commit + 1 :])


def test_a_content_that_the_hub_has_changed_is_found(hub: FakeHub, folder: Path) -> None:
    def spoil() -> None:
        (name, *_) = (n for n in hub.repos[KEY].main if n.endswith(".parquet"))
        hub.repos[KEY].main.blobs[name] = hub.repos[KEY].main.blobs["README.md"]

    # After the commit: the second tree that is listed.
    hub.faults = [Fault("GET .*/tree/"), Fault("GET .*/tree/", hook=spoil)]
    with pytest.raises(HubError, match=r"parquet has another size or hash on the Hub after the upload"):
        pushed(folder)


def test_too_many_changes_are_an_error_before_the_upload(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MAX_CHANGES", 7)
    with pytest.raises(HubError, match=r"8 files would change.*larger shards"):
        pushed(folder)
    assert hub.count("^PUT") == 0


def test_versions_are_tags_and_lines_of_the_changelog(hub: FakeHub, folder: Path) -> None:
    pushed(folder, version="1.0.0", notes="the\nfirst")
    assert hub.repos[KEY].tags == {"v1.0.0": hub.repos[KEY].refs["main"]}
    assert "schema 1.6" in hub.repos[KEY].tag_messages["v1.0.0"]
    hub.requests.clear()
    with pytest.raises(HubError, match=r"version 1\.0\.0 exists \(tag v1\.0\.0\); nothing was uploaded"):
        pushed(folder, version="1.0.0")
    assert hub.count("PUT|/commit/") == 0
    # A push without a version keeps the changelog; that of a killed one, without a tag, is not doubled.
    assert pushed(folder).uploaded == ()
    hub.faults = [Fault("POST .*/tag/", times=99, status=404)]
    with pytest.raises(HubError, match="the upload failed"):
        pushed(folder, version="1.1.0", notes="was stopped")
    hub.faults.clear()
    report = pushed(folder, version="1.1.0", notes="more")
    card = hub.repos[KEY].main["README.md"].decode()
    lines = card[card.index("## Changelog") :].splitlines()
    assert [line.partition(" (")[0] for line in lines if line.startswith("- ")] == [
        "- **1.1.0**",
        "- **1.0.0**",
    ]
    assert lines[-2].endswith(": schema 1.6, 6 sequences. more")
    assert lines[-1].endswith("6 sequences. the first")
    assert f'load_dataset("{REPO}", revision="v1.1.0")' in card
    assert card.count("revision=") == 1
    assert report.tag == "v1.1.0"
    assert hub.repos[KEY].tags["v1.1.0"] == report.commit


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"version": "1.1"}, "unknown version '1.1': expected three numbers"),
        ({"notes": "x"}, "give --version too"),
        ({"gated": "yes"}, "unknown --gated 'yes': expected auto or manual"),
    ],
)
def test_options_are_checked_first(hub: FakeHub, folder: Path, options: dict[str, str], error: str) -> None:
    with pytest.raises(HubError, match=error):
        pushed(folder, **options)
    assert not hub.requests


def test_a_gated_repository_is_gated_before_the_upload(hub: FakeHub, folder: Path) -> None:
    hub.faults = [Fault("PUT /objects", hook=lambda: states.append(hub.repos[KEY].gated))]
    states: list[object] = []
    pushed(folder, gated="manual")
    assert states == ["manual"]
    assert b"extra_gated_prompt: " in hub.repos[KEY].main["README.md"]
    again = pushed(folder)
    assert not again.uploaded, "the conditions of access stay, though this push did not name them"
    assert b"extra_gated_prompt: " in hub.repos[KEY].main["README.md"]
    with pytest.raises(HubError, match=r"is gated.*ask for access on its page"):
        pull(REPO, folder.parent / "out", token="hf_other")


@pytest.mark.parametrize("gated", ["", "manual"])
@pytest.mark.parametrize("kind", ["dataset", "model"])
def test_conditions_of_access_that_the_owner_wrote_on_the_hub_stay(
    hub: FakeHub, folder: Path, kind: str, gated: str
) -> None:
    if kind == "model":
        shutil.rmtree(folder)
        shutil.copytree(packaged_weights("bailando-vqvae-cmu"), folder)
    pushed(folder, gated="manual")
    theirs = {"extra_gated_prompt": "Sign the form.", "extra_gated_fields": {"Institution": "text"}}
    card = RepoCard(hub.repos[kind, REPO].main["README.md"].decode())
    for key, value in theirs.items():
        card.data[key] = value
    hub.change(kind, REPO, {"README.md": str(card).encode()})
    pushed(folder, gated=gated)
    kept = RepoCard(hub.repos[kind, REPO].main["README.md"].decode())
    assert kept.data.to_dict() == card.data.to_dict()
    assert kept.text.strip() == card.text.strip()


def test_private_never_publishes(hub: FakeHub, folder: Path) -> None:
    push(folder, "org/hidden", private=True, token=TOKEN)
    assert hub.repos["dataset", "org/hidden"].private
    push(folder, "org/hidden", private=True, token=TOKEN)
    with pytest.raises(HubError, match=r"does not exist or is private"):
        pull("org/hidden", folder.parent / "out", token="hf_other")
    pushed(folder)
    with pytest.raises(HubError, match=r"exists and is public"):
        push(folder, REPO, private=True, token=TOKEN)


def test_a_pull_gets_what_is_missing_or_changed(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pushed(folder, version="1.0.0")
    out = tmp_path / "out"
    first = pulled(out)
    assert (len(first.downloaded), first.kept, first.kind) == (8, 0, "dataset")
    assert contents(out) == dict(hub.repos[KEY].main)
    pack(map(make_sequence, range(1, 7)), folder, splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    pushed(folder)
    hub.change(*KEY, {"film.mp4": b"x", ".gitattributes": b"", "LICENSE": b"x"})
    hub.requests.clear()
    second = pulled(out)
    assert second.skipped == ("LICENSE", "film.mp4")
    assert hub.count("^GET .*/resolve/.*parquet") == sum(n.endswith("parquet") for n in second.downloaded)
    assert second.kept + len(second.downloaded) == 8
    assert contents(out).keys() == contents(folder).keys()
    assert pulled(out).downloaded == ()
    shutil.copytree(out, tmp_path / f".out.{'0' * 32}.replaced")  # of a pull that was killed while it removed
    assert pulled(out, revision="v1.0.0").commit == first.commit
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
    with pytest.raises(HubError, match="no such branch, tag or commit"):
        pulled(out, revision="v9")


@pytest.mark.parametrize(
    "fault",
    [
        Fault("GET .*/resolve/.*parquet", drop_after=2000),
        Fault("GET .*/resolve/.*parquet", status=503),
        Fault("HEAD .*/resolve/.*parquet", status=500),
        Fault("GET .*/resolve/.*parquet", status=429, retry_after="3"),
        Fault("GET .*/tree/", status=502),
    ],
    ids=lambda fault: f"{fault.match[-12:]} {fault.status or 'dropped'}",
)
def test_a_pull_survives(hub: FakeHub, folder: Path, tmp_path: Path, fault: Fault) -> None:
    pushed(folder)
    hub.faults = [Fault(**vars(fault))]
    pulled(tmp_path / "out")
    assert hub.faults[0].times == 0
    assert contents(tmp_path / "out") == dict(hub.repos[KEY].main)


def test_a_corrupted_download_leaves_the_earlier_folder(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pushed(folder)
    out = tmp_path / "out"
    pulled(out)
    before = contents(out)
    pack(map(make_sequence, range(10, 16)), folder, splits={"train": 1.0}, shard_bytes=1, webdataset=False)
    pushed(folder)
    hub.faults = [Fault("GET .*/resolve/.*parquet", corrupt=True)]
    with pytest.raises(HubError, match=r"parquet has another size or hash than the Hub lists"):
        pulled(out)
    assert contents(out) == before
    hub.requests.clear()
    assert pulled(out).kept > 0  # what was right is not downloaded again
    assert contents(out) == dict(hub.repos[KEY].main)


@pytest.mark.parametrize(
    "name", ["../escaped.json", "/tmp/escaped.json", "data/../../x.json", "a\\b.json", "c:x.json"]
)
def test_names_that_lead_out_are_refused(hub: FakeHub, folder: Path, tmp_path: Path, name: str) -> None:
    pushed(folder)
    hub.change(*KEY, {name: b"{}"})
    with pytest.raises(HubError, match="leads out of the folder; nothing was downloaded"):
        pulled(tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert hub.count("GET .*/resolve/") == 0


def test_what_a_pull_must_not_replace_or_take(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    pushed(folder)
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    with pytest.raises(PackError, match="is not an OpenDance-HF dataset"):
        pulled(out)
    (tmp_path / "mine").mkdir()
    pulled(tmp_path / "mine")
    (tmp_path / "mine/music").mkdir()
    with pytest.raises(PackError, match=r"mine: has music, .*would be removed; move it out"):
        pulled(tmp_path / "mine")
    hub.change(*KEY, {"data/film.json": b"\x00\x01"})
    with pytest.raises(HubError, match=r"a file is not what its name says.*film\.json"):
        pulled(tmp_path / "new")
    stated = json.loads(hub.repos[KEY].main["statistics.json"])
    hub.change(
        *KEY,
        {"data/film.json": None, "statistics.json": json.dumps(stated | {"schema_version": "2.0"}).encode()},
    )
    with pytest.raises(SchemaError, match=r"schema 2\.0.*pip install -U"):
        pulled(tmp_path / "new")
    hub.change(*KEY, {"statistics.json": None})
    with pytest.raises(HubError, match="is not a dataset of OpenDance-HF"):
        pulled(tmp_path / "new")
    assert not (tmp_path / "new").exists()
    assert contents(out) == {"thesis.txt": b"mine"}


def test_a_model_is_pulled_by_the_same_command(hub: FakeHub, tmp_path: Path) -> None:
    model, out = tmp_path / "model", tmp_path / "out"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "fact"}')
    (model / "README.md").write_text("# x\n")
    push(model, "org/model", token=TOKEN)
    assert pull("org/model", out, token=TOKEN).kind == "model"
    assert contents(out) == contents(model)
    assert pull("org/model", out, token=TOKEN).downloaded == ()
    (out / "checkpoint-1").mkdir()
    with pytest.raises(OutputError, match="has checkpoint-1, which a pull would delete"):
        pull("org/model", out, token=TOKEN)


def test_a_model_of_another_project_is_neither_pulled_nor_replaced(hub: FakeHub, tmp_path: Path) -> None:
    for name, kind in (("ours", "fact"), ("theirs", "bert")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": kind}))
        (tmp_path / name / "README.md").write_text("# x\n")
        push(tmp_path / name, f"org/{name}", token=TOKEN)
    with pytest.raises(HubError, match="org/theirs: is not a model of OpenDance-HF"):
        pull("org/theirs", tmp_path / "out", token=TOKEN)
    before = contents(tmp_path / "theirs")
    with pytest.raises(OutputError, match="exists and is not a model's folder"):
        pull("org/ours", tmp_path / "theirs", token=TOKEN)
    assert contents(tmp_path / "theirs") == before


def killed(hub: FakeHub, home: Path, *arguments: str, at: str, ready: Callable[[], bool]) -> None:
    """Run the command, and kill it with SIGKILL in the third request that matches, once ``ready`` is true."""
    program = "from opendance_hf.cli import main; main()"
    running = subprocess.Popen([sys.executable, "-c", program, *arguments], env=hub.env(home))

    def kill() -> None:
        pause = threading.Event()
        for _ in range(1000):
            if ready():
                break
            pause.wait(0.02)
        os.kill(running.pid, signal.SIGKILL)

    hub.faults = [Fault(at, times=2), Fault(at, hook=kill, drop_after=1)]
    assert running.wait(60) == -signal.SIGKILL
    hub.faults.clear()


def test_a_killed_push_and_a_killed_pull_go_on(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    home, out, partial = tmp_path / "home", tmp_path / "out", tmp_path / ".out.pull"
    killed(hub, home, "push", str(folder), REPO, at="PUT /objects", ready=lambda: len(hub.store.blobs) >= 2)
    assert not set(hub.repos[KEY].main)
    hub.requests.clear()
    pushed(folder)
    assert 1 <= hub.count("^PUT /objects") <= 4  # of 6

    def complete() -> list[Path]:
        return list(partial.glob("data/*/*.parquet"))

    killed(
        hub,
        home,
        *("pull", REPO, "--out", str(out)),
        at="GET .*/resolve/.*parquet",
        ready=lambda: len(complete()) >= 2,
    )
    assert not out.exists()
    there = len(complete())
    assert there >= 2
    hub.requests.clear()
    assert pulled(out).kept >= there
    assert hub.count("^GET .*/resolve/.*parquet") == 6 - there
    assert contents(out) == dict(hub.repos[KEY].main)
    assert not partial.exists()


@pytest.mark.slow
def test_large_files_pass_in_bounded_memory(hub: FakeHub, folder: Path, tmp_path: Path) -> None:
    (shard, *_) = sorted(folder.glob("data/*/*.parquet"))
    large = pa.table({"id": ["x"], "bytes": [os.urandom(220_000_000)]})
    pq.write_table(large, shard, write_statistics=False)
    del large
    program = """
import resource, sys
from opendance_hf.hub import pull, push
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
push(sys.argv[1], "org/dances")
pull("org/dances", sys.argv[2])
print(peak() - before)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, folder, tmp_path / "out"],
        env=hub.env(tmp_path / "home"), capture_output=True, text=True, timeout=280, check=True,
    )  # fmt: skip
    assert float(done.stdout) < 100  # MiB
    assert contents(tmp_path / "out").keys() == contents(folder).keys()
    assert (tmp_path / "out" / shard.relative_to(folder)).read_bytes() == shard.read_bytes()
