"""Which workspace an embedded database belongs to.

Both know one random name: the database in its settings, the workspace in `review/store.json`. A database
that was put in the place of another would bring decisions of other people, all of them sound.
"""

from __future__ import annotations

import contextlib
import json
import secrets

import sqlalchemy as sa

from phq_data.foreign import parse_json
from phq_data.review.database import DamagedStoreError, Database
from phq_data.review.records import REPAIR
from phq_data.review.tables import SETTINGS
from phq_data.workspace import Workspace, WorkspaceError

FILE = "review/store.json"
SETTING = "store"


def settle(database: Database, workspace: Workspace) -> None:
    """Give both a name where one of them has none. Raises `DamagedStoreError` where they have two."""
    with database.read() as connection:
        own = named(connection)
    known = _known(workspace)
    if own and known and own != known:
        raise DamagedStoreError(
            f"{database.name} is the review's database of another workspace. `{REPAIR}` puts it aside and "
            "goes by this workspace's tables; phq review export and import carry decisions over"
        )
    if not own:
        with database.write() as connection:
            own = named(connection)  # another program may have been first
            if not own:
                own = known or secrets.token_hex(16)
                connection.execute(sa.insert(SETTINGS).values(name=SETTING, value=json.dumps(own)))
    if not known:
        with contextlib.suppress(WorkspaceError):  # somebody who may only read
            workspace.write_bytes(FILE, json.dumps({"store": own}).encode())


def is_foreign(own: str, workspace: Workspace) -> bool:
    """Is `own` the name of another workspace's database?"""
    known = _known(workspace)
    return bool(own and known and own != known)


def named(connection: sa.Connection) -> str:
    """The name of a database; "" when it has none yet."""
    value = connection.execute(sa.select(SETTINGS.c.value).where(SETTINGS.c.name == SETTING)).scalar()
    return str(parse_json(value)) if value else ""


def _known(workspace: Workspace) -> str:
    try:
        return str(parse_json(workspace.read_bytes(FILE))["store"]) if workspace.exists(FILE) else ""
    except (WorkspaceError, ValueError, TypeError, KeyError):  # damaged: the database's is written anew
        return ""
