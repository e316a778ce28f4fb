"""Answers of other tools into the log: verdicts as decisions, changed labels as corrections.

What the reviewer said before and still says is not written again, so a file can be imported as often as one
likes. A number of the label that was left as it was exported changes nothing: labels keep all their digits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from phq_data import camera
from phq_data.interchange.annotations import NUMBERS, numbers_of
from phq_data.review import corrections
from phq_data.review.correcting import Corrector
from phq_data.review.corrections import NewCorrection, SeenPortrait
from phq_data.review.decisions import ulid
from phq_data.review.records import StoredLabel
from phq_data.review.reviewers import checked_name
from phq_data.review.store import NewDecision, Refusal, Store
from phq_data.review.tool_answers import Answer
from phq_data.workspace import Workspace

SMALLEST = 0.01
"""Degrees by which a number must differ to be a change: tools keep fewer digits than labels."""


@dataclass(frozen=True)
class Taken:
    """What became of the answers of a file."""

    decisions: int  # new in the log
    corrections: int
    as_before: int  # answers that say nothing new
    refused: tuple[Refusal, ...]


def take(workspace: Workspace, store: Store, answers: Sequence[Answer], reviewer: str, client: str) -> Taken:
    """Save the answers of one reviewer; `client` names the tool. Raises `StoreError`, `ReviewError`."""
    reviewer = checked_name(reviewer)
    decided = _decisions(store, answers, reviewer, client)
    seen = Corrector(workspace, store).seen(one.portrait_id for one in answers if one.numbers)
    corrected = _corrections(store, answers, seen, reviewer, client)
    saved = store.record(list(decided.values()), reviewer)
    made = corrections.record(store, list(corrected.values()), reviewer, seen)
    new = {*decided, *corrected}
    names = {one.decision_id: one.portrait_id for one in decided.values()}
    names |= {one.correction_id: one.portrait_id for one in corrected.values()}
    refused = tuple(Refusal(names[one.decision_id], one.why) for one in (*saved.refused, *made.refused))
    as_before = sum(one.portrait_id not in new for one in answers)
    return Taken(len(saved.saved), len(made.saved), as_before, refused)


def _decisions(
    store: Store, answers: Sequence[Answer], reviewer: str, client: str
) -> Mapping[str, NewDecision]:
    """Verdicts that the reviewer's standing ones do not say already, by portrait."""
    found = {}
    for one in answers:
        if one.verdict is None:
            continue
        mine = [said for said in store.standings(one.portrait_id) if said.reviewer == reviewer]
        if not mine or mine[0].verdict != one.verdict:
            found[one.portrait_id] = NewDecision(
                ulid(), one.portrait_id, one.verdict, one.reason, one.note or None, client=client
            )
    return found


def _corrections(
    store: Store, answers: Sequence[Answer], seen: Mapping[str, SeenPortrait], reviewer: str, client: str
) -> Mapping[str, NewCorrection]:
    """Labels with other numbers than they were exported with, by portrait."""
    found = {}
    for one in answers:
        portrait = seen.get(one.portrait_id)
        if portrait is None or portrait.label is None:
            continue
        wanted = changed_label(portrait.label, one.numbers)
        if wanted is None or wanted in _standing(store, portrait.person_id, reviewer):
            continue
        found[one.portrait_id] = NewCorrection(
            ulid(), "correct", one.portrait_id, wanted, note=one.note, client=client
        )
    return found


def changed_label(label: StoredLabel, numbers: Mapping[str, float]) -> StoredLabel | None:
    """`label` with the numbers that differ, None where none does. The window and the intrinsics stay."""
    before = numbers_of(label.camera, label.pose)
    other = {
        name: value
        for name, value in numbers.items()
        if abs((value - before[name] + 180) % 360 - 180) > SMALLEST
    }
    if not other:
        return None
    matrix, intrinsics = camera.from_label(np.asarray(label.camera))
    angles = list(map(float, camera.angles(matrix)))
    pose = list(label.pose)
    for name, value in other.items():
        place = NUMBERS.index(name)
        if place < 3:
            angles[place] = float(np.radians(value))
        else:
            pose[place - 3] = float(np.radians(value))
    moved = label.camera
    if any(name in other for name in NUMBERS[:3]):
        moved = tuple(map(float, camera.to_label(camera.from_angles(*angles), intrinsics)))
    return StoredLabel(moved, tuple(pose), label.window)


def _standing(store: Store, person_id: str, reviewer: str) -> list[StoredLabel]:
    """The label that the reviewer's last correction of a person gives; none where it was taken back."""
    log = [one for one in corrections.of_person(store, person_id) if one.reviewer == reviewer]
    last = log[-1] if log else None
    return [StoredLabel.from_json(last.to_label)] if last is not None and last.to_label else []
