"""Programs on either broker, behind a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.faults.proxy import Proxy
from tests.faults.stock.program import Program, StockQueue
from tests.servers import ValkeyServer


@pytest.fixture
def program(proxy: Proxy) -> Iterator[Callable[..., Program]]:
    """Make programs that reach the server through the proxy."""
    made: list[Program] = []

    def make(kind: str, *args: object, **options: object) -> Program:
        made.append(Program(kind, proxy.url, *args, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def direct(server: ValkeyServer) -> Iterator[redis.Redis]:
    """A connection past the proxy."""
    with server.client() as client:
        yield client


@pytest.fixture
def stock_queue(direct: redis.Redis) -> StockQueue:
    return StockQueue(direct)
