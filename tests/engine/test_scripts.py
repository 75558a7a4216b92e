"""Every script is one that the server takes, and one that the client calls by its right name."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.engine import loader
from tests.servers import ValkeyServer

LUA = Path(loader.__file__).parent / "lua"


@pytest.mark.needs_server
@pytest.mark.parametrize("name", sorted(path.stem for path in LUA.glob("*.lua")))
def test_the_server_takes_the_script(valkey: ValkeyServer, name: str) -> None:
    script = loader.load_script(name)
    with valkey.client(decode_responses=True) as client:
        assert client.script_load(script.source) == script.sha
