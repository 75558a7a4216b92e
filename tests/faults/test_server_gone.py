"""The queue server is gone for good while a worker is told to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import dramatiq
import pytest
from dramatiq.middleware import Pipelines, Retries

from shared.broker.broker import JobBroker
from shared.errors import EngineUnavailable
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running
from tests.servers import ValkeyServer


@pytest.mark.parametrize("steps", [1, 2], ids=["a finish", "a finish and its follower"])
def test_a_worker_without_its_server_stops_all_the_same_and_nothing_is_lost(
    steps: int, make_valkey: Callable[..., ValkeyServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.broker.channel.STOP_GRACE_S", 0.5)
    server = make_valkey(appendonly=True)
    broker = JobBroker(url=server.url, middleware=[Pipelines(), Retries()], lease_s=1)
    began, gate = threading.Event(), threading.Event()
    done: list[str] = []

    @dramatiq.actor(broker=broker)
    def step(name, before=None):
        began.set()
        gate.wait(10)
        done.append(name)

    dramatiq.pipeline([step.message(f"step {number}") for number in range(steps)], broker=broker).run()
    with running(broker):
        assert began.wait(10)
        server.kill()
        gate.set()
        eventually(lambda: done == ["step 0"])
        told = time.monotonic()
    assert time.monotonic() - told < 10, "the stop is bounded"
    server.start()
    with running(broker):
        eventually(lambda: completed(broker) == steps)
    broker.close()
    # the run that could not be committed is run again: at least once
    assert done == ["step 0", *(f"step {number}" for number in range(steps))]


def completed(broker: JobBroker) -> int:
    try:
        return broker.engine.counts("default").completed
    except EngineUnavailable:  # a connection of before the server's death
        return 0
