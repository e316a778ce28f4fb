from __future__ import annotations

from collections.abc import Sequence

import bodyworks as works
import numpy as np
import pytest

from phq_data import records
from phq_data.bodies import JOINT_NAMES
from phq_data.config import DetectConfig, FitConfig
from phq_data.images.codecs import PhotoError
from phq_data.models.protocols import BodyFit, DetectedPerson, FitRequest
from phq_data.records import Fit, Person, Photo
from phq_data.stages.detect import detect
from phq_data.stages.fit import fit

PHOTOS = [works.photo_record(name, width=64, height=48) for name in ("a", "b", "c")]


class Counting:
    """Finds as many people as the photo's first pixel says."""

    fingerprint = "counting/1"

    def detect(self, image: np.ndarray) -> list[DetectedPerson]:
        return [
            DetectedPerson(np.array([i, 0.0, i + 10.0, 10.0]), np.full((17, 3), 0.5), 0.5 + i / 10)
            for i in range(int(image[0, 0, 0]))
        ]


def open_counted(photo: Photo) -> np.ndarray:
    if photo.photo_id == "c":
        raise PhotoError("corrupt", "damaged")
    return np.full((48, 64, 3), 2 if photo.photo_id == "a" else 0, np.uint8)


def test_detect_accounts_for_every_photo() -> None:
    ticks: list[int] = []
    result = detect(PHOTOS, open_counted, Counting(), DetectConfig(), tick=lambda: ticks.append(1))
    table = records.to_table(Person, result.records)
    assert table.num_rows == 2 and [row.order for row in result.records] == [0, 1]
    assert [(o.item, o.outcome, o.reason) for o in result.outcomes] == [
        ("a", "kept", ""), ("b", "rejected", "no_person"), ("c", "failed", "corrupt"),
    ]  # fmt: skip
    assert result.outcomes[0].outputs == tuple(row.person_id for row in result.records)
    assert result.records[0].photo_width == 64 and len(ticks) == 3
    again = detect(PHOTOS, open_counted, Counting(), DetectConfig())
    assert again.records == result.records


class Fixed:
    """A fitter that gives the residuals it was told to, and remembers how it was called."""

    fingerprint = "fixed/1"
    body = "anny"

    def __init__(self, residuals: list[float], needs_image: bool = False) -> None:
        self.residuals, self.needs_image = residuals, needs_image
        self.batches: list[list[FitRequest]] = []

    def fit(self, people: Sequence[FitRequest]) -> list[BodyFit]:
        self.batches.append(list(people))
        return [
            BodyFit(
                focal=500.0,
                principal=np.array([32.0, 24.0]),
                root_orient=np.zeros(3),
                translation=np.array([0.0, 0.0, 3.0]),
                neck_head_pose=np.zeros(6),
                shape=np.zeros(4),
                joints=np.ones((len(JOINT_NAMES), 3)),
                residuals=np.full(17, np.nan),
                residual=self.residuals.pop(0),
                hypotheses=np.array([[0.0, 1.0], [3.0, 2.0]]),
                converged=True,
            )
            for _ in people
        ]


def person(name: str, photo: str, head: float = 0.9, shoulder: float = 0.9) -> Person:
    points = np.full((17, 3), 5.0)
    points[:, 2] = 0.0
    points[4, 2], points[6, 2] = head, shoulder
    return works.person_record(points, person_id=name, photo_id=photo, box=np.array([0.0, 0, 10, 10]))


