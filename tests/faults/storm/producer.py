"""Adds the jobs of a plan: ``python -m tests.faults.storm.producer FOLDER URL NAMESPACE``.

It may be killed at any moment. What was acknowledged stands in the ledger; the next start repeats the rest, with the
same ids, and the cancels that were not answered.
"""

from __future__ import annotations

import heapq
import sys
import time
from collections import defaultdict
from pathlib import Path

from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable, JobNotFound, WrongState
from tests.faults.storm.dial import Dial
from tests.faults.storm.ledger import Ledger, Writer, read
from tests.faults.storm.plan import Planned, read_plan

#: jobs looked at together; those of one queue are added by one call
BATCH = 8
#: how long it waits for a reply; it has no lease to keep
REPLY_TIMEOUT_S = 1.0


class Producer:
    """See the module.

    Args:
        folder: of the storm.
        engine: the queue.
    """

    def __init__(self, folder: Path, engine: RedisEngine) -> None:
        self._plan = read_plan(folder / "plan")
        self._past = read(folder / "ledger") if (folder / "ledger").exists() else Ledger()
        self._writer = Writer(folder / "ledger")
        #: how many jobs of the plan may be added by now, and will be in all
        self._allowed, self._limit = Dial(folder / "allowed"), Dial(folder / "limit")
        self._engine = engine
        self._cancels: list[tuple[float, str]] = []

    def run(self) -> None:
        """Add what is not acknowledged yet."""
        done = self._past.acknowledged
        for job in self._plan:
            if job.id in done and job.id not in self._past.cancels:
                self._cancel_later(job)
        for start in range(0, len(self._plan), BATCH):
            batch = [job for job in self._plan[start : start + BATCH] if job.id not in done]
            while batch and self._allowed.read() < min(start + BATCH, self._limit.read()):
                self._cancel_due()
                time.sleep(0.005)
            if start >= self._limit.read():
                break
            self._add(batch)
            self._cancel_due()
        while self._cancels:
            self._cancel_due()
            time.sleep(0.005)

    def _add(self, batch: list[Planned]) -> None:
        queues: dict[str, list[Planned]] = defaultdict(list)
        for job in batch:
            queues[job.queue].append(job)
        for queue, jobs in queues.items():
            new = [job.new_job() for job in jobs]
            while True:
                try:
                    self._engine.add(queue, new)
                    break
                except EngineUnavailable:
                    self._writer.write("refused")
                    time.sleep(0.05)
            self._writer.write("acknowledged", *(job.id for job in jobs))
            for job in jobs:
                self._cancel_later(job)

    def _cancel_later(self, job: Planned) -> None:
        if job.cancel_after_ms is not None:
            heapq.heappush(self._cancels, (time.monotonic() + job.cancel_after_ms / 1000, job.id))

    def _cancel_due(self) -> None:
        while self._cancels and self._cancels[0][0] <= time.monotonic():
            job_id = self._cancels[0][1]
            try:
                answer = str(self._engine.cancel(job_id))
            except WrongState:
                answer = "finished"
            except JobNotFound:
                answer = "not found"
            except EngineUnavailable:
                time.sleep(0.05)
                continue
            self._writer.write("cancel", job_id, answer)
            heapq.heappop(self._cancels)


def main() -> None:
    folder, url, namespace = sys.argv[1:]
    engine = RedisEngine.from_url(url, namespace, reply_timeout_s=REPLY_TIMEOUT_S)
    Producer(Path(folder), engine).run()
    engine.close()


if __name__ == "__main__":
    main()
