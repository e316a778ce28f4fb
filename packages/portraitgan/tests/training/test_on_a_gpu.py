"""On a GPU: the numbers of a CPU; runs that train, stop, continue and are used. Skipped elsewhere."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from phq_data import camera as labels
from phq_data.rig import PortraitRig
from portraitgan.checkpoints import checkpoint
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.commands.main import main
from portraitgan.config import ModelConfig
from portraitgan.data.dataset import PortraitData
from portraitgan.data.loader import loader
from portraitgan.deformation.field import Deformation
from portraitgan.deformation.skinning import SkinnedMesh
from portraitgan.inference.model import open_model
from portraitgan.networks.placing import place
from portraitgan.presets import tiny
from portraitgan.rendering import compiled, rays
from portraitgan.training import cuda_graphs, losses, statistics
from portraitgan.training.config import TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.generator_pass import Conditions, PassRandomness, Schedule, Swaps
from portraitgan.training.loop import train
from portraitgan.training.run import open_run
from portraitgan.training.schedule import at

pytestmark = pytest.mark.gpu
GPU = "cuda"
BATCH = 4


def quiet(_: str) -> None:
    return None


def losses_and_gradients(config: ModelConfig, rig: PortraitRig, kind: str) -> dict[str, Tensor]:
    """The three phases of equal networks on equal input without chance, and their gradients, on the CPU."""
    device = torch.device(kind)
    torch.manual_seed(0)
    networks = make_generator(config), make_discriminator(config)
    # Weights of a trained size: where all is as initialised, poses are zero and noise has no strength.
    for network in networks:
        for parameter in network.parameters():
            parameter.data += 0.05 * torch.randn_like(parameter)
    mesh = SkinnedMesh.from_rig(rig).to(device)
    generator = place(networks[0], device, config.precision)
    discriminator = place(networks[1], device, config.precision)
    generator.deformation = Deformation(mesh, config.generator.deformation)
    random = torch.Generator().manual_seed(1)
    camera = torch.from_numpy(
        labels.to_label(labels.from_angles(np.linspace(-2, 2, BATCH), np.full(BATCH, 0.1)))
    )
    z, coarse = torch.randn(BATCH, config.generator.z_dim, generator=random), torch.full((BATCH, 6), 0.1)
    size, side = config.generator.image_resolution, config.generator.render.resolution
    image = torch.rand(BATCH, 3, size, size, generator=random) * 2 - 1
    camera, z, coarse, image = (one.to(device) for one in (camera, z, coarse, image))
    given = Conditions(z, camera, coarse)
    none = torch.zeros(BATCH, dtype=torch.bool, device=device)
    draws = rays.fixed_draws(config.generator.render, BATCH, side * side, device)
    chance = PassRandomness(Swaps(none, none), draws, "const")
    schedule = Schedule(pose_regulariser=1.0)
    real = losses.prepare_real(image, torch.ones(BATCH, 1, size, size, device=device), side, 1.0)

    made = losses.generator_loss(generator, discriminator, given, schedule, config.loss, chance)
    fake = losses.discriminator_fake_loss(generator, discriminator, given, schedule, config.loss, chance)
    r1 = losses.r1_penalty(discriminator, real, camera, config.loss)
    found = {
        "image": made.generated.image, "mask": made.generated.mask, "depth": made.generated.depth,
        "loss": made.adversarial, "pose": made.pose, "fake": fake.adversarial, "r1": r1.penalty,
    }  # fmt: skip
    totals = {
        "G": (generator, made.total),
        "D": (discriminator, fake.total),
        "R1": (discriminator, r1.penalty.mean()),
    }
    for phase, (trained, total) in totals.items():
        trained.zero_grad(set_to_none=True)
        total.backward(retain_graph=True)
        for name, parameter in trained.named_parameters():
            if parameter.grad is not None:
                found[f"{phase} {name}"] = parameter.grad.clone()
    return {name: value.detach().float().cpu() for name, value in found.items()}


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Values to 5e-4, every phase's gradient to 1e-3, every parameter's to 2e-2."""
    assert set(found) == set(wanted) and len(wanted) > 150
    for name, value in wanted.items():
        tolerance = 2e-2 if " " in name else 5e-4
        assert (found[name] - value).norm() <= tolerance * value.norm() + 1e-6, name
    for phase in ("G ", "D ", "R1 "):
        whole = [
            torch.cat([v.flatten() for k, v in one.items() if k.startswith(phase)]) for one in (found, wanted)
        ]
        assert (whole[0] - whole[1]).norm() <= 1e-3 * whole[1].norm(), phase


