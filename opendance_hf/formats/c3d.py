"""Read markers of optical motion capture (``.c3d``), with the library ezc3d (extra ``c3d``).

Markers are those of Plug-in Gait or of the CMU database, see :mod:`opendance_hf.formats.markers`. A prefix of their names is
the person (``Jim:LFHD``); several are several dancers. Rotations follow from the joints, so that the twist of limbs is that of
the smallest rotation. Gaps are filled up to :data:`MAX_GAP_S`; the longest part without longer gaps is read.

Source of the layout: Motion Lab Systems, "The C3D File Format User Guide": header, parameter section, 3D data.
"""

from __future__ import annotations

import json
import logging
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from opendance_hf.errors import install_hint
from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import UNITS_M, measured_unit, upward
from opendance_hf.formats.body import Axis
from opendance_hf.formats.markers import joints_of, marker_of, missing_markers
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.motion.body import forward_kinematics
from opendance_hf.motion.ik import joints_to_poses
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS

Array = npt.NDArray[np.floating]

#: Longer gaps of a marker are not filled, s.
MAX_GAP_S: Final = 0.25
#: Shorter parts without gaps are not read, s.
MIN_PART_S: Final = 1.0
_MAX_BYTES: Final = 2**28
_BLOCK: Final = 512
_KEY: Final = 0x50
#: Processors by their number in the parameter section, with the byte of a float that has its sign: Intel and DEC.
_PROCESSORS: Final = {84: 3, 85: 1}
_MIPS: Final = 86
_MAX_FRAMES_16_BITS: Final = 65_535
#: Markers near the joints of the legs.
_LEGS: Final = {
    f"{side}_{joint}": f"{side}_{marker}"
    for side in ("left", "right")
    for joint, marker in (("hip", "front_hip"), ("knee", "knee"), ("ankle", "ankle"))
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Points:
    """Hold (T, N, 3) points of a file, NaN for gaps, with their N labels, their unit and their rate."""

    points: Array
    labels: list[str]
    unit: str
    fps: float


def read(path: Path, *, fps: float | None = None, up: Axis | None = None) -> Motion:
    """Read the dancers of a file.

    Args:
        path: the file.
        fps: frames per second; by default that of the file.
        up: axis that points up; measured by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, has no known set of markers or too many gaps, or ezc3d is not installed.
    """
    check_header(path)
    found = _points(path)
    rate = fps or found.fps
    if not 1 <= rate <= 10_000:
        raise FormatError(
            f"{path}: {rate:g} frames a second; what is the rate? Answer with opendance convert --fps"
        )
    people = _people(path, found)
    part = _longest_part(path, people, rate)
    bodies = [
        joints_of({name: values[part] for name, values in person.items()}) for person in people.values()
    ]
    _, turn = upward(path, bodies, up)
    fitted = [joints_to_poses(body @ turn.T) for body in bodies]
    poses, transl, rest = (np.stack([one[k] for one in fitted]) for k in range(3))
    joints = forward_kinematics(poses, transl, rest[:, None])
    moved = max(
        float(np.linalg.norm(j - b @ turn.T, axis=-1).max()) for j, b in zip(joints, bodies, strict=True)
    )
    log.info(
        "%s: read as C3D: %s, %g FPS; joints are computed from markers, and move by up to %.0f mm to keep bones rigid; the twist "
        "of limbs is not in the file",
        path, ", ".join(name or "one person" for name in people), rate, moved * 1000,
    )  # fmt: skip
    try:
        return Motion(joints, rate, poses, transl, rest, meta={"id": path.stem})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None


def check_header(path: Path) -> None:
    """Check that sizes and pointers of a file lie within it.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: naming what does not.
    """
    size = check_input(path, _MAX_BYTES)
    with path.open("rb") as file:
        header = file.read(_BLOCK)
        if len(header) < _BLOCK or header[1] != _KEY:
            raise FormatError(
                f"{path}: does not begin with the header of a C3D file; it is damaged or another format"
            )
        file.seek((header[0] - 1) * _BLOCK if header[0] else size)
        section = file.read(_BLOCK * 256)
    if len(section) >= 4 and section[3] == _MIPS:
        raise FormatError(
            f"{path}: has numbers in the order of MIPS processors, which is not read; save it for Intel processors"
        )
    if len(section) < _BLOCK or section[3] not in _PROCESSORS:
        raise FormatError(f"{path}: has no parameters in block {header[0]}; the file is damaged or truncated")
    count, analog, first, last = struct.unpack_from("<4H", header, 2)
    start = struct.unpack_from("<H", header, 16)[0]
    frames = last - first + 1
    item = 4 if header[12 + _PROCESSORS[section[3]]] & 0x80 else 2
    needed = max(frames, 0) * (4 * count + analog) * item
    if not count or frames < 1 or start <= header[0]:
        raise FormatError(
            f"{path}: {count} markers, frames {first} to {last}, points in block {start}: expected some of each; the file is "
            "damaged, or has no markers"
        )
    if (start - 1) * _BLOCK + needed > size and last != _MAX_FRAMES_16_BITS:
        raise FormatError(
            f"{path}: has {size:,} bytes, but {frames:,} frames of {count} markers end at "
            f"{(start - 1) * _BLOCK + needed:,}; the file is truncated"
        )
    _check_parameters(path, section[: (start - header[0]) * _BLOCK])


def _check_parameters(path: Path, section: bytes) -> None:
    """Walk through the chain of groups and parameters; each must lie in the section."""

    def fail() -> FormatError:
        return FormatError(f"{path}: its parameters reach beyond their section; the file is damaged")

    at, groups = 4, set()
    while at + 2 <= len(section):
        length, number = struct.unpack_from("2b", section, at)
        if not length:
            break
        pointer = at + 2 + abs(length)
        if not number or pointer + 4 > len(section):
            raise fail()
        if number < 0:
            groups.add(section[at + 2 : pointer].upper())
            end = pointer + 3 + section[pointer + 2]
        else:
            kind, dimensions = struct.unpack_from("bB", section, pointer + 2)
            sizes = section[pointer + 4 : pointer + 4 + dimensions]
            if kind not in (-1, 1, 2, 4) or dimensions > 7 or len(sizes) != dimensions:
                raise fail()
            values = int(np.prod([int(n) for n in sizes], dtype=object)) if dimensions else 1
            end = pointer + 4 + dimensions + abs(kind) * values + 1
            if end <= len(section):
                end += section[end - 1]
        if end > len(section):
            raise fail()
        step = struct.unpack_from("<H", section, pointer)[0]
        if not step:
            break
        at = pointer + step
        if at < end:
            raise fail()
    if b"POINT" not in groups:
        raise FormatError(f"{path}: has no parameters of points; the file is damaged")


def _points(path: Path) -> _Points:
    """Read the points in a process of its own."""
    if find_spec("ezc3d") is None:
        raise FormatError(
            f"{path}: C3D files are read with the package ezc3d, which is missing: {install_hint('c3d')}"
        )
    program = Path(__file__).with_name("c3d_process.py")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "points.npz")
        try:
            done = subprocess.run(
                [sys.executable, "-P", str(program), str(path), str(out)],
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=60 + path.stat().st_size / 2**20 * 5,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise FormatError(f"{path}: ezc3d did not read it in time; the file is damaged") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            said = (
                ascii(lines[-1][:200])[1:-1]
                if lines and done.returncode > 0
                else f"it ended with {done.returncode}"
            )
            raise FormatError(
                f"{path}: ezc3d cannot read it ({said}); the file is damaged, or of a kind it lacks"
            )
        with np.load(out, allow_pickle=False) as content:
            points = content["points"]
            text = json.loads(content["text"].tobytes())
    labels = text["labels"][: points.shape[1]]
    if not points.size or len(labels) < points.shape[1]:
        raise FormatError(
            f"{path}: {points.shape[1]} markers with {len(labels)} names in {len(points)} frames"
        )
    # A point at infinity is a gap, as one that ezc3d marks.
    points = np.where(
        np.isfinite(points).all(-1, keepdims=True) & (np.abs(points) < 1e9).all(-1, keepdims=True),
        points,
        np.nan,
    )
    return _Points(points.astype(np.float64), labels, text["unit"], text["rate"])


def _people(path: Path, found: _Points) -> dict[str, dict[str, Array]]:
    """Return the (T, 3) markers, by meaning and in metres, of each person with a whole set."""
    people: dict[str, dict[str, Array]] = {}
    lacking: dict[str, list[str]] = {}
    for index, label in enumerate(found.labels):
        person, _, bare = label.strip().rpartition(":")
        name = marker_of(bare)
        # Markers that are never seen are the same as those that are not there.
        if name is not None and np.isfinite(found.points[:, index]).any():
            people.setdefault(person, {}).setdefault(name, found.points[:, index])
    for person in list(people):
        lacking[person] = missing_markers(people[person])
    whole = {person: markers for person, markers in people.items() if not lacking[person]}
    if not whole:
        best = min(lacking, key=lambda person: len(lacking[person]), default="")
        raise FormatError(
            f"{path}: no person has the markers of Plug-in Gait or CMU: "
            f"{', '.join(lacking.get(best, ['all']))[:200]} missing among {', '.join(found.labels)[:300]!a}"
        )
    if left := sorted(set(people) - set(whole)):
        log.warning("%s: %s without a whole set of markers, not read", path, ", ".join(map(repr, left)))
    scale = _scale(path, found.unit, whole)
    return {
        person: {name: values * scale for name, values in markers.items()}
        for person, markers in whole.items()
    }


def _scale(path: Path, unit: str, people: Mapping[str, Mapping[str, Array]]) -> float:
    """Return the metres of the unit of the file; measured if it has none."""
    scale = UNITS_M.get(unit.strip().lower(), 0.0)
    for markers in people.values():
        # From marker to marker is near enough to the length of the legs to tell units apart.
        places = np.stack([markers[name] for name in _LEGS.values()], axis=1)
        joints = np.full((len(places), NUM_JOINTS, 3), np.nan)
        joints[:, [JOINT_INDEX[joint] for joint in _LEGS]] = places
        joints = joints[np.isfinite(places).all((1, 2))]
        if not len(joints):
            raise FormatError(f"{path}: hips, knees and ankles are never seen together")
        name, measured = measured_unit(path, joints)
        if not scale:
            log.warning(
                "%s: the unit of points is %r; taken for %s by the length of the legs", path, unit[:20], name
            )
            scale = measured
        if not 0.5 < scale / measured < 2:
            raise FormatError(
                f"{path}: the unit of points is {unit[:20]!r}, but the legs are those of a person in {name}; correct the "
                "parameter POINT:UNITS"
            )
    return scale


def _longest_part(path: Path, people: Mapping[str, dict[str, Array]], fps: float) -> slice:
    """Fill short gaps in place, and return the longest run of frames in which all markers are there."""
    seen: npt.NDArray[np.bool_] | None = None
    for markers in people.values():
        for name, values in markers.items():
            markers[name] = filled = _filled(values, round(MAX_GAP_S * fps))
            whole = np.isfinite(filled[:, 0])
            seen = whole if seen is None else seen & whole
    assert seen is not None
    start, end = max(_runs(seen), key=lambda run: run[1] - run[0], default=(0, 0))
    if end - start < min(MIN_PART_S * fps, len(seen)) or end == start:
        raise FormatError(
            f"{path}: markers are lost for more than {MAX_GAP_S:g} s again and again; the longest part without gaps has "
            f"{(end - start) / fps:.2f} s, expected at least {MIN_PART_S:g} s. Fill the gaps in the program that recorded it"
        )
    if end - start < len(seen):
        log.warning(
            "%s: only frames %d to %d of %d are read: before and after markers are lost for more than %g s",
            path, start, end - 1, len(seen), MAX_GAP_S,
        )  # fmt: skip
    return slice(start, end)


def _runs(mask: npt.NDArray[np.bool_]) -> Iterator[tuple[int, int]]:
    """Yield first and last index, exclusive, of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    yield from zip(edges[::2].tolist(), edges[1::2].tolist(), strict=True)


def _filled(values: Array, longest: int) -> Array:
    """Return (T, 3) positions with gaps of up to ``longest`` frames between two that are seen filled linearly."""
    seen = np.isfinite(values[:, 0])  # a gap is NaN in all axes
    out = values.copy()
    for start, end in _runs(~seen):
        if start > 0 and end < len(seen) and end - start <= longest:
            share = np.arange(1, end - start + 1)[:, None] / (end - start + 1)
            out[start:end] = out[start - 1] * (1 - share) + out[end] * share
    return out
