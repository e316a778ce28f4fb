"""Pose networks made for tests: ONNX graphs that find disks of known colors, and photos of such disks.

Every keypoint of COCO-17 is a disk of its own color. The graphs measure how much every pixel resembles a
color, blur that, and put out what a SimCC or a heatmap head would have learned to: a peak on the number of
the pixel in the disk's middle.
"""

import itertools
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from phq_data.models.onnx import embedded_model
from phq_data.models.protocols import COCO_KEYPOINTS, DetectedPerson

GRAY = (128, 128, 128)
COLORS = [c for c in itertools.product((0, 128, 255), repeat=3) if c not in (GRAY, (0, 0, 0))][:17]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SIZE = (96, 128)  # width, height of the networks' input
BLUR = 4.0  # pixels of the input
STANDING = np.add(
    (0.3, 0.7),
    [
        (200, 80), (208, 72), (192, 72), (218, 78), (182, 78), (240, 128), (160, 128), (252, 178), (148, 178),
        (256, 226), (144, 226), (226, 232), (174, 232), (224, 290), (176, 290), (222, 346), (178, 346),
    ],
)  # fmt: skip
"""Keypoints [17, 2] of somebody who faces the camera, in a photo of 400 x 400 pixels, around x = 200."""


def photo(points=STANDING, colors=COLORS, radius=4.0, hidden=(), on=None) -> np.ndarray:
    """A gray photo [400, 400, 3], or `on`, with a disk at every point; the first pixel's middle is at 0.5."""
    image = np.full((400, 400, 3), GRAY, np.float64) if on is None else on.astype(np.float64)
    for index, ((px, py), color) in enumerate(zip(points, colors, strict=True)):
        left, top = (max(0, int(start - radius) - 1) for start in (px, py))
        part = image[top : max(0, int(py + radius) + 2), left : max(0, int(px + radius) + 2)]
        y, x = np.mgrid[: part.shape[0], : part.shape[1]] + 0.5
        cover = np.clip(radius + 0.5 - np.hypot(x + left - px, y + top - py), 0, 1)[..., None]
        if index not in hidden:
            part[:] = cover * np.array(color) + (1 - cover) * part
    return image.round().astype(np.uint8)


class People:
    """A person detector that says what it was told."""

    fingerprint = "people-0"

    def __init__(self, *points: np.ndarray) -> None:
        self.points = points

    def detect(self, image: np.ndarray) -> list[DetectedPerson]:
        """The people; their keypoints are roughly right."""
        found = []
        for points in self.points:
            box = np.concatenate([np.subtract(points.min(0), (20, 40)), np.add(points.max(0), (20, 20))])
            rough = np.concatenate([np.add(points, (5, -4)), np.full((17, 1), 0.6)], axis=1)
            found.append(DetectedPerson(box, rough, 0.8))
        return found


def write(path: Path, head: str = "simcc", **options) -> Path:
    """A network's file; `options` as `network` takes them."""
    onnx.save(network(head, **options), path)
    return path


