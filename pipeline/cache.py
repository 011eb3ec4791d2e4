"""Cache the results of stages on disk, so that a build resumes and a changed threshold re-runs only the stages after it.

A result is stored under a key: the digest of the clip's key and of the stage with its fields. A clip's key covers the
video's content, all earlier stages and the repairs that they applied, so a cached result is used only if nothing it
depends on has changed. Of each clip only the fields that the stage changed are stored, as arrays in one ``.npz`` file.
Nothing is pickled.
"""

from __future__ import annotations

import json
import logging
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from opendance_hf.files import atomic_write
from opendance_hf.pipeline.arrays import load_arrays, save_arrays
from opendance_hf.pipeline.clip import (
    Bodies,
    CameraMotion,
    CameraPath,
    Clip,
    Detections,
    ExpectedErrors,
    Fit,
    FoundPeople,
    Landmarks,
    Motion,
    Pins,
    Repair,
    Tracks,
    VideoInfo,
)
from opendance_hf.pipeline.config import digest
from opendance_hf.pipeline.stage import Dropped, Rejected, Stage
from opendance_hf.schema import Camera

_log = logging.getLogger(__name__)

_CLASSES: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        Bodies,
        Camera,
        CameraMotion,
        CameraPath,
        Detections,
        Dropped,
        ExpectedErrors,
        Fit,
        FoundPeople,
        Landmarks,
        Motion,
        Pins,
        Repair,
        Tracks,
        VideoInfo,
    )
}
#: Fields of a clip that are not results.
_NOT_RESULTS: Final = {"path", "sha256", "key", "number", "job", "backends"}
#: Fields that are mappings; only items that a stage adds are stored.
_MAPPINGS: Final = ("columns", "scores")
_STRUCTURE: Final = "structure"
_USED_FILE: Final = "used.json"


class Cache:
    """Cached results of one video.

    Args:
        build: the build folder.
        sha256: hash of the video's content.
        check_source: called before a result is kept; raises if the video's file has other content now.
    """

    def __init__(self, build: Path, sha256: str, check_source: Callable[[], object] = lambda: None) -> None:
        self._build, self._check_source = build, check_source
        self._folder = build / "work" / sha256[:16]
        self._used: dict[str, list[str]] = {}

    def run(self, stage: Stage, clip: Clip) -> tuple[list[Clip | Dropped], bool]:
        """Return the results of a stage for a clip, from the cache if possible.

        Returns:
            The results: clips with their keys and provenance, and dropped spans; and True if they were computed, False
            if they came from the cache.
        """
        # Without settings of its own, a clip has the same key as before it had any.
        own = stage.item_settings(clip)
        key = digest(clip.key, stage.fingerprinted(), *([own] if own else []))
        file = self._folder / f"{stage.name}-{key}.npz"
        if stage.keeps_result:
            self._used.setdefault(stage.name, []).append(file.name)
        written = [self._build / name.format(id=clip.id) for name in stage.files]
        stamps = [self._build / "work" / "written" / path.relative_to(self._build) for path in written]
        current = all(_is_current(path, stamp, key) for path, stamp in zip(written, stamps, strict=True))
        cached = _load_if_readable(file, clip) if current else None
        if cached is not None:
            return _with_identity(stage, clip, cached, key), False
        for stamp in stamps:
            stamp.unlink(missing_ok=True)
        results = _call(stage, clip)
        self._check_source()
        for stamp in stamps:
            with atomic_write(stamp) as part:
                part.write_text(key)
        if stage.keeps_result:
            _save(file, clip, results)
            # Read back, so that a resumed run continues from exactly the same numbers.
            results = _load(file, clip)
        return _with_identity(stage, clip, results, key), True

    def close(self) -> None:
        """Write the names of the results that were used, for :func:`latest_results`."""
        with atomic_write(self._folder / _USED_FILE) as part:
            part.write_text(json.dumps(self._used))


def latest_results(build: Path, sha256: str, stage: str) -> list[Clip]:
    """Return the clips of a stage from the last run of a video, with the fields that the stage wrote."""
    folder = build / "work" / sha256[:16]
    if not (folder / _USED_FILE).is_file():
        return []
    video = Clip(Path(), sha256)
    files = json.loads((folder / _USED_FILE).read_text()).get(stage, [])
    results = [_load_if_readable(folder / name, video) or [] for name in files]
    return [clip for found in results for clip in found if isinstance(clip, Clip)]


