"""huey on a Redis list with blocking pops, worker threads, without results or periodic tasks. It has no bulk call."""

from __future__ import annotations

from typing import Any

from huey import RedisHuey  # type: ignore[import-not-found]

from bench.peers import runs


class Program:
    """The queue and its two tasks."""

    def __init__(self, url: str) -> None:
        self.huey = RedisHuey("bench", url=url, results=False)

        @self.huey.task(name="noop")
        def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
            runs.ran()

        @self.huey.task(name="probe")
        def probe(payload: str, sent: float) -> None:  # noqa: ARG001
            runs.started(sent)

        self.noop, self.probe = noop, probe


def enqueue(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = Program(url)
    return runs.one_by_one(jobs, lambda: program.noop(runs.PAYLOAD))


def latency(url: str, _: int, jobs: int) -> dict[str, Any]:
    program = Program(url)
    return runs.pace(jobs, lambda sent: program.probe(runs.PAYLOAD, sent))


def work(url: str, threads: int, _: int) -> None:
    consumer: Any = Program(url).huey.create_consumer(workers=threads, worker_type="thread", periodic=False)
    consumer.huey.on_startup()(runs.ready)
    consumer.run()


if __name__ == "__main__":
    runs.main("huey", {"enqueue": enqueue, "latency": latency, "work": work})
