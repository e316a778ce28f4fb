"""Random numbers of training, as a function of the seed and of where it is used.

No generator lives from one iteration to the next. So a checkpoint holds no random state, a resumed run draws
what the uninterrupted one would have drawn, and a micro-batch gets the same numbers in whichever process.
"""

from __future__ import annotations

import zlib

import numpy as np
import torch


def seed_of(seed: int, *place: int | str) -> np.random.SeedSequence:
    """A seed for a place: the phase's name, the iteration, the micro-batch …"""
    words = [zlib.crc32(part.encode()) if isinstance(part, str) else part for part in place]
    return np.random.SeedSequence([seed, *words])


def numpy_random(seed: int, *place: int | str) -> np.random.Generator:
    """A numpy generator for a place."""
    return np.random.default_rng(seed_of(seed, *place))


def torch_random(device: torch.device, seed: int, *place: int | str) -> torch.Generator:
    """A torch generator on `device` for a place."""
    return reseed(torch.Generator(device), seed, *place)


def reseed(generator: torch.Generator, seed: int, *place: int | str) -> torch.Generator:
    """The same generator, from now on with the numbers of a place."""
    state = int(seed_of(seed, *place).generate_state(1, np.uint64)[0])
    return generator.manual_seed(state & (2**63 - 1))
