"""RQ with its SimpleWorker, which runs jobs in its own process; the default Worker forks for each job."""

from __future__ import annotations

from typing import Any

import redis
from rq import Queue, SimpleWorker, Worker  # type: ignore[import-not-found]

from bench.peers import runs

#: how long a finished job is kept, seconds; 0 deletes it at once
KEEP_S = 3600


def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
    runs.ran()


def probe(payload: str, sent: float) -> None:  # noqa: ARG001
    runs.started(sent)


def _queue(url: str) -> Any:
    return Queue("bench", connection=redis.Redis.from_url(url))


def enqueue(url: str, _: int, jobs: int) -> dict[str, Any]:
    queue = _queue(url)
    return runs.one_by_one(jobs, lambda: queue.enqueue("bench.peers.rq.noop", runs.PAYLOAD, result_ttl=0))


def bulk(url: str, _: int, jobs: int, *, keep_s: int = 0) -> dict[str, Any]:
    queue = _queue(url)

    def send(size: int) -> object:
        return queue.enqueue_many(
            [Queue.prepare_data("bench.peers.rq.noop", (runs.PAYLOAD,), result_ttl=keep_s) for _ in range(size)]
        )

    return runs.timed(jobs, lambda: [send(size) for size in runs.chunks(jobs)])


def bulk_keep(url: str, concurrency: int, jobs: int) -> dict[str, Any]:
    return bulk(url, concurrency, jobs, keep_s=KEEP_S)


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    queue = _queue(url)
    return runs.pace(jobs, lambda sent: queue.enqueue("bench.peers.rq.probe", runs.PAYLOAD, sent, result_ttl=0))


def _work(url: str, worker_class: Any) -> None:
    queue = _queue(url)
    worker = worker_class([queue], connection=queue.connection)
    runs.ready()
    worker.work(logging_level="ERROR")


def work(url: str, _: int, __: int) -> None:
    _work(url, SimpleWorker)


def work_fork(url: str, _: int, __: int) -> None:
    _work(url, Worker)


if __name__ == "__main__":
    runs.main(
        "rq",
        {
            "enqueue": enqueue,
            "bulk": bulk,
            "bulk-keep": bulk_keep,
            "latency": latency,
            "work": work,
            "work-keep": work,
            "work-fork": work_fork,
        },
    )
