"""FID during training: when it is measured, and which checkpoint stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from portraitgan.checkpoints import checkpoint
from portraitgan.commands.main import main
from portraitgan.data.dataset import PortraitData
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.model import find_checkpoint, open_model
from portraitgan.metrics import quality
from portraitgan.metrics.during import fid_of
from portraitgan.metrics.features import open_features
from portraitgan.metrics.generate import Setting
from portraitgan.metrics.statistics import frechet_distance
from portraitgan.training import loop, statistics
from portraitgan.training.config import BatchConfig, OutputConfig, StageConfig, TrainConfig
from portraitgan.training.distributed import World
from portraitgan.training.run import Run, open_run

ALONE = World(0, 1, torch.device("cpu"))

pytestmark = pytest.mark.training


def six_iterations(base: TrainConfig) -> TrainConfig:
    """Of eight portraits; a FID at every second one, checkpoints that are soon removed."""
    output = OutputConfig(0.016, 1.0, 0.008, 1.0, 1, (), fid_kimg=0.016, fid_images=12)
    stages = (StageConfig("1", 0.048, True, 4, 4),)
    return replace(base, stages=stages, batch=BatchConfig(8, 4), output=output)


def test_the_best_checkpoint_is_kept_named_and_found(
    make_toy: Callable[[], TrainConfig], data: PortraitData, tmp_path: Path
) -> None:
    config = six_iterations(make_toy())
    run = open_run(tmp_path, config, data, ALONE, lambda _: None)
    said: list[str] = []
    asked: list[int] = []

    def fid(run: Run) -> float:
        asked.append(run.images)
        return {16: 9.0, 32: 5.0, 48: 7.0}[run.images]

    with pytest.raises(InferenceError, match="--fid-every"):
        run.save()
        find_checkpoint(tmp_path, "best")
    loop.train(run, 48, said.append, fid=loop.FidMeter("net", fid))
    assert asked == [16, 32, 48]
    assert [line for line in said if line.startswith("FID")] == [
        "FID 9.00 at 0.016 kimg, the best so far", "FID 5.00 at 0.032 kimg, the best so far",
        "FID 7.00 at 0.048 kimg",
    ]  # fmt: skip
    kept = [path.name for path in checkpoint.checkpoints(tmp_path)]
    assert kept == ["kimg-000000.032", "kimg-000000.040", "kimg-000000.048"]
    assert json.loads((tmp_path / "best.json").read_text()) == {
        "checkpoint": "kimg-000000.032", "fid": 5.0, "network": "net",
    }  # fmt: skip
    assert find_checkpoint(tmp_path, "best")[0].name == "kimg-000000.032"
    assert find_checkpoint(tmp_path)[0].name == "kimg-000000.048"
    assert [row.values["fid"] for row in statistics.read(tmp_path)] == [9, 5, 7]
    # A continued run knows what the best was.
    longer = replace(config, stages=(StageConfig("1", 0.064, True, 4, 4),))
    again = open_run(tmp_path, longer, data, ALONE, lambda _: None)
    loop.train(again, 64, said.append, fid=loop.FidMeter("net", lambda run: 6.0))
    assert "FID 6.00 at 0.064 kimg" in said
    known = checkpoint.Best(tmp_path / "checkpoints" / "kimg-000000.032", 5.0, "net")
    assert checkpoint.best(tmp_path) == known
    # Features of another network are another scale: 900 of them may be better than 5 of these.
    longer = replace(config, stages=(StageConfig("1", 0.080, True, 4, 4),))
    again = open_run(tmp_path, longer, data, ALONE, lambda _: None)
    loop.train(again, 80, said.append, fid=loop.FidMeter("other", lambda run: 900.0))
    assert "the best FID so far, 5.00, is one of net: other begins anew" in said
    found = checkpoint.best(tmp_path)
    assert found is not None and (found.folder.name, found.fid) == ("kimg-000000.080", 900.0)
    # A file of an earlier program did not say whose features it meant: taken as it is.
    (tmp_path / "best.json").write_text('{"checkpoint": "kimg-000000.080", "fid": 3.0}')
    found = checkpoint.best(tmp_path)
    assert found is not None and found.network is None and found.fid == 3.0


def test_it_is_the_fid_random_of_the_checkpoint(
    make_toy: Callable[[], TrainConfig], data: PortraitData, tmp_path: Path
) -> None:
    """The same number from the checkpoint's files, at the rays of that moment; weights stay as they are."""
    config = replace(make_toy(), stages=(StageConfig("1", 0.064, True, 6, 6),))  # the config's own: 4
    config = replace(config, output=replace(config.output, fid_images=12))
    run = open_run(tmp_path, config, data, ALONE, lambda _: None)
    before = {name: value.clone() for name, value in run.networks.generator_ema.state_dict().items()}
    found = fid_of().measure(run)
    for name, value in run.networks.generator_ema.state_dict().items():
        assert torch.equal(value, before[name]), name
    model = open_model(run.save(), device="cpu")
    assert model.config.generator.render.resolution == 6
    network = open_features(None)
    real = quality.real_features(data, network, ALONE)
    made = quality.made_features(model, data, network, Setting("generator", "independent"), 12, ALONE)
    assert found == pytest.approx(frechet_distance(real.all, made.all), rel=1e-4)


def test_poses_that_the_discriminator_alone_predicts_are_the_labels(
    make_toy: Callable[[], TrainConfig], data: PortraitData, tmp_path: Path
) -> None:
    """As of the arm `coarse` of make learn: generated portraits are rendered in the labels' poses."""
    base = make_toy()
    model = replace(base.model, generator=replace(base.model.generator, pose_predictor=None))
    config = replace(base, model=model, output=replace(base.output, fid_images=12))
    run = open_run(tmp_path, config, data, ALONE, lambda _: None)
    found = fid_of().measure(run)
    network = open_features(None)
    real = quality.real_features(data, network, ALONE)
    opened = open_model(run.save(), device="cpu")
    made = quality.made_features(opened, data, network, Setting("labels", "independent"), 12, ALONE)
    assert found == pytest.approx(frechet_distance(real.all, made.all), rel=1e-4)


def test_weights_for_it_are_looked_at_before_training(
    release: Path, tmp_path: Path, make_toy: Callable[[], TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(six_iterations(make_toy()).to_json())
    asked = ["train", "--data", str(release), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*asked, "--features", str(tmp_path / "none.pth")]) == 1
    assert "none.pth" in capsys.readouterr().err
    assert not checkpoint.checkpoints(tmp_path / "run")


def test_the_command_measures_it(
    release: Path, tmp_path: Path, make_toy: Callable[[], TrainConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    config = six_iterations(make_toy())
    config = replace(config, output=replace(config.output, fid_kimg=0.032))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(config.to_json())
    asked = ["train", "--data", str(release), "--out", str(tmp_path / "run"), "--device", "cpu"]
    assert main(asked) == 0
    assert "at 0.032 kimg, the best so far" in capsys.readouterr().out
    assert checkpoint.best(tmp_path / "run") is not None
    assert main([*asked[:3], "--out", str(tmp_path / "new"), "--fid-every", "7", "--print-config"]) == 0
    assert TrainConfig.from_json(capsys.readouterr().out).output.fid_kimg == 7
