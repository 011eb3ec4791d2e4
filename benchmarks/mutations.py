"""Mutate valid files: bytes, numbers and chunks of any file, and members, fields and boxes of formats with a known structure.

Every function takes the content and a random generator and returns new content; equal seeds give equal files.
"""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import yaml

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

#: Whole numbers at the edges of the types that files hold.
INTEGERS: Final = (
    0,
    1,
    -1,
    2,
    127,
    128,
    255,
    256,
    32767,
    65535,
    2**31 - 1,
    2**31,
    2**32 - 1,
    2**62,
    -(2**31),
)
FLOATS: Final = (float("nan"), float("inf"), -float("inf"), 1e300, -1e300, 1e-320, 0.0, -0.0, 1e30, 1e9)
#: Words that replace a number or a name in a text.
WORDS: Final = (
    "nan", "inf", "-1e300", "1e999", "1e-320", "0", "-1", "1", "65536", "4294967296", "9" * 400, "9" * 5000, "", "null", "true",
    "[]", "{}", "'", '"', "[" * 2000, "{a: " * 300, "\0", "\x1b[31m", "\u202e", "\u2028", "2024-99-99", "1_0", "0x7f", "*a", "&a [1]",
    "!!python/name:os.system", "<<", "=", "a" * 3000, "../../etc/passwd", "-0", "1e5", "0.5", "٣", "\r", "\t", ",,", ";", "%s",
)  # fmt: skip
#: Values that replace one of a document.
VALUES: Final = (
    None, True, False, 0, -1, 1, 2**31, 10**30, 10**400, 0.5, 1e300, "", "x", "a\nb", "\x1b[31m", [], {}, [[]], [None], {"x": 1},
    "y" * 5000, [0] * 3000, [1.5], "1e999", [[[[[[1]]]]]],
)  # fmt: skip
_NAMES: Final = (
    "",
    "a" * 300,
    "\x1b[31m",
    "../x",
    "/etc/passwd",
    "new\nline",
    "\u202e",
    "a.b.c",
    ".",
    "joints.npy",
)
#: Size of an unpacked bomb.
BOMB_BYTES: Final = 1 << 30
_MAX_UNPACKED: Final = 1 << 27


def pick(rng: Rng, values: Sequence[Any]) -> Any:
    """Return a random element."""
    return values[int(rng.integers(len(values)))]


def flip_bits(data: bytes, rng: Rng) -> bytes:
    """Flip up to sixteen bits, half the time near the beginning."""
    out = bytearray(data)
    reach = len(out) if rng.random() < 0.5 else min(len(out), 600)
    for _ in range(int(rng.integers(1, 17))):
        if reach:
            out[int(rng.integers(reach))] ^= 1 << int(rng.integers(8))
    return bytes(out)


def truncate(data: bytes, rng: Rng) -> bytes:
    """Cut the end off."""
    return data[: int(rng.integers(len(data) + 1))]


def _span(data: bytes, rng: Rng) -> tuple[int, int]:
    first = int(rng.integers(len(data) + 1))
    return first, min(len(data), first + int(rng.integers(1, max(2, min(4096, len(data))))))


def delete_chunk(data: bytes, rng: Rng) -> bytes:
    """Remove a chunk."""
    first, last = _span(data, rng)
    return data[:first] + data[last:]


def repeat_chunk(data: bytes, rng: Rng) -> bytes:
    """Repeat a chunk up to forty times."""
    first, last = _span(data, rng)
    return data[:last] + data[first:last] * int(rng.integers(1, 40)) + data[last:]


def move_chunk(data: bytes, rng: Rng) -> bytes:
    """Put a chunk in another place."""
    first, last = _span(data, rng)
    rest = data[:first] + data[last:]
    place = int(rng.integers(len(rest) + 1))
    return rest[:place] + data[first:last] + rest[place:]


def insert_noise(data: bytes, rng: Rng) -> bytes:
    """Insert random bytes."""
    place = int(rng.integers(len(data) + 1))
    return data[:place] + rng.bytes(int(rng.integers(1, 200))) + data[place:]


def overwrite_number(data: bytes, rng: Rng) -> bytes:
    """Overwrite two, four or eight bytes by an edge value, of either byte order; half the time near the beginning."""
    order = "<>"[int(rng.integers(2))]
    kind = pick(rng, "HIQfd")
    if kind in "fd":
        value = pick(rng, FLOATS)
        value = float(np.float32(value)) if kind == "f" and abs(value) < 3e38 else value
        value = float("inf") if kind == "f" and 3e38 <= abs(value) < float("inf") else value
    else:
        value = pick(rng, INTEGERS) % (1 << 8 * struct.calcsize(kind))
    packed = struct.pack(order + kind, value)
    reach = len(data) if rng.random() < 0.5 else min(len(data), 800)
    place = int(rng.integers(max(1, reach - len(packed))))
    return data[:place] + packed + data[place + len(packed) :]


