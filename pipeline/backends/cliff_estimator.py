"""Run CLIFF on video frames: crop people, encode the position of each crop, and compute translations in the full image.

Li et al. 2022, paper reference 18 and section 3.1. A person's box is extended to the aspect ratio of the crop. Crops have
integer corners and are padded with black. The focal length is assumed to be the diagonal of the image.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import cv2
import numpy as np
import numpy.typing as npt
import torch

from opendance_hf.modeling.cliff import CLIFFModel
from opendance_hf.modeling.cliff.modeling_cliff import CROP_SIZE, IMAGE_MEAN, IMAGE_STD
from opendance_hf.pipeline.backends.base import BackendError
from opendance_hf.pipeline.clip import Floats, Image

#: Unit of the scales of crops, pixels.
_UNIT_PX: Final = 200
#: Mean and standard deviation, in focal lengths, that normalise the box size, and the factor of the box centre.
_SIZE_MEAN, _SIZE_STD, _CENTRE_SCALE = 0.24, 0.06, 2.8


def focal_length(width_px: int, height_px: int) -> float:
    """Return the assumed focal length in pixels."""
    return float(np.hypot(width_px, height_px))


def crops_of_boxes(boxes: Floats, margin: float) -> tuple[Floats, Floats]:
    """Convert (N, 4+) boxes ``x1 y1 x2 y2`` to (N, 2) centres and (N,) scales; a crop is 200 * scale pixels high.

    ``margin`` is the side of a crop relative to that of its box.
    """
    centre = (boxes[:, :2] + boxes[:, 2:4]) / 2
    size = np.maximum((boxes[:, 2] - boxes[:, 0]) * CROP_SIZE[0] / CROP_SIZE[1], boxes[:, 3] - boxes[:, 1])
    return centre.astype(np.float32), (size / _UNIT_PX * margin).astype(np.float32)


def corners(centre: Floats, scale: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the (N, 2) first pixels of crops and the pixels after the last, ``x y``."""
    # Single precision and rounding half to even, as in training: ties are rounded differently in double precision.
    high = (_UNIT_PX * scale).astype(np.float32)
    half = np.stack([high * np.float32(CROP_SIZE[1] / CROP_SIZE[0]) / 2, high / 2], axis=1).astype(np.float32)
    return np.rint(centre - half).astype(np.int64), np.rint(centre + half).astype(np.int64)


def crop(image: Image, first: npt.NDArray[np.int64], last: npt.NDArray[np.int64]) -> Floats:
    """Return the (3, 256, 192) normalised crop of an RGB image between two corners, padded with black."""
    height, width = image.shape[:2]
    size = np.maximum(last - first, 1)
    patch = np.zeros((size[1], size[0], 3), dtype=np.float32)
    low, high = np.maximum(first, 0), np.minimum(first + size, [width, height])
    if (high > low).all():
        x, y = low - first
        inside = image[low[1] : high[1], low[0] : high[0]]
        patch[y : y + inside.shape[0], x : x + inside.shape[1]] = inside
    small = np.asarray(cv2.resize(patch, (CROP_SIZE[1], CROP_SIZE[0])), dtype=np.float32)
    normalised = (small / 255 - np.array(IMAGE_MEAN, np.float32)) / np.array(IMAGE_STD, np.float32)
    return np.asarray(normalised.transpose(2, 0, 1), dtype=np.float32)


def bbox_info(centre: Floats, scale: Floats, width_px: int, height_px: int) -> Floats:
    """Return the (N, 3) normalised centres and sizes of crops relative to the image, an input of the model."""
    focal = focal_length(width_px, height_px)
    size = _UNIT_PX * scale
    return np.stack(
        [
            (centre[:, 0] - width_px / 2) / focal * _CENTRE_SCALE,
            (centre[:, 1] - height_px / 2) / focal * _CENTRE_SCALE,
            (size - _SIZE_MEAN * focal) / (_SIZE_STD * focal),
        ],
        axis=1,
    ).astype(np.float32)


def full_camera(camera: Floats, centre: Floats, scale: Floats, width_px: int, height_px: int) -> Floats:
    """Convert the crops' weak-perspective cameras to (N, 3) translations, metres, in the full image's camera frame."""
    focal = focal_length(width_px, height_px)
    size = _UNIT_PX * scale * camera[:, 0] + 1e-9
    return np.stack(
        [
            2 * (centre[:, 0] - width_px / 2) / size + camera[:, 1],
            2 * (centre[:, 1] - height_px / 2) / size + camera[:, 2],
            2 * focal / size,
        ],
        axis=1,
    ).astype(np.float32)


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
        self.crop_margin = crop_margin
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
        inputs, infos, places = [], [], []
        for image, people in zip(images, boxes, strict=True):
            centre, scale = crops_of_boxes(people, self.crop_margin)
            first, last = corners(centre, scale)
            inputs += [crop(image, a, b) for a, b in zip(first, last, strict=True)]
            infos.append(bbox_info(centre, scale, width, height))
            places.append((centre, scale))
        rotations, betas, cameras = [], [], []
        info = np.concatenate(infos)
        for start in range(0, len(inputs), self.batch_size):
            part = slice(start, start + self.batch_size)
            out = self.model(
                torch.from_numpy(np.stack(inputs[part])).to(self.device),
                torch.from_numpy(info[part]).to(self.device),
            )
            rotations.append(out.rotations.cpu().numpy())
            betas.append(out.betas.cpu().numpy())
            cameras.append(out.camera.cpu().numpy())
        centre, scale = (np.concatenate(values) for values in zip(*places, strict=True))
        transl = full_camera(np.concatenate(cameras), centre, scale, width, height)
        cuts = np.cumsum([len(people) for people in boxes])[:-1]
        parts = (np.split(np.concatenate(v), cuts) for v in (rotations, betas, [transl]))
        return list(zip(*parts, strict=True))
