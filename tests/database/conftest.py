"""Databases of both kinds, empty, one a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.database.postgres import shared_server


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """URL of an empty PostgreSQL database."""
    with shared_server().database() as url:
        yield url


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """URL of an SQLite file that isn't there yet."""
    return f"sqlite:///{tmp_path / 'data' / 'callboard.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def any_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty database; the test runs once for each kind."""
    name = {"sqlite": "sqlite_url", "postgresql": "postgres_url"}[request.param]
    url: str = request.getfixturevalue(name)
    return url
