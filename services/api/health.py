"""Health probes: the only addresses that answer without a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import structlog
from flask import Blueprint

from services.api.backend import backend
from shared.errors import EngineUnavailable

blueprint = Blueprint("health", __name__)

_log = structlog.get_logger(__name__)


@blueprint.get("/healthz")
def healthz() -> dict[str, str]:
    """Say that the process lives. Asks nobody, so that an outage elsewhere restarts no API."""
    return {"status": "ok"}


@blueprint.get("/readyz")
def readyz() -> tuple[dict[str, Any], int, dict[str, str]]:
    """Say whether requests can be served, and if not, which part is missing."""
    parts = {"queue": _probe(_queue), "storage": _probe(_storage)}
    if all(state == "ok" for state in parts.values()):
        return {"status": "ready", "parts": parts}, 200, {}
    return {"status": "unavailable", "parts": parts}, 503, {"Retry-After": "5"}


def _queue() -> None:
    backend().engine.ping()


def _storage() -> None:
    # Written and dropped, as an upload that breaks off would be.
    with backend().storage.writer(name="probe") as writer:
        writer.write(b"\n")


def _probe(ask: Callable[[], None]) -> str:
    try:
        ask()
    except (EngineUnavailable, OSError) as error:
        # Anybody may ask, so what exactly is wrong, and where, stays in the log.
        _log.warning("not ready", part=ask.__name__.lstrip("_"), error=str(error))
        return "unavailable"
    return "ok"
