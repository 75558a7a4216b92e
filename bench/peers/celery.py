"""Celery, set as its guide to optimising says for many short tasks: no results, a large prefetch, no gossip."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, group, signals  # type: ignore[import-not-found]

from bench.peers import runs

#: messages taken ahead by each slot of a worker; the guide names 50 to 150 for short tasks
PREFETCH = 100


def _app(url: str, *, keep: bool = False) -> Any:
    socket = url.removeprefix("unix://")
    app = Celery("bench", broker=f"redis+socket://{socket}", backend=f"redis+socket://{socket}" if keep else None)
    app.conf.update(
        task_ignore_result=not keep,
        worker_prefetch_multiplier=PREFETCH,
        worker_disable_rate_limits=True,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
    )

    @app.task(name="noop")
    def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
        runs.ran()

    @app.task(name="probe")
    def probe(payload: str, sent: float) -> None:  # noqa: ARG001
        runs.started(sent)

    return app


def enqueue(url: str, _: int, jobs: int, *, keep: bool = False) -> dict[str, Any]:
    noop = _app(url, keep=keep).tasks["noop"]
    return runs.one_by_one(jobs, lambda: noop.delay(runs.PAYLOAD))


def enqueue_keep(url: str, concurrency: int, jobs: int) -> dict[str, Any]:
    return enqueue(url, concurrency, jobs, keep=True)


def bulk(url: str, _: int, jobs: int) -> dict[str, Any]:
    """A group is what Celery offers; it sends its tasks one by one over one connection."""
    noop = _app(url).tasks["noop"]
    return runs.timed(
        jobs, lambda: [group(noop.s(runs.PAYLOAD) for _ in range(size)).apply_async() for size in runs.chunks(jobs)]
    )


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    probe = _app(url).tasks["probe"]
    return runs.pace(jobs, lambda sent: probe.delay(runs.PAYLOAD, sent))


def _work(url: str, pool: str, concurrency: int, *, keep: bool = False) -> None:
    app = _app(url, keep=keep)
    signals.worker_ready.connect(lambda **_: runs.ready(), weak=False)
    pool_options = [f"--pool={pool}", f"--concurrency={concurrency}", f"--hostname=bench{os.getpid()}@local"]
    without = ["--without-gossip", "--without-mingle", "--without-heartbeat"]
    app.worker_main(["--quiet", "worker", "--loglevel=ERROR", *pool_options, *without])


def work(url: str, threads: int, _: int) -> None:
    """One thread is the solo pool: jobs run in the thread that fetches them."""
    _work(url, "threads" if threads > 1 else "solo", threads)


def work_prefork(url: str, processes: int, _: int) -> None:
    _work(url, "prefork", processes)


def work_keep(url: str, _: int, __: int) -> None:
    _work(url, "solo", 1, keep=True)


if __name__ == "__main__":
    runs.main(
        "celery",
        {
            "enqueue": enqueue,
            "enqueue-keep": enqueue_keep,
            "bulk": bulk,
            "latency": latency,
            "work": work,
            "work-prefork": work_prefork,
            "work-keep": work_keep,
        },
    )
