"""Exported networks: other runtimes give the networks' numbers, for any batch, and the whole is the parts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from portraitgan.commands.main import main
from portraitgan.inference import export as exports
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.export import export
from portraitgan.inference.model import Model, open_model
from portraitgan.networks.discriminator import Portraits

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("onnx")
    assert main(["export", str(run), str(folder), "--format", "onnx"]) == 0
    return folder


def ask(folder: Path, part: str, **inputs: torch.Tensor) -> list[np.ndarray]:
    session = ort.InferenceSession(str(folder / f"{part}.onnx"), providers=["CPUExecutionProvider"])
    return list(session.run(None, {name: value.numpy() for name, value in inputs.items()}))


def close(found: np.ndarray, wanted: torch.Tensor) -> bool:
    """Equal but for the order of float32 sums."""
    return found.shape == tuple(wanted.shape) and bool(
        np.abs(found - wanted.numpy()).max() <= 1e-4 * float(wanted.abs().max())
    )


@pytest.mark.slow
def test_onnx_gives_a_portrait_from_latent_to_pixels_as_the_model_does(exported: Path, model: Model) -> None:
    """The chain of ONNX parts against the model, in a batch of another size than was traced."""
    count = 5
    z = model.latents(list(range(count)))
    camera = torch.cat([views.camera(yaw) for yaw in (-100, -20, 0, 30, 170)])
    pose = 0.1 * torch.randn(count, 6, generator=torch.Generator().manual_seed(1))
    wanted = model.styles(z, 0.6, camera=camera, pose=pose)
    (ws,) = ask(exported, "mapping", z=z, camera=camera, pose=pose, truncation=torch.tensor(0.6))
    assert close(ws, wanted)
    (planes,) = ask(exported, "backbone", ws=wanted)
    assert close(planes, model.planes(wanted))
    (behind,) = ask(exported, "background", ws=wanted)
    generator = model.generator
    assert generator.bcg_synthesis is not None
    styles = wanted[:, : generator.bcg_synthesis.config.styles]
    assert close(behind, generator.bcg_synthesis(styles, "const"))

    side = model.config.generator.render.resolution
    seen = generator.render(
        torch.from_numpy(planes), camera, side, None, model.draws(count), True
    )  # the volume rendering between the parts, by the reference renderer
    features = seen.features.transpose(1, 2).reshape(count, -1, side, side)
    features = features + (1 - seen.mask.reshape(count, 1, side, side)) * torch.nn.functional.interpolate(
        torch.from_numpy(behind), (side, side), mode="bilinear", antialias=True, align_corners=False
    )
    image, raw = ask(exported, "superresolution", features=features, ws=wanted)
    made = model.render(wanted, camera)
    assert close(raw, made.image_raw) and close(image, made.image)


@pytest.mark.slow
def test_onnx_pose_networks_predict_what_the_networks_predict(exported: Path, model: Model) -> None:
    z = model.latents([3, 4, 5, 6])
    camera = torch.cat([views.camera(yaw) for yaw in (-90, -5, 5, 90)])  # both sides: mirrored and not
    (found,) = ask(exported, "generator_pose", z=z, camera=camera)
    assert close(found, model.generator.predict_pose(z, camera))
    made = model.render(model.styles(z), camera)
    inputs = {"image": made.image, "raw": made.image_raw, "mask": made.mask}
    (found,) = ask(exported, "pose", camera=camera, **inputs)
    assert close(found, model.discriminator.predict_pose(Portraits(*inputs.values()), camera))
    said = json.loads((exported / "export.json").read_text())
    assert {part["part"] for part in said["parts"]} == {
        "mapping", "backbone", "background", "superresolution", "generator_pose", "pose",
    }  # fmt: skip
    assert all(part["difference"] < 1e-4 for part in said["parts"])
    assert said["parts"][0]["inputs"]["z"] == ["batch", 32]


@pytest.mark.slow
def test_the_whole_generator_as_a_torch_program(run: Path, tmp_path: Path, model: Model) -> None:
    made = export(open_model(run, device="cpu"), tmp_path, "torch", ("generator",))
    assert [one.file for one in made] == ["generator.pt2"]
    program = torch.export.load(tmp_path / "generator.pt2").module()
    z, camera = model.latents([9]), views.camera(60, 10)
    pose = torch.zeros(1, 6)
    image, raw, mask, depth = program(z, camera, pose, torch.tensor(0.5))
    wanted = model.render(model.styles(z, 0.5, camera=camera, pose=pose), camera)
    for found, one in zip((image, raw, mask, depth), vars(wanted).values(), strict=False):
        assert torch.allclose(found, one, atol=1e-4)


def test_a_program_with_other_numbers_is_not_kept(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_run_onnx", lambda path, names, inputs: [torch.zeros(3, 7)])
    with pytest.raises(InferenceError, match="gives other numbers as onnx"):
        export(open_model(run, device="cpu"), tmp_path, "onnx", ("mapping",))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(run), str(tmp_path / "out")]
    assert main([*command, "--parts", "mapping,heads"]) == 1
    assert "no part 'heads' as onnx" in capsys.readouterr().err
    assert main([*command, "--parts", "generator"]) == 1  # rays are torch's alone
    assert "no part 'generator' as onnx" in capsys.readouterr().err
    assert main([*command, "--push", "a/b"]) == 1
    assert "--format hub" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
