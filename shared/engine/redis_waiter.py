"""What an idle worker blocks on, on a Redis or Valkey server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import redis
from redis.exceptions import RedisError

from shared.engine.keys import Keys
from shared.engine.outages import longest_block_s, translate


class RedisWaiter:
    """See :class:`shared.engine.engine.Waiter`: a blocking pop on the wake levels and on a key of the process's own.

    Args:
        client: connection to the server.
        namespace: prefix of every key.
        worker: name of the process.
    """

    def __init__(self, client: redis.Redis, namespace: str, worker: str) -> None:
        self._client = client
        self._namespace = namespace
        # A key and not CLIENT UNBLOCK: an element stays until the block begins, so no interrupt is missed between.
        self._own = f"{{{namespace}}}:interrupt:{worker}"

    def wait(self, queues: Sequence[str], timeout_s: float) -> str | None:
        """See :meth:`Waiter.wait`."""
        by_wake = {Keys(self._namespace, queue).wake: queue for queue in queues}
        # 0 would mean for ever.
        timeout_s = min(max(timeout_s, 0.001), longest_block_s(self._client))
        try:
            reply = cast("list[bytes] | None", self._client.blpop([self._own, *by_wake], timeout=timeout_s))
        except (RedisError, OSError) as error:
            raise translate(error) from error
        return by_wake.get(reply[0].decode()) if reply else None

    def interrupt(self) -> None:
        """See :meth:`Waiter.interrupt`."""
        try:
            pipe = self._client.pipeline(transaction=False)
            # It goes away by itself if the process dies before it is read.
            pipe.rpush(self._own, "1")
            pipe.pexpire(self._own, 60_000)
            pipe.execute()
        except (RedisError, OSError) as error:
            raise translate(error) from error

    def close(self) -> None:
        """See :meth:`Waiter.close`."""
        try:
            self._client.delete(self._own)
        except (RedisError, OSError):
            return  # it expires
