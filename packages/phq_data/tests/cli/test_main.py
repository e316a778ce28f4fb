"""The program `phq` itself: what it says about commands of packages that are not installed."""

import importlib.metadata

import pytest
from typer.testing import CliRunner

from phq_data.cli.main import make_app
from phq_data.errors import PhqError


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["review", "-w", "w"], "phq-review: make setup-review, or pip install phq-review"),
        (["review", "--help"], "needs the package phq-review: make setup-review"),
        (["build", "x"], "needs the package phq-flows: make setup-demo, or pip install phq-flows"),
    ],
)  # fmt: skip
def test_a_command_of_another_package_says_what_to_install(monkeypatch, command, told):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: ())
    done = CliRunner().invoke(make_app(), command)
    assert isinstance(done.exception, PhqError) and told in str(done.exception)
