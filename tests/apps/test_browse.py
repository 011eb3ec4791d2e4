"""`opendance view DATASET`: who is let in, what the table finds, and rows that are opened in a real browser."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from opendance_hf.apps.browse import PAGE_ROWS, make_app
from opendance_hf.apps.dataset_rows import Dataset, DatasetError, Selection
from opendance_hf.apps.serving import Address, Door
from opendance_hf.apps.songs import SongFolder
from opendance_hf.apps.view import content_policy
from opendance_hf.assets import sha256_of
from opendance_hf.cli import app
from opendance_hf.storage import read_rows, write_parquet, write_webdataset
from tests.apps.chromium import (
    DESKTOP,
    PHONE,
    SOFTWARE_WEBGL,
    Chromium,
    axe,
    find_chromium,
)
from tests.apps.client import Client, serving
from tests.apps.test_view import data_of, screenshot
from tests.factories import assert_same, make_sequence

SOLOS, DUOS = PAGE_ROWS + 6, 3
HOSTILE = "<img src=x onerror=alert(1)>"


def sequences(dancers: int, count: int) -> list[Any]:
    made = [make_sequence(seed, dancers, 20 + seed % 7, full=seed % 2 == 0) for seed in range(count)]
    changed = replace(made[-1], provenance=replace(made[-1].provenance, licence=HOSTILE))
    return [*made[:-1], changed]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of Parquet shards, two of them in one split."""
    folder = tmp_path_factory.mktemp("browse") / "set"
    solos = sequences(1, SOLOS)
    write_parquet(folder, "individual", "train", solos[:-2], shard_bytes=2_000_000)
    write_parquet(folder, "individual", "test", solos[-2:])
    write_parquet(folder, "collaborative", "train", sequences(2, DUOS))
    assert len(list((folder / "data" / "individual").glob("train-*"))) > 1
    (folder.parent / "secret.txt").write_text("not for you")
    return folder


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return Dataset(folder)


@pytest.fixture(scope="module")
def running(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Door]]:
    songs = tmp_path_factory.mktemp("songs")
    samples = np.sin(np.arange(3 * 44_100) / 20) / 2
    soundfile.write(songs / "song-0002.wav", samples, 44_100)
    soundfile.write(songs / "seq-0003-1.wav", samples[:44_100], 44_100)
    door = Door(Address(), "browse_test")
    with serving(make_app(dataset, door, SongFolder(songs)), door.address) as port:
        yield port, door


@pytest.fixture
def client(running: tuple[int, Door]) -> Client:
    return Client(running[0]).login(running[1].token or "")


def rows(client: Client, query: str = "") -> dict[str, Any]:
    status, _, content = client.ask("GET", f"/api/rows?{query}")
    assert status == 200, content
    return json.loads(content)


