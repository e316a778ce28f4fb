"""A person detector whose keypoints come from a user's pose network: top-down, one crop a person.

Another detector, usually the embedded one, says who is there and where. The network sees each person's box
with a margin, as it was trained, and its keypoints take the place of the detector's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray
from phq_data.models.fingerprints import fingerprint
from phq_data.models.keypoints import MIRROR, flip_mean, head_centre, upper_size
from phq_data.models.movenet.crops import crop_rectangle
from phq_data.models.pose.network import PoseNetwork
from phq_data.models.protocols import DetectedPerson, LicensedModel, ModelTerms, PersonDetector

CODE_VERSION = 1  # raise it when the same network and config would give other keypoints


@dataclass(frozen=True)
class PoseConfig:
    """Settings of the detector."""

    flip_tta: bool = True
    """Flip test-time augmentation: the mean of the crop and its mirror image."""
    agreement: float = 0.2
    """Share of the shoulder breadth up to which both mean one place; beyond, the surer counts."""
    max_head_shift: float = 0.6
    """Shoulder breadths. A head that moves further is another person's: the detector's keypoints stay."""


class PoseDetector:
    """A `PersonDetector`: people of `people`, keypoints of `network`."""

    def __init__(
        self, people: PersonDetector, network: PoseNetwork, config: PoseConfig | None = None
    ) -> None:
        self.config = config or PoseConfig()
        self.people, self.network = people, network
        told = network.description
        self.terms = ModelTerms(told.title, told.license, told.source)
        if isinstance(people, LicensedModel):  # both networks' terms hold
            both = zip(vars(self.terms).values(), vars(people.terms).values(), strict=True)
            self.terms = ModelTerms(*(", ".join(filter(None, pair)) for pair in both))
        self.fingerprint = fingerprint(
            "pose",
            CODE_VERSION,
            self.config,
            people=people.fingerprint,
            network=network.sha256,
            description=told.facts(),
        )

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """People of one upright sRGB photo [H, W, 3], ordered left to right by their heads."""
        found = [self._with_keypoints(image, person) for person in self.people.detect(image)]
        return sorted(found, key=lambda person: float(head_centre(person.keypoints)[0]))

    def _with_keypoints(self, image: NDArray[np.uint8], person: DetectedPerson) -> DetectedPerson:
        size = self.network.description.input_size
        assert size is not None
        rectangle = region(person.box, size, self.network.description.padding)
        crop = crop_rectangle(image, rectangle, size)
        crops = np.stack([crop, crop[:, ::-1]] if self.config.flip_tta else [crop])
        points = self.network.keypoints(crops)
        if self.config.flip_tta:
            points[1] = points[1, MIRROR]
            points[1, :, 0] = size[0] - points[1, :, 0]
        points[..., :2] = points[..., :2] * (np.array(rectangle[2:]) / size) + rectangle[:2]
        found = flip_mean(points[0], points[-1], self.config.agreement)
        shift = np.hypot(*(head_centre(found) - head_centre(person.keypoints)))
        if shift > self.config.max_head_shift * upper_size(person.keypoints):
            return person
        return replace(person, keypoints=found)


def region(box: FloatArray, size: tuple[int, int], padding: float) -> tuple[int, int, int, int]:
    """What the network sees of a person with box [4] (x0, y0, x1, y1): x, y, width, height in whole pixels.

    The box, grown around its middle to the shape of the network's input and then by `padding`.
    """
    middle, sides = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1.0)
    scale = padding * max(sides[0] / size[0], sides[1] / size[1])
    width, height = (max(8, round(scale * side)) for side in size)
    return round(float(middle[0]) - width / 2), round(float(middle[1]) - height / 2), width, height