def test_fit_gates_and_batches() -> None:
    people = [person("p0", "a"), person("p1", "a", head=0.1), person("p2", "b", shoulder=0.1),
              person("p3", "b"), person("p4", "b"), person("p5", "b")]  # fmt: skip
    fitter = Fixed([0.1, 0.9, float("nan"), 0.2])
    ticks: list[int] = []
    config = FitConfig(max_residual=0.5, min_head_score=0.2, min_shoulder_score=0.2)
    result = fit(people, fitter, config, tick=lambda: ticks.append(1))
    assert [(o.item, o.outcome, o.reason) for o in result.outcomes] == [
        ("p0", "kept", ""), ("p1", "rejected", "no_head"), ("p2", "rejected", "no_shoulders"),
        ("p3", "rejected", "bad_fit"), ("p4", "rejected", "no_fit"), ("p5", "kept", ""),
    ]  # fmt: skip
    assert len(fitter.batches) == 1 and len(fitter.batches[0]) == 4 and len(ticks) == 6
    assert records.to_table(Fit, result.records).num_rows == 2
    assert result.outcomes[3].evidence["residual"] == 0.9
    assert [row.person_id for row in result.records] == ["p0", "p5"]


def test_fitters_that_look_get_their_photo_opened_once() -> None:
    opened: list[str] = []

    def open_photo(photo: Photo) -> np.ndarray:
        opened.append(photo.photo_id)
        return open_counted(photo)

    people = [person("p0", "a"), person("p1", "c"), person("p2", "a")]
    fitter = Fixed([0.1, 0.1], needs_image=True)
    result = fit(people, fitter, FitConfig(), photos=PHOTOS, open_photo=open_photo)
    assert opened == ["a", "c"]
    assert all(request.image is not None for request in fitter.batches[0])
    assert [o.outcome for o in result.outcomes] == ["kept", "failed", "kept"]
    with pytest.raises(ValueError, match="fixed/1"):
        fit(people, fitter, FitConfig())


def test_nobody_to_fit() -> None:
    assert fit([], Fixed([]), FitConfig()).outcomes == []
    result = fit([person("p", "a", head=0.0)], Fixed([]), FitConfig())
    assert result.records == [] and result.outcomes[0].reason == "no_head"


class Cutting(Fixed):
    """A fitter that cuts people out first."""

    def prepare(self, people: Sequence[FitRequest]) -> list[tuple[int, FitRequest]]:
        assert len({id(person.image) for person in people}) == 1 and people[0].image is not None
        return [(int(people[0].image.sum()), person) for person in people]

    def fit_prepared(self, people: Sequence[tuple[int, FitRequest]]) -> list[BodyFit]:
        return self.fit([request for _, request in people])


def test_fitters_that_cut_people_out_get_those_of_all_photos_at_once() -> None:
    people = [person("p0", "a"), person("p1", "c"), person("p2", "b"), person("p3", "a")]
    fitter = Cutting([0.01, 0.02, 0.03], needs_image=True)
    result = fit(people, fitter, FitConfig(), photos=PHOTOS, open_photo=open_counted)
    assert len(fitter.batches) == 1 and len(fitter.batches[0]) == 3
    assert [o.outcome for o in result.outcomes] == ["kept", "failed", "kept", "kept"]
    # Photo a's two people come first: each got the residual that was made for it.
    assert [row.person_id for row in result.records] == ["p0", "p2", "p3"]
    assert [row.residual for row in result.records] == [0.01, 0.03, 0.02]


class Batching(Counting):
    """Takes two photos at a time."""

    batch = 2

    def __init__(self) -> None:
        self.passes: list[int] = []

    def detect_batch(self, images: Sequence[np.ndarray]) -> list[list[DetectedPerson]]:
        self.passes.append(len(images))
        return [self.detect(image) for image in images]


def test_batches_of_photos_give_what_single_photos_give() -> None:
    photos = [works.photo_record(name, width=64, height=48) for name in ("a", "c", "b", "a", "c")]
    detector = Batching()
    found = detect(photos, open_counted, detector, DetectConfig())
    assert detector.passes == [1, 2]  # c cannot be opened, and alone it makes no pass
    alone = detect(photos, open_counted, Counting(), DetectConfig())
    assert found.records == alone.records
    assert [(o.item, o.outcome) for o in found.outcomes] == [(o.item, o.outcome) for o in alone.outcomes]