def test_rows_are_listed_without_their_arrays(dataset: Dataset, folder: Path) -> None:
    assert len(dataset.rows) == SOLOS + DUOS
    for row in dataset.rows[:: len(dataset.rows) // 7]:
        whole = next(found for found in read_rows(folder, row.config, row.split) if found["id"] == row.id)
        assert (row.group, row.dancers, row.genre) == (whole["group"], whole["num_dancers"], whole["genre"])
        assert row.seconds == pytest.approx(whole["num_frames"] / 60, abs=0.01)
        assert row.licence == whole["provenance"]["licence"]
        assert row.speed_mps == whole["motion_velocity"]


def test_a_row_is_read_from_the_middle(dataset: Dataset) -> None:
    for row in dataset.rows:
        assert dataset.load(row).id == row.id
    assert_same(dataset.load(dataset.rows[DUOS + 7]), dataset.load(dataset.rows[DUOS + 7]))
    expected = next(seq for seq in sequences(1, SOLOS) if seq.id == "seq-0017-1")
    assert_same(dataset.load(dataset.get("seq-0017-1")), expected)  # type: ignore[arg-type]


def test_tars_are_listed_like_shards(tmp_path: Path) -> None:
    made = sequences(1, 5)
    write_webdataset(tmp_path / "tars", "individual", "train", made)
    write_parquet(tmp_path / "shards", "individual", "train", made)
    tars, shards = Dataset(tmp_path / "tars"), Dataset(tmp_path / "shards")
    assert tars.rows == shards.rows
    for row in tars.rows:
        assert_same(tars.load(row), shards.load(row))


def test_a_changed_dataset_is_named(tmp_path: Path) -> None:
    write_parquet(tmp_path, "individual", "train", sequences(1, 5))
    dataset = Dataset(tmp_path)
    write_parquet(tmp_path, "individual", "train", sequences(1, 5)[3:])
    with pytest.raises(DatasetError, match=r"seq-0000-1.*restart"):
        dataset.load(dataset.rows[0])
    for shard in tmp_path.glob("data/*/*"):
        shard.write_bytes(b"PAR1 no more")
    with pytest.raises(DatasetError, match=re.escape(str(tmp_path))):
        dataset.load(dataset.rows[1])
    with pytest.raises(DatasetError, match="cannot be listed"):
        Dataset(tmp_path)


def test_two_rows_of_one_id_are_refused(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write_parquet(tmp_path, "individual", split, sequences(1, 2))
    with pytest.raises(DatasetError, match="seq-0000-1"):
        Dataset(tmp_path)


def test_a_selection_searches_filters_and_sorts(dataset: Dataset) -> None:
    found = dataset.select(Selection(words=("song-000", "train"), filters=(("config", "collaborative"),)))
    assert [row.id for row in found] == [f"seq-{i:04d}-2" for i in range(DUOS)]
    for name in ("seconds", "genre", "bpm"):
        for down in (False, True):
            values = [getattr(row, name) for row in dataset.select(Selection(sort=name, descending=down))]
            known = [value for value in values if value is not None]
            assert known == sorted(known, reverse=down)
            assert values[len(known) :] == [None] * (len(values) - len(known)), "unknown comes last"
    assert any(row.genre is None for row in dataset.rows)


PRIVATE = ["/api/dataset", "/api/rows", "/stage?row=seq-0001-1", "/stage"]


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("cookie", ["", "browse_test=", "browse_test=wrong", "other={token}"])
def test_strangers_get_nothing(running: tuple[int, Door], path: str, cookie: str) -> None:
    port, door = running
    status, _, content = Client(port, cookie.format(token=door.token)).ask("GET", path)
    assert status == 401
    assert b"seq-" not in content


@pytest.mark.parametrize("token", ["", "wrong", 5, None, "x" * 10_000, "\ud800"])
def test_wrong_tokens_are_refused(running: tuple[int, Door], token: Any) -> None:
    status, headers, _ = Client(running[0]).ask("POST", "/api/login", {"token": token})
    assert status == 401
    assert "set-cookie" not in headers


@pytest.mark.parametrize(
    "path",
    ["/static/../browse.py", "/static/%2e%2e/%2e%2e/browse.py", "/../secret.txt", "/static//etc/passwd",
     "/stage?row=../secret", "/stage?row=%2e%2e%2fsecret.txt", "/data/individual/test-00000-of-00001.parquet"],
)  # fmt: skip
def test_no_path_leads_out(client: Client, path: str) -> None:
    status, _, content = client.ask("GET", path)
    assert status == 404
    assert b"not for you" not in content


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "", "[::1", "127.0.0.1.evil.example"])
def test_only_loopback_names_are_answered(client: Client, host: str) -> None:
    for path in ("/", *PRIVATE):
        assert client.ask("GET", path, Host=host)[0] == 400


