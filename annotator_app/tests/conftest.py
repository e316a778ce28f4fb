"""Helpers of the tests beside this file are importable; `annotator_app` is the package, not this folder."""

import importlib
import sys
from pathlib import Path

import pytest

# The folder that holds the package has the package's name: pytest has just made a module of it.
if getattr(sys.modules.get("annotator_app"), "__file__", None) is None:
    sys.modules.pop("annotator_app", None)
    importlib.import_module("annotator_app")
sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def browser():
    """Chromium, once a module."""
    from chromium import chromium

    with chromium() as started:
        yield started
