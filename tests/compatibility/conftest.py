"""Copies of the files that version 0.1.0 wrote, which a test may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from phq_data.workspace import Workspace

V1 = Path(__file__).parent / "v1"


@pytest.fixture(scope="session")
def v1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the files, with the body that lies there once in every place where it was written."""
    folder = tmp_path_factory.mktemp("compatibility") / "v1"
    shutil.copytree(V1, folder)
    for place in ("workspace", "scraped", "releases/1.0.0", "run"):
        shutil.copy(V1 / "rig.safetensors", folder / place / "rig.safetensors")
    return folder


@pytest.fixture
def workspace(v1: Path, tmp_path: Path) -> Workspace:
    """A workspace of three full parts and one that is nearly empty, which a test may change."""
    shutil.copytree(v1 / "workspace", tmp_path / "workspace")
    return Workspace.open(tmp_path / "workspace")


@pytest.fixture
def releases(v1: Path, tmp_path: Path) -> Path:
    """A folder of releases, with one and a list of what was taken down, which a test may change."""
    return Path(shutil.copytree(v1 / "releases", tmp_path / "releases"))
