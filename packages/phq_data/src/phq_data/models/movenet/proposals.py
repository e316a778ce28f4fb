"""Where people may be: MultiPose on the photo in several sizes.

MultiPose recognises people between about a tenth of its input and all of it. A small copy of the
photo is for people larger than the frame, a larger one for people in the distance. Two kinds of proposals
come out: people, and loose heads (see `movenet_heads`), which in a crowd are all that is left of many
people.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from phq_data.arrays import FloatArray
from phq_data.models import onnx
from phq_data.models.keypoints import (
    SHOULDERS,
    box_overlap,
    head_centre,
    head_score,
    shoulder_score,
    similarity,
    upper_size,
)
from phq_data.models.movenet.decode import decode_multipose
from phq_data.models.movenet.heads import loose_heads


@dataclass(frozen=True)
class ProposeConfig:
    """Settings of the proposals. Lengths are pixels of the photo unless they say network pixels."""

    smallest_head: float = 40.0
    """Pixels of the photo. Passes are made fine enough for people with a head of this size."""
    least_head: float = 26.0
    """Smaller heads are left out where a pass happens to see them."""
    head_on_network: float = 10.0
    """Height of that smallest head in network pixels: what MultiPose still recognises."""
    base_long_side: int = 384
    """The photo's long side in network pixels in the pass that every photo gets."""
    tight_long_side: int = 192
    """A second, small pass over every photo, for people larger than the frame."""
    longest_side: int = 1024
    """Network pixels; bounds time and memory for very large photos."""
    largest_person: float = 330.0
    """Network pixels; larger people are left to the smaller passes, which see them whole."""
    minimum_centre: float = 0.10
    """Centre score of a person."""
    minimum_person: float = 0.04
    """MultiPose's person score below which nothing is proposed. Tight portraits and rear views score low."""
    minimum_loose_head: float = 0.30
    """Best score in a group of nose, eyes and ears that MultiPose gave to nobody."""
    people_per_look: int = 40
    same_person: float = 0.45
    """Similarity of head and shoulders above which two proposals are one person."""


@dataclass(frozen=True)
class Proposal:
    """A place in the photo worth a crop of its own, in photo pixels."""

    score: float
    head: FloatArray  # [2] x, y; nan if MultiPose saw no head
    shoulders: FloatArray  # [2] x, y of their middle
    size: float  # breadth of the shoulders
    box: FloatArray | None = None  # [4]; None for a loose head
    keypoints: FloatArray | None = None  # [17, 3]; None for a loose head


@dataclass(frozen=True)
class Proposals:
    """All that MultiPose saw, each list best first."""

    people: list[Proposal]  # each person once
    heads: list[Proposal]  # loose heads, among them those of the people


def propose(photo: Image.Image, config: ProposeConfig, threads: int = 1, device: str = "cpu") -> Proposals:
    """Proposals for one photo."""
    people: list[Proposal] = []
    heads: list[Proposal] = []
    for long_side in network_sides(*photo.size, config):
        found, loose = _propose_at(photo, long_side, config, threads, device)
        people.extend(found)
        heads.extend(loose)
    people.sort(key=lambda proposal: -proposal.score)
    heads.sort(key=lambda proposal: -proposal.score)
    return Proposals(_distinct(people, config.same_person), heads)


def network_sides(width: int, height: int, config: ProposeConfig) -> list[int]:
    """Long sides in network pixels at which MultiPose sees a photo of that size, coarse to fine."""
    needed = max(width, height) * config.head_on_network / config.smallest_head
    finest = min(32 * round(needed / 32), config.longest_side)
    sides = [config.tight_long_side, config.base_long_side]
    return [*sides, finest] if finest > 1.2 * config.base_long_side else sides


def _propose_at(
    photo: Image.Image, long_side: int, config: ProposeConfig, threads: int, device: str
) -> tuple[list[Proposal], list[Proposal]]:
    """People and loose heads that MultiPose sees in the photo scaled to `long_side`."""
    scale = long_side / max(photo.size)
    width, height = (max(1, round(side * scale)) for side in photo.size)
    small = photo.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
    canvas = np.zeros((-(-height // 32) * 32, -(-width // 32) * 32, 3), np.uint8)
    canvas[:height, :width] = np.asarray(small)
    maps = onnx.run("movenet-multipose", {"image": canvas[None]}, threads, device)
    found = decode_multipose(maps, config.people_per_look, config.minimum_centre)

    sides = np.array([canvas.shape[1] / width * photo.size[0], canvas.shape[0] / height * photo.size[1]])
    people = []
    for keypoints, box, score in zip(found.keypoints, found.boxes, found.scores, strict=True):
        corners = box.astype(np.float64)[[1, 0, 3, 2]] * np.tile(sides, 2)
        length = max(corners[2] - corners[0], corners[3] - corners[1]) * scale
        too_large = length > config.largest_person and long_side > config.tight_long_side
        if score < config.minimum_person or length < 2 * config.head_on_network or too_large:
            continue
        points = np.concatenate([keypoints[:, 1::-1] * sides, keypoints[:, 2:]], axis=1).astype(np.float64)
        sees_head = min(head_score(points), shoulder_score(points)) > 0.2
        head = head_centre(points) if sees_head else np.full(2, np.nan)
        if sees_head and upper_size(points) < 0.8 * config.least_head:
            continue  # the shoulders, wider than a head is high, already measure less
        shoulders = points[SHOULDERS, :2].mean(axis=0)
        people.append(Proposal(float(score), head, shoulders, upper_size(points), corners, points))

    heads = []
    # The small pass is for people larger than the frame: there is no crowd of those.
    if long_side > config.tight_long_side:
        for x, y, size, score in loose_heads(maps, config.minimum_loose_head, config.largest_person / 12):
            head = np.array([x, y]) / scale
            if size / scale >= config.least_head:
                # Upright, the shoulders are a good half of their breadth below the head's middle.
                shoulders = head + np.array([0, 0.55 * size / scale])
                heads.append(Proposal(float(score), head, shoulders, float(size / scale)))
    return people, heads


def _distinct(people: Sequence[Proposal], same_person: float) -> list[Proposal]:
    """The first of all proposals that are one person."""
    kept: list[Proposal] = []
    for person in people:
        if not any(_is_same(person, other, same_person) for other in kept):
            kept.append(person)
    return kept


def _is_same(first: Proposal, second: Proposal, same_person: float) -> bool:
    assert first.box is not None and second.box is not None
    assert first.keypoints is not None and second.keypoints is not None
    if box_overlap(first.box, second.box) > 0.7:
        return True
    return similarity(first.keypoints, second.keypoints) > same_person
