"""Faults of the connection that make Dramatiq's RedisBroker lose, strand or double messages, and ours not.

Each test runs the same program on both; that the stock broker shows the defect is asserted, so that the reason for
having a broker of our own stays a fact.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Event, Thread

import pytest

from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.faults.proxy import Proxy
from tests.faults.requests import script, stock
from tests.faults.stock.program import Program, StockQueue
from tests.integration.broker.patience import eventually, never
from tests.servers import ValkeyServer

MakeProgram = Callable[..., Program]
BOTH = pytest.mark.parametrize("kind", ["stock", "ours"])


@pytest.fixture
def engine(server: ValkeyServer) -> RedisEngine:
    """Our queue, seen past the proxy."""
    return RedisEngine.from_url(server.url)


def fail_first(runs: list[str]) -> Callable[[str], None]:
    def act(name: str) -> None:
        if not runs:
            runs.append(name)
            raise OSError("first time")

    return act


@BOTH
def test_a_retry_that_cannot_be_enqueued(
    kind: str, program: MakeProgram, proxy: Proxy, stock_queue: StockQueue, engine: RedisEngine
) -> None:
    run = program(kind, fail_first([]))
    run.work.send("a")
    # redis-py tries by itself a few times; a server that is out of memory or failing over refuses them all
    rule = proxy.lose_request(stock(b"enqueue") if kind == "stock" else script("cycle", b"retry"), times=10)
    with run.worker():
        if kind == "stock":
            eventually(lambda: rule.applied.is_set() and stock_queue.stored() == 0)
            rule.end()
            never(lambda: len(run.runs) > 1 or stock_queue.stored(), during=1, why="the message is gone")
        else:
            eventually(lambda: engine.counts("default").completed == 1)
            assert rule.applied.is_set()
            assert run.runs == ["a", "a"]


@BOTH
def test_the_reply_to_a_fetch_is_lost(
    kind: str, program: MakeProgram, proxy: Proxy, stock_queue: StockQueue, engine: RedisEngine
) -> None:
    run = program(kind)
    run.work.send("a")
    rule = proxy.lose_reply(stock(b"fetch", b"default") if kind == "stock" else script("cycle"))
    with run.worker():
        assert rule.applied.wait(10)
        if kind == "stock":
            never(lambda: run.runs, during=2, why="it is held by a worker that does not know")
            assert (stock_queue.waiting(), stock_queue.unacknowledged()) == (0, 1)
        else:
            eventually(lambda: engine.counts("default").completed == 1, within=5)
            assert run.runs == ["a"]
            job = engine.list("default", State.COMPLETED).jobs[0]
            assert (job.attempt, job.stalls) == (1, 0), "the repeat was given the same job"


@BOTH
def test_delayed_messages_over_a_connection_that_breaks(
    kind: str,
    program: MakeProgram,
    proxy: Proxy,
    stock_queue: StockQueue,
    engine: RedisEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dramatiq.worker.CONSUMER_RESTART_DELAY_SECS", 0.2)
    run = program(kind)
    with run.worker():
        for name in "abc":
            run.work.send_with_options(args=(name,), delay=1_500)
        if kind == "stock":
            eventually(lambda: stock_queue.unacknowledged() == 3, why="the worker took them into its memory")
        proxy.cut(refuse=True)
        # long enough for redis-py's own tries to end
        cut_at = time.monotonic()
        eventually(lambda: time.monotonic() > cut_at + 1.0)
        proxy.heal()
        if kind == "stock":
            never(lambda: run.runs, during=4, why="they are due, and forgotten")
            assert stock_queue.stored() == 3
        else:
            eventually(lambda: engine.counts("default").completed == 3, within=5)
            assert sorted(run.runs) == ["a", "b", "c"]


@BOTH
def test_a_stop_while_messages_are_on_their_way(
    kind: str, program: MakeProgram, proxy: Proxy, stock_queue: StockQueue, engine: RedisEngine
) -> None:
    run = program(kind)
    match = stock(b"fetch", b"default") if kind == "stock" else script("cycle")
    rule, arrive = proxy.hold_reply(match)
    for name in "abcdef":
        run.work.send(name)
    with run.worker(threads=3) as worker:
        assert rule.applied.wait(10)
        stopping = Thread(target=worker.stop)
        stopping.start()
        # it has been told: its threads have ended or fetch nothing more
        eventually(lambda: not any(thread.is_alive() for thread in worker.workers))
        eventually(lambda: not any(consumer.running for consumer in worker.consumers.values()))
        arrive.set()
        stopping.join(20)
    assert not run.runs
    if kind == "stock":
        assert stock_queue.waiting() < 6
        assert stock_queue.unacknowledged() > 0, "messages stay with a worker that is gone"
    else:
        counts = engine.counts("default")
        assert (counts.waiting, counts.active) == (6, 0)
        jobs = engine.list("default", State.WAITING).jobs
        assert [job.attempt for job in jobs] == [0] * 6


@BOTH
def test_the_server_does_not_answer_an_acknowledgement(
    kind: str, program: MakeProgram, proxy: Proxy, stock_queue: StockQueue, engine: RedisEngine
) -> None:
    run = program(kind)
    run.work.send("a")
    # a half-open connection: neither side is told, so that the client must time out
    rule = proxy.black_hole(stock(b"ack") if kind == "stock" else script("cycle", b"complete"), times=10)
    with run.worker():
        assert rule.applied.wait(10)
        if kind == "stock":
            # redis-py's own tries end, Dramatiq logs the error and forgets the message
            first = time.monotonic()
            eventually(lambda: time.monotonic() > first + 5)
            rule.end()
            never(lambda: not stock_queue.stored(), during=2, why="it is done, and will run again after a restart")
            assert stock_queue.unacknowledged() == 1
        else:
            rule.end()
            eventually(lambda: engine.counts("default").completed == 1, within=10)
    assert run.runs == ["a"]


@pytest.mark.parametrize("fault", ["lost_request", "lost_reply", "late_reply"])
def test_a_finish_is_committed_once_whatever_happens_to_its_call(
    fault: str, program: MakeProgram, proxy: Proxy, engine: RedisEngine
) -> None:
    run = program("ours")
    match = script("cycle", b"complete")
    release = Event()
    if fault == "lost_request":
        rule = proxy.lose_request(match, times=3)
    elif fault == "lost_reply":
        rule = proxy.lose_reply(match, times=3)
    else:
        rule, release = proxy.hold_reply(match, times=1)
    with run.worker():
        run.work.send("a")
        assert rule.applied.wait(10)
        run.work.send("b")
        eventually(lambda: engine.counts("default").completed == 2)
        release.set()
        run.work.send("c")
        eventually(lambda: engine.counts("default").completed == 3)
    assert run.runs == ["a", "b", "c"]
    events = [event.name for event in engine.events({"default": "0"}, block_ms=0)]
    assert (events.count("active"), events.count("completed")) == (3, 3)
    assert {job.attempt for job in engine.list("default", State.COMPLETED).jobs} == {1}


def test_a_lost_reply_to_a_finish_that_fetches_as_well(program: MakeProgram, proxy: Proxy, engine: RedisEngine) -> None:
    run = program("ours")
    names = [f"{number:02d}" for number in range(40)]
    for name in names:
        run.work.send(name)
    rule = proxy.lose_reply(script("cycle", b"complete"), times=10)
    with run.worker():
        eventually(lambda: engine.counts("default").completed == 40)
        assert rule.applied.is_set()
    assert run.runs == names, "each once, and in order"


def test_the_reply_to_an_enqueue_is_lost(program: MakeProgram, proxy: Proxy, engine: RedisEngine) -> None:
    run = program("ours")
    rule = proxy.lose_reply(script("add"), times=2)
    run.work.send("a")
    assert rule.applied.is_set()
    assert engine.counts("default").waiting == 1, "the repeats carried the same id"
