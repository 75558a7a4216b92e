"""What a process says about an outage of the queue server: when it began, that it lasts, when it was over.

Every queue, every finish and the lease thread notice an outage and try again several times a second. A line for each
would bury what else happens.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Hashable

from structlog.stdlib import get_logger

from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: an outage that lasts is mentioned again this often, seconds
REMINDER_S = 60.0


class OutageLog:
    """One for all callers of a process that try again until they are answered."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        #: callers that were refused or not answered, and try again
        self._waiting: set[Hashable] = set()
        self._began_at = 0.0
        self._said_at = 0.0

    def failed(self, caller: Hashable, error: EngineUnavailable) -> None:
        """Hear that a call failed, and that its caller tries again.

        Args:
            caller: tells this caller, or this call, from others.
            error: why.
        """
        now = time.monotonic()
        with self._mutex:
            first = not self._waiting
            self._waiting.add(caller)
            if first:
                self._began_at = now
            elif now - self._said_at < REMINDER_S:
                return
            self._said_at = now
            lasts_s = round(now - self._began_at)
        if first:
            log.warning("queue_unavailable", error=error.detail)
        else:
            log.warning("queue_still_unavailable", seconds=lasts_s, error=error.detail)

    def ended(self, caller: Hashable, *, answered: bool) -> None:
        """Hear that a caller was answered, or gave up; calls that never failed need not be told of."""
        with self._mutex:
            if caller not in self._waiting:
                return
            self._waiting.discard(caller)
            if self._waiting or not answered:
                return
            lasted_s = round(time.monotonic() - self._began_at, 1)
        log.info("queue_available_again", seconds=lasted_s)
