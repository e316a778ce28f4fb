"""`portraitgan invert`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from torch import Tensor

    from phq_data.arrays import ImageArray
    from portraitgan.inference.invert import InversionOptions, Inverted, Step
    from portraitgan.inference.model import Model

SHEET_SIDE = 128
"""Pixels of an image of the comparison, at least."""
STATE_FILE = "unfinished.safetensors"
PORTRAIT, FITTING = "The portrait: of a dataset, or an aligned image with its camera", "Fitting"


def invert(
    model: shared.ModelArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder to write.")],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    data: Annotated[
        str | None, typer.Option(metavar="URL", help="A release or a workspace.", rich_help_panel=PORTRAIT)
    ] = None,
    portrait: Annotated[
        str | None,
        typer.Option(
            metavar="ID...", help="Which portrait of it; several show one person.", rich_help_panel=PORTRAIT
        ),
    ] = None,
    image: Annotated[
        Path | None,
        typer.Option(help="A square image, aligned as training's are.", rich_help_panel=PORTRAIT),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Its mask, which the pose predictor sees (default: all).", rich_help_panel=PORTRAIT
        ),
    ] = None,
    camera: Annotated[
        str | None,
        typer.Option(metavar="LABEL", help="25 numbers or a JSON file with them.", rich_help_panel=PORTRAIT),
    ] = None,
    yaw: Annotated[
        float | None, typer.Option(metavar="DEG", help="Instead of --camera.", rich_help_panel=PORTRAIT)
    ] = None,
    pitch: Annotated[float, typer.Option(metavar="DEG", rich_help_panel=PORTRAIT)] = 0.0,
    roll: Annotated[float, typer.Option(metavar="DEG", rich_help_panel=PORTRAIT)] = 0.0,
    neck: shared.NeckOption = None,
    head: shared.HeadOption = None,
    pose: Annotated[
        Literal["predicted", "label", "none"],
        typer.Option(
            help="Where the body pose comes from: the discriminator, the dataset, or canonical.",
            rich_help_panel=PORTRAIT,
        ),
    ] = "predicted",
    masked: Annotated[
        bool | None,
        typer.Option(
            "--masked/--whole",
            help="Compare the person alone, or the whole image (default: masked if several).",
            rich_help_panel=FITTING,
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Optimisation steps.", rich_help_panel=FITTING)] = 500,
    rate: Annotated[float, typer.Option(help="Learning rate at its peak.", rich_help_panel=FITTING)] = 0.01,
    refine_camera: Annotated[
        bool,
        typer.Option("--refine-camera", help="Optimise yaw, pitch and roll too.", rich_help_panel=FITTING),
    ] = False,
    refine_pose: Annotated[
        bool, typer.Option("--refine-pose", help="Optimise the body pose too.", rich_help_panel=FITTING)
    ] = False,
    pti_steps: Annotated[
        int,
        typer.Option(
            metavar="STEPS",
            help="Pivotal tuning inversion afterwards (350 is usual; 0: the weights stay).",
            rich_help_panel=FITTING,
        ),
    ] = 0,
    vgg: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="StyleGAN2's vgg16.pt for the perceptual distance (LPIPS); its TorchScript is run. Without "
            "it, colors and gradients at several scales are compared.",
            rich_help_panel=FITTING,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the noise.", rich_help_panel=FITTING)] = 0,
    samples: shared.SamplesOption = 2.0,
    resolution: shared.ResolutionOption = None,
    preview_every: Annotated[int, typer.Option(metavar="STEPS", rich_help_panel=FITTING)] = 100,
) -> None:
    """Find the styles that show a given portrait, or several of one person; render or mesh it with --latent.

    Optimises styles (W+) and noise images so that the generator shows the portrait, and with --pti-steps its
    weights (pivotal tuning inversion). Writes latent.safetensors, latent.json and images. Interrupted, the
    same command continues.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.invert import InversionOptions
    from portraitgan.inference.latents import save_latent
    from portraitgan.inference.views import describe

    shared.check_quality(samples, resolution)
    if steps < 1 or pti_steps < 0 or preview_every < 1 or rate <= 0:
        raise InferenceError("--steps, --preview-every and --rate must be positive, --pti-steps not negative")
    source = _Source(data, portrait, image, mask, camera, yaw, pitch, roll)
    _check_source(source, pose)
    opened = shared.open_chosen(model, checkpoint, rig, device, full_precision=True)
    target = _target(source, pose, neck, head, opened, masked)
    options = InversionOptions(
        steps=steps, rate=rate, seed=seed, refine_camera=refine_camera, refine_pose=refine_pose,
        pti_steps=pti_steps, sample_factor=samples, resolution=resolution,
        pti_stop=0.06 if vgg else 0.0,
    )  # fmt: skip
    seen = "; ".join(describe(one) for one in target.camera.split(1))
    shared.say(f"{target.name}: {seen}, {steps} steps, {pti_steps} of pivotal tuning")
    found = _fit(opened, target, options, vgg, out, preview_every)
    facts = _facts(opened, target.name, target.masks is not None, found, options, vgg)
    save_latent(out / "latent.safetensors", replace(found.latent, facts=facts))
    _write_images(opened, found, target.images, out, samples)
    (out / STATE_FILE).unlink(missing_ok=True)
    first, last = found.distances[0], found.distances[-1]
    print(f"{target.name}: distance {first:.4f} -> {last:.4f} -> {out}/latent.safetensors")


