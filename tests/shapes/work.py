"""A producer and a worker that keep going while servers fail, and what came of every job."""

from __future__ import annotations

import threading
from collections import Counter
from contextlib import suppress
from types import TracebackType

from shared.contracts.queue import QueueContract
from shared.engine.engine import Finish, FinishStatus
from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.engine.harness import cycle, finish, make_job
from tests.topologies import wait_until


class Traffic:
    """Adds jobs to some queues and runs them, until the end of the block.

    Args:
        url: the queue server.
        namespace: prefix of every key.
        queues: their names.
    """

    def __init__(self, url: str, namespace: str, queues: list[str]) -> None:
        self._engine = RedisEngine.from_url(url, namespace, reply_timeout_s=1.0)
        self._queues = queues
        self._stopping = threading.Event()
        self._added_enough = threading.Event()
        self._threads = [threading.Thread(target=self._add, args=(queue,)) for queue in queues]
        self._threads.append(threading.Thread(target=self._work))
        #: ids whose add was answered
        self.acknowledged: set[str] = set()
        #: id -> finishes that were committed
        self.finished: Counter[str] = Counter()
        self.outages = 0

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        self.wait_for_more()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        self._engine.close()

    def wait_for_more(self, count: int = 20, patience_s: float = 60) -> None:
        """Wait until jobs of every queue were run that had not been added before."""
        known = set(self.acknowledged)

        def fresh() -> bool:
            new = Counter(job_id.rpartition(".")[0] for job_id in list(self.finished) if job_id not in known)
            return all(new[queue] >= count for queue in self._queues)

        wait_until(fresh, f"work goes on in {self._queues}", patience_s)

    def run_out(self) -> None:
        """Add no more, and wait until everything that was acknowledged has been run."""
        self._added_enough.set()
        for thread in self._threads[:-1]:
            thread.join()
        wait_until(lambda: not self.acknowledged - self.finished.keys(), "all that was acknowledged is run", 30)

    def _add(self, queue: str) -> None:
        while not self._stopping.is_set() and not self._added_enough.is_set():
            job = make_job(queue)
            while not self._stopping.is_set():
                try:
                    self._engine.add(queue, [job])
                except EngineUnavailable:
                    self.outages += 1
                    self._stopping.wait(0.05)
                else:
                    self.acknowledged.add(job.id)
                    break
            self._stopping.wait(0.005)

    def _work(self) -> None:
        waiter = self._engine.waiter("w")
        ends: dict[str, list[Finish]] = {queue: [] for queue in self._queues}
        while not self._stopping.is_set():
            with suppress(EngineUnavailable):
                waiter.wait(self._queues, 0.2)
            for queue in self._queues:
                self._cycle(queue, ends)
        waiter.close()

    def _cycle(self, queue: str, ends: dict[str, list[Finish]]) -> None:
        contract = QueueContract(queue)
        try:
            # A lost reply is not asked for again: its jobs come back when their lease runs out.
            reply = cycle(self._engine, ends[queue], want=10, queue=contract, worker="w", lease_ms=1_000)
        except EngineUnavailable:
            self.outages += 1
            return
        for done, status in zip(ends[queue], reply.finishes, strict=True):
            if status in (FinishStatus.COMMITTED, FinishStatus.ALREADY):
                self.finished[done.job_id] += 1
        ends[queue] = [finish(job) for job in reply.jobs]
