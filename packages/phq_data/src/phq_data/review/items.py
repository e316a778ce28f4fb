"""The index of the workspace's portraits in the store: what can be reviewed, and what there is to know of it.

The index follows the workspace: parts that did not change are passed over. A portrait that a new build
replaced (its id is a digest of what people see) stays in the log with its decisions but is asked and counted
no more, and the table `replaced` says so; a portrait that did not change keeps its id and its decisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from phq_data.models.protocols import COCO_KEYPOINTS
from phq_data.review import rules
from phq_data.review.store import Store, chunks, now_ms, read_policy, refresh_items, standing_of
from phq_data.review.tables import ITEMS, LEASES, PARTS, REPLACED
from phq_data.workspace import Workspace

ASKED, SCREENED_OUT, DUPLICATE = 0, 1, 2
"""Pools: what the screening kept, what it rejected, near-duplicates of what it kept."""

_PORTRAIT = [
    "portrait_id", "photo_id", "person_id", "yaw", "pitch", "roll", "window", "size", "effective_resolution",
    "padding", "landmark_error", "shoulder_error", "keypoints", "crop_mode", "models",
]  # fmt: skip
_SCREEN = [
    "portrait_id", "kept", "reasons", "blur", "exposure_low", "exposure_high", "contrast", "effective_resolution",
    "padding", "landmark_error", "shoulder_error", "mask_share", "overlap", "error_probability",
]  # fmt: skip
_PHOTO = [
    "photo_id", "key", "width", "height", "uri", "provider", "source", "title", "author", "author_url",
    "license", "license_url", "page_url", "exif_time",
]  # fmt: skip
_SHOULDERS = (COCO_KEYPOINTS.index("left_shoulder"), COCO_KEYPOINTS.index("right_shoulder"))


@dataclass(frozen=True)
class Synced:
    """What following the workspace changed."""

    added: int
    replaced: int
    total: int  # active items


def sync(store: Store, workspace: Workspace) -> Synced:
    """Bring the index up to date with the workspace's tables.

    Raises `WorkspaceError` for damaged tables, `StoreError`; then the index stays as it was.
    """
    with store.database.read() as connection:
        seen = {row.part: row.content for row in connection.execute(sa.select(PARTS))}
    twins = _twins(workspace)
    present = {part: _content(workspace, part, twins) for part in workspace.parts("tables/portraits")}
    changed = [part for part, content in present.items() if seen.get(part) != content]
    gone = [part for part in seen if part not in present]
    rows = {part: _rows(workspace, part, twins) for part in changed}
    with store.database.write() as connection:
        store.database.only_one(connection, 2)
        added, replaced = _apply(connection, rows, {part: present[part] for part in changed}, gone)
        active = sa.select(sa.func.count()).select_from(ITEMS).where(ITEMS.c.active == 1)
        total = int(connection.execute(active).scalar_one())
    return Synced(added, replaced, total)


def yaw_counts(store: Store) -> dict[int, int]:
    """Active items by view."""
    statement = (
        sa.select(ITEMS.c.yaw_bin, sa.func.count()).where(ITEMS.c.active == 1).group_by(ITEMS.c.yaw_bin)
    )
    with store.database.read() as connection:
        return {row[0]: row[1] for row in connection.execute(statement)}


def sources(store: Store) -> list[str]:
    """The sources of active items."""
    statement = sa.select(ITEMS.c.source).where(ITEMS.c.active == 1).distinct().order_by(ITEMS.c.source)
    with store.database.read() as connection:
        return [row[0] for row in connection.execute(statement)]


def set_known(store: Store, answers: Mapping[str, str | None]) -> int:
    """Give items a known answer (accept, reject) or take it away (None); returns how many items there were.

    Raises `ValueError` for another answer.
    """
    for answer in answers.values():
        if answer not in ("accept", "reject", None):
            raise ValueError(f"a known answer is accept or reject, not {answer!r}")
    count = 0
    with store.database.write() as connection:
        for portrait, answer in answers.items():
            done = connection.execute(
                sa.update(ITEMS).where(ITEMS.c.portrait_id == portrait).values(known=answer)
            )
            count += done.rowcount
    return count


# ---- reading the workspace -------------------------------------------------------------------------------


def _twins(workspace: Workspace) -> frozenset[str]:
    """Near-duplicates that another portrait stands for."""
    table = workspace.table("duplicates", ["portrait_id", "representative"]).to_pylist()
    return frozenset(row["portrait_id"] for row in table if not row["representative"])


def _content(workspace: Workspace, part: int, twins: frozenset[str]) -> str:
    found = [workspace.part_info(f"tables/{name}", part) for name in ("portraits", "screened", "photos")]
    digest = hash_of(twins) if twins else ""
    return "/".join([*(info.content if info else "-" for info in found), digest])


def hash_of(ids: Iterable[str]) -> str:
    """A digest of a set of ids."""
    from phq_data.schema import make_id

    return make_id(*sorted(ids))


def _rows(workspace: Workspace, part: int, twins: frozenset[str]) -> list[dict[str, Any]]:
    def read(folder: str, columns: list[str]) -> list[dict[str, Any]]:
        if workspace.part_info(folder, part) is None:
            return []
        return list(workspace.read_part(folder, part, columns).to_pylist())

    photos = {row["photo_id"]: row for row in read("tables/photos", _PHOTO)}
    screened = {row["portrait_id"]: row for row in read("tables/screened", _SCREEN)}
    evidence = {row["item"]: row["evidence"] for row in read("ledger/screen", ["item", "evidence"])}
    found = []
    for number, row in enumerate(workspace.read_part("tables/portraits", part, _PORTRAIT).to_pylist()):
        verdict = screened.get(row["portrait_id"])
        photo = photos.get(row["photo_id"])
        if verdict is None or photo is None:
            continue  # the build has not got so far
        found.append(_item(part, number, row, photo, verdict, evidence.get(row["portrait_id"]), twins))
    return found


def _item(
    part: int,
    number: int,
    row: Mapping[str, Any],
    photo: Mapping[str, Any],
    verdict: Mapping[str, Any],
    evidence: str | None,
    twins: frozenset[str],
) -> dict[str, Any]:
    portrait = row["portrait_id"]
    pool = SCREENED_OUT if not verdict["kept"] else DUPLICATE if portrait in twins else ASKED
    scores = np.reshape(np.asarray(row["keypoints"], np.float64), (17, 3))[:, 2]
    numbers = {name: verdict[name] for name in _SCREEN[3:]} | _numbers(evidence)
    numbers["keypoint_score"] = round(float(scores.mean()), 4)
    numbers["shoulder_score"] = round(float(scores[list(_SHOULDERS)].min()), 4)
    facts = {
        "pitch": row["pitch"], "roll": row["roll"], "window": list(row["window"]), "size": row["size"],
        "crop_mode": row["crop_mode"], "models": row["models"], "kept": bool(verdict["kept"]),
        "reasons": list(verdict["reasons"]), "numbers": {k: _finite(v) for k, v in numbers.items()},
        "photo": {name: photo[name] for name in _PHOTO if name not in ("photo_id", "source", "uri")},
    }  # fmt: skip
    doubt = float(verdict["error_probability"])
    return {
        "portrait_id": portrait, "photo_id": row["photo_id"], "person_id": row["person_id"], "part": part,
        "row": number, "active": 1, "pool": pool, "source": f"{photo['provider']}: {photo['source']}",
        "uri": photo["uri"], "yaw_bin": rules.yaw_bin(row["yaw"]), "yaw": float(row["yaw"]),
        "error_probability": doubt if np.isfinite(doubt) else 1.0, "dice": dice(portrait), "facts": json.dumps(facts),
    }  # fmt: skip


def dice(portrait_id: str) -> float:
    """0..1, the same for a portrait everywhere: whether it belongs to the overlap share."""
    return int(hash_of([portrait_id])[:12], 16) / 2**48


def _numbers(evidence: str | None) -> dict[str, Any]:
    found = json.loads(evidence or "{}")
    return {k: v for k, v in found.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _finite(value: Any) -> Any:
    return value if value is None or np.isfinite(value) else None


# ---- writing the index -----------------------------------------------------------------------------------


def _apply(
    connection: sa.Connection,
    rows: Mapping[int, list[dict[str, Any]]],
    contents: Mapping[int, str],
    gone: list[int],
) -> tuple[int, int]:
    policy = read_policy(connection)
    touched = [*rows, *gone]
    before: dict[str, str] = {}  # active portraits of the changed parts -> person
    for chunk in [touched[i : i + 400] for i in range(0, len(touched), 400)]:
        statement = sa.select(ITEMS.c.portrait_id, ITEMS.c.person_id).where(
            ITEMS.c.part.in_(chunk), ITEMS.c.active == 1
        )
        before.update({row[0]: row[1] for row in connection.execute(statement)})
    fresh = {row["portrait_id"]: row for part in rows.values() for row in part}
    known = {
        row[0]
        for chunk in chunks(fresh)
        for row in connection.execute(sa.select(ITEMS.c.portrait_id).where(ITEMS.c.portrait_id.in_(chunk)))
    }
    _insert(connection, [row for key, row in fresh.items() if key not in known], policy)
    _update(connection, [row for key, row in fresh.items() if key in known])
    lost = {portrait: person for portrait, person in before.items() if portrait not in fresh}
    _retire(connection, lost, fresh.values())
    # New items that nobody ever judged are right as they were inserted.
    refresh_items(connection, [*known, *lost, *standing_of(connection, set(fresh) - known)], policy)
    for part in touched:
        connection.execute(sa.delete(PARTS).where(PARTS.c.part == part))
    if contents:
        connection.execute(sa.insert(PARTS), [{"part": p, "content": c} for p, c in contents.items()])
    return len(fresh) - len(known), len(lost)


def _insert(connection: sa.Connection, rows: list[dict[str, Any]], policy: rules.Policy) -> None:
    for row in rows:
        overlap = row["dice"] < policy.overlap_share
        row["required"] = max(policy.overlap_votes, policy.min_votes) if overlap else policy.min_votes
        row.update(votes=0, open=1, state="undecided", known=None)
    for start in range(0, len(rows), 2000):
        connection.execute(sa.insert(ITEMS), rows[start : start + 2000])


def _update(connection: sa.Connection, rows: list[dict[str, Any]]) -> None:
    if not rows:
        return
    names = [name for name in rows[0] if name != "portrait_id"]
    statement = (
        sa.update(ITEMS)
        .where(ITEMS.c.portrait_id == sa.bindparam("key"))
        .values({name: sa.bindparam(name) for name in names})
    )
    connection.execute(
        statement, [{"key": row["portrait_id"], **{name: row[name] for name in names}} for row in rows]
    )


def _retire(connection: sa.Connection, lost: Mapping[str, str], fresh: Iterable[Mapping[str, Any]]) -> None:
    if not lost:
        return
    heirs = {row["person_id"]: row["portrait_id"] for row in fresh}
    standing = standing_of(connection, lost)
    now = now_ms()
    for chunk in chunks(lost):
        connection.execute(sa.update(ITEMS).where(ITEMS.c.portrait_id.in_(chunk)).values(active=0))
        connection.execute(sa.delete(LEASES).where(LEASES.c.portrait_id.in_(chunk)))
    connection.execute(
        sa.insert(REPLACED),
        [
            {
                "portrait_id": portrait,
                "by_portrait_id": heirs.get(person),
                "decisions": len(standing.get(portrait, [])),
                "time": now,
            }
            for portrait, person in lost.items()
        ],
    )
