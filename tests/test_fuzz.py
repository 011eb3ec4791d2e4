"""Readers refuse damaged files with one clear error: a short fuzz campaign, and what longer ones found."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Array2D

from benchmarks.fuzz import measure
from opendance_hf.archives import ArchiveError, read_arrays
from opendance_hf.music.media import read_packets
from opendance_hf.pipeline.config import ConfigError, read_config
from opendance_hf.schema import SchemaError
from opendance_hf.storage import read_parquet, read_webdataset, save_sequence, write_parquet, write_webdataset
from opendance_hf.storage.parquet import read_scalars
from tests.factories import make_sequence


def test_a_short_campaign() -> None:
    readers = ["format bvh", "dataset Parquet", "dataset WebDataset", "sequence npz"]
    result = measure(60, seed=2, readers=readers, inputs=8)
    assert result["wrong"] == 0, result["readers"]
    assert result["tried"] == 8 * len(readers)
    assert result["refused"] > result["tried"] / 4, "most mutations are felt"


_READ_DAMAGED = """
import sys
from pathlib import Path
from opendance_hf.schema import SchemaError
from opendance_hf.storage import read_parquet
shard = Path(sys.argv[1])
data = shard.read_bytes()
start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
for place in range(start, start + 400, 3):
    damaged = bytearray(data)
    damaged[place] ^= 0x40
    shard.write_bytes(damaged)
    try:
        list(read_parquet(sys.argv[2], "individual", "train"))
    except SchemaError:
        continue
"""


def test_damage_in_a_parquet_footer_does_not_end_the_process(tmp_path: Path) -> None:
    (shard,) = write_parquet(tmp_path, "individual", "train", [make_sequence()])
    done = subprocess.run(
        [sys.executable, "-c", _READ_DAMAGED, shard, tmp_path], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


def absurd(count: int = 99_999_999_999) -> bytes:
    """An array whose header states far more than there is."""
    return (
        b"\x93NUMPY\x01\x00v\x00"
        + f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({count},), }}".ljust(117).encode()
        + b"\n"
    )


@pytest.mark.parametrize(
    "header", [absurd(), absurd(3), b"\x93NUMPY\x01\x00\x05\x00(((((", b"\x93NUMPY\x09\x00", b""]
)
def test_a_header_that_lies_costs_no_memory(tmp_path: Path, header: bytes) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("joints.npy", header)
    with pytest.raises(ArchiveError, match=r"a\.npz: 'joints': "):
        read_arrays(tmp_path / "a.npz")


def test_an_archive_that_unpacks_to_much_more_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("joints.npy", bytes(200_000_000))
    with pytest.raises(ArchiveError, match=r"a\.npz: unpacks to 200,000,000 bytes, at most "):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("damage", ["bytes", "columns", "text", "type"])
def test_a_damaged_shard_is_named(tmp_path: Path, damage: str) -> None:
    (shard,) = write_parquet(tmp_path, "individual", "train", [make_sequence(1)])
    if damage == "bytes":
        data = bytearray(shard.read_bytes())
        data[len(data) // 3 : len(data) // 2] = bytes(len(data) // 2 - len(data) // 3)
        shard.write_bytes(data)
    elif damage == "columns":
        pq.write_table(pq.read_table(shard, partitioning=None).drop_columns("joints"), shard)
    elif damage == "type":
        kind = Array2D((None, 2), "float32")().extension_name
        about = {"ARROW:extension:name": kind, "ARROW:extension:metadata": ""}
        schema = pa.schema([pa.field("joints", pa.list_(pa.list_(pa.float32())), metadata=about)])
        pq.write_table(schema.empty_table(), shard)
    else:
        shard.write_text("not Parquet\n" * 9)
    with pytest.raises(SchemaError, match="individual"):
        list(read_parquet(tmp_path, "individual", "train"))


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_name_of_a_column_is_refused_or_not_needed(tmp_path: Path, place: int) -> None:
    (shard,) = write_parquet(tmp_path, "individual", "train", [make_sequence(1)])
    parts = shard.read_bytes().split(b"num_frames")  # in the schema, in the row group ...
    names = [b"num_frames"] * (len(parts) - 1)
    names[place] = b"num_frame\xff"
    shard.write_bytes(b"".join(part + name for part, name in zip(parts, [*names, b""], strict=True)))
    if place:  # only the names of the schema are used
        assert list(read_scalars(tmp_path, "individual", "train", ["id"])) == [{"id": make_sequence(1).id}]
        return
    with pytest.raises(SchemaError, match=r"individual.*\.parquet: a damaged Parquet file"):
        list(read_scalars(tmp_path, "individual", "train", ["id"]))


@pytest.mark.parametrize("damage", ["cut", "header", "member"])
def test_a_damaged_tar_is_named(tmp_path: Path, damage: str) -> None:
    (tar,) = write_webdataset(tmp_path, "individual", "train", [make_sequence(1), make_sequence(2)])
    data = bytearray(tar.read_bytes())
    if damage == "cut":
        del data[len(data) // 3 :]
    elif damage == "header":
        data[:100] = b"\xff" * 100
    else:
        with tarfile.open(fileobj=io.BytesIO(data)) as opened:
            first = next(member for member in opened if member.name.endswith(".joints.npy")).offset_data
        data[first : first + len(absurd())] = absurd()
    tar.write_bytes(data)
    with pytest.raises(SchemaError, match=r"train-00000\.tar"):
        list(read_webdataset(tmp_path, "individual", "train"))


def test_all_arrays_of_a_sequence_are_read(tmp_path: Path) -> None:
    file = save_sequence(tmp_path / "a.npz", make_sequence(1))
    with np.load(file, allow_pickle=False) as arrays:
        names = arrays.files
    assert set(read_arrays(file)) == set(names)


def test_an_error_of_yaml_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("a: [1\nb: {\n")
    with pytest.raises(ConfigError) as caught:
        read_config(tmp_path / "a.yaml")
    assert "\n" not in str(caught.value)


def test_a_huge_number_in_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(f"- probe: {{min_duration_s: 1{'0' * 400}}}\n")
    with pytest.raises(ConfigError, match="min_duration_s: expected a float, got 1000"):
        read_config(tmp_path / "a.yaml")


def test_the_first_stream_may_be_neither_picture_nor_sound(tmp_path: Path) -> None:
    with av.open(tmp_path / "a.ts", "w") as container:
        container.add_data_stream("bin_data")
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for _ in range(10):
            container.mux(stream.encode(av.VideoFrame(64, 64, "yuv420p")))
        container.mux(stream.encode())
    packets = read_packets(tmp_path / "a.ts")
    assert {index: found.count for index, found in packets.items()} == {1: 10}
