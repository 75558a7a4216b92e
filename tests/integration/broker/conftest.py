"""Brokers on the real server, and a guard against what Dramatiq swallows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import dramatiq
import pytest

from shared.broker.broker import JobBroker
from shared.engine.redis import RedisEngine
from tests.integration.broker.workers import plain_middleware
from tests.servers import ValkeyServer

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker("needs_server")


@pytest.fixture
def make_broker(valkey: ValkeyServer, namespace: str) -> Iterator[Callable[..., JobBroker]]:
    """Make a broker as a program would; all of one test share their queues.

    The arguments are JobBroker's, and ``clock``: whether time limits are enforced.
    """
    made: list[JobBroker] = []

    def make(*, clock: bool = False, **options: object) -> JobBroker:
        options.setdefault("middleware", plain_middleware())
        options.setdefault("engine", RedisEngine.from_url(valkey.url, namespace))
        broker = JobBroker(**options)  # type: ignore[arg-type]
        if clock:
            # Starts the thread of Dramatiq's TimeLimit, which never ends: only for tests that need it.
            broker.emit_after("process_boot")
        made.append(broker)
        return broker

    yield make
    for broker in made:
        broker.close()


@pytest.fixture
def broker(make_broker: Callable[..., JobBroker]) -> Iterator[JobBroker]:
    """A broker with Dramatiq's default middleware, and the program's global one."""
    made = make_broker()
    dramatiq.set_broker(made)
    yield made
    dramatiq.set_broker(None)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def _nothing_swallowed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Dramatiq logs what a middleware or a consumer raises and goes on; a test must not."""
    yield
    swallowed = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.CRITICAL]
    assert not swallowed, swallowed
