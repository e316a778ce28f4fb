"""Who reviews: invited people with roles, their tokens and their logins.

A token is shown once, when somebody is invited; the store keeps its sha256. A login is a random value in a
cookie, kept the same way, so that it can be ended from here.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import sqlalchemy as sa

from phq_data.review.consensus import ReviewError
from phq_data.review.digests import is_sound, row_digest
from phq_data.review.sealed_log import sound
from phq_data.review.store import Store, now_ms
from phq_data.review.tables import REVIEWERS, SESSIONS, SETTINGS

Role = Literal["reviewer", "lead"]
ROLES: tuple[str, ...] = get_args(Role)
SESSION_DAYS = 30
_LONGEST = 80
_LOGINS = "logins_asked"
"""Name of a setting of the store: was it last served to people who had to log in?"""


@dataclass(frozen=True)
class Reviewer:
    """A person who decides."""

    name: str
    role: Role
    created: int = 0  # milliseconds since 1970
    disabled: bool = False
    invited: bool = False  # has a token

    @property
    def lead(self) -> bool:
        """May adjudicate disputes, see everybody's decisions and change the settings."""
        return self.role == "lead"


def checked_name(name: str) -> str:
    """A reviewer's name without surrounding blanks. Raises `ReviewError` when nobody can be called that."""
    text = unicodedata.normalize("NFC", name).strip()
    if not text or len(text) > _LONGEST:
        raise ReviewError(f"a reviewer's name has 1 to {_LONGEST} letters")
    if any(unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Zl", "Zp") for letter in text):
        raise ReviewError("a reviewer's name has no control characters")
    return text


def invite(store: Store, name: str, role: Role = "reviewer") -> str:
    """Invite somebody, or give him a new token and role (earlier logins end); returns the token.

    Raises `ReviewError` for an impossible name or role.
    """
    name = checked_name(name)
    if role not in ROLES:
        raise ReviewError(f"a role is one of {', '.join(ROLES)}, not {role!r}")
    token = secrets.token_urlsafe(24)
    with store.database.write() as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.reviewer == name))
        connection.execute(sa.delete(REVIEWERS).where(REVIEWERS.c.name == name))
        connection.execute(
            sa.insert(REVIEWERS).values(
                name=name, role=role, token_hash=_hash(token), created=now_ms(), disabled=0
            )
        )
    return token


def disable(store: Store, name: str) -> bool:
    """End a reviewer's access; his decisions stay. False: there is nobody of that name."""
    with store.database.write() as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.reviewer == name))
        return _change(connection, REVIEWERS.c.name == name, disabled=1) > 0


def everybody(store: Store) -> list[Reviewer]:
    """All reviewers, by name."""
    with store.database.read() as connection:
        rows = connection.execute(sa.select(REVIEWERS).order_by(REVIEWERS.c.name)).mappings()
        return [_reviewer(row) for row in sound(REVIEWERS, rows)]


def by_name(store: Store, name: str) -> Reviewer | None:
    """The reviewer of a name."""
    return _one(store, REVIEWERS.c.name == name)


def by_token(store: Store, token: str) -> Reviewer | None:
    """The reviewer who was invited with a token, unless his access was ended."""
    found = _one(store, REVIEWERS.c.token_hash == _hash(token))
    return None if found is None or found.disabled else found


def join(store: Store, name: str, role: Role = "reviewer") -> Reviewer:
    """The reviewer of a name, made if there is none: for those who need no invitation.

    Raises `ReviewError` for an impossible name, for one whose access was ended, and for one that was invited
    with a token: that one is taken.
    """
    name = checked_name(name)
    found = by_name(store, name)
    if found is not None:
        if found.disabled:
            raise ReviewError(f"the access of {name} was ended")
        if found.invited:
            raise ReviewError(f"{name} was invited with a token: use it, or take another name")
        return found
    with store.database.write() as connection:
        store.database.only_one(connection, 3)
        taken = connection.execute(sa.select(REVIEWERS.c.name).where(REVIEWERS.c.name == name)).first()
        if taken is None:
            connection.execute(
                sa.insert(REVIEWERS).values(
                    name=name, role=role, token_hash=None, created=now_ms(), disabled=0
                )
            )
    return by_name(store, name) or Reviewer(name, role)


def ask_logins(store: Store, asked: bool) -> None:
    """Note whether people must log in from now on.

    When that begins, whoever joined by a name alone is no lead any more, and those logins end: a name was
    enough for them, and anybody could have given it.
    """
    key = SETTINGS.c.name == _LOGINS
    with store.database.write() as connection:
        before = connection.execute(sa.select(SETTINGS.c.value).where(key)).scalar()
        if asked and before != "true":
            by_name_alone = REVIEWERS.c.token_hash.is_(None)
            names = sa.select(REVIEWERS.c.name).where(by_name_alone)
            connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.reviewer.in_(names)))
            _change(connection, by_name_alone, role="reviewer")
        if before != json.dumps(asked):
            connection.execute(sa.delete(SETTINGS).where(key))
            connection.execute(sa.insert(SETTINGS).values(name=_LOGINS, value=json.dumps(asked)))


def login(store: Store, name: str) -> str:
    """Begin a login; returns the cookie's value."""
    cookie = secrets.token_urlsafe(32)
    expires = now_ms() + SESSION_DAYS * 86_400_000
    with store.database.write() as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires <= now_ms()))
        connection.execute(
            sa.insert(SESSIONS).values(cookie_hash=_hash(cookie), reviewer=name, expires=expires)
        )
    return cookie


def logout(store: Store, cookie: str) -> None:
    """End a login."""
    with store.database.write() as connection:
        connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.cookie_hash == _hash(cookie)))


def by_cookie(store: Store, cookie: str) -> Reviewer | None:
    """Who is logged in with a cookie."""
    statement = sa.select(SESSIONS).where(SESSIONS.c.cookie_hash == _hash(cookie))
    with store.database.read() as connection:
        row = connection.execute(statement).mappings().first()
    if row is None or not is_sound(SESSIONS, row) or row["expires"] <= now_ms():
        return None  # a damaged login is none: the person logs in again
    found = by_name(store, row[SESSIONS.c.reviewer])
    return None if found is None or found.disabled else found


def _one(store: Store, term: sa.ColumnElement[bool]) -> Reviewer | None:
    with store.database.read() as connection:
        rows = connection.execute(sa.select(REVIEWERS).where(term)).mappings()
        found = [_reviewer(row) for row in sound(REVIEWERS, rows)]
    return found[0] if found else None


def _change(connection: sa.Connection, term: sa.ColumnElement[bool], **values: Any) -> int:
    """Change columns of the reviewers for whom `term` holds; returns how many there are."""
    rows = sound(REVIEWERS, connection.execute(sa.select(REVIEWERS).where(term)).mappings())
    for row in rows:
        digest = row_digest(REVIEWERS, {**row, **values})
        connection.execute(
            sa.update(REVIEWERS).where(REVIEWERS.c.name == row["name"]).values(**values, digest=digest)
        )
    return len(rows)


def _reviewer(row: Mapping[Any, Any]) -> Reviewer:
    return Reviewer(
        row["name"], row["role"], row["created"], bool(row["disabled"]), row["token_hash"] is not None
    )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
