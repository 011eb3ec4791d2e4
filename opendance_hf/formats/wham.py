"""Read what WHAM estimates from a video (Shin et al., CVPR 2024): ``wham_output.pkl``, y up, metres.

The file is a dictionary that ``joblib.dump`` wrote, by person: ``pose_world`` (T, 72) and ``trans_world`` (T, 3) in a world
of this person, ``pose`` (T, 72) and ``trans`` (T, 3) in the camera, ``betas`` (T, 10), ``verts`` (T, 6890, 3) and
``frame_ids`` (T,), the frames of the video. It has no frame rate, which is that of the video. Source:
github.com/yohanshin/WHAM, MIT licence, ``demo.py`` (the file; ``return_y_up=True``) and ``lib/vis/run_vis.py``.

Several persons are dancers of one motion, over the longest span in which all are there. Each has a world of their own, with
the same vertical: in the first frame of the span the camera tells where they are, and they are turned about the vertical
and moved accordingly. :func:`read_people` reads ``pose`` and ``trans`` instead, which share the camera. Its focal length is
not in the file: without ``--calib`` it is the diagonal of the picture (``lib/utils/imutils.py``, ``compute_cam_intrinsics``).

Shape (``betas``) is not read: joints are those of the mean skeleton. No code of the file runs.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from opendance_hf.formats import FormatError
from opendance_hf.formats.body import (
    REST_PELVIS,
    Floats,
    body_poses,
    given_rate,
    load_pickle,
    make_motion,
    other_content,
    real_array,
)
from opendance_hf.formats.motion import Motion
from opendance_hf.formats.people import People, check_length, make_person
from opendance_hf.motion.rotations import axis_angle_to_matrix, matrix_to_axis_angle

KEYS: Final = ("pose_world", "trans_world", "pose", "trans", "frame_ids")
#: Vertices take 2.5 MB a second and person.
_MAX_BYTES: Final = 2**30
#: A person who is there for less than this is not a dancer, seconds.
_MIN_SECONDS: Final = 1.0

log = logging.getLogger(__name__)


def recognises(content: dict[str, Any]) -> bool:
    """Return True for the content of a file of WHAM."""
    persons = [person for person in content.values() if isinstance(person, dict) and set(KEYS) <= set(person)]
    return bool(persons) and len(persons) == len(content)


def read(path: Path, *, fps: float | None = None) -> Motion:
    """Read the persons of a video; ``meta["id"]`` is the file's stem, or the folder's name for ``wham_output.pkl``.

    Args:
        path: the file.
        fps: frames per second of the video; must be given.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, holds anything but arrays and plain values, no rate is given, or its persons
            are never there together.
    """
    content = load_pickle(path, max_bytes=_MAX_BYTES)
    if not recognises(content):
        raise other_content(path, content, f"persons with {', '.join(KEYS)}, as WHAM saves them")
    rate = given_rate(path, fps, "WHAM")
    persons = {name: _person(path, name, values) for name, values in content.items()}
    kept = {n: p for n, p in persons.items() if len(p["frame_ids"]) >= _MIN_SECONDS * rate} or persons
    if left := sorted(set(persons) - set(kept)):
        log.warning(
            "%s: persons %s are there for less than %g s and left out", path, ", ".join(left), _MIN_SECONDS
        )
    span = _longest_run(
        np.array(sorted(set.intersection(*(set(p["frame_ids"].tolist()) for p in kept.values()))))
    )
    if not len(span):
        raise FormatError(
            f"{path}: its {len(kept)} persons are never in the picture together; are they one dancer with several names? "
            "Save them to a file each, and convert those"
        )
    longest = max(len(person["frame_ids"]) for person in kept.values())
    log.info(
        "%s: read as WHAM: %d dancer(s), frames %d to %d of %d, %g FPS, y up, metres, on the mean skeleton",
        path, len(kept), span[0], span[-1], longest, rate,
    )  # fmt: skip
    cut = [_cut(person, span) for person in kept.values()]
    placed = [_placed(person, cut[0]) for person in cut]
    poses = np.stack([body_poses(path, "pose_world", pose) for pose, _ in placed])
    name = path.parent.name if path.stem == "wham_output" and path.parent.name else path.stem
    transl = np.stack([transl for _, transl in placed])
    return make_motion(path, poses, transl, rate, up="y", asked=False, body="smpl", meta={"id": name})


def read_people(path: Path) -> People:
    """Read the persons of a video in the frame of the camera.

    Raises:
        FileNotFoundError: if the file does not exist.
        FormatError: if it is not such a file, holds anything but arrays and plain values, or numbers that are not a body.
    """
    content = load_pickle(path, max_bytes=_MAX_BYTES)
    if not recognises(content):
        raise other_content(path, content, f"persons with {', '.join(KEYS)}, as WHAM saves them")
    pelvis = np.array(REST_PELVIS["smpl"])
    found = []
    for name, values in content.items():
        check_length(path, np.size(values["frame_ids"]))
        person = _person(path, name, values)
        rotations = axis_angle_to_matrix(body_poses(path, f"pose of person {name}", person["pose"]))
        found.append(make_person(path, name, person["frame_ids"], rotations, person["trans"] + pelvis))
    return People(tuple(found))


def _person(path: Path, name: str, values: dict[str, Any]) -> dict[str, Floats]:
    """Return the arrays of one person, with all their frames in order."""
    arrays = {key: real_array(path, f"{key} of person {name}", values[key]) for key in KEYS}
    frames = arrays["frame_ids"].reshape(-1)
    for key in KEYS[:-1]:
        width = 72 if key.startswith("pose") else 3
        if arrays[key].shape != (len(frames), width):
            raise FormatError(
                f"{path}: {key} of person {name} has the shape {arrays[key].shape}, expected ({len(frames)}, {width})"
            )
    if not len(frames) or (np.diff(frames) <= 0).any():
        raise FormatError(f"{path}: frame_ids of person {name} are not ascending numbers of frames")
    return {**arrays, "frame_ids": frames.astype(np.int64)}


def _longest_run(frames: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the longest run of consecutive numbers."""
    runs = np.split(frames, np.flatnonzero(np.diff(frames) != 1) + 1)
    return max(runs, key=len)


