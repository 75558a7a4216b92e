"""A plain Dramatiq program runs on JobBroker unchanged: pipelines, groups, results."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import dramatiq
import pytest
import redis
from dramatiq import group, pipeline
from dramatiq.middleware import AsyncIO, GroupCallbacks
from dramatiq.rate_limits.backends import RedisBackend as RateLimits
from dramatiq.results import ResultFailure, Results, ResultTimeout
from dramatiq.results.backends import RedisBackend as ResultStore

from shared.broker.broker import JobBroker
from tests.integration.broker.workers import plain_middleware, running
from tests.servers import ValkeyServer


@pytest.fixture
def client(valkey: ValkeyServer) -> Iterator[redis.Redis]:
    with valkey.client() as made:
        yield made


@pytest.fixture
def store(client: redis.Redis, namespace: str) -> ResultStore:
    return ResultStore(client=client, namespace=f"{namespace}-results")


@pytest.fixture
def program(
    make_broker: Callable[..., JobBroker], client: redis.Redis, namespace: str, store: ResultStore
) -> Iterator[JobBroker]:
    """A broker with everything that compositions need, as the program's global one."""
    broker = make_broker(
        middleware=[*plain_middleware(), GroupCallbacks(RateLimits(client=client)), Results(backend=store)]
    )
    dramatiq.set_broker(broker)
    yield broker
    dramatiq.set_broker(None)  # type: ignore[arg-type]


@pytest.fixture
def add(program: JobBroker) -> dramatiq.Actor:
    @dramatiq.actor(store_results=True)
    def add(*numbers):
        return sum(numbers)

    return add


def test_results_are_stored_and_waited_for(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        assert add.send(1, 2).get_result(block=True, timeout=10_000) == 3


def test_results_of_async_actors_are_stored(program: JobBroker) -> None:
    program.add_middleware(AsyncIO())

    @dramatiq.actor(store_results=True)
    async def double(number):
        return 2 * number

    with running(program):
        assert double.send(21).get_result(block=True, timeout=10_000) == 42


def test_the_result_of_a_failure_is_the_failure(program: JobBroker) -> None:
    @dramatiq.actor(store_results=True, max_retries=1, min_backoff=1, max_backoff=1)
    def broken():
        raise ValueError("no such luck")

    with running(program):
        message = broken.send()
        with pytest.raises(ResultFailure, match="no such luck"):
            message.get_result(block=True, timeout=10_000)


def test_a_result_is_there_before_the_message_counts_as_done(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        for number in range(20):
            message = add.send(number)
            program.join("default", timeout=10_000)
            assert message.get_result() == number


def test_a_pipeline_feeds_each_result_to_the_next(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        pipe = add.message(1) | add.message(10) | add.message(100)
        pipe.run()
        assert pipe.get_result(block=True, timeout=10_000) == 111
        assert list(pipe.get_results()) == [1, 11, 111]
        assert pipe.completed


def test_a_step_may_ignore_the_result_before_it(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        pipe = pipeline([add.message(1), add.message_with_options(args=(10,), pipe_ignore=True), add.message(100)])
        pipe.run()
        assert pipe.get_result(block=True, timeout=10_000) == 110


def test_a_pipeline_may_start_late_and_have_late_steps(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        started = time.monotonic()
        pipe = add.message(1) | add.message_with_options(args=(10,), delay=150)
        pipe.run(delay=100)
        assert pipe.get_result(block=True, timeout=10_000) == 11
        assert time.monotonic() - started >= 0.245


def test_a_pipeline_stops_where_a_step_fails(program: JobBroker, add: dramatiq.Actor) -> None:
    ran = threading.Event()

    @dramatiq.actor(max_retries=0, store_results=True)
    def broken(number=None):
        raise ValueError("stop here")

    @dramatiq.actor
    def after(number=None):
        ran.set()

    with running(program):
        pipe = add.message(1) | broken.message() | after.message()
        pipe.run()
        with pytest.raises(ResultFailure):
            pipe.messages[1].get_result(block=True, timeout=10_000)
        program.join("default", timeout=10_000)
    assert not ran.is_set()


def test_a_pipeline_crosses_queues(program: JobBroker, add: dramatiq.Actor) -> None:
    @dramatiq.actor(queue_name="other-queue", store_results=True)
    def double(number=0):
        return 2 * number

    with running(program):
        pipe = add.message(1, 2) | double.message() | add.message(1)
        pipe.run()
        assert pipe.get_result(block=True, timeout=10_000) == 7


def test_the_results_of_a_group_come_in_order(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        batch = group([add.message(number, number) for number in range(10)]).run()
        assert list(batch.get_results(block=True, timeout=10_000)) == [2 * number for number in range(10)]
        assert batch.completed_count == 10


def test_a_group_of_pipelines(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        batch = group([add.message(number) | add.message(100) for number in range(3)]).run()
        assert list(batch.get_results(block=True, timeout=10_000)) == [100, 101, 102]


def test_a_group_may_start_late(program: JobBroker, add: dramatiq.Actor) -> None:
    with running(program):
        batch = group([add.message(1), add.message(2)]).run(delay=200)
        with pytest.raises(ResultTimeout):
            batch.wait(timeout=50)
        assert list(batch.get_results(block=True, timeout=10_000)) == [1, 2]


def test_a_group_calls_back_once_when_all_are_done(program: JobBroker) -> None:
    done = []
    called = []

    @dramatiq.actor(min_backoff=1, max_backoff=1)
    def member(number):
        if number == 3 and number not in done:
            done.append(number)
            raise OSError("the third needs two tries")
        done.append(number)

    @dramatiq.actor
    def finale(word):
        called.append((word, sorted(done)))

    with running(program):
        batch = group([member.message(number) for number in range(5)])
        batch.add_completion_callback(finale.message("all"))
        batch.run()
        program.join("default", timeout=10_000)
    assert called == [("all", [0, 1, 2, 3, 3, 4])]
