"""How gunicorn serves the API."""  # noqa: N999 - gunicorn's own name for it

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from services.api.backend import EXTENSION
from shared.config import load_settings

_settings = load_settings()

bind = f"[{_settings.host}]:{_settings.port}" if ":" in _settings.host else f"{_settings.host}:{_settings.port}"
worker_class = "gthread"
workers = _settings.api_workers
threads = _settings.api_threads
# Each worker makes its own application and so its own connections: none is shared over a fork.
preload_app = False
keepalive = 15
# Requests that run get this long to end when the server stops; streams are ended at once, see below.
graceful_timeout = 20
# Requests are logged by the application, with their ids and without their queries.
accesslog = None
errorlog = "-"
loglevel = "info"
# Its default is one socket in the home folder for every gunicorn of the user.
control_socket_disable = True


def post_worker_init(worker: Any) -> None:
    """End event streams as soon as a worker is asked to stop: each would hold it until ``graceful_timeout``."""
    handle = signal.getsignal(signal.SIGTERM)

    def stop(signum: int, current: FrameType | None) -> None:
        _end_streams(worker)
        if callable(handle):
            handle(signum, current)

    signal.signal(signal.SIGTERM, stop)


def worker_int(worker: Any) -> None:
    """End event streams when a worker is told to quit: the interpreter waits for their threads."""
    _end_streams(worker)


def _end_streams(worker: Any) -> None:
    # In a thread: a signal handler interrupts whatever the main thread does, and must not wait for a lock it may hold.
    hub = worker.wsgi.extensions[EXTENSION].hub
    threading.Thread(target=hub.close, name="end-streams").start()
