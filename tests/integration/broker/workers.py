"""Dramatiq workers inside the test's own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dramatiq
from dramatiq.middleware import AgeLimit, Callbacks, Middleware, Pipelines, Retries, ShutdownNotifications, TimeLimit


def plain_middleware() -> list[Middleware]:
    """Dramatiq's default middleware in its order, with a clock that is quick enough for a test."""
    return [AgeLimit(), TimeLimit(interval=20), ShutdownNotifications(), Callbacks(), Pipelines(), Retries()]


@contextmanager
def running(
    broker: dramatiq.Broker, *, threads: int = 4, queues: set[str] | None = None, timeout_ms: int = 50
) -> Iterator[dramatiq.Worker]:
    """Run a stock Dramatiq worker."""
    worker = dramatiq.Worker(broker, worker_threads=threads, worker_timeout=timeout_ms, queues=queues)
    worker.start()
    try:
        yield worker
    finally:
        worker.stop(timeout=20_000)
