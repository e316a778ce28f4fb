"""Where the networks of PyTorch run."""

from __future__ import annotations

import os


def best_device() -> str:
    """`PHQ_DEVICE`, or the first GPU, or the CPU."""
    if chosen := os.environ.get("PHQ_DEVICE"):
        return chosen
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
