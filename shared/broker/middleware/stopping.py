"""Stops runs whose time is up, whose job was cancelled, or whose lease was lost.

What "stop" means depends on the kind of the handler, see ``services/workers/kinds.py``; when it may happen, on
:class:`shared.broker.run.Run`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import dramatiq
from dramatiq.middleware import Middleware
from structlog.stdlib import get_logger

from shared.broker.message import JobMessage
from shared.broker.run import ORDERS, Run
from shared.context import CANCEL_CHECK_INTERVAL_S
from shared.contracts.options import effective_timeout_s

log = get_logger(__name__)


class Stopping(Middleware):
    """See the module. Stands after :class:`~shared.broker.middleware.jobs.Jobs`, which makes the context.

    Args:
        interval_s: how often runs are looked at, seconds.
    """

    def __init__(self, *, interval_s: float = 0.1) -> None:
        self._interval_s = interval_s
        self._runs: dict[Run, None] = {}
        self._threads: list[_Every] = []

    def before_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        """Begin to look at runs."""
        self._threads = [
            _Every("callboard-stopping", self._interval_s, self.look),
            # On a thread of its own: the queue server may take its time, and timeouts don't wait for it.
            _Every("callboard-cancellations", CANCEL_CHECK_INTERVAL_S, self.ask),
        ]
        for thread in self._threads:
            thread.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:  # noqa: ARG002
        """End the threads of :meth:`before_worker_boot`."""
        for thread in self._threads:
            thread.stop()

    def before_process_message(self, broker: dramatiq.Broker, message: JobMessage) -> None:  # type: ignore[override]
        """Make the run, which its actor begins and ends."""
        actor = broker.actors.get(message.actor_name)
        contract = actor.options.get("contract") if actor else None
        if contract is None or message.context is None:
            return
        message.run = Run(
            message.context,
            limit_s=effective_timeout_s(contract, message.job.options),
            grace_s=contract.stop_grace_s,
            enlist=self._enlist,
            dismiss=self._dismiss,
        )

    def look(self) -> None:
        """Stop the runs that should be stopped."""
        now = time.monotonic()
        for run in list(self._runs):
            reason = run.look(now)
            if reason is None:
                continue
            say = log.error if run.orders == ORDERS else log.warning
            say("run_told_to_stop", job_id=run.context.job_id, why=reason.code, times=run.orders)

    def ask(self) -> None:
        """Learn which of the runs were cancelled or lost; the lease thread asks seldom."""
        for run in list(self._runs):
            run.context.refresh()

    def _enlist(self, run: Run) -> None:
        self._runs[run] = None

    def _dismiss(self, run: Run) -> None:
        self._runs.pop(run, None)


class _Every(threading.Thread):
    def __init__(self, name: str, interval_s: float, work: Callable[[], None]) -> None:
        super().__init__(name=name, daemon=True)
        self._interval_s = interval_s
        self._work = work
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            try:
                self._work()
            except Exception:
                # Nobody else would do it.
                log.exception("stopping_error")

    def stop(self) -> None:
        self._stopping.set()
        if self.is_alive():
            self.join(timeout=5)