def _call(stage: Stage, clip: Clip) -> list[Clip | Dropped]:
    try:
        found = stage(clip)
    except Rejected as rejected:
        # The last shot is open-ended; the duration of a file that cannot be opened is unknown.
        duration_s = clip.start_s if clip.video is None else clip.video.duration_s
        found = Dropped(clip.start_s, min(clip.end_s, duration_s), str(rejected))
    results = list(found) if isinstance(found, Sequence) else [found]
    for result in results:
        if isinstance(result, Clip):
            undeclared = set(_changes(clip, result)) - {*stage.writes, *stage.changes, "start_s", "end_s"}
            if undeclared:
                raise TypeError(
                    f"stage {stage.name!r} wrote {', '.join(sorted(undeclared))}: add it to its writes or changes"
                )
    return results


def _with_identity(stage: Stage, clip: Clip, results: list[Clip | Dropped], key: str) -> list[Clip | Dropped]:
    """Fill in the stage name of dropped spans, and the key and provenance of clips."""
    out: list[Clip | Dropped] = []
    for number, result in enumerate(results):
        if isinstance(result, Dropped):
            out.append(replace(result, stage=stage.name))
            continue
        new_key = digest(key, number) if stage.changes_rows else clip.key
        out.append(replace(result, key=new_key, backends=(*result.backends, *stage.provenance())))
    return out


def _is_current(path: Path, stamp: Path, key: str) -> bool:
    """Return whether a file that a stage wrote exists and was written under this key."""
    return path.is_file() and stamp.is_file() and stamp.read_text() == key


def _changes(before: Clip, after: Clip) -> dict[str, Any]:
    """Return the fields of a clip that a stage replaced; of mappings only the new items."""
    out: dict[str, Any] = {}
    for field in fields(Clip):
        old, new = getattr(before, field.name), getattr(after, field.name)
        if field.name in _NOT_RESULTS or new is old:
            continue
        if field.name in _MAPPINGS:
            new = {name: value for name, value in new.items() if name not in old or value is not old[name]}
            if not new:
                continue
        out[field.name] = new
    return out


def _save(file: Path, clip: Clip, results: list[Clip | Dropped]) -> None:
    arrays: list[np.ndarray] = []
    entries = [
        {"dropped": _pack(result, arrays)}
        if isinstance(result, Dropped)
        else {"clip": {name: _pack(value, arrays) for name, value in _changes(clip, result).items()}}
        for result in results
    ]
    numbered = {f"a{number}": array for number, array in enumerate(arrays)}
    save_arrays(file, **{_STRUCTURE: np.array(json.dumps(entries))}, **numbered)


def _load_if_readable(file: Path, clip: Clip) -> list[Clip | Dropped] | None:
    """Return cached results; None if there is no file, or it is damaged and has to be computed again."""
    try:
        return _load(file, clip) if file.is_file() else None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        _log.info(f"{file.name}: a damaged result of an earlier run is computed again")
        return None


def _load(file: Path, clip: Clip) -> list[Clip | Dropped]:
    arrays = load_arrays(file)
    out: list[Clip | Dropped] = []
    for entry in json.loads(arrays.pop(_STRUCTURE).item()):
        if "dropped" in entry:
            out.append(_unpack(entry["dropped"], arrays))
            continue
        values = {name: _unpack(value, arrays) for name, value in entry["clip"].items()}
        for name in _MAPPINGS:
            if name in values:
                values[name] = {**getattr(clip, name), **values[name]}
        out.append(replace(clip, **values))
    return out


def _pack(value: Any, arrays: list[np.ndarray]) -> Any:
    """Convert a value to JSON types; append its arrays to ``arrays`` and store their indices."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return {"array": len(arrays) - 1}
    if isinstance(value, np.generic):
        return value.item()
    if is_dataclass(value) and not isinstance(value, type):
        assert type(value).__name__ in _CLASSES, f"{type(value)} cannot be cached: add it to _CLASSES"
        inner = {f.name: _pack(getattr(value, f.name), arrays) for f in fields(value)}
        return {"class": type(value).__name__, "fields": inner}
    if isinstance(value, Mapping):
        return {"table": {str(name): _pack(item, arrays) for name, item in value.items()}}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_pack(item, arrays) for item in value]}
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise TypeError(
        f"a result of type {type(value).__name__} cannot be cached: expected an array, a number, text, None, a mapping, "
        "a list, a tuple, or a dataclass of _CLASSES"
    )


def _unpack(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content), *rest) = value.items()
    if kind == "array":
        return arrays[f"a{content}"]
    if kind == "class":
        inner = {name: _unpack(item, arrays) for name, item in dict(rest)["fields"].items()}
        return _CLASSES[content](**inner)
    if kind == "table":
        return {name: _unpack(item, arrays) for name, item in content.items()}
    items = [_unpack(item, arrays) for item in content]
    return tuple(items) if kind == "tuple" else items
