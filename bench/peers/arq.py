"""arq on uvloop, without kept results and with a short poll delay (its default of 0.5 s is the wait when idle)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import uvloop  # type: ignore[import-not-found]
from arq import create_pool, func  # type: ignore[import-not-found]
from arq.connections import RedisSettings  # type: ignore[import-not-found]
from arq.worker import Worker  # type: ignore[import-not-found]

from bench.peers import runs

POLL_S = 0.01
KEEP_S = 3600


async def noop(_context: dict[str, Any], payload: str) -> None:  # noqa: ARG001 - its size is what counts
    runs.ran()


async def probe(_context: dict[str, Any], payload: str, sent: float) -> None:  # noqa: ARG001
    runs.started(sent)


def _settings(url: str) -> Any:
    return RedisSettings(unix_socket_path=url.removeprefix("unix://"))


def _send(url: str, how: Callable[[Any], Awaitable[dict[str, Any]]]) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        return await how(await create_pool(_settings(url)))

    return asyncio.run(run())


def enqueue(url: str, _: int, jobs: int) -> dict[str, Any]:
    return _send(url, lambda pool: runs.one_by_one_async(jobs, lambda: pool.enqueue_job("noop", runs.PAYLOAD)))


def parallel(url: str, _: int, jobs: int) -> dict[str, Any]:
    return _send(url, lambda pool: runs.parallel_async(jobs, lambda: pool.enqueue_job("noop", runs.PAYLOAD)))


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    return _send(url, lambda pool: runs.pace_async(jobs, lambda sent: pool.enqueue_job("probe", runs.PAYLOAD, sent)))


def work(url: str, max_jobs: int, _: int, *, keep_s: int = 0) -> None:
    async def tell(_context: dict[str, Any]) -> None:
        runs.ready()

    worker = Worker(
        functions=[func(noop, name="noop"), func(probe, name="probe")],
        redis_settings=_settings(url),
        max_jobs=max_jobs,
        poll_delay=POLL_S,
        keep_result=keep_s,
        log_results=False,
        on_startup=tell,
    )
    worker.run()


def work_keep(url: str, max_jobs: int, jobs: int) -> None:
    work(url, max_jobs, jobs, keep_s=KEEP_S)


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    actions: dict[str, runs.Action] = {
        "enqueue": enqueue,
        "parallel": parallel,
        "latency": latency,
        "work": work,
        "work-keep": work_keep,
    }
    runs.main("arq", actions)
