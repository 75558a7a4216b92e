"""What an idle worker blocks on, in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from shared.engine.memory.queue import StoredQueue


class MemoryWaiter:
    """See :class:`shared.engine.engine.Waiter`.

    Args:
        changed: the engine's lock, notified of every change.
        find: gives a queue by name.
    """

    def __init__(self, changed: threading.Condition, find: Callable[[str], StoredQueue]) -> None:
        self._changed = changed
        self._find = find
        self._interrupted = False

    def wait(self, queues: Sequence[str], timeout_s: float) -> str | None:
        """See :meth:`Waiter.wait`."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            stored = [self._find(name) for name in queues]
            while True:
                if self._interrupted:
                    self._interrupted = False
                    return None
                for queue in stored:
                    if queue.armed:
                        queue.armed = False
                        return queue.name
                left = deadline - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)

    def interrupt(self) -> None:
        """See :meth:`Waiter.interrupt`."""
        with self._changed:
            self._interrupted = True
            self._changed.notify_all()

    def close(self) -> None:
        """See :meth:`Waiter.close`."""
