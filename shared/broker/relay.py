"""The thread that takes the steps for other queues which this process's commits left behind."""

from __future__ import annotations

import threading

from structlog.stdlib import get_logger

from shared.engine.engine import Engine
from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: wait before a step is tried again that the server could not take, seconds
RETRY_S = 0.5


class RelayThread(threading.Thread):
    """Relays the outboxes of queues, see :meth:`Engine.relay`.

    Not done by the consumers: steps may be many, and jobs wait for the next cycle. What this process leaves undone, by
    dying or by stopping, is seen and done by whoever cycles the queue next.

    Args:
        engine: the queue server.
    """

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="callboard-relay", daemon=True)
        self._engine = engine
        self._mutex = threading.Lock()
        self._queues: set[str] = set()
        self._wake = threading.Event()
        self._stopping = False

    def relay(self, queue: str) -> None:
        """Have a queue's outbox taken soon."""
        with self._mutex:
            self._queues.add(queue)
        self._wake.set()

    def run(self) -> None:
        """Work until :meth:`stop`."""
        while True:
            self._wake.wait()
            self._wake.clear()
            self._work()
            if self._stopping:
                return

    def _work(self) -> None:
        while True:
            with self._mutex:
                if not self._queues:
                    return
                queue = self._queues.pop()
            try:
                if self._engine.relay(queue):
                    self.relay(queue)
            except EngineUnavailable:
                # The consumers tell of the outage.
                if self._stopping:
                    return
                self.relay(queue)
                threading.Event().wait(RETRY_S)
            except Exception:
                # Whoever cycles the queue next asks for it again.
                log.exception("relay_error", queue=queue)

    def stop(self) -> None:
        """Take what is asked for already, and end."""
        self._stopping = True
        self._wake.set()
        if self.is_alive():
            self.join(timeout=RETRY_S * 4)
