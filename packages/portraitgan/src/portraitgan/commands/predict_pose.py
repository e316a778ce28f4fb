"""`portraitgan predict-pose`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from portraitgan.commands import model_options as shared


def add(commands: Any) -> None:
    """Add the command to the program's `argparse` subparsers."""
    predict = commands.add_parser(
        "predict-pose",
        help="neck and head poses of a release's or workspace's portraits, by the discriminator",
        description="Writes one row a portrait: the predicted pose, the label and, where it is known, the "
        "truth. Every portrait is judged by itself, so batches do not change the result.",
    )
    shared.add_model(predict)
    predict.add_argument("data", metavar="DATA", help="a release (folder or URL) or a workspace")
    predict.add_argument("out", type=Path, metavar="OUT", help=".parquet (radians) or .csv (degrees)")
    predict.add_argument("--split", help="only this split of a release")
    predict.add_argument("--limit", type=int, metavar="N", help="only the first N portraits")
    predict.add_argument("--batch", type=int, default=8, metavar="N", help="portraits at once (8)")
    predict.set_defaults(run=shared.explained(_predict))


def _predict(options: argparse.Namespace) -> int:
    import itertools

    from portraitgan.inference.errors import InferenceError
    from portraitgan.inference.portraits import open_portraits
    from portraitgan.inference.predict import COMPONENTS, differences, predict, save_poses

    if options.out.suffix.lower() not in (".parquet", ".csv"):
        raise InferenceError(f"{options.out}: poses are written as .parquet or .csv")
    if options.batch < 1 or (options.limit is not None and options.limit < 1):
        raise InferenceError("--batch and --limit must be at least 1")
    source = open_portraits(options.data)
    model = shared.open_from(options)
    count = source.count(options.split)
    if options.limit is not None:
        count = min(count, options.limit)
    with shared.progress("predict-pose") as bar:
        task = bar.add_task("portraits", total=count)
        portraits = itertools.islice(source.stream(options.split), count)
        table = predict(model, portraits, options.batch, lambda done: bar.advance(task, done))
    save_poses(options.out, table)
    print(f"{table.num_rows} portraits -> {options.out}")
    if table.num_rows:
        print("degrees         " + "".join(f"{name:>9}" for name in COMPONENTS))
    for other, words in (("label_pose", "label"), ("truth_pose", "truth")):
        found = differences(table, other)
        if found is not None:
            print(f"to {words}: mean  " + "".join(f"{value:9.2f}" for value in found.mean(axis=0)))
            print(" " * 10 + "rms   " + "".join(f"{value:9.2f}" for value in (found**2).mean(axis=0) ** 0.5))
    return 0
