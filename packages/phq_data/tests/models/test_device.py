"""One setting says where networks run; it changes no digest, and a GPU that is not there is one sentence."""

from __future__ import annotations

import dataclasses
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import skimage.data

from phq_data import config as configs
from phq_data.errors import ModelError
from phq_data.models import device, onnx, registry
from phq_data.models.movenet.detector import MoveNetDetector
from phq_data.models.orientation.image_prior import image_features
from phq_data.models.selfie import SelfieSegmenter
from phq_data.pipeline.engine import load_config, recipe
from phq_data.pipeline.whole import prepare
from phq_data.stages.sequence import STAGES
from phq_data.workspace import Workspace

GPU_FAULT = onnx.gpu_fault
CPU_ONLY = "CUDAExecutionProvider" not in onnx._runtime().get_available_providers()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv(device.VARIABLE, raising=False)
    GPU_FAULT.cache_clear()
    yield
    GPU_FAULT.cache_clear()


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A "GPU" that is the CPU: all that PHQ does for one is done."""
    monkeypatch.setattr(onnx, "_providers", lambda there: ["CPUExecutionProvider"])
    monkeypatch.setattr(onnx, "gpu_fault", lambda there="cuda": "")
    onnx.open_session.cache_clear()
    onnx._batchers.clear()
    yield
    onnx.open_session.cache_clear()
    onnx._batchers.clear()


@pytest.mark.skipif(not CPU_ONLY, reason="onnxruntime-gpu is installed")
def test_a_gpu_without_its_runtime_is_one_sentence_that_says_what_to_install() -> None:
    for wanted in ("detect.model=movenet", "fit.model=smplify2"):
        config = configs.default().replace_setting(wanted).replace_setting("device=cuda")
        with pytest.raises(
            ModelError, match=r"device=cuda: .*CPUs only.*pip install onnxruntime-gpu.*device=cpu"
        ):
            [recipe(stage, config) for stage in STAGES]
    assert device.onnx_device() == device.onnx_device("cpu") == "cpu"


def test_a_runtime_for_gpus_on_a_machine_without_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def available() -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]

    def refuse(*given: Any, **more: Any) -> Any:
        raise RuntimeError(
            "[ONNXRuntimeError] : 1 : FAIL : CUDA failure 100: no CUDA-capable device is detected"
        )

    monkeypatch.setattr(onnx._runtime(), "get_available_providers", available)
    monkeypatch.setattr(onnx._runtime(), "InferenceSession", refuse)
    assert device.onnx_device() == "cpu"
    with pytest.raises(
        ModelError, match=r"device=cuda:1: onnxruntime finds no usable GPU \(CUDA failure 100"
    ):
        monkeypatch.setenv(device.VARIABLE, "cuda:1")
        device.onnx_device()


def test_the_variable_is_what_auto_means(monkeypatch: pytest.MonkeyPatch, pretended: None) -> None:
    assert device.onnx_device() == "cuda"
    monkeypatch.setenv(device.VARIABLE, "cpu")
    assert (device.onnx_device(), device.onnx_device("cuda"), device.torch_device()) == ("cpu", "cuda", "cpu")
    monkeypatch.setenv(device.VARIABLE, "mps")  # of PyTorch alone
    assert (device.onnx_device(), device.torch_device()) == ("cpu", "mps")


def test_networks_of_pytorch_follow_the_same_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device.torch_device() == "cpu"
    with pytest.raises(ModelError, match=r"device=cuda: the installed PyTorch .* sees no GPU"):
        device.torch_device("cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert (device.torch_device(), device.torch_device("cpu")) == ("cuda", "cpu")


def test_the_device_enters_no_digest_and_is_not_kept(tmp_path: Any) -> None:
    usual, said = configs.default(), dataclasses.replace(configs.default(), device="cpu")
    assert [recipe(stage, usual) for stage in STAGES] == [recipe(stage, said) for stage in STAGES]
    workspace = Workspace.open(str(tmp_path / "workspace"), create=True)
    prepare(workspace, said)
    assert load_config(workspace) == usual


def test_settings_reach_the_models(pretended: None) -> None:
    detector = registry.person_detector(device="cuda")
    segmenter, fitter = registry.segmenter(device="cuda"), registry.body_fitter(device="cuda")
    assert isinstance(detector, MoveNetDetector) and isinstance(segmenter, SelfieSegmenter)
    assert (detector.device, segmenter.device) == ("cuda", "cuda")
    assert fitter._device == "cuda"  # type: ignore[attr-defined]
    assert detector.fingerprint == registry.person_detector(device="cpu").fingerprint


def test_many_threads_share_batches_with_the_numbers_of_one_by_one(pretended: None) -> None:
    astronaut = skimage.data.astronaut()
    photos = [astronaut, np.ascontiguousarray(astronaut[:, ::-1]), astronaut[20:480, 60:500]]

    def label(photo: np.ndarray, there: str) -> list[np.ndarray]:
        people = MoveNetDetector(device=there).detect(photo)
        features = image_features(photo, [person.keypoints for person in people], device=there)
        square = np.ascontiguousarray(photo[:400, :400])
        mask = SelfieSegmenter(device=there).segment(square, people[0].keypoints, [])
        return [people[0].keypoints, features, mask]

    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda photo: label(photo, "cuda"), photos))
    assert {key[0] for key in onnx._batchers} == {"movenet-multipose", "movenet-thunder", "selfie"}
    for photo, found in zip(photos, together, strict=True):
        for one, other in zip(found, label(photo, "cpu"), strict=True):
            np.testing.assert_allclose(one.astype(float), other.astype(float), atol=2e-3)
