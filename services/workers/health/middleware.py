"""Ties the health of a worker process to the life of Dramatiq's worker."""

from __future__ import annotations

import multiprocessing
import os
import re
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware

from services.workers.health.monitor import Monitor
from services.workers.health.probe import serve
from shared.broker.broker import JobBroker

#: the name that multiprocessing gives the children of Dramatiq's master, counted from 1
_CHILD = re.compile(r"Process-(\d+)")


def process_index() -> int:
    """Give the place of this process among those of ``dramatiq -p N``, 0 to N-1; 0 outside of Dramatiq's command line.

    Dramatiq tells its workers nothing of it. But it starts them first and in order, and multiprocessing counts them in
    their names, whether they are forked or spawned.
    """
    child = _CHILD.fullmatch(multiprocessing.current_process().name)
    return int(child[1]) - 1 if child else 0


class Health(Middleware):
    """Serves ``/healthz`` and ``/readyz``.

    Args:
        host: address to listen on.
        port: port of the first process, the next one has the next; 0 listens on none.
        stuck_s: how long jobs may wait, threads be idle and nothing be fetched.
    """

    def __init__(self, host: str, port: int, *, stuck_s: float) -> None:
        self._host = host
        self._port = port
        self._stuck_s = stuck_s
        self._stage = "starting"
        self._monitor: Monitor | None = None

    def after_process_boot(self, broker: dramatiq.Broker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Listen, in a process that Dramatiq's master started."""
        if self._port:
            serve(self._host, self._port + process_index(), self.answer)

    def after_worker_boot(self, broker: JobBroker, worker: dramatiq.Worker) -> None:  # type: ignore[override]
        """Begin to look at the worker."""
        self._monitor = Monitor(broker, worker, stuck_s=self._stuck_s)
        self._monitor.start()
        self._stage = "running"

    def before_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        """Look no more: threads that end now do so because they were told to."""
        self._stage = "stopping"
        if self._monitor is not None:
            self._monitor.stop()

    def answer(self, path: str) -> tuple[int, dict[str, Any]] | None:
        """Give HTTP status and body of a probe; None for a path that is not there."""
        if path not in ("/healthz", "/readyz"):
            return None
        body: dict[str, Any] = {"status": self._stage, "process": {"index": process_index(), "pid": os.getpid()}}
        if self._stage != "running" or self._monitor is None:
            # A stop may take as long as the longest job; to be killed for it would cost that job.
            return (200 if path == "/healthz" else 503), body
        found = self._monitor.checks()
        counted = [check for check in found.values() if check.vital or path == "/readyz"]
        ok = all(check.ok for check in counted)
        body["status"] = ("live" if path == "/healthz" else "ready") if ok else "unavailable"
        body["checks"] = {name: check.to_json() for name, check in found.items()}
        return (200 if ok else 503), body
