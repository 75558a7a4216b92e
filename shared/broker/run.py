"""One run of a handler, and how it is told to stop.

The danger in interrupting a thread is the moment after: an exception that is raised in a thread lands a little later,
when the run may have ended, and hits the code that settles it. A run that had failed would count as completed, or the
worker thread would die, and jobs that were fetched for it would wait for ever. Here the end of the run and its
interrupts contend for one lock. Who interrupts holds it while the exception is set; the end takes it for good, which is
one call into C and so happens or does not, and then meets what is still on its way.

An interrupt may hit the end of the run itself, before it has the lock. That is why a run is interrupted a bounded
number of times (:data:`ORDERS`), and ended by as many nested ``finally`` clauses: each interrupt can spoil one of them.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

from dramatiq.middleware.threading import raise_thread_exception

from shared.context import JobContext
from shared.engine.engine import LeaseStatus
from shared.errors import JobCancelled, LeaseLost, RunStopped, TimeLimitExceeded

#: how often a run is told to stop at most: once, and again after each time of grace
ORDERS = 3


class Run:
    """See the module.

    Args:
        context: what its handler is given.
        limit_s: longest time it may take, seconds; None for no limit.
        grace_s: how long it may take to clean up before it is told again.
        enlist: told of the run when it begins, so that somebody looks at it.
        dismiss: told of it when it ends.
    """

    def __init__(
        self,
        context: JobContext,
        *,
        limit_s: float | None,
        grace_s: float,
        enlist: Callable[[Run], None] = lambda _: None,
        dismiss: Callable[[Run], None] = lambda _: None,
    ) -> None:
        self.context = context
        self.grace_s = grace_s
        #: why it was told to stop
        self.reason: type[RunStopped] | None = None
        #: how often it was told
        self.orders = 0
        self._limit_s = math.inf if limit_s is None else limit_s
        self._enlist = enlist
        self._dismiss = dismiss
        # Owned by the run's thread once the run has ended; reentrant, since it may be ended more than once.
        self._token = threading.RLock()
        self._thread_id = 0
        self._deadline = math.inf
        self._next_order = math.inf
        self._heard_at: float | None = None
        self._deliver: Callable[[type[RunStopped]], None] | None = None

    # -- called by the thread of the run --

    def begin(self, deliver: Callable[[type[RunStopped]], None] | None = None, *, head_start_s: float = 0) -> None:
        """Start the clock of the calling thread's run.

        Args:
            deliver: how the run is told to stop, called by another thread; None raises an exception in this one.
            head_start_s: how long getting ready may take, until :meth:`restart_clock`.
        """
        self._thread_id = threading.get_ident()
        self._deliver = deliver
        self._deadline = time.monotonic() + self._limit_s + head_start_s
        self._enlist(self)

    def restart_clock(self) -> None:
        """Count the time from now on: the handler begins."""
        self._deadline = time.monotonic() + self._limit_s

    def end(self) -> None:
        """End the run: once this has returned or raised with the lock, nothing interrupts the thread any more."""
        self._dismiss(self)
        self._token.acquire()
        if self.orders:
            # What is on its way is raised by the interpreter here at the latest. Not without need: it is a switch.
            time.sleep(0)

    # -- called by the one thread that looks at runs --

    def look(self, now: float) -> type[RunStopped] | None:
        """Tell the run to stop if it should; gives why, when it did so.

        Args:
            now: monotonic seconds.
        """
        if self.reason is None:
            self.reason = self._why(now)
            if self.reason is None:
                return None
        elif self.orders >= ORDERS or now < self._next_order:
            return None
        return self.reason if self._order(now, self.reason) else None

    def _why(self, now: float) -> type[RunStopped] | None:
        status = self.context.status
        if status is not LeaseStatus.HELD:
            if self._heard_at is None:
                self._heard_at = now
            # A handler that looks by itself gets the time to end as it sees fit.
            if not self.context.polls or now >= self._heard_at + self.grace_s:
                return LeaseLost if status is LeaseStatus.LOST else JobCancelled
        return TimeLimitExceeded if now >= self._deadline else None

    def _order(self, now: float, reason: type[RunStopped]) -> bool:
        if not self._token.acquire(blocking=False):
            # It has ended, and was interrupted before it could be taken off the list.
            self._dismiss(self)
            return False
        try:
            self.orders += 1
            self._next_order = now + self.grace_s
            if self._deliver is None:
                raise_thread_exception(self._thread_id, reason)  # type: ignore[no-untyped-call]
            else:
                self._deliver(reason)
        finally:
            self._token.release()
        return True
