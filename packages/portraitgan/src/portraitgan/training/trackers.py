"""Experiment trackers: TensorBoard, Weights & Biases, MLflow; those that are named and installed.

Nothing is sent anywhere because a package happens to be installed: only what `output.trackers` names is used.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from phq_data.typed_json import ConfigError
from portraitgan.training.statistics import Row

PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}


class Tracker(Protocol):
    """Where rows and images go."""

    def row(self, row: Row) -> None:
        """Take a row of statistics."""

    def image(self, images: int, name: str, path: Path) -> None:
        """Take a sheet."""

    def close(self) -> None:
        """Finish."""


def open_trackers(
    names: Sequence[str],
    run: Path,
    title: str,
    config: dict[str, Any],
    images: int,
    say: Callable[[str], None],
) -> list[Tracker]:
    """The named trackers that are installed; of the others `say` tells. `images` is where the run goes on.

    Raises `ConfigError` for a name that is none of a tracker.
    """
    makers: dict[str, Callable[[], Tracker]] = {
        "tensorboard": lambda: TensorBoard(run, images),
        "wandb": lambda: WeightsAndBiases(run, title, config),
        "mlflow": lambda: MLflow(run, title, config),
    }
    unknown = sorted(set(names) - set(makers))
    if unknown:
        raise ConfigError(f"output.trackers names {unknown[0]}; known are {', '.join(makers)}")
    opened: list[Tracker] = []
    for name in names:
        if importlib.util.find_spec(PACKAGES[name]) is None:
            say(f"{name} is not installed: statistics go to {run / 'statistics.jsonl'} only (pip: {name})")
        else:
            opened.append(makers[name]())
    return opened


def numbers(row: Row) -> dict[str, float]:
    """The row's numbers by name, grouped as trackers show them."""
    grouped = {}
    for name, value in row.to_json().items():
        if isinstance(value, int | float) and name != "images":
            group = "loss" if name in row.values else "progress"
            grouped[f"{group}/{name}"] = float(value)
    return grouped


class TensorBoard:
    """`tensorboard --logdir RUN` shows it."""

    def __init__(self, run: Path, images: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Steps after a checkpoint that the run goes back to are hidden.
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=images or None)

    def row(self, row: Row) -> None:
        """See `Tracker`."""
        for name, value in numbers(row).items():
            self._writer.add_scalar(name, value, row.images)
        self._writer.flush()

    def image(self, images: int, name: str, path: Path) -> None:
        """See `Tracker`."""
        with Image.open(path) as sheet:
            pixels = np.asarray(sheet.convert("RGB"))
        self._writer.add_image(name, pixels, images, dataformats="HWC")

    def close(self) -> None:
        """See `Tracker`."""
        self._writer.close()


class WeightsAndBiases:
    """Weights & Biases, with its own settings (WANDB_MODE=offline keeps it here)."""

    def __init__(self, run: Path, title: str, config: dict[str, Any]) -> None:
        self._wandb = importlib.import_module("wandb")
        self._run = self._wandb.init(
            project="portraitgan", name=f"{run.name}: {title}", id=_identifier(run), resume="allow",
            dir=str(run), config=config,
        )  # fmt: skip

    def row(self, row: Row) -> None:
        """See `Tracker`."""
        self._run.log({"images": row.images, **numbers(row)})

    def image(self, images: int, name: str, path: Path) -> None:
        """See `Tracker`."""
        self._run.log({"images": images, name: self._wandb.Image(str(path))})

    def close(self) -> None:
        """See `Tracker`."""
        self._run.finish()


class MLflow:
    """MLflow, with its own settings (MLFLOW_TRACKING_URI)."""

    def __init__(self, run: Path, title: str, config: dict[str, Any]) -> None:
        self._mlflow = importlib.import_module("mlflow")
        self._mlflow.set_experiment("portraitgan")
        self._mlflow.start_run(run_name=f"{run.name}: {title}")
        self._mlflow.log_dict(config, "config.json")

    def row(self, row: Row) -> None:
        """See `Tracker`."""
        self._mlflow.log_metrics(numbers(row), step=row.images)

    def image(self, images: int, name: str, path: Path) -> None:
        """See `Tracker`."""
        self._mlflow.log_artifact(str(path), "snapshots")

    def close(self) -> None:
        """See `Tracker`."""
        self._mlflow.end_run()


def _identifier(run: Path) -> str:
    """The same for the same run folder, so that a resumed run continues its own curves."""
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]
