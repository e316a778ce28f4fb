"""Inversion: schedules, regularisers, gradients to the camera, and results that other commands can use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from phq_data import camera as cameras
from portraitgan.commands.main import main
from portraitgan.images.drawing import to_pixels
from portraitgan.images.files import save_image
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.inversion_loss import (
    noise_correlation,
    perceptual_distance,
    pixel_distance,
    renormalise,
)
from portraitgan.inference.inversion_state import load_state, save_state
from portraitgan.inference.invert import InversionOptions, Inverted, invert, rate_at, style_statistics
from portraitgan.inference.latents import from_latent_file, load_latent
from portraitgan.inference.model import Model, open_model
from portraitgan.inference.orbit import angles_of, camera_at

POSE = views.body_pose((0, 10, 0), (5, 15, 0))


def test_differentiable_cameras_are_the_datasets() -> None:
    angles = torch.tensor([[0.3, -0.2, 0.1], [-2.9, 0.5, -0.4], [0, 0, 0]])
    expected = cameras.to_label(cameras.from_angles(*angles.numpy().T))
    label = torch.from_numpy(expected)
    assert np.allclose(camera_at(angles, label).numpy(), expected, atol=2e-6)
    assert np.allclose(angles_of(label).numpy(), angles.numpy(), atol=1e-5)


def test_gradient_reaches_camera_and_pose(model: Model) -> None:
    """Against finite differences of the rendered image, where nothing jumps: uncropped and undeformed."""
    generator = model.generator
    generator.config = replace(generator.config, render=replace(generator.config.render, crop=None))
    ws = model.styles(model.latents([2]), 1.0)
    label = views.camera(20, 5)
    ramp = torch.linspace(-1, 1, 32).expand(3, 32, 32)
    draws = model.draws(1, 16, 6.0)

    def value(angles: torch.Tensor, pose: torch.Tensor | None = None) -> torch.Tensor:
        seen = camera_at(angles, label)
        made = generator.synthesis(ws, seen, pose, resolution=16, noise_mode="const", draws=draws)
        return (made.image[0] * ramp).sum()

    angles = angles_of(label).requires_grad_(True)
    value(angles).backward()
    assert angles.grad is not None
    step = 5e-3
    with torch.no_grad():
        for index in range(3):
            moved = torch.zeros(1, 3)
            moved[0, index] = step
            slope = float(value(angles + moved) - value(angles - moved)) / (2 * step)
            assert float(angles.grad[0, index]) == pytest.approx(slope, rel=0.05), index
    pose = POSE.clone().requires_grad_(True)
    value(angles.detach(), pose).backward()
    assert pose.grad is not None and bool((pose.grad != 0).all())


def test_learning_rate_rises_stays_and_falls() -> None:
    options = InversionOptions(rate=0.01)
    assert rate_at(0, options) == 0
    assert rate_at(0.025, options) == pytest.approx(0.005)
    assert rate_at(0.05, options) == rate_at(0.75, options) == pytest.approx(0.01)
    assert rate_at(0.875, options) == pytest.approx(0.005)
    assert rate_at(1, options) == pytest.approx(0)


def test_noise_regulariser_tells_noise_from_structure() -> None:
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(64, 64, generator=random)
    smooth = torch.nn.functional.avg_pool2d(torch.randn(1, 1, 256, 256, generator=random), 4)[0, 0]
    smooth = smooth + smooth.roll(1, 0) + smooth.roll(1, 1)
    images = [noise, smooth]
    renormalise(images)
    for image in images:
        assert abs(float(image.mean())) < 1e-5 and float(image.square().mean()) == pytest.approx(1, abs=1e-4)
    assert float(noise_correlation([smooth])) > 20 * float(noise_correlation([noise]))
    # By hand for one level: a checkerboard is its neighbour's opposite everywhere.
    board = torch.tensor([[1.0, -1], [-1, 1]]).repeat(4, 4)
    assert float(noise_correlation([board])) == pytest.approx(2)


def test_style_statistics_are_the_mean_and_the_root_of_the_mean_square(model: Model) -> None:
    options = InversionOptions(average_latents=50)
    mean, spread = style_statistics(model, POSE, options)
    z = torch.from_numpy(np.random.RandomState(123).randn(50, 32).astype(np.float32))
    front = model.neutral_camera.expand(50, -1)
    w = model.generator.mapping(z, front, POSE.expand(50, -1))[:, 0]
    assert torch.allclose(mean[0, 0], w.mean(dim=0), atol=1e-5)
    assert spread == pytest.approx(float(((w - w.mean(dim=0)) ** 2).sum(dim=1).mean().sqrt()), rel=1e-4)


@pytest.fixture
def target(model: Model) -> torch.Tensor:
    """An image that the model can make: another seed, from the side, in a pose."""
    return model.render(model.styles(model.latents([5])), views.camera(25), POSE, sample_factor=2).image


@pytest.mark.slow
def test_inversion_finds_the_image(run: Path, target: torch.Tensor) -> None:
    options = InversionOptions(steps=40, rate=0.1, sample_factor=1)
    model = open_model(run, device="cpu", full_precision=True)
    found = invert(model, target, views.camera(25), POSE, pixel_distance(target), options)
    assert found.distances[-1] < 0.2 * found.distances[0]
    assert not torch.allclose(found.latent.ws[:, 0], found.latent.ws[:, 5], atol=1e-3)  # W+, a w a layer
    assert found.latent.noise and not found.latent.tuned


def held_out(model: Model, ws: torch.Tensor, truth: torch.Tensor) -> dict[str, float]:
    """Root mean square difference from the views of `truth` [1, styles, w_dim], of side and back."""
    found = {}
    for name, yaws in (("side", (-75, 75)), ("back", (150, 210))):
        views_ = torch.cat([views.camera(yaw, 5) for yaw in yaws])
        pair = [model.render(one.expand(2, -1, -1), views_).image for one in (ws, truth)]
        found[name] = float((pair[0] - pair[1]).square().mean().sqrt())
    return found


@pytest.mark.slow
def test_several_portraits_show_the_person_better_from_the_side_and_the_back(run: Path) -> None:
    """Photos of one person that the model can make: from three sides, and from the front alone."""
    options = InversionOptions(steps=60, rate=0.1, sample_factor=1)
    result = {}
    for name, yaws in (("front", [0]), ("three", [0, 110, -110])):
        model = open_model(run, device="cpu", full_precision=True)
        truth = model.styles(model.latents([5]), 1.0)
        cameras_ = torch.cat([views.camera(yaw) for yaw in yaws])
        target = model.render(truth.expand(len(yaws), -1, -1), cameras_).image
        found = invert(model, target, cameras_, None, pixel_distance(target), options)
        assert found.cameras.shape == (len(yaws), 25) and found.latent.camera.shape == (1, 25)
        result[name] = held_out(open_model(run, device="cpu"), found.latent.ws, truth)
    for side in ("side", "back"):
        assert result["three"][side] < 0.9 * result["front"][side], result


def test_copies_of_a_portrait_are_fitted_as_one(run: Path, target: torch.Tensor) -> None:
    options = InversionOptions(steps=4, sample_factor=1, pti_steps=2, pti_stop=0.0)
    found = []
    for count in (1, 2):
        model = open_model(run, device="cpu", full_precision=True)
        them, cameras_ = target.repeat(count, 1, 1, 1), views.camera(25).repeat(count, 1)
        poses = POSE.repeat(count, 1)
        found.append(invert(model, them, cameras_, poses, pixel_distance(them), options))
    assert np.allclose(found[0].distances, found[1].distances, rtol=1e-3)
    assert torch.allclose(found[0].latent.ws, found[1].latent.ws, atol=1e-3)


def test_what_lies_outside_of_the_mask_does_not_count(run: Path, target: torch.Tensor) -> None:
    mask = torch.zeros(1, 1, *target.shape[2:])
    mask[..., 8:24, 8:24] = 1
    other = torch.where(
        mask > 0, target, torch.rand(target.shape, generator=torch.Generator().manual_seed(0))
    )
    options = InversionOptions(steps=3, sample_factor=1, pti_steps=2, pti_stop=0.0)
    found = []
    for image in (target, other):
        model = open_model(run, device="cpu", full_precision=True)
        distance = pixel_distance(image * mask)
        found.append(invert(model, image, views.camera(25), POSE, distance, options, mask=mask))
    assert found[0].distances == found[1].distances
    assert torch.equal(found[0].latent.ws, found[1].latent.ws)


def test_inversions_repeat(run: Path, target: torch.Tensor) -> None:
    found = []
    for _ in range(2):
        model = open_model(run, device="cpu", full_precision=True)
        options = InversionOptions(steps=5, sample_factor=1)
        found.append(invert(model, target, views.camera(25), None, pixel_distance(target), options))
    assert found[0].distances == found[1].distances
    assert torch.equal(found[0].latent.ws, found[1].latent.ws)


def test_an_interrupted_inversion_ends_like_an_uninterrupted_one(
    run: Path, target: torch.Tensor, tmp_path: Path
) -> None:
    options = InversionOptions(steps=8, keep_every=3, sample_factor=1, refine_camera=True)
    states: list[dict[str, torch.Tensor]] = []

    def start(kept: dict[str, torch.Tensor] | None) -> Inverted:
        model = open_model(run, device="cpu", full_precision=True)
        distance = pixel_distance(target)
        return invert(model, target, views.camera(20), None, distance, options, keep=states.append, kept=kept)

    whole = start(None)
    assert [int(state["step"]) for state in states] == [3, 6, 8]
    save_state(tmp_path / "state.safetensors", "this", states[1])
    assert load_state(tmp_path / "state.safetensors", "another") is None
    again = start(load_state(tmp_path / "state.safetensors", "this"))
    assert again.distances == whole.distances
    assert torch.equal(again.latent.ws, whole.latent.ws)
    assert torch.equal(again.latent.camera, whole.latent.camera)
    for key, value in whole.latent.noise.items():
        assert torch.equal(again.latent.noise[key], value)


def test_the_command_continues_and_a_changed_question_starts_anew(
    run: Path,
    target: torch.Tensor,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import portraitgan.inference.inversion_state as states

    save_image(tmp_path / "target.png", to_pixels(target / 2 + 0.5)[0])
    command = [
        "invert",
        str(run),
        str(tmp_path / "out"),
        "--image",
        str(tmp_path / "target.png"),
        "--yaw",
        "5",
    ]
    command += ["--device", "cpu", "--samples", "1", "--pose", "none", "--steps"]

    original = states.save_state

    def interrupted(*arguments: Any) -> None:
        original(*arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(states, "save_state", interrupted)
    assert main([*command, "4"]) == 130
    assert (tmp_path / "out" / "unfinished.safetensors").is_file()
    monkeypatch.undo()
    assert main([*command, "4"]) == 0
    assert "continuing after step 4" in capsys.readouterr().err
    assert not (tmp_path / "out" / "unfinished.safetensors").exists()
    assert main([*command, "3"]) == 0
    assert "continuing" not in capsys.readouterr().err


def test_tuning_goes_on_where_the_styles_end(run: Path, target: torch.Tensor) -> None:
    model = open_model(run, device="cpu", full_precision=True)
    before = {key: value.clone() for key, value in model.generator.state_dict().items()}
    phases: list[str] = []
    found = invert(
        model, target, views.camera(25), POSE, pixel_distance(target),
        InversionOptions(steps=10, pti_steps=25, pti_stop=0.0),
        lambda step: phases.append(step.phase),
    )  # fmt: skip
    assert phases == ["styles"] * 10 + ["tuning"] * 25
    assert found.distances[-1] < 0.6 * found.distances[10]
    changed = {k for k, v in model.generator.state_dict().items() if not torch.equal(v, before[k])}
    assert {k for k in changed if "noise_const" not in k} <= set(found.latent.tuned)
    assert not any("mapping" in key or "pose_branch" in key for key in changed)


def test_refining_moves_camera_and_pose(run: Path, target: torch.Tensor) -> None:
    model = open_model(run, device="cpu", full_precision=True)
    options = InversionOptions(steps=8, refine_camera=True, refine_pose=True)
    found = invert(model, target, views.camera(20), POSE, pixel_distance(target), options)
    assert not torch.allclose(found.latent.camera, views.camera(20), atol=1e-5)
    cameras.check_label(found.latent.camera.numpy())
    assert found.latent.pose is not None and not torch.allclose(found.latent.pose, POSE, atol=1e-5)


def test_divergence_is_an_error(model: Model, target: torch.Tensor) -> None:
    with pytest.raises(InferenceError, match="diverged in step 1"):
        invert(
            model, target, views.camera(0), None, lambda image: image.mean() * torch.nan,
            InversionOptions(steps=3),
        )  # fmt: skip


class Lpips(nn.Module):
    """Stands in for vgg16.pt: the same call, other features."""

    def forward(self, image: torch.Tensor, resize_images: bool, return_lpips: bool) -> torch.Tensor:
        return image.mean(dim=(2, 3)) / 255


def test_perceptual_network_gets_bytes_and_images_no_larger_than_256(tmp_path: Path) -> None:
    path = tmp_path / "vgg.pt"
    torch.jit.script(Lpips()).save(str(path))
    distance = perceptual_distance(torch.full((1, 3, 512, 512), -1.0), path, torch.device("cpu"))
    assert float(distance(torch.full((1, 3, 512, 512), 1.0))) == pytest.approx(3)
    (tmp_path / "no.pt").write_bytes(b"nothing")
    with pytest.raises(InferenceError, match=r"no\.pt is no TorchScript"):
        perceptual_distance(torch.zeros(1, 3, 32, 32), tmp_path / "no.pt", torch.device("cpu"))


def test_command_writes_a_latent_that_sample_shows(run: Path, target: torch.Tensor, tmp_path: Path) -> None:
    save_image(tmp_path / "target.png", to_pixels(target / 2 + 0.5)[0])
    out = tmp_path / "found"
    base = ["invert", str(run), str(out), "--image", str(tmp_path / "target.png"), "--yaw", "25"]
    pose = ["--neck", "0", "10", "0", "--head", "5", "15", "0"]
    more = ["--steps", "12", "--pti-steps", "6", "--preview-every", "10", "--device", "cpu"]
    assert main([*base, *pose, *more]) == 0
    names = sorted(path.name for path in out.iterdir())
    assert names == ["comparison.png", "inverted.png", "latent.json", "latent.safetensors", "step-00010.png"]
    facts = json.loads((out / "latent.json").read_text())
    assert facts["distance_end"] < facts["distance_start"]
    assert np.allclose(load_latent(out / "latent.safetensors").camera, views.camera(25), atol=1e-6)

    again = ["sample", str(run), str(tmp_path / "again.png"), "--latent", str(out), "--device", "cpu"]
    assert main([*again, "--camera", str(out / "latent.json"), "--predicted-pose", "--samples", "2"]) == 0
    shown = np.asarray(Image.open(tmp_path / "again.png")).astype(int)
    assert np.abs(shown - np.asarray(Image.open(out / "inverted.png"))).max() <= 1


def test_latents_of_another_model_are_refused(
    run: Path, target: torch.Tensor, tmp_path: Path, make_run: object
) -> None:
    from portraitgan.inference.latents import save_latent

    model = open_model(run, device="cpu")
    found = invert(
        model, target, views.camera(0), None, pixel_distance(target), InversionOptions(steps=1)
    ).latent
    found.facts.update(model="kimg-000001", model_digest="0" * 32)
    save_latent(tmp_path / "latent.safetensors", found)
    with pytest.raises(InferenceError, match="kimg-000001, whose weights differ"):
        from_latent_file(model, tmp_path)
    (tmp_path / "broken.safetensors").write_bytes(b"12345678nothing")
    with pytest.raises(InferenceError, match=r"broken\.safetensors"):
        load_latent(tmp_path / "broken.safetensors")
