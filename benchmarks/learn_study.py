"""All arms of `make learn` under both kinds of errors of labels, three seeds each, piece by piece.

A piece is one regression or GAN; killed or stopped, the same command goes on with the first one that is not
finished. After the last one comes the table: means and 95 % intervals over seeds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import timing
from benchmarks.learn import KIMG, Plan, draw, key_of, measure, train
from benchmarks.learn_arms import GANS, JUDGE, SUPERVISED, run_of
from benchmarks.synthetic import ERRORS
from portraitgan.checkpoints.checkpoint import CheckpointError, latest, read_state
from portraitgan.checkpoints.weights import CONFIG_FILE
from portraitgan.metrics.compare import Number, over_seeds
from portraitgan.training.schedule import stage_end

SEEDS = 3
ROWS = ("labels", "blind", SUPERVISED, *GANS, JUDGE)


def plans(folder: Path, kimg: float, portraits: int, device: str, samples: int = 2000) -> list[Plan]:
    """Every kind of errors with every seed."""
    return [
        Plan(folder / f"{errors}-{seed}", kimg, portraits, 1, samples, device, tuple(GANS), errors, seed)
        for errors in ERRORS
        for seed in range(SEEDS)
    ]


def unfinished(plan: Plan) -> Iterator[str]:
    """Regressions and GANs of a plan that are not trained to their end."""
    config = plan.config
    for name in (JUDGE, SUPERVISED):
        if not (plan.folder / name / CONFIG_FILE).exists():
            yield name
    for name in plan.arms:
        try:
            images = read_state(latest(run_of(plan.folder, name))).images
        except CheckpointError:
            images = 0
        if images < stage_end(config, len(config.stages) - 1):
            yield name


def table(figures: Sequence[Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """(Markdown, numbers by errors and arm) of what `learn.measure` found for every plan."""
    lines = [
        "| errors of labels | | pose error, held out | neutral samples off |",
        "| --- | --- | ---: | ---: |",
    ]
    found: dict[str, Any] = {}
    for errors in ERRORS:
        own = [one for one in figures if one["errors"] == errors]
        for name in ROWS:
            error, off = (
                over_seeds([one.get(f"{what}_{key_of(name)}_deg") for one in own])
                for what in ("pose_error", "off_neutral")
            )
            lines.append(f"| {errors} | {name} | {_shown(error)} | {_shown(off)} |")
            found[f"{errors} {name}"] = {
                "pose_error_deg": error and error.mean, "pose_error_margin_deg": error and error.margin,
                "off_neutral_deg": off and off.mean, "off_neutral_margin_deg": off and off.margin,
            }  # fmt: skip
    return "\n".join(lines), found


def _shown(number: Number | None) -> str:
    return "" if number is None else f"{number.text(1)}°"


def main(arguments: Sequence[str] | None = None) -> int:
    """Train what is missing, then measure all; or one piece alone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--folder", type=Path, default=Path("learn-study-out"))
    parser.add_argument("--kimg", type=float, default=KIMG)
    parser.add_argument("--portraits", type=int, default=2000)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--one", action="store_true", help="stop after one piece")
    options = parser.parse_args(arguments)
    every = plans(options.folder, options.kimg, options.portraits, options.device, options.samples)
    for plan in every:
        for name in list(unfinished(plan)):
            print(f"{plan.errors} errors, seed {plan.seed}: {name}", flush=True)
            train(plan, draw(plan), [name])
            if options.one:
                return 0
    timing.show(*table([measure(plan)[1] for plan in every]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
