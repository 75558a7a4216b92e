"""ClusterServer: a Redis Cluster, which spreads the queues over its nodes.

All keys of a queue share a hash tag, and so a slot: every script finds all that it touches on one node.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping
from typing import Any

from redis.exceptions import AskError, MovedError

from shared.engine.address import Address
from shared.engine.blocked import BlockedCalls, ClusterPopper
from shared.engine.line import Line
from shared.engine.loader import Script
from shared.engine.outages import FAILURES, tells_of_failover, translate
from shared.engine.replies import streams
from shared.engine.server import Entries, Popper, Server, xread
from shared.engine.topology import Topology

#: nodes that a call is sent on to before it is given up
REDIRECTIONS = 4


class ClusterServer(Server):
    """See :class:`shared.engine.server.Server`.

    Args:
        address: some nodes of the cluster.
        reply_timeout_s: how long a reply may take.
    """

    def __init__(self, address: Address, reply_timeout_s: float) -> None:
        super().__init__(reply_timeout_s)
        self._topology = Topology(address, reply_timeout_s)
        self._reply_timeout_s = reply_timeout_s
        self._reading = threading.local()
        self._readers: weakref.WeakSet[BlockedCalls] = weakref.WeakSet()

    def popper(self, own: str) -> Popper:  # noqa: ARG002 - an interrupt needs no key here
        """See :meth:`Server.popper`."""
        calls = BlockedCalls(self._topology, self._reply_timeout_s)
        return ClusterPopper(calls, self._put_back, self.longest_block_s)

    def nodes(self) -> Mapping[str, Callable[..., Any]]:
        """See :meth:`Server.nodes`."""
        try:
            return {name: node.line.call for name, node in self._topology.masters().items()}
        except FAILURES as error:
            raise translate(error) from error

    def ping(self) -> None:
        """Ask for a sign of life: one node is enough, since the queues of the others fail by themselves."""
        failure: Exception | None = None
        for call in self.nodes().values():
            try:
                call("PING")
            except FAILURES as error:
                failure = error
            else:
                return
        if failure:
            raise translate(failure) from failure

    def close(self) -> None:
        """See :meth:`Server.close`."""
        for reader in list(self._readers):
            reader.close()
        self._topology.close()

    def _run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any:
        # While a slot moves key by key, a script would see those that are there and miss the others. Over two keys of
        # which one never exists, the server refuses it until the slot is whole again.
        keys = (key, key + ":never")
        return self._routed(key, lambda line, asking: line.run(script, keys, args, asking=asking))

    def _call(self, *command: Any) -> Any:
        return self._call_on(command[1], command)

    def _read_streams(self, positions: Mapping[str, str], block_s: float, limit: int) -> list[tuple[str, Entries]]:
        if block_s <= 0:
            replies = [self._call_on(key, xread({key: position}, 0, limit)) for key, position in positions.items()]
            return [found for reply in replies for found in streams(reply)]
        calls: BlockedCalls | None = getattr(self._reading, "calls", None)
        if calls is None:
            calls = self._reading.calls = BlockedCalls(self._topology, self._reply_timeout_s)
            self._readers.add(calls)
        # Reading takes nothing away: what does not answer now stays under way, and is not sent again by the next call.
        commands = {key: xread({key: position}, self.longest_block_s, limit) for key, position in positions.items()}
        return [found for reply in calls.wait(commands, block_s).values() for found in streams(reply)]

    def _call_on(self, key: str, command: tuple[Any, ...]) -> Any:
        return self._routed(key, lambda line, asking: line.call(*command, asking=asking))

    def _put_back(self, key: str) -> None:
        self._call("RPUSH", key, "1")
        # It may have been raised again meanwhile, and one element is all that it holds.
        self._call("LTRIM", key, 0, 0)

    def _routed(self, key: str, call: Callable[[Line, bool], Any]) -> Any:
        node = self._topology.node_of(key)
        asking = False
        for left in reversed(range(REDIRECTIONS)):
            try:
                return call(node.line, asking)
            except AskError as error:
                # Whoever sends a call on has not begun it. MOVED is a kind of ASK to redis-py.
                if not left:
                    raise
                node = self._topology.redirected(node, error)
                asking = not isinstance(error, MovedError)
            except FAILURES as error:
                if tells_of_failover(error):
                    self._topology.lost(node)
                raise
        raise AssertionError("the last round returns or raises")
