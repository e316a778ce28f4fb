"""Models that a user may bring or ask for: where they come from and what their licenses mean for a user.

Nothing here is shipped. `weights.store` keeps the files and `phq models` is its face.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from phq_data.errors import ModelError

Kind = Literal["smpl", "3dcrowdnet", "deeplab", "yolo", "pose", "age"]


@dataclass(frozen=True)
class KnownModel:
    """A model that the paper's pipeline can use."""

    name: str
    kind: Kind
    title: str
    origin: str  # where a person gets it
    license: str
    consequence: str  # what the license means, in one plain sentence
    wanted: str  # the file that `add` takes
    stored: str  # name of the file kept
    url: str = ""  # where it may be downloaded from; "" = only by the user's own hands
    sha256: str = ""  # of the file to be had there, or its first digits


_YOLO_CONSEQUENCE = (
    "Software that you offer to others with it, also over a network, must come with all its "
    "source under the AGPL, unless you buy a license from Ultralytics."
)
_YOLO_URL = "https://github.com/ultralytics/assets/releases/download/v8.3.0/"


def _yolo(size: str) -> KnownModel:
    name = f"yolo11{size}-pose"
    return KnownModel(
        name=name,
        kind="yolo",
        title=f"YOLO11{size} pose: people and their keypoints",
        origin="the releases of ultralytics/assets on GitHub",
        license="AGPL-3.0",
        consequence=_YOLO_CONSEQUENCE,
        wanted=f"{name}.pt",
        stored=f"{name}.pt",
        url=f"{_YOLO_URL}{name}.pt",
    )


KNOWN: tuple[KnownModel, ...] = (
    KnownModel(
        name="smpl",
        kind="smpl",
        title="SMPL, the neutral body",
        origin="smpl.is.tue.mpg.de or smplify.is.tue.mpg.de, after registration",
        license="SMPL Model License (Max Planck Society)",
        consequence=(
            "Non-commercial: research and private use only, and the model may not be passed on; companies "
            "need a license from Meshcapade."
        ),
        wanted="the neutral model as distributed, basicModel_neutral_lbs_10_207_0_v1.0.0.pkl",
        stored="smpl.safetensors",
    ),
    KnownModel(
        name="3dcrowdnet",
        kind="3dcrowdnet",
        title="3DCrowdNet, an image and keypoints to an SMPL body",
        origin="the drive folder that the README of hongsukchoi/3DCrowdNet_RELEASE links",
        license="MIT for the network's code; trained on SMPL, VPoser and research data sets",
        consequence=(
            "Non-commercial in effect: it holds VPoser's weights and answers in SMPL's terms, and both are "
            "licensed for research only."
        ),
        wanted="the official checkpoint, demo_checkpoint.pth.tar or snapshot_N.pth.tar",
        stored="3dcrowdnet.safetensors",
    ),
    KnownModel(
        name="deeplabv3-resnet101",
        kind="deeplab",
        title="DeepLabV3-ResNet101, masks of people",
        origin="PyTorch's own download site, as torchvision uses it",
        license="BSD-3-Clause (torchvision); trained on COCO",
        consequence="Commercial use is allowed; keep the copyright notice.",
        wanted="deeplabv3_resnet101_coco-cd0a2569.pth",
        stored="deeplabv3_resnet101_coco.pth",
        url="https://download.pytorch.org/models/deeplabv3_resnet101_coco-cd0a2569.pth",
        sha256="cd0a2569",
    ),
    *(_yolo(size) for size in "nsmlx"),
    KnownModel(
        name="yolo-own",
        kind="yolo",
        title="your own pose weights for ultralytics",
        origin="you",
        license="AGPL-3.0 (the library, and weights trained with it)",
        consequence=_YOLO_CONSEQUENCE,
        wanted="a .pt file of a pose model with COCO's 17 keypoints",
        stored="yolo-own.pt",
    ),
    KnownModel(
        name="pose",
        kind="pose",
        title="a pose network of yours, such as RTMPose, DWPose or ViTPose, for the keypoints",
        origin="its makers; docs/models.md names some",
        license="its makers' license, which --license or the JSON beside the file says",
        consequence=(
            "PHQ passes on what you say of its license; ask its makers about the photos it was trained on."
        ),
        wanted="an .onnx file with a SimCC or heatmap head, and the JSON that describes it if there is one",
        stored="pose.onnx",
    ),
    KnownModel(
        name="age",
        kind="age",
        title="an age network of yours, for the screen for minors",
        origin="its makers",
        license="its makers' license, which --license or the JSON beside the file says",
        consequence=(
            "PHQ passes on what you say of its license; an estimated age is a guess, and whoever publishes "
            "the dataset answers for it."
        ),
        wanted="an .onnx file that answers with years or classes of ages, and the JSON that describes it",
        stored="age.onnx",
    ),
)


def known_model(name: str) -> KnownModel:
    """The model called `name`; `ModelError` lists the names there are."""
    for model in KNOWN:
        if model.name == name:
            return model
    raise ModelError(f"there is no model called {name!r}; there are {', '.join(m.name for m in KNOWN)}")
