"""A migrated database of each kind, and a product around it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shared.database.migrate import upgrade
from tests.database.postgres import shared_server
from tests.families.imports.harness import Imports


@pytest.fixture
def make_imports(tmp_path: Path) -> Iterator[Callable[..., Imports]]:
    """Make a product on SQLite with given bounds."""
    made: list[Imports] = []

    def make(url: str | None = None, **bounds: int) -> Imports:
        url = url or f"sqlite:///{tmp_path / 'callboard.db'}"
        upgrade(url)
        made.append(Imports(url, tmp_path, **bounds))
        return made[-1]

    yield make
    for imports in made:
        imports.engine.dispose()


@pytest.fixture
def imports(make_imports: Callable[..., Imports]) -> Imports:
    """A product on SQLite."""
    return make_imports()


@pytest.fixture(params=["sqlite", "postgresql"])
def any_imports(request: pytest.FixtureRequest, make_imports: Callable[..., Imports]) -> Iterator[Imports]:
    """A product; the test runs once for each kind of database."""
    if request.param == "sqlite":
        yield make_imports()
        return
    with shared_server().database() as url:
        made = make_imports(url)
        yield made
        made.engine.dispose()
