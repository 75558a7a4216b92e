"""A plain Dramatiq program runs on JobBroker unchanged: join, flush, encoders, what nobody can run, pauses."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import dramatiq
import pytest
from dramatiq.encoder import PickleEncoder
from dramatiq.errors import QueueJoinTimeout

from shared.broker.broker import JobBroker
from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running


def test_join_waits_and_gives_up_in_time(broker: JobBroker) -> None:
    gate = threading.Event()

    @dramatiq.actor
    def wait():
        gate.wait(10)

    wait.send()
    with pytest.raises(QueueJoinTimeout):
        broker.join("default", timeout=50)
    with running(broker):
        eventually(lambda: broker.engine.counts("default").active == 1)
        with pytest.raises(QueueJoinTimeout):
            broker.join("default", timeout=50)
        gate.set()
        broker.join("default", timeout=10_000)


def test_flush_drops_what_waits(broker: JobBroker) -> None:
    @dramatiq.actor
    def record():
        raise AssertionError("dropped messages are not run")

    @dramatiq.actor(queue_name="other")
    def other():
        raise AssertionError("dropped messages are not run")

    for _ in range(3):
        record.send()
        other.send()
    record.send_with_options(delay=10_000)
    broker.flush("default")
    counts = broker.engine.counts("default")
    assert (counts.waiting, counts.delayed) == (0, 0)
    assert broker.engine.counts("other").waiting == 3
    broker.flush_all()
    assert broker.engine.counts("other").waiting == 0


@pytest.fixture
def _pickles() -> Iterator[None]:
    before = dramatiq.get_encoder()
    dramatiq.set_encoder(PickleEncoder())
    yield
    dramatiq.set_encoder(before)


@pytest.mark.usefixtures("_pickles")
def test_messages_may_be_pickled(broker: JobBroker) -> None:
    seen = []

    @dramatiq.actor(max_retries=1, min_backoff=1)
    def record(value):
        seen.append(value)
        if len(seen) == 1:
            raise OSError("first time")

    with running(broker):
        record.send({1, (2, b"3")})
        broker.join("default", timeout=10_000)
    assert seen == [{1, (2, b"3")}] * 2


def test_a_message_nobody_can_run_fails_and_the_next_one_runs(
    broker: JobBroker, make_broker: Callable[..., JobBroker]
) -> None:
    seen = []

    @dramatiq.actor
    def known():
        seen.append(1)

    @dramatiq.actor(broker=make_broker())
    def gone():
        raise AssertionError("the worker does not know it")

    gone.send()
    with running(broker, threads=1):
        eventually(lambda: broker.engine.counts("default").failed == 1)
        known.send()
        broker.join("default", timeout=10_000)
    assert seen == [1]
    error = broker.engine.list("default", State.FAILED).jobs[0].error
    assert error is not None
    assert error["type"] == "ActorNotFound"


def test_a_worker_can_be_paused_while_it_works(broker: JobBroker, monkeypatch: pytest.MonkeyPatch) -> None:
    # what Dramatiq's consumer rests for before it notices the end of the pause
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 1.0)
    gate = threading.Event()
    seen = []

    @dramatiq.actor
    def wait(value):
        gate.wait(10)
        seen.append(value)

    with running(broker, threads=2) as worker:
        wait.send("before")
        eventually(lambda: broker.engine.counts("default").active == 1)
        pausing = threading.Thread(target=worker.pause)
        pausing.start()
        gate.set()
        pausing.join(10)
        assert not pausing.is_alive()
        wait.send("after")
        worker.resume()
        broker.join("default", timeout=10_000)
    assert seen == ["before", "after"]