@dataclass(frozen=True)
class _Source:
    """Where the portrait comes from, as the command line says."""

    data: str | None
    portrait: str | None  # ids, separated by commas
    image: Path | None
    mask: Path | None
    camera: str | None
    yaw: float | None  # degrees
    pitch: float
    roll: float


@dataclass(frozen=True, eq=False)
class _Target:
    """What is to be inverted: portraits of one person."""

    name: str
    images: list[ImageArray]  # V of [S, S, 3]
    masks: list[ImageArray] | None  # V of [S, S]; none: the whole image counts
    camera: Tensor  # [V, 25]
    pose: Tensor | None  # [V, 6] radians


def _check_source(source: _Source, pose: str) -> None:
    """Raise `InferenceError` unless the portrait is named in one way, and wholly."""
    from portraitgan.inference.errors import InferenceError

    if (source.image is None) == (source.portrait is None):
        raise InferenceError("name either --data URL --portrait ID, or --image FILE with its camera")
    if source.portrait is not None:
        if source.data is None:
            raise InferenceError("--portrait needs the release or workspace that has it: --data URL")
        return
    if (source.camera is None) == (source.yaw is None):
        raise InferenceError("--image needs its camera: --camera LABEL or --yaw (and --pitch, --roll)")
    if pose == "label":
        raise InferenceError("--pose label needs a portrait of a dataset (--data, --portrait)")


def _target(
    source: _Source,
    pose_source: str,
    neck: shared.Angles | None,
    head: shared.Angles | None,
    model: Model,
    masked: bool | None,
) -> _Target:
    """The portraits with their cameras and body poses."""
    import torch

    from portraitgan.inference.portraits import open_portraits
    from portraitgan.inference.sample import predicted_poses

    if source.portrait is not None and source.data is not None:
        found = open_portraits(source.data)
        them = [found.find(name) for name in dict.fromkeys(shared.listed_names(source.portrait))]
    else:
        them = [_from_file(source)]
    pose = shared.chosen_pose(model, neck, head)
    if pose is not None:
        pose = pose.expand(len(them), -1)
    elif pose_source != "none" and model.deforms:
        pose = torch.cat([one.pose for one in them])
        if pose_source == "predicted" and model.config.discriminator.pose_predictor is not None:
            pose = torch.cat([predicted_poses(model, [one]) for one in them])
    masks = [one.mask for one in them] if (len(them) > 1 if masked is None else masked) else None
    cameras = torch.cat([one.camera for one in them])
    return _Target(
        "+".join(one.portrait_id for one in them), [one.image for one in them], masks, cameras, pose
    )


def _from_file(source: _Source) -> Any:
    """A `RealPortrait` of an image file, in the neutral pose."""
    import numpy as np
    import torch

    from portraitgan.images.files import load_image
    from portraitgan.inference import views
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import RealPortrait

    assert source.image is not None
    pixels = load_image(source.image)
    if pixels.shape[0] != pixels.shape[1]:
        raise InferenceError(f"{source.image} is {pixels.shape[1]}x{pixels.shape[0]}; it must be square")
    mask = np.full(pixels.shape[:2], 255, np.uint8)
    if source.mask is not None:
        mask = load_image(source.mask, grey=True)
    if source.camera is not None:
        camera = views.camera_from_text(source.camera)
    else:
        camera = views.camera(source.yaw or 0.0, source.pitch, source.roll)
    return RealPortrait(source.image.stem, None, pixels, mask, camera, torch.zeros(1, 6))


