"""Two photos with three people, ready for align and crop."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import bodyworks as works
import numpy as np

from phq_data.config import PipelineConfig
from phq_data.records import Photo, Portrait
from phq_data.stages.align_crop import align_crop
from phq_data.stages.base import StageResult

RIG = works.make_rig()
CONFIG = PipelineConfig().replace_setting("crop.size=128")


class Left:
    """A segmenter that takes the left half, and remembers what it was given."""

    fingerprint = "left/1"

    def __init__(self) -> None:
        self.calls: list[tuple[np.ndarray, list[np.ndarray]]] = []

    def segment(self, image: np.ndarray, target: np.ndarray, others: list[np.ndarray]) -> np.ndarray:
        self.calls.append((target, list(others)))
        alpha = np.zeros(image.shape[:2], np.uint8)
        alpha[:, : len(alpha) // 2] = 255
        return alpha


class Bench:
    """Two photos, two people in the first, and how often each photo was opened."""

    def __init__(self) -> None:
        self.photos = [works.photo_record(name, uri=f"file:///{name}.jpg") for name in ("one", "two")]
        places = [("one", -0.5, 0.2), ("one", 0.5, -0.7), ("two", 0.0, 2.5)]
        self.fits = [
            works.fit_record(
                works.facing(yaw, 0.1),
                np.array([x, -0.1, 3.0]),
                fit_id=f"f{i}",
                person_id=f"p{i}",
                photo_id=photo,
            )
            for i, (photo, x, yaw) in enumerate(places)
        ]
        self.people = [
            works.person_record(works.keypoints_of(fit), person_id=fit.person_id, photo_id=fit.photo_id)
            for fit in self.fits
        ]
        self.opened: list[str] = []
        self.segmenter = Left()
        self.ticks = 0

    def open_photo(self, photo: Photo) -> np.ndarray:
        self.opened.append(photo.photo_id)
        return works.photo_of(seed=len(photo.photo_id))

    def number_people(self) -> None:
        """Give the second person of the first photo the number 1."""
        self.people = [replace(one, order=int(one.person_id == "p1")) for one in self.people]

    def tick(self) -> None:
        self.ticks += 1

    def run(self, config: PipelineConfig = CONFIG, **changes: Any) -> StageResult[Portrait]:
        arguments: dict[str, Any] = {
            "fits": self.fits, "people": self.people, "photos": self.photos, "open_photo": self.open_photo,
            "segmenter": self.segmenter, "rig": RIG, "template": works.TEMPLATE, "config": config,
            "tick": self.tick, **changes,
        }  # fmt: skip
        return align_crop(**arguments)
