from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["inet", "unix"])
@pytest.mark.parametrize("method", ["connect", "connect_ex", "bind"])
def test_unit_tests_cannot_open_sockets(family: socket.AddressFamily, method: str, tmp_path: Path) -> None:
    address = ("127.0.0.1", 1) if family == socket.AF_INET else str(tmp_path / "socket")
    with socket.socket(family) as own, pytest.raises(pytest.fail.Exception, match="tried to open a socket"):
        getattr(own, method)(address)


def test_asyncio_still_runs() -> None:
    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    assert asyncio.run(answer()) == 42
