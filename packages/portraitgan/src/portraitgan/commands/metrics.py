"""`portraitgan metrics`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from portraitgan.commands import model_options as shared

if TYPE_CHECKING:
    import torch

    from phq_data.rig import PortraitRig
    from portraitgan.inference.model import Model


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    metrics = commands.add_parser(
        "metrics",
        help="FID, KID, identity, canonical pose and pose errors of a run or checkpoint",
        description="Measures a checkpoint against a release and writes the result as JSON. Several GPUs: "
        "torchrun --nproc-per-node N -m portraitgan metrics ...; the numbers do not depend on how many.",
    )
    shared.add_model(metrics)
    metrics.add_argument("--data", required=True, metavar="RELEASE", help="the release (folder or URL)")
    metrics.add_argument("--split", default="train", help="which split of it, or all (train)")
    metrics.add_argument("--only", metavar="LIST", help="of fid,identity,canonicality,pose (default: all)")
    metrics.add_argument(
        "--count", type=int, default=50_000, metavar="N", help="generated portraits for each FID (50000)"
    )
    metrics.add_argument(
        "--people", type=int, default=1024, metavar="N", help="samples of the other metrics (1024)"
    )
    metrics.add_argument(
        "--poses", metavar="LIST", help="only these for FID: generator,discriminator,labels (default: all)"
    )
    metrics.add_argument(
        "--features", metavar="FILE",
        help="the Inception weights of torch-fidelity or pytorch-fid (default: a stated substitute)",
    )  # fmt: skip
    metrics.add_argument("--face", metavar="FILE", help="ArcFace as ONNX (default: the embedded MobileFace)")
    metrics.add_argument(
        "--judge",
        metavar="MODEL",
        help="whose discriminator judges the canonical pose (default: the model's)",
    )
    metrics.add_argument("--yaw-limit", type=float, default=45.0, metavar="DEG", help="of identity (45)")
    metrics.add_argument("--batch", type=int, default=8, metavar="N", help="portraits at once (8)")
    metrics.add_argument("--seed", type=int, default=0)
    metrics.add_argument(
        "--cache", type=Path, metavar="DIR", help="where features of real portraits are kept (beside --out)"
    )
    metrics.add_argument(
        "--out", type=Path, metavar="FILE", help="the result (default: metrics/CHECKPOINT.json in the run)"
    )
    metrics.set_defaults(run=shared.explained(_metrics))


def _metrics(options: argparse.Namespace) -> int:
    import json
    import os

    from portraitgan.checkpoints.weights import read_config
    from portraitgan.data.dataset import DataError, PortraitData
    from portraitgan.inference.model import find_checkpoint, find_rig, open_model
    from portraitgan.metrics import report
    from portraitgan.metrics.errors import MetricError
    from portraitgan.training.distributed import DistributedError, join

    try:
        wanted = report.MetricOptions(
            parts=_names(options.only) or report.PARTS,
            count=options.count,
            people=options.people,
            batch=options.batch,
            seed=options.seed,
            poses=_names(options.poses),
            yaw_limit=options.yaw_limit,
            features=options.features,
            face=options.face,
        )
        folder, run = find_checkpoint(Path(options.model), options.checkpoint)
        with join(None if options.device == "auto" else options.device) as world:
            data = PortraitData.open(
                options.data, read_config(folder).generator.image_resolution, split=options.split,
                verify=world.first, say=shared.say if world.first else lambda line: None,
            )  # fmt: skip
            model = _opened(folder, find_rig(folder, run, options.rig), data.rig, world.device)
            for note in model.notes if world.first else ():
                shared.say(f"note: {note}")
            judge = None if options.judge is None else open_model(options.judge, device=world.device)
            out = options.out or (run / "metrics" / f"{folder.name}.json" if run else folder / "metrics.json")
            with shared.progress("metrics") as bar:

                def watch(what: str, total: int) -> Any:
                    if not world.first:
                        return lambda number: None
                    task = bar.add_task(what, total=-(-total // world.size))
                    return lambda number: bar.update(task, advance=number, description=what)

                cache = options.cache or out.parent / "features"
                result = report.run(
                    model, data, wanted, world, judge=judge, cache=cache, watch=watch,
                    save=lambda found: report.write(out, found) if world.first else None,
                )  # fmt: skip
            if world.first:
                print(report.table(result))
                print(f"-> {out}")
                if os.environ.get("JSON") == "1":
                    print(json.dumps(result))
    except (DataError, MetricError, DistributedError) as error:
        shared.say(f"portraitgan metrics: {error}")
        return 1
    return 0


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


def _names(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()
