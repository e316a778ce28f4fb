"""Tables 2 and 3 of the paper from the results of several runs, with intervals over seeds.

Runs whose configs differ in their seed alone, trained on the same release, are one row.
Table 2: FID with the mapping network told the rendered view (FID-view) and another one (FID-random), for each
source of poses, their gap, and identity.
Table 3: poses seen in frontal neutral samples, absolute and signed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from phq_data.foreign import parse_json
from portraitgan.checkpoints.checkpoint import STATE_FILE
from portraitgan.checkpoints.weights import read_config
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.faces import EMBEDDED_NAME
from portraitgan.metrics.features import RANDOM
from portraitgan.metrics.poses import COMPONENTS
from portraitgan.metrics.report import MetricOptions
from portraitgan.training.config import BatchConfig, OutputConfig
from portraitgan.training.run import read_run_config

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Number:
    """A mean over seeds; `margin` is half its 95 % interval (Student's t), none for a single seed."""

    mean: float
    margin: float | None

    def text(self, digits: int) -> str:
        """`12.3 ± 0.4`."""
        shown = f"{self.mean:.{digits}f}"
        return shown if self.margin is None else f"{shown} ± {self.margin:.{digits}f}"


@dataclass(frozen=True)
class Row:
    """A row of a table: who, and a number for every column; none where it was not measured."""

    name: str
    seeds: int
    detail: str  # source of poses, or which statistic
    numbers: tuple[Number | None, ...]


@dataclass(frozen=True)
class Table:
    """A table with its title and what the columns are."""

    title: str
    detail: str
    columns: tuple[str, ...]
    digits: tuple[int, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Identity:
    """Who a compared checkpoint is."""

    folder: Path  # of the checkpoint
    name: str
    equality: str  # equal for two runs that are one row
    seed: int | None  # none: nobody knows


def identity_of(folder: Path, run: Path | None) -> Identity:
    """Of a checkpoint, in its run's folder if any.

    Runs are one row if their settings differ in their seed alone and they were trained on the same release.
    A checkpoint without its run is a row of its own.
    """
    config = None if run is None else read_run_config(run)
    if config is None:
        return Identity(folder, read_config(folder).name, str(folder.resolve()), None)
    # What is written when, and how much goes through a GPU at once, changes no number.
    batch = replace(config.batch, per_pass=BatchConfig().per_pass)
    same = replace(config, seed=0, output=OutputConfig(), batch=batch).to_json()
    return Identity(folder, config.name, f"{same}\ntrained on {_release_of(folder)}", config.seed)


def _release_of(folder: Path) -> str | None:
    """Digest of the release that a checkpoint was trained on; none where it does not say."""
    try:  # not `read_state`: a comparison needs neither the optimiser nor the sums of all files
        found = parse_json((folder / STATE_FILE).read_bytes())
    except (OSError, ValueError):
        return None
    digest = found.get("data") if isinstance(found, dict) else None
    return digest if isinstance(digest, str) else None


def check_seeds(identities: Sequence[Identity]) -> None:
    """Raise `MetricError` where a row would count a seed twice: intervals are over different seeds."""
    known: dict[tuple[str, int | None], Identity] = {}
    for one in identities:
        other = known.setdefault((one.equality, one.seed), one)
        if other is one:
            continue
        if other.folder.resolve() == one.folder.resolve():
            raise MetricError(f"{one.folder} is named twice: a run counts once")
        raise MetricError(
            f"{other.folder} and {one.folder} have the same settings and the same seed ({one.seed}), so they "
            "are no two seeds of one row: compare one checkpoint of each run"
        )


def is_current(result: Mapping[str, Any], options: MetricOptions) -> bool:
    """Whether a result of `report.run` holds all that `options` ask for, by the default networks."""
    checkpoint = result.get("checkpoint")
    own = {
        "fid": ("count", options.count, "network", RANDOM, "poses"),
        "identity": ("latents", options.num_samples, "network", EMBEDDED_NAME, "yaw_limit_deg"),
        "canonicality": (
            "samples", options.num_samples, "pose_discriminator", checkpoint, "absolute_mean_deg"
        ),
    }  # fmt: skip
    for part in options.parts:
        found = result.get(part, {})
        if found is None:  # the model predicts no poses
            continue
        size, wanted, network, name, since = own[part]  # `since`: what earlier programs did not measure
        if found.get(size) != wanted or found.get("seed", options.seed) != options.seed:
            return False
        if found.get(network) != name or since not in found:
            return False
        if part == "fid" and found["poses"] != list(options.poses):  # of some sources of poses alone
            return False
    return not ("identity" in options.parts and result["identity"]["yaw_limit_deg"] != options.yaw_limit)


def tables(named: Sequence[tuple[str, str, Mapping[str, Any]]]) -> tuple[Table, Table]:
    """Tables 2 and 3 of (name, equality, result) of every run; see `Identity` and `report.run`."""
    groups: dict[str, tuple[str, list[Mapping[str, Any]]]] = {}
    for name, equality, result in named:
        groups.setdefault(equality, (name, []))[1].append(result)
    names = _distinct([name for name, _ in groups.values()])
    together = list(zip(names, (results for _, results in groups.values()), strict=True))
    quality = Table(
        "Table 2: quality", "poses", ("FID-view", "FID-random", "gap", "identity"), (2, 2, 2, 3),
        tuple(row for name, results in together for row in _quality(name, results)),
    )  # fmt: skip
    canonical = Table(
        "Table 3: poses seen in frontal neutral samples, degrees", "statistic", COMPONENTS, (1,) * 6,
        tuple(row for name, results in together for row in _canonical(name, results)),
    )  # fmt: skip
    return quality, canonical


def _quality(name: str, results: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    sources = list(dict.fromkeys(one for result in results for one in result["fid"]["headline"]))
    same = over_seeds([result["identity"]["similarity"] for result in results])
    for source in sources:
        found = [result["fid"]["headline"].get(source) for result in results]
        numbers = [over_seeds([part and part[key] for part in found]) for key in ("view", "random", "gap")]
        yield Row(name, len(results), source, (*numbers, same))


def _canonical(name: str, results: Sequence[Mapping[str, Any]]) -> Iterator[Row]:
    found = [result["canonicality"] for result in results]
    for title, key in (
        ("mean of |pose|", "absolute_mean_deg"), ("std of |pose|", "absolute_std_deg"),
        ("mean", "mean_deg"), ("std", "std_deg"),
    ):  # fmt: skip
        numbers = [over_seeds([part and part[key][component] for part in found]) for component in COMPONENTS]
        yield Row(name, len(results), title, tuple(numbers))


def over_seeds(values: Sequence[float | None]) -> Number | None:
    """Mean and margin of those that were measured; none if nothing was."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    if len(known) == 1:
        return Number(known[0], None)
    spread = float(np.std(known, ddof=1)) / math.sqrt(len(known))
    return Number(float(np.mean(known)), float(stats.t.ppf((1 + CONFIDENCE) / 2, len(known) - 1)) * spread)


def _distinct(names: Sequence[str]) -> list[str]:
    """Names of different configs that are called the same get a number."""
    return [
        name if names.count(name) == 1 else f"{name} ({names[: place + 1].count(name)})"
        for place, name in enumerate(names)
    ]


def _cells(table: Table) -> list[list[str]]:
    """Heading and rows as text."""
    head = ["run", "seeds", table.detail, *table.columns]
    return [head] + [
        [
            row.name, str(row.seeds), row.detail,
            *("-" if number is None else number.text(digits)
              for number, digits in zip(row.numbers, table.digits, strict=True)),
        ]
        for row in table.rows
    ]  # fmt: skip


def as_text(found: Sequence[Table]) -> str:
    """All tables for a terminal."""
    return _each(found, lambda table: f"{table.title}\n{_aligned(_cells(table))}")


def as_markdown(found: Sequence[Table]) -> str:
    """All tables as Markdown."""

    def one(table: Table) -> str:
        head, *rows = ([cell.replace("|", "\\|") for cell in row] for row in _cells(table))
        rule = ["---", "---:", "---", *["---:"] * len(table.columns)]
        return f"**{table.title}**\n\n" + "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))

    return _each(found, one)


def as_json(found: Sequence[Table]) -> str:
    """All tables as JSON."""
    return (
        json.dumps({"confidence": CONFIDENCE, "tables": [asdict(table) for table in found]}, indent=1) + "\n"
    )


def _each(found: Sequence[Table], shown: Callable[[Table], str]) -> str:
    return "\n\n".join(shown(table) for table in found) + "\n"


def _aligned(cells: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column in (0, 2) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in cells
    )
