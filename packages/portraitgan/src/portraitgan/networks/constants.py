"""Small constant tensors, made once for each device and number format.

Making a tensor from Python numbers copies it from the host, and on a GPU that waits for all that runs there.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def constant(values: tuple[float, ...], like: Tensor) -> Tensor:
    """`values` [N] on the device and in the format of `like`; shared by all callers, so never written to."""
    return _kept(values, like.device, like.dtype)


@lru_cache(maxsize=256)
def _kept(values: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    # Also of use to a later pass with gradients when the first one is within `torch.inference_mode`.
    with torch.inference_mode(False):
        return torch.tensor(values, dtype=dtype).to(device)
