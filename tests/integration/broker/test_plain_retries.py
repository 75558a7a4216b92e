"""A plain Dramatiq program runs on JobBroker unchanged: Retries."""

from __future__ import annotations

import time
from collections.abc import Callable

import dramatiq
import pytest
from dramatiq import Retry
from dramatiq.middleware import CurrentMessage

from shared.broker.broker import JobBroker
from shared.engine.engine import JobRecord
from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import plain_middleware, running


def the_job(broker: JobBroker, state: State) -> JobRecord:
    jobs = broker.engine.list("default", state).jobs
    assert len(jobs) == 1
    return jobs[0]


def test_a_failed_message_is_retried_with_backoff_as_the_same_job(broker: JobBroker) -> None:
    starts = []

    @dramatiq.actor(max_retries=3, min_backoff=100, max_backoff=200)
    def flaky():
        starts.append(time.monotonic())
        if len(starts) < 3:
            raise OSError(f"try {len(starts)}")

    with running(broker):
        flaky.send()
        broker.join("default", timeout=10_000)
    # Dramatiq's backoff has jitter: each wait is between a half and the whole of 100 and 200 ms
    assert starts[1] - starts[0] >= 0.045
    assert starts[2] - starts[1] >= 0.045
    job = the_job(broker, State.COMPLETED)
    assert job.attempt == 3
    assert [(run["attempt"], run["outcome"]) for run in job.attempts] == [(1, "retry"), (2, "retry"), (3, "complete")]
    assert [run["error"] and run["error"]["message"] for run in job.attempts] == ["try 1", "try 2", None]


@pytest.mark.parametrize("delay", [60_000.5, 10**20], ids=["a fraction", "for ever"])
def test_any_delay_leaves_a_job_that_can_be_read(broker: JobBroker, delay: float) -> None:
    @dramatiq.actor
    def later():
        raise Retry(delay=delay)  # type: ignore[arg-type]

    with running(broker):
        later.send()
        eventually(lambda: broker.engine.counts("default").delayed == 1)
    assert the_job(broker, State.DELAYED).due_ms is not None


def test_a_message_fails_when_its_retries_are_used_up(broker: JobBroker) -> None:
    told = []

    @dramatiq.actor
    def exhausted(message, figures):
        told.append((message["actor_name"], message["args"], figures))

    @dramatiq.actor(max_retries=2, min_backoff=1, max_backoff=2, on_retry_exhausted="exhausted")
    def broken(value):
        raise OSError("always")

    with running(broker):
        broken.send(7)
        eventually(lambda: told)
        broker.join("default", timeout=10_000)
    assert told == [("broken", [7], {"retries": 2, "max_retries": 2})]
    job = the_job(broker, State.FAILED)
    assert (job.name, job.attempt) == ("broken", 3)
    assert job.error is not None
    assert job.error["message"] == "always"


def test_retries_may_be_decided_by_a_function(broker: JobBroker) -> None:
    asked = []

    def retry_when(retries, error):
        asked.append((retries, str(error)))
        return retries < 1

    @dramatiq.actor(retry_when=retry_when, min_backoff=1, max_backoff=2)
    def broken():
        raise OSError("no")

    with running(broker):
        broken.send()
        eventually(lambda: broker.engine.counts("default").failed == 1)
    assert asked == [(0, "no"), (1, "no")]


def test_what_an_actor_declares_to_throw_is_not_retried(broker: JobBroker) -> None:
    ran = []

    @dramatiq.actor(throws=(KeyError,), min_backoff=1)
    def broken():
        ran.append(1)
        raise KeyError("gone")

    with running(broker):
        broken.send()
        eventually(lambda: broker.engine.counts("default").failed == 1)
    assert ran == [1]
    error = the_job(broker, State.FAILED).error
    assert error is not None
    assert error["type"] == "KeyError"


@pytest.mark.parametrize("delay_ms", [0, 120])
def test_an_actor_may_ask_for_a_retry_and_say_when(broker: JobBroker, delay_ms: int) -> None:
    starts = []

    @dramatiq.actor(min_backoff=60_000)
    def again():
        starts.append(time.monotonic())
        if len(starts) == 1:
            raise Retry("not yet", delay=delay_ms)

    with running(broker):
        again.send()
        broker.join("default", timeout=10_000)
    assert len(starts) == 2
    assert delay_ms / 1000 - 0.005 <= starts[1] - starts[0] < delay_ms / 1000 + 0.5


def test_a_message_carries_its_own_retry_options(broker: JobBroker) -> None:
    ran = []

    @dramatiq.actor(max_retries=0)
    def broken():
        ran.append(1)
        raise OSError("no")

    with running(broker):
        broken.send_with_options(max_retries=2, min_backoff=1, max_backoff=2)
        eventually(lambda: broker.engine.counts("default").failed == 1)
    assert len(ran) == 3


def test_the_call_and_its_options_survive_a_retry(make_broker: Callable[..., JobBroker]) -> None:
    broker = make_broker(middleware=[*plain_middleware(), CurrentMessage()])
    runs = []

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=1, max_backoff=1)
    def broken(value, *, word):
        message = CurrentMessage.get_current_message()
        assert message is not None
        runs.append((value, word, message.message_id, message.options["note"]))
        raise OSError("no")

    with running(broker):
        sent = broken.send_with_options(args=(1,), kwargs={"word": "w"}, note="kept")
        eventually(lambda: broker.engine.counts("default").failed == 1)
    assert runs == [(1, "w", sent.message_id, "kept")] * 2


def test_a_message_that_waits_for_its_retry_shows_why(broker: JobBroker) -> None:
    @dramatiq.actor(min_backoff=60_000)
    def broken():
        raise OSError("the disk is full")

    with running(broker):
        broken.send()
        eventually(lambda: broker.engine.counts("default").delayed == 1)
    job = the_job(broker, State.DELAYED)
    assert job.error is not None
    assert job.error["message"] == "the disk is full"
    assert job.error["retryable"] is True
    assert job.due_ms is not None
