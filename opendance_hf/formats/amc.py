"""Read Acclaim motion capture: ``.amc``, the angles of every frame, with the ``.asf`` beside it, the skeleton they belong to.

A bone of an ASF is a segment that begins where its parent ends and turns about its beginning. Here it becomes the joint at its
beginning: ``lfemur`` is the hip, ``ltibia`` the knee. A joint rotates by C M C^-1, where C is the bone's ``axis`` and M the
angles of the frame, both about fixed axes, one after the other. The unit and the axis that points up are measured.

Sources: M. Schafer, "Acclaim Skeleton File Definition V1.10"; "Acclaim Format - ASF line Details" of the CMU Graphics Lab
(course cs229): order of the root's channels and rotations; github.com/CalciferZh/AMCParser, ``amc_parser.py`` (MIT),
``Joint.set_motion``: the product of rotations.
"""

from __future__ import annotations

import logging
import math
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from scipy.spatial.transform import Rotation

from opendance_hf.formats import FormatError
from opendance_hf.formats.animation import MAX_JOINTS, Animation, check_size, to_motion
from opendance_hf.formats.body import Axis
from opendance_hf.formats.motion import Motion, check_input
from opendance_hf.formats.rigs import table_of
from opendance_hf.formats.textlines import limited_lines

#: Rate of most trials of the CMU database; files do not have it.
FPS: Final = 120.0
_MAX_BYTES: Final = 2**30
_MAX_SKELETON_BYTES: Final = 2**20
_CHANNELS: Final = ("tx", "ty", "tz", "rx", "ry", "rz")
_ORDERS: Final = ("XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX")
#: Commas and parentheses count as spaces, and a number sign begins a comment (section "File format" of the definition).
_SPACES: Final = str.maketrans(",()", "   ")

log = logging.getLogger(__name__)


@dataclass
class _Bone:
    """Hold a segment: (3,) vector from beginning to end, (3, 3) axis, channels, parent, and (3,) position of the root."""

    name: str
    position: np.ndarray = field(default_factory=lambda: np.zeros(3))
    vector: np.ndarray = field(default_factory=lambda: np.zeros(3))
    axis: np.ndarray = field(default_factory=lambda: np.eye(3))
    channels: tuple[str, ...] = ()
    parent: int = -1


@dataclass
class _Skeleton:
    path: Path
    bones: list[_Bone]
    degrees: bool


def read(
    path: Path,
    *,
    fps: float | None = None,
    up: Axis | None = None,
    names: str | Path | None = None,
    skeleton: Path | None = None,
) -> Motion:
    """Read one dancer.

    Args:
        path: the ``.amc`` file.
        fps: frames per second; 120 by default.
        up: axis that points up in the file; measured by default.
        names: table of the joints' names; found by default.
        skeleton: the ``.asf`` file; by default that of the same name, that of the name before an underscore (``60.asf`` for
            ``60_12.amc``), or the only one in the folder.

    Raises:
        FileNotFoundError: if a file does not exist.
        FormatError: if a file is damaged or too large, no skeleton is found, or it is not a person's.
    """
    animation = read_animation(path, fps=fps, skeleton=skeleton)
    if fps is None:
        log.info(
            "%s: AMC files do not have the frame rate; read at %g FPS, that of most trials of CMU (some have 60: --fps 60)",
            path, FPS,
        )  # fmt: skip
    return to_motion(path, [animation], kind="AMC", names=table_of(names), up=up)


