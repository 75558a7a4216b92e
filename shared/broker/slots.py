"""Worker threads of a process, shared out among its queues.

A job is fetched only when a thread is there to run it, so that no job waits in the memory of one worker while another
is idle. Queues that wait for a thread come before the queue that gives one back: a busy queue cannot starve the others
of its process.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import Protocol


class Claimant(Protocol):
    """Who waits for a thread."""

    def nudge(self) -> None:
        """Hear that one is set aside; called with the lock of :class:`Slots` held, so it must not block."""
        ...


class Slots:
    """A count of idle threads.

    Args:
        total: threads of the process.
    """

    def __init__(self, total: int) -> None:
        self._mutex = threading.Lock()
        self._free = total
        self._waiting: deque[Claimant] = deque()
        self._set_aside: dict[Claimant, int] = {}

    def exchange(self, claimant: Claimant, *, returned: int, wanted: int) -> int:
        """Give threads back and claim others; gives how many were granted, 0 to ``wanted``.

        A claimant that wanted and got none is nudged once one is set aside for it.
        """
        with self._mutex:
            mine = self._set_aside.pop(claimant, 0)
            granted = min(wanted, mine)
            self._free += returned + mine - granted
            self._serve_waiting(claimant)
            more = min(wanted - granted, self._free)
            self._free -= more
            if wanted and not granted + more and claimant not in self._waiting:
                self._waiting.append(claimant)
            return granted + more

    def _serve_waiting(self, claimant: Claimant) -> None:
        while self._free and self._waiting:
            other = self._waiting.popleft()
            if other is not claimant:
                self._free -= 1
                self._set_aside[other] = self._set_aside.get(other, 0) + 1
                other.nudge()
