"""Fixtures of the tests of phq_data."""

import importlib.util
from pathlib import Path

import pytest


def _fixtures():
    path = Path(__file__).with_name("workspace_fixtures.py")
    spec = importlib.util.spec_from_file_location("workspace_fixtures", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make_workspace(tmp_path):
    """`small_workspace` of workspace_fixtures.py; without a folder it writes to one of its own."""
    module = _fixtures()

    def make(folder=None, **options):
        return module.small_workspace(folder or tmp_path / "workspace", **options)

    return make