def read_animation(path: Path, *, fps: float | None = None, skeleton: Path | None = None) -> Animation:
    """Read the joints of a file and its skeleton; bones without children have a joint ``NAME_end`` at their end.

    Raises:
        FileNotFoundError: if a file does not exist.
        FormatError: if a file is damaged or too large.
    """
    size = check_input(path, _MAX_BYTES)
    if path.suffix.lower() == ".asf":
        raise FormatError(f"{path}: this is the skeleton; give the .amc file, which has the motion")
    found = _read_skeleton(skeleton or _skeleton_of(path))
    frames, degrees, values = _frames(path, found)
    names = [bone.name for bone in found.bones]
    parents = [bone.parent for bone in found.bones]
    ends = [index for index in range(1, len(names)) if index not in parents]
    offsets = [
        found.bones[p].vector if p >= 0 else bone.position
        for p, bone in zip(parents, found.bones, strict=True)
    ]
    names += [f"{names[index]}_end" for index in ends]
    offsets += [found.bones[index].vector for index in ends]
    parents += ends
    check_size(path, frames, len(names), size)
    rotations = np.broadcast_to(np.eye(3), (frames, len(names), 3, 3)).copy()
    translations = np.broadcast_to(np.array(offsets), (frames, len(names), 3)).copy()
    for index, bone in enumerate(found.bones):
        if (numbers := values.get(bone.name)) is None:
            continue
        turns = [k for k, channel in enumerate(bone.channels) if channel[0] == "r"]
        if turns:
            order = "".join(bone.channels[k][1] for k in turns)
            angles = Rotation.from_euler(order, numbers[:, turns], degrees=degrees).as_matrix()
            rotations[:, index] = bone.axis @ angles @ bone.axis.T
        for k, channel in enumerate(bone.channels):
            if channel[0] == "t":
                translations[:, index, "xyz".index(channel[1])] += numbers[:, k]
    rest = np.broadcast_to(np.eye(3), (len(names), 3, 3))
    return Animation(
        tuple(names), tuple(parents), rest, np.array(offsets), rotations, translations, fps or FPS
    )


def beside(path: Path) -> list[Path]:
    """Return the files that a motion needs: its skeleton.

    Raises:
        FormatError: if there is none, or several that it may be.
    """
    return [_skeleton_of(path)]


def _skeleton_of(path: Path) -> Path:
    """Return the skeleton that belongs to a motion.

    Raises:
        FormatError: if there is none, or several that it may be.
    """
    beside = sorted(other for other in path.parent.iterdir() if other.suffix.lower() == ".asf")
    words = path.stem.split("_")
    for count in range(len(words), 0, -1):
        for other in beside:
            if other.stem == "_".join(words[:count]):
                return other
    if len(beside) == 1:
        return beside[0]
    listed = ", ".join(other.name for other in beside[:5]) or "none"
    raise FormatError(
        f"{path}: needs the skeleton of this subject, such as {words[0]}.asf, in the same folder, which has {listed}"
    )


def _lines(path: Path, limit: int) -> Iterator[tuple[int, list[str]]]:
    """Yield number and words of each line that has any."""
    check_input(path, limit)
    with path.open(encoding="utf-8", errors="replace") as file:
        for number, line in enumerate(limited_lines(path, file), start=1):
            words = line.partition("#")[0].translate(_SPACES).split()
            if words:
                yield number, words


def _read_skeleton(path: Path) -> _Skeleton:
    """Return the bones of an ASF, the root first and parents before children."""
    bones = {"root": _Bone("root")}
    links: list[tuple[int, str, list[str]]] = []
    section, degrees, lines = "", True, _lines(path, _MAX_SKELETON_BYTES)
    for number, words in lines:
        if words[0].startswith(":"):
            section = words[0].lower()
        elif section == ":units" and words[0].lower() == "angle":
            degrees = _is_degrees(path, number, words)
        elif section == ":root":
            _root_line(path, number, words, bones["root"])
        elif section == ":bonedata" and words[0].lower() == "begin":
            bone = _read_bone(path, lines, degrees)
            if bone.name in bones:
                raise FormatError(f"{path}: bone {bone.name[:40]!a} is there twice; the file is damaged")
            bones[bone.name] = bone
            if len(bones) > MAX_JOINTS:
                raise FormatError(f"{path}: more than {MAX_JOINTS:,} bones")
        elif section == ":hierarchy" and words[0].lower() not in ("begin", "end"):
            links.append((number, words[0], words[1:]))
    if len(bones) < 2 or not links:
        raise FormatError(f"{path}: has no bones or no :hierarchy; the file is truncated or not an ASF")
    if not bones["root"].channels:
        raise FormatError(f"{path}: the root has no 'order' of its channels; the file is damaged")
    return _Skeleton(path, _in_order(path, bones, links), degrees)