def in_precision(half: str, tf32: bool = False, synthesis: int = 0) -> ModelConfig:
    base = tiny()
    judge = replace(base.discriminator, half_resolutions=2)
    form = replace(base.precision, half=half, tf32=tf32, synthesis_half_resolutions=synthesis)  # type: ignore[arg-type]
    return replace(base, discriminator=judge, precision=form)


def test_float32_gives_the_numbers_of_a_cpu(make_bust: Callable[..., PortraitRig]) -> None:
    """Values and gradients. Gradients of single numbers are sums in which much cancels: hence the slack."""
    rig = make_bust(16, 12)
    there = losses_and_gradients(in_precision("float32"), rig, GPU)
    here = losses_and_gradients(in_precision("float32"), rig, "cpu")
    same(there, here)


@pytest.mark.parametrize(
    ("half", "tf32", "synthesis"),
    [("float16", False, 0), ("bfloat16", False, 0), ("float16", True, 0), ("bfloat16", True, 2)],
)
def test_half_precision_and_tf32_stay_close(
    make_bust: Callable[..., PortraitRig], half: str, tf32: bool, synthesis: int
) -> None:
    rig = make_bust(16, 12)
    exact = losses_and_gradients(in_precision("float32"), rig, GPU)
    rounded = losses_and_gradients(in_precision(half, tf32, synthesis), rig, GPU)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    for name in ("image", "loss", "fake", "r1", "mask"):
        assert rounded[name].isfinite().all()
        assert (rounded[name] - exact[name]).norm() <= 0.05 * exact[name].norm(), name
    whole = [torch.cat([v.flatten() for k, v in one.items() if " " in k]) for one in (exact, rounded)]
    assert torch.nn.functional.cosine_similarity(whole[0], whole[1], dim=0) > 0.99


def test_a_pass_never_waits_for_the_gpu(small: TrainConfig, data: PortraitData, tmp_path: Path) -> None:
    """Two micro-batches a pass through G, D and R1: torch itself refuses whatever would wait."""
    run = open_run(tmp_path, small, data, World(0, 1, torch.device(GPU, 0)), quiet)
    stepper, state = run.stepper, at(small, 16)
    batches = loader(data, run.sampler, small.batch.micro, 0)
    stepper.go_together(2)
    stepper.step(batches, 0, state)  # kernels are chosen, constants and tables made
    real = [stepper.real_pass([next(batches), next(batches)], state)]
    seen: dict[str, list[Tensor]] = {}
    torch.cuda.set_sync_debug_mode("error")
    try:
        stepper._generator(2, state, seen)
        stepper._discriminator(2, state, real, seen)
        stepper._r1(state, real, seen)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(torch.stack(values).isfinite().all() for values in seen.values())


