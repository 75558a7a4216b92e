"""Unit tests open no sockets: one that needs a server belongs to another folder."""

from __future__ import annotations

import socket
from typing import NoReturn

import pytest


@pytest.fixture(autouse=True)
def _no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every way to reach out or to listen.

    Unix sockets count too. Creating a socket is left alone, since asyncio makes a connected pair for itself.
    """

    def refuse(_socket: socket.socket, address: object, *_: object) -> NoReturn:
        pytest.fail(f"a unit test tried to open a socket to {address!r}", pytrace=True)

    for method in ("bind", "connect", "connect_ex", "sendto", "sendmsg"):
        monkeypatch.setattr(socket.socket, method, refuse)
