"""A queue never holds more than its cap, however many add at once."""

from __future__ import annotations

import multiprocessing
import random
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import pytest

from shared.contracts.queue import QueueContract, QueueLimits
from shared.engine.engine import Finish, NewJob, Outcome
from shared.engine.keys import new_job_id
from shared.engine.redis import RedisEngine
from shared.errors import QueueFull
from tests.servers import ValkeyServer

CAP = 200
ADDERS = 8
SECONDS = 4.0
CONTRACT = QueueContract("capped", limits=QueueLimits(max_length=CAP))


def add_for_a_while(url: str, seed: int) -> tuple[int, int]:
    """Add one to seven jobs at a time, some of them delayed; gives how many were added and how often it was full."""
    chance = random.Random(seed)
    engine = RedisEngine.from_url(url)
    added = full = 0
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        delay_ms = chance.choice([0, 0, 20])
        jobs = [NewJob(new_job_id("capped"), "noop", b"{}", delay_ms=delay_ms) for _ in range(chance.randint(1, 7))]
        try:
            engine.add("capped", jobs, max_length=CAP)
        except QueueFull:
            full += 1
        else:
            added += len(jobs)
    engine.close()
    return added, full


def run_jobs(engine: RedisEngine, stop: threading.Event) -> None:
    """Make room: take some jobs and complete them."""
    finishes: list[Finish] = []
    while not stop.is_set():
        reply = engine.cycle(
            CONTRACT, worker="w", request="r", repeat=False, want=5, lease_ms=60_000, finishes=finishes
        )
        finishes = [Finish(job.id, job.token, Outcome.COMPLETE) for job in reply.jobs]
        time.sleep(0.002)


@pytest.mark.slow
def test_eight_processes_never_add_more_than_fits(server: ValkeyServer) -> None:
    engine = RedisEngine.from_url(server.url)
    stop = threading.Event()
    runner = threading.Thread(target=run_jobs, args=(engine, stop))
    runner.start()
    longest = looks = 0
    try:
        with ProcessPoolExecutor(ADDERS, multiprocessing.get_context("spawn")) as pool:
            adders = [pool.submit(add_for_a_while, server.url, seed) for seed in range(ADDERS)]
            while not all(adder.done() for adder in adders):
                counts = engine.counts("capped")
                longest = max(longest, counts.waiting + counts.delayed + counts.blocked)
                looks += 1
            done = [adder.result() for adder in adders]
    finally:
        stop.set()
        runner.join()
    assert longest <= CAP
    assert longest > CAP - 7, "the cap was reached"
    assert looks > 100
    assert all(added and full for added, full in done)
    engine.close()
