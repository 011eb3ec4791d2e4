"""Read and write the ``.npz`` files of OpenDance-HF: sequences (``BUILD/sequences``) and generated or converted dances.

A dance has ``joints`` (T, 24, 3) or (D, T, 24, 3) in metres, y up. Optional are ``smpl_pose`` (D, T, 24, 3),
``smpl_transl`` (D, T, 3), ``rest_offsets`` (D, 24, 3), ``smpl_betas`` (D, 10), ``confidence`` (D, T), ``music_beats``
(frame indices), ``fps`` (60 by default), ``ground`` (its height), ``id``, ``group`` (the song), ``licence`` (its terms) and
``start_s`` (in its source) and ``song_start_s`` (in its song, if that is another file). A sequence has the columns of :mod:`opendance_hf.schema`. :func:`write` writes dances only.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.files import atomic_write
from opendance_hf.formats import FormatError
from opendance_hf.formats.archives import DAMAGED, Member, cause, check_members, is_array_file, read_member
from opendance_hf.formats.motion import Motion, check_input, check_suffix
from opendance_hf.motion.skeleton import JOINT_INDEX, NUM_JOINTS
from opendance_hf.schema import BETAS_DIM, COLUMNS, FPS, DanceSequence, SchemaError, per_dancer
from opendance_hf.storage import load_sequence
from opendance_hf.terms import terms_of

#: Suffix of the files that are written.
SUFFIX: Final = ".npz"
#: Maximum unpacked size of the arrays of a dance, bytes, since a few kilobytes can unpack to any size. An hour of two
#: dancers in float64 has 510 MB. A sequence has more arrays.
MAX_UNPACKED: Final = 640 * 1024**2
MAX_UNPACKED_SEQUENCE: Final = 1024**3
#: Members of a dance. ``music_beats`` excludes booleans: a mask of frames is not accepted.
MEMBERS: Final[dict[str, Member]] = {
    "joints": Member("iuf", "real numbers, the joints in metres"),
    "smpl_pose": Member("iuf", "real numbers, the angles in radians"),
    "smpl_transl": Member("iuf", "real numbers, metres"),
    "rest_offsets": Member("iuf", "real numbers, metres"),
    "smpl_betas": Member("iuf", "real numbers"),
    "confidence": Member("iuf", "real numbers from 0 to 1"),
    "music_beats": Member("iuf", "numbers, the frame indices of the beats (of a mask, numpy.flatnonzero)"),
    "fps": Member("iuf", "one number, the frames a second", single=True),
    "ground": Member("iuf", "one number, the height of the ground in metres", single=True),
    "id": Member("Uiu", "one text, the name of the dance", single=True),
    "group": Member("Uiu", "one text, the name of the song", single=True),
    "licence": Member("U", "one text, the terms of the motion", single=True),
    "start_s": Member("iuf", "one number, the start in the source in seconds", single=True),
    "song_start_s": Member("iuf", "one number, the start in the song in seconds", single=True),
}
#: Names of the arrays in files, and of the fields of a motion.
_NAMES: Final = {
    "smpl_pose": "poses",
    "smpl_transl": "transl",
    "rest_offsets": "rest_offsets",
    "smpl_betas": "betas",
    "confidence": "confidence",
}
_META: Final = ("id", "group", "ground", "licence", "start_s", "song_start_s")
#: A smaller distance from pelvis to head means that the unit is not metres.
_MIN_TORSO_M: Final = 0.05


def is_opendance_file(path: Path) -> bool:
    """Return whether a file is a sequence or a dance of OpenDance-HF, by the names in its archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not {"joints.npy", "provenance.npy"}.isdisjoint(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def read(path: Path) -> Motion:
    """Read a sequence or a dance.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is damaged, too large, or neither.
    """
    check_input(path, MAX_UNPACKED_SEQUENCE)
    try:
        if not zipfile.is_zipfile(path):
            found = "a single .npy array" if is_array_file(path) else "not an .npz archive"
            raise FormatError(
                f"{path}: {found}; expected an .npz file with an array 'joints' (T, 24, 3) in metres (numpy.savez)"
            )
        return _read(path)
    except (FormatError, FileNotFoundError):
        raise
    except DAMAGED as error:
        text = str(error)
        raise FormatError(text if text.startswith(str(path)) else f"{path}: {cause(error)}") from None


def _read(path: Path) -> Motion:
    with zipfile.ZipFile(path) as archive:
        names = [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]
        if "provenance" not in names:
            wanted = [name for name in MEMBERS if name in names]
            if "joints" not in wanted:
                raise FormatError(f"{path}: the array 'joints' is missing")
            check_members(path, archive, {name: MEMBERS[name] for name in wanted}, MAX_UNPACKED)
            arrays = {name: read_member(archive, name) for name in wanted}
        else:
            # Types of the other members are checked by the schema.
            numbers_or_text = Member("biufU", "numbers or text")
            members = {name: MEMBERS.get(name, numbers_or_text) for name in names}
            check_members(path, archive, members, MAX_UNPACKED_SEQUENCE)
            arrays = {}
    try:
        return _dance(arrays) if arrays else motion_of(load_sequence(path))
    except (FormatError, SchemaError) as error:
        raise FormatError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


#: Columns of a sequence that :func:`motion_of` reads beside its joints.
_ARRAYS: Final = ("smpl_pose", "smpl_transl", "rest_offsets", "smpl_betas", "confidence", "music_beats")


def motion_of(seq: DanceSequence) -> Motion:
    """Return the motion of a sequence.

    Raises:
        FormatError: if the shape of its joints does not match its number of dancers, or another array has too few or too many axes.
    """
    count, joints = seq.num_dancers, seq.joints
    if type(count) is not int or count < 1 or joints.shape != (len(joints), count * NUM_JOINTS * 3):
        raise FormatError(
            f"joints have the shape {joints.shape}, which does not match num_dancers {ascii(count)[:20]}: expected (T, "
            f"num_dancers * 72); write the file again with opendance_hf.storage.save_sequence"
        )
    for name in _ARRAYS:
        value, axes = getattr(seq, name), len(COLUMNS[name].shape)
        if value is not None and value.ndim != axes:
            raise FormatError(f"'{name}' has the shape {value.shape}, expected {axes} axes")
    return Motion(
        per_dancer(joints, count, NUM_JOINTS, 3),
        float(seq.fps),
        poses=per_dancer(seq.smpl_pose, count, NUM_JOINTS, 3),
        transl=per_dancer(seq.smpl_transl, count, 3),
        rest_offsets=per_dancer(seq.rest_offsets, count, NUM_JOINTS, 3),
        betas=None if seq.smpl_betas is None else per_dancer(seq.smpl_betas, count, BETAS_DIM),
        confidence=per_dancer(seq.confidence, count),
        meta={
            "id": str(seq.id),
            "group": str(seq.group),
            "ground": 0.0,
            **({"music_beats": tuple(seq.music_beats.tolist())} if seq.has_music else {}),
            "licence": terms_of(seq.provenance.licence),
            "start_s": seq.provenance.start_s,
            **({} if (song_s := seq.provenance.song_start_s) is None else {"song_start_s": song_s}),
        },
    )


def _dance(arrays: dict[str, np.ndarray]) -> Motion:
    joints = arrays["joints"]
    joints = joints[None] if joints.ndim == 3 else joints
    if joints.ndim != 4:
        raise FormatError(
            f"'joints' has shape {arrays['joints'].shape}, expected (T, 24, 3) or (D, T, 24, 3)"
        )
    shapes = {
        "smpl_pose": joints.shape,
        "smpl_transl": (*joints.shape[:2], 3),
        "rest_offsets": (len(joints), NUM_JOINTS, 3),
        "smpl_betas": (len(joints), BETAS_DIM),
        "confidence": joints.shape[:2],
    }
    for name in shapes.keys() & arrays.keys():
        # The axis of the dancers may be missing in a solo, and the numbers of joints may be flat.
        if arrays[name].size == np.prod(shapes[name]):
            arrays[name] = arrays[name].reshape(shapes[name])
    if arrays.get("music_beats", np.zeros(0)).ndim != 1:
        raise FormatError(f"'music_beats' has shape {arrays['music_beats'].shape}, expected (B,) frames")
    meta: dict[str, Any] = {name: arrays[name].reshape(()).item() for name in _META if name in arrays}
    meta |= {name: str(meta[name]) for name in ("id", "group") if name in meta}
    if "music_beats" in arrays:
        meta["music_beats"] = tuple(arrays["music_beats"].tolist())
    motion = Motion(
        joints,
        float(arrays["fps"].reshape(()).item()) if "fps" in arrays else float(FPS),
        **{_NAMES[name]: arrays[name] for name in shapes.keys() & arrays.keys()},
        meta=meta,
    )
    torso = motion.joints[:, :, JOINT_INDEX["head"]] - motion.joints[:, :, JOINT_INDEX["pelvis"]]
    smallest = float(np.median(np.linalg.norm(torso, axis=-1), axis=1).min())
    # A distance of 0 is not a wrong unit: a bad model may put all joints at one point.
    if 1e-6 < smallest < _MIN_TORSO_M:
        raise FormatError(f"joints must be in metres, but the distance from pelvis to head is {smallest:.3g}")
    return motion


def write(motion: Motion, path: Path) -> list[Path]:
    """Write a dance, all dancers in one file, with what :data:`MEMBERS` has of ``meta``.

    Raises:
        FormatError: if ``path`` does not end in ``.npz``.
        OSError: if the file cannot be written.
    """
    check_suffix(path, ".npz")
    arrays: dict[str, Any] = {"joints": motion.joints, "fps": np.float64(motion.fps)}
    arrays |= {name: getattr(motion, attribute) for name, attribute in _NAMES.items()}
    arrays |= {name: motion.meta.get(name) for name in (*_META, "music_beats")}
    with atomic_write(path) as partial, partial.open("wb") as file:
        np.savez(
            file, allow_pickle=False, **{name: value for name, value in arrays.items() if value is not None}
        )
    return [path]
