"""Writes a batch with the database's own upsert and counts exactly what became of each row."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import psycopg
from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from services.workers.families.imports.contract import ConflictMode
from services.workers.families.imports.layout import Layout
from shared.database.datasets import Dataset
from shared.errors import PermanentError

#: keys looked up in one statement; SQLite takes 32,766 parameters at most
_KEYS_A_LOOKUP = 500


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of rows."""

    inserted: int = 0
    updated: int = 0
    skipped: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(self.inserted + other.inserted, self.updated + other.updated, self.skipped + other.skipped)


class BatchWriter(Protocol):
    """Writes rows of one import."""

    def write(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> Counts:
        """Write rows, given as columns in the order of the layout.

        Raises:
            sqlalchemy.exc.DBAPIError: the database refused one of them; nothing may be relied on until the
                transaction, or a savepoint before it, is rolled back.
        """
        ...

    def is_there(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> bool:
        """Tell whether the key of a single row is in the table."""
        ...


def writer_for(connection: Connection, dataset: Dataset, layout: Layout, conflict: ConflictMode) -> BatchWriter:
    """Choose the writer for a database."""
    if connection.dialect.name == "postgresql":
        return PostgresWriter(connection, dataset, layout, conflict)
    return SqliteWriter(dataset, layout, conflict)


class SqliteWriter:
    """One prepared INSERT, run for each row by the driver; needs the write lock (see ``begin_write``)."""

    def __init__(self, dataset: Dataset, layout: Layout, conflict: ConflictMode) -> None:
        names = [column.name for column in layout.columns]
        self._table = dataset.table
        self._key = dataset.key
        self._key_indexes = [names.index(name) for name in dataset.key]
        self._conflict = conflict
        self._insert = (
            f"INSERT INTO {quoted(dataset.table)} ({', '.join(map(quoted, names))}) "  # noqa: S608 - checked names
            f"VALUES ({', '.join('?' * len(names))}) {_on_conflict(dataset.key, names, conflict)}"
        )

    def write(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> Counts:
        """See :meth:`BatchWriter.write`."""
        rows = list(zip(*columns, strict=True))
        if not rows:
            return Counts()
        if self._conflict != "update":
            # DO NOTHING passes rows over without a word; those that went in are counted.
            inserted = connection.exec_driver_sql(self._insert, rows).rowcount
            return Counts(inserted=inserted, skipped=len(rows) - inserted)
        # Nobody else writes between the two counts, and the table itself says what it takes for the same key, so the
        # difference is exact for any collation and for keys that come twice.
        before = self._count_keys(connection, columns)
        connection.exec_driver_sql(self._insert, rows)
        inserted = self._count_keys(connection, columns) - before
        return Counts(inserted=inserted, updated=len(rows) - inserted)

    def is_there(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> bool:
        """See :meth:`BatchWriter.is_there`."""
        return self._count_keys(connection, columns) > 0

    def _count_keys(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> int:
        # Each key once: a row is counted by each statement that names it.
        keys = list(dict.fromkeys(zip(*(columns[index] for index in self._key_indexes), strict=True)))
        total = 0
        for start in range(0, len(keys), _KEYS_A_LOOKUP):
            some = keys[start : start + _KEYS_A_LOOKUP]
            statement = _sqlite_lookup(self._table, self._key, len(some))
            total += connection.exec_driver_sql(statement, tuple(part for key in some for part in key)).scalar_one()
        return total


class PostgresWriter:
    """COPY into a temporary table, then one INSERT … SELECT from there.

    Measured for 20,000 rows × 40 columns in batches of 1,000: 0.9 s, against 1.8 s for json_to_recordset, 3.9 s for
    unnest of arrays, 5.5 s for VALUES of many rows and 5.8 s for the driver's executemany.
    """

    def __init__(self, connection: Connection, dataset: Dataset, layout: Layout, conflict: ConflictMode) -> None:
        names = [column.name for column in layout.columns]
        self._key_indexes = [names.index(name) for name in dataset.key]
        self._conflict = conflict
        types = _postgres_types(connection, dataset.table)
        table, listed = quoted(dataset.table), ", ".join(map(quoted, names))
        stage = quoted(f"import_{zlib.crc32(listed.encode()):08x}_{dataset.table}"[:63])
        self._stage = (
            # It stays for the next batch: a table made and dropped for each would bloat the catalogue.
            f"CREATE TEMPORARY TABLE IF NOT EXISTS {stage} ON COMMIT DELETE ROWS "  # noqa: S608 - checked names
            f"AS SELECT {listed} FROM {table} WITH NO DATA"
        )
        self._copy = f"COPY {stage} ({listed}) FROM STDIN"
        self._insert_staged = self._insert(table, names, f"SELECT {listed} FROM {stage}", dataset.key)  # noqa: S608
        parameters = ", ".join(f"%s::{types[name]}" for name in names)
        self._insert_one = self._insert(table, names, f"VALUES ({parameters})", dataset.key)
        conditions = " AND ".join(f"{quoted(name)} = %s::{types[name]}" for name in dataset.key)
        self._lookup = f"SELECT EXISTS (SELECT FROM {table} WHERE {conditions})"  # noqa: S608 - checked names

    def write(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> Counts:
        """See :meth:`BatchWriter.write`."""
        total = len(columns[0])
        if total == 0:
            return Counts()
        if total == 1:
            one = tuple(values[0] for values in columns)
            inserted, written = connection.exec_driver_sql(self._insert_one, one).one()
        else:
            self._fill_stage(connection, self._last_of_each_key(columns) if self._conflict == "update" else columns)
            inserted, written = connection.exec_driver_sql(self._insert_staged).one()
        if self._conflict == "update":
            # A row that a later one of the same batch replaces counts as the update that it would have been.
            return Counts(inserted=inserted, updated=total - inserted)
        return Counts(inserted=inserted, skipped=total - written)

    def is_there(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> bool:
        """See :meth:`BatchWriter.is_there`."""
        key = tuple(columns[index][0] for index in self._key_indexes)
        return bool(connection.exec_driver_sql(self._lookup, key).scalar_one())

    def _insert(self, table: str, names: Sequence[str], rows: str, key: Sequence[str]) -> str:
        return (
            f"WITH written AS (INSERT INTO {table} ({', '.join(map(quoted, names))}) {rows} "  # noqa: S608
            f"{_on_conflict(key, names, self._conflict)} "
            # xmax of a row version is the transaction that locked it for the update; a new row has none.
            "RETURNING (xmax = 0) AS is_new) SELECT count(*) FILTER (WHERE is_new), count(*) FROM written"
        )

    def _fill_stage(self, connection: Connection, columns: Sequence[Sequence[Any]]) -> None:
        connection.exec_driver_sql(self._stage)
        driver: Any = connection.connection.driver_connection
        # SQLAlchemy has no COPY, so the driver's errors come past it.
        try:
            with driver.cursor() as cursor, cursor.copy(self._copy) as copy:
                for row in zip(*columns, strict=True):
                    copy.write_row(row)
        except psycopg.Error as error:
            raise DBAPIError.instance(
                "COPY", None, error, psycopg.Error, hide_parameters=True, dialect=connection.dialect
            ) from error

    def _last_of_each_key(self, columns: Sequence[Sequence[Any]]) -> Sequence[Sequence[Any]]:
        # "ON CONFLICT DO UPDATE command cannot affect row a second time"
        keys = list(zip(*(columns[index] for index in self._key_indexes), strict=True))
        last = {key: index for index, key in enumerate(keys)}
        if len(last) == len(keys):
            return columns
        chosen = sorted(last.values())
        return [[values[index] for index in chosen] for values in columns]


def quoted(name: str) -> str:
    """Quote an identifier; declarations allow only letters, digits and _ in them."""
    return f'"{name}"'


def _on_conflict(key: Sequence[str], names: Sequence[str], conflict: ConflictMode) -> str:
    if conflict == "fail":
        return ""
    target = ", ".join(map(quoted, key))
    if conflict == "skip":
        return f"ON CONFLICT ({target}) DO NOTHING"
    # With nothing but the key there is nothing to set, yet the row has to count as updated.
    changed = [name for name in names if name not in key] or list(key)
    return f"ON CONFLICT ({target}) DO UPDATE SET " + ", ".join(
        f"{quoted(name)} = excluded.{quoted(name)}" for name in changed
    )


@lru_cache(maxsize=64)
def _sqlite_lookup(table: str, key: tuple[str, ...], count: int) -> str:
    names = ", ".join(map(quoted, key))
    if len(key) == 1:
        listed = ", ".join("?" * count)
        return f"SELECT count(*) FROM {quoted(table)} WHERE {names} IN ({listed})"  # noqa: S608 - checked names
    one = f"({', '.join('?' * len(key))})"
    listed = ", ".join([one] * count)
    return f"SELECT count(*) FROM {quoted(table)} WHERE ({names}) IN (VALUES {listed})"  # noqa: S608 - checked names


def _postgres_types(connection: Connection, table: str) -> dict[str, str]:
    # Without the length: a cast to varchar(20) would cut text silently, while storing it says that it is too long.
    rows = connection.exec_driver_sql(
        "SELECT attname, format_type(atttypid, NULL) FROM pg_attribute "
        "WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped",
        (quoted(table),),
    ).all()
    if not rows:
        raise PermanentError(f"Table {table!r} is not in the database.")
    return {row.attname: row.format_type for row in rows}
