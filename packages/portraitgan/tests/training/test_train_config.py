"""Configs of runs travel as strict JSON, and any field can be set by its path."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from phq_data.typed_json import ConfigError
from portraitgan.presets import ABLATIONS
from portraitgan.training import config
from portraitgan.training.config import PRESETS, TrainConfig, with_values


@pytest.mark.parametrize("name", PRESETS)
def test_presets_travel(name: str) -> None:
    made = PRESETS[name]()
    assert made.name == name
    assert TrainConfig.from_json(made.to_json()) == made


@pytest.mark.parametrize("name", ["paper_512", "paper_256"])
def test_the_papers_numbers(name: str) -> None:
    made = PRESETS[name]()
    assert [stage.until_kimg for stage in made.stages] == [6000, 10_000, 13_000]
    assert (made.batch.size, made.batch.micro) == (32, 4)
    assert (made.optimiser.generator_rate, made.optimiser.discriminator_rate) == (0.0025, 0.002)
    assert (made.model.loss.pose_regulariser, made.model.loss.background_swap) == (0.5, 0.2)


def test_setting_fields_by_path() -> None:
    made = with_values(
        config.tiny(),
        {
            "batch.size": "16",
            "stages.1.until_kimg": "55",
            "model.precision.half": "bfloat16",
            "model.generator.render.crop": "null",
            "output.trackers": '["tensorboard", "mlflow"]',
        },
    )
    assert made.batch.size == 16
    assert made.stages[1].until_kimg == 55.0 and made.stages[0] == config.tiny().stages[0]
    assert made.model.precision.half == "bfloat16"
    assert made.model.generator.render.crop is None
    assert made.output.trackers == ("tensorboard", "mlflow")


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("batch.sise", "1", "no setting 'batch.sise'; did you mean 'batch.size'"),
        ("stages.9.until_kimg", "1", "stages has entries 0 to 2"),
        ("batch.size.more", "1", "no setting 'batch.size.more'"),
        ("batch.size", "many", "'batch.size' wants a whole number, not 'many'"),
        ("batch.size", "6", "multiple of batch.micro"),
        ("stages.1.until_kimg", "1", "must be more than 40"),
        ("stages.0.resolution", "100000", "higher than the image's 32 pixels"),
        ("batch.size", "1000000", "1,000,000 images an iteration are more than the whole run has"),
        ("data.workers", "-1", "data.workers must be at least 0, not -1"),
        ("batch.views_per_person", "3", "must divide the 2 micro-batches of batch.size, not 3"),
        ("output.fid_kimg", "-1", "output.fid_kimg must be at least 0"),
        ("output.fid_images", "1", "output.fid_images must be at least 2"),
        ("data.back_repeat", "0", "data.back_repeat must be at least 1, not 0"),
        ("data.balance", "pitch", "'data.balance' is one of none, yaw"),
        ("optimiser.density_interval", "0", "optimiser.density_interval must be at least 1"),
        ("model.precision.half", "float8", "float8"),
    ],
)
def test_wrong_settings_are_named(path: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        with_values(config.tiny(), {path: value})


def test_newer_and_unknown_versions_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads(config.tiny().to_json())
    with pytest.raises(ConfigError, match=f"version 99, this program knows up to {config.VERSION}"):
        TrainConfig.from_json(json.dumps({**data, "version": 99}))
    with pytest.raises(ConfigError, match="no version"):
        TrainConfig.from_json("{}")
    with pytest.raises(ConfigError, match="from version 0 to 1 cannot be carried over"):
        TrainConfig.from_json(json.dumps({**data, "version": 0}))


def test_older_versions_are_carried_over(monkeypatch: pytest.MonkeyPatch) -> None:
    data = json.loads(config.tiny().to_json())
    data["version"] = 0
    data["batch_size"] = data.pop("batch")["size"]

    def carry(old: dict) -> dict:
        rest = {key: value for key, value in old.items() if key != "batch_size"}
        return {**rest, "batch": {"size": old["batch_size"], "micro": 4}}

    monkeypatch.setitem(config.MIGRATIONS, 0, carry)
    assert TrainConfig.from_json(json.dumps(data)) == config.tiny()


def test_a_run_of_version_4_is_what_it_was() -> None:
    """The file is preset `tiny` as the program of that version wrote it."""
    text = (Path(__file__).parents[1] / "files" / "train-config-4.json").read_text()
    assert TrainConfig.from_json(text) == config.tiny()


def test_baselines_are_trained_as_their_authors_do() -> None:
    """EG3D's and PanoHead's papers and commands: images, rays, swaps, repeated back views."""
    eg3d, panohead = config.eg3d(), config.panohead()
    assert [(one.until_kimg, one.resolution) for one in eg3d.stages] == [(25_000, 64), (27_000, 128)]
    assert (eg3d.schedule.condition_swap, eg3d.optimiser.density_interval) == (0.5, 4)
    assert [(one.until_kimg, one.resolution) for one in panohead.stages] == [(25_000, 64)]
    assert (panohead.schedule.condition_swap, panohead.data.back_repeat) == (0.7, 4)
    assert panohead.model.generator.camera_offset


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_are_named(name: str) -> None:
    made = config.ablated(config.tiny(), name)
    assert made.name == f"tiny-{name}" == made.model.name
    assert TrainConfig.from_json(made.to_json()) == made
    assert made.stages == config.tiny().stages


def test_version_1_called_the_ema_average() -> None:
    made = replace(config.tiny(), ema=config.EmaConfig(half_life=123.0, ramp=0.1))
    data = json.loads(made.to_json())
    data["version"], data["average"] = 1, data.pop("ema")
    assert TrainConfig.from_json(json.dumps(data)) == made


def test_typos_in_a_file_are_errors() -> None:
    data = json.loads(config.tiny().to_json())
    data["optimiser"]["generator_rat"] = 1
    with pytest.raises(ConfigError, match="generator_rat"):
        TrainConfig.from_json(json.dumps(data))


def test_no_stages() -> None:
    with pytest.raises(ConfigError, match="at least one stage"):
        replace(config.tiny(), stages=())
