"""What may be published: names by allow-list, and content that is what its name says."""

from __future__ import annotations

import errno
import io
import json
import os
import shutil
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from opendance_hf.storage import pack
from opendance_hf.storage.contents import ContentError, published_files
from tests.factories import make_sequence

#: The first bytes of an MP4 file.
VIDEO = b"\x00\x00\x00\x20ftypisom\x00\x00\x02\x00isomiso2avc1mp41" + bytes(range(256)) * 8
MEDIA = [
    ".mp4",
    ".MP4",
    ".mov",
    ".mkv",
    ".webm",
    ".avi",
    ".m4v",
    ".flv",
    ".wmv",
    ".ts",
    ".mpg",
    ".mpeg",
    ".3gp",
    ".ogv",
    ".gif",
    ".mts",
    ".m2ts",
    ".vob",
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".heic",
    ".tiff",
    ".mp3",
    ".wav",
    ".flac",
    ".m4a",
    ".aac",
    ".ogg",
    ".opus",
    ".wma",
    ".aiff",
    ".aif",
    ".mka",
    ".amr",
    ".mid",
    ".npz",
    ".npy",
    ".pkl",
    ".pt",
    ".bin",
    ".zip",
    ".gz",
    ".tar.gz",
    ".partial",
    ".csv",
    ".db",
]


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("contents") / "d"
    pack([make_sequence(0, num_frames=8)], folder, figure=True)
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"weight": torch.zeros(3)}, folder / "model.safetensors")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# Ä model")
    (folder / "recipe.yaml").write_text("steps: 1")
    (folder / ".gitattributes").write_text("*.bin filter=lfs")
    (folder / "samples").mkdir()
    (folder / "samples/dance.mp4").write_bytes(VIDEO)
    return folder


def test_all_that_pack_writes_is_published(packed: Path) -> None:
    files = published_files(packed, "dataset")
    assert files == sorted(path for path in packed.rglob("*") if path.is_file())
    assert packed / "figures/statistics.png" in files


def test_a_folder_that_cannot_be_listed_is_not_left_out(
    packed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, scandir = Path(shutil.copytree(packed, tmp_path / "d")), os.scandir

    def closed(path: str) -> Any:
        if str(path).endswith("individual"):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", closed)
        with pytest.raises(
            ContentError, match=r"individual: cannot be listed \(Permission denied\).*change its permissions"
        ):
            published_files(folder, "dataset")
    (folder / "data").rename(tmp_path / "elsewhere")
    (folder / "data").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ContentError, match=r"data: is a link to a folder"):
        published_files(folder, "dataset")


def test_a_model_is_the_files_of_its_folder(model: Path) -> None:
    (model / "LICENCE.TXT").write_text("MIT")
    names = [path.name for path in published_files(model, "model")]
    assert names == ["LICENCE.TXT", "README.md", "config.json", "model.safetensors", "recipe.yaml"]


@pytest.mark.parametrize("suffix", MEDIA)
def test_other_files_are_refused_by_name(packed: Path, model: Path, suffix: str) -> None:
    for folder, kind in ((packed / "data", "dataset"), (model, "model")):
        path = folder / f"holiday{suffix}"
        path.write_bytes(b"")
        try:
            with pytest.raises(ContentError, match=rf"holiday\{suffix}.*move it out of"):
                published_files(packed if kind == "dataset" else model, kind)  # type: ignore[arg-type]
        finally:
            path.unlink()


@pytest.mark.parametrize("name", ["a.json", "a.parquet", "a.md", "a.tar", "a.JSON", "figures/statistics.png"])
def test_a_renamed_video_in_a_dataset_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(VIDEO)
    with pytest.raises(ContentError, match=Path(name).name):
        published_files(tmp_path, "dataset")


@pytest.mark.parametrize("content", [b"PAR1" + VIDEO, VIDEO + b"PAR1", b"PAR1"[:3]])
def test_half_a_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ContentError, match=r"a\.parquet"):
        published_files(tmp_path, "dataset")


@pytest.mark.parametrize("suffix", [".safetensors", ".json", ".md", ".yaml", ".txt", ".py", ".jinja"])
@pytest.mark.parametrize("content", [VIDEO, b"ID3\x04" + bytes(400), b"\x1aE\xdf\xa3" + bytes(400)])
def test_a_renamed_recording_in_a_model_is_refused(model: Path, suffix: str, content: bytes) -> None:
    (model / f"a{suffix}").write_bytes(content)
    with pytest.raises(ContentError, match=rf"a\{suffix}"):
        published_files(model, "model")


@pytest.mark.parametrize(
    ("name", "content", "allowed"),
    [
        ("a.joints.npy", None, True),
        ("a.json", json.dumps({"bpm": 1}).encode(), True),
        ("a.mp4", VIDEO, False),
        ("a.video.npy", VIDEO, False),
        ("a.json", VIDEO, False),
        ("a.npz", b"PK", False),
        ("a", b"", False),
    ],
)
def test_members_of_tars(tmp_path: Path, name: str, content: bytes | None, allowed: bool) -> None:
    if content is None:
        buffer = io.BytesIO()
        np.save(buffer, np.zeros(3))
        content = buffer.getvalue()
    with tarfile.open(tmp_path / "train-00000.tar", "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    if allowed:
        assert len(published_files(tmp_path, "dataset")) == 1
    else:
        with pytest.raises(ContentError, match=rf"train-00000\.tar: contains '{name}'"):
            published_files(tmp_path, "dataset")


def test_links_and_compressed_tars_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(ContentError, match=r"a\.tar"):
        published_files(tmp_path, "dataset")
    with tarfile.open(path, "w:gz"):
        pass
    with pytest.raises(ContentError, match=r"a\.tar"):
        published_files(tmp_path, "dataset")


@pytest.mark.parametrize("cut", [(1 << 20) - 1, (1 << 20) - 2, (1 << 20) - 3])
def test_characters_at_the_edge_of_a_chunk_are_text(tmp_path: Path, cut: int) -> None:
    (tmp_path / "README.md").write_text("x" * cut + "€𝄞" + "y" * 10, encoding="utf-8")
    assert published_files(tmp_path, "dataset")
    with (tmp_path / "README.md").open("ab") as file:
        file.write("€".encode()[:2])
    with pytest.raises(ContentError, match=r"README\.md"):
        published_files(tmp_path, "dataset")


@pytest.mark.parametrize(("size", "header"), [(10**6, b"{}"), (2, b"ID"), (2, b"")])
def test_a_safetensors_file_with_a_wrong_header_is_refused(model: Path, size: int, header: bytes) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", size) + header)
    with pytest.raises(ContentError, match=r"model\.safetensors"):
        published_files(model, "model")


def test_the_only_picture_is_the_figure(packed: Path, tmp_path: Path) -> None:
    picture = (packed / "figures/statistics.png").read_bytes()
    for name in ("figures/holiday.png", "statistics.png", "figures/statistics.PNG"):
        path = tmp_path / "d" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture)
        with pytest.raises(ContentError, match=path.name):
            published_files(tmp_path / "d", "dataset")
        path.unlink()
