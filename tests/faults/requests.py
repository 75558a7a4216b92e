"""Which requests a fault is meant for, by what they look like on the wire."""

from __future__ import annotations

from shared.engine.loader import load_script
from tests.faults.proxy import Match


def script(name: str, *with_parts: bytes) -> Match:
    """Calls of one of our scripts whose arguments hold all those parts."""
    sha = load_script(name).sha.encode()
    return lambda request: sha in request and all(_argument(part) in request for part in with_parts)


def stock(command: bytes, *with_parts: bytes) -> Match:
    """Calls of the stock broker's one script with that command."""
    return lambda request: _argument(command) in request and all(_argument(part) in request for part in with_parts)


def _argument(value: bytes) -> bytes:
    return b"\r\n" + value + b"\r\n"
