"""The embedded person detector: MoveNet MultiPose proposes people, MoveNet Thunder refines each on a crop.

MultiPose's score says little about tight portraits and rear views, and its points are coarse. So Thunder
detects every proposal again in a crop of head and chest, the part a portrait is about, and once more if the
first crop was off the middle. Whether it is a person is decided by the head and the shoulders found there.

What was proposed but found nobody gets a second pass at several sizes: backs, hats and raised arms mislead
MultiPose about where the head is and how large, and Thunder's score of the same person falls from 0.5 to 0.1
when the crop is a little off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from phq_data.arrays import FloatArray
from phq_data.models import onnx
from phq_data.models.keypoints import (
    SHOULDERS,
    UPPER,
    flip_mean,
    head_centre,
    head_score,
    keep_best,
    person_box,
    shoulder_score,
    similarity,
    upper_size,
)
from phq_data.models.movenet.crops import CropRegion, Detection
from phq_data.models.movenet.proposals import Proposal, ProposeConfig, propose
from phq_data.models.movenet.thunder import ThunderPhoto
from phq_data.models.protocols import DetectedPerson

CODE_VERSION = 3  # raise it when the same config and networks would give other people
NETWORKS = ("movenet-multipose", "movenet-thunder")
AGREED = 0.1
"""Share of the shoulder breadth within which two detections of a person agree."""
SURE = 0.34  # score of both that are not in doubt
SEEN = 0.3  # score from which a point counts for that
FlipTta = Literal[True, False, "doubtful"]


@dataclass(frozen=True)
class MoveNetConfig:
    """Settings of the detector."""

    propose: ProposeConfig = field(default_factory=ProposeConfig)
    max_proposals: int = 36
    """Proposals that Thunder refines in a photo: bounds the time of dense crowds; the best come first."""
    padding: float = 2.8
    """Side of Thunder's region over the breadth of the shoulders."""
    crowd_padding: float = 2.0
    """The same where another head is near: a region without bystanders matters more than one with hips."""
    box_padding: float = 1.25
    """Side of Thunder's region over the long side of a proposed box, where MultiPose saw no head."""
    minimum_head: float = 0.25
    """Mean score of the two best head points."""
    minimum_shoulder: float = 0.20
    """Score of the better shoulder."""
    certain: float = 0.5
    """Score of head and shoulders together from which a person needs no confirmation."""
    minimum_person: float = 0.34
    """The same score, of a detection and one in the mirrored crop on average, for all others."""
    head_inside: float = 0.10
    """How far inside the photo the head's middle must be, as a share of the shoulder breadth."""
    same_person: float = 0.45
    """Similarity of head and shoulders above which two finds are one person."""
    second_pass_proposals: int = 6
    """Proposals without a person that get a second pass in a photo; the best come first."""
    second_pass_scales: tuple[float, ...] = (0.6, 1.0, 1.6, 2.5)
    """Sides of the second pass's regions over that of the usual one."""
    flip_tta: FlipTta = True
    """Flip test-time augmentation. True: two crops of everybody, as they are and mirrored; the mean of all
    four. "doubtful": only where the first crop and its mirror image disagree; else the mean of these two."""
    agreement: float = 0.2
    """Share of the shoulder breadth up to which both detections mean one place; beyond, the surer counts."""


