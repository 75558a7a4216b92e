"""Blocking calls on a Redis Cluster, which takes keys of one slot at a time: a connection for each key."""

from __future__ import annotations

import selectors
import socket
import time
import weakref
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from redis.exceptions import AskError, MovedError

from shared.engine.outages import FAILURES, tells_of_failover, translate, unavailable
from shared.engine.server import SHORTEST_BLOCK_S
from shared.engine.topology import Node, Topology

#: a key whose node failed is left alone for so long, while the others are waited for
LEAVE_ALONE_S = 0.5
#: the same when its node only said that another one has it now
MOVED_S = 0.02
#: how long a call may take to begin to block, before its end is asked for again
BEGIN_S = 0.005


@dataclass(slots=True)
class _Seat:
    """A connection that calls for one key, and what it has under way."""

    node: Node
    connection: Any
    #: what the server calls this connection
    client_id: int
    command: tuple[Any, ...] | None = None
    sent_at: float = 0.0


class BlockedCalls:
    """Blocking calls that are under way, one a key; the first that answers ends the wait.

    One thread waits; any may interrupt.

    Args:
        topology: which node has a key.
        reply_timeout_s: a call that is under way for longer is taken for lost.
    """

    def __init__(self, topology: Topology, reply_timeout_s: float) -> None:
        self._topology = topology
        self._reply_timeout_s = reply_timeout_s
        self._seats: dict[str, _Seat] = {}
        #: key -> when it may be tried again, and why not now
        self._failures: dict[str, tuple[float, Exception]] = {}
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        # Threads that read come and go, and nobody tells.
        self._close_bell = weakref.finalize(self, _close, self._bell, self._ringer)

    def wait(self, commands: Mapping[str, tuple[Any, ...]], timeout_s: float) -> dict[str, Any]:
        """Wait until a call has something to say.

        Calls that are under way already go on; what others that are no longer asked for had to say is dropped.

        Args:
            commands: key -> the call for it.
            timeout_s: longest wait.

        Returns:
            key -> reply, of those that have one; none after the timeout or an interrupt.

        Raises:
            redis.RedisError, OSError: when no key's node can be called.
        """
        self.end([key for key, seat in self._seats.items() if seat.command and seat.command != commands.get(key)])
        deadline = time.monotonic() + timeout_s
        while True:
            for key, command in commands.items():
                self._start(key, command)
            waiting = {key: seat for key in commands if (seat := self._seats.get(key)) and seat.command}
            failures = [self._failures[key] for key in commands if key in self._failures]
            if not waiting:
                raise failures[0][1]
            ready, interrupted = self._select(waiting, min([deadline, *(again_at for again_at, _ in failures)]))
            replies = {key: reply for key in ready if (reply := self._read(key)) is not None}
            if replies or interrupted or time.monotonic() >= deadline:
                return replies

    def end(self, keys: Sequence[str] | None = None) -> dict[str, Any]:
        """End calls that are under way, all by default; gives what they had to say all the same."""
        seats = {key: seat for key, seat in self._seats.items() if seat.command and (keys is None or key in keys)}
        by_node: defaultdict[str, list[str]] = defaultdict(list)
        for key, seat in seats.items():
            by_node[seat.node.name].append(key)
        replies: dict[str, Any] = {}
        for group in by_node.values():
            try:
                self._unblock([seats[key] for key in group])
            except FAILURES as error:
                for key in group:
                    self._fail(key, error)
                continue
            replies |= {key: reply for key in group if (reply := self._read(key)) is not None}
        return replies

    def interrupt(self) -> None:
        """End the wait that is under way, or the next one if none is."""
        with suppress(OSError):  # it was closed
            self._ringer.send(b"1")

    def close(self) -> None:
        """Close the connections."""
        self.interrupt()
        for seat in list(self._seats.values()):
            seat.connection.disconnect()
        self._seats.clear()
        self._close_bell()

    def _start(self, key: str, command: tuple[Any, ...]) -> None:
        seat = self._seats.get(key)
        if seat and seat.command:
            return
        again_at, _ = self._failures.get(key, (0.0, None))
        if time.monotonic() < again_at:
            return
        try:
            node = self._topology.node_of(key)
            if seat is None or seat.node is not node:
                seat = self._sit(key, node)
            seat.connection.send_packed_command(seat.connection.pack_command(*command), check_health=False)
            seat.command, seat.sent_at = command, time.monotonic()
        except FAILURES as error:
            self._fail(key, error)
        else:
            self._failures.pop(key, None)

    def _sit(self, key: str, node: Node) -> _Seat:
        self._leave(key)
        connection: Any = node.line.pool.make_connection()
        try:
            connection.connect()
            connection.send_command("CLIENT", "ID")
            seat = self._seats[key] = _Seat(node, connection, connection.read_response())
        except BaseException:
            connection.disconnect()
            raise
        return seat

    def _unblock(self, seats: list[_Seat]) -> None:
        # Closing a connection could lose a reply that is on its way, and with it what it took from a list.
        deadline = time.monotonic() + self._reply_timeout_s
        while seats and time.monotonic() < deadline:
            ended = seats[0].node.line.call_all([("CLIENT", "UNBLOCK", seat.client_id) for seat in seats])
            # Where nothing was ended there is a reply already, or the server has not read the call so far: the two
            # came over different connections.
            seats = [
                seat
                for seat, done in zip(seats, ended, strict=True)
                if done != 1 and not seat.connection.can_read(timeout=BEGIN_S)
            ]

    def _select(self, waiting: Mapping[str, _Seat], until: float) -> tuple[list[str], bool]:
        with selectors.DefaultSelector() as selector:
            selector.register(self._bell, selectors.EVENT_READ)
            for key, seat in waiting.items():
                selector.register(seat.connection._sock, selectors.EVENT_READ, key)
            ready = [found.data for found, _ in selector.select(max(0.0, until - time.monotonic()))]
        if interrupted := None in ready:
            self._bell.recv(4096)
        now = time.monotonic()
        overdue = [key for key, seat in waiting.items() if now - seat.sent_at > self._reply_timeout_s]
        return [key for key in {*ready, *overdue} if key is not None], interrupted

    def _read(self, key: str) -> Any:
        seat = self._seats[key]
        try:
            # What is overdue has had its time.
            overdue = time.monotonic() - seat.sent_at > self._reply_timeout_s
            reply = seat.connection.read_response(**({"timeout": 0.001} if overdue else {}))
        except FAILURES as error:
            self._fail(key, error)
            return None
        seat.command = None
        return reply

    def _fail(self, key: str, error: Exception) -> None:
        seat = self._seats.get(key)
        self._leave(key)
        if unavailable(error) is None:
            raise error
        if seat and isinstance(error, AskError):
            self._topology.redirected(seat.node, error)
        elif seat and tells_of_failover(error):
            self._topology.lost(seat.node)
        pause_s = MOVED_S if isinstance(error, MovedError) else LEAVE_ALONE_S
        self._failures[key] = (time.monotonic() + pause_s, error)

    def _leave(self, key: str) -> None:
        seat = self._seats.pop(key, None)
        if seat:
            seat.connection.disconnect()


