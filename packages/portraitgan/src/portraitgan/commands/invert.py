"""`portraitgan invert`."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.images.files import Pixels
    from portraitgan.inference.invert import InversionOptions, Inverted, Step
    from portraitgan.inference.model import Model

SHEET_SIDE = 128
"""Pixels of an image of the comparison, at least."""
STATE_FILE = "unfinished.safetensors"
PORTRAIT, FITTING = "The portrait: of a dataset, or an aligned image with its camera", "Fitting"


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    invert = commands.add_parser(
        "invert",
        help="find the styles that show a given portrait; sample, film or mesh it with --latent",
        description="Optimises styles (W+) and noise images so that the generator shows the portrait, and "
        "with --tune its weights (pivotal tuning). Writes latent.safetensors, latent.json and pictures. "
        "Interrupted, the same command continues.",
    )
    shared.add_model(invert)
    invert.add_argument("out", type=Path, metavar="OUT", help="folder to write")
    source = invert.add_argument_group("the portrait: of a dataset, or an aligned picture with its camera")
    source.add_argument("--data", metavar="URL", help="a release or a workspace")
    source.add_argument("--portrait", metavar="ID", help="which portrait of it")
    source.add_argument("--image", type=Path, help="a square picture, aligned as training's are")
    source.add_argument(
        "--mask", type=Path, help="its mask, which the pose predictor looks at (default: all)"
    )
    source.add_argument("--camera", metavar="LABEL", help="25 numbers or a JSON file with them")
    source.add_argument("--yaw", type=float, metavar="DEG", help="instead of --camera")
    source.add_argument("--pitch", type=float, default=0.0, metavar="DEG")
    source.add_argument("--roll", type=float, default=0.0, metavar="DEG")
    shared.add_pose(source)
    source.add_argument(
        "--pose", choices=("predicted", "label", "none"), default="predicted",
        help="where the body pose comes from: the discriminator (default), the dataset, or canonical",
    )  # fmt: skip
    fit = invert.add_argument_group("fitting")
    fit.add_argument("--steps", type=int, default=500, help="optimisation steps (500)")
    fit.add_argument("--rate", type=float, default=0.01, help="learning rate at its peak (0.01)")
    fit.add_argument("--refine-camera", action="store_true", help="optimise yaw, pitch and roll too")
    fit.add_argument("--refine-pose", action="store_true", help="optimise the body pose too")
    fit.add_argument(
        "--tune", type=int, nargs="?", const=TUNING_STEPS, default=0, metavar="STEPS",
        help=f"pivotal tuning afterwards ({TUNING_STEPS} steps)",
    )  # fmt: skip
    fit.add_argument(
        "--vgg", type=Path, metavar="FILE", help="StyleGAN2's vgg16.pt for the perceptual distance; its "
        "TorchScript is run. Without it, colors and gradients at several scales are compared",
    )  # fmt: skip
    fit.add_argument("--seed", type=int, default=0, help="of the noise (0)")
    fit.add_argument(
        "--samples", type=float, default=2.0, metavar="FACTOR", help="times training's samples (2)"
    )
    fit.add_argument("--resolution", type=int, metavar="R", help="rays a side (default: the checkpoint's)")
    fit.add_argument("--preview-every", type=int, default=100, metavar="STEPS", help="(100)")
    invert.set_defaults(run=shared.explained(_invert), batch=1)

    Optimises styles (W+) and noise images so that the generator shows the portrait, and with --pti-steps its
    weights (pivotal tuning inversion). Writes latent.safetensors, latent.json and images. Interrupted, the
    same command continues.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.invert import InversionOptions
    from portraitgan.inference.latents import save_latent
    from portraitgan.inference.views import describe

    shared.check_quality(options)
    if options.steps < 1 or options.tune < 0 or options.preview_every < 1 or options.rate <= 0:
        raise InferenceError("--steps, --preview-every and --rate must be positive, --tune not negative")
    model = shared.open_from(options, full_precision=True)
    name, target, camera, pose = _portrait(options, model)
    side = model.config.generator.image_resolution
    picture = drawing.from_pixels(drawing.resized(target, side)).to(model.device)
    if options.vgg is None:
        shared.say("note: no --vgg FILE: colors and gradients at several scales are compared instead")
        distance = inversion_loss.pixel_distance(picture)
    else:
        one = _from_file(source)
    pose = shared.chosen_pose(model, neck, head)
    if pose is None and pose_source != "none" and model.deforms:
        pose = one.pose
        if pose_source == "predicted" and model.config.discriminator.pose_predictor is not None:
            pose = predicted_poses(model, [one])
    return _Target(one.portrait_id, one.image, one.camera, pose)


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
    from portraitgan.images import drawing, files
    from portraitgan.inference import inversion_loss
    from portraitgan.inference.inversion_state import load_state, save_state
    from portraitgan.inference.invert import invert as invert_portrait

    side = model.config.generator.image_resolution
    image = drawing.from_pixels(drawing.resized(target.image, side)).to(model.device)
    if vgg is None:
        shared.say("note: no --vgg FILE: colors and gradients at several scales are compared instead")
        distance = inversion_loss.pixel_distance(image)
    else:
        distance = inversion_loss.perceptual_distance(image, vgg, model.device)
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

        return invert_portrait(model, image, target.camera, target.pose, distance, options, told, keep, kept)


def _question(model: Model, target: _Target, options: InversionOptions, vgg: Path | None) -> str:
    """A digest of what is asked: another question starts anew."""
    import hashlib
    from dataclasses import asdict

    from portraitgan.inference.inversion_state import question_digest
    from portraitgan.inference.latents import weights_digest

    return question_digest(
        {
            "fit": asdict(options), "model": weights_digest(model), "vgg": str(vgg),
            "image": hashlib.sha256(target.image.tobytes()).hexdigest(), "camera": target.camera.tolist(),
            "pose": None if target.pose is None else target.pose.tolist(),
        }
    )  # fmt: skip


def _facts(
    model: Model, name: str, found: Inverted, options: InversionOptions, vgg: Path | None
) -> dict[str, Any]:
    """What latent.json says."""
    from portraitgan.inference.latents import weights_digest

    pose = found.latent.pose
    return {
        "portrait": name,
        "model": str(model.folder.name),
        "model_digest": weights_digest(model),
        "camera": found.latent.camera[0].cpu().tolist(),
        "pose": None if pose is None else pose[0].cpu().tolist(),
        "steps": options.steps,
        "pti_steps": options.pti_steps,
        "seed": options.seed,
        "distance": "VGG16 LPIPS features" if options.vgg else "colors and gradients at several scales",
        "distance_start": found.distances[0],
        "distance_end": found.distances[-1],
    }


def _write_images(model: Model, found: Inverted, target: Pixels, out: Path, samples: float) -> None:
    """The portrait, its inversion, and the person from other sides."""
    import torch

    from portraitgan.images import drawing, files
    from portraitgan.inference import views
    from portraitgan.inference.latents import Subject
    from portraitgan.inference.sample import shoot

    inverted = drawing.to_pixels(found.image / 2 + 0.5)[0]
    files.save_image(out / "inverted.png", inverted)
    side = max(model.config.generator.image_resolution, SHEET_SIDE)
    turned = torch.cat([views.camera(yaw) for yaw in (-60, 0, 60, 180)])
    subject = Subject("inverted", found.latent.ws)
    shots = shoot(model, [subject], turned, side=side, sample_factor=samples, batch=1)
    both = (drawing.resized(one, side) for one in (target, inverted))
    row = [*both, *(shot.images["image"] for shot in shots)]
    files.save_image(out / "comparison.png", drawing.sheet([row]))
