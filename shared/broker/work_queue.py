"""The queue between a process's consumers and its worker threads.

Python's own queue wakes a sleeping thread for every item. With short jobs and many threads, that is a system call and a
switch for each job, although the thread that runs already would come for the item in a moment. This one wakes one
thread at a time: whoever was woken takes an item and wakes the next while there are more. Threads that wait for
something (I/O, a lock) are thus joined by others at once, and threads that do not are left to run.
"""

from __future__ import annotations

import time
from queue import Empty, PriorityQueue
from typing import Any, Generic, Protocol, TypeVar


class Ordered(Protocol):
    """What can be sorted."""

    def __lt__(self, other: Any, /) -> bool:
        """Tell whether it comes first."""
        ...


T = TypeVar("T", bound=Ordered)


class WorkQueue(PriorityQueue[T], Generic[T]):
    """An unbounded :class:`queue.PriorityQueue` that wakes one thread at a time."""

    def __init__(self) -> None:
        super().__init__()
        self._sleepers = 0
        self._waking = False

    @property
    def sleepers(self) -> int:
        """Threads that wait for an item."""
        return self._sleepers

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:  # noqa: ARG002 - never full
        """See :meth:`queue.Queue.put`; never blocks."""
        with self.mutex:
            self._put(item)
            self.unfinished_tasks += 1
            self._wake_one()

    def get(self, block: bool = True, timeout: float | None = None) -> T:
        """See :meth:`queue.Queue.get`.

        Raises:
            queue.Empty: when there was no item in time.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self.mutex:
            while not self._qsize():
                if not block:
                    raise Empty
                self._sleep(deadline)
            item: T = self._get()
            if self._qsize():
                self._wake_one()
            return item

    def _wake_one(self) -> None:
        if self._sleepers and not self._waking:
            self._waking = True
            self.not_empty.notify()

    def _sleep(self, deadline: float | None) -> None:
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            raise Empty
        self._sleepers += 1
        try:
            self.not_empty.wait(left)
        finally:
            self._sleepers -= 1
            # Also after a timeout: a wake-up that came together with it would else be waited for for ever.
            self._waking = False
