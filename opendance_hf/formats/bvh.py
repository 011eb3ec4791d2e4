"""Read and write BVH (Biovision hierarchy): a tree of joints with Euler angles for every frame.

Any hierarchy, order of channels, and joints with positions are read; a position replaces the joint's OFFSET, as in files of
MotionBuilder and of LaFAN1. The unit, the axis that points up and the rest pose are measured, see
:func:`opendance_hf.formats.animation.to_motion`. Files are written in centimetres, y up, one a dancer.

Source: "Motion Capture File Formats Explained", M. Meredith and S. Maddock, University of Sheffield, section 4.1; order of
rotations and positions as in github.com/ubisoft/ubisoft-laforge-animation-dataset, ``lafan1/extract.py`` (``read_bvh``).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TextIO

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import Animation, check_size, even_rate, to_motion
from opendance_hf.formats.body import Axis
from opendance_hf.formats.motion import Motion, check_input, check_suffix, one_file_a_dancer
from opendance_hf.formats.rigged import rigged
from opendance_hf.formats.rigs import check_rig, table_of
from opendance_hf.formats.textlines import MAX_LINE, limited_lines

#: Suffix of the files that are written, one a dancer.
SUFFIX: Final = ".bvh"
FILE_A_DANCER: Final = True
_MAX_BYTES: Final = 2**30
_CHUNK: Final = 2**20
_MAX_HEADER_LINES: Final = 20_000
_COUNTS: Final = ("0", "1", "2", "3", "4", "5", "6")
_CHANNEL: Final = re.compile(r"^([XYZ])(position|rotation)$", re.IGNORECASE)
#: Centimetres in a metre.
_CM: Final = 100.0
_ORDER: Final = "ZXY"


@dataclass
class _Joint:
    name: str
    parent: int
    offset: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    channels: list[tuple[str, str]] = field(default_factory=list)


def read(
    path: Path, *, fps: float | None = None, up: Axis | None = None, names: str | Path | None = None
) -> Motion:
    """Read the dancers of a file, one for each ROOT.

    Args:
        path: the file.
        fps: frames per second; by default that of the file.
        up: axis that points up in the file; measured by default.
        names: table of the joints' names; found by default.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, too large, or its skeleton is not a person's.
    """
    return to_motion(path, read_animations(path), kind="BVH", names=table_of(names), up=up, fps=fps)


def read_animations(path: Path) -> list[Animation]:
    """Read the hierarchies of a file.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged or too large.
    """
    size = check_input(path, _MAX_BYTES)
    with path.open(encoding="utf-8", errors="replace") as file:
        lines = ((number, line.split()) for number, line in enumerate(limited_lines(path, file), start=1))
        filled = ((number, words) for number, words in lines if words)
        joints = _hierarchy(path, filled)
        frames, frame_s = _motion_header(path, filled)
        check_size(path, frames, len(joints), size)
        width = sum(len(joint.channels) for joint in joints)
        values = _values(path, file, frames, width)
    roots = [index for index, joint in enumerate(joints) if joint.parent < 0]
    parts = zip(roots, [*roots[1:], len(joints)], strict=True)
    starts = np.cumsum([0, *(len(joint.channels) for joint in joints)])
    return [
        _animation(path, joints[a:b], a, values[:, starts[a] : starts[b]], even_rate(1 / frame_s))
        for a, b in parts
    ]


def _hierarchy(path: Path, lines: Iterator[tuple[int, list[str]]]) -> list[_Joint]:
    """Read the joints up to the line MOTION; End Sites are joints without channels."""
    joints: list[_Joint] = []
    above: list[int] = []
    current = -1
    for number, words in lines:

        def fail(why: str, number: int = number) -> FormatError:
            return FormatError(f"{path}, line {number}: {why}; the file is damaged or not a BVH")

        key = words[0].upper()
        if number == 1 and key.lstrip("\ufeff") != "HIERARCHY":
            raise fail(f"starts with {words[0][:20]!a}, expected HIERARCHY")
        if number > _MAX_HEADER_LINES:
            raise fail("the hierarchy does not end")
        if key == "MOTION":
            if above or not joints:
                raise fail("MOTION before the hierarchy is complete")
            return joints
        if key in ("ROOT", "JOINT", "END"):
            if (key == "ROOT") != (not above):
                raise fail(f"{key} {'inside' if above else 'outside'} of another joint")
            parent = above[-1] if above else -1
            name = (
                f"{joints[parent].name}_end" if key == "END" else " ".join(words[1:]) or f"joint{len(joints)}"
            )
            joints.append(_Joint(name, parent))
            current = len(joints) - 1
        elif key == "{":
            if current < 0:
                raise fail("a bracket opens without a joint")
            above.append(current)
            current = -1
        elif key == "}":
            if not above:
                raise fail("a bracket closes that was not opened")
            above.pop()
        elif key == "OFFSET" and above:
            joints[above[-1]].offset = _numbers(words[1:4], 3, fail)
        elif key == "CHANNELS" and above:
            count = int(words[1]) if len(words) > 1 and words[1] in _COUNTS else -1
            found = [_CHANNEL.match(word) for word in words[2:]]
            if count != len(found) or not all(found):
                raise fail(
                    f"channels {' '.join(words[1:8])[:100]!a} are not up to six of Xposition ... Zrotation"
                )
            channels = [(match[1].upper(), match[2].lower()) for match in found if match]
            if len(set(channels)) != len(channels):
                raise fail("a channel is there twice")
            joints[above[-1]].channels = channels
        elif key != "HIERARCHY":
            raise fail(f"unknown word {words[0][:20]!a}")
    raise FormatError(f"{path}: ends in the hierarchy, before MOTION; the file is truncated or not a BVH")


def _numbers(words: list[str], count: int, fail: object) -> list[float]:
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(math.isfinite(number) for number in numbers):
        raise fail(f"{' '.join(words)[:40]!a} are not {count} finite numbers")  # type: ignore[operator]
    return numbers


def _motion_header(path: Path, lines: Iterator[tuple[int, list[str]]]) -> tuple[int, float]:
    frames, frame_s = -1, math.nan
    for number, words in lines:
        text = " ".join(words).replace(":", " ").lower().split()
        try:
            if text[0] == "frames":
                frames = int(text[1])
            elif text[:2] == ["frame", "time"]:
                frame_s = float(text[2])
            else:
                raise ValueError
        except (ValueError, IndexError):
            raise FormatError(
                f"{path}, line {number}: {' '.join(words)[:40]!a}; expected 'Frames: N' and 'Frame Time: seconds'"
            ) from None
        if frames != -1 and not math.isnan(frame_s):
            break
    if frames < 1 or not 1e-4 <= frame_s <= 10:
        raise FormatError(
            f"{path}: {max(frames, 0)} frames of {frame_s:g} s, expected at least one frame and a time from 0.0001 to 10 s"
        )
    return frames, frame_s


def _values(path: Path, file: TextIO, frames: int, width: int) -> np.ndarray:
    """Return the (frames, width) numbers; a frame may be broken over several lines."""
    parts, tail = [np.zeros(0)], ""
    while text := file.read(_CHUNK):  # words of a whole file take ten times its size
        words = (tail + text).split()
        tail = "" if text[-1].isspace() else words.pop()
        if len(tail) > MAX_LINE:
            raise FormatError(f"{path}: has a word of more than {MAX_LINE:,} characters; the file is damaged")
        parts.append(_reals(path, words))
    values = np.concatenate([*parts, _reals(path, [tail] if tail else [])])
    if len(values) != frames * width:
        raise FormatError(
            f"{path}: has {len(values):,} numbers, but {frames:,} frames of {width} channels need {frames * width:,}; the file "
            "is truncated, or 'Frames:' is wrong"
        )
    if not np.isfinite(values).all():
        frame = int(np.flatnonzero(~np.isfinite(values))[0] // max(width, 1))
        raise FormatError(f"{path}: NaN or infinity in frame {frame}; cut the file there")
    return values.reshape(frames, width)


def _reals(path: Path, words: list[str]) -> np.ndarray:
    try:
        return np.array(words, dtype=np.float64)
    except ValueError:
        raise FormatError(
            f"{path}: the motion has something other than numbers; the file is damaged"
        ) from None


def _animation(path: Path, joints: list[_Joint], first: int, values: np.ndarray, fps: float) -> Animation:
    count, frames = len(joints), len(values)
    rotations = np.broadcast_to(np.eye(3), (frames, count, 3, 3)).copy()
    offsets = np.array([joint.offset for joint in joints])
    translations = np.broadcast_to(offsets, (frames, count, 3)).copy()
    column = 0
    for index, joint in enumerate(joints):
        block = values[:, column : column + len(joint.channels)]
        column += len(joint.channels)
        turns = [axis for axis, kind in joint.channels if kind == "rotation"]
        angles = block[:, [kind == "rotation" for _, kind in joint.channels]]
        if turns:
            rotations[:, index] = Rotation.from_euler("".join(turns), angles, degrees=True).as_matrix()
        for at, (axis, kind) in enumerate(joint.channels):
            if kind == "position":
                translations[:, index, "XYZ".index(axis)] = block[:, at]
    parents = tuple(joint.parent - first if joint.parent >= 0 else -1 for joint in joints)
    return Animation(
        tuple(joint.name for joint in joints),
        parents,
        np.broadcast_to(np.eye(3), (count, 3, 3)),
        offsets,
        rotations,
        translations,
        fps,
    )


def write(motion: Motion, path: Path, *, rig: str = "smpl") -> list[Path]:
    """Write one file per dancer, in centimetres.

    Args:
        motion: the motion; it needs poses.
        path: the file; numbered if there are several dancers.
        rig: names and rest pose of the joints, see :data:`opendance_hf.formats.rigs.RIGS`.

    Raises:
        FormatError: if the motion has no poses, or ``path`` does not end in ``.bvh``.
        OSError: if a file cannot be written.
    """
    check_suffix(path, ".bvh")
    table, written = check_rig(rig), []
    with ExitStack() as files:  # after an error none is written
        for dancer, file in one_file_a_dancer(motion, path):
            text = _text(rigged(path, dancer, table, bone_axes=False).animation)
            files.enter_context(atomic_write(file)).write_text(text, encoding="ascii")
            written.append(file)
    return written


def _text(animation: Animation) -> str:
    """Return the file of an animation whose rest rotations are none."""
    children: list[list[int]] = [[] for _ in animation.names]
    for joint, parent in enumerate(animation.parents):
        if parent >= 0:
            children[parent].append(joint)
    lines, order = ["HIERARCHY"], []

    def add(joint: int, depth: int) -> None:
        tab, is_root = "\t" * depth, animation.parents[joint] < 0
        offset = np.zeros(3) if is_root else animation.rest_translations[joint]
        moves = joint == 0 or not np.allclose(animation.translations[:, joint], offset, atol=1e-7)
        order.append((joint, moves))
        rotations = " ".join(f"{axis}rotation" for axis in _ORDER)
        lines.append(f"{tab}{'ROOT' if is_root else 'JOINT'} {animation.names[joint]}")
        lines.append(f"{tab}{{")
        lines.append(f"{tab}\tOFFSET {' '.join(f'{value * _CM:.6f}' for value in offset)}")
        lines.append(
            f"{tab}\tCHANNELS 6 Xposition Yposition Zposition {rotations}"
            if moves
            else f"{tab}\tCHANNELS 3 {rotations}"
        )
        for child in children[joint]:
            add(child, depth + 1)
        if not children[joint]:
            # Tools show a bone from a joint to its end; as long as the one before, up to the length of a hand.
            bone = animation.rest_translations[joint]
            end = bone / max(float(np.linalg.norm(bone)), 1e-9) * 0.08
            lines.append(f"{tab}\tEnd Site\n{tab}\t{{")
            lines.append(f"{tab}\t\tOFFSET {' '.join(f'{value * _CM:.6f}' for value in end)}\n{tab}\t}}")
        lines.append(f"{tab}}}")

    add(0, 0)
    columns = []
    for joint, moves in order:
        if moves:
            columns.append(animation.translations[:, joint] * _CM)
        turns = Rotation.from_matrix(animation.rotations[:, joint])
        columns.append(turns.as_euler(_ORDER, degrees=True))
    values = np.concatenate(columns, axis=1)
    lines += ["MOTION", f"Frames: {len(values)}", f"Frame Time: {1 / animation.fps:.9f}"]
    lines += [" ".join(f"{value:.6f}" for value in row) for row in values]
    return "\n".join(lines) + "\n"
