"""Which search backend a rig, a device and what is installed allow."""

from __future__ import annotations

import functools
import importlib.util
import logging

import torch

from portraitgan.config import DeformationConfig
from portraitgan.deformation.closest import BruteForce, ClosestFaces
from portraitgan.deformation.errors import DeformationError
from portraitgan.deformation.skinning import SkinnedMesh

log = logging.getLogger(__name__)


@functools.cache
def warp_available() -> bool:
    """Whether NVIDIA Warp is installed (the optional extra `portraitgan[warp]`)."""
    return importlib.util.find_spec("warp") is not None


def make_search(mesh: SkinnedMesh, config: DeformationConfig) -> ClosestFaces:
    """The backend that `config.search` names.

    `auto` takes tables with Warp (trees for RigNeRF's field, which has no distance limit) and brute force
    without, which it says in the log. Raises `DeformationError` if a named backend cannot run here.
    """
    kind = config.search
    if kind == "auto":
        kind = "bvh" if config.mode == "rignerf" else "tables"
        if not warp_available():
            log.warning(
                "NVIDIA Warp is not installed, so closest faces are searched exhaustively, hundreds of times "
                "slower; install portraitgan[warp] to train with a deformation"
            )
            kind = "brute"
    if kind == "brute":
        return BruteForce(mesh.faces, torch.float32)
    if not warp_available():
        raise DeformationError(
            f"deformation.search '{kind}' needs NVIDIA Warp: install portraitgan[warp], or choose 'brute'"
        )
    from portraitgan.deformation import warp_search

    if kind == "bvh":
        return warp_search.BvhSearch(mesh)
    if config.mode == "rignerf":
        raise DeformationError(
            "deformation.mode 'rignerf' reaches every point: choose search 'bvh' or 'brute'"
        )
    # Only the faces' own maps are the same for a whole class; other modes and fades need the closest point.
    closest_only = config.mode != "face" or config.fade > 0
    return warp_search.TableSearch(
        mesh, config.table_resolution, config.max_distance, closest_only=closest_only
    )
