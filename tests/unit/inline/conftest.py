"""What the tests of running without a server share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from shared.inline import InlineEngine
from tests.unit.inline import program


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    for told in (program.RAN, program.THREADS, program.HOOKS):
        told.clear()


@pytest.fixture
def engine() -> Iterator[InlineEngine]:
    made = InlineEngine(program.CATALOGUE)
    yield made
    made.close()
