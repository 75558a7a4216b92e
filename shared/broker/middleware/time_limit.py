"""Dramatiq's TimeLimit, made so that its exception lands in the run or nowhere.

Dramatiq decides to interrupt a thread and does so a moment later, when the run may have ended: the exception then hits
the code that settles it. A run that had failed would count as completed, or the worker thread would die, and jobs that
were fetched for it would wait for ever. Here the end of the run and the interrupt contend for one token: whoever has it
first wins, and a run that lost it waits for its exception before it ends.
"""

from __future__ import annotations

import threading
import time
from typing import Any

import dramatiq
from dramatiq.middleware import TimeLimit, TimeLimitExceeded
from dramatiq.middleware.threading import raise_thread_exception
from structlog.stdlib import get_logger

from shared.broker.message import JobMessage

log = get_logger(__name__)


class RunTimeLimit(TimeLimit):
    """See the module; the function of the actor must call :attr:`JobMessage.run_ended`.

    Args:
        interval: how often runs are looked at, milliseconds.
    """

    def __init__(self, *, interval: int = 1000) -> None:
        super().__init__(interval=interval)
        self.manager: Any = Clocks(interval / 1000)

    def before_process_message(self, broker: dramatiq.Broker, message: JobMessage) -> None:  # type: ignore[override]
        """Start the clock of a run."""
        message.run_ended = self.manager.stop
        super().before_process_message(broker, message)  # type: ignore[no-untyped-call]


class _Clock:
    __slots__ = ("deadline", "raised", "token")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        #: taken by the end of the run or by its interrupt
        self.token = threading.Lock()
        self.raised = False


class Clocks(threading.Thread):
    """The runs of a process and when their time is up, in the shape of Dramatiq's manager of timeouts.

    Args:
        interval_s: how often they are looked at.
    """

    def __init__(self, interval_s: float) -> None:
        super().__init__(name="callboard-clocks", daemon=True)
        self._interval_s = interval_s
        self._clocks: dict[int, _Clock] = {}

    def run(self) -> None:
        """Interrupt the runs whose time is up, for ever."""
        while True:
            time.sleep(self._interval_s)
            try:
                self.look()
            except Exception:
                log.exception("time_limit_error")

    def look(self) -> None:
        """Interrupt the runs whose time is up."""
        now = time.monotonic()
        for thread_id, clock in list(self._clocks.items()):
            if now >= clock.deadline and clock.token.acquire(blocking=False):
                try:
                    raise_thread_exception(thread_id, TimeLimitExceeded)  # type: ignore[no-untyped-call]
                finally:
                    clock.raised = True
                log.warning("time_limit_exceeded", thread=thread_id)

    def add_timeout(self, thread_id: int, ttl: float) -> None:
        """Start the clock of the calling thread's run; ``ttl`` in milliseconds."""
        self._clocks[thread_id] = _Clock(time.monotonic() + ttl / 1000)

    def remove_timeout(self, thread_id: int) -> None:
        """See :meth:`stop`."""
        clock = self._clocks.pop(thread_id, None)
        if clock is None or clock.token.acquire(blocking=False):
            return
        while not clock.raised:
            time.sleep(0.001)
        # The interpreter raises what is pending here at the latest.
        time.sleep(0)

    def stop(self) -> None:
        """End the calling thread's run: once this has returned or raised, nothing interrupts the thread any more."""
        self.remove_timeout(threading.get_ident())
