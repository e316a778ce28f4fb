"""Settings: what may be set, what is refused, and what a digest depends on."""

import dataclasses
import json

import pytest

from phq_data.config import (
    PRESETS,
    ConfigError,
    CropConfig,
    IngestConfig,
    PipelineConfig,
    default,
    digest,
)


def leaves(values, path=""):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


SETTINGS = dict(leaves(dataclasses.asdict(default())))


def changed(value, name):
    """Another value that is allowed."""
    choices = {
        "device": "cpu",
        "ingest.store": "reference",
        "ingest.generated": "keep",
        "screen.age_unseen": "keep",
        "align.joints": "reference",
        "fit.orientation_prior": "none",
        "crop.mode": "reference",
        "crop.codec": "jpeg-95",
    }
    if isinstance(value, str):
        return choices.get(name, value + "-x")
    return not value if isinstance(value, bool) else value + 1


@pytest.mark.parametrize("preset", sorted(PRESETS))
def test_a_preset_survives_its_json(preset):
    config = PRESETS[preset]()
    assert PipelineConfig.from_dict(json.loads(config.to_json())) == config


def test_the_json_has_one_form():
    assert default().to_json() == default().to_json()
    assert list(json.loads(default().to_json())) == sorted(json.loads(default().to_json()))


def test_a_config_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        default().crop.size = 4  # type: ignore[misc]


@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_every_setting_can_be_set_by_name_and_changes_only_itself_and_the_digest(name):
    value = changed(SETTINGS[name], name)
    config = default().replace_setting(f"{name}={json.dumps(value)}")
    assert dict(leaves(dataclasses.asdict(config))) == SETTINGS | {name: value}
    assert digest(config) != digest(default())


def test_text_needs_no_quotes_and_spaces_do_not_matter():
    assert default().replace_setting("crop.codec=webp-lossless").crop.codec == "webp-lossless"
    assert default().replace_setting(" crop.size =256").crop.size == 256


def test_a_whole_number_will_do_for_a_float_and_is_the_same_setting():
    config = default().replace_setting("screen.max_error_probability=1")
    assert config.screen.max_error_probability == 1.0
    assert isinstance(config.screen.max_error_probability, float)
    assert digest(config) == digest(default().replace_setting("screen.max_error_probability=1.0"))


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("crop.size", "NAME=VALUE"),
        ("size=3", "no setting 'size'"),
        ("crop.sise=3", "no setting 'crop.sise'"),
        ("crap.size=3", "no setting 'crap.size'"),
        ("crop=3", "no setting 'crop'"),
        ("crop.size.more=3", "no setting 'crop.size.more'"),
        ("crop.size=big", "'crop.size' wants a whole number, not 'big'"),
        ("crop.size=1.5", "'crop.size' wants a whole number"),
        ("crop.size=true", "'crop.size' wants a whole number"),
        ("crop.size=null", "'crop.size' wants a whole number"),
        ("crop.size=", "'crop.size' wants a whole number"),
        ("crop.min_window=true", "'crop.min_window' wants a number"),
        ("screen.max_error_probability=NaN", "'screen.max_error_probability'"),
        ("mask.include_bystanders=1", "'mask.include_bystanders' wants true or false"),
        ("mask.model=3", "'mask.model' wants a text"),
        ("crop.codec=gif", "'crop.codec' is one of webp-lossless, png, jpeg-95, not 'gif'"),
        ("crop.codec=[1]", "'crop.codec' is one of"),
        ("part_size=0", "part_size"),
        ("part_size=-4", "part_size"),
        ("crop.size=0", "crop.size"),
        ("ingest.max_pixels=-1", "ingest.max_pixels"),
    ],
)
def test_what_cannot_be_set_is_named(assignment, message):
    with pytest.raises(ConfigError, match=message):
        default().replace_setting(assignment)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"crop": {"sise": 3}}, "no setting 'crop.sise'"),
        ({"crap": {}}, "no setting 'crap'"),
        ({"crop": 3}, "'crop' is a group of settings"),
        ({"crop": {"size": "3"}}, "'crop.size' wants a whole number"),
        ({"crop": None}, "'crop' is a group"),
    ],
)
def test_wrong_dictionaries_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        PipelineConfig.from_dict(values)


def test_what_a_dictionary_leaves_out_keeps_its_default():
    config = PipelineConfig.from_dict({"crop": {"size": 256}})
    assert config == dataclasses.replace(default(), crop=CropConfig(size=256))


def test_a_digest_depends_on_the_parts_their_order_and_nothing_else():
    assert digest("a", IngestConfig()) == digest("a", IngestConfig())
    assert digest("a", "b") != digest("b", "a") != digest("ab")
    assert digest({"x": 1, "y": 2}) == digest({"y": 2, "x": 1})
    assert digest(IngestConfig(min_side=64)) != digest(IngestConfig())
