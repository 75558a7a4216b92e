"""What every request and every answer has: an id, a line in the log, and headers that keep browsers careful."""

from __future__ import annotations

import re
import time

import structlog
from flask import Flask, Response, g, request
from ulid import ULID

#: ids of callers that are taken over; anything else could forge lines in a log
_SANE_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")

_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    # Answers are data: nothing in them may run or be framed, even when a file's bytes are opened in a browser.
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; sandbox",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

#: a client that neither sends nor takes anything for this long is given up, seconds; it would hold a thread for ever
IO_TIMEOUT_S = 60.0

_log = structlog.get_logger("services.api.access")


def register_envelope(app: Flask) -> None:
    """Give an application's requests their id and its answers their headers; first of all hooks."""
    app.before_request(_open)
    app.after_request(_close)


def _open() -> None:
    given = request.headers.get("X-Request-ID", "")
    g.request_id = given if _SANE_ID.fullmatch(given) else f"req_{ULID()}"
    g.started = time.monotonic()
    connection = request.environ.get("gunicorn.socket")
    if connection is not None:
        connection.settimeout(IO_TIMEOUT_S)
    # Threads are reused: what an earlier request bound must not stick to this one.
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)


def _close(response: Response) -> Response:
    response.headers["X-Request-ID"] = g.request_id
    for name, value in _HEADERS.items():
        response.headers.setdefault(name, value)
    # The query stays out of the log: it may hold what a caller filters by. So does every header.
    event = _log.debug if request.endpoint in ("health.healthz", "health.readyz") else _log.info
    event(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        duration_ms=round((time.monotonic() - g.started) * 1000, 1),
    )
    return response
