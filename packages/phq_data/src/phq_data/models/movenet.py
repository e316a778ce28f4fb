"""The embedded person detector: MoveNet MultiPose proposes people, MoveNet Thunder looks closely at each.

MultiPose sees people between a tenth of its input and all of it, so it looks at the photo in several sizes.
Its score says little about tight portraits and rear views; whether a proposal is a person is decided by the
head and shoulders that Thunder finds on the person's own square crop. A second Thunder look, at head and
torso only, then places the points that a portrait is about.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.models import registry
from phq_data.models.keypoints import (
    HIPS,
    UPPER,
    box_overlap,
    head_centre,
    head_score,
    keep_best,
    person_box,
    shoulder_score,
    similarity,
    upper_size,
)
from phq_data.models.movenet_decode import decode_multipose, decode_thunder
from phq_data.models.protocols import DetectedPerson, FloatArray

CODE_VERSION = 1  # raise it when the same config and networks would give other people
NETWORKS = ("movenet-multipose", "movenet-thunder")
CROP = 256  # Thunder's input side
BATCH = 8  # Thunder crops a run: bounds memory, not the result


@dataclass(frozen=True)
class MoveNetConfig:
    """Settings of the detector. Lengths are pixels of the photo unless they say network pixels."""

    smallest_head: float = 40.0
    """People with a smaller head need not be found."""
    head_on_network: float = 10.0
    """Height of that smallest head in network pixels: what MultiPose still recognises."""
    base_long_side: int = 384
    """The photo's long side in network pixels at the level that every photo gets."""
    tight_long_side: int = 192
    """A second, small look at every photo, for people larger than the frame."""
    longest_side: int = 1024
    """Network pixels; bounds time and memory for very large photos."""
    largest_person: float = 330.0
    """Network pixels; larger people are left to the coarser levels, which see them whole."""
    minimum_centre: float = 0.10
    """Centre score of a proposal on a level's map."""
    minimum_proposal: float = 0.04
    """MultiPose's person score below which a proposal is not worth a look of Thunder's."""
    proposals_per_level: int = 40
    maximum_looks: int = 48
    """Thunder looks a photo and pass: bounds the time of dense crowds, the best proposals come first."""
    padding: float = 1.25
    """Side of Thunder's first crop over the long side of the proposed box."""
    upper_padding: float = 3.0
    """Side of Thunder's second crop over the size of head and shoulders."""
    minimum_head: float = 0.25
    """Mean score of the two best head points."""
    minimum_shoulder: float = 0.20
    """Score of the better shoulder."""
    same_person: float = 0.45
    """Similarity of head and shoulders above which two finds are one person."""


@dataclass(frozen=True)
class _Proposal:
    keypoints: FloatArray  # [17, 3] x, y in photo pixels, score
    box: FloatArray  # [4] photo pixels
    score: float


