"""Bring the database to the schema of this version: ``python -m shared.database.migrate``.

Any number of processes may do so at once: the whole upgrade is one transaction behind a lock, and whoever comes
second finds nothing left to do.
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, func, select
from sqlalchemy.exc import DBAPIError

from shared.config import Settings, load_settings
from shared.database.datasets import load_datasets
from shared.database.datasets.tables import ensure_table
from shared.database.engine import begin_write, connect, describe_error
from shared.errors import CallboardError

#: key of PostgreSQL's advisory lock; any number that no one else uses
_LOCK_KEY = 0x43_42_4D_49
#: Alembic keeps the migration that runs in a global, so threads of one process take turns
_ONE_AT_A_TIME = threading.Lock()
_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(source: Settings | str) -> None:
    """Bring a database to the newest schema; makes the SQLite file and its folder when they are missing.

    Raises:
        sqlalchemy.exc.OperationalError: when the database cannot be reached.
    """
    engine = connect(source)
    try:
        _upgrade(engine)
    finally:
        engine.dispose()


def alembic_config() -> Config:
    """Give Alembic's configuration; there is no alembic.ini, since the scripts travel in the package."""
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    return config


def _upgrade(engine: Engine) -> None:
    with _ONE_AT_A_TIME, begin_write(engine) as connection:
        if connection.dialect.name == "postgresql":
            # Migrators wait for each other however long it takes; SQLite's write lock is taken by begin_write.
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")
            connection.execute(select(func.pg_advisory_xact_lock(_LOCK_KEY)))
        config = alembic_config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def main() -> int:
    """Upgrade the configured database and make the tables of a user's own datasets.

    Returns:
        0, or 1 when it failed; the reason goes to standard error.
    """
    settings = load_settings()
    try:
        upgrade(settings)
        engine = connect(settings)
        try:
            for dataset in load_datasets(settings.datasets_path).values():
                if dataset.create:
                    ensure_table(engine, dataset)
        finally:
            engine.dispose()
    except CallboardError as error:
        sys.stderr.write(f"{error.detail}\n")
        return 1
    except DBAPIError as error:
        sys.stderr.write(f"The database could not be upgraded: {describe_error(error)}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
