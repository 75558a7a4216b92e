"""An engine that knows how long each of its calls held the server."""

from __future__ import annotations

from typing import Any

from shared.engine.redis import RedisEngine
from shared.engine.server import Server
from tests.servers import ValkeyServer


class Meter(RedisEngine):
    """Takes the processor time of the server's main thread around every script call.

    Not the time that passes: a machine with other things to do takes the processor from a server in the middle of a
    script, which is nothing that a script could be cut up for.

    Args:
        server: on which nobody else calls anything.
    """

    def __init__(self, server: ValkeyServer) -> None:
        super().__init__(Server.from_url(server.url))
        self._client = server.client()
        #: milliseconds of each script call
        self.held_ms: list[float] = []
        self._own_ms = min(self._between() for _ in range(20))

    def _run(self, name: str, queue: str, *args: Any) -> Any:
        before = self._cpu_ms()
        reply = super()._run(name, queue, *args)
        self.held_ms.append(max(0.0, self._cpu_ms() - before - self._own_ms))
        return reply

    def _between(self) -> float:
        # What a look itself takes, which is no part of a call.
        before = self._cpu_ms()
        return self._cpu_ms() - before

    def _cpu_ms(self) -> float:
        cpu: dict[str, float] = self._client.info("cpu")
        return 1_000 * (cpu["used_cpu_user_main_thread"] + cpu["used_cpu_sys_main_thread"])

    def longest(self) -> float:
        """Give the longest call since last asked, milliseconds."""
        held, self.held_ms = self.held_ms, []
        return max(held)

    def close(self) -> None:
        """Close the connections."""
        super().close()
        self._client.close()
