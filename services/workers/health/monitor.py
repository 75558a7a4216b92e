"""The thread that asks the queue server, so that no probe ever waits for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

import dramatiq
from structlog.stdlib import get_logger

from services.workers.health import checks
from services.workers.health.checks import Check
from shared.broker.broker import JobBroker
from shared.broker.channel import Channel
from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: longest rest between two looks
LONGEST_REST_S = 5.0
#: looks that may fit into the time after which nothing fetched counts as stuck: one alone could be chance
LOOKS = 6
#: the server may be silent for so long, besides the rest, before that is said: the reply's own patience, and a margin
CONTACT_MARGIN_S = 7.0


class Monitor(threading.Thread):
    """Looks at a worker from outside its threads, every few seconds.

    Args:
        broker: of this process.
        worker: whose threads are looked at.
        stuck_s: how long jobs may wait, threads be idle and nothing be fetched.
    """

    def __init__(self, broker: JobBroker, worker: dramatiq.Worker, *, stuck_s: float) -> None:
        super().__init__(name="callboard-health", daemon=True)
        self._broker = broker
        self._worker = worker
        self._stuck_s = stuck_s
        self._rest_s = min(LONGEST_REST_S, stuck_s / LOOKS)
        self._stopping = threading.Event()
        self._contact_at: float | None = None
        self._contact_since: float | None = None
        #: queue -> since when jobs wait there that this process could run and does not fetch
        self._stalls: dict[str, float] = {}
        self._failing: set[str] = set()

    def run(self) -> None:
        """Look until :meth:`stop`."""
        while not self._stopping.is_set():
            try:
                self._look()
            except EngineUnavailable:
                # The consumers log it. What waits cannot be known now, and the queues get a fresh start afterwards.
                self._contact_since = None
                self._stalls = {}
            except Exception:
                log.exception("health_monitor_error")
            if not self._stopping.is_set():
                self._tell()
            self._stopping.wait(self._rest_s)

    def stop(self) -> None:
        """End the thread; it may be in a call, which is not waited for."""
        self._stopping.set()

    def checks(self) -> dict[str, Check]:
        """Judge what is known now; asks nobody."""
        now = time.monotonic()
        worker, broker = self._worker, self._broker
        consumers = list(worker.consumers.values())
        return {
            "worker_threads": checks.count_threads(list(worker.workers), worker.worker_threads, "worker"),
            "consumer_threads": checks.count_threads(list(consumers), len(consumers), "consumer"),
            "lease_thread": checks.lease_thread(
                broker.lease_thread, now=now, lease_s=broker.lease_ms / 1000, contact_since=self._contact_since
            ),
            "wake_thread": checks.thread_lives(broker.wake_thread, "wake", "jobs will begin seconds late."),
            "monitor_thread": checks.thread_lives(self, "monitor", "stuck consumption will go unnoticed."),
            "consumption": checks.consumption(
                dict(self._stalls), now=now, idle=broker.idle_threads, stuck_s=self._stuck_s
            ),
            "server": checks.server(
                now=now,
                contact_at=self._contact_at,
                contact_since=self._contact_since,
                patience_s=self._rest_s + CONTACT_MARGIN_S,
            ),
        }

    def _look(self) -> None:
        channels = self._broker.channels
        idle = self._broker.idle_threads > 0
        stalls: dict[str, float] = {}
        asked = False
        for channel in channels if idle else ():
            # A queue that has just given us jobs, or that may give us none, need not be asked about.
            if not channel.limited and time.monotonic() - channel.fetched_at > self._rest_s:
                counts = self._broker.engine.counts(channel.contract.name)
                asked = True
                if counts.waiting and not counts.paused:
                    stalls[channel.contract.name] = self._stalled_since(channel)
        if not asked:
            self._ask_for_an_answer(channels)
        now = time.monotonic()
        self._contact_at = now
        if self._contact_since is None:
            self._contact_since = now
        self._stalls = stalls

    def _stalled_since(self, channel: Channel) -> float:
        since = self._stalls.get(channel.contract.name)
        return time.monotonic() if since is None or channel.fetched_at > since else since

    def _ask_for_an_answer(self, channels: Iterable[Channel]) -> None:
        for channel in channels:
            # A script call, since its connection is looked over before use: one from before an outage must not count.
            self._broker.engine.counts(channel.contract.name)
            return
        self._broker.engine.ping()

    def _tell(self) -> None:
        found = self.checks()
        failing = {name for name, check in found.items() if check.vital and not check.ok}
        for name in sorted(failing - self._failing):
            log.error("unhealthy", check=name, reason=found[name].reason)
        for name in sorted(self._failing - failing):
            log.info("healthy_again", check=name)
        self._failing = failing
