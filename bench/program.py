"""The program that is measured: one no-op actor, on one broker or the other.

Runs as a child process: ``python -m bench.program PEER ACTION URL THREADS JOBS``; prints one line of JSON.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from shared.broker.broker import JobBroker
from shared.contracts.queue import QueueContract, QueueLimits, RateLimit

#: bytes of a job's argument
PAYLOAD = "x" * 200
#: jobs a second while latency is measured, far below what either can do
PACE_PER_S = 50
WARM_UP_JOBS = 50


class Program:
    """The actor, and a count of its runs.

    Args:
        peer: ``callboard`` or ``dramatiq``.
        url: the server.
        threads: that run jobs.
    """

    def __init__(self, peer: str, url: str, threads: int) -> None:
        self.broker: dramatiq.Broker
        if peer == "callboard":
            # With all that it can do at once: the limit is there and does not bind.
            contract = QueueContract("bench", concurrency=threads, limits=QueueLimits(rate=RateLimit(10_000_000, 1000)))
            self.broker = JobBroker(url=url, queues={"bench": contract})
        else:
            self.broker = RedisBroker(url=url)  # type: ignore[no-untyped-call]
        dramatiq.set_broker(self.broker)
        self.expected = 0
        self.starts: list[tuple[float, float]] = []
        self.done = threading.Event()
        self._runs = 0
        self._mutex = threading.Lock()

        @dramatiq.actor(queue_name="bench")
        def noop(payload: str) -> None:  # noqa: ARG001 - its size is what counts
            with self._mutex:
                self._runs += 1
                if self._runs >= self.expected:
                    self.done.set()

        @dramatiq.actor(queue_name="bench")
        def probe(sent: float) -> None:
            started = time.monotonic()
            with self._mutex:
                self.starts.append((sent, started))

        self.noop, self.probe = noop, probe

    def enqueue(self, threads: int, jobs: int) -> dict[str, Any]:
        """Send from that many threads."""
        with ThreadPoolExecutor(threads) as pool:
            began = time.monotonic()
            list(pool.map(lambda _: self.noop.send(PAYLOAD), range(jobs)))
            seconds = time.monotonic() - began
        return {"jobs_per_s": jobs / seconds}

    def drain(self, threads: int, jobs: int) -> dict[str, Any]:
        """Run what waits, with that many threads."""
        self.expected = jobs
        worker = dramatiq.Worker(self.broker, worker_threads=threads)
        began = time.monotonic()
        cpu = time.process_time()
        worker.start()
        if not self.done.wait(300):
            raise TimeoutError(f"{self._runs} of {jobs} jobs ran")
        # Both are counted to the last acknowledgement and not only to the last run.
        self.broker.join("bench", timeout=60_000)
        seconds = time.monotonic() - began
        cpu = time.process_time() - cpu
        worker.stop()
        return {"jobs_per_s": jobs / seconds, "worker_cpu_us_per_job": cpu / jobs * 1e6}

    def latency(self, threads: int, jobs: int) -> dict[str, Any]:
        """Send to an idle worker at a slow, even pace, from a thread of this process."""
        worker = dramatiq.Worker(self.broker, worker_threads=threads)
        worker.start()
        began = time.monotonic()
        for number in range(jobs + WARM_UP_JOBS):
            time.sleep(max(0.0, began + number / PACE_PER_S - time.monotonic()))
            self.probe.send(time.monotonic())
        self.broker.join("bench", timeout=60_000)
        worker.stop()
        waits = sorted((started - sent) * 1000 for sent, started in self.starts[WARM_UP_JOBS:])
        return {"p50_ms": waits[len(waits) // 2], "p99_ms": waits[int(len(waits) * 0.99)]}


def main(arguments: list[str]) -> None:
    """Do one action and print what was measured."""
    peer, action, url, threads, jobs = arguments
    logging.disable(logging.WARNING)
    program = Program(peer, url, int(threads))
    measured = getattr(program, action)(int(threads), int(jobs))
    print(json.dumps(measured), flush=True)
    program.broker.close()


if __name__ == "__main__":
    main(sys.argv[1:])
