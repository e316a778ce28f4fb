"""Is it the same person from two sides? The paper's identity metric.

Latents with truncation 0.6 in the neutral pose, the mapping network conditioned on the average (front)
camera; each rendered from two cameras of the dataset whose yaw is limited, since faces are recognised only
where they are seen. The score is the mean cosine of the two faces' embeddings.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from phq_data import camera as cameras
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.faces import FaceNetwork, aligned, face_points
from portraitgan.metrics.generate import Advance, gathered, shares, to_pixels
from portraitgan.training.distributed import World

LATENTS = 1024
TRUNCATION = 0.6
YAW_LIMIT = 45.0
"""Degrees; the paper says that the yaw is limited, not to how much."""


def measure(
    model: Model,
    data: PortraitData,
    network: FaceNetwork,
    world: World,
    *,
    count: int = LATENTS,
    yaw_limit: float = YAW_LIMIT,
    truncation: float = TRUNCATION,
    batch: int = 4,
    seed: int = 0,
    done: Advance = lambda number: None,
) -> dict[str, Any]:
    """Mean cosine of two views of the same person, and of two people, which tells what the network sees.

    Raises `MetricError` when the data has no camera within `yaw_limit` degrees of the front.
    """
    labels, _ = data.labels(range(len(data)))
    yaw, _, _ = cameras.angles(cameras.from_label(labels.numpy())[0])
    frontal = labels[torch.from_numpy(np.abs(np.degrees(yaw)) <= yaw_limit)]
    if len(frontal) == 0:
        raise MetricError(f"no portrait is seen from within {yaw_limit:g} degrees of the front")
    points = face_points(model.rig)
    pairs: list[np.ndarray] = []  # [N, 2, D]
    for number in shares(count, batch, world):
        size = min(batch, count - number * batch)
        random = np.random.default_rng([seed, 1, number])
        z = torch.from_numpy(random.standard_normal((size, model.config.generator.z_dim)).astype(np.float32))
        ws = model.styles(z.to(model.device), truncation)
        views = []
        for chosen in random.integers(0, len(frontal), (2, size)):
            seen = frontal[chosen]
            made = model.render(ws, seen.to(model.device))
            faces = aligned(to_pixels(made.image), seen.numpy(), points)
            views.append(network.embed(faces))
        pairs.append(np.stack(views, axis=1))
        done(size)
    found = gathered(pairs, world)
    same = (found[:, 0] * found[:, 1]).sum(axis=1)
    other = (found[:, 0] * np.roll(found[:, 1], 1, axis=0)).sum(axis=1)
    return {
        "similarity": round(float(same.mean()), 4),
        "similarity_std": round(float(same.std()), 4),
        "different_people": round(float(other.mean()), 4) if len(found) > 1 else None,
        "latents": count,
        "yaw_limit_deg": yaw_limit,
        "truncation": truncation,
        "network": network.name,
        "network_sha256": network.sha256,
        "seed": seed,
    }