class MoveNetDetector:
    """Finds people and their COCO-17 key points; a `PersonDetector`. Cheap to make, copy and send to a
    worker.
    """

    def __init__(self, config: MoveNetConfig | None = None, *, threads: int = 1) -> None:
        self.config = config if config is not None else MoveNetConfig()
        self.threads = threads
        self.fingerprint = registry.fingerprint("movenet", CODE_VERSION, self.config, NETWORKS)

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """People of one upright sRGB photo `image` [H, W, 3], ordered left to right by their heads."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a photo is uint8 [H, W, 3]; this one is {image.dtype} {image.shape}")
        photo = Image.fromarray(image)
        boxes = [proposal.box for proposal in self._propose(photo)]
        first = self._look(image, [_square(box, self.config.padding) for box in boxes])
        people = self._gate(first, 0.5)
        second = self._look(image, [self._upper_window(keypoints) for keypoints in people])
        refined = [_combine(old, new) for old, new in zip(people, second, strict=True)]
        people = self._gate(refined, 1.0)
        people.sort(key=lambda keypoints: float(head_centre(keypoints)[0]))
        return [DetectedPerson(person_box(k, photo.size), k, _person_score(k)) for k in people]

    # -- proposals ---------------------------------------------------------------------------------

    def levels(self, width: int, height: int) -> list[int]:
        """Long sides in network pixels at which MultiPose looks at a photo of that size, coarse to fine."""
        config = self.config
        needed = max(width, height) * config.head_on_network / config.smallest_head
        finest = min(32 * round(needed / 32), config.longest_side)
        levels = [config.tight_long_side, config.base_long_side]
        if finest > 1.2 * config.base_long_side:
            levels.append(finest)
        return levels

    def _propose(self, photo: Image.Image) -> list[_Proposal]:
        """Candidates of all levels, best first, each person once."""
        candidates: list[_Proposal] = []
        levels = self.levels(*photo.size)
        for level in levels:
            candidates.extend(self._propose_at(photo, level, level == levels[0]))
        candidates.sort(key=lambda proposal: -proposal.score)
        kept: list[_Proposal] = []
        for candidate in candidates:
            if not any(self._is_same(candidate, other) for other in kept):
                kept.append(candidate)
        return kept[: self.config.maximum_looks]

    def _is_same(self, first: _Proposal, second: _Proposal) -> bool:
        if box_overlap(first.box, second.box) > 0.7:
            return True
        return similarity(first.keypoints, second.keypoints) > self.config.same_person

    def _propose_at(self, photo: Image.Image, long_side: int, coarsest: bool) -> list[_Proposal]:
        """What MultiPose sees in the photo scaled to `long_side`."""
        config = self.config
        scale = long_side / max(photo.size)
        width, height = (max(1, round(side * scale)) for side in photo.size)
        small = photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        canvas = np.zeros((_multiple_of_32(height), _multiple_of_32(width), 3), np.uint8)
        canvas[:height, :width] = np.asarray(small)
        heads = self._run("movenet-multipose", canvas[None])
        found = decode_multipose(heads, config.proposals_per_level, config.minimum_centre)

        sides = np.array([canvas.shape[1] / width * photo.size[0], canvas.shape[0] / height * photo.size[1]])
        proposals = []
        for keypoints, box, score in zip(found.keypoints, found.boxes, found.scores, strict=True):
            corners = box.astype(np.float64)[[1, 0, 3, 2]] * np.tile(sides, 2)
            size = max(corners[2] - corners[0], corners[3] - corners[1]) * scale
            if score < config.minimum_proposal or size < 2 * config.head_on_network:
                continue
            if size > config.largest_person and not coarsest:
                continue
            points = np.concatenate([keypoints[:, 1::-1] * sides, keypoints[:, 2:]], axis=1)
            proposals.append(_Proposal(points.astype(np.float64), corners, float(score)))
        return proposals

    # -- looking closely ---------------------------------------------------------------------------

    def _look(self, image: NDArray[np.uint8], windows: Sequence[FloatArray]) -> list[FloatArray]:
        """Thunder's key points [17, 3] in photo pixels for each square window (x0, y0, side)."""
        people: list[FloatArray] = []
        for start in range(0, len(windows), BATCH):
            batch = windows[start : start + BATCH]
            crops = [_cut(image, window) for window in batch]
            found = decode_thunder(self._run("movenet-thunder", np.stack([crop for crop, _ in crops])))
            for keypoints, (_, (x0, y0, side)) in zip(found, crops, strict=True):
                points = keypoints.astype(np.float64)
                people.append(
                    np.stack([x0 + points[:, 1] * side, y0 + points[:, 0] * side, points[:, 2]], axis=1)
                )
        return people

    def _upper_window(self, keypoints: FloatArray) -> FloatArray:
        """Square (x0, y0, side) around head and torso, from a first look."""
        size = upper_size(keypoints)
        head, shoulders = head_centre(keypoints), keypoints[5:7, :2].mean(axis=0)
        down = shoulders - head
        # The middle of the shoulders, a little towards the hips: head and chest then lie in the window
        # evenly.
        centre = shoulders + 0.15 * down
        side = self.config.upper_padding * size
        return np.array([*(centre - side / 2), side])

    def _gate(self, people: Sequence[FloatArray], strictness: float) -> list[FloatArray]:
        """Those with a head and a shoulder, each person once."""
        config = self.config
        passed = [
            keypoints
            for keypoints in people
            if head_score(keypoints) >= strictness * config.minimum_head
            and shoulder_score(keypoints) >= strictness * config.minimum_shoulder
        ]
        scores = np.array([_person_score(keypoints) for keypoints in passed])
        return [passed[index] for index in keep_best(passed, scores, config.same_person)]

    def _run(self, network: str, batch: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        session = registry.open_session(network, self.threads)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"image": batch}), strict=True))


def _person_score(keypoints: FloatArray) -> float:
    """How sure a look is that this is a person: head and shoulders together, 0..1."""
    return float(np.sqrt(head_score(keypoints) * shoulder_score(keypoints)))


def _combine(first: FloatArray, second: FloatArray) -> FloatArray:
    """The second look's points; the first's where the second did not look, or if it strayed to somebody
    else.
    """
    if similarity(first, second, tolerance=4.0) < 0.5 and _person_score(first) > 0.3:
        return first
    combined = second.copy()
    lower = np.arange(17) >= HIPS.start
    better = lower | (np.arange(17) >= UPPER.stop) & (first[:, 2] > second[:, 2])
    combined[better] = first[better]
    return combined


def _square(box: FloatArray, padding: float) -> FloatArray:
    """Square (x0, y0, side) around a box, `padding` times its long side."""
    side = padding * max(box[2] - box[0], box[3] - box[1])
    centre = (box[:2] + box[2:]) / 2
    return np.array([*(centre - side / 2), side])


def _cut(image: NDArray[np.uint8], window: FloatArray) -> tuple[NDArray[np.uint8], tuple[int, int, int]]:
    """The window [256, 256, 3], black outside the photo, and the whole-pixel window (x0, y0, side) it
    became.
    """
    x0, y0 = round(float(window[0])), round(float(window[1]))
    side = max(8, round(float(window[2])))
    height, width = image.shape[:2]
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x0 + side, width), min(y0 + side, height)
    square = np.zeros((side, side, 3), np.uint8)
    if right > left and bottom > top:
        square[top - y0 : bottom - y0, left - x0 : right - x0] = image[top:bottom, left:right]
    crop = Image.fromarray(square).resize((CROP, CROP), Image.Resampling.BILINEAR, reducing_gap=2.0)
    return np.asarray(crop), (x0, y0, side)


def _multiple_of_32(length: int) -> int:
    return -(-length // 32) * 32
