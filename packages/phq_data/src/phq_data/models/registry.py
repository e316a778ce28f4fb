"""Which networks there are, and how a stage gets one by name."""

from __future__ import annotations

import re
from typing import Any

from phq_data.errors import ModelError
from phq_data.models.device import onnx_device, torch_device
from phq_data.models.protocols import AgeEstimator, BodyFitter, PersonDetector, Segmenter

PERSON_DETECTORS: tuple[str, ...] = ("movenet", "yolo", "keypoints:FILE", "pose", "yolo+pose")
SEGMENTERS: tuple[str, ...] = ("selfie", "deeplab")
BODY_FITTERS: tuple[str, ...] = ("smplify2", "smplify", "3dcrowdnet")


_POSE = re.compile(r"(?:(movenet|yolo(?::.+?)?)\+)?pose(?::(.+))?", re.DOTALL)


def pose_parts(name: str) -> tuple[str, str] | None:
    """(who finds the people, file) of a detector with a user's pose network; None for other detectors.

    `yolo:big.pt+pose:rtm.onnx` -> `yolo:big.pt`, `rtm.onnx`; `pose` -> `movenet`, "" (the added network).
    """
    match = _POSE.fullmatch(name)
    return (match[1] or "movenet", match[2] or "") if match else None


def person_detector(
    name: str = "movenet",
    *,
    threads: int = 1,
    device: str = "auto",
    config: Any = None,
    people_config: Any = None,
) -> PersonDetector:
    """The person detector called `name`; `config` is that detector's own config (`MoveNetConfig`, ...).

    `yolo` may be followed by weights: `yolo:yolo11x-pose` (`phq models list`) or `yolo:path/to/weights.pt`.
    `keypoints:path/to/keypoints.json` takes keypoints that were found before.
    `pose` finds people with MoveNet and their keypoints with the network that was added, `pose:FILE.onnx`
    with the one in the file, `yolo+pose` (with weights or a file behind either) finds the people with YOLO;
    `config` is then a `PoseConfig`, and `people_config` that of the detector that finds the people. `device`:
    as the setting, here and below (`models.device`).
    """
    if (parts := pose_parts(name)) is not None:
        from phq_data.models.pose.detector import PoseDetector
        from phq_data.models.pose.network import find_network, open_network

        people = person_detector(parts[0], threads=threads, device=device, config=people_config)
        network = open_network(*find_network(parts[1]), threads, onnx_device(device))
        return PoseDetector(people, network, config)
    kind, _, weights = name.partition(":")
    if kind == "yolo":
        from phq_data.models.yolo import YoloDetector

        return YoloDetector.open(weights, config, device=device)
    if kind == "keypoints":
        from phq_data.models.keypoint_file import KeypointFileDetector

        return KeypointFileDetector(weights)
    _check_choice("person detector", name, PERSON_DETECTORS)
    from phq_data.models.movenet.detector import MoveNetConfig, MoveNetDetector

    chosen = config if config is not None else MoveNetConfig()
    return MoveNetDetector(chosen, threads=threads, device=onnx_device(device))


def segmenter(
    name: str = "selfie", *, include_bystanders: bool = False, threads: int = 1, device: str = "auto"
) -> Segmenter:
    """The segmenter called `name`: of the target person or, with `include_bystanders`, of all in the crop."""
    _check_choice("segmenter", name, SEGMENTERS)
    if name == "deeplab":
        _need("paper", "torch", "torchvision")
        from phq_data.models.deeplab import DeepLabConfig, DeepLabSegmenter

        config = DeepLabConfig(include_bystanders=include_bystanders, device=torch_device(device))
        return DeepLabSegmenter.open(config)
    from phq_data.models.selfie import SelfieConfig, SelfieSegmenter

    selfie = SelfieConfig(include_bystanders=include_bystanders)
    return SelfieSegmenter(selfie, threads=threads, device=onnx_device(device))


def body_fitter(
    name: str = "smplify2", *, config: Any = None, calibration: str = "", device: str = "auto"
) -> BodyFitter:
    """The body fitter called `name`, with its own `config`; `calibration` is a file for smplify2."""
    if calibration and name != "smplify2":
        raise ModelError(f"fit.calibration goes with fit.model=smplify2, not with {name}")
    _check_choice("body fitter", name, BODY_FITTERS)
    if name == "3dcrowdnet":
        _need("paper", "torch", "torchvision")
        from phq_data.bodies.smpl import load_body
        from phq_data.models.crowdnet import checkpoint
        from phq_data.models.crowdnet.fitter import CrowdNetConfig, CrowdNetFitter
        from phq_data.weights import store

        weights, sha256 = store.verified_file("3dcrowdnet")
        arrays = load_body().arrays
        chosen = config if config is not None else CrowdNetConfig(device=torch_device(device))
        return CrowdNetFitter(checkpoint.load(weights), arrays, sha256, chosen)
    from phq_data.models.smplify import Smplify2Config, SmplifyConfig, SmplifyFitter

    usual = SmplifyConfig() if name == "smplify" else Smplify2Config()
    chosen = config if config is not None else usual
    there = onnx_device(device)
    fitter: BodyFitter = SmplifyFitter(chosen, device=there)
    if calibration and isinstance(chosen, Smplify2Config):
        from phq_data.models import calibration as own
        from phq_data.models.orientation.image_prior import load_image_prior

        known = own.load(calibration)
        fitter = SmplifyFitter(
            known.settings(chosen),
            image_prior=known.corrected(load_image_prior(chosen.PRIOR)),
            device=there,
        )
    return fitter


def age_estimator(name: str, *, threads: int = 1, device: str = "auto") -> AgeEstimator:
    """The age network of the screen for minors: `age` for the one that was added, `age:FILE.onnx`."""
    from phq_data.models.age.network import find_network, open_network

    return open_network(*find_network(name), threads, onnx_device(device))


def check_files(detector: str, segmenter: str, age: str = "") -> None:
    """`ModelError` when the files or packages that these names need are not there. Loads no network."""
    from phq_data.weights import store

    if age:
        from phq_data.models.age.network import find_network as find_age_network

        find_age_network(age)
    if (parts := pose_parts(detector)) is not None:
        from phq_data.models.pose.network import find_network

        find_network(parts[1])
        detector = parts[0]
    kind, _, weights = detector.partition(":")
    if kind == "yolo":
        from phq_data.models import yolo

        yolo.find_weights(weights)
        _need("yolo", "ultralytics")
    if segmenter == "deeplab":
        _need("paper", "torch", "torchvision")
        store.verified_file("deeplabv3-resnet101")


def _need(extra: str, *packages: str) -> None:
    """`ModelError` when a package of one of our extras is not installed."""
    from importlib.util import find_spec

    for package in packages:
        if find_spec(package) is None:
            raise ModelError(f"{package} is not installed: pip install 'phq-data[{extra}]'")


def _check_choice(what: str, name: str, choices: tuple[str, ...]) -> None:
    if name not in choices:
        raise ModelError(f"there is no {what} called {name!r}; choose one of: {', '.join(choices)}")
