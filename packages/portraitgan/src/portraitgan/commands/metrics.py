"""`portraitgan metrics`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from portraitgan.commands import shared

if TYPE_CHECKING:
    import torch

    from phq_data.rig import PortraitRig
    from portraitgan.inference.model import Model
    from portraitgan.metrics.report import MetricOptions
    from portraitgan.training.distributed import World


def metrics(
    model: shared.ModelArgument,
    data: Annotated[str, typer.Option(metavar="RELEASE", help="The release (folder or URL).")],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    split: Annotated[str, typer.Option(help="Which split of it, or all.")] = "train",
    only: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Of fid,identity,canonicality,pose,artifacts (default: all)."),
    ] = None,
    count: Annotated[int, typer.Option(metavar="N", help="Generated portraits for each FID.")] = 50_000,
    num_samples: Annotated[
        int, typer.Option(metavar="N", help="Samples (latents) of the other metrics.")
    ] = 1024,
    poses: Annotated[
        str | None,
        typer.Option(
            metavar="LIST", help="Only these for FID: generator,discriminator,labels (default: all)."
        ),
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="The Inception weights of torch-fidelity or pytorch-fid (default: a stated substitute).",
        ),
    ] = None,
    face: Annotated[
        str | None, typer.Option(metavar="FILE", help="ArcFace as ONNX (default: the embedded MobileFace).")
    ] = None,
    pose_discriminator: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Whose discriminator predicts the canonical pose (default: the model's)."
        ),
    ] = None,
    yaw_limit: Annotated[float, typer.Option(metavar="DEG", help="Of identity.")] = 45.0,
    batch: Annotated[int, typer.Option(metavar="N", help="Portraits at once.")] = 8,
    seed: int = 0,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where features of real portraits are kept (beside --out)."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="The result (default: metrics/CHECKPOINT.json in the run)."),
    ] = None,
) -> None:
    """FID, KID, identity, canonical pose and pose errors of a run or checkpoint.

    Measures a checkpoint against a release and writes the result as JSON. Several GPUs: torchrun
    --nproc-per-node N -m portraitgan metrics ...; the numbers do not depend on how many.
    """
    from portraitgan.inference.model import find_checkpoint
    from portraitgan.metrics import report
    from portraitgan.training.distributed import join

    wanted = report.MetricOptions(
        parts=shared.listed_names(only) or report.PARTS, count=count, num_samples=num_samples, batch=batch,
        seed=seed, poses=shared.listed_names(poses), yaw_limit=yaw_limit, features=features, face=face,
    )  # fmt: skip
    folder, run = find_checkpoint(Path(model), checkpoint)
    target = out or target_of(folder, run)
    with join(None if device == "auto" else device) as world, shared.progress("metrics") as bar:
        result = measured(
            folder, run, data, wanted, world, bar, split=split, rig=rig, cache=cache, out=target,
            pose_discriminator=pose_discriminator,
        )  # fmt: skip
        if world.first:
            _print(result, target)


def target_of(folder: Path, run: Path | None) -> Path:
    """Where the result of a checkpoint is written unless something else is said."""
    return run / "metrics" / f"{folder.name}.json" if run else folder / "metrics.json"


def known_result(path: Path, folder: Path, data: str, split: str) -> dict[str, Any] | None:
    """What was measured of a checkpoint on a split of the release at `data` as it is now; none if nothing."""
    from phq_data.errors import ReleaseError
    from phq_data.foreign import parse_json
    from phq_data.release import reader
    from portraitgan.data.dataset import DataError

    try:
        found = parse_json(path.read_text())
    except (OSError, ValueError):
        return None
    try:
        digest = reader.open(data).manifest.digest
    except ReleaseError as error:
        raise DataError(str(error)) from error
    if not isinstance(found, dict) or not isinstance(found.get("release"), dict):
        return None
    same = (found.get("checkpoint"), found.get("split"), found["release"].get("digest"))
    return found if same == (str(folder), split, digest) else None


def measured(
    folder: Path,
    run: Path | None,
    data: str,
    wanted: MetricOptions,
    world: World,
    bar: Any,
    *,
    split: str,
    rig: Path | None = None,
    cache: Path | None = None,
    out: Path | None = None,
    pose_discriminator: str | None = None,
) -> dict[str, Any]:
    """Measure a checkpoint in its run's folder on a release; the first process writes the result."""
    from portraitgan.checkpoints.weights import read_config
    from portraitgan.data.dataset import PortraitData
    from portraitgan.inference.model import find_rig, open_model
    from portraitgan.metrics import report

    released = PortraitData.open(
        data, read_config(folder).generator.image_resolution, split=split,
        verify=world.first, say=shared.say if world.first else lambda line: None,
    )  # fmt: skip
    opened = _opened(folder, find_rig(folder, run, rig), released.rig, world.device)
    for note in opened.notes if world.first else ():
        shared.say(f"note: {note}")
    predictor = None
    if pose_discriminator is not None:
        predictor = open_model(pose_discriminator, device=world.device)
    target = out or target_of(folder, run)
    return report.run(
        opened, released, wanted, world, pose_model=predictor,
        cache=cache or target.parent / "features", watch=_watch(bar, world),
        save=lambda found: report.write(target, found) if world.first else None,
    )  # fmt: skip


def _watch(bar: Any, world: World) -> Any:
    """Tells the progress bar of the first process what begins and how much is done."""

    def watch(what: str, total: int) -> Any:
        if not world.first:
            return lambda number: None
        task = bar.add_task(what, total=-(-total // world.size))
        return lambda number: bar.update(task, advance=number, description=what)

    return watch


def _print(result: dict[str, Any], target: Path) -> None:
    """The table and, with JSON=1 in the environment, the result as one line."""
    import json
    import os

    from portraitgan.metrics import report

    print(report.table(result))
    print(f"-> {target}")
    if os.environ.get("JSON") == "1":
        print(json.dumps(result))


def _opened(
    folder: Path, own: PortraitRig | None, of_data: PortraitRig | None, device: torch.device
) -> Model:
    """The model with its own rig, else that of the release, which is what labels and poses refer to."""
    import tempfile
    from dataclasses import replace

    from portraitgan.inference.model import open_model

    rig = own or of_data
    with tempfile.TemporaryDirectory() as place:
        path = None
        if rig is not None:
            path = Path(place) / "rig.safetensors"
            rig.save(path)
        model = open_model(folder, path, device)
    if own is None and rig is not None:
        said = f"no rig beside the model: it is posed with the release's ({rig.body})"
    elif own is not None and of_data is not None and own.digest != of_data.digest:
        said = "the model's rig is not the release's: labels and poses may mean other bodies"
    else:
        return model
    return replace(model, notes=(*model.notes, said))