def test_other_sites_cannot_act(running: tuple[int, Door]) -> None:
    port, door = running
    for headers in ({"Origin": "http://evil.example"}, {"Sec_Fetch_Site": "cross-site"}):
        status, _, _ = Client(port).ask("POST", "/api/login", {"token": door.token}, **headers)
        assert status == 403


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/stage?row=seq-9999-1", 404, "seq-9999-1"),
        ("/stage?row=seq-0001-1&row=gone", 404, "gone"),
        ("/stage", 404, "No row"),
        ("/stage?row=" + "&row=".join(f"seq-{i:04d}-1" for i in range(13)), 400, "12 dancers"),
        (f"/stage?row={quote(HOSTILE)}", 404, "&lt;img"),
        ("/api/rows?sort=joints", 400, "joints"),
        ("/api/rows?page=-1", 400, "-1"),
        ("/api/rows?page=%C2%B2", 400, "expected a number"),
        ("/api/rows?q=" + "x" * 500, 400, "200 letters"),
    ],
)
def test_what_is_not_there_is_named(client: Client, path: str, status: int, word: str) -> None:
    found, _, content = client.ask("GET", path)
    assert (found, word in content.decode()) == (status, True), content
    assert HOSTILE.encode() not in content


def test_pages_of_the_table(client: Client) -> None:
    first, last = rows(client), rows(client, "page=99")
    assert (first["count"], first["page"], first["pages"]) == (SOLOS + DUOS, 0, 2)
    assert (len(first["rows"]), last["page"], len(last["rows"])) == (PAGE_ROWS, 1, SOLOS + DUOS - PAGE_ROWS)
    assert rows(client, "q=SEQ-0003-1")["rows"][0]["id"] == "seq-0003-1"
    assert rows(client, "q=no+such")["rows"] == []


def test_a_stage_has_its_own_policy_and_neighbours(client: Client) -> None:
    status, headers, content = client.ask("GET", "/stage?row=seq-0002-1&config=individual&sort=id")
    assert status == 200
    assert headers["content-security-policy"] == f"{content_policy()}; frame-ancestors 'none'"
    data = data_of(content.decode())
    assert data["rows"]["previous"] == "/stage?config=individual&sort=id&row=seq-0001-1"
    assert data["rows"]["next"] == "/stage?config=individual&sort=id&row=seq-0003-1"
    assert data["rows"]["back"] == "/?config=individual&sort=id&at=seq-0002-1"
    assert data["rows"]["place"] == f"row 3 of {SOLOS}"
    assert data["song"], "by the name of its group"
    both = data_of(client.ask("GET", "/stage?row=seq-0001-1&row=seq-0001-2")[2].decode())
    assert [motion["name"] for motion in both["motions"]] == ["seq-0001-1", "seq-0001-2"]
    assert both["song"] is None
    assert "no file of row" in both["rows"]["note"]
    short = data_of(client.ask("GET", "/stage?row=seq-0003-1")[2].decode())
    assert "before the dance" in short["rows"]["note"], "the file of its name is too short"


def test_songs_are_found_by_their_hash(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "clip.mp4").write_bytes(b"a video")
    seq = make_sequence(1)
    assert SongFolder(tmp_path).find(seq) is None
    source = replace(seq.provenance, source_sha256=sha256_of(tmp_path / "deep" / "clip.mp4"))
    assert SongFolder(tmp_path).find(replace(seq, provenance=source)) == tmp_path / "deep" / "clip.mp4"


