"""SingleServer: one address to call, that of a server or of the master that Sentinels name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel

from shared.engine.address import SENTINEL_REPLY_TIMEOUT_S, Address, Shape
from shared.engine.line import Line
from shared.engine.loader import Script
from shared.engine.outages import FAILURES, is_read_only, translate
from shared.engine.replies import streams
from shared.engine.server import SHORTEST_BLOCK_S, Entries, Popper, Server, xread


class SingleServer(Server):
    """See :class:`shared.engine.server.Server`.

    Args:
        address: where it is.
        reply_timeout_s: how long a reply may take.
    """

    def __init__(self, address: Address, reply_timeout_s: float) -> None:
        super().__init__(reply_timeout_s)
        self._sentinel: Sentinel | None = None
        if address.shape is Shape.SENTINEL:
            self._sentinel = _sentinel(address, reply_timeout_s)
            options = _options(address.options, reply_timeout_s)
            self._client: redis.Redis = self._sentinel.master_for(address.service, **options)  # type: ignore[no-untyped-call]
        else:
            pool = redis.ConnectionPool(**_options(address.options, reply_timeout_s))
            self._client = redis.Redis.from_pool(pool)
        self._line = Line(self._client.connection_pool)

    def popper(self, own: str) -> Popper:
        """See :meth:`Server.popper`."""
        return SinglePopper(self._client, own, self.longest_block_s)

    def nodes(self) -> Mapping[str, Callable[..., Any]]:
        """See :meth:`Server.nodes`."""
        return {"": self._line.call}

    def close(self) -> None:
        """See :meth:`Server.close`."""
        self._line.close()
        self._client.close()
        if self._sentinel is not None:
            self._sentinel.close()

    def _run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any:
        return self._line.run(script, (key,), args)

    def _call(self, *command: Any) -> Any:
        return self._line.call(*command)

    def _read_streams(self, positions: Mapping[str, str], block_s: float, limit: int) -> list[tuple[str, Entries]]:
        return streams(self._line.call(*xread(positions, block_s, limit)))


class SinglePopper:
    """See :class:`shared.engine.server.Popper`: a blocking pop on all lists at once, and on one of its own.

    Args:
        client: connection to the server.
        own: a key that nobody else uses.
        longest_block_s: longest that one call may block.
    """

    def __init__(self, client: redis.Redis, own: str, longest_block_s: float) -> None:
        self._client = client
        # A key and not CLIENT UNBLOCK: an element stays until the block begins, so no interrupt is missed between.
        self._own = own
        self._longest_block_s = longest_block_s

    def pop(self, keys: Sequence[str], timeout_s: float) -> str | None:
        """See :meth:`Popper.pop`."""
        timeout_s = min(max(timeout_s, SHORTEST_BLOCK_S), self._longest_block_s)
        try:
            reply = cast("list[bytes] | None", self._client.blpop([self._own, *keys], timeout=timeout_s))
        except FAILURES as error:
            if is_read_only(error):
                self._client.connection_pool.disconnect(inuse_connections=False)
            raise translate(error) from error
        found = reply[0].decode() if reply else None
        return None if found == self._own else found

    def interrupt(self) -> None:
        """See :meth:`Popper.interrupt`."""
        try:
            pipe = self._client.pipeline(transaction=False)
            # It goes away by itself if the process dies before it is read.
            pipe.rpush(self._own, "1")
            pipe.pexpire(self._own, 60_000)
            pipe.execute()
        except FAILURES as error:
            raise translate(error) from error

    def close(self) -> None:
        """See :meth:`Popper.close`."""
        try:
            self._client.delete(self._own)
        except FAILURES:
            return  # it expires


def _options(options: Mapping[str, Any], reply_timeout_s: float) -> dict[str, Any]:
    return {
        **options,
        "socket_timeout": reply_timeout_s,
        "socket_connect_timeout": reply_timeout_s,
        "health_check_interval": 0,
        # A repeat is ours to decide: only the caller knows whether it must carry the mark of one.
        "retry": Retry(NoBackoff(), 0),
        # Its bound counts every connection ever made, and a thread that ends takes its own along.
        "max_connections": 2**31 - 1,
    }


def _sentinel(address: Address, reply_timeout_s: float) -> Sentinel:
    timeout_s = min(reply_timeout_s, SENTINEL_REPLY_TIMEOUT_S)
    options = {
        **address.sentinel_options,
        "socket_timeout": timeout_s,
        "socket_connect_timeout": timeout_s,
        "retry": Retry(NoBackoff(), 0),
    }
    return Sentinel(list(address.hosts), sentinel_kwargs=options)  # type: ignore[no-untyped-call]
