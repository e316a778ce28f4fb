"""`make bench-crowdnet`: people a second of the batched implementation against the person-by-person one.

Two ratios, because two things are in the network. `batched_vs_loop` is of what the batched one changes: from
the image network's features to posed SMPL vertices (joint volumes, the graph with its own layers for every
joint, pose decoding, skinning). `patch_to_mesh` is of everything. There the image network, a ResNet-50 of
about 11 billion operations a person, dominates: one person alone already keeps a CPU busy with it, and no
order of the same operations makes it several times faster.

Both have the same random weights and a random body of SMPL's size. Their rounds alternate, so that a
busy machine is unfair to neither; the best round counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from phq_data.bodies.smpl_arrays import SmplArrays
from phq_data.models.crowdnet.fast import FastCrowdNet
from phq_data.models.crowdnet.layout import HEATMAP_SIZE, INPUT_SIZE
from phq_data.models.crowdnet.network import CrowdNet, Regression, find_joints, sample_features
from phq_data.models.crowdnet.placement import photo_translation
from phq_data.models.crowdnet.rotations import body_pose
from phq_data.models.crowdnet.smpl_layer import SmplLayer

VERTICES = 6890


def main() -> None:
    """Parse the command line, run the benchmark and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crowdnet", description=__doc__)
    parser.add_argument("--batch", type=int, default=16, help="people (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each implementation (default 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of the CPU (default: all)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--json", action="store_true", help="print one JSON object as the last line")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no GPU here")
    result = measure(options.batch, options.rounds, options.device)
    result["machine"] = f"{platform.machine()}, {os.cpu_count()} cores, {options.threads} threads"
    if options.device == "cuda":
        result["machine"] = torch.cuda.get_device_name()
    _show(result)
    if options.json:
        sys.stdout.write(json.dumps(result) + "\n")


def measure(batch: int, rounds: int, device: str = "cpu") -> dict:
    """Seconds and people a second of both implementations, whole and without the image network; their largest
    difference relative to the meshes' size.
    """
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False  # as the fitter
    plain = CrowdNet().eval().requires_grad_(False).to(device)
    fast = FastCrowdNet(plain).to(device)
    body = SmplLayer(made_body()).to(device)
    image = torch.rand(batch, 3, INPUT_SIZE, INPUT_SIZE).to(device)
    joints = torch.rand(batch, 30, 2).to(device) * HEATMAP_SIZE
    mask = torch.ones(batch, 30, 1).to(device)
    boxes = torch.tensor([[10.0, 20.0, 400.0, 400.0]]).repeat(batch, 1).to(device)
    feature = torch.rand(batch, 2048, 8, 8).to(device)

    def finish(form: CrowdNet | FastCrowdNet, said: Regression, box: Tensor) -> Tensor:
        pose = body_pose(said.root_6d, form.decode(said.latent))
        vertices: Tensor = body(pose, said.shape, photo_translation(said.camera, box)).vertices
        return vertices

    def one_by_one() -> Tensor:
        rows = [slice(i, i + 1) for i in range(batch)]
        return torch.cat([finish(plain, plain(image[r], joints[r], mask[r]), boxes[r]) for r in rows])

    def batched() -> Tensor:
        return finish(fast, fast(image, joints, mask), boxes)

    def rest_one_by_one() -> Tensor:
        rows = [slice(i, i + 1) for i in range(batch)]
        return torch.cat([finish(plain, _regress(plain, feature[r]), boxes[r]) for r in rows])

    def rest_batched() -> Tensor:
        return finish(fast, fast.regress(feature), boxes)

    with torch.inference_mode():
        slow_mesh, fast_mesh = one_by_one(), batched()  # warms both up
        difference = float((slow_mesh - fast_mesh).abs().max() / slow_mesh.abs().max())
        loop, stacked = _best(rounds, one_by_one, batched)
        rest_loop, rest_stacked = _best(3 * rounds, rest_one_by_one, rest_batched)
    return {
        "batch": batch,
        "loop_people_per_s": round(batch / rest_loop, 1),
        "batched_people_per_s": round(batch / rest_stacked, 1),
        "batched_vs_loop": round(rest_loop / rest_stacked, 2),
        "patch_to_mesh": {
            "loop_people_per_s": round(batch / loop, 2),
            "batched_people_per_s": round(batch / stacked, 2),
            "batched_vs_loop": round(loop / stacked, 2),
        },
        "largest_relative_difference": difference,
    }


def made_body(seed: int = 0) -> SmplArrays:
    """A body of SMPL's size with random numbers: good for timing, no shape of a person."""
    rng = np.random.default_rng(seed)
    weights = rng.random((VERTICES, 24)).astype(np.float32) ** 8
    regressor = rng.random((24, VERTICES)).astype(np.float32)
    return SmplArrays(
        v_template=rng.normal(0, 0.3, (VERTICES, 3)).astype(np.float32),
        shapedirs=rng.normal(0, 0.01, (VERTICES, 3, 10)).astype(np.float32),
        posedirs=rng.normal(0, 0.001, (VERTICES, 3, 207)).astype(np.float32),
        j_regressor=regressor / regressor.sum(axis=1, keepdims=True),
        weights=weights / weights.sum(axis=1, keepdims=True),
        faces=rng.integers(0, VERTICES, (13776, 3)).astype(np.int32),
    )


def _regress(network: CrowdNet, feature: Tensor) -> Regression:
    """What `CrowdNet.forward` does after its image network."""
    coord, score = find_joints(network.position_net(feature))
    nodes = torch.cat([sample_features(feature, coord), coord, score], dim=2)
    return Regression(coord, score, *network.rotation_net(nodes))


def _best(rounds: int, *forms: Callable[[], Tensor]) -> list[float]:
    """The least seconds of each implementation over alternating rounds."""
    seconds = [[float("inf")] * len(forms)]
    for _ in range(rounds):
        row = []
        for form in forms:
            began = time.perf_counter()
            if form().is_cuda:
                torch.cuda.synchronize()
            row.append(time.perf_counter() - began)
        seconds.append(row)
    return [min(column) for column in zip(*seconds, strict=True)]


def _show(result: dict) -> None:
    lines = [
        f"{result['machine']}, batch {result['batch']}",
        f"{'people a second':<34}{'one by one':>12}{'batched':>12}{'ratio':>8}",
    ]
    for name, row in (("from features to mesh", result), ("from patch to mesh", result["patch_to_mesh"])):
        lines.append(
            f"{name:<34}{row['loop_people_per_s']:>12.2f}{row['batched_people_per_s']:>12.2f}"
            f"{row['batched_vs_loop']:>8.2f}"
        )
    difference = result["largest_relative_difference"]
    lines.append(f"largest difference of a vertex: {difference:.1e} of the largest number")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
