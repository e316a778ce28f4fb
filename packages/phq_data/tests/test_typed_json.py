"""Settings as JSON: what does not fit is named, with what was probably meant."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from phq_data import typed_json
from phq_data.typed_json import ConfigError


@dataclass(frozen=True)
class Crop:
    size: int = 512
    codec: Literal["png", "jpeg"] = "png"
    margin: float | None = None


@dataclass(frozen=True)
class Settings:
    crop: Crop = Crop()
    steps: tuple[Crop, ...] = (Crop(), Crop(8))
    name: str = "x"
    mirror: bool = True

    def __post_init__(self) -> None:
        if self.crop.size < 1:
            raise ConfigError("crop.size must be at least 1")


def test_there_and_back() -> None:
    made = Settings(Crop(16, "jpeg", 0.5), (Crop(1),), "y", False)
    assert typed_json.read(Settings, typed_json.plain(made), complete=True) == made
    assert typed_json.read(Settings, {"crop": {"margin": 2}}) == Settings(Crop(margin=2.0))


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("crop.sizes", "3", "no setting 'crop.sizes'; did you mean 'crop.size'?"),
        ("size", "3", "no setting 'size'; did you mean 'steps.0.size'?"),
        ("depth", "3", "no setting 'depth'; there are crop, steps, name, mirror$"),
        ("steps.1.sise", "3", "no setting 'steps.1.sise'; did you mean 'steps.0.size'?"),
        ("crop.size.more", "3", "no setting 'crop.size.more'"),
        ("steps.2.size", "3", "steps has entries 0 to 1, no '2'"),
        ("crop.size", "big", "'crop.size' wants a whole number, not 'big'"),
        ("crop.size", "1.5", "'crop.size' wants a whole number, not 1.5"),
        ("crop.size", "true", "'crop.size' wants a whole number"),
        ("crop.margin", "NaN", "'crop.margin'"),
        ("crop.codec", "gif", "'crop.codec' is one of png, jpeg, not 'gif'"),
        ("crop", "3", "no setting 'crop'; there are crop.size, crop.codec, crop.margin$"),
        ("crop", "null", "'crop' is a group of settings, not None"),
        ("steps.1.size", "null", "'steps.1.size' wants a whole number, not None"),
        ("steps", "3", "'steps' wants a list, not 3"),
        ("name", "3", "'name' wants a text, not 3"),
        ("mirror", "1", "'mirror' wants true or false, not 1"),
        ("crop.size", "0", "^crop.size must be at least 1$"),
    ],
)
def test_what_does_not_fit_is_named(path: str, text: str, message: str) -> None:
    values = typed_json.plain(Settings())
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        typed_json.assign(Settings, values, path, typed_json.value_of(text))
        typed_json.read(Settings, values)


def test_unknown_names_in_a_file_are_named() -> None:
    with pytest.raises(ConfigError, match=r"no setting 'crop\.codek'; did you mean 'crop\.codec'"):
        typed_json.read_text(Settings, json.dumps({"crop": {"codek": "png"}}))
    for text in ("[]", "3"):
        with pytest.raises(ConfigError, match="JSON object"):
            typed_json.read_text(Settings, text)
    with pytest.raises(ConfigError, match="not JSON"):
        typed_json.read_text(Settings, "{")


@dataclass(frozen=True)
class Named:
    names: tuple[str, ...]
    size: int = 1


def test_what_lacks_is_named_and_a_long_value_is_cut() -> None:
    with pytest.raises(ConfigError, match=r"^there is no 'names', which must be given$"):
        typed_json.read(Named, {"size": 5})
    with pytest.raises(ConfigError, match=r"^setting 'size' wants a whole number, not 'x{99}\.\.\.$"):
        typed_json.read(Named, {"names": [], "size": "x" * 9000})


def test_a_complete_reading_takes_no_default() -> None:
    values = typed_json.plain(Settings())
    del values["steps"][1]["size"], values["name"]
    with pytest.raises(ConfigError, match=r"lack 'steps\.1\.size', 'name'"):
        typed_json.read(Settings, values, complete=True)
    assert typed_json.read(Settings, values).steps[1].size == 512


@pytest.mark.parametrize("data", [{}, {"precision": 3}, {"precision": None}, {"precision": [1]}])
def test_a_config_that_lacks_what_its_version_had_is_one_sentence(data: dict[str, Any]) -> None:
    migrations = {1: lambda old: {**old, "precision": {**old["precision"], "more": 0}}}
    with pytest.raises(ConfigError, match="version 1, but not what that version had"):
        typed_json.upgraded(data, 1, 2, migrations)
    assert typed_json.upgraded({"precision": {}}, 1, 2, migrations) == {"precision": {"more": 0}}