class MoveNetDetector:
    """Finds people and their COCO-17 key points: a `PersonDetector`, cheap to make or to send away."""

    def __init__(self, config: MoveNetConfig | None = None, *, threads: int = 1, device: str = "cpu") -> None:
        self.config = config if config is not None else MoveNetConfig()
        self.threads, self.device = threads, device
        self.fingerprint = onnx.fingerprint("movenet", CODE_VERSION, self.config, NETWORKS)

    def detect(self, image: NDArray[np.uint8]) -> list[DetectedPerson]:
        """People of one upright sRGB photo `image` [H, W, 3], ordered left to right by their heads."""
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise ValueError(f"a photo is uint8 [H, W, 3]; this one is {image.dtype} {image.shape}")
        photo = ThunderPhoto(image, self.threads, self.device)
        found = propose(Image.fromarray(image), self.config.propose, self.threads, self.device)
        budget = self.config.max_proposals
        every_head = _heads(found.people + found.heads)

        detections, refuted = self._examine(photo, found.people[:budget], every_head)
        loose = _without_owner(found.heads, detections + refuted)[: budget - len(found.people[:budget])]
        if loose:
            more, _ = self._examine(photo, loose, every_head)
            detections = self._gate(detections + more, photo.size)
        strays = self._second_pass(photo, [*found.people, *found.heads], detections, every_head)
        if strays:
            detections = self._gate(detections + strays, photo.size)
        if self.config.flip_tta:
            detections = self._flip_averaged(photo, detections, every_head)
        detections.sort(key=lambda detection: float(head_centre(detection.keypoints)[0]))
        return [DetectedPerson(person_box(k.keypoints, photo.size), k.keypoints, k.score) for k in detections]

    def detect_near(
        self, image: NDArray[np.uint8], where: FloatArray, rng: np.random.Generator
    ) -> FloatArray | None:
        """Keypoints [17, 3] of the person at roughly known keypoints `where` [17, 3], or None: to train on.

        Nobody searches the photo; the region is as far off (`rng`) as one that was found.
        """
        nobody = np.zeros((0, 3))
        photo = ThunderPhoto(image, self.threads, self.device)
        for spread in (0.08, 0.0):
            region = self._upper_region(where, nobody)
            shift = rng.normal(0, spread, 2) * upper_size(where)
            centre = np.array([region.x0, region.y0]) + region.side / 2 + shift
            side = region.side * float(np.exp(rng.normal(0, spread)))
            x0, y0 = (float(corner) for corner in centre - side / 2)
            region = CropRegion(x0, y0, side, region.aim + shift / 2)
            here, there = (photo.detect([region], mirrored=flip)[0] for flip in (False, True))
            found = self._mean(here, there)
            if not self._passes(found, photo.size):
                return None
            where = found.keypoints
        return where

    def _examine(
        self,
        photo: ThunderPhoto,
        proposals: Sequence[Proposal],
        every_head: FloatArray,  # [K, 3] x, y, size of all heads proposed in the photo
    ) -> tuple[list[Detection], list[Detection]]:
        """The people that Thunder confirms, each once, and what it took for people at first."""
        size = photo.size
        detections = photo.detect([self._region_of(proposal, every_head) for proposal in proposals])
        weak = [index for index, detection in enumerate(detections) if not self._passes(detection, size)]
        again = photo.detect([self._second_region(detections[index]) for index in weak])
        for index, detection in zip(weak, again, strict=True):
            if detections[index].missed or (
                not detection.missed and detection.score > detections[index].score
            ):
                detections[index] = detection
        first = [
            detection if proposal.keypoints is None else detection.with_lower_body(proposal.keypoints)
            for proposal, detection in zip(proposals, detections, strict=True)
            if not detection.missed
        ]
        people = self._gate(first, size, strictness=0.6)

        better = [self._upper_region(detection.keypoints, every_head) for detection in people]
        moved = [
            index for index, detection in enumerate(people) if detection.region.overlap(better[index]) < 0.8
        ]
        self._detect_again(photo, people, moved, [better[index] for index in moved])
        return self._settle(photo, people, every_head)

    def _detect_again(
        self,
        photo: ThunderPhoto,
        people: list[Detection],
        which: Sequence[int],
        regions: Sequence[CropRegion],
    ) -> None:
        """Replaces the detections `which` of `people` by those at `regions`, where they see as much."""
        for index, detection in zip(which, photo.detect(regions), strict=True):
            earlier = people[index]
            strayed = similarity(earlier.keypoints, detection.keypoints, tolerance=4.0) < 0.5
            if not detection.missed and detection.score > (1.0 if strayed else 0.9) * earlier.score:
                people[index] = detection.with_lower_body(earlier.keypoints)

    def _second_pass(
        self,
        photo: ThunderPhoto,
        proposals: Sequence[Proposal],
        found: Sequence[Detection],
        every_head: FloatArray,
    ) -> list[Detection]:
        """People at proposals where nobody was found, by a second pass without aim, at several sizes."""
        size = photo.size
        regions: list[CropRegion] = []
        for proposal in sorted(proposals, key=lambda p: -p.score):
            region = self._region_of(proposal, every_head).unaimed()
            taken = any(_is_taken(proposal, detection) for detection in found)
            if not taken and not any(region.resembles(other) for other in regions):
                regions.append(region)
        usual, scales = regions[: self.config.second_pass_proposals], self.config.second_pass_scales
        regions = [region.scaled(scale) for region in usual for scale in scales]
        detections = [detection for detection in photo.detect(regions) if self._passes(detection, size, 0.6)]
        people = [
            detection
            for detection in self._gate(detections, size, strictness=0.6)
            if all(similarity(detection.keypoints, o.keypoints) < self.config.same_person for o in found)
        ]
        for _ in range(2):
            regions = [self._upper_region(person.keypoints, every_head) for person in people]
            self._detect_again(photo, people, range(len(people)), regions)
        return self._settle(photo, people, every_head)[0]

    def _settle(
        self, photo: ThunderPhoto, people: list[Detection], every_head: FloatArray
    ) -> tuple[list[Detection], list[Detection]]:
        """The people that Thunder confirms, and what it took for people, after closer and wider crops."""
        unsure = [index for index, detection in enumerate(people) if detection.score < self.config.certain]
        for factor in (0.7, 1.4):
            self._detect_again(photo, people, unsure, [people[i].region.scaled(factor) for i in unsure])
        return self._confirm(photo, self._gate(people, photo.size), every_head)

    def _confirm(
        self, photo: ThunderPhoto, detections: list[Detection], every_head: FloatArray
    ) -> tuple[list[Detection], list[Detection]]:
        """Those that are surely people, or are detected in the mirrored crop too, and the others.

        What only resembles a person seldom does so in both. Mirrored is the same region and, for those that
        this refutes, the usual one.
        """
        unsure = [detection for detection in detections if detection.score < self.config.certain]
        refuted = self._refuted(
            unsure, photo.detect([detection.region for detection in unsure], mirrored=True)
        )
        usual = [self._upper_region(detection.keypoints, every_head) for detection in refuted]
        refuted = self._refuted(refuted, photo.detect(usual, mirrored=True))
        return [
            detection for detection in detections if all(detection is not other for other in refuted)
        ], refuted

    def _refuted(self, unsure: Sequence[Detection], mirrored: Sequence[Detection]) -> list[Detection]:
        """Those of whom a mirrored crop says too little."""
        return [
            detection
            for detection, other in zip(unsure, mirrored, strict=True)
            if (detection.score + _agreement(detection, other)) / 2 < self.config.minimum_person
        ]

    def _mean(self, detection: Detection, mirrored: Detection) -> Detection:
        """Both detections of one person together; the result keeps what the person was found by."""
        if mirrored.missed:
            return detection
        both = flip_mean(detection.keypoints, mirrored.keypoints, self.config.agreement)
        return replace(detection, keypoints=both)

    def _flip_averaged(
        self, photo: ThunderPhoto, detections: list[Detection], every_head: FloatArray
    ) -> list[Detection]:
        """Everybody's detection averaged with mirrored ones, as `flip_tta` says."""
        mirrored = photo.detect([detection.region for detection in detections], mirrored=True)
        pairs = list(zip(detections, mirrored, strict=True))
        means = [self._mean(*pair) for pair in pairs]
        always = self.config.flip_tta is True
        doubtful = [i for i, pair in enumerate(pairs) if always or not self._agree(*pair)]
        again = self._averaged(photo, [means[i] for i in doubtful], every_head)
        for index, mean in zip(doubtful, again, strict=True):
            means[index] = mean
        return means

    def _agree(self, detection: Detection, mirrored: Detection) -> bool:
        """Whether two detections are both sure of a person, and of where head and shoulders are."""
        here, there = detection.keypoints, mirrored.keypoints
        if mirrored.missed or min(detection.score, mirrored.score) < SURE:
            return False
        seen = np.maximum(here[UPPER, 2], there[UPPER, 2]) >= SEEN
        apart = np.linalg.norm(here[UPPER, :2] - there[UPPER, :2], axis=1)
        return bool(apart[seen].max() <= AGREED * upper_size(here))

    def _averaged(
        self, photo: ThunderPhoto, detections: list[Detection], every_head: FloatArray
    ) -> list[Detection]:
        """The mean with another pair of detections, from where each person was found.

        The first regions were placed by one detection; these see the photo and its mirror image alike.
        """
        regions = [self._upper_region(detection.keypoints, every_head) for detection in detections]
        looks = photo.detect_each([(region, flip) for region in regions for flip in (False, True)])
        again = [self._mean(*pair) for pair in zip(looks[::2], looks[1::2], strict=True)]
        return [
            detection if other.missed or other.score < 0.9 * detection.score else self._mean(detection, other)
            for detection, other in zip(detections, again, strict=True)
        ]

    def _gate(
        self, detections: Sequence[Detection], photo_size: tuple[int, int], strictness: float = 1.0
    ) -> list[Detection]:
        """Those with a head and a shoulder in the photo, best first, each person once."""
        passed = [detection for detection in detections if self._passes(detection, photo_size, strictness)]
        scores = np.array([detection.score for detection in passed])
        return [
            passed[i]
            for i in keep_best([detection.keypoints for detection in passed], scores, self.config.same_person)
        ]

    def _passes(self, detection: Detection, photo_size: tuple[int, int], strictness: float = 1.0) -> bool:
        config, keypoints = self.config, detection.keypoints
        return (
            not detection.missed
            and head_score(keypoints) >= strictness * config.minimum_head
            and shoulder_score(keypoints) >= strictness * config.minimum_shoulder
            and upper_size(keypoints) >= config.propose.least_head  # shoulders are wider than a head is high
            and _is_inside(keypoints, photo_size, config.head_inside)
        )

    # -- regions -------------------------------------------------------------------------------------

    def _region_of(self, proposal: Proposal, every_head: FloatArray) -> CropRegion:
        if np.isnan(proposal.head).any() and proposal.box is not None:
            box = proposal.box
            side = self.config.box_padding * max(box[2] - box[0], box[3] - box[1])
            x0, y0 = (box[:2] + box[2:] - side) / 2
            return CropRegion(x0, y0, side, proposal.head)
        return self._region_at(proposal.head, proposal.shoulders, proposal.size, every_head)

    def _upper_region(self, keypoints: FloatArray, every_head: FloatArray) -> CropRegion:
        shoulders = keypoints[SHOULDERS, :2].mean(axis=0)
        return self._region_at(head_centre(keypoints), shoulders, upper_size(keypoints), every_head)

    def _region_at(
        self, head: FloatArray, shoulders: FloatArray, size: float, every_head: FloatArray
    ) -> CropRegion:
        """Head and chest, or in a crowd little more than head and shoulders."""
        crowded = self._is_crowded(head, size, every_head)
        padding = self.config.crowd_padding if crowded else self.config.padding
        centre = head + 0.72 * (padding - 1) * (shoulders - head)
        side = padding * size
        return CropRegion(centre[0] - side / 2, centre[1] - side / 2, side, head)

    def _second_region(self, detection: Detection) -> CropRegion:
        """A second chance: wider where the region was narrow for that person, narrower where it had room.

        And narrower where Thunder went astray: there is too much else to see.
        """
        usual = (self.config.crowd_padding + self.config.padding) / 2
        narrow = detection.region.side < usual * upper_size(detection.keypoints)
        return detection.region.scaled(1.5 if narrow and not detection.missed else 0.65)

    def _is_crowded(self, head: FloatArray, size: float, every_head: FloatArray) -> bool:
        """Whether another head of about that size is near."""
        away = np.hypot(*(every_head[:, :2] - head).T) / size
        alike = (every_head[:, 2] > 0.5 * size) & (every_head[:, 2] < 2.5 * size)
        return bool(np.any((away > 0.4) & (away < 1.1) & alike))


