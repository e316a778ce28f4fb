"""`portraitgan predict-pose`."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Annotated

import typer

from portraitgan.commands import shared


def predict_pose(
    model: shared.ModelArgument,
    data: Annotated[str, typer.Argument(metavar="DATA", help="A release (folder or URL) or a workspace.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".parquet (radians) or .csv (degrees).")],
    checkpoint: shared.CheckpointOption = None,
    rig: shared.RigOption = None,
    device: shared.DeviceOption = "auto",
    split: Annotated[str | None, typer.Option(help="Only this split of a release.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Only the first N portraits.")] = None,
    batch: Annotated[int, typer.Option(metavar="N", help="Portraits at once.")] = 8,
) -> None:
    """Neck and head poses of a release's or workspace's portraits, by the discriminator.

    Writes one row a portrait: the predicted pose, the label and, where it is known, the truth. Every portrait
    is predicted by itself, so batches do not change the result.
    """
    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import open_portraits
    from portraitgan.inference.predict import COMPONENTS, differences, predict, save_poses

    if out.suffix.lower() not in (".parquet", ".csv"):
        raise InferenceError(f"{out}: poses are written as .parquet or .csv")
    if batch < 1 or (limit is not None and limit < 1):
        raise InferenceError("--batch and --limit must be at least 1")
    source = open_portraits(data)
    opened = shared.open_chosen(model, checkpoint, rig, device)
    count = source.count(split)
    if limit is not None:
        count = min(count, limit)
    with shared.progress("predict-pose") as bar:
        task = bar.add_task("portraits", total=count)
        portraits = itertools.islice(source.stream(split), count)
        table = predict(opened, portraits, batch, lambda done: bar.advance(task, done))
    save_poses(out, table)
    print(f"{table.num_rows} portraits -> {out}")
    if table.num_rows:
        print("degrees         " + "".join(f"{name:>9}" for name in COMPONENTS))
    for other, name in (("label_pose", "label"), ("truth_pose", "truth")):
        found = differences(table, other)
        if found is not None:
            print(f"to {name}: mean  " + "".join(f"{value:9.2f}" for value in found.mean(axis=0)))
            print(" " * 10 + "rms   " + "".join(f"{value:9.2f}" for value in (found**2).mean(axis=0) ** 0.5))
