"""Two small stages for tests of the engine, which knows no stage from another."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from phq_data import records
from phq_data.records import Person, Photo, PlanItem
from phq_data.stages.base import Outcome, Stage, StageResult


@dataclass
class Toys:
    """`read` makes photos of planned files, `look` finds one person a photo; both do as they are told."""

    calls: list = field(default_factory=list)  # the stages that ran, in order
    raises: dict = field(default_factory=dict)  # item -> what its work raises out of the stage
    fails: dict = field(default_factory=dict)  # item -> whether another try may help
    forgets: set = field(default_factory=set)  # items that get no outcome
    version: int = 1
    use: Callable[[], None] = lambda: None  # lets the engine run today's `stages`

    @property
    def stages(self):
        read = Stage("read", "read", self.version, Photo, (PlanItem,), "item", self._settings, self._read)
        look = Stage("look", "look", 1, Person, (Photo,), "photo_id", lambda *_: [], self._look)
        return (read, look)

    @staticmethod
    def _settings(config, models):
        return [config.ingest]

    def _read(self, inputs, context):
        self.calls.append("read")
        made, outcomes = [], []
        for one in inputs.of(PlanItem):
            context.tick()
            if one.item in self.raises:
                raise self.raises[one.item]
            if one.item in self.forgets:
                continue
            try:
                data = context.read(one.key)
            except OSError as error:
                outcomes.append(Outcome.failure(one.item, error, retryable=True))
                continue
            if one.item in self.fails:
                retryable = self.fails[one.item]
                outcomes.append(Outcome.failure(one.item, ValueError("no"), retryable=retryable))
                continue
            made.append(photo(one, data))
            outcomes.append(Outcome(one.item, "kept", outputs=(one.item,)))
        return StageResult(made, outcomes)

    def _look(self, inputs, context):
        self.calls.append("look")
        photos = inputs.of(Photo)
        people = [person(one) for one in photos]
        return StageResult(people, [Outcome(one.photo_id, "rejected", "no_person") for one in photos])


def planned(name):
    """A file of the plan whose bytes the workspace has under photos/."""
    return PlanItem(
        item=name, provider="folder", source="test", uri=f"file:///{name}.jpg", size=1, mtime_ns=1,
        sha256="0" * 64, key=f"photos/{name}", error="", message="",
    )  # fmt: skip


def photo(one, data):
    return Photo(
        **one.provenance(), photo_id=one.item, key=one.key, width=len(data), height=1, format="JPEG",
        bytes=len(data), orientation=1, color="sRGB", phash=0,
    )  # fmt: skip


def person(one):
    return Person(
        person_id=f"person of {one.photo_id}", photo_id=one.photo_id, detector="toy", order=0,
        box=np.zeros(4), keypoints=np.zeros((17, 3)), score=1.0, photo_width=one.width, photo_height=1,
    )  # fmt: skip


def write_plan(workspace, part, names, **changes):
    """Plan part `part` with the files of these names, which hold their name."""
    items = [dataclasses.replace(planned(name), **changes) for name in names]
    for name in names:
        workspace.write_bytes(f"photos/{name}", name.encode())
    workspace.write_part("plan", part, records.to_table(PlanItem, items), "test")
