"""EG3D and PanoHead as their authors train them, and the paper's ablations, through the command."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from phq_data import camera as labels
from phq_data.typed_json import ConfigError
from portraitgan.checkpoints.weights import make_generator
from portraitgan.commands.main import main
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import Sampler, loader
from portraitgan.networks.generator import Generator
from portraitgan.presets import ABLATIONS, eg3d, panohead, tiny
from portraitgan.rendering.trigrid import sample_plain
from portraitgan.training import losses
from portraitgan.training.config import BatchConfig, StageConfig, TrainConfig, ablated
from portraitgan.training.distributed import World
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps, run_generator
from portraitgan.training.run import make_deformation
from portraitgan.training.schedule import at
from portraitgan.training.step import Stepper, make_networks

ALONE = World(0, 1, torch.device("cpu"))
STILL = Schedule(condition_swap=0.0)


def given(config: ModelConfig, batch: int = 4) -> Conditions:
    yaw = np.linspace(-2.5, 2.6, batch)
    camera = torch.from_numpy(labels.to_label(labels.from_angles(yaw, np.full(batch, 0.1))))
    z = torch.randn(batch, config.generator.z_dim, generator=torch.Generator().manual_seed(1))
    return Conditions(z, camera, torch.zeros(batch, 6))


def test_the_density_regulariser_compares_near_points() -> None:
    """Values and gradients against tri-plane lookups and decoder written out, on the same points."""
    config = eg3d(tiny())
    torch.manual_seed(0)
    generator = make_generator(config)
    conditions = given(config)
    none = torch.zeros(4, dtype=torch.bool)
    found = losses.density_loss(
        generator, conditions, STILL, config.loss,
        PassRandomness(
            Swaps(none, none), noise_mode="const", random=torch.Generator().manual_seed(3)
        ),
        points=50,
    )  # fmt: skip
    mine = torch.autograd.grad(found.sum(), list(generator.parameters()), allow_unused=True)

    random = torch.Generator().manual_seed(3)
    points = torch.rand(4, 50, 3, generator=random) * 2 - 1
    beside = points + 0.004 * torch.randn(4, 50, 3, generator=random)
    ws = generator.mapping(conditions.z, conditions.camera)
    planes = generator.planes(ws, "const")
    densities = []
    for where in (points, beside):
        features = sample_plain(planes, 2 * where, config.generator.grid.axes)  # the cube's side is 1 m
        hidden = torch.nn.functional.softplus(generator.decoder.net[0](features))
        densities.append(generator.decoder.net[2](hidden)[..., 0])
    wanted = 0.25 * (densities[0] - densities[1]).abs().mean(dim=1)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-7)
    written = torch.autograd.grad(wanted.sum(), list(generator.parameters()), allow_unused=True)
    for one, other in zip(mine, written, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-6)


def test_density_steps_the_generator_every_fourth_iteration(make_toy: Callable[[], TrainConfig],
                                                            data: PortraitData) -> None:  # fmt: skip
    """Rates and betas are corrected for the extra steps; nothing of it without the regulariser."""
    base = make_toy()
    config = replace(base, model=eg3d(base.model))
    steps = []
    for one in (config, base):
        networks = make_networks(one.model, make_deformation(one.model, data.rig), ALONE, 0)
        stepper = Stepper(one, networks, data, ALONE)
        stream = loader(data, Sampler(len(data), 0), one.batch.micro, 0)
        counts = []
        stepper.generator_optimiser.register_step_pre_hook(lambda *_, kept=counts: kept.append(1))
        for iteration in range(5):
            seen = stepper.step(stream, iteration, at(one, 0))
            assert ("density_regulariser" in seen) == (one is config and iteration in (0, 4))
        steps.append(len(counts))
        group = stepper.generator_optimiser.param_groups[0]
        lazy = 4 / 5 if one is config else 1
        assert group["lr"] == pytest.approx(0.0025 * lazy) and group["betas"] == (0, 0.99**lazy)
    assert steps == [7, 5]


def moved(config: ModelConfig) -> tuple[Generator, Conditions]:
    torch.manual_seed(0)
    return make_generator(config), given(config)


def test_panoheads_cameras_are_moved_for_the_rendering_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    config = panohead(tiny())
    generator, conditions = moved(config)
    seen: list[torch.Tensor] = []
    synthesis = Generator.synthesis

    def spy(
        self: Generator, ws: torch.Tensor, camera: torch.Tensor, *more: object, **named: object
    ) -> object:
        seen.append(camera)
        return synthesis(self, ws, camera, *more, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Generator, "synthesis", spy)
    made = run_generator(generator, conditions, STILL, config.loss)
    assert made.camera_offset is not None and made.camera_offset.abs().max() > 0.01
    apart = (seen[0] - conditions.camera)[:, :16].reshape(-1, 4, 4)
    torch.testing.assert_close(apart[:, :3, 3], made.camera_offset)
    apart[:, :3, 3] = 0
    assert (apart == 0).all() and torch.equal(seen[0][:, 16:], conditions.camera[:, 16:])
    assert moved(tiny())[0].moved_camera(conditions.z, conditions.camera)[1] is None


def test_the_translation_regulariser_holds_the_mean_of_a_micro_batch() -> None:
    """Offsets that cancel cost nothing; one for all portraits costs its square, in its own micro-batch."""
    offset = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 2, 1], [0, 2, -1]], requires_grad=True)
    loss = losses.squared_mean(offset, 2)
    assert loss.tolist() == [0, 0, 4, 4]
    loss.sum().backward()
    assert offset.grad is not None
    assert offset.grad.tolist() == [[0, 0, 0], [0, 0, 0], [0, 4, 0], [0, 4, 0]]
    assert losses.squared_mean(offset).tolist() == [1] * 4  # mean (0, 1, 0)


def test_the_prior_on_the_mean_pose_asks_nothing_of_the_spread() -> None:
    """Unbiased: its mean over all micro-batches of independent draws is the square of their mean."""
    one = torch.tensor([[3.0, 1.0]], requires_grad=True)
    alone = losses.squared_mean_alone(one)
    alone.sum().backward()
    assert alone.tolist() == [0] and one.grad.tolist() == [[0, 0]]
    pair = torch.tensor([[1.0, 2], [3, 1], [1, 0], [-1, 0]])  # two micro-batches: products of their two
    assert losses.squared_mean_alone(pair, 2).tolist() == [5, 5, -1, -1]
    values = [torch.tensor(one) for one in ((2.0, 0.0), (-1.0, 0.0), (-1.0, 3.0))]  # mean (0, 1)
    draws = torch.stack([value for four in itertools.product(values, repeat=4) for value in four])
    assert float(losses.squared_mean_alone(draws, 4).mean()) == pytest.approx(1, abs=1e-5)
    assert float(losses.squared_mean(draws, 4).mean()) == pytest.approx(1 + 4 / 4, abs=1e-5)


def trained(release: Path, out: Path, config: TrainConfig, *more: str) -> int:
    out.mkdir()
    (out / "config.json").write_text(config.to_json())
    return main(["train", "--data", str(release), "--out", str(out), "--device", "cpu", *more])


VARIANTS: dict[str, Callable[[TrainConfig], TrainConfig]] = {
    "eg3d": lambda base: replace(base, model=eg3d(base.model)),
    "panohead": lambda base: replace(
        base, model=panohead(base.model), data=replace(base.data, back_repeat=4)
    ),
    **{name: lambda base, name=name: ablated(base, name) for name in ABLATIONS},  # type: ignore[misc]
}


@pytest.mark.parametrize(("preset", "names"), [
    (eg3d, ["tri-plane", "no-mask", "coarse-poses", "no-deformation", "rignerf"]),
    (panohead, ["coarse-poses", "no-deformation", "rignerf"]),
])  # fmt: skip
def test_an_ablation_in_vain_is_refused(
    preset: Callable[[ModelConfig], ModelConfig], names: list[str], make_toy: Callable[[], TrainConfig]
) -> None:
    base = make_toy()
    config = replace(base, name=preset.__name__, model=preset(base.model))
    for name in ABLATIONS:
        ablated(base, name)
        if name not in names:
            assert ablated(config, name).model != config.model
            continue
        with pytest.raises(ConfigError, match=f"'{name}' changes nothing of '{preset.__name__}'"):
            ablated(config, name)


@pytest.mark.training
@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains(
    name: str, release: Path, tmp_path: Path, make_toy: Callable[[], TrainConfig]
) -> None:
    """A run of two iterations writes a checkpoint, statistics and a sheet."""
    base = make_toy()
    config = replace(
        VARIANTS[name](base),
        stages=(StageConfig("1", 0.016, True, 4, 4),), batch=BatchConfig(8, 4),
        output=replace(base.output, trackers=(), snapshot_portraits=1),
    )  # fmt: skip
    assert trained(release, tmp_path / "run", config) == 0
    rows = (tmp_path / "run" / "statistics.jsonl").read_text().splitlines()
    values = json.loads(rows[-1])
    assert values["images"] == 16 and np.isfinite(values["loss_generator"])
    assert ("density_regulariser" in values) == (name == "eg3d")
    assert ("camera_offset" in values) == (name == "panohead")
    assert (tmp_path / "run" / "checkpoints" / "kimg-000000.016").is_dir()
    assert list((tmp_path / "run" / "snapshots").glob("*.jpg"))


def test_ablations_and_balance_are_options(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "--data", str(release), "--out", str(tmp_path / "run"), "--print-config"]
    assert main([*asked, "--preset", "tiny", "--ablation", "no-mask", "--balance", "yaw"]) == 0
    made = TrainConfig.from_json(capsys.readouterr().out)
    assert made.name == "tiny-no-mask" and not made.model.discriminator.use_mask
    assert made.data.balance == "yaw"
    assert main([*asked, "--preset", "panohead"]) == 0
    assert TrainConfig.from_json(capsys.readouterr().out).model.loss.camera_offset == 10
    assert main([*asked, "--ablation", "no-face"]) == 1
    assert "no ablation 'no-face'; there are tri-plane, no-mask" in capsys.readouterr().err
    # Named again for a run that has it: the same run; for another run: other settings.
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(made.to_json())
    assert main([*asked, "--ablation", "no-mask"]) == 0
    capsys.readouterr()
    assert main([*asked, "--ablation", "tri-plane"]) == 1
    assert "was started with other settings" in capsys.readouterr().err
