"""Crops of people for CLIFF, the position of each crop in the picture, and translations in the full image.

Li et al. 2022, paper reference 18 and section 3.1. A person's box is extended to the aspect ratio of the crop. Crops have
integer corners and are padded with black. The focal length is assumed to be the diagonal of the image.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from transformers import BatchFeature
from transformers.utils.generic import ModelOutput

from opendance_hf.modeling.remote_code import FeatureExtractorWithCode

Floats = npt.NDArray[np.float32]
Image = npt.NDArray[np.uint8]

#: Height and width of a crop in pixels, and the mean and deviation of its RGB values.
CROP_SIZE: Final = (256, 192)
IMAGE_MEAN: Final = (0.485, 0.456, 0.406)
IMAGE_STD: Final = (0.229, 0.224, 0.225)
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
    import cv2

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


class CLIFFFeatureExtractor(FeatureExtractorWithCode):
    """Feature extractor of CLIFF: crops of people and their positions; needs OpenCV.

    Args:
        crop_margin: side of a crop relative to that of the person's box.

    >>> picture = np.zeros((480, 640, 3), np.uint8)
    >>> batch = CLIFFFeatureExtractor()(picture, np.array([[100.0, 50.0, 200.0, 400.0]]))
    >>> batch["images"].shape, batch["bbox_info"].shape
    (torch.Size([1, 3, 256, 192]), torch.Size([1, 3]))
    """

    model_input_names = ["images", "bbox_info"]  # noqa: RUF012  transformers' own declaration
    auto_classes = ("AutoFeatureExtractor",)

    def __init__(self, crop_margin: float = 1.1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.crop_margin = crop_margin

    def __call__(
        self,
        images: Image | Sequence[Image],
        boxes: npt.ArrayLike | Sequence[npt.ArrayLike],
        *,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Cut out the people of one or several pictures of one size.

        Args:
            images: (H, W, 3) RGB pictures.
            boxes: (D, 4) boxes ``x1 y1 x2 y2`` of the D people of each picture, pixels.
            return_tensors: ``"pt"`` or ``"np"``.

        Returns:
            The inputs of the model, ``images`` (N, 3, 256, 192) and ``bbox_info`` (N, 3), for all N people.
        """
        pictures, people = ([images], [boxes]) if isinstance(images, np.ndarray) else (images, boxes)
        crops, infos = [], []
        for picture, those in zip(pictures, people, strict=True):  # type: ignore[arg-type]
            centre, scale = crops_of_boxes(np.asarray(those, np.float32), self.crop_margin)
            first, last = corners(centre, scale)
            crops += [crop(picture, a, b) for a, b in zip(first, last, strict=True)]
            infos.append(bbox_info(centre, scale, picture.shape[1], picture.shape[0]))
        return BatchFeature(
            {"images": np.stack(crops), "bbox_info": np.concatenate(infos)}, tensor_type=return_tensors
        )

    def post_process_bodies(
        self, output: ModelOutput, boxes: npt.ArrayLike, width_px: int, height_px: int
    ) -> dict[str, Floats]:
        """Turn the model's output into bodies in the camera frame of the picture: x right, y down, z away.

        Args:
            output: of the model for N people.
            boxes: (N, 4) their boxes, pixels.
            width_px: of the picture.
            height_px: of the picture.

        Returns:
            SMPL's ``rotations`` (N, 24, 3, 3), ``betas`` (N, 10) and ``transl`` (N, 3) in metres.
        """
        centre, scale = crops_of_boxes(np.asarray(boxes, np.float32), self.crop_margin)
        rotations, betas, camera = (
            output[name].float().cpu().numpy() for name in ("rotations", "betas", "camera")
        )
        transl = full_camera(camera, centre, scale, width_px, height_px)
        return {"rotations": rotations, "betas": betas, "transl": transl}
