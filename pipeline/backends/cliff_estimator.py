"""Run CLIFF on people in video frames (Li et al. 2022, paper reference 18 and section 3.1)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from opendance_hf.modeling.cliff import CLIFFModel
from opendance_hf.modeling.cliff.feature_extraction_cliff import CLIFFFeatureExtractor
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.clip import Floats, Image


class CLIFFEstimator:
    """Estimate SMPL bodies with a loaded CLIFF model.

    Args:
        folder: folder of a converted checkpoint.
        device: ``auto`` (a GPU if torch finds one), or a torch device.
        crop_margin: side of a crop relative to that of the person's box.
        batch_size: number of crops in a batch.

    Raises:
        BackendError: if ``device`` is a GPU and torch finds none.
    """

    def __init__(self, folder: Path, device: str, crop_margin: float, batch_size: int) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        elif device.startswith("cuda") and not torch.cuda.is_available():
            raise BackendError(
                f"cliff: device {device!r}, but torch finds no GPU: set device to 'auto' or 'cpu'"
            )
        self.device = torch.device(device)
        self.extractor = CLIFFFeatureExtractor(crop_margin)
        self.batch_size = batch_size
        self.model = CLIFFModel.from_pretrained(folder).eval().to(self.device)

    @torch.no_grad()
    def estimate(self, images: list[Image], boxes: list[Floats]) -> list[tuple[Floats, Floats, Floats]]:
        """Estimate bodies in frames.

        Args:
            images: (H, W, 3) RGB frames of one size.
            boxes: for each of them, (D, 4) boxes of D people.

        Returns:
            For each frame SMPL's (D, 24, 3, 3) rotations, (D, 10) betas and (D, 3) transl in metres, in the camera frame: x
            right, y down, z away from the camera.
        """
        height, width = images[0].shape[:2]
        inputs = self.extractor(images, boxes)
        found: dict[str, list[Floats]] = {"rotations": [], "betas": [], "transl": []}
        people = np.concatenate(boxes)
        for start in range(0, len(people), self.batch_size):
            part = slice(start, start + self.batch_size)
            out = self.model(
                inputs["images"][part].to(self.device), inputs["bbox_info"][part].to(self.device)
            )
            bodies = self.extractor.post_process_bodies(out, people[part], width, height)
            for name, values in bodies.items():
                found[name].append(values)
        cuts = np.cumsum([len(those) for those in boxes])[:-1]
        parts = (np.split(np.concatenate(values), cuts) for values in found.values())
        return list(zip(*parts, strict=True))
