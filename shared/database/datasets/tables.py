"""From a declaration to a table in the database."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.types import TypeEngine

from shared.database.datasets.declaration import Column, ColumnType, Dataset
from shared.database.engine import begin_write
from shared.errors import PermanentError


def table_of(dataset: Dataset, metadata: sa.MetaData | None = None) -> sa.Table:
    """Give the table that a declaration describes."""
    columns = [sa.Column(column.name, _sql_type(column), nullable=column.nullable) for column in dataset.columns]
    return sa.Table(dataset.table, metadata or sa.MetaData(), *columns, sa.PrimaryKeyConstraint(*dataset.key))


def ensure_table(engine: sa.Engine, dataset: Dataset) -> None:
    """Make the table if it is missing and the declaration says ``create=True``, and check that it fits.

    Raises:
        PermanentError: when the table or one of its columns is missing, or nothing makes the key unique.
    """
    if dataset.create:
        with begin_write(engine) as connection:
            if connection.dialect.name == "postgresql":
                # Two workers may start at once, and CREATE TABLE IF NOT EXISTS is not safe against that there.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(sa.func.hashtext(dataset.table))))
            table_of(dataset).create(connection, checkfirst=True)
    inspector = sa.inspect(engine)
    if not inspector.has_table(dataset.table):
        raise PermanentError(
            f"Dataset {dataset.name!r} has no table {dataset.table!r} in the database. For the datasets that come with "
            "Callboard run 'python -m shared.database.migrate'; for your own make the table, or declare create=True."
        )
    there = {column["name"] for column in inspector.get_columns(dataset.table)}
    missing = [column.name for column in dataset.columns if column.name not in there]
    if missing:
        raise PermanentError(
            f"Table {dataset.table!r} lacks what dataset {dataset.name!r} declares: {', '.join(missing)}. "
            "Add the columns to the table or remove them from the declaration."
        )
    if not _key_is_unique(inspector, dataset):
        raise PermanentError(
            f"Nothing makes ({', '.join(dataset.key)}) unique in table {dataset.table!r}, so dataset {dataset.name!r} "
            "cannot tell new rows from known ones: add a unique index on exactly these columns."
        )


def _key_is_unique(inspector: sa.Inspector, dataset: Dataset) -> bool:
    key = set(dataset.key)
    if set(inspector.get_pk_constraint(dataset.table)["constrained_columns"]) == key:
        return True
    if any(set(item["column_names"]) == key for item in inspector.get_unique_constraints(dataset.table)):
        return True
    return any(
        index["unique"]
        and set(index["column_names"]) == key
        and not index.get("dialect_options", {}).get("postgresql_where")
        for index in inspector.get_indexes(dataset.table)
    )


def _sql_type(column: Column) -> TypeEngine[Any]:
    types: dict[ColumnType, TypeEngine[Any]] = {
        ColumnType.TEXT: sa.Text(),
        ColumnType.INTEGER: sa.BigInteger(),
        ColumnType.NUMBER: sa.Double(),
        ColumnType.BOOLEAN: sa.Boolean(),
        ColumnType.DATE: sa.Date(),
        ColumnType.DATETIME: sa.DateTime(timezone=True),
        ColumnType.JSON: sa.JSON().with_variant(JSONB(), "postgresql"),
    }
    return types[column.type]
