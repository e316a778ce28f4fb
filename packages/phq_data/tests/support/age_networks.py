"""Age networks that tests make: they take the mean red of what they see (0..255) for an age in years."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from phq_data.models.user_network import beside

SIDE = 32
PLAIN = {"mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}
"""Of the JSON: pixels as they are."""


def write(
    path: Path,
    *,
    classes: tuple[float, ...] = (),  # ages in the middle of classes: logits fall with the distance to them
    before: int = 0,  # numbers in front of the years, as of networks that also tell something else
    size: tuple[int, int] = (SIDE, SIDE),
    factor: float = 1.0,
    **told: object,
) -> Path:
    """A network's file, and the JSON beside it with `told` (and `PLAIN`)."""
    constants = [
        numpy_helper.from_array(np.array(value, kind), name)
        for name, value, kind in (
            ("red", [0], np.int64), ("shape", [1, 1], np.int64), ("factor", factor, np.float32),
            ("middle", [classes], np.float32), ("tau", -4.0, np.float32),
            ("others", np.full((1, before), -7.0), np.float32),
        )
    ]  # fmt: skip
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("Gather", ["means", "red"], ["level"], axis=1),
        helper.make_node("Reshape", ["level", "shape"], ["flat"]),
        helper.make_node("Mul", ["flat", "factor"], ["years"]),
    ]
    if classes:
        nodes += [
            helper.make_node("Sub", ["years", "middle"], ["away"]),
            helper.make_node("Mul", ["away", "away"], ["squared"]),
            helper.make_node("Div", ["squared", "tau"], ["age"]),
        ]
    else:
        nodes.append(helper.make_node("Concat", ["others", "years"], ["age"], axis=1))
    graph = helper.make_graph(
        nodes,
        "age",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, size[1], size[0]])],
        [helper.make_tensor_value_info("age", TensorProto.FLOAT, None)],
        constants,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    beside(path).write_text(json.dumps({**PLAIN, **told}))
    return path