def network(
    head="simcc",
    *,
    colors=COLORS,  # of the network's first keypoints, in its order
    count=0,  # keypoints; beyond the colors there is nothing to find. 0 = as many as colors
    size=SIZE,
    shape=None,  # of the input, where it is another than [batch, 3, height, width]
    shift=0,  # pixels by which it errs to the right
    sides=None,  # +1: this keypoint is found in the right half only, -1: in the left half; 0: everywhere
    udp=False,
    dtype=TensorProto.FLOAT,
    names=("simcc_x", "simcc_y"),
    scale=1.0,  # of the scores
    poison=False,  # NaN where nothing is found
):
    """An ONNX model."""
    width, height = size
    nodes, constants = [], []

    def constant(value, kind=np.float32):
        constants.append(numpy_helper.from_array(np.array(value, kind), f"c{len(constants)}"))
        return constants[-1].name

    def emit(op, *inputs, output="", **attributes):
        output = output or f"n{len(nodes)}"
        nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    pixels = emit("Cast", "image", to=TensorProto.FLOAT)
    for op, values in (("Mul", STD), ("Add", MEAN)):
        pixels = emit(op, pixels, constant(np.reshape(values, (1, 3, 1, 1))))
    away = emit("Sub", emit("Unsqueeze", pixels, constant([1], np.int64)),
                constant(np.reshape(colors, (1, -1, 3, 1, 1))))  # fmt: skip
    away = emit("ReduceMax", emit("Abs", away), axes=[2], keepdims=0)
    seen = emit("Relu", emit("Sub", constant(1.0), emit("Div", away, constant(50.0))))
    if sides is not None:
        half = np.sign(np.arange(width) + 0.5 - width / 2)
        allowed = np.stack([np.where(side * half >= 0, 1.0, 0.0) for side in sides])
        seen = emit("Mul", seen, constant(allowed[None, :, None, :]))
    if head == "simcc":
        for axis, name, length in ((2, names[0], width), (3, names[1], height)):
            profile = emit("ReduceSum", seen, constant([axis], np.int64), keepdims=0)
            finer = emit("Resize", profile, "", "", constant([1, len(colors), 2 * length], np.int64),
                         mode="linear", coordinate_transformation_mode="asymmetric")  # fmt: skip
            kernel = _kernel(len(colors), 2 * shift if axis == 2 else 0, 2 * BLUR)
            blurred = emit("Conv", finer, constant(kernel), group=len(colors), pads=[32, 32])
            last = emit("Div", blurred, emit("Add", blurred, constant(0.01)))
            last = emit("Div", last, last) if poison else emit("Mul", last, constant(scale))
            if count > len(colors):
                last = emit("Pad", last, constant([0, 0, 0, 0, count - len(colors), 0], np.int64))
            emit("Identity", last, output=name)
        outputs = names
    else:
        wide = _kernel(len(colors), shift)[:, :, None, :]
        tall = _kernel(len(colors), 0)[..., None]
        blurred = emit("Conv", seen, constant(wide), group=len(colors), pads=[0, 16, 0, 16])
        blurred = emit("Conv", blurred, constant(tall), group=len(colors), pads=[16, 0, 16, 0])
        if udp:
            sizes = constant([1, len(colors), height // 4, width // 4], np.int64)
            last = emit("Resize", blurred, "", "", sizes, mode="linear",
                        coordinate_transformation_mode="align_corners")  # fmt: skip
        else:
            every = [constant(values, np.int64) for values in ([0, 0], [height, width], [2, 3], [4, 4])]
            last = emit("Slice", blurred, *every)
        emit("Mul", last, constant(50 * scale), output="heatmap")
        outputs = ("heatmap",)
    graph = helper.make_graph(
        nodes,
        "pose",
        [helper.make_tensor_value_info("image", dtype, shape or ["batch", 3, height, width])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def thunder(path: Path) -> Path:
    """The shipped MoveNet Thunder as somebody's pose network: images last, and only its heatmaps."""
    model = onnx.load(embedded_model("movenet-thunder").path)
    for node in model.graph.node:
        node.input[:] = ["bytes" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Cast", ["image"], ["bytes"], to=TensorProto.UINT8))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    kept = [output for output in model.graph.output if output.name == "heatmap"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, path)
    return path


def _kernel(count: int, shift: float, blur: float = BLUR) -> np.ndarray:
    """[count, 1, 8 * blur + 1] a Gaussian that moves what it blurs by `shift` to the right."""
    taps = np.exp(-((np.arange(-4 * blur, 4 * blur + 1) + shift) ** 2) / (2 * blur**2))
    return np.tile(taps / taps.sum(), (count, 1, 1)).astype(np.float32)


def named(*names: str) -> list[int]:
    """The numbers of keypoints of COCO-17."""
    return [COCO_KEYPOINTS.index(name) for name in names]