def _is_degrees(path: Path, number: int, words: list[str]) -> bool:
    angle = words[1].lower() if len(words) > 1 else ""
    if angle not in ("deg", "rad"):
        raise FormatError(f"{path}, line {number}: the unit of angles is {angle[:20]!a}, expected deg or rad")
    return angle == "deg"


def _root_line(path: Path, number: int, words: list[str], root: _Bone) -> None:
    match words[0].lower():
        case "order":
            root.channels = _channels(path, number, words[1:])
        case "position":
            root.position = _numbers(path, number, words[1:], 3)
        case "orientation":
            if _numbers(path, number, words[1:], 3).any():
                raise FormatError(
                    f"{path}, line {number}: programs disagree on what an orientation of the root other than 0 0 0 means; "
                    "export the skeleton without"
                )


def _channels(path: Path, number: int, words: list[str]) -> tuple[str, ...]:
    channels = tuple(word.lower() for word in words)
    unknown = [channel for channel in channels if channel not in _CHANNELS]
    if unknown or len(set(channels)) != len(channels):
        raise FormatError(
            f"{path}, line {number}: channels {' '.join(words)[:40]!a}, expected some of {' '.join(_CHANNELS)}, each once"
            + ("; bones of changing length are not read" if "l" in unknown else "")
        )
    return channels


def _read_bone(path: Path, lines: Iterator[tuple[int, list[str]]], degrees: bool) -> _Bone:
    """Return the bone whose lines follow, up to the line end."""
    bone, direction, length = _Bone(""), np.zeros(3), 0.0
    for number, words in lines:
        match words[0].lower():
            case "end":
                if not bone.name:
                    raise FormatError(f"{path}, line {number}: a bone has no name; the file is damaged")
                bone.vector = direction * length
                return bone
            case "name":
                bone.name = words[1] if len(words) > 1 else ""
            case "direction":
                direction = _numbers(path, number, words[1:], 3)
                direction = direction / (np.linalg.norm(direction) or 1.0)
            case "length":
                length = float(_numbers(path, number, words[1:], 1)[0])
            case "axis":
                order = words[4].upper() if len(words) > 4 else "XYZ"
                if order not in _ORDERS:
                    raise FormatError(f"{path}, line {number}: axes {order[:20]!a}, expected such as XYZ")
                angles = _numbers(path, number, words[1:4], 3)
                # The three numbers are those of x, y and z; the order is that in which they are applied.
                sorted_angles = angles[["XYZ".index(axis) for axis in order]]
                bone.axis = Rotation.from_euler(order.lower(), sorted_angles, degrees=degrees).as_matrix()
            case "dof":
                bone.channels = _channels(path, number, words[1:])
            case word if word.startswith(":"):
                raise FormatError(
                    f"{path}, line {number}: {word[:20]!a} inside of a bone; the file is damaged"
                )
    raise FormatError(f"{path}: ends inside of a bone; the file is truncated")


def _numbers(path: Path, number: int, words: list[str], count: int) -> np.ndarray:
    try:
        values = [float(word) for word in words[:count]]
    except ValueError:
        values = []
    # Squares of larger numbers would overflow.
    if len(values) != count or not all(abs(value) < 1e9 for value in values):
        raise FormatError(
            f"{path}, line {number}: {' '.join(words)[:40]!a}, expected {count} finite numbers; the file is damaged"
        )
    return np.array(values)


