"""Cut a video into shots (PySceneDetect, paper section 3.1)."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from scenedetect import ContentDetector, SceneManager, open_video


@dataclass(frozen=True)
class Shot:
    """A span without a cut, in seconds of the source."""

    start_s: float
    end_s: float


def find_shots(path: Path, duration_s: float) -> list[Shot]:
    """The shots of a video in order, together covering all of it; a video without a cut is one shot."""
    logging.getLogger("pyscenedetect").setLevel(logging.ERROR)
    manager = SceneManager()
    manager.add_detector(ContentDetector())
    # The pyav backend keeps real timestamps; OpenCV's counts frames, which is wrong for variable rates.
    manager.detect_scenes(open_video(str(path), backend="pyav"))
    cuts = [scene[0].seconds for scene in manager.get_scene_list()[1:]]
    edges = [0.0, *(cut for cut in cuts if 0 < cut < duration_s), float("inf")]
    return [Shot(start, end) for start, end in zip(edges, edges[1:], strict=False)]