def cross(data: bytes, other: bytes, rng: Rng) -> bytes:
    """Join the beginning of one file and the end of another."""
    return data[: int(rng.integers(len(data) + 1))] + other[int(rng.integers(len(other) + 1)) :]


BYTES: Final[tuple[Mutation, ...]] = (
    flip_bits, truncate, delete_chunk, repeat_chunk, move_chunk, insert_noise, overwrite_number, overwrite_number,
)  # fmt: skip


def text(data: bytes, rng: Rng) -> bytes:
    """Replace a word, or remove, repeat or swap lines."""
    content = data.decode("utf-8", "surrogateescape")
    if rng.random() < 0.6:
        # A word ends at any sign that separates values in some text format.
        places = [0] + [place + 1 for place, sign in enumerate(content) if sign in " \n\t,:;=[]{}\"'()"]
        first = pick(rng, places)
        last = first
        while last < len(content) and content[last] not in " \n\t,:;=[]{}\"'()":
            last += 1
        content = content[:first] + pick(rng, WORDS) + content[last:]
    else:
        lines = content.split("\n")
        place = int(rng.integers(len(lines)))
        match int(rng.integers(5)):
            case 0:
                del lines[place]
            case 1:
                lines[place:place] = [lines[place]] * int(rng.integers(1, 300))
            case 2:
                other = int(rng.integers(len(lines)))
                lines[place], lines[other] = lines[other], lines[place]
            case 3:
                lines[place] = lines[place] + pick(rng, WORDS)
            case _:
                lines[place] = pick(rng, WORDS)
        content = "\n".join(lines)
    return content.encode("utf-8", "surrogateescape")


def change_value(value: Any, rng: Rng) -> Any:
    """Replace, remove or repeat one value of a document of mappings and lists."""
    places: list[tuple[Any, Any]] = []
    pending, seen = [value], set[int]()
    while pending:
        at = pending.pop()
        if id(at) in seen:  # aliases stand for one object
            continue
        seen.add(id(at))
        keys = list(at) if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
        places += [(at, key) for key in keys]
        pending += [at[key] for key in keys]
    if not places or rng.random() < 0.03:
        return pick(rng, VALUES)
    inside, key = pick(rng, places)
    match int(rng.integers(6)):
        case 0:
            del inside[key]
        case 1 if isinstance(inside, dict):
            inside[pick(rng, ("", "x", "__class__", "a\nb", "\x1b[31m", "0"))] = inside.pop(key)
        case 1:
            inside[key:key] = [inside[key]] * int(rng.integers(1, 50))
        case 2:
            inside[key] = [inside[key]]
        case 3:
            number = pick(rng, (*INTEGERS, *FLOATS))
            inside[key] = number
        case _:
            inside[key] = pick(rng, VALUES)
    return value


def document(data: bytes, rng: Rng) -> bytes:
    """Change one value of a JSON document."""
    return json.dumps(change_value(json.loads(data), rng)).encode()


