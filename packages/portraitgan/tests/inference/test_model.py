"""Opening runs and checkpoints, and what goes wrong."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from phq_data.rig import PortraitRig
from portraitgan.checkpoints.weights import WeightsError
from portraitgan.commands.main import main
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.model import Model, open_model
from portraitgan.inference.views import camera
from portraitgan.presets import official, tiny


def test_run_folder_and_checkpoint_are_the_same_model(run: Path) -> None:
    by_run = open_model(run, device="cpu")
    by_checkpoint = open_model(run / "checkpoints" / "kimg-000012", device="cpu")
    assert by_run.folder.name == by_checkpoint.folder.name == "kimg-000012"
    assert by_run.deforms and by_checkpoint.deforms
    z = by_run.latents([4])
    assert torch.equal(by_run.styles(z), by_checkpoint.styles(z))


def test_converted_checkpoints_work_without_a_run(
    tmp_path: Path, make_run: Callable[..., Path], make_bust: Callable[..., PortraitRig]
) -> None:
    """A folder as `portraitgan convert` writes it: weights and config, no run around them, no rig."""
    made = make_run(tmp_path / "run", None, official(tiny()))
    converted = (made / "checkpoints" / "kimg-000012").rename(tmp_path / "converted")
    model = open_model(converted, device="cpu")
    assert model.folder == converted and not model.deforms
    make_bust(24, 16).save(tmp_path / "smpl.safetensors")
    posed = open_model(converted, rig=tmp_path / "smpl.safetensors", device="cpu")
    assert posed.deforms
    assert main(["sample", str(converted), str(tmp_path / "a.png"), "--seeds", "1"]) == 0
    with pytest.raises(InferenceError, match="is one checkpoint"):
        open_model(converted, checkpoint="12")


def test_latest_is_followed_and_another_checkpoint_can_be_named(
    tmp_path: Path, make_run: Callable[..., Path]
) -> None:
    run = make_run(tmp_path / "run", None)
    older = run / "checkpoints" / "kimg-000008.500"
    shutil.copytree(run / "checkpoints" / "kimg-000012", older)
    assert open_model(run, device="cpu").folder.name == "kimg-000012"
    assert open_model(run, device="cpu", checkpoint="8.5").folder == older
    assert open_model(run, device="cpu", checkpoint=older.name).folder == older
    (run / "latest").write_text(older.name)
    assert open_model(run, device="cpu").folder == older
    with pytest.raises(InferenceError, match=r"no finished checkpoint '9'.*kimg-000012"):
        open_model(run, device="cpu", checkpoint="9")


def test_moving_average_is_used(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", None)
    path = run / "checkpoints" / "kimg-000012" / "generator_ema.safetensors"
    state = load_file(path)
    state["backbone.mapping.fc0.weight"] = state["backbone.mapping.fc0.weight"] + 1
    save_file(state, path)
    opened = open_model(run, device="cpu").generator.state_dict()["backbone.mapping.fc0.weight"]
    assert torch.equal(opened, state["backbone.mapping.fc0.weight"])


def test_without_rig_it_says_so_and_renders_undeformed(
    tmp_path: Path, run: Path, make_run: Callable[..., Path], make_bust: Callable[..., PortraitRig]
) -> None:
    bare = open_model(make_run(tmp_path / "run", None), device="cpu")
    assert not bare.deforms
    assert any("no rig" in note and "undeformed" in note for note in bare.notes)
    ws = bare.styles(bare.latents([0]))
    turned = torch.tensor([[0, 0.4, 0, 0, 0.4, 0]])
    assert torch.equal(bare.render(ws, camera(0)).image, bare.render(ws, camera(0), turned).image)
    rig = tmp_path / "own.safetensors"
    make_bust(24, 16).save(rig)
    given = open_model(tmp_path / "run", rig=rig, device="cpu")
    assert given.deforms and not given.notes
    assert not torch.equal(given.render(ws, camera(0)).image, given.render(ws, camera(0), turned).image)


def test_average_style_is_the_files_or_computed_when_it_was_never_set(
    tmp_path: Path, run: Path, make_run: Callable[..., Path]
) -> None:
    kept = open_model(run, device="cpu")
    stored = load_file(kept.folder / "generator_ema.safetensors")["backbone.mapping.w_avg"]
    assert torch.equal(kept.generator.backbone.mapping.w_avg, stored)

    unset = make_run(tmp_path / "run", None)
    path = unset / "checkpoints" / "kimg-000012" / "generator_ema.safetensors"
    state = load_file(path)
    state["backbone.mapping.w_avg"].zero_()
    save_file(state, path)
    model = open_model(unset, device="cpu")
    assert any("seed 123" in note for note in model.notes)
    z = torch.from_numpy(np.random.RandomState(5).randn(4000, 32).astype(np.float32))
    mean = model.styles(z)[:, 0].mean(dim=0)
    average = model.generator.backbone.mapping.w_avg
    spread = model.styles(z)[:, 0].std(dim=0).mean()
    assert float((average - mean).abs().max()) < 0.1 * float(spread)
    assert torch.allclose(model.styles(z[:3], 0.0), average.expand(3, 8, -1), atol=1e-6)


def test_latents_are_the_official_scripts(model: Model) -> None:
    expected = np.random.RandomState(7).randn(1, 32).astype(np.float32)
    assert np.array_equal(model.latents([7]).numpy(), expected)


def test_rendering_repeats_and_does_not_depend_on_its_batch(model: Model) -> None:
    ws = model.styles(model.latents([0, 1, 2]))
    cameras = torch.cat([camera(yaw) for yaw in (-60, 0, 100)])
    poses = torch.tensor([[0, 0.3, 0, 0, 0, 0.1]]).expand(3, -1)
    together = model.render(ws, cameras, poses)
    assert torch.equal(together.image, model.render(ws, cameras, poses).image)
    alone = model.render(ws[1:2], cameras[1:2], poses[1:2])
    assert torch.allclose(alone.image[0], together.image[1], atol=1e-5)


def test_broken_weights_are_named(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", None)
    path = run / "checkpoints" / "kimg-000012" / "generator_ema.safetensors"
    state = load_file(path)
    state["decoder.net.0.weight"][0, 0] = torch.nan
    save_file(state, path)
    with pytest.raises(WeightsError, match=r"not finite in decoder\.net\.0\.weight"):
        open_model(run, device="cpu")


def test_what_is_no_model_is_explained(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match="no run or checkpoint folder"):
        open_model(tmp_path / "nothing")
    with pytest.raises(InferenceError, match="portraitgan train"):
        open_model(tmp_path)
    with pytest.raises(InferenceError, match="portraitgan convert"):
        open_model(tmp_path / "model.pkl")


def test_discriminator_judges_each_portrait_by_itself(model: Model) -> None:
    from portraitgan.networks.discriminator import Portraits

    random = torch.Generator().manual_seed(0)
    images = Portraits(
        torch.rand(3, 3, 32, 32, generator=random),
        torch.rand(3, 3, 8, 8, generator=random),
        torch.rand(3, 1, 8, 8, generator=random),
    )
    cameras = torch.cat([camera(yaw) for yaw in (-60, 10, 100)])
    together = model.discriminator.predict_pose(images, cameras)
    alone = model.discriminator.predict_pose(
        Portraits(images.image[1:2], images.raw[1:2], images.mask[1:2]), cameras[1:2]
    )
    assert torch.allclose(together[1:2], alone, atol=1e-6)
