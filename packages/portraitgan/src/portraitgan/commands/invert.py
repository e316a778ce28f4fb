"""`portraitgan invert`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitgan.commands import model_options as shared

if TYPE_CHECKING:
    from torch import Tensor

    from portraitgan.images.drawing import Pixels
    from portraitgan.inference.invert import Inverted, Step
    from portraitgan.inference.model import Model

TUNING_STEPS = 350
SHEET_SIDE = 128
"""Pixels of a picture of the comparison, at least."""
STATE_FILE = "unfinished.safetensors"


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


def _invert(options: argparse.Namespace) -> int:
    import hashlib
    from dataclasses import asdict

    from portraitgan.images import drawing, files
    from portraitgan.inference import inversion_loss
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.inversion_state import load_state, question_digest, save_state
    from portraitgan.inference.invert import InversionOptions, invert
    from portraitgan.inference.latents import save_latent, weights_digest
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
        distance = inversion_loss.perceptual_distance(picture, options.vgg, model.device)
    fit = InversionOptions(
        steps=options.steps, rate=options.rate, seed=options.seed, refine_camera=options.refine_camera,
        refine_pose=options.refine_pose, tuning_steps=options.tune, sample_factor=options.samples,
        resolution=options.resolution, tuning_stop=0.06 if options.vgg else 0.0,
    )  # fmt: skip
    state_path = options.out / STATE_FILE
    question = question_digest(
        {
            "fit": asdict(fit), "model": weights_digest(model), "vgg": str(options.vgg),
            "picture": hashlib.sha256(target.tobytes()).hexdigest(), "camera": camera.tolist(),
            "pose": None if pose is None else pose.tolist(),
        }
    )  # fmt: skip
    kept = load_state(state_path, question)
    if kept is not None:
        shared.say(f"note: continuing after step {int(kept['step'])}, where it was interrupted")
    shared.say(f"{name}: {describe(camera)}, {options.steps} steps, {options.tune} of tuning")
    with shared.progress("invert") as bar:
        task = bar.add_task("styles", total=options.steps + options.tune)

        def keep(tensors: dict[str, Tensor]) -> None:
            save_state(state_path, question, tensors)

        def told(step: Step) -> None:
            bar.update(task, completed=step.number, description=f"{step.phase} {step.distance:.4f}")
            if step.number % options.preview_every == 0:
                seen = drawing.to_pixels(step.picture / 2 + 0.5)
                files.save_image(options.out / f"step-{step.number:05d}.png", seen[0])

        found = invert(model, picture, camera, pose, distance, fit, told, keep, kept)
    facts = _facts(options, model, name, found)
    save_latent(options.out / "latent.safetensors", _with_facts(found, facts))
    _pictures(options, model, found, target)
    state_path.unlink(missing_ok=True)
    best = found.distances[-1]
    print(f"{name}: distance {found.distances[0]:.4f} -> {best:.4f} -> {options.out}/latent.safetensors")
    return 0


def _portrait(options: argparse.Namespace, model: Model) -> tuple[str, Pixels, Tensor, Tensor | None]:
    """(name, picture, camera [1, 25], pose [1, 6] or none) of what is to be inverted."""
    import numpy as np
    import torch

    from portraitgan.images import files
    from portraitgan.inference import views
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import RealPortrait, open_portraits
    from portraitgan.inference.sample import predicted_poses

    if (options.image is None) == (options.portrait is None):
        raise InferenceError("name either --data URL --portrait ID, or --image FILE with its camera")
    if options.portrait is not None:
        if options.data is None:
            raise InferenceError("--portrait needs the release or workspace that has it: --data URL")
        one = open_portraits(options.data).find(options.portrait)
    else:
        if (options.camera is None) == (options.yaw is None):
            raise InferenceError("--image needs its camera: --camera LABEL or --yaw (and --pitch, --roll)")
        pixels = files.load_image(options.image)
        if pixels.shape[0] != pixels.shape[1]:
            raise InferenceError(f"{options.image} is {pixels.shape[1]}x{pixels.shape[0]}; it must be square")
        if options.pose == "label":
            raise InferenceError("--pose label needs a portrait of a dataset (--data, --portrait)")
        mask = np.full(pixels.shape[:2], 255, np.uint8)
        if options.mask is not None:
            mask = files.load_image(options.mask, grey=True)
        camera = (
            views.camera(options.yaw, options.pitch, options.roll)
            if options.camera is None
            else views.camera_from_text(options.camera)
        )
        one = RealPortrait(options.image.stem, None, pixels, mask, camera, torch.zeros(1, 6))
    pose = shared.pose_from(options, model)
    if pose is None and options.pose != "none" and model.deforms:
        pose = one.pose
        if options.pose == "predicted" and model.config.discriminator.pose_predictor is not None:
            pose = predicted_poses(model, [one])
    return one.portrait_id, one.image, one.camera, pose


def _facts(options: argparse.Namespace, model: Model, name: str, found: Inverted) -> dict[str, Any]:
    from portraitgan.inference.latents import weights_digest

    pose = found.latent.pose
    return {
        "portrait": name,
        "model": str(model.folder.name),
        "model_digest": weights_digest(model),
        "camera": found.latent.camera[0].cpu().tolist(),
        "pose": None if pose is None else pose[0].cpu().tolist(),
        "steps": options.steps,
        "tuning_steps": options.tune,
        "seed": options.seed,
        "distance": "VGG16 LPIPS features" if options.vgg else "colors and gradients at several scales",
        "distance_start": found.distances[0],
        "distance_end": found.distances[-1],
    }


def _with_facts(found: Inverted, facts: dict[str, Any]) -> Any:
    from dataclasses import replace

    return replace(found.latent, facts=facts)


def _pictures(options: argparse.Namespace, model: Model, found: Inverted, target: Pixels) -> None:
    """The portrait, its inversion, and the person from other sides."""
    import torch

    from portraitgan.images import drawing, files
    from portraitgan.inference import views
    from portraitgan.inference.latents import Subject
    from portraitgan.inference.sample import shoot

    inverted = drawing.to_pixels(found.picture / 2 + 0.5)[0]
    files.save_image(options.out / "inverted.png", inverted)
    side = max(model.config.generator.image_resolution, SHEET_SIDE)
    turned = torch.cat([views.camera(yaw) for yaw in (-60, 0, 60, 180)])
    subject = Subject("inverted", found.latent.ws)
    shots = shoot(model, [subject], turned, side=side, sample_factor=options.samples, batch=1)
    both = (drawing.resized(one, side) for one in (target, inverted))
    row = [*both, *(shot.pictures["image"] for shot in shots)]
    files.save_image(options.out / "comparison.png", drawing.sheet([row]))
