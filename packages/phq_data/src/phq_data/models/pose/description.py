"""What has to be known of a pose network beside its ONNX file: the JSON that lies beside it.

Most of it is in the file itself (`models.pose.network` completes a description). What no file says is assumed
as OpenMMLab trains its networks, and told to the user: colors, mean and deviation, the margin around a
person, the order of the keypoints by their number, where a heatmap's cells lie.
"""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from phq_data import typed_json
from phq_data.errors import ModelError
from phq_data.files import read_written_text
from phq_data.foreign import reading
from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.typed_json import ConfigError

Layout = Literal["coco17", "wholebody133", "halpe26"]
LAYOUTS: dict[Layout, int] = {"coco17": 17, "halpe26": 26, "wholebody133": 133}
"""Keypoints of the known layouts. All of them begin with the 17 of COCO, in COCO's order."""
UNKNOWN = "unknown"


@dataclass(frozen=True)
class PoseDescription:
    """A pose network's JSON. What is left out is taken from the network, or assumed (`network.complete`)."""

    title: str = ""  # what it is called, for people
    license: str = UNKNOWN  # of the weights, as their maker says
    source: str = ""  # where the file came from
    layout: Layout | None = None  # the order of its keypoints
    keypoints: tuple[str, ...] = ()  # instead of a layout: the name of every keypoint, in order
    head: Literal["simcc", "heatmap"] | None = None
    outputs: tuple[str, ...] = ()  # their names: x and y of a SimCC head, or the heatmap
    input_size: tuple[int, int] | None = None  # width, height in pixels
    channels: Literal["rgb", "bgr"] = "rgb"
    mean: tuple[float, float, float] = (123.675, 116.28, 103.53)  # of `channels`, of 0..255
    std: tuple[float, float, float] = (58.395, 57.12, 57.375)
    padding: float = 1.25  # side of what the network sees over that of the person's box
    udp: bool | None = None  # heatmaps: the outermost cells lie on the outermost pixels (unbiased processing)
    score_scale: float = 1.0  # a score as high as this counts as 1

    def __post_init__(self) -> None:
        if self.layout and self.keypoints:
            raise ConfigError("'layout' and 'keypoints' say the same thing: give one of them")
        if missing := [name for name in COCO_KEYPOINTS if name not in self.names]:
            raise ConfigError(
                f"'keypoints' lacks {', '.join(missing)}: the network must find all 17 keypoints of COCO"
            )
        if len(set(self.names)) < len(self.names):
            raise ConfigError("'keypoints' names one keypoint twice")
        if not all(deviation > 0 for deviation in self.std) or max(*self.mean, *self.std) < 1:
            raise ConfigError("'mean' and 'std' are of pixels from 0 to 255, and no 'std' is 0 or less")
        if not (0 < self.padding <= 4 and self.score_scale > 0 and min(self.input_size or (1, 1)) > 0):
            raise ConfigError("'padding' (at most 4), 'score_scale' and 'input_size' are more than 0")

    @property
    def names(self) -> tuple[str, ...]:
        """The keypoints by name, in the network's order, as far as they are those of COCO."""
        return tuple(map(_plain_name, self.keypoints)) or COCO_KEYPOINTS

    @property
    def count(self) -> int | None:
        """How many keypoints the network must have; None: not said."""
        return LAYOUTS[self.layout] if self.layout else len(self.keypoints) or None

    @property
    def order(self) -> list[int]:
        """The network's number of every keypoint of COCO-17."""
        return [self.names.index(name) for name in COCO_KEYPOINTS]

    def to_json(self) -> str:
        """The JSON, without what is left open."""
        told = {key: value for key, value in dataclasses.asdict(self).items() if value not in (None, (), "")}
        return json.dumps(told, indent=2) + "\n"

    def facts(self) -> dict[str, object]:
        """What keypoints depend on: all but what is for people, as JSON values."""
        about = ("title", "license", "source")
        return {name: value for name, value in typed_json.plain(self).items() if name not in about}


def read(text: str, where: object) -> PoseDescription:
    """The description in a JSON text. Raises `ModelError` that names `where` and the entry."""
    try:
        return typed_json.read_text(PoseDescription, text)
    except ConfigError as error:
        raise ModelError(f"{where} is to describe a pose network: {error}") from error


def beside(network: Path) -> Path:
    """Where the JSON of a network's file lies: `rtmpose-m.json` beside `rtmpose-m.onnx`."""
    return network.with_suffix(".json")


def read_beside(network: Path) -> PoseDescription:
    """The description beside a network's file, or an empty one where there is none. Raises `ModelError`."""
    path = beside(network)
    if not path.exists():
        return PoseDescription()
    with reading(path, ModelError, "mend it, or delete it to have it written anew"):
        text = read_written_text(path)
    return read(text, path)


def _plain_name(name: str) -> str:
    """`Left Shoulder`, `left-shoulder` and `LShoulder` as `left_shoulder`."""
    plain = re.sub(r"[\s\-]+", "_", name.strip()).lower()
    short = re.fullmatch(r"([lr])_?(eye|ear|shoulder|elbow|wrist|hip|knee|ankle)", plain)
    return f"{'left' if short[1] == 'l' else 'right'}_{short[2]}" if short else plain
