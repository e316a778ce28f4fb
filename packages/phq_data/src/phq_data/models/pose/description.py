"""What has to be known of a pose network beside its ONNX file: the JSON that lies beside it.

Most of it is in the file itself (`models.pose.network` completes a description). What no file says is assumed
as OpenMMLab trains its networks, and told to the user: colors, mean and deviation, the margin around a
person, the order of the keypoints by their number, where a heatmap's cells lie.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.models.user_network import Description
from phq_data.typed_json import ConfigError

Layout = Literal["coco17", "wholebody133", "halpe26"]
LAYOUTS: dict[Layout, int] = {"coco17": 17, "halpe26": 26, "wholebody133": 133}
"""Keypoints of the known layouts. All of them begin with the 17 of COCO, in COCO's order."""


@dataclass(frozen=True)
class PoseDescription(Description):
    """A pose network's JSON. What is left out is taken from the network, or assumed (`network.complete`)."""

    NOUN = "a pose network"

    layout: Layout | None = None  # the order of its keypoints
    keypoints: tuple[str, ...] = ()  # instead of a layout: the name of every keypoint, in order
    head: Literal["simcc", "heatmap"] | None = None
    outputs: tuple[str, ...] = ()  # their names: x and y of a SimCC head, or the heatmap
    padding: float = 1.25  # side of what the network sees over that of the person's box
    udp: bool | None = None  # heatmaps: the outermost cells lie on the outermost pixels (unbiased processing)
    score_scale: float = 1.0  # a score as high as this counts as 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.layout and self.keypoints:
            raise ConfigError("'layout' and 'keypoints' say the same thing: give one of them")
        if missing := [name for name in COCO_KEYPOINTS if name not in self.names]:
            raise ConfigError(
                f"'keypoints' lacks {', '.join(missing)}: the network must find all 17 keypoints of COCO"
            )
        if len(set(self.names)) < len(self.names):
            raise ConfigError("'keypoints' names one keypoint twice")
        if not (0 < self.padding <= 4 and self.score_scale > 0):
            raise ConfigError("'padding' (at most 4) and 'score_scale' are more than 0")

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


def _plain_name(name: str) -> str:
    """`Left Shoulder`, `left-shoulder` and `LShoulder` as `left_shoulder`."""
    plain = re.sub(r"[\s\-]+", "_", name.strip()).lower()
    short = re.fullmatch(r"([lr])_?(eye|ear|shoulder|elbow|wrist|hip|knee|ankle)", plain)
    return f"{'left' if short[1] == 'l' else 'right'}_{short[2]}" if short else plain
