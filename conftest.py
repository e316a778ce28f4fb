"""How the whole suite is run: which tests are which, and in which order several processes take them."""

from __future__ import annotations

import os

import pytest

# As the program `phq` does, and before numpy is imported: sums in another number of threads are other sums.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

pytest_plugins = ["s3_server"]  # the fixtures of an S3 service on this machine

LONG = ("slow", "browser", "training")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a real browser; files with long tests first, so that none is the last."""
    long_tests: dict[str, int] = {}
    for item in items:
        if {"page", "browser"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("browser")
        long_tests.setdefault(_file(item), 0)
        long_tests[_file(item)] += any(item.get_closest_marker(name) for name in LONG)
    items.sort(key=lambda item: -long_tests[_file(item)])


def _file(item: pytest.Item) -> str:
    return item.nodeid.partition("::")[0]