def test_one_row_becomes_a_page_and_several_with_out(tmp_path: Path, folder: Path) -> None:
    write_parquet(tmp_path / "one", "individual", "train", sequences(1, 1))
    page = tmp_path / "page.html"
    done = CliRunner().invoke(app, ["view", str(tmp_path / "one"), "--out", str(page)])
    assert done.exit_code == 0, done.output
    two = ["--row", "seq-0004-1", "--row", "seq-0001-2", "--overwrite"]
    done = CliRunner().invoke(app, ["view", str(folder), *two, "--out", str(page)])
    assert done.exit_code == 0, done.output
    names = [motion["name"] for motion in data_of(page.read_text(encoding="utf-8"))["motions"]]
    assert names == ["seq-0004-1", "seq-0001-2"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--video", "{file}"], ("--video", "--out")),
        (["--fps", "30"], ("--fps", "--out")),
        (["--detail", "fine"], ("fine", "full")),
        (["--audio", "{file}"], ("--audio", "folder")),
        (["--public-url", "https://host/path"], ("--public-url",)),
        (["--row", "gone"], ("gone", "--row")),
        (["--out", "page.txt"], (".html",)),
    ],
)
def test_options_that_do_not_fit_are_named(
    folder: Path, options: list[str], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file.wav").touch()
    given = [option.format(file=tmp_path / "file.wav") for option in options]
    done = CliRunner().invoke(app, ["view", str(folder), "--port", "0", *given])
    assert done.exit_code == 2, done.output
    assert all(word in done.output for word in words), done.output
    done = CliRunner().invoke(app, ["view", str(tmp_path)])
    assert done.exit_code == 2
    assert "not a dataset" in " ".join(done.output.split())


@pytest.fixture
def link(folder: Path) -> Iterator[str]:
    """``opendance view`` as people run it."""
    # What runs in the background of a script, as this test may, ignores Ctrl-C.
    code = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from opendance_hf.cli import main; main()"
    command = [sys.executable, "-c", code, "view", str(folder), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        said = []
        for line in process.stdout:
            said.append(line)
            if "Stop with Ctrl-C" in line:
                break
        found = re.search(r"open:\s+(http://127\.0\.0\.1:\d+/#token=\S+)", "".join(said))
        assert found, said
        yield found[1]
        os.kill(process.pid, signal.SIGINT)
        assert process.wait(10) == 130, "as a shell reports Ctrl-C"


def test_a_row_is_found_opened_and_left_with_the_keyboard(link: str, tmp_path: Path) -> None:
    find_chromium()
    browser = Chromium(tmp_path / "profile", SOFTWARE_WEBGL)
    try:
        page = browser.page(link, *DESKTOP)
        page.wait(f"document.querySelectorAll('#rows a').length === {PAGE_ROWS}")
        assert "token" not in page.run("location.href")
        for size in (PHONE, DESKTOP):
            page.resize(*size)
            assert axe(page) == []
            screenshot(page, f"rows-{size[0]}")
        page.press("PageDown")
        page.wait("answer.page === 1 && document.activeElement.matches('#rows a')")
        page.press("ArrowUp")
        page.wait("answer.page === 0 && document.activeElement.closest('tr').rowIndex === answer.rows.length")
        page.press("/")
        for letter in "-2 train":
            page.press(letter)
        page.press("Enter")
        page.wait(f"answer.count === {DUOS} && document.activeElement.dataset.id === 'seq-0000-2'")
        assert HOSTILE in page.text()
        page.press("ArrowDown")
        page.press("Enter")
        page.wait("drawn > 0", 60)
        size = "renderer.domElement.width, renderer.domElement.height"
        pixels = page.run(
            f"(() => {{ draw(0, 0); const gl = renderer.getContext(); const out = new Uint8Array(4 * {size.split(', ')[0]} *"
            f" {size.split(', ')[1]}); gl.readPixels(0, 0, {size}, gl.RGBA, gl.UNSIGNED_BYTE, out);"
            " return new Set(new Uint32Array(out.buffer)).size })()"
        )
        assert pixels > 200, "a blank picture has one colour"
        screenshot(page, "row")
        assert "row 2 of 3" in page.text()
        assert axe(page) == []
        page.press("n")
        page.wait("data.motions[0].name === 'seq-0002-2' && drawn > 0", 60)
        page.press("Escape")
        page.wait("document.activeElement.dataset.id === 'seq-0002-2'")
        assert page.run("words.value") == "-2 train"
        page.press(" ")
        page.press("ArrowUp")
        page.press(" ")
        page.press("c")
        page.wait("data.motions.length === 2 && drawn > 0", 60)
        assert "2 rows side by side" in page.text()
        assert page.complaints() == []
    finally:
        browser.close()
