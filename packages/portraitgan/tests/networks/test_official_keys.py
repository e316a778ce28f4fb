"""official-3dportraitgan-state-dict.json: every official tensor has exactly one place here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from portraitgan.checkpoints.convert import is_dropped, official_key
from portraitgan.config import ModelConfig
from portraitgan.networks.discriminator import Discriminator
from portraitgan.networks.generator import Generator
from portraitgan.presets import paper_256, paper_512

CONFIGS = {"512": paper_512, "256": paper_256}


@pytest.fixture(scope="module")
def golden_tables(golden_folder: Path) -> dict[str, dict[str, Any]]:
    return json.loads((golden_folder / "official-3dportraitgan-state-dict.json").read_text())


@pytest.mark.parametrize("size", CONFIGS)
@pytest.mark.parametrize("network", ["G", "D"])
def test_golden_portraitgan_keys(network: str, size: str, golden_tables: dict[str, dict[str, Any]]) -> None:
    config: ModelConfig = CONFIGS[size]()
    with torch.device("meta"):
        made = Generator(config) if network == "G" else Discriminator(config.discriminator)
    ours = {key: list(tensor.shape) for key, tensor in made.state_dict().items()}
    learned = {key for key, _ in made.named_parameters()}
    table = golden_tables[f"{network}_{size}"]
    mapped = {official_key(key): entry for key, entry in table.items()}
    dropped = mapped.pop(None, None)
    assert dropped is not None
    assert {key: entry["shape"] for key, entry in mapped.items()} == ours
    assert {key for key, entry in mapped.items() if entry["group"] == "learned"} == learned
    kept = [key for key in table if official_key(key) is not None]
    assert len(kept) == len(mapped), "two official tensors share a place"
    lost = {entry["group"] for key, entry in table.items() if official_key(key) is None}
    assert lost <= {"smpl", "fir", "stat"}
    assert {key for key in table if official_key(key) is None} == {key for key in table if is_dropped(key)}


def test_golden_portraitgan_counts(golden_tables: dict[str, dict[str, Any]]) -> None:
    """The numbers of learned weights that the official networks have (spec section 8)."""
    expected = {"512": (53_816_172, 49_312_422), "256": (52_741_548, 49_193_958)}
    for size, counts in expected.items():
        config = CONFIGS[size]()
        with torch.device("meta"):
            networks = (Generator(config), Discriminator(config.discriminator))
        assert tuple(sum(p.numel() for p in n.parameters()) for n in networks) == counts
