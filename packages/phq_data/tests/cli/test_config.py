"""`phq config`: every setting is shown and explained; a wrong name is answered with the nearest one."""

import json

import pytest
from programs import phq_here

from phq_data import config as settings
from phq_data.cli.config import descriptions
from phq_data.config import PipelineConfig


def names(values, before=""):
    for name, value in values.items():
        yield from names(value, f"{name}.") if isinstance(value, dict) else [before + name]


def test_every_setting_is_described_by_the_code_that_has_it():
    known = set(names(json.loads(settings.default().to_json())))
    told = descriptions()
    assert set(told) == known
    assert told["screen.min_blur"].startswith("Least sharpness") and "sharp photo" in told["screen.min_blur"]
    assert told["crop.size"] == "pixels a side"
    assert "docs/accuracy.md" in told["screen.max_error_probability"]
    assert {name for name, text in told.items() if not text} == UNSAID


UNSAID = {
    "ingest.max_bytes", "detect.model", "crop.mode", "crop.codec", "mask.model", "screen.max_padding",
    "screen.min_mask_share",
}  # fmt: skip
"""Those whose name and values say all."""


def test_a_setting_a_group_and_a_former_name_are_explained():
    told = phq_here("config", "explain", "screen.max_doubt").stdout
    assert "screen.max_error_probability: a number, default 0.35" in told and "again: screen, dedup." in told
    told = phq_here("config", "explain", "crop").stdout
    assert "crop.mode: one of fit, reference" in told and told.count("crop.size: ") == 1
    wrong = phq_here("config", "explain", "screen.min_blurr")
    assert wrong.returncode == 1 and "did you mean 'screen.min_blur'?" in wrong.stderr
    wrong = phq_here("config", "explain", "nothing")
    assert wrong.returncode == 1 and "there is no setting 'nothing'" in wrong.stderr


@pytest.mark.parametrize("arguments", [(), ("--preset", "paper")])
def test_what_is_shown_as_json_is_what_a_build_takes(arguments):
    told = phq_here("config", "show", *arguments, "--json").stdout
    wanted = settings.paper() if arguments else settings.default()
    assert PipelineConfig.from_dict(json.loads(told)) == wanted
    lines = phq_here("config", "show", *arguments).stdout.splitlines()
    starred = {line.split()[0] for line in lines if "* default" in line}
    assert ("crop.size" in starred) == bool(arguments) and (starred or not arguments)
