"""FID while a run trains: of its EMA, at stated intervals."""

from __future__ import annotations

from pathlib import Path

from portraitgan.inference.model import Model
from portraitgan.metrics import quality
from portraitgan.metrics.errors import MetricError
from portraitgan.metrics.features import open_features
from portraitgan.metrics.generate import Poses, Setting, settings_of
from portraitgan.metrics.statistics import frechet_distance
from portraitgan.training.loop import FidMeter
from portraitgan.training.run import Run
from portraitgan.training.schedule import model_at

BATCH = 8


def fid_of(features: str | Path | None = None, seed: int = 0) -> FidMeter:
    """What measures a run's FID-random at this moment.

    Poses are the generator's own (or the labels', or none), conditions those of another portrait: what a view
    leaks counts for nothing. Features of the real portraits are kept in the run's folder. Raises
    `MetricError` for a file of weights that cannot be used: before training, not hours later.
    """
    name = open_features(features).name

    def measure(run: Run) -> float:
        config = model_at(run.config, run.images)
        generator = run.networks.generator_ema
        model = Model(run.folder, config, generator, run.world.device, run.data.rig, ())
        own = [one.poses for one in settings_of(model) if one.poses != "discriminator"]
        poses: Poses = own[0] if own else "labels"  # where the discriminator alone predicts them
        network = open_features(features, run.world.device)
        real = quality.real_features(run.data, network, run.world, cache=run.folder / "metrics" / "features")
        made = quality.made_features(
            model, run.data, network, Setting(poses, "independent"), run.config.output.fid_images, run.world,
            batch=BATCH, seed=seed,
        )  # fmt: skip
        if min(real.all.count, made.all.count) < 2:
            raise MetricError("FID needs at least two portraits of each kind: raise output.fid_images")
        return frechet_distance(real.all, made.all)

    return FidMeter(name, measure)
