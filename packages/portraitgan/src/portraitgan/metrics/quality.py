"""FID and KID of generated portraits against a release: over all views and for every octant of the yaw.

View-conditioned FID flatters: a generator that draws another person for every view looks as good as one that
turns the same person. So the independent conditioning of `Setting` is measured beside the identical one, and
octants show which sides are bad.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist

from phq_data.files import writing
from portraitgan.data.balance import OCTANTS, octant_of
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.model import Model
from portraitgan.metrics.features import FeatureNetwork
from portraitgan.metrics.generate import Advance, Setting, drawn, shares
from portraitgan.metrics.statistics import Moments, frechet_distance, joined, kernel_distance
from portraitgan.training.distributed import World

KID_IMAGES = 10_000
"""Features of so many images of each kind are kept for KID."""
_TOGETHER = 256
_FORMAT = "portraitgan-features/1"


@dataclass(frozen=True, eq=False)
class FeatureSet:
    """Features of a set of images, by octant; and those of some images one by one."""

    octants: tuple[Moments, ...]  # 8
    some: Tensor  # [N, D] float32

    @cached_property
    def all(self) -> Moments:
        """Of all octants together."""
        return joined(self.octants)


class Collector:
    """Gathers features of this process's images; `finished` joins those of all processes."""

    def __init__(self, network: FeatureNetwork, device: torch.device, world: World, keep: int) -> None:
        self._network = network
        self._world = world
        self._octants = [Moments.none(network.size, device) for _ in OCTANTS]
        self._waiting: list[list[Tensor]] = [[] for _ in OCTANTS]
        self._some: list[Tensor] = []
        self._left = -(-keep // world.size)

    def add(self, pixels: Tensor, cameras: Tensor) -> None:
        """Images uint8 [N, 3, H, W] seen from `cameras` [N, 25]."""
        features = self._network.extract(pixels)
        octants = torch.from_numpy(octant_of(cameras.cpu().numpy())).to(features.device)
        for index in octants.unique().tolist():
            self._waiting[index].append(features[octants == index])
            if sum(map(len, self._waiting[index])) >= _TOGETHER:
                self._fold(index)
        if self._left > 0:
            self._some.append(features[: self._left].float())
            self._left -= len(self._some[-1])

    def _fold(self, index: int) -> None:
        """Add what waits to the sums of an octant: the outer products are large, so not one by one."""
        if self._waiting[index]:
            self._octants[index] = self._octants[index] + Moments.of(torch.cat(self._waiting[index]))
            self._waiting[index] = []

    def finished(self) -> FeatureSet:
        """The features of all processes; every process must call this."""
        for index in range(len(OCTANTS)):
            self._fold(index)
        some = torch.cat(self._some) if self._some else self._octants[0].total.new_zeros(0).float()
        if self._world.size == 1:
            return FeatureSet(tuple(self._octants), some)
        size = self._world.size
        parts = []
        for moments in self._octants:
            count = moments.total.new_tensor([float(moments.count)])
            sums = [count, moments.total, moments.products]
            self._world.mean(sums)
            # The mean over processes times their number is the sum.
            parts.append(Moments(round(float(sums[0]) * size), sums[1] * size, sums[2] * size))
        gathered: list[Tensor | None] = [None] * size
        dist.all_gather_object(gathered, some.cpu())
        together = [part for part in gathered if part is not None and len(part)]
        return FeatureSet(tuple(parts), torch.cat(together).to(self._world.device))


def real_features(
    data: PortraitData,
    network: FeatureNetwork,
    world: World,
    *,
    batch: int = 32,
    cache: Path | None = None,
    done: Advance = lambda number: None,
) -> FeatureSet:
    """Features of all portraits of `data` (mirrored ones too), from `cache` if they were measured before."""
    path = None if cache is None else cache / f"{_key(data, network)}.safetensors"
    known = None if path is None else _read(path, world.device)
    # All processes or none: a file may have appeared or gone between two of them.
    if not world.any(known is None) and known is not None:
        done(len(data))
        return known
    collector = Collector(network, world.device, world, KID_IMAGES)
    # In a fixed shuffled order, so that the images kept for KID are of all kinds.
    order = np.random.default_rng(0).permutation(len(data))
    for number in shares(len(data), batch, world):
        part = data.batch(order[number * batch : (number + 1) * batch])
        collector.add(part.images.to(world.device), part.cameras)
        done(len(part))
    features = collector.finished()
    if path is not None and world.first:
        _write(path, features)
    return features


def made_features(
    model: Model,
    data: PortraitData,
    network: FeatureNetwork,
    setting: Setting,
    count: int,
    world: World,
    *,
    batch: int = 8,
    seed: int = 0,
    done: Advance = lambda number: None,
) -> FeatureSet:
    """Features of `count` generated portraits, seen from cameras drawn from `data`."""
    collector = Collector(network, world.device, world, KID_IMAGES)
    for part in drawn(model, data, setting, count, batch, seed, world, done):
        collector.add(part.pixels, part.cameras)
    return collector.finished()


def compare(real: FeatureSet, made: FeatureSet, seed: int = 0) -> dict[str, Any]:
    """FID, KID (times 1,000) and FIDs by octant; None where a side has fewer than two images.

    An octant with fewer images than features is biased upwards, on both sides; its count tells.
    """
    kid = kernel_distance(real.some, made.some, seed) if min(len(real.some), len(made.some)) > 1 else None
    return {
        "fid": _distance(real.all, made.all),
        "kid_x1000": None if kid is None else round(kid[0] * 1000, 4),
        "kid_x1000_std": None if kid is None else round(kid[1] * 1000, 4),
        "octants": {
            str(middle): {"fid": _distance(a, b), "real": a.count, "made": b.count}
            for middle, a, b in zip(OCTANTS, real.octants, made.octants, strict=True)
        },
    }


def headline(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """By source of poses: FID-view (told the rendered view), FID-random (told another one), and their gap.

    The gap is what view conditioning leaks: how much better a portrait looks when the mapping network knows
    from where it will be seen. `settings` are results of `compare` by the name of their `Setting`.
    """
    found: dict[str, dict[str, Any]] = {}
    for name, view in settings.items():
        poses, _, conditioning = name.partition(", ")
        random = settings.get(f"{poses}, independent")
        if conditioning != "identical" or random is None:
            continue
        pairs = {one: (view["octants"][one]["fid"], random["octants"][one]["fid"]) for one in view["octants"]}
        found[poses] = {
            "view": view["fid"], "random": random["fid"], "gap": _gap(view["fid"], random["fid"]),
            "gap_by_octant": {one: _gap(*pair) for one, pair in pairs.items()},
        }  # fmt: skip
    return found


def _gap(view: float | None, random: float | None) -> float | None:
    return None if view is None or random is None else round(random - view, 4)


def measure(
    model: Model,
    data: PortraitData,
    network: FeatureNetwork,
    settings: Sequence[Setting],
    count: int,
    world: World,
    *,
    batch: int = 8,
    seed: int = 0,
    cache: Path | None = None,
    watch: Callable[[str, int], Advance] = lambda what, total: lambda number: None,
) -> dict[str, Any]:
    """`compare` of every setting by its name, all against the same real features."""
    real = real_features(data, network, world, cache=cache, done=watch("real portraits", len(data)))
    found: dict[str, Any] = {}
    for setting in settings:
        made = made_features(
            model, data, network, setting, count, world,
            batch=batch, seed=seed, done=watch(setting.name, count),
        )  # fmt: skip
        found[setting.name] = compare(real, made, seed)
    return found


def _distance(real: Moments, made: Moments) -> float | None:
    if min(real.count, made.count) < 2:
        return None
    return round(frechet_distance(real, made), 4)


def _key(data: PortraitData, network: FeatureNetwork) -> str:
    """Names the images and the network exactly: other portraits, size or weights have another key."""
    ids = "".join(data.portrait_ids(range(data.portraits)))
    facts = f"{data.checksum} {data.resolution} {data.mirror} {ids} {network.name} {network.sha256}"
    return f"{data.checksum[:12]}-{data.resolution}-{hashlib.sha256(facts.encode()).hexdigest()[:16]}"


def _write(path: Path, features: FeatureSet) -> None:
    tensors = {"some": features.some.cpu().contiguous()}
    for index, part in enumerate(features.octants):
        tensors[f"total{index}"] = part.total.cpu().contiguous()
        tensors[f"products{index}"] = part.products.cpu().contiguous()
    counts = ",".join(str(part.count) for part in features.octants)
    with writing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": _FORMAT, "counts": counts})


def _read(path: Path, device: torch.device) -> FeatureSet | None:
    """What was measured before; None when there is nothing whole."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                return None
            counts = [int(count) for count in metadata["counts"].split(",")]
            octants = tuple(
                Moments(
                    count,
                    file.get_tensor(f"total{index}").to(device),
                    file.get_tensor(f"products{index}").to(device),
                )
                for index, count in enumerate(counts)
            )
            return FeatureSet(octants, file.get_tensor("some").to(device))
    except (OSError, SafetensorError, KeyError, ValueError):
        return None