def test_graphs_give_the_numbers_of_passes_as_written(
    small: TrainConfig, data: PortraitData, tmp_path: Path
) -> None:
    """Two passes an iteration through blur, noise, three stages and growing rays; a failing capture is told.

    Weights stay as at first, since Adam magnifies rounding: what it gets is compared.
    """
    world = World(0, 1, torch.device(GPU, 0))
    still = replace(
        small,
        optimiser=replace(small.optimiser, generator_rate=0.0, discriminator_rate=0.0),
        batch=replace(small.batch, size=16),
        model=replace(small.model, precision=replace(small.model.precision, half="float32")),
    )
    found: list[list[dict[str, Tensor]]] = []
    for graphs in (None, cuda_graphs.repeater("on", world.device)):
        run = open_run(tmp_path / str(graphs is None), still, data, world, quiet)
        run.stepper.go_together(2)
        run.stepper.use_graphs(graphs)
        batches = loader(data, run.sampler, small.batch.micro, 0)
        steps: list[dict[str, Tensor]] = []
        for iteration in range(12):
            means = run.stepper.step(batches, iteration, at(still, 8 * (iteration // 2)))
            gradients = {
                name: parameter.grad.clone()
                for name, parameter in run.networks.generator.named_parameters()
                if parameter.grad is not None
            }
            steps.append({**means, **gradients})
        found.append(steps)
        assert graphs is None or (graphs.captured >= 4 and not graphs.failed)
    for eager, graphed in zip(*found, strict=True):
        assert set(eager) == set(graphed)
        whole = torch.stack([value.norm() for value in eager.values()]).norm()
        for name, value in eager.items():
            assert (graphed[name] - value).norm() <= 1e-2 * value.norm() + 1e-5 * whole, name


@pytest.mark.slow
def test_compiled_rendering_gives_the_same(make_bust: Callable[..., PortraitRig]) -> None:
    rig = make_bust(16, 12)
    written = losses_and_gradients(in_precision("float32"), rig, GPU)
    compiled.use()
    try:
        fast = losses_and_gradients(in_precision("float32"), rig, GPU)
        assert compiled.is_used()
    finally:
        compiled.use(False)
    same(fast, written)


def test_a_run_trains_stops_and_continues(small: TrainConfig, data: PortraitData, tmp_path: Path) -> None:
    """Through all stages; memory is told, weights are finite and differ from the first ones."""
    pytest.importorskip("pydantic")  # reads configs; a lent machine may lack it
    world = World(0, 1, torch.device(GPU, 0))
    stops = iter([False, False, False, True])
    run = open_run(tmp_path, small, data, world, quiet)
    before = copy.deepcopy({k: v.cpu() for k, v in run.networks.generator.state_dict().items()})
    assert not train(run, 64, quiet, lambda: next(stops)).finished
    again = open_run(tmp_path, small, data, world, quiet)
    assert again.images == 32
    assert train(again, 64, quiet).finished
    after = checkpoint.load(checkpoint.latest(tmp_path)).networks["generator"]
    assert all(value.isfinite().all() for value in after.values())
    assert not torch.equal(after["decoder.net.0.weight"], before["decoder.net.0.weight"])
    rows = statistics.read(tmp_path)
    assert rows[-1].images == 64 and rows[-1].gpu_memory_gib > 0


def test_what_was_trained_is_used(
    small: TrainConfig, data: PortraitData, release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Portraits on the GPU are those of the CPU; sample, metrics and inversion run there."""
    pytest.importorskip("pydantic")
    folder = tmp_path / "run"
    world = World(0, 1, torch.device(GPU, 0))
    precise = replace(
        small, model=replace(small.model, precision=replace(small.model.precision, half="float32"))
    )
    train(open_run(folder, precise, data, world, quiet), 64, quiet)
    images = []
    for device in ("cpu", GPU):
        model = open_model(folder, device=device)
        camera = model.neutral_camera.expand(2, -1)
        ws = model.styles(model.latents([1, 2]), camera=camera)
        images.append(model.render(ws, camera, None).image.cpu())
    assert (images[0] - images[1]).abs().max() < 2e-3
    for command in (
        ["sample", str(folder), str(tmp_path / "samples.png"), "--seeds", "0-3"],
        ["predict-pose", str(folder), str(release), str(tmp_path / "poses.parquet")],
        [
            "metrics",
            str(folder),
            "--data",
            str(release),
            "--only",
            "fid,pose",
            "--count",
            "16",
            "--num-samples",
            "4",
        ],
    ):
        assert main([*command, "--device", GPU]) == 0, (command, capsys.readouterr().err)


def test_the_command_trains(release: Path, small: TrainConfig, tmp_path: Path) -> None:
    """`--compile` and `--graphs`, the settings of the folder, the GPU by itself."""
    pytest.importorskip("pydantic")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.json").write_text(small.to_json())
    try:
        assert (
            main(["train", "--data", str(release), "--out", str(folder), "--compile", "--graphs", "auto"])
            == 0
        )
    finally:
        compiled.use(False)
    assert checkpoint.load(checkpoint.latest(folder)).state.images == 64
