"""Alembic's entry: runs the migrations on the connection that :mod:`shared.database.migrate` holds."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from shared.config import load_settings
from shared.database.engine import begin_write, connect
from shared.database.schema import declared_schema


def _run(connection: Connection) -> None:
    # The caller's transaction spans everything; SQLite's DDL is transactional too once the driver leaves it alone.
    context.configure(connection=connection, target_metadata=declared_schema(), render_as_batch=True)
    context.run_migrations()


_held: Connection | None = context.config.attributes.get("connection")
if _held is not None:
    _run(_held)
else:  # a developer runs `alembic` itself, e.g. to compare models with migrations
    _engine = connect(load_settings())
    with begin_write(_engine) as _own:
        _run(_own)
