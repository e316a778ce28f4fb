"""Distances between sets of features: Frechet distance (FID) and maximum mean discrepancy (KID)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Moments:
    """Count, sum and sum of outer products of features; sums add up over parts and processes."""

    count: int
    total: Tensor  # [D] float64
    products: Tensor  # [D, D] float64

    @classmethod
    def none(cls, size: int, device: torch.device | str = "cpu") -> Moments:
        """Of no features of `size` numbers."""
        total = torch.zeros(size, dtype=torch.float64, device=device)
        return cls(0, total, torch.outer(total, total))

    @classmethod
    def of(cls, features: Tensor) -> Moments:
        """Of features [N, D]."""
        wide = features.double()
        return cls(len(wide), wide.sum(dim=0), wide.T @ wide)

    def __add__(self, other: Moments) -> Moments:
        return Moments(self.count + other.count, self.total + other.total, self.products + other.products)

    @cached_property
    def mean(self) -> Tensor:
        """[D]."""
        return self.total / self.count

    @cached_property
    def covariance(self) -> Tensor:
        """[D, D], unbiased."""
        if self.count < 2:
            raise ValueError(f"{self.count} images have no covariance")
        return (self.products - self.count * torch.outer(self.mean, self.mean)) / (self.count - 1)

    @cached_property
    def root(self) -> Tensor:
        """The symmetric square root of the covariance, [D, D]."""
        values, vectors = torch.linalg.eigh(self.covariance)
        root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
        return root


def frechet_distance(real: Moments, made: Moments) -> float:
    """|m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)) of two sets of features, each of two images or more.

    The trace of the root is that of (R C2 R)^(1/2) with R the root of C1, which is symmetric, so that nothing
    complex can appear however few images there are.
    """
    apart = (real.mean - made.mean).square().sum()
    between = real.root @ made.covariance @ real.root
    overlap = torch.linalg.eigvalsh((between + between.T) / 2).clamp(min=0).sqrt().sum()
    spread = real.covariance.trace() + made.covariance.trace()
    return float(apart + spread - 2 * overlap)


def kernel_distance(
    real: Tensor,  # [N, D]
    made: Tensor,  # [M, D]
    seed: int = 0,
    subsets: int = 100,
    size: int = 1000,
) -> tuple[float, float]:
    """KID: (mean, standard deviation over subsets) of the unbiased MMD^2 under (x.y / D + 1)^3.

    Subsets of `size` images (or as many as there are) are drawn without replacement. Zero in the mean for
    equal distributions. Raises `ValueError` for fewer than two images.
    """
    size = min(size, len(real), len(made))
    if size < 2:
        raise ValueError("KID needs at least two images of each kind")
    random = np.random.default_rng(seed)
    found = []
    for _ in range(subsets):
        x = real[torch.from_numpy(_subset(random, len(real), size)).to(real.device)].double()
        y = made[torch.from_numpy(_subset(random, len(made), size)).to(made.device)].double()
        within_x, within_y = _kernel(x, x), _kernel(y, y)
        pairs = size * (size - 1)
        within = (within_x.sum() - within_x.trace() + within_y.sum() - within_y.trace()) / pairs
        found.append(float(within - 2 * _kernel(x, y).mean()))
    return float(np.mean(found)), float(np.std(found))


def _subset(random: np.random.Generator, count: int, size: int) -> NDArray[np.int64]:
    return random.choice(count, size, replace=False)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    return (x @ y.T / x.shape[1] + 1) ** 3


def joined(parts: Sequence[Moments]) -> Moments:
    """All of them together."""
    found = parts[0]
    for part in parts[1:]:
        found = found + part
    return found
