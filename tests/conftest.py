"""Fixtures that every suite may ask for: a real queue server, and an engine in a namespace of its own."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from shared.engine.redis import RedisEngine
from tests.servers import ValkeyServer
from tests.topologies import ValkeyCluster


def pytest_configure() -> None:
    """Let the programs that tests start hear Ctrl-C: a shell's background jobs ignore it, and so would they."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def valkey() -> Iterator[ValkeyServer]:
    """The server that all tests share: don't stop, pause or flush it, take ``make_valkey`` for that."""
    with ValkeyServer() as server:
        yield server


@pytest.fixture(scope="session")
def cluster() -> Iterator[ValkeyCluster]:
    """A cluster of three nodes that all tests share: don't stop, pause or flush it."""
    with ValkeyCluster() as made:
        yield made


@pytest.fixture
def make_valkey() -> Iterator[Callable[..., ValkeyServer]]:
    """Start a server that the test may mistreat; the arguments are those of :class:`ValkeyServer`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(ValkeyServer(**options))


@pytest.fixture
def namespace() -> str:
    """A key prefix that no other test uses, which is quicker than to empty the server."""
    return f"t{secrets.token_hex(6)}"


@pytest.fixture
def engine(valkey: ValkeyServer, namespace: str) -> Iterator[RedisEngine]:
    """An engine with nothing in it."""
    made = RedisEngine.from_url(valkey.url, namespace)
    yield made
    made.close()