def _cut(person: dict[str, Floats], span: npt.NDArray[np.int64]) -> dict[str, Floats]:
    start = int(np.searchsorted(person["frame_ids"], span[0]))
    return {key: person[key][start : start + len(span)] for key in KEYS}


def _placed(person: dict[str, Floats], first: dict[str, Floats]) -> tuple[Floats, Floats]:
    """Return the poses and translations of a person in the world of the first, by their places in the camera's frame."""
    pose, transl = person["pose_world"].copy(), person["trans_world"]
    if person is first:
        return pose, transl
    roots = {
        key: axis_angle_to_matrix(pose_of[0, :3])
        for key, pose_of in (
            ("camera", person["pose"]),
            ("own", person["pose_world"]),
            ("first camera", first["pose"]),
            ("first world", first["pose_world"]),
        )
    }
    from_camera = roots["first world"] @ roots["first camera"].T
    turn = from_camera @ roots["camera"] @ roots["own"].T
    # Both worlds have the same vertical, so only the turn about it is taken.
    angle = np.arctan2(turn[0, 2] - turn[2, 0], turn[0, 0] + turn[2, 2])
    about_y = axis_angle_to_matrix(np.array([0.0, angle, 0.0]))
    pose[:, :3] = matrix_to_axis_angle(about_y @ axis_angle_to_matrix(pose[:, :3]))
    start = first["trans_world"][0] + from_camera @ (person["trans"][0] - first["trans"][0])
    return pose, (transl - transl[0]) @ about_y.T + start
