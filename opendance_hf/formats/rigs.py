"""Name the joints of skeletons of other tools: which of their bones is which joint of SMPL, and how they rest.

A rig is a YAML file in ``rigs/``, or the user's (``--names FILE``); all fields but ``joints`` are optional::

    rest: T                 # or A: the rest pose that the tool expects
    axes: mixamo            # how bones are oriented at rest, a key of BONE_AXES; the axes of the world if absent
    prefix: "mixamorig:"    # before the names that are written; names that are read may have any, up to the last colon
    root: root              # a bone at the origin, above the pelvis
    between: {spine_02: [spine_01, spine_03]}   # bones halfway between two others
    joints:
      pelvis: Hips          # joint of SMPL: bone, null if there is none; a list has alternatives in order of preference
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml

from opendance_hf.errors import one_line, shown
from opendance_hf.formats import FormatError
from opendance_hf.motion.skeleton import JOINT_NAMES
from opendance_hf.plain_yaml import PlainYAMLError, load_yaml

_FOLDER: Final = Path(__file__).with_name("rigs")
#: Names of the tables in the package; files with all of them are read.
NAMES: Final[tuple[str, ...]] = tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))
#: Rigs for ``opendance export --rig``: the names with which dances are written too.
RIGS: Final[tuple[str, ...]] = ("smpl", "mixamo", "ue5", "unity", "vrm")
_MAX_BYTES: Final = 100_000
#: The time that PyYAML takes grows with the square of open lists: 9,000 take a minute.
_MAX_LISTS: Final = 200


@dataclass(frozen=True)
class NameTable:
    """Names of the bones of a skeleton, see the module.

    Attributes:
        name: of the table.
        joints: alternatives by joint of SMPL; none for a joint that the skeleton lacks.
        rest: T or A, the rest pose with which it is written.
        axes: key of :data:`opendance_hf.formats.rigged.BONE_AXES`, empty for the axes of the world.
        prefix: before the names that are written.
        root: name of a bone at the origin, empty if there is none.
        between: names of bones halfway between two others.
    """

    name: str
    joints: Mapping[str, tuple[str, ...]]
    rest: str = "T"
    axes: str = ""
    prefix: str = ""
    root: str = ""
    between: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def find(self, path: Path, names: Sequence[str], needed: Sequence[str] = ()) -> list[list[int]]:
        """Return the indices of the alternatives of SMPL's 24 joints in the names of a skeleton, none for those that it lacks.

        Raises:
            FormatError: if a needed joint is not there.
        """
        at: dict[str, int] = {}
        for index, name in enumerate(names):
            at.setdefault(_bare(name), index)
        found = [[at[_bare(n)] for n in self.joints[joint] if _bare(n) in at] for joint in JOINT_NAMES]
        lacking = [name for name in needed if not found[JOINT_NAMES.index(name)]]
        if lacking:
            wanted = ", ".join("/".join(self.joints[name]) or name for name in lacking)
            raise FormatError(
                f"{path}: the joints {', '.join(lacking)} are missing: no {wanted} (names of {self.name}) among {_shown(names)}"
            )
        return found


def _bare(name: str) -> str:
    """Return a name without the prefix of its namespace, in lower case."""
    return name.rsplit(":", 1)[-1].strip().lower()


def _shown(names: Sequence[str]) -> str:
    return ascii(", ".join(names)[:300])[1:-1]


@cache
def names_of(name: str) -> NameTable:
    """Return a table of the package.

    Raises:
        FormatError: if there is no such table.
    """
    if name not in NAMES:
        raise FormatError(f"unknown names {name!r}: expected one of {', '.join(NAMES)}, or a YAML file")
    return load_names(_FOLDER / f"{name}.yaml")


def load_names(path: Path) -> NameTable:
    """Read a table of names.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: naming the file and what is wrong in it.
    """
    size = path.stat().st_size
    if size > _MAX_BYTES:
        raise FormatError(f"{path}: {size:,} bytes, expected a table of names of at most {_MAX_BYTES:,}")
    try:
        text = path.read_text(encoding="utf-8")
        if text.count("[") + text.count("{") > _MAX_LISTS:
            raise FormatError(f"{path}: expected a table of names, with at most {_MAX_LISTS} lists")
        if any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text)):
            # A few bytes with them stand for a huge list.
            raise FormatError(f"{path}: has a YAML alias (*name); write the names out")
        content = load_yaml(text)
    except (PlainYAMLError, yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: not YAML ({one_line(error)})") from None
    if not isinstance(content, dict) or not isinstance(content.get("joints"), dict):
        raise FormatError(
            f"{path}: expected 'joints:' with a name for each joint of SMPL, such as 'pelvis: Hips'"
        )
    known = {"joints", "rest", "axes", "prefix", "root", "between"}
    unknown = [shown(key) for key in content if key not in known]
    unknown += [f"joint {shown(key)}" for key in content["joints"] if key not in JOINT_NAMES]
    if unknown:
        raise FormatError(f"{path}: unknown {', '.join(unknown[:9])}; joints are {', '.join(JOINT_NAMES)}")
    joints = {joint: _alternatives(path, joint, content["joints"].get(joint)) for joint in JOINT_NAMES}
    if content.get("rest", "T") not in ("T", "A"):
        raise FormatError(f"{path}: rest is {shown(content['rest'])}, expected T or A")
    between = content.get("between") or {}
    if not isinstance(between, dict) or not all(
        isinstance(ends, list) and len(ends) == 2 and all(isinstance(end, str) for end in ends)
        for ends in between.values()
    ):
        raise FormatError(f"{path}: between is {ascii(between)[:60]}, expected bones with two others each")
    between = {str(name): tuple(ends) for name, ends in between.items()}
    texts = {name: str(content.get(name) or "") for name in ("axes", "prefix", "root")}
    return NameTable(path.stem, joints, rest=content.get("rest", "T"), between=between, **texts)


def _alternatives(path: Path, joint: str, value: Any) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [] if value is None else [value]
    if not all(isinstance(name, str) for name in values):
        raise FormatError(
            f"{path}: {joint} is {shown(value)}, expected the name of a bone, a list of names, or null"
        )
    return tuple(values)


def table_of(names: str | Path | None) -> NameTable | None:
    """Return the table that ``--names`` gives: a name of :data:`NAMES`, a YAML file, or None.

    Raises:
        FormatError: if it is neither.
    """
    if names is None:
        return None
    if str(names) in NAMES:
        return names_of(str(names))
    path = Path(names)
    if not path.is_file():
        raise FormatError(
            f"{path}: no such table of names: expected one of {', '.join(NAMES)}, or a YAML file"
        )
    return load_names(path)


def detect_names(path: Path, names: Sequence[str]) -> NameTable:
    """Return the table of the package that has most of a skeleton's names.

    Raises:
        FormatError: if none fits; the message says how to give one.
    """

    def fit(table: NameTable) -> tuple[bool, int, int]:
        found = table.find(path, names)
        # Hands and toes may be left out.
        tips = {"left_hand", "right_hand", "left_foot", "right_foot"}
        wanted = [joint for joint in JOINT_NAMES if table.joints[joint] and joint not in tips]
        whole = all(found[JOINT_NAMES.index(joint)] for joint in wanted)
        count = len({alternatives[0] for alternatives in found if alternatives})
        spare = sum(map(len, table.joints.values())) - sum(map(len, found))
        return whole, count, -spare

    best = max((names_of(name) for name in NAMES), key=fit)
    if not fit(best)[0]:
        raise FormatError(
            f"{path}: the joints have the names of no known skeleton ({', '.join(NAMES)}): {_shown(names)}. Write a table of "
            "names and give it with --names FILE.yaml:\njoints:\n  pelvis: ...\n  left_hip: ..."
        )
    return best


def check_rig(name: str) -> NameTable:
    """Return the rig of a name.

    Raises:
        FormatError: if it is unknown.
    """
    if name not in RIGS:
        raise FormatError(f"unknown rig {name!r}: expected one of {', '.join(RIGS)}")
    return names_of(name)
