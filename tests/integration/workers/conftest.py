"""Real worker processes of a family whose jobs break things, and their probes."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.engine.redis import RedisEngine
from tests.integration.workers.site import Site
from tests.servers import ValkeyServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("needs_server")


@pytest.fixture
def site(tmp_path: Path, valkey: ValkeyServer, namespace: str, engine: RedisEngine) -> Site:
    """Workers on the server that all tests share."""
    return Site(tmp_path, engine, valkey.url, namespace)
