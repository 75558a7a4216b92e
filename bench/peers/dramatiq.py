"""Stock Dramatiq on its RedisBroker, with its default middleware. It has no bulk call."""

from __future__ import annotations

import threading
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from bench.peers import runs

QUEUE = "bench"


class Program:
    """The broker and its two actors."""

    def __init__(self, url: str) -> None:
        self.broker = RedisBroker(url=url)  # type: ignore[no-untyped-call]

        @dramatiq.actor(broker=self.broker, queue_name=QUEUE)
        def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
            runs.ran()

        @dramatiq.actor(broker=self.broker, queue_name=QUEUE)
        def probe(payload: str, sent: float) -> None:  # noqa: ARG001
            runs.started(sent)

        self.noop, self.probe = noop, probe


def enqueue(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = Program(url)
    return runs.one_by_one(jobs, lambda: program.noop.send(runs.PAYLOAD))


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = Program(url)
    return runs.pace(jobs, lambda sent: program.probe.send(runs.PAYLOAD, sent))


def work(url: str, threads: int, _: int) -> None:
    dramatiq.Worker(Program(url).broker, worker_threads=threads).start()
    runs.ready()
    threading.Event().wait()


if __name__ == "__main__":
    runs.main("dramatiq", {"enqueue": enqueue, "latency": latency, "work": work})