def _fit(
    model: Model, target: _Target, options: InversionOptions, vgg: Path | None, out: Path, preview_every: int
) -> Inverted:
    """Optimise, keeping the state in `out`, from where an interrupted run left it."""
    import torch

    from portraitgan.images import drawing, files
    from portraitgan.inference import inversion_loss
    from portraitgan.inference.inversion_state import load_state, save_state
    from portraitgan.inference.invert import invert as invert_portrait

    side = model.config.generator.image_resolution
    image = torch.cat([drawing.from_pixels(drawing.resized(one, side)) for one in target.images])
    image = image.to(model.device)
    mask = None if target.masks is None else _mask_of(target.masks, side).to(model.device)
    counted = image if mask is None else image * mask
    if vgg is None:
        shared.say("note: no --vgg FILE: colors and gradients at several scales are compared instead")
        distance = inversion_loss.pixel_distance(counted)
    else:
        distance = inversion_loss.perceptual_distance(counted, vgg, model.device)
    state_path, question = out / STATE_FILE, _question(model, target, options, vgg)
    kept = load_state(state_path, question)
    if kept is not None:
        shared.say(f"note: continuing after step {int(kept['step'])}, where it was interrupted")
    with shared.progress("invert") as bar:
        task = bar.add_task("styles", total=options.steps + options.pti_steps)

        def keep(tensors: dict[str, Tensor]) -> None:
            save_state(state_path, question, tensors)

        def told(step: Step) -> None:
            bar.update(task, completed=step.number, description=f"{step.phase} {step.distance:.4f}")
            if step.number % preview_every == 0:
                seen = drawing.to_pixels(step.image / 2 + 0.5)
                files.save_image(out / f"step-{step.number:05d}.png", seen[0])

        return invert_portrait(
            model, image, target.camera, target.pose, distance, options, told, keep, kept, mask
        )


def _mask_of(masks: list[ImageArray], side: int) -> Tensor:
    """Masks [V, 1, side, side] in 0..1 of byte masks [S, S]."""
    import numpy as np
    import torch

    from portraitgan.networks import filters

    made = [torch.from_numpy(one.astype(np.float32) / 255)[None, None] for one in masks]
    return torch.cat([filters.resize(one, side) for one in made]).clamp(0, 1)


def _question(model: Model, target: _Target, options: InversionOptions, vgg: Path | None) -> str:
    """A digest of what is asked: another question starts anew."""
    import hashlib
    from dataclasses import asdict

    from portraitgan.inference.inversion_state import question_digest
    from portraitgan.inference.latents import weights_digest

    return question_digest(
        {
            "fit": asdict(options), "model": weights_digest(model), "vgg": str(vgg),
            "image": [hashlib.sha256(one.tobytes()).hexdigest() for one in target.images],
            "mask": [hashlib.sha256(one.tobytes()).hexdigest() for one in target.masks or []],
            "camera": target.camera.tolist(),
            "pose": None if target.pose is None else target.pose.tolist(),
        }
    )  # fmt: skip


def _facts(
    model: Model, name: str, masked: bool, found: Inverted, options: InversionOptions, vgg: Path | None
) -> dict[str, Any]:
    """What latent.json says."""
    from portraitgan.inference.latents import weights_digest

    pose = found.latent.pose
    several = len(found.cameras) > 1
    views = {
        "cameras": found.cameras.cpu().tolist(),
        "poses": None if found.poses is None else found.poses.cpu().tolist(),
    }
    return {
        "portrait": name,
        "model": str(model.folder.name),
        "model_digest": weights_digest(model),
        "camera": found.latent.camera[0].cpu().tolist(),
        "pose": None if pose is None else pose[0].cpu().tolist(),
        **(views if several else {}),
        "masked": masked,
        "steps": options.steps,
        "pti_steps": options.pti_steps,
        "seed": options.seed,
        "distance": "VGG16 LPIPS features" if vgg else "colors and gradients at several scales",
        "distance_start": found.distances[0],
        "distance_end": found.distances[-1],
    }


def _write_images(
    model: Model, found: Inverted, targets: list[ImageArray], out: Path, samples: float
) -> None:
    """A row a portrait: itself, its inversion, and the person from other sides."""
    import torch

    from portraitgan.images import drawing, files
    from portraitgan.inference import views
    from portraitgan.inference.latents import Subject
    from portraitgan.inference.sample import shoot

    inverted = drawing.to_pixels(found.image / 2 + 0.5)
    files.save_image(out / "inverted.png", inverted[0])
    side = max(model.config.generator.image_resolution, SHEET_SIDE)
    turned = torch.cat([views.camera(yaw) for yaw in (-60, 0, 60, 180)])
    subject = Subject("inverted", found.latent.ws)
    shots = shoot(model, [subject], turned, side=side, sample_factor=samples, batch=1)
    around = [shot.images["image"] for shot in shots]
    rows = [
        [drawing.resized(target, side), drawing.resized(image, side), *around]
        for target, image in zip(targets, inverted, strict=True)
    ]
    files.save_image(out / "comparison.png", drawing.sheet(rows))
