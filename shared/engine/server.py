"""Server: the connections to the queue server. What is asked over them is the engine's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, cast

import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from shared.engine.line import Line
from shared.engine.loader import Script
from shared.engine.outages import REPLY_TIMEOUT_S, longest_block_s, translate
from shared.engine.replies import stream_entries


class Popper(Protocol):
    """Takes an element from whichever list has one first. One thread takes; any may interrupt."""

    def pop(self, keys: Sequence[str], timeout_s: float) -> str | None:
        """Block until one of the lists has an element, and take it; gives the list, None after timeout or interrupt."""
        ...

    def interrupt(self) -> None:
        """End the pop that is under way, or the next one if none is."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Server:
    """A Redis or Valkey server; any number of threads may use it.

    Every method may raise :class:`shared.errors.EngineUnavailable`. No call is repeated here: only the caller knows
    whether a repeat must carry the mark of one.

    Args:
        client: connection to the server; replies must not be decoded.
    """

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._line = Line(client.connection_pool)
        #: a blocking call that lasts longer would be taken for a server that is silent
        self.longest_block_s = longest_block_s(client)

    @classmethod
    def from_url(cls, url: str, *, reply_timeout_s: float = REPLY_TIMEOUT_S) -> Server:
        """Make one for ``redis://``, ``rediss://`` or ``unix://``; connects when first used."""
        client = redis.Redis.from_url(
            url,
            socket_timeout=reply_timeout_s,
            socket_connect_timeout=reply_timeout_s,
            health_check_interval=0,
            # A repeat is ours to decide: only the caller knows whether it must carry the mark of one.
            retry=Retry(NoBackoff(), 0),
            # Its bound counts every connection ever made, and a thread that ends takes its own along.
            max_connections=2**31 - 1,
        )
        return cls(client)

    def run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any:
        """Run a script and give its reply.

        Args:
            script: what to run.
            key: its only key.
            args: its arguments.
        """
        try:
            return self._line.call(script, key, args)
        except (RedisError, OSError) as error:
            raise translate(error) from error

    def call(self, *command: Any) -> Any:
        """Call a command and give its reply; what follows the command's name is its key, if it has one."""
        try:
            return self._client.execute_command(*command)  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise translate(error) from error

    def read_streams(
        self, positions: Mapping[str, str], *, block_ms: int, limit: int
    ) -> list[tuple[str, list[tuple[bytes, dict[bytes, bytes]]]]]:
        """Read what streams have after a position of each.

        Args:
            positions: stream -> id of the entry after which to read.
            block_ms: how long to wait for the first entry; 0 to not wait.
            limit: entries of each stream at most.

        Returns:
            (stream, its entries) for each stream that has any.
        """
        # To the server 0 means for ever.
        block = int(min(block_ms, self.longest_block_s * 1000)) if block_ms > 0 else None
        try:
            reply = self._client.xread(cast("dict[Any, Any]", positions), count=limit, block=block)
        except (RedisError, OSError) as error:
            raise translate(error) from error
        found = cast("Any", reply.items() if isinstance(reply, dict) else reply or ())
        return [(stream.decode(), stream_entries(entries)) for stream, entries in found]

    def popper(self, own: str) -> Popper:
        """Make what blocks on lists.

        Args:
            own: a key that nobody else uses.
        """
        return PoolPopper(self._client, own, self.longest_block_s)

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.call("PING")

    def close(self) -> None:
        """Close the connections."""
        self._line.close()
        self._client.close()


class PoolPopper:
    """See :class:`Popper`: a blocking pop on all lists at once, and on one of its own.

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
        # 0 would mean for ever.
        timeout_s = min(max(timeout_s, 0.001), self._longest_block_s)
        try:
            reply = cast("list[bytes] | None", self._client.blpop([self._own, *keys], timeout=timeout_s))
        except (RedisError, OSError) as error:
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
        except (RedisError, OSError) as error:
            raise translate(error) from error

    def close(self) -> None:
        """See :meth:`Popper.close`."""
        try:
            self._client.delete(self._own)
        except (RedisError, OSError):
            return  # it expires
