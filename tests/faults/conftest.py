"""Every test in this folder is a fault test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.proxy import Proxy
from tests.servers import ValkeyServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("faults")
            item.add_marker("needs_server")


@pytest.fixture
def server(make_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    """A server of the test's own."""
    return make_valkey()


@pytest.fixture
def proxy(server: ValkeyServer) -> Iterator[Proxy]:
    made = Proxy(server.socket)
    yield made
    made.close()
