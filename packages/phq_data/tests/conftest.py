"""Fixtures of the tests of phq_data."""

import pytest
from workspace_fixtures import small_workspace


@pytest.fixture
def make_workspace(tmp_path):
    """`small_workspace` of workspace_fixtures.py; without a folder it writes to one of its own."""

    def make(folder=None, **options):
        return small_workspace(folder or tmp_path / "workspace", **options)

    return make
