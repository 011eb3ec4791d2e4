"""Read whom 4DHumans (Goel et al., ICCV 2023) found in a video: ``demo_*.pkl`` of its tracker PHALP, metres.

The file is a dictionary that ``joblib.dump(compress=3)`` wrote, by frame, with lists over the people: ``tid`` (number of the
person), ``tracked_time`` (0 where the person is seen in this frame; otherwise the values are repeated), ``smpl`` with
``global_orient`` (1, 3, 3) and ``body_pose`` (23, 3, 3) as matrices, ``camera`` (3,), SMPL's translation before a camera with
a focal length of 5000 pixels over a picture of 256 that holds the whole frame as a square, and ``size`` (height, width) of the
frame. Source: github.com/brjathu/PHALP, MIT licence, ``phalp/trackers/PHALP.py`` (``track``, ``get_human_features``) and
``phalp/models/hmar/hmar.py`` (``get_3d_parameters``).

With this focal length people are far away: the place in the picture and the size are right, and depth has to be scaled by the
ratio of focal lengths. Shape (``betas``) is not read: joints are those of the mean skeleton, in the size that ``3d_joints``
(45, 3) shows, whose first 25 are in OpenPose's order (``phalp/utils/smpl_utils.py``). No code of the file runs.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import REST_PELVIS, Floats, other_content, real_array
from opendance_hf.formats.people import People, make_person
from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS
from opendance_hf.pickles import PickleError, load_pickled_arrays

KEYS: Final = ("tid", "tracked_time", "smpl", "camera", "size")
#: Appearance and masks take some 100 kB a second and person, compressed.
_MAX_BYTES: Final = 2**30
#: One person in one frame takes about 300.
_MAX_INSTRUCTIONS: Final = 20_000_000
_FOCAL_PX: Final = 5000 / 256
_JOINTS: Final = "3d_joints"
#: Upper arms, forearms and shins: ends among the 3D joints, and the joint of the mean skeleton at the far end. Hips are left
#: out, as they may be moved towards those of other data sets.
_BONES: Final = (
    (2, 3, "right_elbow"), (3, 4, "right_wrist"), (5, 6, "left_elbow"), (6, 7, "left_wrist"),
    (10, 11, "right_ankle"), (13, 14, "left_ankle"),
)  # fmt: skip
_MEAN_LENGTH: Final = sum(float(np.linalg.norm(MEAN_OFFSETS[JOINT_INDEX[name]])) for _, _, name in _BONES)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a file of PHALP."""
    return bool(content) and all(isinstance(row, dict) and set(KEYS) <= set(row) for row in content.values())


def load(path: Path) -> dict[str, Any]:
    """Read the dictionary of a file.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it holds anything but arrays and plain values.
    """
    try:
        return load_pickled_arrays(path, max_bytes=_MAX_BYTES, max_instructions=_MAX_INSTRUCTIONS)
    except PickleError as error:
        raise FormatError(str(error)) from None


def read_people(path: Path) -> People:
    """Read the people of a video in the frame of the tool's camera.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, holds anything but arrays and plain values, or numbers that are not a body.
    """
    content = load(path)
    if not recognises(content):
        raise other_content(path, list(content)[:5], f"frames with {', '.join(KEYS)}, as PHALP saves them")
    rows: dict[str, list[tuple[int, Floats, Floats, float]]] = defaultdict(list)
    sizes: set[tuple[float, ...]] = set()
    for number, (name, frame) in enumerate(content.items()):
        for person, seen in _people_of(path, name, frame).items():
            rows[person].append((number, seen.rotations, seen.camera, seen.body_size))
            sizes.add(seen.picture_size)
    if len(sizes) > 1:
        raise FormatError(f"{path}: frames of several sizes, {sorted(sizes)[:2]}")
    height_px, width_px = next(iter(sizes), (1.0, 1.0))
    if not min(height_px, width_px) > 0:
        raise FormatError(f"{path}: frames of {width_px:g} x {height_px:g} pixels")
    pelvis = np.array(REST_PELVIS["smpl"])
    persons = []
    for person, values in sorted(rows.items(), key=lambda item: (len(item[0]), item[0])):
        numbers, rotations, cameras, body_sizes = (np.array(column) for column in zip(*values, strict=True))
        size = float(np.median(body_sizes))
        persons.append(make_person(path, person, numbers, rotations, cameras + size * pelvis, size))
    focal_px = _FOCAL_PX * max(height_px, width_px)
    return People(tuple(persons), len(content), focal_px, width_px if persons else None)


class _Seen(NamedTuple):
    """One person in one frame: (24, 3, 3) rotations, (3,) camera, height and width of the picture, size of the body."""

    rotations: Floats
    camera: Floats
    picture_size: tuple[float, ...]
    body_size: float


def _people_of(path: Path, name: str, frame: dict[str, Any]) -> dict[str, _Seen]:
    """Return the people who are seen in a frame, by number."""
    where = f"of frame {ascii(name)[1:-1][-40:]}"
    keys = (*KEYS, _JOINTS) if _JOINTS in frame else KEYS
    lists = [frame[key] for key in keys]
    if not all(isinstance(values, list) for values in lists) or len({len(values) for values in lists}) > 1:
        raise FormatError(f"{path}: {', '.join(keys)} {where} are not lists of the same length")
    out: dict[str, _Seen] = {}
    for person, unseen, smpl, camera, size, *joints in zip(*lists, strict=True):
        if unseen:
            continue
        if not isinstance(person, int):
            raise FormatError(f"{path}: a person {where} has no number")
        if str(person) in out:
            continue
        parts = (
            [smpl.get(key) for key in ("global_orient", "body_pose")] if isinstance(smpl, dict) else [None]
        )
        matrices = [real_array(path, f"smpl {where}", part) for part in parts]
        place = real_array(path, f"camera {where}", camera)
        shape = real_array(path, f"size {where}", np.array(size) if isinstance(size, list | tuple) else size)
        points = [real_array(path, f"{_JOINTS} {where}", value) for value in joints]
        if (
            [part.size for part in matrices] != [9, 23 * 9]
            or (place.size, shape.size) != (3, 2)
            or any(value.shape != (45, 3) for value in points)
        ):
            raise FormatError(f"{path}: {', '.join(keys[2:])} {where} have other shapes than those of PHALP")
        rotations = np.concatenate([part.reshape(-1, 3, 3) for part in matrices])
        body_size = _body_size(points[0]) if points else 1.0
        out[str(person)] = _Seen(rotations, place.reshape(3), tuple(shape.reshape(2).tolist()), body_size)
    return out


def _body_size(joints: Floats) -> float:
    """Return the length of the limbs of (45, 3) joints relative to the mean skeleton's."""
    lengths = [np.linalg.norm(joints[a] - joints[b]) for a, b, _ in _BONES]
    return float(np.sum(lengths) / _MEAN_LENGTH)
