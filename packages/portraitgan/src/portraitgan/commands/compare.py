"""`portraitgan compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from portraitgan.commands import shared

PARTS = ("fid", "identity", "canonicality")


def compare(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders or checkpoints.")],
    data: Annotated[str, typer.Option(metavar="RELEASE", help="The release (folder or URL).")],
    device: shared.DeviceOption = "auto",
    split: Annotated[str, typer.Option(help="Which split of it, or all.")] = "train",
    count: Annotated[int, typer.Option(metavar="N", help="Generated portraits for each FID.")] = 50_000,
    num_samples: Annotated[
        int, typer.Option(metavar="N", help="Samples (latents) of the other metrics.")
    ] = 1024,
    features: Annotated[
        str | None, typer.Option(metavar="FILE", help="The Inception weights (see `portraitgan metrics`).")
    ] = None,
    face: Annotated[
        str | None, typer.Option(metavar="FILE", help="ArcFace as ONNX (default: the embedded MobileFace).")
    ] = None,
    pose_discriminator: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Whose discriminator judges poses of all runs (default: each its own)."
        ),
    ] = None,
    yaw_limit: Annotated[float, typer.Option(metavar="DEG", help="Of identity.")] = 45.0,
    batch: Annotated[int, typer.Option(metavar="N", help="Portraits at once.")] = 8,
    seed: int = 0,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Also write comparison.txt, .json and .md there."),
    ] = None,
) -> None:
    """The paper's tables 2 and 3 of several runs, with intervals over seeds.

    Runs whose settings differ in their seed alone, trained on the same release, are one row; none of their
    seeds may come twice. What RUN/metrics says already of the same checkpoint, release and sizes is not
    measured again, unless a network is named.
    """
    import os

    from phq_data.files import write_text
    from portraitgan.commands.metrics import known_result, measured, target_of
    from portraitgan.inference.model import find_checkpoint
    from portraitgan.metrics import compare as comparison
    from portraitgan.metrics.report import MetricOptions
    from portraitgan.training.distributed import join

    wanted = MetricOptions(
        parts=PARTS, count=count, num_samples=num_samples, batch=batch, seed=seed, yaw_limit=yaw_limit,
        features=features, face=face,
    )  # fmt: skip
    own_networks = features is None and face is None and pose_discriminator is None
    found = [find_checkpoint(Path(one)) for one in runs]
    identities = [comparison.identity_of(folder, run) for folder, run in found]
    comparison.check_seeds(identities)
    named = []
    with join(None if device == "auto" else device) as world, shared.progress("compare") as bar:
        for who, (folder, run) in zip(identities, found, strict=True):
            result = known_result(target_of(folder, run), folder, data, split) if own_networks else None
            if result is None or not comparison.is_current(result, wanted):
                result = measured(
                    folder, run, data, wanted, world, bar, split=split,
                    pose_discriminator=pose_discriminator,
                )  # fmt: skip
            named.append((who.name, who.equality, result))
        if not world.first:
            return
    made = comparison.tables(named)
    texts = {
        "txt": comparison.as_text(made), "json": comparison.as_json(made), "md": comparison.as_markdown(made)
    }  # fmt: skip
    print(texts["txt"], end="")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            write_text(out / f"comparison.{ending}", text)
        print(f"-> {out}/comparison.txt, .json, .md")
    if os.environ.get("JSON") == "1":
        import json

        print(json.dumps(json.loads(texts["json"])))
