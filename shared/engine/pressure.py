"""Refuses new jobs while the queue server is nearly out of memory.

A server that is full fails writes wherever they come, also those that would free memory by ending jobs. Adding is what
can wait: a caller that is refused early is told so in clear words, and what is in the queue goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from shared.errors import EngineOverloaded

#: share of the server's maxmemory from which on nothing is added
FULL = 0.9
#: how long it holds that there is room, seconds
HOLDS_S = 0.5

_FIELD = re.compile(rb"^(used_memory|maxmemory):(\d+)", re.MULTILINE)


class Pressure:
    """What is known of the servers' memory, by queue (the queues of a cluster have several servers).

    Args:
        ask: gives INFO's section on memory of a queue's server.
    """

    def __init__(self, ask: Callable[[str], bytes]) -> None:
        self._ask = ask
        self._known: dict[str, tuple[float, float]] = {}

    def check(self, queue: str) -> None:
        """Let an add pass, or not.

        Raises:
            EngineOverloaded: the server is nearly full.
        """
        known = self._known.get(queue)
        now = time.monotonic()
        # That it is full is asked anew each time: nobody should be refused for what was.
        if known is None or known[1] > FULL or now - known[0] > HOLDS_S:
            known = self._known[queue] = (now, self._share(queue))
        if known[1] > FULL:
            raise EngineOverloaded(
                f"The queue server is nearly out of memory (over {FULL:.0%} of maxmemory) and takes no new jobs: try "
                "again later, or give it more.",
                retry_after_s=1.0,
            )

    def _share(self, queue: str) -> float:
        fields = {name: int(value) for name, value in _FIELD.findall(self._ask(queue))}
        most = fields.get(b"maxmemory", 0)
        return fields[b"used_memory"] / most if most else 0.0
