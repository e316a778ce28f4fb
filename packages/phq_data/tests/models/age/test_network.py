"""Age networks that a user brings: years, classes, and what is refused."""

from __future__ import annotations

import json

import age_networks as made
import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from phq_data.cli import models as commands
from phq_data.errors import ModelError
from phq_data.models.age.network import AgeNetwork, find_network, open_network
from phq_data.models.protocols import ModelTerms
from phq_data.models.user_network import beside
from phq_data.weights import store


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("PHQ_MODELS", str(tmp_path / "models"))


@pytest.fixture
def run():
    app = typer.Typer()
    commands.register(app)
    return lambda *arguments: CliRunner().invoke(app, ["models", *map(str, arguments)])


def opened(path) -> AgeNetwork:
    return open_network(*find_network(f"age:{path}"))


def heads(*levels: int) -> np.ndarray:
    """Heads [N, 32, 32, 3] of these levels of red, other colors being others."""
    return np.stack([np.full((made.SIDE, made.SIDE, 3), (level, 200, 90), np.uint8) for level in levels])


def test_years_come_scaled_with_the_error_that_the_maker_states(tmp_path):
    path = made.write(tmp_path / "a.onnx", factor=0.01, scale=100.0, offset=2.0, error=3.5)
    found = opened(path).estimate(heads(14, 40))
    assert [age.years for age in found] == pytest.approx([16, 42], abs=1e-3)
    assert [age.spread for age in found] == [3.5, 3.5]
    second = made.write(tmp_path / "b.onnx", before=2, index=2, channels="rgb")
    (age,) = opened(second).estimate(heads(33))
    assert (age.years, age.spread) == (pytest.approx(33), None)
    blue = made.write(tmp_path / "c.onnx", channels="bgr")
    assert opened(blue).estimate(heads(33))[0].years == pytest.approx(90)


def test_of_classes_the_mean_and_the_deviation_are_taken(tmp_path):
    bins = [[0, 9], [10, 19], [20, 29], [30, 39]]
    path = made.write(tmp_path / "a.onnx", classes=(5, 15, 25, 35), bins=bins)
    sure, between = opened(path).estimate(heads(25, 20))
    assert sure.years == pytest.approx(25, abs=0.01)
    assert sure.spread == pytest.approx(np.sqrt(100 / 12), abs=0.01)  # any year of its class
    assert between.years == pytest.approx(20, abs=0.01)
    assert between.spread == pytest.approx(np.sqrt(25 + 100 / 12), abs=0.01)
    years = made.write(tmp_path / "b.onnx", classes=tuple(np.arange(101) + 0.5))
    (age,) = opened(years).estimate(heads(41))
    assert age.years == pytest.approx(41, abs=0.01) and 1 < age.spread < 2


def test_what_is_no_age_network_is_refused_and_says_what_to_do(tmp_path):
    two = made.write(tmp_path / "a.onnx", before=1)
    with pytest.raises(ModelError, match=r"a\.onnx answers with 2 numbers: say in the JSON beside it what"):
        opened(two)
    wrong = made.write(tmp_path / "b.onnx", classes=(5, 15), bins=[[0, 9]])
    with pytest.raises(ModelError, match="answers with 2 numbers, which 'bins' or 'index' do not agree"):
        opened(wrong)
    with pytest.raises(ModelError, match="takes images of 32 x 48 pixels: an age network takes squares"):
        opened(made.write(tmp_path / "c.onnx", size=(32, 48)))
    with pytest.raises(ModelError, match="somebody is 4500 years old: correct 'scale'"):
        opened(made.write(tmp_path / "d.onnx", scale=100.0)).estimate(heads(45))
    raw = made.write(tmp_path / "e.onnx", classes=(5, 15), bins=[[0, 9], [10, 19]], softmax=False)
    with pytest.raises(ModelError, match='classes are no probabilities; say "softmax": true'):
        opened(raw).estimate(heads(12))
    for told, message in (
        ({"bins": [[9, 0]]}, "'bins' are"),
        ({"bins": [[0, 9]], "index": 0}, "exclude each other"),
        ({"input_size": [32, 48]}, "'input_size' is square"),
        ({"scale": 0.0}, "'scale' not 0"),
        ({"ages": 1}, "no setting 'ages'"),
    ):
        with pytest.raises(ModelError, match=rf"f\.json is to describe an age network: .*{message}"):
            opened(made.write(tmp_path / "f.onnx", **told))
    with pytest.raises(ModelError, match=r"there is no age network nothing\.onnx; give an \.onnx file, or"):
        find_network("age:nothing.onnx")
    with pytest.raises(ModelError, match=r"screen\.age_model is age, age:FILE\.onnx or nothing, not 'mine'"):
        find_network("mine")


def test_adding_a_network_says_what_is_assumed_and_how_to_use_it(tmp_path, run):
    path = made.write(tmp_path / "net.onnx")
    beside(path).unlink()
    done = run("add", "age", path, "--license", "CC0-1.0")
    assert done.exit_code == 0, done.output
    assert "assumed: its number is the age in years (else say 'scale' and 'offset'); it sees" in done.output
    assert "phq build --set screen.age_model=age uses it" in done.output
    assert json.loads(beside(path).read_text())["input_size"] == [made.SIDE, made.SIDE]
    added = open_network(*find_network("age"))
    assert added.terms == ModelTerms("net", "CC0-1.0", "")
    assert added.fingerprint == opened(path).fingerprint
    beside(path).write_text(json.dumps({**made.PLAIN, "title": "Other", "license": "mine"}))
    assert opened(path).fingerprint != added.fingerprint  # pixels are other numbers
    assert run("remove", "age").exit_code == 0 and store.record("age") is None
    with pytest.raises(ModelError, match="the model age is not here; name your file once: phq models"):
        find_network("age")
