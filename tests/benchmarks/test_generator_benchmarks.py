"""The measurements run and say what they promise, at toy size."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from benchmarks import deformation, loader, step
from benchmarks.body import bust

needs_warp = pytest.mark.skipif(importlib.util.find_spec("warp") is None, reason="needs portraitgan[warp]")


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, object]:
    return json.loads(capsys.readouterr().out.splitlines()[-1])


@needs_warp
def test_deformation(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JSON", "1")
    bust(20, 16).save(tmp_path / "rig.safetensors")
    sizes = ["--rays", "6", "--brute-points", "100", "--repeats", "1", "--device", "cpu"]
    assert deformation.main(["--rig", str(tmp_path / "rig.safetensors"), *sizes]) == 0
    figures = last_line(capsys)
    assert figures["points"] == 4 * 6 * 6 * 96 and figures["batch"] == 4 and figures["faces"] == 2 * 16 * 20
    wanted = ("tables_vs_torch_brute", "tables_vs_bvh", "share_of_render", "saved_bytes_per_point")
    assert all(isinstance(figures[key], float) for key in wanted)
    assert 0 < float(str(figures["saved_bytes_per_point"])) <= 32


def test_step(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JSON", "1")
    monkeypatch.setattr("benchmarks.step.bust", lambda: bust(8, 6))
    assert step.main(["--preset", "tiny", "--batch", "2", "--repeats", "1", "--device", "cpu"]) == 0
    figures = last_line(capsys)
    assert isinstance(figures["speedup_vs_plain"], float) and figures["batch"] == 2
    with pytest.raises(SystemExit, match="unknown presets huge"):
        step.main(["--preset", "huge"])


@pytest.mark.slow
def test_loader(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("JSON", "1")
    assert loader.main(["--rows", "48", "--size", "64", "--folder", str(tmp_path)]) == 0
    figures = last_line(capsys)
    # How much faster depends on the machine and the size; a cache that is slower than zips would be broken.
    assert float(str(figures["vs_zip"])) > 1
    assert float(str(figures["first_pass_vs_zip"])) > 0
