"""What an idle worker blocks on, on a Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Sequence

from shared.engine.keys import Keys
from shared.engine.server import Server


class RedisWaiter:
    """See :class:`shared.engine.engine.Waiter`: takes the wake level of whichever queue has it raised.

    Args:
        server: the connections.
        namespace: prefix of every key.
        worker: name of the process.
    """

    def __init__(self, server: Server, namespace: str, worker: str) -> None:
        self._namespace = namespace
        self._popper = server.popper(f"{{{namespace}}}:interrupt:{worker}")

    def wait(self, queues: Sequence[str], timeout_s: float) -> str | None:
        """See :meth:`Waiter.wait`."""
        by_wake = {Keys(self._namespace, queue).wake: queue for queue in queues}
        wake = self._popper.pop(list(by_wake), timeout_s)
        return None if wake is None else by_wake[wake]

    def interrupt(self) -> None:
        """See :meth:`Waiter.interrupt`."""
        self._popper.interrupt()

    def close(self) -> None:
        """See :meth:`Waiter.close`."""
        self._popper.close()
