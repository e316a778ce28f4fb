"""Geometry of COCO-17 key points: how big a person is, where the head is, and whether two finds are one
person.

Key points are [17, 3]: x, y in pixels, score in 0..1. Everything here works for front, profile and rear
views: it never asks for a face, only for whichever head and shoulder points are there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from phq_data.arrays import FloatArray

HEAD = slice(0, 5)  # nose, eyes, ears
SHOULDERS = slice(5, 7)
HIPS = slice(11, 13)
UPPER = slice(0, 7)  # head and shoulders
MIRROR = [0, 2, 1, 4, 3, 6, 5, 8, 7, 10, 9, 12, 11, 14, 13, 16, 15]  # left and right exchanged

# How far annotators of one key point disagree, as a share of the person's scale (COCO's own constants).
SIGMAS = np.array(
    [.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089]
)  # fmt: skip


def head_score(keypoints: FloatArray) -> float:
    """Evidence for a head in keypoints [17, 3]: its two best scores' mean, so a profile's eye and ear do."""
    return float(np.sort(keypoints[HEAD, 2])[-2:].mean())


def shoulder_score(keypoints: FloatArray) -> float:
    """Evidence for shoulders in keypoints [17, 3]: the better score, so that a profile is enough."""
    return float(keypoints[SHOULDERS, 2].max())


def head_centre(keypoints: FloatArray) -> FloatArray:
    """Score-weighted mean [2] of the head's points in keypoints [17, 3], pixels."""
    return np.average(keypoints[HEAD, :2], axis=0, weights=keypoints[HEAD, 2] + 1e-3)


def upper_size(keypoints: FloatArray) -> float:
    """Size of head and shoulders in keypoints [17, 3], pixels: about a frontal shoulder breadth.

    The largest of several measures, each with its usual ratio to the shoulder breadth, because any of them
    shrinks in some view: shoulder breadth in profile, head to shoulders from above, eyes to ears from behind.
    """
    points = keypoints[:, :2]
    middle = points[SHOULDERS].mean(axis=0)
    head = head_centre(keypoints)
    breadth = np.linalg.norm(points[5] - points[6])
    neck = np.linalg.norm(head - middle)
    ears = np.linalg.norm(points[3] - points[4])
    nose = max(np.linalg.norm(points[0] - points[3]), np.linalg.norm(points[0] - points[4]))
    from_head = [2.3 * ears, 2.0 * nose]
    head_trust = [keypoints[3:5, 2].min(), min(keypoints[0, 2], keypoints[3:5, 2].max())]
    from_shoulders = [breadth, 1.5 * neck]
    shoulder_trust = [keypoints[SHOULDERS, 2].min(), min(shoulder_score(keypoints), head_score(keypoints))]
    head_sizes = [m for m, t in zip(from_head, head_trust, strict=True) if t > 0.2]
    sizes = [m for m, t in zip(from_shoulders, shoulder_trust, strict=True) if t > 0.2]
    if head_sizes:
        # In a crowd the shoulders are often the neighbours'. A head spans a third of one's own in any view.
        sizes = [min(size, 3.0 * max(head_sizes)) for size in sizes]
    return float(max([*sizes, *head_sizes] or [*from_shoulders, *from_head]))


def similarity(first: FloatArray, second: FloatArray, tolerance: float = 2.0) -> float:
    """How much two sets of keypoints [17, 3] look like one person, 0..1: COCO's object keypoint similarity.

    Only head and shoulders count, each weighted by the lower of its two scores, because that is what a
    portrait is about and what overlapping people do not share. `tolerance` widens the annotators'
    disagreement: two detections of one person differ by more.
    """
    weight = np.minimum(first[UPPER, 2], second[UPPER, 2])
    if weight.sum() < 1e-6:
        return 0.0
    # Between the two, so that a tiny false find inside a large person is not swallowed, nor a large one by
    # it.
    scale = np.sqrt(max(upper_size(first), 1.0) * max(upper_size(second), 1.0)) * 2.2
    distance = np.linalg.norm(first[UPPER, :2] - second[UPPER, :2], axis=1)
    likeness = np.exp(-(distance**2) / (2 * (2 * tolerance * SIGMAS[UPPER] * scale) ** 2))
    return float((likeness * weight).sum() / weight.sum())


def flip_mean(here: FloatArray, there: FloatArray, agreement: float) -> FloatArray:
    """Keypoints [17, 3] of one person found in a crop and in its mirror image: the mean of what both see at
    one place, up to `agreement` of the shoulder breadth apart, and `here` where they see different people.

    Elsewhere the surer one is right, for the left and the right of a pair alike: two shoulders that the
    detections exchange would meet in the middle.
    """
    if similarity(here, there, tolerance=4.0) < 0.5:
        return here
    apart = np.linalg.norm(here[:, :2] - there[:, :2], axis=1)
    far = apart > agreement * upper_size(here)
    far |= far[MIRROR]
    surer = there[:, 2] + there[MIRROR, 2] > here[:, 2] + here[MIRROR, 2]
    share = np.where(far, surer, there[:, 2] / np.maximum(here[:, 2] + there[:, 2], 1e-6))[:, None]
    places = (1 - share) * here[:, :2] + share * there[:, :2]
    scores = (here[:, 2] + there[:, 2]) / 2
    return np.concatenate([places, scores[:, None]], axis=1)


def person_box(keypoints: FloatArray, photo_size: tuple[int, int], minimum_score: float = 0.2) -> FloatArray:
    """Box [4] (x0, y0, x1, y1) around the seen ones of keypoints [17, 3], with room for the scalp, pixels."""
    seen = keypoints[keypoints[:, 2] >= minimum_score, :2]
    if len(seen) < 2:
        seen = keypoints[:, :2]
    room = 0.35 * upper_size(keypoints)
    low, high = seen.min(axis=0) - room, seen.max(axis=0) + room
    limit = np.array(photo_size, np.float64)
    return np.concatenate([np.clip(low, 0, limit), np.clip(high, 0, limit)])


def box_overlap(first: FloatArray, second: FloatArray) -> float:
    """Intersection over union of two boxes [4] (x0, y0, x1, y1)."""
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    areas = float(np.prod(first[2:] - first[:2]) + np.prod(second[2:] - second[:2]))
    return both / max(areas - both, 1e-9)


def keep_best(
    people: list[FloatArray],  # key points [17, 3]
    scores: NDArray[np.float64],  # [P]
    threshold: float,
) -> list[int]:
    """Indices of the people that remain, best first, when of every similar pair only the better one stays."""
    kept: list[int] = []
    for index in np.argsort(-scores, kind="stable"):
        if not any(_is_one(people[index], people[other], threshold) for other in kept):
            kept.append(int(index))
    return kept


def _is_one(first: FloatArray, second: FloatArray, threshold: float) -> bool:
    """Whether two finds are one person: alike, or with one head, which nobody shares."""
    apart = np.hypot(*(head_centre(first) - head_centre(second)))
    return (
        bool(apart < 0.2 * min(upper_size(first), upper_size(second)))
        or similarity(first, second) > threshold
    )
