"""Configs: presets build what they promise, JSON is strict, impossible values are refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from phq_data.typed_json import ConfigError
from portraitgan import config as models
from portraitgan.checkpoints.weights import make_discriminator, make_generator
from portraitgan.config import EG3D_AXES, ModelConfig
from portraitgan.presets import ABLATIONS, PRESETS, eg3d, panohead, tiny

VERSION_2 = (Path(__file__).parent / "files" / "model-config-2.json").read_text()
"""Preset `tiny` as the program of that version wrote it."""


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json_and_build(name: str) -> None:
    config = PRESETS[name]()
    assert config.name == name
    assert ModelConfig.from_json(config.to_json()) == config
    with torch.device("meta"):
        make_generator(config)
        make_discriminator(config)


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations_change_the_config(name: str) -> None:
    changed = ABLATIONS[name](tiny())
    assert changed.generator != tiny().generator or changed.discriminator != tiny().discriminator
    assert ModelConfig.from_json(changed.to_json()) == changed


def test_baselines() -> None:
    plain = panohead().generator
    assert plain.grid.depth == 3 and plain.background is not None and plain.deformation.mode == "none"
    assert not plain.pose_conditioning and plain.pose_predictor is None
    assert panohead().discriminator.use_mask
    plane = eg3d().generator
    assert plane.grid.depth == 1 and plane.background is None and plane.raw_rgb == "first_channels"
    assert not eg3d().discriminator.use_mask
    assert (panohead().loss.camera_offset, panohead().loss.density) == (10, 0)
    assert (eg3d().loss.camera_offset, eg3d().loss.density, eg3d().loss.density_distance) == (0, 0.25, 0.004)
    assert plane.grid.axes != EG3D_AXES


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("generator", "grid", "depth"), "3", "'generator.grid.depth' wants a whole number"),
        (("generator", "deformation", "mode"), "bones", "'generator.deformation.mode' is one of face"),
        (("generator", "superresolution", "channels"), [1, 2, 3], "channels' has too few or too many"),
        (("generator", "image_resolution"), 48, "power of two"),
        (("discriminator", "image_resolution"), 64, "disagree"),
        (("generator", "superresolution", "input_resolution"), 32, "2 or 4 times"),
        (("generator", "render", "ray_start"), 4.0, "ray_start"),
        (("generator", "deformation", "max_distance"), -1.0, "max_distance"),
        (("generator", "pose_conditioning"), False, "pose_predictor needs"),
        (("loss", "camera_offset"), 10, "needs generator.camera_offset"),
        (("loss", "pose_regulariser_floor"), 2, "loss.pose_regulariser_floor must lie between 0 and 1"),
        (("generator", "grid", "kind"), "cubes", "generator.grid.kind"),
        (("loss", "mean_pose"), -1, "loss.mean_pose must be at least 0"),
        (("loss", "density"), -1, "loss.density must be at least 0"),
        (("loss", "wrong_condition"), -1, "loss.wrong_condition must be at least 0"),
    ],
)
def test_bad_values_are_named(path: tuple[str, ...], value: object, message: str) -> None:
    data = json.loads(tiny().to_json())
    here = data
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_json(json.dumps(data))


def test_unknown_and_missing_keys() -> None:
    data = json.loads(tiny().to_json())
    data["generator"]["color"] = 1
    del data["generator"]["w_dim"]
    with pytest.raises(ConfigError, match=r"no setting 'generator\.color'"):
        ModelConfig.from_json(json.dumps(data))
    del data["generator"]["color"]
    with pytest.raises(ConfigError, match=r"lack 'generator\.w_dim'"):
        ModelConfig.from_json(json.dumps(data))
    with pytest.raises(ConfigError, match="not JSON"):
        ModelConfig.from_json("{")


def test_older_files_state_no_version() -> None:
    """Version 1, as 0.1.0 wrote it; newer ones and nonsense are refused."""
    data = json.loads(tiny().to_json())
    assert data["version"] == models.VERSION
    old = json.loads(VERSION_2)
    del old["version"], old["precision"]["synthesis_half_resolutions"]
    assert ModelConfig.from_json(json.dumps(old)) == tiny()
    assert ModelConfig.from_json(VERSION_2) == tiny()
    refused = ((99, f"knows up to {models.VERSION}"), ("two", "no number"), (0, "cannot be carried"))
    for version, message in refused:
        with pytest.raises(ConfigError, match=message):
            ModelConfig.from_json(json.dumps({**data, "version": version}))


def test_integers_are_accepted_as_floats() -> None:
    data = json.loads(tiny().to_json())
    data["generator"]["render"]["box_size"] = 1
    assert ModelConfig.from_json(json.dumps(data)) == tiny()
    assert replace(tiny(), name="x") != tiny()


@pytest.mark.parametrize(
    ("found", "replacement", "why"),
    [
        ('"hidden": 16', '"hidden": 1000000000', "generator.decoder.hidden must lie between 1 and 8192"),
        ('"mapping_layers": 2', '"mapping_layers": 100000000', "mapping_layers must lie between 1 and 64"),
        ('"z_dim": 32', '"z_dim": 0', "generator.z_dim must lie between 1"),
        ('"axes": [', '"axes": [[0, 1, 7], ', "three orders of the axes"),
    ],
)
def test_a_config_that_would_take_all_memory_is_refused(found: str, replacement: str, why: str) -> None:
    text = json.dumps(json.loads(tiny().to_json()))
    assert found in text
    with pytest.raises(ConfigError, match=why):
        ModelConfig.from_json(text.replace(found, replacement))
