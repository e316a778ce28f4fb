"""What happens where an optional dependency is not installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from portraitgan.commands.main import main


@pytest.mark.parametrize(
    ("command", "out", "module"),
    [
        ("video", "a.mp4", "av"),
        ("mesh", "a.glb", "trimesh"),
        ("mesh", "a.ply", "skimage"),
        ("viewer", "", "viser"),
    ],
)
def test_a_missing_extra_is_named_before_any_work(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
    out: str,
    module: str,
) -> None:
    found = importlib.util.find_spec

    def find_spec(name: str, package: str | None = None) -> Any:
        return None if name == module else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    assert main([command, str(run), *([str(tmp_path / out)] if out else [])]) == 1
    message = capsys.readouterr().err
    extra = {"av": "video", "viser": "viewer"}.get(module, "mesh")
    assert f"'{module}'" in message and f"portraitgan[{extra}]" in message
    assert not list(tmp_path.iterdir())
