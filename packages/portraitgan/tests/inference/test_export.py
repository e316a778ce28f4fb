"""Exported networks: other runtimes give the networks' numbers, for any batch, and `sample`'s pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from phq_data.files import file_sha256
from phq_data.rig import PortraitRig
from portraitgan import presets
from portraitgan.commands.main import main
from portraitgan.images.drawing import to_pixels
from portraitgan.inference import export as exports
from portraitgan.inference import views
from portraitgan.inference.errors import InferenceError
from portraitgan.inference.export import export
from portraitgan.inference.export_parts import parts_of
from portraitgan.inference.model import Model, open_model
from portraitgan.networks.discriminator import Portraits

ort = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")

ALL = ["mapping", "backbone", "volume", "background", "superresolution", "generator_pose", "pose"]


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    assert main(["export", str(run), str(folder), "--format", "onnx", "--license", "cc-by-4.0"]) == 0
    return folder


def ask(folder: Path, part: str, **inputs: Tensor) -> list[Tensor]:
    session = ort.InferenceSession(str(folder / f"{part}.onnx"), providers=["CPUExecutionProvider"])
    return [torch.from_numpy(one) for one in session.run(None, {k: v.numpy() for k, v in inputs.items()})]


def close(found: Tensor, wanted: Tensor) -> bool:
    """Equal but for the order of float32 sums."""
    return found.shape == wanted.shape and float((found - wanted).abs().max() / wanted.abs().max()) < 1e-4


@dataclass(frozen=True)
class OnnxVolume:
    """The exported volume where our renderer expects its own: a decoder asked at points."""

    folder: Path
    planes: Tensor
    config: Any
    linear_color = False

    @property
    def decoder(self) -> OnnxVolume:
        return self

    def features(self, points: Tensor) -> Tensor:
        return points

    def crop(self, densities: Tensor, points: Tensor) -> Tensor:
        return densities  # the exported volume is cropped

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        density, color = ask(self.folder, "volume", planes=self.planes, points=points)
        return density, color


@pytest.mark.slow
def test_pixels_of_onnx_networks_between_our_rays_are_those_of_sample(
    exported: Path, run: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From latent to PNG with no weight of ours, in a batch of another size than was traced."""
    yaws, psi = (-100, -20, 0, 30, 170), 0.6
    command = ["sample", str(run), str(tmp_path), "--seeds", "4", "--yaw", ",".join(map(str, yaws))]
    assert main([*command, "--truncation", str(psi), "--samples", "1"]) == 0

    z = model.latents([4]).expand(len(yaws), -1)
    front = model.neutral_camera.expand(len(yaws), -1)
    (ws,) = ask(exported, "mapping", z=z, truncation=torch.tensor(psi), camera=front, pose=torch.zeros(5, 6))
    assert close(ws, model.styles(z, psi))
    (planes,) = ask(exported, "backbone", ws=ws)
    (background,) = ask(exported, "background", ws=ws)
    generator, render = model.generator, model.config.generator.render
    volume = OnnxVolume(exported, planes, render)
    monkeypatch.setattr(generator, "volume", lambda planes, points, plain=False: volume)
    cameras = torch.cat([views.camera(yaw) for yaw in yaws])
    with torch.no_grad():
        seen = generator.render(planes, cameras, render.resolution, None, model.draws(len(yaws)))
    features = seen.features.transpose(1, 2).reshape(len(yaws), -1, render.resolution, render.resolution)
    features = features + (1 - seen.mask.reshape(len(yaws), 1, *features.shape[2:])) * background
    image, _ = ask(exported, "superresolution", features=features, ws=ws)

    for yaw, pixels in zip(yaws, to_pixels(image / 2 + 0.5), strict=True):
        (file,) = tmp_path.glob(f"*yaw{yaw:+04d}-image.png")
        wanted = np.asarray(Image.open(file)).astype(int)
        assert wanted.std() > 5  # there is something to see
        assert np.abs(wanted - pixels).max() <= 1


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


@pytest.mark.slow
def test_the_json_says_what_goes_in_what_comes_out_and_of_which_model(exported: Path, model: Model) -> None:
    said = json.loads((exported / "export.json").read_text())
    assert sorted(one.name for one in exported.iterdir()) == sorted(
        ["export.json", *(f"{name}.onnx" for name in ALL)]
    )
    assert said["model"]["license"] == "cc-by-4.0"
    assert said["model"]["sha256"]["config.json"] == file_sha256(model.folder / "config.json")
    assert [part["part"] for part in said["parts"]] == ALL
    for part in said["parts"]:
        assert part["sha256"] == file_sha256(exported / part["file"])
        assert part["difference"] < 1e-4
        session = ort.InferenceSession(str(exported / part["file"]), providers=["CPUExecutionProvider"])
        for described, real in (
            (part["inputs"], session.get_inputs()),
            (part["outputs"], session.get_outputs()),
        ):
            assert [(one["name"], one["shape"]) for one in described] == [(o.name, o.shape) for o in real]
    meanings = {one["name"]: one["meaning"] for part in said["parts"] for one in part["inputs"]}
    assert "metres" in meanings["camera"] and "radians" in meanings["pose"]


