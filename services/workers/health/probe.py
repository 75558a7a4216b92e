"""The probes' HTTP server: a thread of its own, so that it answers while every worker thread is busy."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import Any

from structlog.stdlib import get_logger

log = get_logger(__name__)

#: path -> HTTP status and body; None for a path that is not there
Answer = Callable[[str], tuple[int, dict[str, Any]] | None]

#: a port that is taken is tried again this often, seconds: a process that is being replaced may still hold it
RETRY_S = 1.0


def serve(host: str, port: int, answer: Answer) -> None:
    """Answer probes on a daemon thread, for as long as the process lives."""
    Thread(target=_serve, args=(host, port, answer), name="callboard-probe", daemon=True).start()


def _serve(host: str, port: int, answer: Answer) -> None:
    server = _listen(host, port, answer)
    log.info("health_listening", host=host, port=port)
    server.serve_forever()


def _listen(host: str, port: int, answer: Answer) -> TCPServer:
    said = False
    while True:
        try:
            return _Server(host, port, answer)
        except (OSError, OverflowError) as error:
            # The worker works on: its jobs are worth more than its probe, which says by its silence that it is amiss.
            if not said:
                log.error("health_not_listening", host=host, port=port, error=str(error))  # noqa: TRY400
                said = True
            time.sleep(RETRY_S)


class _Server(ThreadingMixIn, TCPServer):
    # Not http.server's own class, which asks the name service who we are, and may wait for that.
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 16

    def __init__(self, host: str, port: int, answer: Answer) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.answer = answer
        super().__init__((host, port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        log.debug("probe_broken_off", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    #: a client that sends nothing is not waited for any longer, seconds
    timeout = 5
    server: _Server

    def do_GET(self) -> None:
        given = self.server.answer(self.path.partition("?")[0])
        status, body = given or (404, {"status": "unknown", "reason": "There are /healthz and /readyz."})
        text = json.dumps(body).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(text)

    do_HEAD = do_GET  # noqa: N815 - http.server's name

    def version_string(self) -> str:
        return "callboard"

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe every few seconds is no news."""
