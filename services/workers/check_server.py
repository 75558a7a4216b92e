"""Says at start when the queue server would not keep what it acknowledged."""

from __future__ import annotations

import os
import signal
from threading import Event, Thread

from dramatiq import Broker, Worker
from dramatiq.middleware import Middleware
from structlog.stdlib import get_logger

from shared.engine.durability import check_durability
from shared.engine.server import Server
from shared.errors import EngineUnavailable, UnsupportedServer

log = get_logger(__name__)

#: a server that cannot be asked yet is asked again after so long, in seconds
AGAIN_S = 5.0


class CheckServer(Middleware):
    """Logs a warning for each setting of the server that breaks the promise; stops the process when it is too old.

    Args:
        server: the queue server.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._stopping = Event()

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Begin to ask, beside the work: a server that is away must not hold up a start."""
        Thread(target=self._check, name="check-server", daemon=True).start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002 - Dramatiq's signature
        """Ask no more."""
        self._stopping.set()

    def _check(self) -> None:
        while not self._stopping.is_set():
            try:
                for warning in check_durability(self._server):
                    log.warning("queue_server", warning=warning)
                return
            except EngineUnavailable:
                # The consumers say so.
                self._stopping.wait(AGAIN_S)
            except UnsupportedServer as error:
                log.critical("queue_server_unsupported", error=error.detail)
                os.kill(os.getpid(), signal.SIGTERM)
                return
            except Exception:
                log.exception("queue_server_check_failed")
                return
