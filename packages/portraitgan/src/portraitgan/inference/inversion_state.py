"""An interrupted inversion's file: where the optimisation of the styles was.

A file belongs to one question (portrait, model, settings); another question starts anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from phq_data.files import writing

Leaves = Mapping[str, Tensor]
_STEP, _DISTANCES, _MOMENTS = "step", "distances", ("exp_avg", "exp_avg_sq")


def question_digest(facts: Mapping[str, Any]) -> str:
    """A digest of everything that decides an inversion's result."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def capture(
    step: int, leaves: Leaves, optimiser: torch.optim.Adam, distances: list[float]
) -> dict[str, Tensor]:
    """What is needed to go on after `step` steps: the optimised tensors, Adam's moments, the curve so far."""
    tensors = {
        _STEP: torch.tensor(step),
        _DISTANCES: torch.tensor(distances, dtype=torch.float64),
    }
    for name, leaf in leaves.items():
        tensors[name] = leaf.detach()
        for moment in _MOMENTS:
            tensors[f"{moment}.{name}"] = optimiser.state[leaf][moment]
    return {name: value.cpu().contiguous().clone() for name, value in tensors.items()}


@torch.no_grad()
def restore(
    kept: Mapping[str, Tensor], leaves: Leaves, optimiser: torch.optim.Adam
) -> tuple[int, list[float]]:
    """Put `capture`'s tensors back; returns (steps done, distances so far)."""
    step = int(kept[_STEP])
    for name, leaf in leaves.items():
        leaf.copy_(kept[name])
        optimiser.state[leaf] = {
            "step": torch.tensor(float(step)),
            **{moment: kept[f"{moment}.{name}"].to(leaf.device) for moment in _MOMENTS},
        }
    return step, kept[_DISTANCES].tolist()


def save_state(path: str | Path, question: str, tensors: dict[str, Tensor]) -> None:
    """Write a state file, whole or not at all."""
    with writing(path) as temporary:
        save_file(tensors, temporary, {"question": question})


def load_state(path: str | Path, question: str) -> dict[str, Tensor] | None:
    """The tensors of a state file; none if there is none, if it is damaged or of another question."""
    try:
        with safe_open(str(path), framework="pt") as file:
            if (file.metadata() or {}).get("question") != question:
                return None
            return {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError, OSError):
        return None
