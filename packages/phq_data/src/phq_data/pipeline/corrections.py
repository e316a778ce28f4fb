"""Which corrected labels hold, and those that a build works with.

The label of a person in a photo may be corrected by several reviewers. The standing correction of a reviewer
is the last one that an `undo` has not taken back. One alone holds; of several that agree, the latest; those
that do not agree are disputed, and none of them is applied until a lead's (`ADJUDICATION`) settles it.

`corrections.json` holds what the last build found to hold, by part of the plan: every part of a build, and
whoever looks whether parts are up to date, goes by it and not by the log, which grows meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from phq_data import config as settings
from phq_data import typed_json
from phq_data.foreign import parse_json
from phq_data.records import Correction
from phq_data.stages.relabel import AppliedCorrection, PlacedLabel, RelabelError
from phq_data.workspace import Workspace, WorkspaceError

KINDS = ("correct", "undo")
ADJUDICATION = "adjudication"
"""How the client of an adjudication begins. The service lets only leads write it."""
AGREE_DEGREES = 10.0
"""Rotation between two corrections up to which they agree."""
AGREE_PLACE, AGREE_SCALE = 0.1, 1.2
"""The same for the place of the neck, in sides of the window, and for the ratio of the scales."""
FILE = "corrections.json"


@dataclass(frozen=True)
class Settled:
    """What the corrections of one person come to."""

    person_id: str
    state: Literal["holds", "disputed"]
    standing: tuple[Correction, ...]  # one a corrector, by time
    correction: Correction | None  # the one that holds


@dataclass(frozen=True)
class Applied:
    """The corrections that a build works with, by person."""

    holding: Mapping[str, AppliedCorrection] = field(default_factory=dict)

    def of(self, workspace: Workspace, part: int) -> tuple[AppliedCorrection, ...]:
        """Those of the photos of a part, in the order of the persons' ids."""
        if not self.holding:
            return ()
        photos = photos_of(workspace, part)
        return tuple(one for _, one in sorted(self.holding.items()) if one.photo_id in photos)

    def digest(self, workspace: Workspace, part: int) -> str:
        """Enters the fingerprint of what is made with them; "" where there are none."""
        found = self.of(workspace, part)
        return settings.digest([asdict(one) for one in found]) if found else ""

    def ids(self) -> dict[str, str]:
        """person_id -> correction_id."""
        return {person: one.correction_id for person, one in self.holding.items()}


def settled(log: Iterable[Correction]) -> dict[str, Settled]:
    """person_id -> what holds, from a log in any order; an id that is given twice counts once."""
    return {person: _settle(person, found) for person, found in sorted(_standing(log).items())}


def agree(one: Correction, other: Correction) -> bool:
    """Are two corrected labels the same within what people can see?"""
    a, b = (AppliedCorrection.of(each).label for each in (one, other))
    turn = a.on_sphere[:3, :3].T @ b.on_sphere[:3, :3]
    degrees = np.degrees(np.arccos(np.clip((np.trace(turn) - 1) / 2, -1, 1)))
    apart = np.linalg.norm(a.to_photo(np.zeros((1, 3))) - b.to_photo(np.zeros((1, 3))))
    scales = [each.focal / float(each.neck[2]) for each in (a, b)]
    return bool(
        degrees <= AGREE_DEGREES
        and apart <= AGREE_PLACE * min(a.window.side, b.window.side)
        and max(scales) <= AGREE_SCALE * min(scales)
    )


def take(workspace: Workspace) -> Applied:
    """Settle the corrections of the workspace's table and write down what holds: the start of a build."""
    log = workspace.records(Correction)
    found = {
        person: AppliedCorrection.of(one.correction)
        for person, one in settled(log).items()
        if one.correction is not None
    }
    if found or workspace.exists(FILE):
        data = json.dumps([asdict(one) for one in found.values()], indent=1).encode()
        if not workspace.exists(FILE) or workspace.read_bytes(FILE) != data:
            workspace.write_bytes(FILE, data)
    return Applied(found)


def applied(workspace: Workspace) -> Applied:
    """What the last build took. Raises `WorkspaceError` when its file is damaged."""
    if not workspace.exists(FILE):
        return Applied()
    try:
        written = parse_json(workspace.read_bytes(FILE))
        if not isinstance(written, list):
            raise TypeError("it is no list")
        found = [_read(one) for one in written]
    except (ValueError, TypeError, KeyError, AttributeError, RelabelError) as error:
        raise WorkspaceError(
            f"{workspace.path(FILE)} is damaged ({error}): `phq build` writes it anew from tables/corrections"
        ) from error
    return Applied({one.person_id: one for one in found})


def photos_of(workspace: Workspace, part: int) -> set[str]:
    """The photos of a part of the plan."""
    return set(workspace.read_part("plan", part, ["sha256"])["sha256"].to_pylist())


def told(workspace: Workspace) -> list[str]:
    """What became of the corrections, in lines for people."""
    if not workspace.parts("tables/corrections"):
        return []
    found = settled(workspace.records(Correction)).values()
    disputed = sum(one.state == "disputed" for one in found)
    taken = applied(workspace)
    there = sum(len(taken.of(workspace, part)) for part in workspace.parts("plan"))
    lines = [f"{there:,} labels corrected by people are applied"] if there else []
    if disputed:
        lines.append(f"{disputed:,} labels have corrections that do not agree; they wait for a lead")
    if lost := len(taken.holding) - there:
        lines.append(f"{lost:,} corrections are of photos that the workspace does not have")
    return lines


def _standing(log: Iterable[Correction]) -> dict[str, dict[str, Correction]]:
    """person_id -> corrector -> the correction that stands."""
    unique = {one.correction_id: one for one in log}
    stacks: dict[tuple[str, str], list[Correction]] = {}
    for one in sorted(unique.values(), key=_order):
        stack = stacks.setdefault((one.person_id, one.reviewer), [])
        if one.kind == "correct":
            stack.append(one)
        else:
            push_undo(stack, one.undoes)
    found: dict[str, dict[str, Correction]] = {}
    for (person, reviewer), stack in stacks.items():
        if stack:
            found.setdefault(person, {})[reviewer] = stack[-1]
    return found


def push_undo(stack: list[Any], undoes: str | None) -> bool:
    """Take a correction off the stack of those of one corrector: the named or the last; was it there?"""
    if undoes is None:
        return bool(stack) and stack.pop() is not None
    before = len(stack)
    stack[:] = [one for one in stack if one.correction_id != undoes]
    return len(stack) < before


def _settle(person: str, standing: Mapping[str, Correction]) -> Settled:
    listed = tuple(sorted(standing.values(), key=_order))
    ruled = [one for one in listed if one.client.startswith(ADJUDICATION)]
    latest = (ruled or listed)[-1]
    if ruled or all(agree(one, latest) for one in listed[:-1]):
        return Settled(person, "holds", listed, latest)
    return Settled(person, "disputed", listed, None)


def _order(one: Correction) -> tuple[Any, str]:
    return one.time, one.correction_id


def _read(values: object) -> AppliedCorrection:
    found = typed_json.read(AppliedCorrection, values)
    PlacedLabel.of(found.camera, found.pose, found.window)
    return found
