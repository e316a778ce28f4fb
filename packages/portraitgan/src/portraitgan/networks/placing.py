"""Putting networks on a device in the number formats that the config states."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

from portraitgan.precision import PrecisionConfig

Network = TypeVar("Network", bound=nn.Module)


def place(network: Network, device: torch.device, precision: PrecisionConfig) -> Network:
    """`network` on `device`; on a GPU with channels-last weights and, if the config says so, TF32.

    TF32 is a setting of the whole process. What runs in half precision is decided layer by layer in the
    networks (the large resolutions of discriminator and super-resolution).
    """
    if device.type != "cuda":
        return network.to(device)
    torch.backends.cuda.matmul.allow_tf32 = precision.tf32
    torch.backends.cudnn.allow_tf32 = precision.tf32
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    network = network.to(device)
    if precision.channels_last:
        for parameter in network.parameters():
            if parameter.ndim == 4:
                parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return network
