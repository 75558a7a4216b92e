"""The clock of an engine in memory; it goes with the machine's, and can be moved on."""

from __future__ import annotations

import time


class Clock:
    """Time since the epoch, and how far somebody moved it."""

    def __init__(self) -> None:
        self._ahead_us = 0

    def now_us(self) -> int:
        """Give the time, microseconds."""
        return time.time_ns() // 1000 + self._ahead_us

    def advance(self, seconds: float) -> None:
        """Move on; a negative number sets it back, as an operator might the server's."""
        self._ahead_us += round(seconds * 1_000_000)
