"""Migrations: both databases, two at once, nothing forgotten."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import inspect

from shared.database import connect
from shared.database.datasets.builtin import DATASETS
from shared.database.datasets.tables import ensure_table
from shared.database.migrate import upgrade
from shared.database.models import metadata
from shared.database.schema import declared_schema


def _tables(url):
    engine = connect(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_an_upgrade_makes_the_folder_and_every_table(any_url):
    upgrade(any_url)
    expected = {dataset.table for dataset in DATASETS} | set(metadata.tables) | {"alembic_version"}
    assert expected <= _tables(any_url)


def test_an_upgrade_of_a_new_database_twice_does_nothing_more(any_url):
    upgrade(any_url)
    upgrade(any_url)


def test_migrations_and_declarations_agree(any_url):
    upgrade(any_url)
    engine = connect(any_url)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, declared_schema()) == []
    engine.dispose()


def test_every_shipped_dataset_has_its_table(any_url):
    upgrade(any_url)
    engine = connect(any_url)
    for dataset in DATASETS:
        ensure_table(engine, dataset)
    engine.dispose()


def test_many_migrators_at_once_all_succeed(any_url, tmp_path):
    environment = {**os.environ, "DATABASE_URL": any_url, "CALLBOARD_DATA_DIR": str(tmp_path)}

    def migrate(_):
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "shared.database.migrate"],
            env=environment,
            capture_output=True,
            text=True,
        )

    with ThreadPoolExecutor(4) as pool:
        runs = list(pool.map(migrate, range(4)))
    assert [(run.returncode, run.stderr) for run in runs] == [(0, "")] * 4
    assert "terms" in _tables(any_url)


def test_the_command_also_makes_tables_of_own_datasets(tmp_path):
    (tmp_path / "own.py").write_text(
        "from shared.database.datasets import Column, Dataset\n"
        "DATASETS = [Dataset('colours', (Column('name', nullable=False),), key=('name',), create=True)]\n"
    )
    environment = {
        **os.environ,
        "CALLBOARD_DATA_DIR": str(tmp_path / "data"),
        "CALLBOARD_DATASETS": str(tmp_path / "own.py"),
    }
    subprocess.run([sys.executable, "-m", "shared.database.migrate"], env=environment, check=True)
    assert "colours" in _tables(f"sqlite:///{tmp_path / 'data' / 'callboard.db'}")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql://user:hunter2@127.0.0.1:1/name", "could not be upgraded"),
        ("mysql://user:hunter2@host/name", "use sqlite:///PATH or postgresql://"),
    ],
)
def test_the_command_says_in_one_line_what_failed(url, message, tmp_path):
    environment = {**os.environ, "DATABASE_URL": url, "CALLBOARD_DATA_DIR": str(tmp_path)}
    run = subprocess.run(
        [sys.executable, "-m", "shared.database.migrate"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 1
    assert message in run.stderr
    assert len(run.stderr.splitlines()) == 1
    assert "hunter2" not in run.stderr
