"""Print records of large arrays in one line, as notebooks and logs need it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np


def brief_repr(record: Any) -> str:
    """Return the representation of a dataclass with the type and shape of every array in place of its values.

    Use it as ``__repr__ = brief_repr`` in the class.
    """
    values = {field.name: getattr(record, field.name) for field in dataclasses.fields(record) if field.repr}
    parts = [f"{name}={_brief(value)}" for name, value in values.items()]
    return f"{type(record).__name__}({', '.join(parts)})"


def _brief(value: Any) -> str:
    if isinstance(value, np.ndarray) and value.ndim:
        return f"<{value.dtype} {value.shape}>"
    return repr(value)
