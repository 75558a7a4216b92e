"""Reads every event while it happens: the streams keep ten thousand, a storm writes ten times as many."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable


class Watch:
    """Follows the events of some queues from their beginning.

    Args:
        url: the queue server.
        namespace: prefix of every key.
        queues: which.
    """

    def __init__(self, url: str, namespace: str, queues: Sequence[str]) -> None:
        self._engine = RedisEngine.from_url(url, namespace)
        self._positions = dict.fromkeys(queues, "0")
        #: of each job, the names of its events in order
        self.names: dict[str, list[str]] = {}
        self._stopping = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Read what there is left, and stop."""
        self._stopping = True
        self._thread.join(30)
        self._engine.close()

    def _run(self) -> None:
        while True:
            stopping = self._stopping
            try:
                events = self._engine.events(self._positions, block_ms=200, limit=2_000)
            except EngineUnavailable:
                time.sleep(0.02)
                continue
            for event in events:
                self._positions[event.queue] = event.id
                if event.job_id is not None:
                    self.names.setdefault(event.job_id, []).append(event.name)
            if stopping and not events:
                return
