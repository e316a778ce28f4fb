"""Every command takes a converted official checkpoint: a pickle in the official format, from end to end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from benchmarks import release as bench
from phq_data.release.build import ReleaseOptions, build
from phq_data.rig import PortraitRig
from phq_data.workspace import Workspace
from portraitgan.commands.main import main
from portraitgan.inference.model import open_model
from portraitgan.inference.portraits import open_portraits
from portraitgan.inference.view_state import ViewRenderer, ViewState
from portraitgan.presets import tiny


@pytest.fixture
def release(tmp_path: Path, make_bust: Callable[..., PortraitRig]) -> Path:
    """A few portraits."""
    bench.make_workspace(tmp_path / "workspace", 8, 48)
    workspace = Workspace.open(tmp_path / "workspace")
    workspace.write_bytes("rig.safetensors", make_bust(16, 12).to_bytes())
    options = ReleaseOptions(unreviewed=True, created="2026-01-01")
    build(workspace, tmp_path / "releases", "1.0.0", options)
    return tmp_path / "releases" / "1.0.0"


@pytest.mark.slow
def test_every_command_takes_a_converted_checkpoint(
    official_pickle: Callable[..., Any], release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pickled, _, _, rig = official_pickle(tiny())
    rig_file, made = tmp_path / "body.safetensors", tmp_path / "made"
    rig.save(rig_file)
    model = tmp_path / "official"
    assert main(["convert", str(pickled), str(model), "--rig", str(rig_file)]) == 0
    assert main(["sample", str(pickled), str(made / "a.png")]) == 1
    assert "convert it first" in capsys.readouterr().err
    body = ["--rig", str(rig_file)]
    posed = ["--head", "0", "20", "0"]
    portrait = next(open_portraits(str(release)).stream()).portrait_id
    data = ["--data", str(release)]
    quick = ["--size", "32", "--samples", "1"]
    for command in (
        ["sample", str(model), str(made / "a.png"), "--seeds", "0", "--yaw", "0", "180", *posed, *body],
        ["sample", str(model), str(made / "b.png"), "--seeds=0", "--match-portrait", portrait, *data, *body],
        ["video", str(model), str(made / "a.mp4"), "--seconds", "0.1", "--fps", "20", *quick, *posed, *body],
        ["mesh", str(model), str(made / "a.ply"), "--grid", "16", "--threshold=-1e9", *posed, *body],
        ["predict-pose", str(model), str(release), str(made / "poses.csv"), *body],
        ["invert", str(model), str(made / "latent"), *data, "--portrait", portrait, "--steps", "2",
         "--pti-steps", "1", "--refine-camera", "--refine-pose", *body],
        ["sample", str(model), str(made / "found.png"), "--latent", str(made / "latent"), *body],
        ["metrics", str(model), *data, "--count", "16", "--num-samples", "4", "--out", str(made / "m.json"),
         *body],
    ):  # fmt: skip
        assert main(command) == 0, (command, capsys.readouterr().err)
    names = {path.name for path in made.iterdir()}
    assert names >= {"a.png", "b.png", "a.mp4", "a.ply", "poses.csv", "latent", "found.png", "m.json"}
    with Image.open(made / "a.png") as sheet:
        assert sheet.size == (66, 32)
    viewed = ViewRenderer(open_model(model, rig_file, "cpu"), 64)
    assert viewed.render(ViewState()).pixels.shape == (64, 64, 3)
    start = ["train", *data, "--out", str(tmp_path / "run"), "--from", str(model), "--preset", "tiny"]
    assert main([*start, "--dry-run"]) == 0
