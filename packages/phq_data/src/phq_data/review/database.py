"""The database of the live store: embedded SQLite, or PostgreSQL by its URL. Connections, errors, migrations.

A transaction is written whole or not at all. What a user can mend (locked, full, read-only, unreachable)
is a `StoreError` that says what to do.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, OperationalError, TimeoutError

from phq_data.errors import PhqError
from phq_data.review import journal
from phq_data.review.digests import digest_of
from phq_data.review.tables import SETTINGS

BUSY_SECONDS = 5.0
"""How long a transaction waits for another process before it gives up."""
_LOCK = 0x70687101  # of our PostgreSQL advisory locks
_HEAD = "0004"
SCHEMA = "schema"
"""Name of the setting that holds the digest of a SQLite file's schema."""


class StoreError(PhqError, RuntimeError):
    """The store of decisions cannot be used; the message says why and what to do. Nothing was written."""


class StoreBusyError(StoreError):
    """Another process holds the database: try again in a moment."""


class StoreFullError(StoreError):
    """The disk is full."""


class StoreReadOnlyError(StoreError):
    """The database cannot be written."""


class DamagedStoreError(StoreError):
    """The database is not what was written to it; `repair` mends it."""


class StoreUnreachableError(StoreError):
    """The database server does not answer."""


class Database:
    """An open database with its tables at the newest version."""

    def __init__(self, engine: sa.Engine, name: str) -> None:
        self.engine = engine
        self.name = name  # for people: no password
        self.embedded = engine.dialect.name == "sqlite"
        self._writer = threading.Lock()
        self._seen: dict[Path, tuple[int, int]] = {}  # the file and its WAL as they were when it was opened
        self._holder: sqlite3.Connection | None = None  # as long as it is open, nobody tidies the WAL away
        self._refused: StoreError | None = None

    @classmethod
    def open(cls, where: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> Database:
        """Open, and bring to the newest version, a SQLite file or the database at a URL.

        Raises `StoreError`; `DamagedStoreError` before anything is read where the last changes are lost.
        """
        database = cls.unread(where, busy_seconds=busy_seconds)
        with _explaining(database.name):
            if database.file is not None and not journal.is_whole(database.file):
                raise _damaged(database.name, "its journal (-wal) is: changes saved last cannot be read")
            _migrate(database)
        if database.file is not None:
            database._hold(database.file)
        return database

    @classmethod
    def unread(cls, where: str | Path, *, busy_seconds: float = BUSY_SECONDS) -> Database:
        """The database as it is, of any version. Raises `StoreError` for a URL of no database."""
        text = str(where)
        if "://" in text:
            return cls(*_server(text))
        return cls(_file(Path(text), busy_seconds), text)

    @property
    def file(self) -> Path | None:
        """The file of an embedded database."""
        path = self.engine.url.database
        return Path(path) if self.embedded and path else None

    def _hold(self, path: Path) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._holder = sqlite3.connect(path, check_same_thread=False)
            self._holder.execute("SELECT version_num FROM alembic_version").fetchall()
        for one in (path, path.with_name(f"{path.name}-wal")):
            with contextlib.suppress(OSError):
                self._seen[one] = _identity(one)

    def _check_there(self) -> None:
        """Raise `StoreError` when a restart would not read the files that we write to."""
        for path, known in self._seen.items():
            try:
                same = _identity(path) == known
            except OSError:
                same = False
            if not same:
                raise StoreError(
                    f"{path} was removed or replaced while it was in use. Nothing is saved any more: end the "
                    "review (Ctrl-C) and start it again. It takes over the decisions in the workspace's "
                    "tables/decisions; what was not confirmed waits in the browser"
                )

    def refuse(self, why: StoreError) -> None:
        """From now on nothing is read or written: whoever tries gets this error."""
        self._refused = why

    def _check_sound(self) -> None:
        if self._refused is not None:
            raise type(self._refused)(str(self._refused))

    @contextlib.contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection to read from: one image of the data (PostgreSQL: a new one each statement)."""
        self._check_sound()
        with _explaining(self.name), self.engine.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sa.Connection]:
        """A connection to read from: all of its statements see one image of the data."""
        with self.read() as connection:
            level = {} if self.embedded else {"isolation_level": "REPEATABLE READ"}
            yield connection.execution_options(**level)

    @contextlib.contextmanager
    def write(self, *, durable: bool = True) -> Iterator[sa.Connection]:
        """A transaction: committed at the end, or undone on any error. One at a time in SQLite.

        `durable`: it is on the disk when this returns. Without, a power failure may take it back whole (not
        a crash of the program), and nobody waits for the disk.
        """
        self._check_sound()
        with _explaining(self.name):
            if not self.embedded:
                with self.engine.begin() as connection:
                    if not durable:
                        connection.execute(sa.text("SET LOCAL synchronous_commit = off"))
                    yield connection
                return
            # SQLite's own waiting polls and is unfair; threads of one process queue here.
            with self._writer, self.engine.connect() as connection:
                _set_durable(connection, durable)
                connection = connection.execution_options(phq_immediate=True)
                self._check_there()
                with connection.begin():
                    yield connection
                    self._check_there()

    def only_one(self, connection: sa.Connection, number: int) -> None:
        """Until the transaction ends, nobody else is in a section of this number (SQLite: anywhere)."""
        if not self.embedded:
            connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK + number})

    def close(self) -> None:
        """Close all connections."""
        if self._holder is not None:
            self._holder.close()
        self.engine.dispose()


def _file(path: Path, busy_seconds: float) -> sa.Engine:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreReadOnlyError(f"cannot make the folder {path.parent}: {error.strerror}") from error
    url = sa.URL.create("sqlite", database=str(path))
    # Autocommit at the driver: transactions are begun here, and by the right kind of BEGIN.
    options: dict[str, Any] = {"timeout": busy_seconds, "isolation_level": None}
    engine = sa.create_engine(url, connect_args=options, pool_size=16, max_overflow=32, pool_timeout=30)

    @sa.event.listens_for(engine, "connect")
    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        cursor = connection.cursor()
        with contextlib.suppress(sqlite3.OperationalError):  # a read-only file is still readable
            cursor.execute("PRAGMA journal_mode = WAL")
        for pragma in ("synchronous = FULL", "cache_size = -8000", "mmap_size = 268435456"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        immediate = connection.get_execution_options().get("phq_immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _identity(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_dev, found.st_ino


def _set_durable(connection: sa.Connection, durable: bool) -> None:
    # At the driver, as this must come before the transaction begins.
    driver: Any = connection.connection.dbapi_connection
    driver.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")


def _server(text: str) -> tuple[sa.Engine, str]:
    try:
        url = make_url(text)
    except ArgumentError as error:
        raise StoreError(
            "the database URL cannot be read; it looks like postgresql://USER:PASSWORD@HOST/NAME"
        ) from error
    name = url.render_as_string(hide_password=True)
    if url.drivername in ("postgres", "postgresql"):
        url = url.set(drivername="postgresql+psycopg")
    if url.drivername == "sqlite" and url.database:
        return _file(Path(url.database), BUSY_SECONDS), name
    if url.get_backend_name() != "postgresql":
        raise StoreError(f"decisions are stored in SQLite or PostgreSQL, not at {name}")
    try:
        engine = sa.create_engine(
            url, pool_size=16, max_overflow=32, pool_timeout=30, pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "options": "-c lock_timeout=10s"},
        )  # fmt: skip
    except (NoSuchModuleError, ImportError) as error:
        raise StoreError("PostgreSQL needs the extra 'postgres': pip install 'phq-data[postgres]'") from error
    return engine, name


# ---- migrations ------------------------------------------------------------------------------------------


def _migrate(database: Database) -> None:
    with database.read() as connection:
        if _version(connection) == _HEAD:
            return
    from alembic import command
    from alembic.config import Config
    from alembic.util.exc import CommandError

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    with database.write() as connection:
        database.only_one(connection, 0)
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, _HEAD)
        except CommandError as error:
            raise StoreError(
                f"the database {database.name} was made by a newer PHQ ({_version(connection)}): use that one"
            ) from error
        _note_schema(connection)


def schema_changed(connection: sa.Connection) -> bool:
    """Are tables, views or triggers of a SQLite file declared otherwise than after its last migration?"""
    statement = sa.select(SETTINGS.c.value).where(SETTINGS.c.name == SCHEMA)
    return connection.execute(statement).scalar() != _schema_of(connection)


def _note_schema(connection: sa.Connection) -> None:
    sealed = {column["name"] for column in sa.inspect(connection).get_columns(SETTINGS.name)}
    if connection.dialect.name == "sqlite" and SETTINGS.c.digest.name in sealed:
        connection.execute(sa.delete(SETTINGS).where(SETTINGS.c.name == SCHEMA))
        connection.execute(sa.insert(SETTINGS).values(name=SCHEMA, value=_schema_of(connection)))


def _schema_of(connection: sa.Connection) -> str:
    """JSON of the digest of what a SQLite file declares."""
    found = connection.exec_driver_sql(
        "SELECT type, name, tbl_name, sql FROM sqlite_master "
        "WHERE name NOT LIKE 'sqlite_%' ORDER BY type, name"
    )
    return json.dumps(digest_of("schema", {"declared": [list(row) for row in found]}))


def _version(connection: sa.Connection) -> str | None:
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return str(found) if found else None


# ---- errors ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _explaining(name: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise StoreBusyError(f"the database {name} has no free connection: try again in a moment") from error
    except UnicodeDecodeError as error:  # the driver cannot even say what SQLite said of a damaged schema
        raise _damaged(name, error) from error
    except DBAPIError as error:
        explained = explain(error, name)
        if explained is None:
            raise
        raise explained from error


def _damaged(name: str, cause: object) -> DamagedStoreError:
    return DamagedStoreError(
        f"the database {name} is damaged or its disk fails ({str(cause).splitlines()[0]}): end the review "
        "where it runs, and run `phq workspace verify --repair`. It keeps what can be read, and takes the "
        "rest from the workspace's tables/decisions"
    )


def explain(error: DBAPIError, name: str) -> StoreError | None:
    """What a user can do about a database's error; None when it is a bug of ours."""
    cause = error.orig
    text = str(cause).lower()
    state = getattr(cause, "sqlstate", None) or ""
    if "locked" in text or "busy" in text or state in ("55P03", "40001", "40P01"):
        return StoreBusyError(
            f"the database {name} is in use by another program. Nothing was saved: try again in a moment"
        )
    if "disk is full" in text or "disk full" in text or state in ("53100", "54000"):
        return StoreFullError(f"no space is left for the database {name}. Nothing was saved: free some space")
    if "readonly" in text or "read-only" in text or state == "25006":
        return StoreReadOnlyError(f"the database {name} cannot be written: see to its permissions")
    if "unable to open" in text:
        return StoreReadOnlyError(f"the database {name} cannot be opened: see to its folder's permissions")
    if isinstance(cause, sqlite3.OperationalError) or "malformed" in text or "not a database" in text:
        return _damaged(name, cause)
    if isinstance(error, OperationalError) and not state:
        return StoreUnreachableError(f"the database {name} does not answer: {str(cause).splitlines()[0]}")
    if state[:2] in ("08", "28", "57", "53") or state == "3D000":
        return StoreUnreachableError(f"the database {name} cannot be used: {str(cause).splitlines()[0]}")
    return None
