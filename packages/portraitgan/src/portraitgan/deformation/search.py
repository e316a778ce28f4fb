"""Which search backend a rig, a device and what is installed allow."""

from __future__ import annotations

import torch

from portraitgan.config import DeformationConfig
from portraitgan.deformation.closest import BruteForce, ClosestFaces
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.skinning import SkinnedMesh


def make_search(mesh: SkinnedMesh, config: DeformationConfig) -> ClosestFaces:
    """The backend that `config.search` names. Raises `DeformationError` if it cannot run here."""
    if config.search in ("auto", "brute"):
        return BruteForce(mesh.faces, torch.float32)
    raise DeformationError(f"deformation.search '{config.search}' is not available; choose 'brute'")
