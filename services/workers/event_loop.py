"""Dramatiq's event loop for async handlers, on a thread that does not outlive its process's order to quit.

Dramatiq's own thread is no daemon, so that an interpreter that exits waits for it, and nobody stops it: a worker
process that is told to stop for the second time hangs for ever, and its master with it.
"""

from __future__ import annotations

import dramatiq
from dramatiq.asyncio import EventLoopThread, set_event_loop_thread
from dramatiq.middleware import AsyncIO


class DaemonAsyncIO(AsyncIO):
    """See :class:`dramatiq.middleware.AsyncIO`."""

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        """Start the loop's thread as Dramatiq does, but as a daemon."""
        thread = EventLoopThread(self.logger)
        thread.daemon = True
        thread.start(timeout=1.0)
        set_event_loop_thread(thread)
