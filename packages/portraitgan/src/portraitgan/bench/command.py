"""Arguments of the measurements."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one measurement and print it."""
    parser = argparse.ArgumentParser(prog="python -m portraitgan.bench", description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="WHAT")
    deformation = kinds.add_parser(
        "deformation", help="closest faces, the warp, and their share of rendering"
    )
    deformation.add_argument(
        "--rig", type=Path, help="rig file (default: a body of about 6,000 faces made here)"
    )
    deformation.add_argument("--batch", type=int, help="images (default 4)")
    deformation.add_argument("--rays", type=int, nargs="+", help="rays per side (default: 64; GPU: 64 128)")
    deformation.add_argument("--brute-points", type=int, default=2048, help="points timed by brute force")
    step = kinds.add_parser("step", help="one generator and one discriminator step, by part")
    step.add_argument("--preset", nargs="+", help="default: tiny middle; on a GPU: paper_256 paper_512")
    step.add_argument("--batch", type=int, default=4, help="images")
    step.add_argument("--rays", type=int, help="rays a side (default: the preset's)")
    step.add_argument("--tf32", action="store_true", help="TensorFloat-32 in the float32 parts (GPU)")
    step.add_argument("--compile", action="store_true", help="with compiled decoder and march")
    cost = kinds.add_parser("cost", help="arithmetic of an image of training, and hours estimated from it")
    cost.add_argument("--preset", nargs="+", help="default: all of `portraitgan train`")
    for part in (deformation, step):
        part.add_argument("--device", choices=["cpu", "cuda"], help="default: cuda where there is one")
        part.add_argument("--repeats", type=int, help="how often everything is timed; the median counts")
    load = kinds.add_parser("loader", help="portraits a second from a release, against zips of PNGs")
    load.add_argument("--rows", type=int, default=400, help="portraits (made up)")
    load.add_argument("--size", type=int, default=512, help="pixels a side")
    load.add_argument("--batch", type=int, default=8)
    load.add_argument("--codec", choices=["png", "webp-lossless", "jpeg-95"], default="png")
    load.add_argument("--folder", type=Path, help="where to work; a temporary folder if not given")
    learn = kinds.add_parser("learn", help="train on rendered people of known truth: does it learn?")
    learn.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="cuda: a larger model")
    learn.add_argument("--folder", type=Path, default=Path("learn-out"), help="where everything goes")
    learn.add_argument("--kimg", type=float, default=24.0, help="how long to train")
    learn.add_argument("--portraits", type=int, default=2000, help="how many are drawn")
    learn.add_argument("--processes", type=int, default=2)
    learn.add_argument("--samples", type=int, default=2000, help="generated portraits that are judged")
    options = parser.parse_args(arguments)
    if options.kind == "deformation":
        from portraitgan.bench.deformation import measure

        table, figures = measure(
            options.rig,
            options.device,
            options.batch,
            options.rays,
            options.brute_points,
            options.repeats or 3,
        )
    elif options.kind == "cost":
        from portraitgan.bench.cost import measure as measure_cost

        table, figures = measure_cost(options.preset)
    elif options.kind == "learn":
        from portraitgan.bench.learn import measure as measure_learning

        table, figures = measure_learning(
            options.folder,
            options.kimg,
            options.portraits,
            options.processes,
            options.samples,
            options.device,
        )
    elif options.kind == "loader":
        from portraitgan.bench.loader import measure as measure_loader

        table, figures = measure_loader(
            options.rows, options.size, options.batch, options.codec, options.folder
        )
    else:
        from portraitgan.bench.step import measure as measure_step
        from portraitgan.rendering import compiled

        compiled.use(options.compile)

        table, figures = measure_step(
            options.preset, options.device, options.batch, options.repeats or 3, options.rays, options.tf32
        )
    print(table)
    if os.environ.get("JSON") == "1":
        print(json.dumps(figures))
    return 0