def _close(*sockets: socket.socket) -> None:
    for one in sockets:
        one.close()


class ClusterPopper:
    """See :class:`shared.engine.server.Popper`: a blocking pop on each list, of which only one may take something.

    Args:
        calls: what blocks.
        put_back: puts an element back into a list.
        longest_block_s: longest that one call may block.
    """

    def __init__(self, calls: BlockedCalls, put_back: Callable[[str], None], longest_block_s: float) -> None:
        self._calls = calls
        self._put_back = put_back
        self._longest_block_s = longest_block_s

    def pop(self, keys: Sequence[str], timeout_s: float) -> str | None:
        """See :meth:`Popper.pop`."""
        timeout_s = min(max(timeout_s, SHORTEST_BLOCK_S), self._longest_block_s)
        try:
            # 0 would mean for ever.
            popped = self._calls.wait({key: ("BLPOP", key, timeout_s) for key in keys}, timeout_s)
        except FAILURES as error:
            self._return(list(self._calls.end()))
            raise translate(error) from error
        # Nothing is left under way: it would take what others wait for.
        found = [*popped, *self._calls.end()]
        self._return(found[1:])
        return found[0] if found else None

    def interrupt(self) -> None:
        """See :meth:`Popper.interrupt`."""
        self._calls.interrupt()

    def close(self) -> None:
        """See :meth:`Popper.close`."""
        self._calls.close()

    def _return(self, keys: Sequence[str]) -> None:
        for key in keys:
            with suppress(*FAILURES):  # as if this process had died with it
                self._put_back(key)
