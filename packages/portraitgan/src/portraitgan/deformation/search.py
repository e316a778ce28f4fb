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


def triton_serves(device: torch.device) -> bool:
    """Whether Triton's kernel for the tables runs there: on a GPU, with Triton as torch brings it."""
    return device.type == "cuda" and importlib.util.find_spec("triton") is not None


def make_search(mesh: SkinnedMesh, config: DeformationConfig) -> ClosestFaces:
    """The backend that `config.search` names.

    `auto` takes tables (trees for RigNeRF's field, which has no distance limit) where Warp is, tables where a
    GPU has at least Triton, and brute force otherwise, which it says in the log. Raises `DeformationError` if
    a named backend cannot run here.
    """
    kind = config.search
    device = mesh.vertices.device
    if kind == "auto":
        kind = "bvh" if config.mode == "rignerf" else "tables"
        if not warp_available() and (kind == "bvh" or not triton_serves(device)):
            log.warning(
                "NVIDIA Warp is not installed, so closest faces are searched exhaustively, hundreds of times "
                "slower; install portraitgan[warp] to train with a deformation"
            )
            kind = "brute"
    if kind == "brute":
        return BruteForce(mesh.faces, torch.float32)
    if kind == "tables" and config.mode == "rignerf":
        raise DeformationError(
            "deformation.mode 'rignerf' reaches every point: choose search 'bvh' or 'brute'"
        )
    if not warp_available():
        if kind == "tables" and triton_serves(device):
            return _triton_tables(mesh, config)
        raise DeformationError(
            f"deformation.search '{kind}' needs NVIDIA Warp: install portraitgan[warp], or choose 'brute'"
        )
    from portraitgan.deformation import warp_search

    if kind == "bvh":
        return warp_search.BvhSearch(mesh)
    return warp_search.TableSearch(
        mesh, config.table_resolution, config.max_distance, closest_only=_closest_only(config)
    )


def _triton_tables(mesh: SkinnedMesh, config: DeformationConfig) -> ClosestFaces:
    from portraitgan.deformation.triton_search import TritonTableSearch

    return TritonTableSearch(
        mesh, config.table_resolution, config.max_distance, closest_only=_closest_only(config)
    )


def _closest_only(config: DeformationConfig) -> bool:
    """Only the faces' own maps are the same for a whole class; other modes need the point itself."""
    return config.mode != "face" or config.fade > 0
