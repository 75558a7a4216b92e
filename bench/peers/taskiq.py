"""taskiq with taskiq-redis on uvloop, on its two brokers; ``-stream`` actions take the one that acknowledges."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import uvloop  # type: ignore[import-not-found]
from taskiq.api import run_receiver_task  # type: ignore[import-not-found]
from taskiq_redis import ListQueueBroker, RedisStreamBroker  # type: ignore[import-not-found]

from bench.peers import runs

#: deliveries taken ahead of a free slot
PREFETCH = 100


def _broker(url: str, *, stream: bool) -> Any:
    # A stream's group begins with the first message, whichever of sender and worker comes first.
    broker = RedisStreamBroker(url, consumer_id="0") if stream else ListQueueBroker(url)

    @broker.task(task_name="noop")
    async def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
        runs.ran()

    @broker.task(task_name="probe")
    async def probe(payload: str, sent: float) -> None:  # noqa: ARG001
        runs.started(sent)

    return broker


def _send(url: str, how: Callable[[Any], Awaitable[dict[str, Any]]], *, stream: bool) -> dict[str, Any]:
    async def run() -> dict[str, Any]:
        broker = _broker(url, stream=stream)
        await broker.startup()
        try:
            return await how(broker)
        finally:
            await broker.shutdown()

    return asyncio.run(run())


def enqueue(url: str, _: int, jobs: int, *, stream: bool) -> dict[str, Any]:
    def how(broker: Any) -> Awaitable[dict[str, Any]]:
        return runs.one_by_one_async(jobs, lambda: broker.find_task("noop").kiq(runs.PAYLOAD))

    return _send(url, how, stream=stream)


def parallel(url: str, _: int, jobs: int, *, stream: bool) -> dict[str, Any]:
    def how(broker: Any) -> Awaitable[dict[str, Any]]:
        return runs.parallel_async(jobs, lambda: broker.find_task("noop").kiq(runs.PAYLOAD))

    return _send(url, how, stream=stream)


def latency(url: str, _: int, jobs: int, *, stream: bool) -> dict[str, Any]:
    def how(broker: Any) -> Awaitable[dict[str, Any]]:
        return runs.pace_async(jobs, lambda sent: broker.find_task("probe").kiq(runs.PAYLOAD, sent))

    return _send(url, how, stream=stream)


def work(url: str, max_async_tasks: int, _: int, *, stream: bool) -> None:
    async def run() -> None:
        broker = _broker(url, stream=stream)
        broker.is_worker_process = True
        await broker.startup()
        runs.ready()
        await run_receiver_task(broker, max_async_tasks=max_async_tasks, max_prefetch=PREFETCH)

    asyncio.run(run())


if __name__ == "__main__":
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    offered = {"enqueue": enqueue, "parallel": parallel, "latency": latency, "work": work}
    actions = {name: partial(action, stream=False) for name, action in offered.items()}
    actions |= {f"{name}-stream": partial(action, stream=True) for name, action in offered.items()}
    runs.main("taskiq", actions)
