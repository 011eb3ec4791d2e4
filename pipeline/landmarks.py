"""Define the landmark set that all pose backends return and later stages read.

It has 33 points of the body in the order of BlazePose's published list. A backend sets the
visibility of landmarks it cannot estimate to 0.
"""

from __future__ import annotations

from typing import Final

LANDMARKS: Final[tuple[str, ...]] = (
    "nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
    "right_eye_outer", "left_ear", "right_ear", "mouth_left", "mouth_right", "left_shoulder",
    "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky", "right_pinky",
    "left_index", "right_index", "left_thumb", "right_thumb", "left_hip", "right_hip", "left_knee",
    "right_knee", "left_ankle", "right_ankle", "left_heel", "right_heel", "left_foot_index",
    "right_foot_index",
)  # fmt: skip
NUM_LANDMARKS: Final = len(LANDMARKS)
#: Assumed side of a person's region, which holds the whole body with a margin, metres.
REGION_SIDE_M: Final = 2.2
LANDMARK_INDEX: Final[dict[str, int]] = {name: i for i, name in enumerate(LANDMARKS)}
