"""The thread that blocks until one of a process's idle queues has work: one blocking pop, whatever their number."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from structlog.stdlib import get_logger

from shared.broker.channel import Channel
from shared.engine.engine import Engine, Waiter
from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: longest block; the socket's own timeout must not come first
BLOCK_S = 4.0


class WakeThread(threading.Thread):
    """Waits on the wake level of every queue that has threads to spare.

    Args:
        engine: the queue server.
        worker: name of this process.
        channels: gives the process's queues by name.
    """

    def __init__(self, engine: Engine, worker: str, channels: Callable[[], Mapping[str, Channel]]) -> None:
        super().__init__(name="callboard-wake", daemon=True)
        self._channels = channels
        self._waiter: Waiter = engine.waiter(worker)
        self._changed = threading.Event()
        self._blocking_on: frozenset[str] | None = None
        self._stopping = False

    def listen(self) -> None:
        """Hear that a further queue listens."""
        self._changed.set()
        blocking_on = self._blocking_on
        if blocking_on is None:
            return
        if any(channel.listening and name not in blocking_on for name, channel in self._channels().items()):
            try:
                self._waiter.interrupt()
            except EngineUnavailable:
                # Then the block ends by itself too.
                return

    def run(self) -> None:
        """Wait until :meth:`stop`."""
        while not self._stopping:
            try:
                self._wait_once()
            except EngineUnavailable:
                # Consumers look again by themselves and say so.
                self._changed.wait(0.2)
                self._changed.clear()
            except Exception:
                log.exception("wake_thread_error")
                self._changed.wait(1)

    def stop(self) -> None:
        """End the thread."""
        self._stopping = True
        self._changed.set()
        if self._blocking_on is not None:
            try:
                self._waiter.interrupt()
            except EngineUnavailable:
                return
        if self.is_alive():
            self.join(timeout=BLOCK_S + 1)
        self._waiter.close()

    def _wait_once(self) -> None:
        self._changed.clear()
        channels = self._channels()
        # Told before it is read: a queue that begins to listen from here on interrupts us.
        self._blocking_on = frozenset()
        names = [name for name, channel in channels.items() if channel.listening]
        if not names:
            self._blocking_on = None
            self._changed.wait(BLOCK_S)
            return
        self._blocking_on = frozenset(names)
        if any(channel.listening and name not in self._blocking_on for name, channel in channels.items()):
            return
        try:
            queue = self._waiter.wait(names, BLOCK_S)
        finally:
            self._blocking_on = None
        if queue is not None:
            channels[queue].wake()
