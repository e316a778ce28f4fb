"""The processes of a run: one alone, or several started by `torchrun`, which all execute the same loop."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor
from torch import distributed as dist

from phq_data.errors import PhqError


class DistributedError(PhqError, RuntimeError):
    """Processes that cannot be joined; the message says why."""


@dataclass(frozen=True)
class World:
    """This process among those of the run."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def take(self, tensor: Tensor) -> Tensor:
        """`tensor` [...] of the host on this process's device; a GPU's queue is not waited for."""
        if self.device.type != "cuda":
            return tensor.to(self.device)
        return tensor.pin_memory().to(self.device, non_blocking=True)

    def mean(self, tensors: Sequence[Tensor]) -> None:
        """Replace every tensor [...] by its mean over all processes, element by element."""
        if self.size > 1 and tensors:
            alone = len(tensors) == 1 and tensors[0].is_contiguous()
            flat = tensors[0].view(-1) if alone else torch.cat([tensor.reshape(-1) for tensor in tensors])
            dist.all_reduce(flat)
            flat /= self.size
            for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(part.reshape(tensor.shape))

    def any(self, value: bool) -> bool:
        """Whether any process says yes."""
        if self.size == 1:
            return value
        flag = torch.tensor(float(value), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag.item() > 0)

    def least(self, value: int) -> int:
        """The smallest of all processes' values."""
        if self.size == 1:
            return value
        number = torch.tensor(value, device=self.device)
        dist.all_reduce(number, dist.ReduceOp.MIN)
        return int(number.item())

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


@contextmanager
def join(device: str | None = None) -> Iterator[World]:
    """This process's world, from the environment that `torchrun` sets; alone without one.

    `device` is cpu or cuda; by default a GPU if there is one. Each process takes the GPU of its local rank.
    Raises `DistributedError` for a device that is not there.
    """
    kind = device or ("cuda" if torch.cuda.is_available() else "cpu")
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    try:
        where = torch.device(kind)
    except RuntimeError as error:
        raise DistributedError(f"no such device: {kind}") from error
    if where.type == "cuda":
        count = torch.cuda.device_count()
        index = where.index if where.index is not None and size == 1 else local
        if index >= count:
            raise DistributedError(
                f"this process wants GPU {index}, but {count} are visible: start at most one process a GPU "
                "(torchrun --nproc-per-node), or use --device cpu"
            )
        where = torch.device("cuda", index)
        torch.cuda.set_device(where)
        torch.backends.cudnn.benchmark = True
    if size == 1:
        yield World(0, 1, where)
        return
    backend = "nccl" if where.type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=30))
    log = logging.getLogger("portraitgan")
    before = log.level
    if rank > 0:  # what the first process warns of holds for all
        log.setLevel(logging.ERROR)
    agents, shared = os.environ.get("GROUP_WORLD_SIZE", "1"), os.environ.get("TORCHELASTIC_USE_AGENT_STORE")
    if agents != "1" and shared == "True":
        log.warning(
            "agents of torchrun that share their store find addresses of dead processes there after a "
            "restart and may hang: start them with TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 (docs/training.md)"
        )
    try:
        yield World(rank, size, where)
    finally:
        log.setLevel(before)
        dist.destroy_process_group()
