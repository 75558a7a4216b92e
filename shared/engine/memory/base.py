"""What every part of MemoryEngine stands on: the lock, the queues, the steps between them."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from shared.contracts.queue import QUEUE_NAME
from shared.engine.keys import split_job_id
from shared.engine.memory import flows
from shared.engine.memory.clock import Clock
from shared.engine.memory.job import StoredJob
from shared.engine.memory.queue import StoredQueue
from shared.errors import UnknownQueue


class Memory:
    """The queues of a process.

    Args:
        clock: what the time is taken from.
    """

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._changed = threading.Condition(threading.RLock())
        self._queues: dict[str, StoredQueue] = {}

    def advance(self, seconds: float) -> None:
        """Move the clock on, and let workers look what became due by that."""
        with self._changed:
            self.clock.advance(seconds)
            for queue in self._queues.values():
                queue.arm()
            self._changed.notify_all()

    def stored(self, queue: str) -> StoredQueue:
        """Give what is stored of a queue, for tests.

        Raises:
            UnknownQueue: when the name cannot be one of a queue.
        """
        found = self._queues.get(queue)
        if found is None:
            if not QUEUE_NAME.fullmatch(queue):
                raise UnknownQueue(f"{queue!r} is not a queue name: use letters, digits, '.', '-' and '_'.")
            found = self._queues[queue] = StoredQueue(queue)
        return found

    def queues(self) -> list[StoredQueue]:
        """Give every queue that anybody named, for tests."""
        with self._changed:
            return list(self._queues.values())

    def _now_ms(self) -> int:
        return self.clock.now_us() // 1000

    def _find(self, job_id: str) -> StoredJob | None:
        return self.stored(split_job_id(job_id)[0]).jobs.get(job_id)

    @contextmanager
    def _write(self, queue: str) -> Iterator[tuple[StoredQueue, int]]:
        """Change a queue; what that means for other queues is done at once, and whoever waits is told."""
        with self._changed:
            stored = self.stored(queue)
            steps = len(stored.outbox)
            try:
                yield stored, self._now_ms()
            finally:
                if len(stored.outbox) > steps:
                    self._take_steps(stored)
                self._changed.notify_all()

    def _take_steps(self, queue: StoredQueue, limit: int | None = None) -> None:
        touched: dict[str, StoredQueue] = {}
        while queue.outbox and limit != 0:
            limit = None if limit is None else limit - 1
            step = queue.next_step()
            target = queue if step is None else flows.take_step(self.stored, step, self._now_ms())
            if target is not queue and target.outbox:
                touched[target.name] = target
        for target in touched.values():
            self._take_steps(target)
