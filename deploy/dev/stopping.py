"""A stop that was asked for by a signal, as something to wait on."""

from __future__ import annotations

import signal
import time


class StopRequest:
    """Becomes true when SIGINT or SIGTERM arrives.

    A plain flag that is looked at every tenth of a second: ``threading.Event.set`` may deadlock in a signal handler
    that interrupts its ``wait``.
    """

    def __init__(self) -> None:
        self.made = False
        for signum in (signal.SIGINT, signal.SIGTERM):
            signal.signal(signum, self._take)

    def _take(self, _signum: int, _frame: object) -> None:
        self.made = True

    def wait(self, timeout_s: float = float("inf")) -> bool:
        """Wait for the request, at most ``timeout_s``; answer whether it was made."""
        deadline = time.monotonic() + timeout_s
        while not self.made and (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
        return self.made
