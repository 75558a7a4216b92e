"""Callboard with everything on: states, attempts, events, retention, and a rate limiter that does not bind."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq

from bench.peers import runs
from shared.broker.broker import JobBroker
from shared.broker.message import encode_message
from shared.contracts.queue import QueueContract, QueueLimits, RateLimit, Retention
from shared.engine.engine import NewJob
from shared.engine.keys import new_job_id

QUEUE = "bench"
#: far above what a machine can do
RATE_LIMIT = RateLimit(10_000_000, 1000)


class Program:
    """The broker and its two actors."""

    def __init__(self, url: str, concurrency: int, retention: Retention) -> None:
        contract = QueueContract(
            QUEUE, concurrency=concurrency, limits=QueueLimits(rate=RATE_LIMIT), retention=retention
        )
        self.broker = JobBroker(url=url, queues={QUEUE: contract})

        @dramatiq.actor(broker=self.broker, queue_name=QUEUE)
        def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
            runs.ran()

        @dramatiq.actor(broker=self.broker, queue_name=QUEUE)
        def probe(payload: str, sent: float) -> None:  # noqa: ARG001
            runs.started(sent)

        self.noop, self.probe = noop, probe

    def new_job(self) -> NewJob:
        body = encode_message(self.noop.message(runs.PAYLOAD))
        return NewJob(id=new_job_id(QUEUE), name=self.noop.actor_name, body=body)


def _program(url: str, concurrency: int = 1, retention: Retention | None = None) -> Program:
    return Program(url, concurrency, retention or Retention())


def enqueue(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = _program(url)
    return runs.one_by_one(jobs, lambda: program.noop.send(runs.PAYLOAD))


def bulk(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = _program(url)
    add = program.broker.engine.add
    return runs.timed(
        jobs, lambda: [add(QUEUE, [program.new_job() for _ in range(size)]) for size in runs.chunks(jobs)]
    )


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = _program(url)
    return runs.pace(jobs, lambda sent: program.probe.send(runs.PAYLOAD, sent))


def work(url: str, threads: int, _: int, retention: Retention | None = None) -> None:
    dramatiq.Worker(_program(url, threads, retention).broker, worker_threads=threads).start()
    runs.ready()
    threading.Event().wait()


def work_keep(url: str, threads: int, jobs: int) -> None:
    work(url, threads, jobs, Retention(completed_count=10_000_000))


if __name__ == "__main__":
    actions: dict[str, runs.Action] = {
        "enqueue": enqueue,
        "bulk": bulk,
        "latency": latency,
        "work": work,
        "work-keep": work_keep,
    }
    runs.main("callboard", actions)
