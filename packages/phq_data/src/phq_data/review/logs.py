"""Append-only logs of the review as Parquet parts of the workspace: decisions and corrections.

Every batch becomes one more part, and no part is ever written again, unless it is damaged.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from phq_data import schema
from phq_data.records import R, to_table
from phq_data.review.records import DATABASE_VARIABLE, STORE_FILE
from phq_data.workspace import Workspace, WorkspaceError, part_key

if TYPE_CHECKING:
    from phq_data.review.store import Store


def append_rows(workspace: Workspace, kind: type[R], rows: Sequence[R]) -> int:
    """Append rows of an append-only table as one part; returns how many were new by their key.

    Raises `WorkspaceError` when the part cannot be written.
    """
    key, folder = schema.KEYS[kind.table], f"tables/{kind.table}"
    known = set(workspace.table(kind.table, [key])[key].to_pylist())
    fresh: dict[str, R] = {}
    for one in rows:
        if getattr(one, key) not in known:
            fresh.setdefault(getattr(one, key), one)
    if fresh:
        parts = workspace.parts(folder)
        table = to_table(kind, fresh.values())
        workspace.write_part(folder, parts[-1] + 1 if parts else 0, table, kind.table)
    return len(fresh)


def mend(workspace: Workspace, kind: type[R], rows: Callable[[Store], list[R]]) -> list[str]:
    """Write damaged parts of a log anew from the `rows` of the live store, where there is one; what was
    done, in lines.

    A part that cannot be made anew stays where it is. The caller holds `Workspace.lock`.
    """
    folder = f"tables/{kind.table}"
    broken = [part for part in workspace.parts(folder) if workspace.damaged(folder, part)]
    if not broken or not has_store(workspace):
        return []
    from phq_data.review.store import Store

    store = Store.open(workspace)
    try:
        with alone(workspace):
            found = rows(store)
            if not found:
                return []
            for part in broken:
                workspace.remove(part_key(folder, part))
            count = append_rows(workspace, kind, found)
    finally:
        store.close()
    return [
        f"{len(broken)} damaged parts of the {kind.table} were written anew: {count} {kind.table} of the "
        "database"
    ]


def has_store(workspace: Workspace) -> bool:
    """Is there a live store, in the workspace or by the variable PHQ_REVIEW_DATABASE?"""
    return bool(os.environ.get(DATABASE_VARIABLE) or (workspace.is_local and workspace.exists(STORE_FILE)))


@contextlib.contextmanager
def alone(workspace: Workspace) -> Iterator[None]:
    """One writer of decisions and corrections at a time; a build that runs meanwhile is not waited for."""
    if not workspace.is_local:
        with workspace.alone("review"):
            yield
        return
    from filelock import FileLock

    folder = Path(workspace.path("review"))
    try:
        folder.mkdir(exist_ok=True)
        guard = FileLock(folder / ".publish.lock")
        guard.acquire(timeout=60)
    except OSError as error:  # filelock's Timeout is one
        raise WorkspaceError(f"cannot write decisions to {workspace.url}: {error}") from error
    try:
        yield
    finally:
        guard.release()
