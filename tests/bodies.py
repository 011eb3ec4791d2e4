"""A made-up body in SMPL's format: its tree, mean bones, 6,890 points around them; no licensed number in it."""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest

from opendance_hf.motion.skeleton import JOINT_INDEX, MEAN_OFFSETS, NUM_JOINTS, PARENTS
from opendance_hf.motion.smpl import NUM_VERTICES

#: Points that keypoints are compared with, by smplx' numbers, and where they sit on this body.
LANDMARKS = {
    332: ("head", (0.0, 0.04, 0.11)),
    583: ("head", (0.075, 0.05, 0.0)),
    4071: ("head", (-0.075, 0.05, 0.0)),
    3216: ("left_foot", (0.0, 0.0, 0.0)),
    6617: ("right_foot", (0.0, 0.0, 0.0)),
    3387: ("left_ankle", (0.01, -0.05, -0.06)),
    6787: ("right_ankle", (-0.01, -0.05, -0.06)),
}


def rest_joints() -> np.ndarray:
    """(24, 3); the pelvis is not the origin, as it is not in SMPL."""
    joints = np.zeros((NUM_JOINTS, 3))
    joints[0] = [0.0, -0.24, 0.03]
    for joint, parent in enumerate(PARENTS[1:], start=1):
        joints[joint] = joints[parent] + MEAN_OFFSETS[joint]
    return joints


def smpl_arrays(num_betas: int = 10) -> dict[str, np.ndarray]:
    """What the official file holds, under its names."""
    rng = np.random.default_rng(0)
    joints = rest_joints()
    owner = np.arange(NUM_VERTICES) % NUM_JOINTS
    vertices = joints[owner] + rng.normal(0, 0.04, (NUM_VERTICES, 3))
    weights = np.zeros((NUM_VERTICES, NUM_JOINTS))
    weights[np.arange(NUM_VERTICES), owner] = 0.8
    weights[np.arange(NUM_VERTICES), np.maximum(np.array(PARENTS)[owner], 0)] += 0.2
    for index, (name, offset) in LANDMARKS.items():
        vertices[index] = joints[JOINT_INDEX[name]] + offset
        weights[index] = np.eye(NUM_JOINTS)[JOINT_INDEX[name]]
    regressor = np.zeros((NUM_JOINTS, NUM_VERTICES))
    for joint in range(NUM_JOINTS):
        # A pair on opposite sides of the joint: their mean is the joint.
        a, b = np.flatnonzero(owner == joint)[5:7]
        vertices[a], vertices[b] = joints[joint] + [0.03, 0.02, 0.01], joints[joint] - [0.03, 0.02, 0.01]
        regressor[joint, [a, b]] = 0.5
    shapes = np.zeros((NUM_VERTICES, 3, num_betas))
    shapes[..., 0] = 0.04 * vertices  # taller
    shapes[:, 0, 1] = 0.03 * vertices[:, 0]  # broader
    shapes[..., 2:] = rng.normal(0, 5e-4, shapes[..., 2:].shape)
    return {
        "v_template": vertices,
        "shapedirs": shapes,
        "posedirs": rng.normal(0, 5e-4, (NUM_VERTICES, 3, 207)),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.array([[2**32 - 1, *PARENTS[1:]], range(NUM_JOINTS)], dtype=np.uint32),
        "f": np.stack([np.arange(100), np.arange(1, 101), np.arange(2, 102)], axis=1).astype(np.uint32),
    }


def fake_chumpy(monkeypatch: pytest.MonkeyPatch) -> tuple[type, type]:
    """Modules named as chumpy's, so that pickles of their classes look like the official file."""
    package, ch, reordering = (types.ModuleType(f"chumpy{name}") for name in ("", ".ch", ".reordering"))

    class Ch:
        def __init__(self, **state: Any) -> None:
            self.__dict__.update(state)

    class Select(Ch):
        pass

    for module, kind in ((ch, Ch), (reordering, Select)):
        kind.__module__, kind.__qualname__ = module.__name__, kind.__name__
        setattr(module, kind.__name__, kind)
    for module in (package, ch, reordering):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return Ch, Select
