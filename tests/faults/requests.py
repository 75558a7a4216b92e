"""Which requests a fault is meant for, by what they look like on the wire."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

from shared.engine.loader import load_script
from tests.faults.proxy import Match

_SHA = re.compile(rb"EVALSHA\r\n\$40\r\n([0-9a-f]{40})\r\n")


def script(name: str, *with_parts: bytes) -> Match:
    """Calls of one of our scripts whose arguments hold all those parts."""
    sha = load_script(name).sha.encode()
    return lambda request: sha in request and all(_argument(part) in request for part in with_parts)


def script_of(request: bytes) -> str | None:
    """Name the script of ours that a request calls; None when it calls none, or sends one whole."""
    found = _SHA.search(request, 0, 200)
    return scripts().get(found[1]) if found else None


@cache
def scripts() -> dict[bytes, str]:
    """Every script that there is, by what EVALSHA calls it."""
    folder = files("shared.engine") / "lua"
    names = [entry.name.removesuffix(".lua") for entry in folder.iterdir() if entry.name.endswith(".lua")]
    return {load_script(name).sha.encode(): name for name in sorted(names)}


def stock(command: bytes, *with_parts: bytes) -> Match:
    """Calls of the stock broker's one script with that command."""
    return lambda request: _argument(command) in request and all(_argument(part) in request for part in with_parts)


def _argument(value: bytes) -> bytes:
    return b"\r\n" + value + b"\r\n"