def settings(data: bytes, rng: Rng) -> bytes:
    """Change one value of a YAML document; or let aliases multiply it."""
    if rng.random() < 0.05:
        bomb = "\n".join(
            ["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12))]
        )
        return bomb.encode() + b"\n" + data
    return yaml.safe_dump(change_value(yaml.safe_load(data), rng)).encode()


def array(data: bytes, rng: Rng) -> bytes:
    """Change the numbers, the header or the type of a ``.npy`` array."""
    values = np.load(io.BytesIO(data), allow_pickle=False)
    match int(rng.integers(7)):
        case 0 if values.dtype.kind == "f" and values.size:
            values = values.copy()
            values.reshape(-1)[rng.integers(values.size, size=3)] = pick(rng, FLOATS)
        case 1:
            values = values[: len(values) // 2] if values.ndim else values[None]
        case 2:
            values = values.reshape(-1) if rng.random() < 0.5 else values[None]
        case 3:
            kind = pick(rng, ("f2", "f4", "f8", "i4", "i8", "u1", "?", "c8", "U7", "S3", "M8[s]"))
            with np.errstate(all="ignore"):
                try:
                    values = values.astype(kind)
                except (ValueError, TypeError):
                    values = np.zeros(values.shape, kind)
        case 4:
            values = np.array(pick(rng, (0.0, 1e300, "text", -1, 2**40, True)))
        case 5:
            values = np.zeros(pick(rng, ((0,), (0, 3), (1,), (3, 0, 2), (1, 1, 1, 1, 1))), values.dtype)
        case _:
            sizes = pick(
                rng,
                (
                    "(99999999999,)",
                    "(-1,)",
                    "(4, 4)",
                    "(1000000, 1000)",
                    "()",
                    "(2**70,)",
                    "('a',)",
                    "(0, 5)",
                ),
            )
            first = data.find(b"'shape': ")
            last = data.find(b")", first) + 1
            if first > 0:
                changed = data[first:last]
                return data.replace(changed, b"'shape': " + sizes.encode().ljust(len(changed) - 9), 1)
    out = io.BytesIO()
    np.save(out, values, allow_pickle=False)
    return out.getvalue()


def archive(data: bytes, rng: Rng) -> bytes:
    """Change a member of a zip archive, its name or its packing; or blow one up."""
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        if sum(info.file_size for info in packed.infolist()) > _MAX_UNPACKED:
            return flip_bits(data, rng)  # it is a bomb already
        members = {name: packed.read(name) for name in packed.namelist()}
    name = pick(rng, sorted(members))
    bomb = b""
    match int(rng.integers(10)):
        case 0:
            del members[name]
        case 1:
            members[pick(rng, _NAMES[1:])] = members.pop(name)
        case 2:
            members[name] = members[pick(rng, sorted(members))]
        case 3:
            members[name] = pick(rng, BYTES)(members[name], rng)
        case 4 if rng.random() < 0.2:
            bomb = members[name]
            members[name] = b""
        case _:
            members[name] = (array if members[name][:6] == b"\x93NUMPY" else pick(rng, BYTES))(
                members[name], rng
            )
    packing = pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as packed:
        for member, content in members.items():
            packed.writestr(member, content)
        if bomb:
            _write_bomb(packed, name, bomb)
    return out.getvalue()


def _write_bomb(packed: zipfile.ZipFile, name: str, start: bytes) -> None:
    """Write a member that begins as an array of :data:`BOMB_BYTES` and goes on with zeros, deflated."""
    header = io.BytesIO()
    shape = (BOMB_BYTES // 4,) if start[:6] != b"\x93NUMPY" else (BOMB_BYTES // 4 // 72, 72)
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    with packed.open(info, "w", force_zip64=True) as out:
        out.write(header.getvalue())
        for _ in range(BOMB_BYTES >> 22):
            out.write(bytes(1 << 22))


def tar(data: bytes, rng: Rng) -> bytes:
    """Change a member of a tar archive, its name, type or size."""
    with tarfile.open(fileobj=io.BytesIO(data)) as packed:
        members = [(info, opened.read()) for info in packed if (opened := packed.extractfile(info))]
    place = int(rng.integers(len(members) or 1))
    sizes: int | None = None
    if members:
        info, content = members[place]
        match int(rng.integers(7)):
            case 0:
                del members[place]
            case 1:
                info.name = pick(rng, (*_NAMES[1:], "x.json", "x.joints.npy"))
            case 2:
                info.type = pick(
                    rng,
                    (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE),
                )
                info.linkname = pick(rng, ("/etc/passwd", info.name, "../x"))
            case 3:
                sizes = int(pick(rng, (2**33, 2**40, 0, len(content) + 10**6)))
            case 4:
                members.insert(place, members[int(rng.integers(len(members)))])
            case _:
                change = (
                    array
                    if content[:6] == b"\x93NUMPY"
                    else document
                    if content[:1] == b"{"
                    else pick(rng, BYTES)
                )
                members[place] = info, change(content, rng)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as packed:
        for number, (info, content) in enumerate(members):
            info.size = len(content) if info.isreg() else 0
            if number == place and sizes is not None:
                info.size = sizes
                out.write(info.tobuf(tarfile.PAX_FORMAT))
                out.write(content)
                continue
            packed.addfile(info, io.BytesIO(content))
    return out.getvalue()


def parquet(data: bytes, rng: Rng) -> bytes:
    """Change a column of a Parquet table: its type, its values or its name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(data))
    place = int(rng.integers(table.num_columns))
    name, count = table.column_names[place], table.num_rows
    other: Any = {
        0: [None] * count, 1: [-1] * count, 2: ["x\x1b[31m"] * count, 3: [[1.0]] * count, 4: [1e300] * count,
        5: [[[1.0, 2.0]]] * count, 6: [{"a": 1}] * count, 7: [2**40] * count, 8: [[]] * count,
    }  # fmt: skip
    match int(rng.integers(4)):
        case 0:
            table = table.remove_column(place)
        case 1:
            table = table.rename_columns([pick(rng, _NAMES) if n == name else n for n in table.column_names])
        case _:
            table = table.set_column(place, name, pa.array(other[int(rng.integers(len(other)))]))
    if rng.random() < 0.2:
        table = table.replace_schema_metadata(None)
    out = io.BytesIO()
    pq.write_table(table, out, compression="zstd")
    return out.getvalue()


def glb(data: bytes, rng: Rng) -> bytes:
    """Change one value of the JSON of a GLB file."""
    if data[:4] != b"glTF":
        return document(data, rng)
    (size,) = struct.unpack_from("<I", data, 12)
    content = json.dumps(change_value(json.loads(data[20 : 20 + size]), rng)).encode()
    content += b" " * (-len(content) % 4)
    rest = data[20 + size :]
    head = struct.pack("<IIIII", 0x46546C67, 2, 20 + len(content) + len(rest), len(content), 0x4E4F534A)
    return head + content + rest


_BOXES: Final = frozenset(b"moov trak mdia minf stbl edts dinf udta mvex moof traf".split())


def boxes(data: bytes, first: int = 0, last: int | None = None) -> list[tuple[int, int, bytes]]:
    """Return (start, end, name) of all boxes of an MP4 file, those inside others included."""
    found, last = [], len(data) if last is None else last
    while first + 8 <= last:
        size, name = struct.unpack_from(">I4s", data, first)
        end = first + size if size >= 8 else last
        if end > last:
            break
        found.append((first, end, name))
        if name in _BOXES:
            found += boxes(data, first + 8, end)
        first = end
    return found


def mp4(data: bytes, rng: Rng) -> bytes:
    """Change the size, the fields or the place of a box of an MP4 file."""
    found = [box for box in boxes(data) if box[2] != b"mdat"]
    if not found:
        return flip_bits(data, rng)
    first, last, _ = pick(rng, found)
    inside = data[first:last]
    match int(rng.integers(7)):
        case 0:
            return data[:first] + struct.pack(">I", pick(rng, INTEGERS) % 2**32) + data[first + 4 :]
        case 1:
            return data[:first] + data[last:]
        case 2:
            return data[:last] + inside * int(rng.integers(1, 60)) + data[last:]
        case 3:
            return inside + data[:first] + data[last:]
        case 4:
            return data[: first + 4] + pick(rng, sorted(_BOXES)) + data[first + 8 :]
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):  # fields lie at multiples of four, mostly
        if last - first >= 12:
            place = first + 8 + 4 * int(rng.integers((last - first - 8) // 4))
            struct.pack_into(">I", out, place, pick(rng, INTEGERS) % 2**32)
    return bytes(out)


def noise_payload(data: bytes, rng: Rng) -> bytes:
    """Damage many bytes of the last three quarters, where coded pictures and sound are."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 400))):
        if len(out) > 4:
            out[int(rng.integers(len(out) // 4, len(out)))] = int(rng.integers(256))
    return bytes(out)


#: Mutations that know the structure, by the suffix of a file.
STRUCTURES: Final[dict[str, tuple[Mutation, ...]]] = {
    **dict.fromkeys((".npz", ".smpl", ".pt"), (archive,)),
    ".npy": (array,),
    ".tar": (tar,),
    ".parquet": (parquet,),
    **dict.fromkeys((".json", ".gltf"), (document, text)),
    **dict.fromkeys((".yaml",), (settings, text)),
    **dict.fromkeys((".bvh", ".amc", ".asf", ".csv", ".txt", ".jsonl", ".set"), (text,)),
    **dict.fromkeys((".glb", ".vrma"), (glb,)),
    **dict.fromkeys((".mp4", ".mov", ".m4a"), (mp4, noise_payload)),
    **dict.fromkeys((".mkv", ".avi", ".ts", ".flv", ".wav", ".mp3", ".ogg", ".flac", ".gif"), (noise_payload,)),
}  # fmt: skip


def mutate(data: bytes, suffix: str, others: Sequence[bytes], rng: Rng) -> bytes:
    """Return a mutated file: by its structure, by bytes, or joined with another file.

    Args:
        data: the valid file.
        suffix: of its name, which tells the structure.
        others: files of the same reader, for cross-overs.
        rng: source of all choices.
    """
    known = STRUCTURES.get(suffix, ())
    for _ in range(int(rng.integers(1, 3))):
        choice = rng.random()
        if known and choice < 0.6:
            try:
                data = pick(rng, known)(data, rng)
            except Exception:  # the file was damaged before: libraries raise whatever they like
                data = flip_bits(data, rng)
        elif choice < 0.95 or not others:
            data = pick(rng, BYTES)(data, rng)
        else:
            data = cross(data, pick(rng, others), rng)
    return data
