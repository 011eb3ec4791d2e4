"""Convert a TensorFlow.js graph model (``model.json`` + ``.bin``) to ONNX without TensorFlow.

Covers the operators of plain convolutional detectors and of MobileNets. Tensors keep TensorFlow's layout (NHWC), and operators are wrapped in
the transposes that ONNX requires; onnxruntime's optimiser cancels them.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from opendance_hf.errors import OpenDanceError

_TO_NCHW, _TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)
_OPSET = 17
_IR_VERSION = 9
_ONNX_TYPES = {"DT_FLOAT": TensorProto.FLOAT, "DT_INT32": TensorProto.INT32}
_DTYPES = {name: np.dtype(code) for name, code in (("float32", "<f4"), ("float16", "<f2"), ("int32", "<i4"))}


class ConversionError(OpenDanceError, ValueError):
    """Raised for an unsupported operator or attribute, and for weights that do not match their manifest."""


def convert_graph_model(model_json: Path, weights: Path, heads: Sequence[str] = ()) -> onnx.ModelProto:
    """Convert a TensorFlow.js graph model with one weight file to ONNX.

    Inputs and outputs keep their names (without ``:0``) and layout.

    Args:
        model_json: the graph.
        weights: the weight file.
        heads: nodes that become the outputs instead of those of the signature. Height and width of the input and of these
            outputs are then free.

    Raises:
        ConversionError: naming the operator that is not supported.
    """
    document = json.loads(model_json.read_text())
    constants = read_weights(document["weightsManifest"], weights.read_bytes())
    graph = _Graph(constants)
    nodes = {node["name"]: node for node in document["modelTopology"]["node"]}
    ends = list(heads) or [_bare(name) for name in document["signature"]["outputs"]]
    for node in _topological_order(nodes, ends):
        graph.add(node)

    def values(kind: str) -> list[onnx.ValueInfoProto]:
        out = []
        for name, spec in document["signature"][kind].items():
            dims: list[int | None] = [int(dim["size"]) for dim in spec["tensorShape"]["dim"]]
            if heads:
                dims[1:3] = [None, None]
            kind_of_number = _ONNX_TYPES[spec.get("dtype", "DT_FLOAT")]
            out.append(helper.make_tensor_value_info(_bare(name), kind_of_number, dims))
        return sorted(out, key=lambda value: value.name)

    initializers = [numpy_helper.from_array(value, name) for name, value in graph.initializers.items()]
    free = [1, None, None, None]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, free) for name in heads] or values(
        "outputs"
    )
    body = helper.make_graph(graph.nodes, "tfjs", values("inputs"), outputs, initializers)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    onnx.checker.check_model(model)
    return model


def _bare(name: str) -> str:
    return name.removeprefix("^").removesuffix(":0")


def read_weights(manifest: list[dict[str, Any]], data: bytes) -> dict[str, np.ndarray]:
    """Read the weights of a model by name, from its manifest and the bytes of its weight file.

    Raises:
        ConversionError: if the bytes do not match the manifest.
    """
    constants, offset = {}, 0
    for spec in (weight for group in manifest for weight in group["weights"]):
        stored = spec.get("quantization", spec)["dtype"]
        if stored not in _DTYPES:
            raise ConversionError(
                f"weight {spec['name']} has the type {stored}: expected {', '.join(_DTYPES)}"
            )
        dtype = _DTYPES[stored]
        count = math.prod(spec["shape"])
        end = offset + count * dtype.itemsize
        if end > len(data):
            raise ConversionError(f"weight file ends within {spec['name']}: {len(data)} bytes")
        value = np.frombuffer(data, dtype, count, offset).reshape(spec["shape"])
        constants[spec["name"]] = value.astype(np.float32) if stored == "float16" else value
        offset = end
    if offset != len(data):
        raise ConversionError(f"weight file has {len(data)} bytes, its manifest describes {offset}")
    return constants


def _topological_order(nodes: dict[str, dict[str, Any]], outputs: list[str]) -> list[dict[str, Any]]:
    """Return the nodes that the outputs depend on, each after its inputs.

    Iterative, since graphs may be deeper than Python's recursion limit.
    """
    ordered: list[dict[str, Any]] = []
    done: set[str] = set()
    stack = [(name, False) for name in reversed(outputs)]
    while stack:
        name, ready = stack.pop()
        if name in done:
            continue
        node = nodes[name]
        if ready:
            done.add(name)
            ordered.append(node)
            continue
        stack.append((name, True))
        stack.extend((_bare(i).split(":")[0], False) for i in node.get("input", []))
    return ordered


def _text(attribute: dict[str, Any]) -> str:
    return base64.b64decode(attribute["s"]).decode()


class _Graph:
    """An ONNX graph under construction. Operators on constants are computed instead of added."""

    def __init__(self, constants: dict[str, np.ndarray]) -> None:
        self.constants = constants
        self.initializers: dict[str, np.ndarray] = {}
        self.nodes: list[onnx.NodeProto] = []
        #: Integer tensors that hold the height and width of another tensor times a factor: its name, and the factor.
        self.sizes: dict[str, tuple[str, npt.NDArray[np.integer]]] = {}

    def emit(self, op: str, inputs: list[str], output: str | list[str], **attributes: Any) -> str:
        outputs = [output] if isinstance(output, str) else output
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def constant(self, name: str, value: np.ndarray) -> str:
        self.initializers[name] = np.ascontiguousarray(value)
        return name

    def operand(self, name: str) -> str:
        if name in self.constants:
            return self.constant(name, self.constants[name])
        return name

    def spatial(self, op: str, source: str, extra: list[str], output: str, **attributes: Any) -> None:
        """Apply a 2D operator of ONNX (NCHW) to a TensorFlow tensor (NHWC)."""
        nchw = self.emit("Transpose", [source], f"{output}/nchw", perm=_TO_NCHW)
        result = self.emit(op, [nchw, *extra], f"{output}/result", **attributes)
        self.emit("Transpose", [result], output, perm=_TO_NHWC)

    def add(self, node: dict[str, Any]) -> None:
        op, name, attributes = node["op"], node["name"], node.get("attr", {})
        inputs = [_bare(i) for i in node.get("input", []) if not i.startswith("^")]
        constant_inputs = [self.constants.get(i) for i in inputs]

        def constant_input(index: int) -> np.ndarray:
            value = constant_inputs[index]
            if value is None:
                raise ConversionError(f"{op} {name!r}: input {index} is not constant")
            return value

        if op in ("Const", "Placeholder"):
            return
        if op == "SparseToDense":
            dense = np.full(constant_input(1), constant_input(3), dtype=constant_input(2).dtype)
            if constant_input(2).size:
                dense[tuple(constant_input(0).T)] = constant_input(2)
            self.constants[name] = dense
        elif op in ("Add", "AddV2"):
            if all(value is not None for value in constant_inputs):
                self.constants[name] = constant_input(0) + constant_input(1)
            else:
                self.emit("Add", [self.operand(i) for i in inputs], name)
        elif op in ("Identity", "Sigmoid"):
            self.emit(op, inputs[:1], name)
        elif op == "LeakyRelu":
            alpha = attributes.get("alpha", {"f": 0.2})["f"]
            self.emit("LeakyRelu", inputs[:1], name, alpha=float(alpha))
        elif op == "Transpose":
            self.emit("Transpose", inputs[:1], name, perm=[int(i) for i in constant_input(1)])
        elif op in ("Pad", "PadV2"):
            pads = self.constant(f"{name}/pads", constant_input(1).T.reshape(-1).astype(np.int64))
            value = constant_input(2) if op == "PadV2" else np.zeros((), np.float32)
            self.emit("Pad", [inputs[0], pads, self.constant(f"{name}/value", value.reshape(()))], name)
        elif op == "ConcatV2":
            self.emit("Concat", [self.operand(i) for i in inputs[:-1]], name, axis=int(constant_input(-1)))
        elif op == "SplitV":
            sizes = self.constant(f"{name}/sizes", constant_input(1).reshape(-1).astype(np.int64))
            outputs = [name if i == 0 else f"{name}:{i}" for i in range(constant_input(1).size)]
            self.emit("Split", [inputs[0], sizes], outputs, axis=int(constant_input(2)))
        elif op == "Reshape":
            shape = self.constant(f"{name}/shape", constant_input(1).astype(np.int64))
            self.emit("Reshape", [inputs[0], shape], name)
        elif op == "Conv2D":
            self._nhwc_only(node)
            kernel = self.constant(f"{name}/kernel", constant_input(1).transpose(3, 2, 0, 1))
            strides, dilations = self._hw(attributes, "strides"), self._hw(attributes, "dilations")
            self.spatial("Conv", inputs[0], [kernel], name, strides=strides, dilations=dilations)
        elif op == "MaxPool":
            self._nhwc_only(node)
            window, strides = self._hw(attributes, "ksize"), self._hw(attributes, "strides")
            self.spatial("MaxPool", inputs[0], [], name, kernel_shape=window, strides=strides)
        elif op == "ResizeBilinear":
            if not attributes.get("half_pixel_centers", {}).get("b"):
                raise ConversionError(f"{op} {name!r}: only half-pixel centres are supported")
            self._resize(inputs[0], name, inputs[1])
        elif not self._add_mobilenet(node, inputs):
            raise ConversionError(f"operator {op} ({name!r}) is not supported")

    def _add_mobilenet(self, node: dict[str, Any], inputs: list[str]) -> bool:
        """Add an operator of fused MobileNets; return False if it is another one."""
        op, name = node["op"], node["name"]
        if op == "Cast":
            self.emit("Cast", inputs, name, to=TensorProto.FLOAT)
        elif op == "Mul" and inputs[0] in self.sizes:
            source, factor = self.sizes[inputs[0]]
            self.sizes[name] = source, factor * self.constants[inputs[1]]
        elif op in ("Mul", "Sub"):
            self.emit(op, [self.operand(i) for i in inputs], name)
        elif op == "Shape":
            self.sizes[name] = inputs[0], np.ones(4, np.int64)
        elif op == "StridedSlice" and inputs[0] in self.sizes:
            source, factor = self.sizes[inputs[0]]
            begin, end, step = (int(self.constants[i].item()) for i in inputs[1:])
            if (begin, end, step) != (1, 3, 1):
                raise ConversionError(f"{op} {name!r}: only height and width of a tensor are supported")
            self.sizes[name] = source, factor[1:3]
        elif op in ("_FusedConv2D", "FusedDepthwiseConv2dNative", "DepthwiseConv2dNative"):
            self._convolve(node, inputs)
        else:
            return False
        return True

    def _convolve(self, node: dict[str, Any], inputs: list[str]) -> None:
        """Add a convolution with its bias and activation."""
        name, attributes = node["name"], node["attr"]
        depthwise = "Depthwise" in node["op"]
        kernel = self.constants[inputs[1]].transpose((2, 3, 0, 1) if depthwise else (3, 2, 0, 1))
        if depthwise and kernel.shape[1] != 1:
            raise ConversionError(f"{node['op']} {name!r}: a channel multiplier of {kernel.shape[1]}")
        extra = [self.constant(f"{name}/kernel", kernel), *(self.operand(i) for i in inputs[2:])]
        fused = [base64.b64decode(s) for s in attributes.get("fused_ops", {}).get("list", {}).get("s", [])]
        activation = [f for f in fused if f != b"BiasAdd"]
        if activation not in ([], [b"Relu"], [b"Relu6"]) or (b"BiasAdd" in fused) != (len(inputs) > 2):
            raise ConversionError(f"{node['op']} {name!r}: fused with {b', '.join(fused).decode()}")
        self.spatial(
            "Conv",
            inputs[0],
            extra,
            f"{name}/linear" if activation else name,
            strides=self._hw(attributes, "strides"),
            dilations=self._hw(attributes, "dilations"),
            # TensorFlow pads what a stride needs, the odd row and column at the end.
            auto_pad="SAME_UPPER" if _text(attributes["padding"]) == "SAME" else "VALID",
            group=len(kernel) if depthwise else 1,
        )
        if activation == [b"Relu"]:
            self.emit("Relu", [f"{name}/linear"], name)
        elif activation:
            limits = (self.constant(f"{name}/{v}", np.array(v, np.float32)) for v in (0, 6))
            self.emit("Clip", [f"{name}/linear", *limits], name)

    def _resize(self, source: str, output: str, height_width: str) -> None:
        """Resize to constant sizes, or by constant factors of the tensor's own size."""
        nchw = self.emit("Transpose", [source], f"{output}/nchw", perm=_TO_NCHW)
        if height_width in self.constants:
            # ONNX requires all four sizes; those of batch and channels are read from the tensor.
            shape = self.emit("Shape", [nchw], f"{output}/shape", start=0, end=2)
            target = self.constant(f"{output}/hw", self.constants[height_width].astype(np.int64))
            scales, sizes = "", self.emit("Concat", [shape, target], f"{output}/sizes", axis=0)
        else:
            of, factor = self.sizes.get(height_width, ("", np.zeros(2)))
            if of != source:
                raise ConversionError(
                    f"ResizeBilinear {output!r}: the size is neither constant nor that of its input"
                )
            scales, sizes = self.constant(f"{output}/scales", np.array([1, 1, *factor], np.float32)), ""
        resized = self.emit(
            "Resize",
            [nchw, "", scales, *([sizes] if sizes else [])],
            f"{output}/result",
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )
        self.emit("Transpose", [resized], output, perm=_TO_NHWC)

    @staticmethod
    def _nhwc_only(node: dict[str, Any]) -> None:
        attributes = node["attr"]
        layout = _text(attributes["data_format"]) if "data_format" in attributes else "NHWC"
        padding = _text(attributes["padding"])
        if layout != "NHWC" or padding != "VALID":
            raise ConversionError(f"{node['op']} {node['name']!r}: {layout} with {padding} padding")

    @staticmethod
    def _hw(attributes: dict[str, Any], key: str) -> list[int]:
        values = attributes.get(key, {}).get("list", {}).get("i", ["1"] * 4)
        return [int(value) for value in values[1:3]]
