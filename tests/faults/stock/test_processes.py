"""Faults of worker processes: killed, frozen, poisoned."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker

from shared.engine.engine import Event, JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.faults.stock.program import Program, StockQueue
from tests.integration.broker.ledger import Ledger
from tests.integration.broker.patience import eventually, never
from tests.integration.broker.processes import WorkerProcess
from tests.servers import ValkeyServer

WORKERS = "services.workers.main"
LEASE_S = 1.0


@pytest.fixture
def ledger(tmp_path: Path, server: ValkeyServer) -> Ledger:
    return Ledger(tmp_path, RedisEngine.from_url(server.url))


@pytest.fixture
def environment(ledger: Ledger, server: ValkeyServer) -> dict[str, str]:
    return ledger.environment(server.url, "cb", lease_s=LEASE_S)


def job_of(ledger: Ledger, job_id: str) -> JobRecord:
    job = ledger.engine.get(job_id)
    assert job is not None
    return job


def events_of(ledger: Ledger, job_id: str) -> list[Event]:
    queue = job_id.rpartition(".")[0]
    return [event for event in ledger.engine.events({queue: "0"}, block_ms=0, limit=10_000) if event.job_id == job_id]


def at_ms(event: Event) -> int:
    return int(event.id.partition("-")[0])


@pytest.mark.parametrize("action", ["gated", "gated_async"])
def test_a_frozen_process_loses_its_job_and_its_late_finish_is_fenced_off(
    ledger: Ledger, environment: dict[str, str], action: str
) -> None:
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=1).ready() as first:
        job_id = ledger.put(action, "job")
        eventually(lambda: len(ledger.lines("began")) == 1)
        first_worker = job_of(ledger, job_id).worker
        with WorkerProcess(WORKERS, ledger.folder, environment, threads=1).ready() as second:
            first.freeze()
            frozen_ms = time.time() * 1000
            eventually(lambda: len(ledger.lines("began")) == 2, why="another worker took it")
            taken = [event for event in events_of(ledger, job_id) if event.name == "active"][1]
            assert at_ms(taken) - frozen_ms < (LEASE_S + 1) * 1000
            ledger.open_gate()
            eventually(lambda: job_of(ledger, job_id).state is State.COMPLETED)
            result = job_of(ledger, job_id).result
            first.thaw()
            eventually(lambda: len(ledger.lines("ended")) == 2 or "lease_lost" in first.log())
            eventually(lambda: "lease_lost" in first.log(), why="the late finish was refused, and said so")
            for worker in (first, second):
                worker.terminate()
                assert worker.wait() == 0, worker.log()
    job = job_of(ledger, job_id)
    assert (job.state, job.result, job.stalls) == (State.COMPLETED, result, 1)
    assert job.worker != first_worker
    names = [event.name for event in events_of(ledger, job_id)]
    assert names == ["added", "active", "stalled", "active", "completed"]
    assert [run["outcome"] for run in job.attempts] == ["stalled", "complete"]


def test_a_poison_job_fails_after_its_stalls_with_that_reason(ledger: Ledger, environment: dict[str, str]) -> None:
    job_id = ledger.put("die", "poison")
    innocent = ledger.put("note", "innocent")
    lives = 0
    while not job_of(ledger, job_id).state.finished:
        lives += 1
        assert lives <= 5, "max_stalls is 2: the third death is the last"
        with WorkerProcess(WORKERS, ledger.folder, environment, threads=1) as worker:
            eventually(lambda: worker.process.poll() is not None or job_of(ledger, job_id).state.finished)
    job = job_of(ledger, job_id)
    assert (job.state, job.stalls) == (State.FAILED, 3)
    assert job.error is not None
    assert job.error["code"] == "max-stalls"
    assert "died or froze 3 times" in job.error["message"]
    assert len(ledger.lines("began")) == 3
    assert [run["outcome"] for run in job.attempts] == ["stalled"] * 3
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=1).ready():
        eventually(lambda: job_of(ledger, innocent).state is State.COMPLETED)


def test_a_poison_message_kills_stock_workers_for_ever(
    ledger: Ledger, server: ValkeyServer, environment: dict[str, str]
) -> None:
    broker = RedisBroker(url=server.url, middleware=[])

    @dramatiq.actor(broker=broker)
    def die(name):
        raise AssertionError("the test's own process runs nothing")

    die.send("poison")
    # its actor says max_retries=1, and yet:
    for life in range(1, 7):
        with WorkerProcess("tests.faults.stock.stock_program", ledger.folder, environment, threads=1) as worker:
            eventually(partial(has_begun, ledger, life), why="it is run again")
            eventually(lambda: worker.process.poll() is not None)
    broker.client.close()


def has_begun(ledger: Ledger, times: int) -> bool:
    return len(ledger.lines("began")) >= times


def test_the_work_of_a_killed_worker_is_taken_up_within_its_lease(ledger: Ledger, environment: dict[str, str]) -> None:
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready() as first:
        jobs = [ledger.put("gated", f"job-{number}") for number in range(2)]
        eventually(lambda: len(ledger.lines("began")) == 2)
        with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready():
            first.kill()
            killed_ms = time.time() * 1000
            eventually(lambda: len(ledger.lines("began")) == 4)
            for job_id in jobs:
                again = [event for event in events_of(ledger, job_id) if event.name == "active"][-1]
                assert at_ms(again) - killed_ms < (LEASE_S + 0.5) * 1000
            ledger.open_gate()
            eventually(lambda: ledger.engine.counts("probe-jobs").completed == 2)


def test_the_work_of_a_dead_stock_worker_stays_with_it(
    program: Callable[..., Program], stock_queue: StockQueue
) -> None:
    dead, alive = program("stock"), program("stock")
    dead.work.send("a")
    # fetched, and then its process is gone: nobody acknowledges and nobody hands back
    fetched = eventually(lambda: dead.broker.consume("default", timeout=10).__next__())
    assert fetched is not None
    assert fetched.args == ("a",)
    with alive.worker():
        never(lambda: alive.runs, during=(LEASE_S + 0.5) * 2, why="by then ours has run again")
    assert (stock_queue.waiting(), stock_queue.unacknowledged()) == (0, 1)


def commands(client: redis.Redis) -> set[str]:
    return {name.removeprefix("cmdstat_") for name in client.info("commandstats")}


def test_who_looks_for_the_dead_does_not_read_every_key(program: Callable[..., Program], direct: redis.Redis) -> None:
    ours = program("ours", lease_s=0.3)
    with ours.worker():
        ours.work.send("a")
        eventually(lambda: ours.runs)
        eventually(lambda: "evalsha" in commands(direct))
    assert not {"keys", "scan"} & commands(direct)
    dead = program("stock", heartbeat_timeout=1)
    dead.work.send("a")
    eventually(lambda: dead.broker.consume("default", timeout=10).__next__())
    lucky = program("stock", heartbeat_timeout=1, maintenance_chance=1_000_000)
    with lucky.worker():
        eventually(lambda: "keys" in commands(direct))
