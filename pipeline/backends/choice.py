"""Which models run the stages that have a choice."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choice:
    """Files of the models that the user brought; an empty name is the embedded default.

    Attributes:
        detector: YOLOX's ONNX file, in place of NanoDet.
        pose: folder of a converted CLIFF, in place of BlazePose (whose 2D landmarks are used all the same).
        smoother: folder of a converted SmoothNet, in place of our filters.
        smpl: a converted SMPL body, which CLIFF's answers are refined on.
        digests: stage and SHA-256 of each of them; results depend on these, not on where the files lie.
    """

    detector: str = ""
    pose: str = ""
    smoother: str = ""
    smpl: str = ""
    digests: tuple[tuple[str, str], ...] = ()
