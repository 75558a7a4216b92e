"""Connections to SQLite and PostgreSQL, set up alike wherever they are opened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from shared.config import Settings
from shared.errors import ContractError

#: how long a writer waits for another one, seconds
LOCK_WAIT_S = 30
#: PostgreSQL ends a writing transaction that does nothing for this long, seconds. A frozen worker would otherwise
#: hold its row locks, and with them the worker that took over its job, for as long as it is frozen.
IDLE_IN_TRANSACTION_S = 30

_WRITE = "callboard_write"


def connect(source: Settings | str) -> Engine:
    """Create an engine; nothing is opened before its first use. Dispose of it when done.

    Args:
        source: settings, or a database URL (``sqlite:///…``, ``postgresql://…``, ``postgres://…``).

    Raises:
        ContractError: if the URL names no database that Callboard knows. The message never holds the URL, since
            that may hold a password.
    """
    url = database_url(source)
    if url.get_backend_name() == "sqlite":
        return _sqlite(url)
    return _postgresql(url)


def database_url(source: Settings | str) -> URL:
    """Give the URL with the driver that Callboard uses.

    Raises:
        ContractError: as :func:`connect`.
    """
    text = source if isinstance(source, str) else source.database_url
    if text.startswith("postgres://"):
        text = "postgresql://" + text.removeprefix("postgres://")
    try:
        url = make_url(text)
    except ArgumentError:
        raise ContractError("DATABASE_URL is not a database URL: use sqlite:///PATH or postgresql://…") from None
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.get_backend_name() == "sqlite":
        return url.set(drivername="sqlite")
    raise ContractError(
        f"DATABASE_URL names a {url.get_backend_name()!r} database: use sqlite:///PATH or postgresql://…"
    )


@contextmanager
def begin_write(engine: Engine) -> Iterator[Connection]:
    """Run a transaction that will write; commits at the end, rolls back on an exception.

    On SQLite it takes the write lock at once (BEGIN IMMEDIATE): a transaction that reads first and writes later
    fails with "database is locked" when another one wrote in between, without waiting at all.
    """
    with engine.connect() as connection:
        writer = connection.execution_options(**{_WRITE: True})
        with writer.begin():
            yield writer


def describe_error(error: DBAPIError) -> str:
    """Tell in one line what a database said, without statement, parameters or password."""
    original = error.orig
    diagnosis = getattr(getattr(original, "diag", None), "message_primary", None)
    first_line = (diagnosis or str(original)).strip().splitlines()
    return f"{type(original).__name__}: {first_line[0] if first_line else 'no message'}"[:300]


def _sqlite(url: URL) -> Engine:
    if url.database and url.database != ":memory:":
        Path(url.database).absolute().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    engine = create_engine(url, hide_parameters=True, connect_args={"timeout": LOCK_WAIT_S})
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: object) -> None:
    # The driver must not start transactions by itself: its BEGIN is deferred and comes only before DML.
    connection.isolation_level = None
    cursor = connection.cursor()
    try:
        cursor.execute(f"PRAGMA busy_timeout = {LOCK_WAIT_S * 1000}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA foreign_keys = ON")
        # NORMAL would be faster, but loses committed rows on a power cut after the queue heard that they are there.
        cursor.execute("PRAGMA synchronous = FULL")
    finally:
        cursor.close()


def _begin_sqlite(connection: Connection) -> None:
    writes = connection.get_execution_options().get(_WRITE, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")


def _postgresql(url: URL) -> Engine:
    engine = create_engine(
        url,
        hide_parameters=True,
        pool_pre_ping=True,
        connect_args={"connect_timeout": 10, "application_name": "callboard"},
    )
    event.listen(engine, "begin", _begin_postgresql)
    return engine


def _begin_postgresql(connection: Connection) -> None:
    if connection.get_execution_options().get(_WRITE, False):
        connection.exec_driver_sql(
            f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'; "
            f"SET LOCAL idle_in_transaction_session_timeout = '{IDLE_IN_TRANSACTION_S}s'; "
            # Aware times go into columns without a time zone as UTC, whatever the server is set to.
            "SET LOCAL TimeZone = 'UTC'"
        )
