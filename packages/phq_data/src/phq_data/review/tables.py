"""The tables of the live store. `migrations` makes them; a test holds the two together.

Times are milliseconds since 1970 (UTC): the same number in SQLite and PostgreSQL. `decisions` is append-only
(triggers refuse changes); `standings` and the counts in `items` are derived from it in the same transaction
and can be made anew at any time. Rows that are not derived, and the index of the portraits, carry a `digest`.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
)

from phq_data.review.digests import digest_column

METADATA = MetaData()
_COUNTER = BigInteger().with_variant(Integer, "sqlite")  # only an INTEGER counts up by itself in SQLite

DECISIONS = Table(
    "decisions",
    METADATA,
    Column("seq", _COUNTER, primary_key=True, autoincrement=True),  # order of arrival
    Column("decision_id", String(64), nullable=False),  # made by the client: a repeated delivery is known
    Column("portrait_id", String(64), nullable=False),
    Column("verdict", String(8), nullable=False),  # accept, reject, flag, undo
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("reviewer", String(80), nullable=False),
    Column("time", BigInteger, nullable=False),  # rises along a reviewer's decisions on a portrait
    Column("client_time", BigInteger, nullable=False),  # what the client's clock said
    Column("server_time", BigInteger, nullable=False),  # when it was saved
    Column("seconds", Float, nullable=False),
    Column("rules", String(64), nullable=False),  # `rules.VERSION` that the reviewer saw
    Column("client", String(120), nullable=False),
    Column("queue", String(64), nullable=False),  # order of the queue it came from
    digest_column(without=["seq"]),
    UniqueConstraint("decision_id", name="decisions_once"),
    Index("decisions_of", "portrait_id", "reviewer", "time", "decision_id"),
    Index("decisions_by", "reviewer", "seq"),
    sqlite_autoincrement=True,
)

CORRECTIONS = Table(
    "corrections",
    METADATA,
    Column("seq", _COUNTER, primary_key=True, autoincrement=True),  # order of arrival
    Column("correction_id", String(64), nullable=False),  # made by the client
    Column("kind", String(8), nullable=False),  # correct, undo
    Column("portrait_id", String(64), nullable=False),  # what the person saw
    Column("photo_id", String(64), nullable=False),
    Column("person_id", String(64), nullable=False),
    Column("from_label", Text, nullable=False),  # JSON of `records.StoredLabel`
    Column("to_label", Text),  # the same; null = an undo
    Column("undoes", String(64)),
    Column("note", Text),
    Column("reviewer", String(80), nullable=False),
    Column("time", BigInteger, nullable=False),  # rises along a reviewer's corrections of a person
    Column("client_time", BigInteger, nullable=False),  # what the client's clock said
    Column("server_time", BigInteger, nullable=False),  # when it was saved
    Column("seconds", Float, nullable=False),
    Column("client", String(120), nullable=False),
    digest_column(without=["seq"]),
    UniqueConstraint("correction_id", name="corrections_once"),
    Index("corrections_of", "person_id", "time", "correction_id"),
    Index("corrections_on", "portrait_id"),
    Index("corrections_by", "reviewer", "seq"),
    sqlite_autoincrement=True,
)
"""Append-only, as `decisions`."""

STANDINGS = Table(
    "standings",
    METADATA,
    Column("portrait_id", String(64), primary_key=True),
    Column("reviewer", String(80), primary_key=True),
    Column("verdict", String(8), nullable=False),
    Column("decision_id", String(64), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("client", String(120), nullable=False),
    Index("standings_by", "reviewer", "portrait_id"),
)

ITEMS = Table(
    "items",
    METADATA,
    Column("portrait_id", String(64), primary_key=True),
    Column("photo_id", String(64), nullable=False),
    Column("person_id", String(64), nullable=False),
    Column("part", Integer, nullable=False),  # where the image lies: part and row of `tables/portraits`
    Column("row", Integer, nullable=False),
    Column("active", SmallInteger, nullable=False),  # 0: the workspace no longer has it
    Column("pool", SmallInteger, nullable=False),  # see `records.POOLS`
    Column("source", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("yaw_bin", SmallInteger, nullable=False),
    Column("yaw", Float, nullable=False),  # radians
    Column("error_probability", Float, nullable=False),  # 0..1, of the label
    Column(
        "overlap_draw", Float, nullable=False
    ),  # 0..1 by the id: below the overlap share, several are asked
    Column("facts", Text, nullable=False),  # JSON of `records.ItemFacts`: what the page shows
    Column("required", SmallInteger, nullable=False),  # votes that are asked for
    Column("votes", SmallInteger, nullable=False),  # reviewers with a standing verdict
    Column("open", SmallInteger, nullable=False),  # 1: active and votes < required
    Column("state", String(12), nullable=False),  # consensus: accepted, rejected, disputed, undecided
    # 1: a corrected label waits for the next build, and nobody is asked about this one
    Column("corrected", SmallInteger, nullable=False, server_default="0"),
    Column("gold", String(8)),  # the verdict that a gold item should get: accept, reject
    digest_column(without=["required", "votes", "open", "state", "corrected", "gold"]),
    Index("items_error_probability", "open", "pool", "error_probability", "portrait_id"),
    Index("items_source", "open", "pool", "source", "error_probability", "portrait_id"),
    Index("items_yaw", "open", "pool", "yaw_bin", "error_probability", "portrait_id"),
    Index("items_any", "open", "pool", "portrait_id"),
    Index("items_waiting", "open", "pool", "votes", "portrait_id"),
    Index("items_state", "active", "state", "error_probability", "portrait_id"),
    Index("items_active", "active", "error_probability", "portrait_id"),
    Index("items_gold", "gold", "portrait_id"),
    Index("items_place", "source", "uri", "portrait_id"),
    Index("items_part", "part"),
    Index("items_person", "person_id"),
)

LEASES = Table(
    "leases",
    METADATA,
    Column("portrait_id", String(64), primary_key=True),
    Column("reviewer", String(80), primary_key=True),
    Column("expires", BigInteger, nullable=False),
    Index("leases_expires", "expires"),
)

REVIEWERS = Table(
    "reviewers",
    METADATA,
    Column("name", String(80), primary_key=True),
    Column("role", String(12), nullable=False),  # reviewer, lead
    Column("token_hash", String(64)),  # sha256 of the invitation's token
    Column("created", BigInteger, nullable=False),
    Column("disabled", SmallInteger, nullable=False),
    digest_column(),
    UniqueConstraint("token_hash", name="reviewers_token"),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("cookie_hash", String(64), primary_key=True),  # sha256 of the cookie's random value
    Column("reviewer", String(80), nullable=False),
    Column("expires", BigInteger, nullable=False),
    digest_column(),
    Index("sessions_of", "reviewer"),
)

SETTINGS = Table(
    "settings",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),  # JSON
    digest_column(),
)

PARTS = Table(
    "parts",
    METADATA,
    Column("part", Integer, primary_key=True),
    Column("content", Text, nullable=False),  # digests of the tables' parts when `items` was made from them
)

REPLACED = Table(
    "replaced",
    METADATA,
    Column("seq", _COUNTER, primary_key=True, autoincrement=True),
    Column("portrait_id", String(64), nullable=False),  # gone from the workspace, with its decisions
    Column("by_portrait_id", String(64)),  # the same person's new portrait; null = none
    Column("decisions", Integer, nullable=False),  # standing verdicts that no longer count
    Column("time", BigInteger, nullable=False),
    digest_column(without=["seq"]),
    Index("replaced_by", "by_portrait_id"),
    sqlite_autoincrement=True,
)
