"""Two 2D estimators that the pipeline never uses, as judges of where limbs are in the picture, and of each other.

MoveNet Thunder was trained on COCO and clips of exercises, EfficientPose II Lite (Groos et al. 2021) on MPII; they share
neither data nor architecture. Both are published TensorFlow.js graphs inside the same npm package as NanoDet (MoveNet
Apache-2.0, EfficientPose CC BY 4.0), run node by node in torch; their last steps, from heat maps to keypoints, are written
here.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any, Final, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as functional
from torch import Tensor

from opendance_hf.assets import asset_files
from opendance_hf.pipeline.backends.tfjs_onnx import read_weights

_MOVENET: Final = (
    "nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder", "left_elbow",
    "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee", "right_knee", "left_ankle",
    "right_ankle",
)  # fmt: skip
#: Keypoints of MPII; an empty name stands for a keypoint that has no landmark.
_MPII: Final = (
    "", "", "right_shoulder", "right_elbow", "right_wrist", "", "left_shoulder", "left_elbow", "left_wrist", "",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
)  # fmt: skip
#: Cells added to a keypoint's distance from where the body's centre expects it, in the weight of the heat map.
_DISTANCE: Final = 1.8


class Judge(Protocol):
    """Finds the keypoints of one person in a square crop."""

    keypoints: tuple[str, ...]
    sure: float

    def estimate(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]) -> tuple[Any, Any]:
        """Return (K, 2) pixels and (K,) scores of the person in a box ``x1 y1 x2 y2`` of an (H, W, 3) RGB picture."""


class Graph:
    """A TensorFlow.js graph, computed node by node."""

    def __init__(self, asset: str, model: str) -> None:
        files = asset_files(asset)
        document = json.loads(files[f"models/{model}.json"].read_text())
        self._constants = read_weights(document["weightsManifest"], files[f"models/{model}.bin"].read_bytes())
        self.nodes = {node["name"]: node for node in document["modelTopology"]["node"]}

    def value(self, name: str, values: dict[str, Tensor]) -> Tensor:
        """Return the output of a node, (1, C, H, W); what it depends on is computed first, once."""
        if name not in values:
            node = self.nodes[name]
            source = self.value(node["input"][0], values)
            op, attributes = node["op"], node["attr"]
            if op == "AddV2":
                values[name] = source + self.value(node["input"][1], values)
            elif op == "ConcatV2":
                values[name] = torch.cat([source, self.value(node["input"][1], values)], dim=1)
            elif op == "ResizeBilinear":
                height, width = self._constants[node["input"][1]].tolist()
                values[name] = functional.interpolate(
                    source, (height, width), mode="bilinear", align_corners=False
                )
            else:
                values[name] = self._convolve(node, op, attributes, source)
        return values[name]

    def _convolve(self, node: dict[str, Any], op: str, attributes: dict[str, Any], source: Tensor) -> Tensor:
        kernel = torch.from_numpy(np.array(self._constants[node["input"][1]]))
        depthwise = "Depthwise" in op
        kernel = kernel.permute(2, 3, 0, 1) if depthwise else kernel.permute(3, 2, 0, 1)
        stride = int(attributes["strides"]["list"]["i"][1])
        if base64.b64decode(attributes["padding"]["s"]) == b"SAME":
            # TensorFlow pads what a stride needs, the odd pixel at the end.
            pads: list[int] = []
            for size, reach in ((source.shape[3], kernel.shape[3]), (source.shape[2], kernel.shape[2])):
                total = max((-(-size // stride) - 1) * stride + reach - size, 0)
                pads += [total // 2, total - total // 2]
            source = functional.pad(source, pads)
        groups = source.shape[1] if depthwise else 1
        out = functional.conv2d(source, kernel.contiguous(), stride=stride, groups=groups)
        if len(node["input"]) > 2:
            out = out + torch.from_numpy(np.array(self._constants[node["input"][2]])).reshape(1, -1, 1, 1)
        fused = [base64.b64decode(s) for s in attributes.get("fused_ops", {}).get("list", {}).get("s", [])]
        if b"Relu6" in fused:
            return out.clamp(0, 6)
        return out.relu() if b"Relu" in fused else out


def _crop(
    image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating], side: int
) -> tuple[Tensor, float, Any]:
    """Return the square around a box as (1, 3, side, side) from -1 to 1; pixels of the picture per pixel of it; its corner."""
    centre, size = (box[:2] + box[2:]) / 2, float((box[2:] - box[:2]).max())
    scale = size / side
    to_image = np.array([[scale, 0, centre[0] - size / 2], [0, scale, centre[1] - size / 2]])
    crop = cv2.warpAffine(image, to_image, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return torch.from_numpy(crop).permute(2, 0, 1)[None] / 127.5 - 1, scale, to_image[:, 2]


class MoveNet:
    """MoveNet Thunder: 17 keypoints."""

    keypoints = _MOVENET
    sure = 0.3
    side = 256

    def __init__(self) -> None:
        self._graph = Graph("movenet", "movenet-thunder")
        self._heads = [
            next(name for name in self._graph.nodes if name.endswith(end))
            for end in (
                "center_0/conv2d_4/BiasAdd", "kpt_heatmap_0/conv2d_5/BiasAdd", "kpt_regress_0/conv2d_6/BiasAdd",
                "kpt_offset_0/conv2d_7/BiasAdd",
            )
        ]  # fmt: skip

    @torch.no_grad()
    def estimate(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]) -> tuple[Any, Any]:
        """See :class:`Judge`."""
        crop, scale, corner = _crop(image, box, self.side)
        values = {"StatefulPartitionedCall/sub_1": crop}
        heads = [self._graph.value(name, values)[0].permute(1, 2, 0).numpy() for name in self._heads]
        points, scores = _keypoints(*heads)
        return points * self.side / heads[0].shape[0] * scale + corner, scores


class EfficientPose:
    """EfficientPose II Lite: the 12 limb joints among its 16 keypoints."""

    keypoints = tuple(name for name in _MPII if name)
    sure = 0.3
    side = 368

    def __init__(self) -> None:
        self._graph = Graph("efficientpose", "efficientpose")

    @torch.no_grad()
    def estimate(self, image: npt.NDArray[np.uint8], box: npt.NDArray[np.floating]) -> tuple[Any, Any]:
        """See :class:`Judge`."""
        crop, scale, corner = _crop(image, box, self.side)
        maps = self._graph.value("pass3_detection2_confs/BiasAdd", {"input_1_0": crop})
        large = functional.interpolate(maps, (self.side, self.side), mode="bicubic", align_corners=False)[0]
        large = large[[number for number, name in enumerate(_MPII) if name]].flatten(1)
        scores, at = large.max(dim=1)
        points = np.stack([(at % self.side).numpy(), (at // self.side).numpy()], axis=1) + 0.5
        return points * scale + corner, scores.numpy()


#: The judges by name.
JUDGES: Final[dict[str, Callable[[], Judge]]] = {"movenet": MoveNet, "efficientpose": EfficientPose}


def _keypoints(centre: Any, heat: Any, regress: Any, offset: Any) -> tuple[Any, Any]:
    """(17, 2) x and y in cells, (17,) scores, of the person nearest the middle of the crop."""
    side = len(centre)
    y, x = np.mgrid[:side, :side]
    middle = 1 / (np.hypot(y - (side - 1) / 2, x - (side - 1) / 2) + _DISTANCE)
    row, column = np.unravel_index(np.argmax(_sigmoid(centre[..., 0]) * middle), (side, side))
    expected = regress[row, column].reshape(-1, 2) + np.array([row, column])
    heat = _sigmoid(heat)
    points, scores = np.zeros((len(expected), 2)), np.zeros(len(expected))
    for joint, (at_y, at_x) in enumerate(expected):
        near = heat[..., joint] / (np.hypot(y - at_y, x - at_x) + _DISTANCE)
        row, column = np.unravel_index(np.argmax(near), (side, side))
        dy, dx = offset[row, column, 2 * joint : 2 * joint + 2]
        points[joint], scores[joint] = (column + dx, row + dy), heat[row, column, joint]
    return points, scores


def _sigmoid(values: Any) -> Any:
    return 1 / (1 + np.exp(-np.clip(values, -50, 50)))