def _in_order(path: Path, bones: dict[str, _Bone], links: list[tuple[int, str, list[str]]]) -> list[_Bone]:
    """Return the bones that hang on the root, parents first."""
    children: dict[str, list[str]] = {}
    above: dict[str, str] = {}
    for number, parent, names in links:
        for name in (parent, *names):
            if name not in bones:
                raise FormatError(f"{path}, line {number}: no bone {name[:40]!a}; the file is damaged")
        for name in names:
            if name in above or name == "root":
                raise FormatError(
                    f"{path}, line {number}: bone {name[:40]!a} has two parents, or is the root's"
                )
            above[name] = parent
        children.setdefault(parent, []).extend(names)
    out, waiting = [bones["root"]], [(0, "root")]
    while waiting:
        index, name = waiting.pop()
        for child in children.get(name, []):
            bones[child].parent = index
            waiting.append((len(out), child))
            out.append(bones[child])
    if len(out) != len(bones):
        lost = sorted(set(bones) - {bone.name for bone in out})
        raise FormatError(
            f"{path}: bones {', '.join(lost)[:100]!a} do not hang on the root; the hierarchy has a cycle or a gap"
        )
    return out


def _frames(path: Path, skeleton: _Skeleton) -> tuple[int, bool, dict[str, np.ndarray]]:
    """Return the number of frames, whether angles are in degrees, and the (T, channels) numbers of each bone that moves."""
    widths = {bone.name: len(bone.channels) for bone in skeleton.bones}
    numbers = {name: array("d") for name, width in widths.items() if width}
    frames, degrees = 0, skeleton.degrees
    for number, words in _lines(path, _MAX_BYTES):
        if words[0].startswith(":"):
            if words[0].upper() in (":DEGREES", ":RADIANS"):
                degrees = words[0].upper() == ":DEGREES"
        elif len(words) == 1 and re.fullmatch(r"\d{1,9}", words[0]):
            if frames:
                _check_frame(path, number, frames, widths, numbers)
            frames += 1
        else:
            _add(path, number, words, frames, widths, numbers, skeleton.path)
    if not frames:
        raise FormatError(f"{path}: has no frame; the file is truncated or not an AMC")
    _check_frame(path, number, frames, widths, numbers)
    given = {name: values for name, values in numbers.items() if values}
    still = sorted(set(numbers) - set(given))
    if still and (frames == 1 or len(still) > len(given)):
        raise FormatError(
            f"{path}: has no angles of {', '.join(still)[:200]}; the file is truncated, or of another subject"
        )
    if still:
        log.warning("%s: has no angles of %s, which stay as at rest", path, ", ".join(still))
    return frames, degrees, {n: np.array(v).reshape(frames, widths[n]) for n, v in given.items()}


def _add(
    path: Path,
    number: int,
    words: list[str],
    frames: int,
    widths: dict[str, int],
    numbers: dict[str, array[float]],
    skeleton: Path,
) -> None:
    """Add the line of one bone."""
    name = words[0]
    if not frames or name not in widths:
        what = "before the first frame" if name in widths else f"no bone of {skeleton.name}"
        raise FormatError(
            f"{path}, line {number}: {name[:40]!a} is {what}; the file is damaged, or of another subject"
        )
    try:
        values = [float(word) for word in words[1:]]
    except ValueError:
        values = [math.nan]
    if len(values) != widths[name] or not all(abs(value) < 1e9 for value in values):
        raise FormatError(
            f"{path}, line {number}: {' '.join(words)[:60]!a}, expected {widths[name]} finite numbers as in {skeleton.name}"
        )
    if values:
        numbers[name].extend(values)


def _check_frame(
    path: Path, number: int, frames: int, widths: dict[str, int], numbers: dict[str, array[float]]
) -> None:
    """Refuse a frame in which a bone that others have is missing or there twice."""
    for name, values in numbers.items():
        if len(values) != frames * widths[name] and (values or name == "root"):
            raise FormatError(
                f"{path}, line {number}: before this line bone {name[:40]!a} has {len(values) // widths[name]} poses in "
                f"{frames} frames; the file is truncated or damaged"
            )
