"""A training pass on a GPU neither waits for the GPU nor copies from the host: shown on `meta` tensors.

On `meta` as on a GPU, numbers made by Python lie elsewhere than the networks', and what depends on a tensor's
values cannot be known. A dispatch mode sees every operation of the phases, backward passes included.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import ModelConfig
from portraitgan.deformation.closest import Closest
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.networks import constants
from portraitgan.networks.discriminator import Arrangement
from portraitgan.networks.pose import mirrored_rows
from portraitgan.presets import tiny
from portraitgan.training import losses
from portraitgan.training.config import TrainConfig
from portraitgan.training.generator_pass import Conditions, Schedule
from portraitgan.training.phases import DiscriminatorPhase, GeneratorPhase, PassInputs, RealPass

BATCH, MICRO = 8, 4
WAITING = {
    "aten::_local_scalar_dense",
    "aten::nonzero",
    "aten::masked_select",
    "aten::_unique2",
    "aten::equal",
}


class Watch(TorchDispatchMode):
    """Notes what a GPU would have to wait for, or what is copied to it from the host."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[str] = []
        self.operations = 0

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = operation._schema.name
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        self.operations += 1
        result = operation(*args, **kwargs)
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        # A number without axes travels with the call of the kernel.
        host = [one for one in given if one.device.type == "cpu" and one.ndim > 0]
        there = any(one.device.type == "meta" for one in (*given, *made))
        if name in WAITING or name == "aten::lift_fresh" or (host and there):
            self.found.append(name)
        return result


@dataclass(frozen=True)
class NothingNear:
    """A search that finds the first face at once: what backends do is their own matter."""

    def pose(self, posed: Tensor, head: Tensor) -> Callable[[Tensor, float], Closest]:
        def search(points: Tensor, max_distance: float) -> Closest:
            face = torch.zeros(points.shape[:2], dtype=torch.int32, device=points.device)
            return Closest(face, face.float())

        return search


@dataclass(frozen=True)
class Passes:
    """The three phases on `meta`, and what goes into them."""

    run: dict[str, Callable[[], Tensor]]


def on_meta(config: ModelConfig, rig: PortraitRig) -> Passes:
    mesh = SkinnedMesh.from_rig(rig)
    deformation = Deformation(mesh, config.generator.deformation, NothingNear())
    generator = make_generator(config, deformation).to("meta").train()
    discriminator = make_discriminator(config).to("meta").train()
    cameras = torch.from_numpy(
        labels.to_label(labels.from_angles(np.linspace(-2, 2, BATCH), np.full(BATCH, 0.1)))
    )
    arrangement = Arrangement(MICRO, mirrored_rows(cameras).to("meta"))
    size, side = config.generator.image_resolution, config.generator.render.resolution

    def there(*shape: int) -> Tensor:
        return torch.empty(*shape, device="meta")

    given = Conditions(there(BATCH, config.generator.z_dim), cameras.to("meta"), there(BATCH, 6), arrangement)
    schedule = Schedule(0.7, blur_sigma=1.0, density_noise=0.5, pose_regulariser=0.5)
    real = losses.prepare_real(there(BATCH, 3, size, size), there(BATCH, 1, size, size), side, 1.0)
    judged = RealPass(real, given.camera, given.coarse_pose, arrangement)
    make = GeneratorPhase(generator, discriminator, config)
    judge = DiscriminatorPhase(discriminator, generator, config)
    return Passes({
        "generator": lambda: make(PassInputs(schedule, given), {}),
        "discriminator": lambda: judge(PassInputs(schedule, given, real=judged), {}),
        "R1": lambda: judge(PassInputs(schedule, real=judged), {}),
    })  # fmt: skip


@pytest.fixture
def without_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Autocast does not know `meta`; constants of `meta` are not for other tests."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    constants._kept.cache_clear()


@pytest.mark.parametrize("phase", ["generator", "discriminator", "R1"])
@pytest.mark.parametrize("depth", [1, 3])
def test_a_pass_waits_for_nothing(
    phase: str, depth: int, make_bust: Callable[..., PortraitRig], without_autocast: None
) -> None:
    base = tiny()
    grid = replace(base.generator.grid, depth=depth)
    config = replace(base, generator=replace(base.generator, grid=grid))
    run = on_meta(config, make_bust(8, 6)).run[phase]
    run().backward()  # constants are made
    with Watch() as watch:
        run().backward()
    assert watch.found == []
    assert watch.operations > 300


def test_the_watch_sees_what_makes_a_gpu_wait() -> None:
    values = torch.empty(3, 4, device="meta")
    wrong: tuple[Callable[[], Tensor], ...] = (
        lambda: values[:, [0, 2]],
        lambda: values.new_tensor([1.0, 2.0]),
        lambda: values * torch.ones(4).to("meta"),
    )
    for one in wrong:
        with Watch() as watch:
            one()
        assert watch.found
    with pytest.raises(Exception, match=r"(?i)meta"):
        bool(values.isfinite().all())


def test_mirrored_rows_are_found_where_labels_are(small: TrainConfig) -> None:
    """The discriminator gives the same with rows that are handed in and with those it finds."""
    torch.manual_seed(0)
    config = small.model
    network = make_discriminator(config)
    cameras = torch.from_numpy(labels.to_label(labels.from_angles(np.linspace(-2, 2, 4), np.zeros(4))))
    size = config.generator.image_resolution
    seen = losses.prepare_real(torch.rand(4, 3, size, size), torch.rand(4, 1, size, size), 4, 0.0)
    rows = mirrored_rows(cameras)
    assert 0 < len(rows) < 4
    found = network(seen, cameras)
    given = network(seen, cameras, arrangement=Arrangement(None, rows))
    assert torch.equal(found.score, given.score) and torch.equal(found.pose, given.pose)
    none = network(seen, cameras, arrangement=Arrangement(None, rows[:0]))
    assert not torch.equal(found.pose, none.pose)
