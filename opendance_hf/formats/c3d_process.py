"""Read the points of a C3D file with ezc3d; :mod:`opendance_hf.formats.c3d` runs this file as a process of its own.

ezc3d is C++ code: an error in it that a damaged file causes ends this process, and not that of the user.
"""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

#: Memory for the library itself, and for each byte of the file: it holds each point as an object.
_BASE_BYTES = 3 * 2**30
_FACTOR = 40
_MAX_CPU_S = 600


def main(path: str, out: str) -> None:
    """Write an ``.npz`` of ``points`` (T, N, 3), NaN for gaps, and ``text``, the JSON of labels, unit and rate."""
    with contextlib.suppress(ImportError):  # Windows has no limits
        import resource

        size = _BASE_BYTES + _FACTOR * Path(path).stat().st_size
        for kind, limit in ((resource.RLIMIT_AS, size), (resource.RLIMIT_CPU, _MAX_CPU_S)):
            lower = [most for most in resource.getrlimit(kind) if most != resource.RLIM_INFINITY]
            resource.setrlimit(kind, (min([limit, *lower]),) * 2)
    import ezc3d

    content = ezc3d.c3d(path)
    point: dict[str, Any] = content["parameters"]["POINT"]
    # More than 255 labels are continued in LABELS2, LABELS3 ...
    names = [
        "LABELS",
        *sorted((n for n in point if n[:6] == "LABELS" and n[6:].isdigit()), key=lambda n: int(n[6:])),
    ]
    labels = [str(label) for name in names if name in point for label in point[name]["value"]]
    units = point.get("UNITS", {}).get("value") or [""]
    text = {"labels": labels, "unit": str(units[0]), "rate": float(content["header"]["points"]["frame_rate"])}
    points = np.asarray(content["data"]["points"])[:3].transpose(2, 1, 0)
    np.savez(
        out,
        allow_pickle=False,
        points=points.astype(np.float32),
        text=np.frombuffer(json.dumps(text).encode(), np.uint8),
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except MemoryError:
        sys.exit("not enough memory")
    except ModuleNotFoundError:
        raise
    except Exception as error:  # the caller shows the last line of what is printed
        sys.exit(f"{type(error).__name__}: {str(error)[:300]}")