def _heads(proposals: Sequence[Proposal]) -> FloatArray:
    """Known heads [K, 3]: x, y, size."""
    known = [[*p.head, p.size] for p in proposals if not np.isnan(p.head).any()]
    return np.array(known, np.float64).reshape(-1, 3)


def _without_owner(heads: Sequence[Proposal], detections: Sequence[Detection]) -> list[Proposal]:
    """Loose heads that belong to none of the people found, each head once."""
    taken = [(head_centre(detection.keypoints), upper_size(detection.keypoints)) for detection in detections]
    loose = []
    for head in heads:
        if all(np.hypot(*(head.head - place)) > 0.35 * max(head.size, size) for place, size in taken):
            taken.append((head.head, head.size))
            loose.append(head)
    return loose


def _agreement(detection: Detection, other: Detection) -> float:
    """The other detection's score if both see the same person, else 0."""
    return other.score if similarity(detection.keypoints, other.keypoints, tolerance=4.0) >= 0.5 else 0.0


def _is_taken(proposal: Proposal, detection: Detection) -> bool:
    """Whether a person who was found is likely the one proposed."""
    head, size = head_centre(detection.keypoints), upper_size(detection.keypoints)
    if not np.isnan(proposal.head).any():
        return bool(np.hypot(*(head - proposal.head)) < 0.6 * size)
    if proposal.box is None:
        return False
    low, high = proposal.box[:2], proposal.box[2:]
    return bool(np.all(low < head) and np.all(head < high) and (high - low).max() < 4 * size)


def _is_inside(keypoints: FloatArray, photo_size: tuple[int, int], margin: float) -> bool:
    """Whether the head's middle lies in the photo; a head cut in two at the border is nobody's portrait."""
    room = margin * upper_size(keypoints)
    head = head_centre(keypoints)
    return bool(np.all(head > room) and np.all(head < np.array(photo_size) - room))
