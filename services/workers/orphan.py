"""A worker process that outlives Dramatiq's master stops by itself.

Nobody could stop it otherwise: the master hands signals on, and is gone. Its log has no reader any more either, so that
it would stand still as soon as the pipe is full.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from threading import Thread

from dramatiq import Broker
from dramatiq.middleware import Middleware

#: how often the parent is looked for, in seconds
INTERVAL_S = 1.0


class StopWithoutMaster(Middleware):
    """Tells this process to stop, as the master would have, once the master is gone."""

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Begin to watch, in a process that Dramatiq's master started."""
        if master := multiprocessing.parent_process():
            Thread(target=self._watch, args=(master.pid,), name="orphan", daemon=True).start()

    def _watch(self, master: int) -> None:
        while os.getppid() == master:
            time.sleep(INTERVAL_S)
        os.kill(os.getpid(), signal.SIGTERM)
