"""List the backends by role and name, and create the backend that a configuration names.

To add a backend, write one file with a subclass of :class:`~opendance_hf.pipeline.backends.base.Backend` and add a
line to ``BACKENDS``.
"""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from importlib import import_module
from typing import Any, Final

from opendance_hf.errors import shown
from opendance_hf.pipeline.backends.base import Backend, BackendError

#: role -> name -> "module:class"; modules are imported when a configuration names them.
BACKENDS: Final[dict[str, dict[str, str]]] = {
    "detector": {
        "movenet": "opendance_hf.pipeline.backends.movenet:MoveNet",
        "nanodet": "opendance_hf.pipeline.backends.nanodet:NanoDet",
        "yolox": "opendance_hf.pipeline.backends.yolox:YOLOX",
    },
    "tracker": {
        "bytetrack": "opendance_hf.pipeline.backends.bytetrack:ByteTrack",
    },
    "pose": {
        "blazepose": "opendance_hf.pipeline.backends.blazepose:BlazePose",
        "blazepose-heavy": "opendance_hf.pipeline.backends.blazepose:BlazePoseHeavy",
    },
    "lifter": {
        "cliff": "opendance_hf.pipeline.backends.cliff:CLIFF",
    },
    "depth": {
        "lifter": "opendance_hf.pipeline.backends.lifter:Lifter",
    },
    "smoother": {
        "filters": "opendance_hf.pipeline.backends.filters:Filters",
        "smoothnet": "opendance_hf.pipeline.backends.smoothnet:SmoothNet",
    },
    "fitter": {
        "skeleton": "opendance_hf.pipeline.backends.skeleton:Skeleton",
        "smplify": "opendance_hf.pipeline.backends.smplify:SMPLify",
    },
    "results": {
        "gvhmr": "opendance_hf.pipeline.backends.results:GVHMR",
        "phalp": "opendance_hf.pipeline.backends.results:PHALP",
        "wham": "opendance_hf.pipeline.backends.results:WHAM",
    },
    "genre": {
        "transformers": "opendance_hf.pipeline.backends.audio_classifier:AudioClassifier",
    },
}


def backend_class(role: str, name: str) -> type[Backend]:
    """Return the class of a backend.

    Raises:
        BackendError: if the role has no backend of that name.
    """
    known = BACKENDS[role]
    if name not in known:
        raise BackendError(
            f"unknown {role} {shown(name)}: expected {' or '.join(known)}; to name a file, write NAME:FILE"
        )
    module, _, class_name = known[name].partition(":")
    found = getattr(import_module(module), class_name)
    assert issubclass(found, Backend)
    return found


def make_backend(role: str, text: str) -> Backend:
    """Create the backend that ``NAME`` or ``NAME:FILE`` describes, with its default thresholds.

    Raises:
        BackendError: if the name is unknown, or the backend takes no file.
    """
    name, _, file = text.partition(":")
    chosen = backend_class(role, name)
    if not file:
        return chosen()
    if "file" not in {f.name for f in fields(chosen)}:
        raise BackendError(f"the {role} {name!r} takes no file, got {file!r}")
    return replace(chosen(), file=file)  # type: ignore[call-arg]


@cache
def loaded(backend: Backend, count: int = 1) -> tuple[Any, ...]:
    """Return ``count`` loaded instances of a backend, one per thread; they are loaded once per process.

    Raises:
        BackendError: if it cannot be loaded; the build stops, since no video could be processed.
    """
    try:
        if backend.shared:
            return (backend.load(),) * count
        return tuple(backend.load() for _ in range(count))
    except BackendError:
        raise
    except Exception as error:  # of libraries that have no class of errors in common
        raise BackendError(
            f"{backend.name} cannot be loaded: {type(error).__name__}: {error}; check its files, or fetch them again"
        ) from error
