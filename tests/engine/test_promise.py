"""Never lost once ``add`` has answered, and never run twice at once: through kills of the server."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

import pytest

from shared.engine.engine import CycleReply, Engine, FinishStatus, LeasedJob, NewJob
from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.engine.harness import cycle, finish, make_job
from tests.servers import PATIENCE_S, ValkeyServer

pytestmark = [pytest.mark.needs_server, pytest.mark.faults]

KILLS = 10
T = TypeVar("T")


def until_answered(call: Callable[[bool], T]) -> T:
    """Call until there is an answer, saying whether it is a repeat; as every caller of the engine does."""
    deadline = time.monotonic() + PATIENCE_S
    repeat = False
    while True:
        try:
            return call(repeat)
        except EngineUnavailable:
            assert time.monotonic() < deadline
            repeat = True
            time.sleep(0.005)


class Producer(threading.Thread):
    """Adds jobs and remembers those whose addition was answered."""

    def __init__(self, engine: Engine, stop: threading.Event) -> None:
        super().__init__()
        self.answered: list[str] = []
        self._engine = engine
        self._stop_asked = stop

    def run(self) -> None:
        while not self._stop_asked.is_set():
            jobs = [make_job() for _ in range(random.randint(1, 5))]
            self._add(jobs)
            self.answered += [job.id for job in jobs]

    def _add(self, jobs: list[NewJob]) -> None:
        until_answered(lambda _repeat: self._engine.add("q", jobs))


class Consumer(threading.Thread):
    """Runs jobs; counts how often each was committed as completed."""

    def __init__(self, engine: Engine, name: str, stop: threading.Event) -> None:
        super().__init__(name=name)
        self.tokens: list[tuple[str, int]] = []
        self.statuses: list[FinishStatus] = []
        self._engine = engine
        self._stop_asked = stop

    def run(self) -> None:
        held: list[LeasedJob] = []
        number = 0
        while held or not self._stop_asked.is_set() or self._waiting():
            number += 1
            reply = self._cycle(held, str(number))
            self.statuses += reply.finishes
            held = reply.jobs
            self.tokens += [(job.id, job.token) for job in held]

    def _waiting(self) -> int:
        return until_answered(lambda _repeat: self._engine.counts("q")).waiting

    def _cycle(self, held: list[LeasedJob], request: str) -> CycleReply:
        ends = [finish(job) for job in held]
        return until_answered(
            lambda repeat: cycle(self._engine, ends, want=3, worker=self.name, request=request, repeat=repeat)
        )


@pytest.mark.timeout(300)
def test_nothing_is_lost_when_the_server_is_killed(make_valkey: Callable[..., ValkeyServer]) -> None:
    server = make_valkey(appendonly=True)
    engine = RedisEngine.from_url(server.url, "t", reply_timeout_s=5)
    stop_adding, stop_running = threading.Event(), threading.Event()
    producers = [Producer(engine, stop_adding) for _ in range(2)]
    consumers = [Consumer(engine, f"w{number}", stop_running) for number in range(2)]
    for thread in (*producers, *consumers):
        thread.start()
    try:
        for _ in range(KILLS):
            goal = len(producers[0].answered) + random.randint(5, 60)
            deadline = time.monotonic() + PATIENCE_S
            while len(producers[0].answered) < goal and time.monotonic() < deadline:
                time.sleep(0.001)
            assert len(producers[0].answered) >= goal
            server.kill()
            server.start()
    finally:
        stop_adding.set()
        for producer in producers:
            producer.join()
        stop_running.set()
        for consumer in consumers:
            consumer.join()
    answered = [job_id for producer in producers for job_id in producer.answered]
    tokens = [token for consumer in consumers for token in consumer.tokens]
    assert sorted(job_id for job_id, _ in tokens) == sorted(answered), "each ran, and ran once"
    assert {status for consumer in consumers for status in consumer.statuses} <= {
        FinishStatus.COMMITTED,
        FinishStatus.ALREADY,
    }
    counts = until_answered(lambda _repeat: engine.counts("q"))
    assert (counts.waiting, counts.active, counts.failed) == (0, 0, 0)
    engine.close()
