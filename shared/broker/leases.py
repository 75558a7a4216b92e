"""The thread that keeps a process's leases, and learns which jobs it lost or is asked to stop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection

from structlog.stdlib import get_logger

from shared.broker.channel import Channel
from shared.broker.outage_log import OutageLog
from shared.engine.engine import Engine, LeaseStatus
from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: longest rest of the thread, seconds: scripts take a longer silence of every worker for an outage (lib/reap.lua)
LONGEST_REST_S = 10.0
#: leases renewed by one call
RENEW_BATCH = 500


class LeaseThread(threading.Thread):
    """Renews every third of a lease and at least every ten seconds, and takes jobs from dead workers.

    Args:
        engine: the queue server.
        channels: gives the process's queues.
        lease_ms: length of a lease, milliseconds.
        notice: told what became of a lease, as (job id, status).
        outages: told when the server does not answer.
    """

    def __init__(
        self,
        engine: Engine,
        channels: Callable[[], Collection[Channel]],
        *,
        lease_ms: int,
        notice: Callable[[str, LeaseStatus], None],
        outages: OutageLog | None = None,
    ) -> None:
        super().__init__(name="callboard-leases", daemon=True)
        self._engine = engine
        self._channels = channels
        self._lease_ms = lease_ms
        self._notice = notice
        self._outages = outages or OutageLog()
        #: when it last went through all queues, or found the server out, monotonic seconds
        self.passed_at = time.monotonic()
        self._stopping = threading.Event()

    def run(self) -> None:
        """Renew until :meth:`stop`."""
        interval_s = min(self._lease_ms / 3000, LONGEST_REST_S)
        wait_s = interval_s
        while not self._stopping.wait(wait_s):
            wait_s = interval_s
            for channel in self._channels():
                try:
                    self._renew(channel)
                except EngineUnavailable as error:
                    # A lease may run out, so we try again soon.
                    self._outages.failed(self, error)
                    wait_s = min(interval_s, 0.5)
                    break
                except Exception:
                    # A lease that nobody renews costs its job: this thread and the other queues outlive the fault.
                    log.exception("lease_thread_error", queue=channel.contract.name)
            else:
                self._outages.ended(self, answered=True)
            self.passed_at = time.monotonic()
        self._outages.ended(self, answered=False)

    def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=5)

    def _renew(self, channel: Channel) -> None:
        channel.flush_overdue()
        held = channel.held()
        queue = channel.contract.name
        for start in range(0, len(held), RENEW_BATCH):
            batch = held[start : start + RENEW_BATCH]
            for (job_id, _), status in zip(batch, self._engine.renew(queue, batch, self._lease_ms), strict=True):
                if status is not LeaseStatus.HELD:
                    self._notice(job_id, status)
        # A process whose threads are all busy runs no cycle, so the dead of others would wait for it.
        self._engine.reap(queue)
