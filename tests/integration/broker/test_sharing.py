"""Threads are shared out among queues and workers, and nobody polls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial

import dramatiq
import redis

from shared.broker.broker import JobBroker
from shared.contracts.queue import QueueContract
from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running
from tests.servers import ValkeyServer


def is_longer(events: list[float], count: int) -> bool:
    return len(events) > count


def test_a_flood_on_one_queue_does_not_starve_another(broker: JobBroker) -> None:
    flood_done: list[float] = []
    single_done: list[float] = []

    @dramatiq.actor(queue_name="flood")
    def flood():
        time.sleep(0.002)
        flood_done.append(time.monotonic())

    @dramatiq.actor(queue_name="single")
    def single():
        single_done.append(time.monotonic())

    for _ in range(1500):
        flood.send()
    with running(broker, threads=2):
        eventually(lambda: len(flood_done) >= 50)
        for number in range(10):
            single.send()
            eventually(partial(is_longer, single_done, number), within=5)
        left = broker.engine.counts("flood").waiting
        broker.flush("flood")
    assert left > 0, "the flood must last longer than the test"


def test_two_floods_share_the_threads(broker: JobBroker) -> None:
    order: list[str] = []

    @dramatiq.actor(queue_name="left")
    def left():
        order.append("left")

    @dramatiq.actor(queue_name="right")
    def right():
        order.append("right")

    for _ in range(200):
        left.send()
        right.send()
    with running(broker, threads=2):
        broker.join("left", timeout=20_000)
        broker.join("right", timeout=20_000)
    half = order[:200]
    assert 50 <= half.count("left") <= 150


def test_a_queue_runs_no_more_jobs_at_once_than_it_says(make_broker: Callable[..., JobBroker]) -> None:
    broker = make_broker(queues={"narrow": QueueContract("narrow", concurrency=2)})
    mutex = threading.Lock()
    now, most = 0, 0

    @dramatiq.actor(broker=broker, queue_name="narrow")
    def narrow():
        nonlocal now, most
        with mutex:
            now += 1
            most = max(most, now)
        time.sleep(0.01)
        with mutex:
            now -= 1

    for _ in range(40):
        narrow.send()
    with running(broker, threads=6):
        broker.join("narrow", timeout=20_000)
    assert most == 2


def test_every_thread_of_a_worker_is_used(broker: JobBroker) -> None:
    together = threading.Barrier(6)

    @dramatiq.actor(max_retries=0)
    def meet():
        together.wait(10)

    with running(broker, threads=6):
        for _ in range(6):
            meet.send()
        eventually(lambda: broker.engine.counts("default").completed == 6)


def test_no_job_waits_in_a_busy_worker_while_another_is_idle(make_broker: Callable[..., JobBroker]) -> None:
    gate = threading.Event()
    ran: list[str] = []

    def program(name: str) -> tuple[JobBroker, dramatiq.Actor]:
        broker = make_broker()

        @dramatiq.actor(broker=broker, actor_name="work")
        def work(kind):
            if kind == "long":
                gate.wait(10)
            ran.append(f"{kind} {name}")

        return broker, work

    busy, work = program("busy")
    idle, _ = program("idle")
    with running(busy, threads=1):
        work.send("long")
        eventually(lambda: busy.engine.counts("default").active == 1)
        for _ in range(3):
            work.send("short")
        with running(idle, threads=1):
            eventually(lambda: len(ran) == 3)
            gate.set()
            busy.join("default", timeout=10_000)
    assert sorted(ran) == ["long busy", "short idle", "short idle", "short idle"]


def test_two_workers_share_a_queue_and_run_each_message_once(make_broker: Callable[..., JobBroker]) -> None:
    ran: list[tuple[str, int]] = []

    def program(name: str) -> tuple[JobBroker, dramatiq.Actor]:
        broker = make_broker()

        @dramatiq.actor(broker=broker, actor_name="work")
        def work(number):
            ran.append((name, number))

        return broker, work

    one, work = program("one")
    other, _ = program("other")
    with running(one, threads=2), running(other, threads=2):
        for number in range(300):
            work.send(number)
        one.join("default", timeout=20_000)
    assert sorted(number for _, number in ran) == list(range(300))
    assert {name for name, _ in ran} == {"one", "other"}


def test_an_idle_worker_starts_a_job_at_once(broker: JobBroker) -> None:
    started: list[float] = []

    @dramatiq.actor
    def note():
        started.append(time.monotonic())

    waits = []
    # The worker's own timeout is long: what starts the job must be the wake-up.
    with running(broker, timeout_ms=1000):
        for number in range(20):
            sent = time.monotonic()
            note.send()
            eventually(partial(is_longer, started, number), within=5)
            waits.append(started[-1] - sent)
    waits.sort()
    assert waits[len(waits) // 2] < 0.05
    assert waits[-1] < 0.5


def test_a_delayed_job_starts_when_it_is_due(broker: JobBroker) -> None:
    started: list[float] = []

    @dramatiq.actor
    def note():
        started.append(time.monotonic())

    with running(broker, timeout_ms=1000):
        sent = time.monotonic()
        note.send_with_options(delay=2_000)
        # a nearer one must not wait for the farther one's timer
        note.send_with_options(delay=200)
        eventually(lambda: len(started) == 2)
    assert 0.195 <= started[0] - sent < 0.4
    assert 1.995 <= started[1] - sent < 2.2


def calls_made(client: redis.Redis) -> int:
    """Commands from outside; those that scripts call are counted by the server as well, so only entries count."""
    stats = client.info("commandstats")
    return sum(
        stats.get(f"cmdstat_{name}", {}).get("calls", 0)
        for name in ("evalsha", "eval", "blpop", "hget", "hmget", "fcall")
    )


def test_idle_workers_do_not_poll(make_valkey: Callable[..., ValkeyServer]) -> None:
    server = make_valkey()
    broker = JobBroker(url=server.url, middleware=[])
    for number in range(5):
        broker.declare_queue(f"queue-{number}")
    with running(broker, threads=8, timeout_ms=20), server.client() as client:
        # each queue has been found empty once, and the one blocking pop is under way
        eventually(lambda: client.info("clients")["blocked_clients"] == 1)
        first, begin = calls_made(client), time.monotonic()
        eventually(lambda: time.monotonic() - begin > 1.5)
        made = calls_made(client) - first
    broker.close()
    # five queues look once every five seconds and renew once every ten, and one pop lasts four
    assert made <= 6, f"{made} calls in 1.5 s of five idle queues"


def test_jobs_fetched_ahead_are_handed_back_when_they_wait_behind_long_ones(broker: JobBroker) -> None:
    short_done: list[float] = []
    go_on = threading.Event()

    @dramatiq.actor
    def short():
        short_done.append(time.monotonic())

    @dramatiq.actor
    def long():
        go_on.wait(30)

    for _ in range(300):
        short.send()
    with running(broker, threads=2):
        eventually(lambda: len(short_done) == 300)
        assert broker._slots is not None
        assert broker._slots.ahead > 0, "the process must look ahead by now"
        bodies = [long.message() for _ in range(2)] + [short.message() for _ in range(10)]
        broker.engine.add("default", [broker._new_job(message, 0) for message in bodies])

        def waits_for_others() -> bool:
            counts = broker.engine.counts("default")
            return (counts.active, counts.waiting) == (2, 10)

        eventually(waits_for_others)
        with running(make_other(broker), threads=1):
            eventually(lambda: len(short_done) == 310, why="another worker runs what was handed back")
        go_on.set()
        broker.join("default", timeout=20_000)
    jobs = broker.engine.list("default", State.COMPLETED, limit=200).jobs
    assert {job.attempt for job in jobs} == {1}, "what was handed back counts no attempt"


def make_other(broker: JobBroker) -> JobBroker:
    """A second worker process, as far as the queue server can tell."""
    other = JobBroker(broker.engine, middleware=[])
    for actor in broker.actors.values():
        other.declare_actor(actor)
    return other
