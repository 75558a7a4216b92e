"""A plain Dramatiq program runs on JobBroker unchanged: actors, options, middleware."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import dramatiq
import pytest
from dramatiq.middleware import AsyncIO, CurrentMessage, Middleware, Shutdown, SkipMessage, TimeLimitExceeded

from shared.broker.broker import JobBroker
from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import plain_middleware, running


def test_an_actor_gets_what_it_was_sent(broker: JobBroker) -> None:
    calls = []

    @dramatiq.actor
    def record(*args, **kwargs):
        calls.append((args, kwargs))

    with running(broker):
        record.send()
        record.send(1, "zwei", [3, {"vier": None}], fünf="fünf")
        broker.join("default", timeout=10_000)
    assert sorted(calls, key=lambda call: len(call[0])) == [
        ((), {}),
        ((1, "zwei", [3, {"vier": None}]), {"fünf": "fünf"}),
    ]


def test_a_message_sent_before_the_worker_came_is_run(broker: JobBroker) -> None:
    done = threading.Event()

    @dramatiq.actor
    def record():
        done.set()

    record.send()
    with running(broker):
        assert done.wait(10)


def test_urgent_messages_overtake_those_of_other_actors_and_their_own(broker: JobBroker) -> None:
    order = []

    @dramatiq.actor(priority=10)
    def seldom(name):
        order.append(name)

    @dramatiq.actor(priority=0)
    def urgent(name):
        order.append(name)

    seldom.send("seldom 1")
    seldom.send("seldom 2")
    urgent.send("urgent")
    seldom.send_with_options(args=("seldom, but now",), broker_priority=-5)
    with running(broker, threads=1):
        broker.join("default", timeout=10_000)
    assert order == ["seldom, but now", "urgent", "seldom 1", "seldom 2"]


@pytest.mark.parametrize("queue", ["mail.outgoing", "mail-outgoing", "_mail", "a.b-c.d"])
def test_queue_names_may_hold_dots_and_dashes(broker: JobBroker, queue: str) -> None:
    seen = []

    @dramatiq.actor(queue_name=queue)
    def record(value):
        seen.append(value)

    with running(broker):
        record.send(queue)
        record.send_with_options(args=("later",), delay=10)
        broker.join(queue, timeout=10_000)
    assert sorted(seen) == sorted([queue, "later"])
    assert broker.engine.counts(queue).completed == 2


def test_a_worker_serves_only_the_queues_it_was_told(broker: JobBroker) -> None:
    seen = []

    @dramatiq.actor(queue_name="mine")
    def mine():
        seen.append("mine")

    @dramatiq.actor(queue_name="theirs")
    def theirs():
        seen.append("theirs")

    theirs.send()
    with running(broker, queues={"mine"}):
        mine.send()
        broker.join("mine", timeout=10_000)
    assert seen == ["mine"]
    assert broker.engine.counts("theirs").waiting == 1


def test_a_delayed_message_waits_in_the_queue_and_runs_when_due(broker: JobBroker) -> None:
    started = []

    @dramatiq.actor
    def record(name):
        started.append((name, time.monotonic()))

    with running(broker):
        sent = time.monotonic()
        record.send_with_options(args=("later",), delay=300)
        record.send("now")
        assert broker.engine.counts("default").delayed == 1
        broker.join("default", timeout=10_000)
    assert [name for name, _ in started] == ["now", "later"]
    assert 0.295 <= started[1][1] - sent < 0.6


def test_async_actors_run_on_the_event_loop(make_broker: Callable[..., JobBroker]) -> None:
    broker = make_broker(middleware=[*plain_middleware(), AsyncIO()])
    seen = []

    @dramatiq.actor(broker=broker, max_retries=1, min_backoff=10)
    async def record(value):
        await asyncio.sleep(0)
        seen.append(value)
        if len(seen) == 1:
            raise OSError("first time")

    with running(broker):
        record.send("a")
        broker.join("default", timeout=10_000)
    assert seen == ["a", "a"]


def test_a_message_past_its_age_is_rejected_unrun(broker: JobBroker) -> None:
    ran = []

    @dramatiq.actor(max_age=1)
    def record():
        ran.append(1)

    message = record.send()
    job = broker.engine.list("default", State.WAITING).jobs[0]
    eventually(lambda: time.time() * 1000 > job.created_ms + 5)
    with running(broker):
        eventually(lambda: broker.engine.counts("default").failed == 1)
    assert not ran
    error = broker.engine.list("default", State.FAILED).jobs[0].error
    assert message.message_id
    assert error is not None
    assert error["type"] == "SkipMessage"


def test_a_middleware_may_skip_a_message(make_broker: Callable[..., JobBroker]) -> None:
    class SkipAll(Middleware):
        def before_process_message(self, broker, message):
            raise SkipMessage("not today")

    broker = make_broker(middleware=[*plain_middleware(), SkipAll()])
    ran = []

    @dramatiq.actor(broker=broker)
    def record():
        ran.append(1)

    with running(broker):
        record.send()
        broker.join("default", timeout=10_000)
    assert not ran
    assert broker.engine.counts("default").completed == 1


def test_callbacks_follow_success_and_failure(broker: JobBroker) -> None:
    told = []

    @dramatiq.actor
    def on_success(message, result):
        told.append(("success", message["args"], result))

    @dramatiq.actor
    def on_failure(message, error):
        told.append(("failure", message["args"], error))

    @dramatiq.actor(max_retries=0)
    def half(value):
        if value % 2:
            raise ValueError("odd")
        return value // 2

    with running(broker):
        for value in (8, 7):
            half.send_with_options(args=(value,), on_success=on_success, on_failure=on_failure)
        broker.join("default", timeout=10_000)
    assert sorted(told, key=str) == [
        ("failure", [7], {"type": "ValueError", "message": "odd"}),
        ("success", [8], 4),
    ]


def test_an_actor_sees_its_own_message(make_broker: Callable[..., JobBroker]) -> None:
    broker = make_broker(middleware=[*plain_middleware(), CurrentMessage()])
    seen = []

    @dramatiq.actor(broker=broker)
    def record():
        current = CurrentMessage.get_current_message()
        assert current is not None
        seen.append(current.message_id)

    with running(broker):
        message = record.send()
        broker.join("default", timeout=10_000)
    assert seen == [message.message_id]


def test_a_time_limit_interrupts_the_run(make_broker: Callable[..., JobBroker]) -> None:
    broker = make_broker(clock=True)
    raised: list[BaseException] = []

    @dramatiq.actor(broker=broker, time_limit=50, max_retries=0)
    def busy():
        try:
            eventually(lambda: False)
        except TimeLimitExceeded as error:
            raised.append(error)
            raise

    with running(broker):
        busy.send()
        broker.join("default", timeout=10_000)
        assert len(raised) == 1
        # the thread lives on
        busy.send_with_options(time_limit=20)
        broker.join("default", timeout=10_000)
    assert len(raised) == 2
    error = broker.engine.list("default", State.FAILED).jobs[0].error
    assert error is not None
    assert error["type"] == "TimeLimitExceeded"


def test_a_shutdown_interrupts_who_asked_for_it_and_the_message_is_retried(broker: JobBroker) -> None:
    started = threading.Event()
    raised: list[BaseException] = []
    finished = []

    @dramatiq.actor(notify_shutdown=True, min_backoff=1, max_backoff=1)
    def patient():
        if raised:
            finished.append(1)
            return
        started.set()
        try:
            eventually(lambda: False)
        except Shutdown as error:
            raised.append(error)
            raise

    with running(broker):
        patient.send()
        assert started.wait(10)
    assert len(raised) == 1
    with running(broker):
        broker.join("default", timeout=10_000)
    assert finished == [1]