@pytest.mark.slow
def test_a_model_that_looks_at_less_takes_the_same_inputs(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    """PanoHead's kind: no poses, no masks, a learned offset of the camera; an EG3D-like color."""
    config = presets.without_mask(presets.panohead(presets.tiny()))
    model = open_model(make_run(tmp_path / "run", None, config), device="cpu")
    made = export(model, tmp_path / "out", "onnx", ("mapping", "camera_offset"))
    assert [one.part for one in made] == ["mapping", "camera_offset"]
    z, camera = model.latents([1, 2, 3]), model.neutral_camera.expand(3, -1)
    psi, pose = torch.tensor(0.5), torch.zeros(3, 6)
    (ws,) = ask(tmp_path / "out", "mapping", z=z, truncation=psi, camera=camera, pose=pose)
    assert close(ws, model.styles(z, 0.5))
    (moved,) = ask(tmp_path / "out", "camera_offset", z=z, camera=camera)
    assert close(moved, model.generator.moved_camera(z, camera)[0])


@pytest.mark.slow
def test_the_whole_generator_as_a_torch_program(run: Path, tmp_path: Path, model: Model) -> None:
    made = export(open_model(run, device="cpu"), tmp_path / "out", "torch", ("generator", "mapping"))
    assert [one.file for one in made] == ["generator.pt2", "mapping.pt2"]
    whole, part = ((tmp_path / "out" / one.file).stat().st_size for one in made)
    assert part < whole / 5  # not the weights of other networks
    program = torch.export.load(tmp_path / "out" / "generator.pt2").module()
    z, camera = model.latents([9]), views.camera(60, 10)
    pose = torch.zeros(1, 6)
    found = program(z, torch.tensor(0.5), camera, pose)
    wanted = model.render(model.styles(z, 0.5, camera=camera, pose=pose), camera)
    for one, other in zip(found, (wanted.image, wanted.image_raw, wanted.mask, wanted.depth), strict=True):
        assert close(one, other)


@pytest.mark.slow
def test_what_fails_leaves_no_folder(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = open_model(run, device="cpu")
    monkeypatch.setattr(exports, "_run_onnx", lambda path, part, inputs: [torch.zeros(3, 8, 32)])
    with pytest.raises(InferenceError, match="mapping gives other numbers as onnx"):
        export(model, tmp_path / "out", "onnx", ("mapping",))
    monkeypatch.setattr(exports, "_run_onnx", lambda path, part, inputs: [torch.full((3, 8, 32), torch.nan)])
    with pytest.raises(InferenceError, match="mapping gives other numbers as onnx"):
        export(model, tmp_path / "out", "onnx", ("mapping",))
    monkeypatch.setattr(exports, "LARGEST_ONNX", 1000)
    with pytest.raises(InferenceError, match="an ONNX file holds 2: use --format torch"):
        export(model, tmp_path / "new" / "out", "onnx", ("mapping",))
    model.generator.backbone.mapping.w_avg.fill_(torch.nan)
    with pytest.raises(InferenceError, match="mapping gives numbers that are not finite"):
        export(model, tmp_path / "out", "onnx", ("mapping",))
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported_is_said_before_any_work(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], make_bust: Callable[..., PortraitRig]
) -> None:
    for form, options, said in (
        ("onnx", ["--parts", "mapping,heads"], "there is no part 'heads'; this model has mapping, backbone"),
        ("onnx", ["--parts", "generator"], "generator cannot be exported as onnx"),
        ("torch", ["--push", "a/b"], "--push and --public are for --format hub"),
        ("hub", ["--parts", "mapping"], "--parts is for --format torch and onnx"),
    ):
        assert main(["export", str(run), str(tmp_path / "out"), "--format", form, *options]) == 1
        assert said in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
    (tmp_path / "notes.txt").write_text("mine")
    for taken in (tmp_path, tmp_path / "notes.txt"):
        assert main(["export", str(run), str(taken), "--format", "onnx"]) == 1
        assert "holds something already" in " ".join(capsys.readouterr().err.split())
    assert [one.name for one in tmp_path.iterdir()] == ["notes.txt"]
    model = replace(open_model(run, device="cpu"), folder=tmp_path)  # a generator without its discriminator
    assert "pose" not in [part.name for part in parts_of(model)]
