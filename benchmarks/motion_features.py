"""Kinetic and geometric features of one 600-frame dance, beside the same by loops over frames."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.timing import cold_seconds, seconds
from opendance_hf.metrics import motion_features, root_at_origin
from tests.fixtures.make_metrics_small import plain_geometric, plain_kinetic, synth_motion

NUM_FRAMES = 600


def dance(seed: int = 0, num_frames: int = NUM_FRAMES) -> np.ndarray:
    """(num_frames, 24, 3) float32, joined from short seeded dances."""
    parts = [synth_motion(seed * 100 + i) for i in range(num_frames // 50)]
    return np.concatenate(parts)[:num_frames]


def run() -> dict[str, Any]:
    joints = dance()

    def ours() -> Any:
        return motion_features([joints])

    def reference() -> Any:
        rooted = root_at_origin(joints)
        return plain_kinetic(rooted), plain_geometric(rooted)

    found, expected = ours(), reference()
    error = max(float(np.abs(a[0] - b).max() / np.abs(b).max()) for a, b in zip(found, expected, strict=True))
    ours_s, reference_s = seconds(ours, reference)
    program = (
        "import numpy as np; from opendance_hf.metrics import motion_features; "
        f"motion_features([np.random.RandomState(0).randn({NUM_FRAMES}, 24, 3)])"
    )
    return {
        "what": f"kinetic and geometric features of one dance of {NUM_FRAMES} frames; reference: loops over frames",
        "ratio": reference_s / ours_s,
        "ours_s": ours_s,
        "reference_s": reference_s,
        "cold_s": cold_seconds(program),
        "official_s": 0.755,
        "ratio_to_official": 0.755 / ours_s,
        "max_relative_error": error,
    }
