"""The converter against numpy, and the two estimators on a real picture."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest

from opendance_hf.assets import AssetError, asset_files
from opendance_hf.pipeline.backends.base import Region
from opendance_hf.pipeline.backends.blazepose import BlazePose
from opendance_hf.pipeline.backends.bytetrack import ByteTrack
from opendance_hf.pipeline.backends.movenet import KEYPOINTS, MoveNet
from opendance_hf.pipeline.backends.nanodet import NanoDet
from opendance_hf.pipeline.backends.tfjs_onnx import ConversionError, convert_graph_model
from opendance_hf.pipeline.clip import Image
from opendance_hf.pipeline.landmarks import LANDMARK_INDEX
from opendance_hf.pipeline.video import read_frames

# --- the converter -----------------------------------------------------------------------------------------------


def text(value: str) -> dict[str, str]:
    return {"s": base64.b64encode(value.encode()).decode()}


def ints(*values: int) -> dict[str, Any]:
    return {"list": {"i": [str(value) for value in values]}}


def node(name: str, op: str, *inputs: str, **attributes: Any) -> dict[str, Any]:
    return {"name": name, "op": op, "input": list(inputs), "attr": attributes}


def conv(name: str, source: str, kernel: str, stride: int = 1, padding: str = "VALID") -> dict[str, Any]:
    strides = ints(1, stride, stride, 1)
    return node(
        name, "Conv2D", source, kernel, strides=strides, padding=text(padding), data_format=text("NHWC")
    )


class Toy:
    """A graph model under construction: constants in a weight file, nodes in a JSON file."""

    def __init__(self) -> None:
        self.specs: list[dict[str, Any]] = []
        self.data = b""
        self.nodes = [node("x", "Placeholder")]

    def constant(self, name: str, value: Any, dtype: str = "float32") -> np.ndarray:
        array = np.asarray(value, dtype)
        self.specs.append({"name": name, "shape": list(array.shape), "dtype": dtype})
        self.data += array.tobytes()
        self.nodes.append(node(name, "Const"))
        return array

    def write(self, folder: Path, x: tuple[int, ...], **outputs: tuple[int, ...]) -> tuple[Path, Path]:
        def spec(shape: tuple[int, ...]) -> dict[str, Any]:
            return {"tensorShape": {"dim": [{"size": str(size)} for size in shape]}}

        document = {
            "modelTopology": {"node": self.nodes},
            "weightsManifest": [{"paths": ["toy.bin"], "weights": self.specs}],
            "signature": {
                "inputs": {"x:0": spec(x)},
                "outputs": {name.replace("__", ":"): spec(shape) for name, shape in outputs.items()},
            },
        }
        (folder / "toy.json").write_text(json.dumps(document))
        (folder / "toy.bin").write_bytes(self.data)
        return folder / "toy.json", folder / "toy.bin"


def run(files: tuple[Path, Path], x: np.ndarray, *outputs: str) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(convert_graph_model(*files).SerializeToString())
    return session.run(list(outputs), {"x": x})


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """(H, W, C) with (h, w, C, O), no padding."""
    windows = np.lib.stride_tricks.sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.einsum("yxchw,hwco->yxo", windows, kernel)


def test_converted_graph_computes_what_numpy_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 9, 11, 3)).astype(np.float32)
    toy = Toy()
    kernel = toy.constant("kernel", rng.normal(size=(3, 3, 3, 6)))
    bias = toy.constant("bias", rng.normal(size=6))
    toy.constant("pads", [[0, 0], [1, 1], [1, 1], [0, 0]], "int32")
    toy.constant("size", [10, 12], "int32")
    toy.constant("sizes", [2, 4], "int32")
    toy.constant("axis", 3, "int32")
    toy.constant("shape", [1, -1, 4], "int32")
    toy.nodes += [
        node("padded", "Pad", "x", "pads"),
        conv("conv", "padded", "kernel", stride=2),
        node("biased", "AddV2", "conv", "bias"),
        node("active", "LeakyRelu", "biased", alpha={"f": 0.1}),
        node("large", "ResizeBilinear", "active", "size", half_pixel_centers={"b": True}),
        node("parts", "SplitV", "large", "sizes", "axis"),
        node("score", "Sigmoid", "parts"),
        node("rows", "Reshape", "parts:1", "shape"),
        node(
            "pool",
            "MaxPool",
            "active",
            ksize=ints(1, 2, 2, 1),
            strides=ints(1, 1, 1, 1),
            padding=text("VALID"),
        ),
        node("all", "ConcatV2", "pool", "pool", "axis"),
        node("Identity", "Identity", "score"),
        node("Identity_1", "Identity", "rows"),
        node("Identity_2", "Identity", "all"),
    ]
    files = toy.write(
        tmp_path, x.shape, Identity__0=(1, 10, 12, 2), Identity_1__0=(1, 120, 4), Identity_2__0=(1, 4, 5, 12)
    )
    score, rows, pooled = run(files, x, "Identity", "Identity_1", "Identity_2")

    active = convolved(np.pad(x[0], ((1, 1), (1, 1), (0, 0))), kernel, 2) + bias
    active = np.where(active > 0, active, 0.1 * active)
    assert active.shape == (5, 6, 6)
    # Twice the size with half-pixel centres: each new pixel mixes its two nearest, a quarter and three quarters.
    large = active
    for axis in (0, 1):
        count = large.shape[axis]
        where = np.clip((np.arange(2 * count) + 0.5) / 2 - 0.5, 0, count - 1)
        low = np.floor(where).astype(int)
        share = np.moveaxis(np.broadcast_to(where - low, (1, 1, 2 * count)), -1, axis)
        high = np.minimum(low + 1, count - 1)
        large = large.take(low, axis) * (1 - share) + large.take(high, axis) * share
    np.testing.assert_allclose(score[0], 1 / (1 + np.exp(-large[..., :2])), atol=1e-5)
    np.testing.assert_allclose(rows[0], large[..., 2:].reshape(-1, 4), atol=1e-5)
    windows = np.lib.stride_tricks.sliding_window_view(active, (2, 2), axis=(0, 1)).max(axis=(-1, -2))
    np.testing.assert_allclose(pooled[0], np.concatenate([windows, windows], axis=-1), atol=1e-5)


def test_half_precision_weights(tmp_path: Path) -> None:
    toy = Toy()
    bias = toy.constant("bias", [0.5, -2.25, 3.125], "float16")
    toy.nodes.append(node("Identity", "Add", "x", "bias"))
    x = np.ones((1, 3), np.float32)
    (out,) = run(toy.write(tmp_path, (1, 3), Identity__0=(1, 3)), x, "Identity")
    np.testing.assert_array_equal(out, x + bias.astype(np.float32))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (node("Identity", "Softmax", "x"), r"operator Softmax \('Identity'\) is not supported"),
        (conv("Identity", "x", "kernel", padding="SAME"), "SAME padding"),
        (conv("Identity", "x", "x"), "input 1 is not constant"),
        (node("Identity", "ResizeBilinear", "x", "size"), "half-pixel centres"),
    ],
)
def test_what_is_not_supported_is_named(tmp_path: Path, bad: dict[str, Any], message: str) -> None:
    toy = Toy()
    toy.constant("kernel", np.zeros((1, 1, 3, 3)))
    toy.constant("size", [4, 4], "int32")
    toy.nodes.append(bad)
    with pytest.raises(ConversionError, match=message):
        convert_graph_model(*toy.write(tmp_path, (1, 2, 2, 3), Identity__0=(1, 2, 2, 3)))


@pytest.mark.parametrize(("change", "message"), [(-4, "ends within bias"), (4, "has 16 bytes.*describes 12")])
def test_weights_that_do_not_fit(tmp_path: Path, change: int, message: str) -> None:
    toy = Toy()
    toy.constant("bias", [1.0, 2.0, 3.0])
    toy.nodes.append(node("Identity", "Add", "x", "bias"))
    toy.data = toy.data[:change] if change < 0 else toy.data + bytes(change)
    with pytest.raises(ConversionError, match=message):
        convert_graph_model(*toy.write(tmp_path, (1, 3), Identity__0=(1, 3)))


def test_unknown_weight_type(tmp_path: Path) -> None:
    toy = Toy()
    toy.constant("bias", [1.0])
    toy.specs[0]["quantization"] = {"dtype": "uint8", "scale": 0.1, "min": 0}
    toy.nodes.append(node("Identity", "Add", "x", "bias"))
    with pytest.raises(ConversionError, match=r"bias .*uint8"):
        convert_graph_model(*toy.write(tmp_path, (1, 1), Identity__0=(1, 1)))


def same_padded(x: np.ndarray, kernel: int, stride: int) -> np.ndarray:
    """(H, W, C) padded as TensorFlow does: what the stride needs, the odd row and column at the end."""
    pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[:2]]
    return np.pad(x, [*((pad // 2, pad - pad // 2) for pad in pads), (0, 0)])


def fused(
    name: str, op: str, source: str, kernel: str, bias: str, *operators: str, stride: int = 1
) -> dict[str, Any]:
    names = [base64.b64encode(operator.encode()).decode() for operator in operators]
    fields = {
        "strides": ints(1, stride, stride, 1),
        "padding": text("SAME"),
        "fused_ops": {"list": {"s": names}},
    }
    return node(name, op, source, kernel, bias, **fields)


def test_converted_mobilenet_computes_what_numpy_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 10, 12, 3)).astype(np.float32)
    toy = Toy()
    kernel = toy.constant("kernel", rng.normal(size=(3, 3, 3, 6)) * 2)
    bias = toy.constant("bias", rng.normal(size=6))
    depth = toy.constant("depth", rng.normal(size=(3, 3, 6, 1)))
    for name, value in (("begin", [1]), ("end", [3]), ("step", [1]), ("twice", [2, 2])):
        toy.constant(name, value, "int32")
    toy.nodes += [
        fused("wide", "_FusedConv2D", "x", "kernel", "bias", "BiasAdd", "Relu6", stride=2),
        fused("deep", "FusedDepthwiseConv2dNative", "wide", "depth", "bias", "BiasAdd", "Relu"),
        node("shape", "Shape", "deep"),
        node("sides", "StridedSlice", "shape", "begin", "end", "step"),
        node("double", "Mul", "sides", "twice"),
        node("large", "ResizeBilinear", "deep", "double", half_pixel_centers={"b": True}),
    ]
    files = toy.write(tmp_path, x.shape, Identity__0=(1, 1, 1, 1))
    session = onnxruntime.InferenceSession(
        convert_graph_model(*files, heads=["deep", "large"]).SerializeToString()
    )
    for picture in (x, x[:, :8, :6]):
        deep, large = session.run(None, {"x": picture})
        wide = (convolved(same_padded(picture[0], 3, 2), kernel, 2) + bias).clip(0, 6)
        windows = np.lib.stride_tricks.sliding_window_view(same_padded(wide, 3, 1), (3, 3), axis=(0, 1))
        expected = (np.einsum("yxchw,hwco->yxc", windows, depth) + bias).clip(0)
        assert expected.max() > 0
        np.testing.assert_allclose(deep[0], expected, atol=1e-4)
        resized = cv2.resize(expected.astype(np.float32), None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR)
        np.testing.assert_allclose(large[0], resized, atol=1e-4)


# --- the tracker -------------------------------------------------------------------------------------------------


def test_bytetrack_keeps_a_number_for_each_person() -> None:
    tracker = ByteTrack().load()(30)
    seen = []
    for t in range(30):
        boxes = np.array([[100 + 3 * t, 50, 200 + 3 * t, 400, 0.9], [500, 50, 600, 400, 0.9]], np.float32)
        seen.append(tracker.update(boxes[:: 1 if t % 2 else -1])[:: 1 if t % 2 else -1])
    late = np.stack(seen[5:])
    assert (late >= 0).all()
    assert (late == late[0]).all()
    assert late[0, 0] != late[0, 1]
    assert len(tracker.update(np.zeros((0, 5), np.float32))) == 0


# --- the estimators on a real picture ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def picture(shared: Path) -> Image:
    return next(image for _, image in read_frames(shared / "data/videos/duo.mp4", 11.5))


def _weights(name: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        try:
            asset_files(name)
        except AssetError as error:
            pytest.skip(f"no weights: {error}")


@pytest.fixture(scope="module")
def dancers(picture: Image) -> np.ndarray:
    """(2, 5) boxes of the two dancers, from left to right."""
    _weights("nanodet")
    boxes = NanoDet(min_score=0.5).load().detect(picture)
    return boxes[np.argsort(boxes[:, 0])]


@pytest.mark.shared
def test_nanodet_finds_both_dancers(picture: Image, dancers: np.ndarray) -> None:
    height, width = picture.shape[:2]
    assert dancers.shape == (2, 5)
    assert (dancers[:, 4] > 0.5).all()
    assert (dancers[:, :4] >= 0).all()
    assert (dancers[:, 2] <= width).all()
    assert (dancers[:, 3] <= height).all()
    tall = dancers[:, 3] - dancers[:, 1]
    assert (tall > 0.3 * height).all()
    assert (tall > 1.2 * (dancers[:, 2] - dancers[:, 0])).all()
    again = NanoDet(min_score=0.5).load().detect(picture)
    np.testing.assert_array_equal(again[np.argsort(again[:, 0])], dancers)
    assert NanoDet().load().detect(np.full_like(picture, 127)).shape[1] == 5


@pytest.mark.shared
def test_nanodet_looks_twice_at_a_portrait_picture_without_a_sure_person(
    picture: Image, shared: Path
) -> None:
    """Somebody seen from behind by a camera rolled by 26 degrees, leaning."""
    _weights("nanodet")
    frames = read_frames(shared / "data/real_truth/cam04.mp4", 18 / 60)
    rolled = next(image for _, image in frames)
    once, twice = NanoDet(sure_score=0).load(), NanoDet().load()
    unsure, sure = once.detect(rolled), twice.detect(rolled)
    assert unsure[:, 4].max() < 0.5
    best = sure[sure[:, 4].argmax()]
    assert best[4] > 0.5
    height, width = rolled.shape[:2]
    assert (best[:2] >= 0).all()
    assert (best[2:4] <= (width, height)).all()
    assert best[3] - best[1] > 0.3 * height
    np.testing.assert_array_equal(twice.detect(picture), once.detect(picture))


@pytest.fixture(scope="module")
def people(picture: Image) -> tuple[np.ndarray, np.ndarray]:
    """(6, 5) boxes and (6, 17, 3) keypoints that MoveNet finds in the picture."""
    _weights("movenet-multipose")
    found = MoveNet().load().people(picture)
    return found.boxes, found.keypoints


@pytest.mark.shared
def test_movenet_finds_what_the_published_graph_finds(people: tuple[np.ndarray, np.ndarray]) -> None:
    """The expected values are those of TensorFlow.js 4.22, which ran the whole graph on the same 256 x 160 pixels."""
    boxes, keypoints = people
    np.testing.assert_allclose(
        boxes[:2, :4], [[227.0, 628.3, 440.2, 1114.1], [48.0, 662.9, 250.8, 1104.8]], atol=0.1
    )
    np.testing.assert_allclose(boxes[:2, 4], [0.887, 0.876], atol=1e-3)
    expected = {
        "nose": [341.9, 731.8, 0.469],
        "left_wrist": [405.2, 652.7, 0.614],
        "right_wrist": [244.9, 689.7, 0.297],
        "left_knee": [402.0, 990.1, 0.720],
        "right_ankle": [258.1, 1053.4, 0.232],
    }
    for name, values in expected.items():
        np.testing.assert_allclose(keypoints[0, KEYPOINTS.index(name)], values, atol=0.1, err_msg=name)


@pytest.mark.shared
def test_movenet_finds_the_people_that_nanodet_finds(
    picture: Image, dancers: np.ndarray, people: tuple[np.ndarray, np.ndarray]
) -> None:
    model, (height, width) = MoveNet(min_score=0.5).load(), picture.shape[:2]
    boxes = model.detect(picture)
    boxes = boxes[np.argsort(boxes[:, 0])]
    assert boxes.shape == (2, 5)
    np.testing.assert_allclose(boxes[:, :4], dancers[:, :4], atol=0.1 * height)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:4] <= (width, height)).all()
    # A wide picture is not stretched either: the same people in front of more wall.
    wide = np.pad(picture, ((0, 0), (0, width), (0, 0)))
    again = model.detect(wide)
    np.testing.assert_allclose(again[np.argsort(again[:, 0]), :4], boxes[:, :4], atol=0.03 * height)
    assert model.detect(np.full_like(picture, 127)).shape == (0, 5)


@pytest.mark.shared
def test_blazepose_finds_the_body_in_each_box(picture: Image, dancers: np.ndarray) -> None:
    _weights("blazepose")
    model = BlazePose().load()
    for box in dancers:
        person = model.estimate(picture, model.region_of_box(box))
        assert person.score > 0.9
        margin = 0.08 * (box[3] - box[1])
        assert (person.image > box[:2] - margin).all()
        assert (person.image < box[2:4] + margin).all()
        assert np.median(person.visibility) > 0.8
        at = {name: person.image[index] for name, index in LANDMARK_INDEX.items()}
        assert at["nose"][1] < at["left_hip"][1] < at["left_ankle"][1], "pixels: y is down"
        body = {name: person.world[index] for name, index in LANDMARK_INDEX.items()}
        assert body["nose"][1] > 0.3
        assert body["left_ankle"][1] < -0.4
        shin = np.linalg.norm(body["left_knee"] - body["left_ankle"])
        assert 0.25 < shin < 0.55, "metres"
        # Its own region is a better look at the same person.
        again = model.estimate(picture, person.region)
        assert np.linalg.norm(again.image - person.image, axis=-1).mean() < 0.05 * (box[3] - box[1])


@pytest.mark.shared
@pytest.mark.parametrize("quarters", [1, 2, -1])
def test_blazepose_answers_in_the_frame_of_the_picture(
    picture: Image, dancers: np.ndarray, quarters: int
) -> None:
    """A turned picture, seen through a turned region, gives the turned answer: pixels, metres and region."""
    _weights("blazepose")
    model = BlazePose().load()
    region = model.region_of_box(dancers[0])
    straight = model.estimate(picture, region)

    height, width = picture.shape[:2]
    turned_picture = np.ascontiguousarray(np.rot90(picture, -quarters))  # clockwise
    turned_size = np.array(turned_picture.shape[1::-1])
    turn = np.array([[0, -1], [1, 0]]) if quarters == 1 else np.array([[0, 1], [-1, 0]])
    turn = -np.eye(2) if quarters == 2 else turn

    def move(points: np.ndarray) -> np.ndarray:
        return (points - np.array([width, height]) / 2) @ turn.T + turned_size / 2

    cx, cy = move(np.array([region.cx, region.cy]))
    turned = model.estimate(turned_picture, Region(cx, cy, region.size, quarters * np.pi / 2))
    np.testing.assert_allclose(
        turned.image, move(straight.image), atol=8
    )  # half a pixel of the crop is one here
    up = np.diag([1, -1])  # metres: y is up
    np.testing.assert_allclose(turned.world[:, :2], straight.world[:, :2] @ (up @ turn @ up).T, atol=0.06)
    np.testing.assert_allclose(turned.world[:, 2], straight.world[:, 2], atol=0.06)
    difference = turned.region.rotation - straight.region.rotation - quarters * np.pi / 2
    assert abs((difference + np.pi) % (2 * np.pi) - np.pi) < 0.05
