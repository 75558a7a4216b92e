"""The way calls take to a server: a connection that each thread keeps.

redis-py's ``execute_command`` takes a connection from a pool, records telemetry and gives it back, for every call; for
a script call on a local server that is about half of its time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Any

import redis
from redis.exceptions import NoScriptError

from shared.engine.loader import Script
from shared.engine.outages import is_read_only

#: a connection that was silent for longer is checked before it is used: the server may have closed it
TRUST_S = 1.0


class Line:
    """Calls scripts and commands.

    Args:
        pool: makes the connections.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self.pool = pool
        self._local = threading.local()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def run(self, script: Script, keys: tuple[str, ...], args: tuple[Any, ...], *, asking: bool = False) -> Any:
        """Run a script and give its reply.

        Args:
            script: what to run.
            keys: its keys.
            args: its arguments.
            asking: call a node of a cluster that is about to take the keys over.

        Raises:
            redis.RedisError, OSError: as redis-py would.
        """
        try:
            return self.call("EVALSHA", script.sha, len(keys), *keys, *args, asking=asking)
        except NoScriptError:
            # A fresh server, or one whose script cache was flushed.
            return self.call("EVAL", script.source, len(keys), *keys, *args, asking=asking)

    def call(self, *command: Any, asking: bool = False) -> Any:
        """Call a command and give its reply, as the server sent it.

        Raises:
            redis.RedisError, OSError: as redis-py would.
        """
        connection = self._connection()
        try:
            if asking:
                connection.send_packed_command(connection.pack_command("ASKING"), check_health=False)
                connection.read_response()
            connection.send_packed_command(connection.pack_command(*command), check_health=False)
            reply = connection.read_response()
        except redis.ResponseError as error:
            if is_read_only(error):
                # Its address may belong to another server by now, the new master.
                connection.disconnect()
            raise
        except BaseException:
            # Whatever ended this early, an interrupt of the thread too: a reply may come that nobody waits for.
            connection.disconnect()
            raise
        self._local.used_at = time.monotonic()
        return reply

    def call_all(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Call several commands at once and give their replies, an error of the server as one of them.

        Raises:
            redis.RedisError, OSError: as redis-py would, when the server does not answer.
        """
        connection = self._connection()
        replies: list[Any] = []
        try:
            connection.send_packed_command(connection.pack_commands(commands), check_health=False)
            for _ in commands:
                try:
                    replies.append(connection.read_response())
                except redis.ResponseError as error:
                    replies.append(error)
        except BaseException:
            connection.disconnect()
            raise
        self._local.used_at = time.monotonic()
        return replies

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in list(self._open):
            connection.disconnect()

    def _connection(self) -> Any:
        local = self._local
        connection = getattr(local, "connection", None)
        if connection is None or local.pid != os.getpid():
            # After a fork the connection of the parent is left alone; two processes on one would mix their replies.
            connection = local.connection = self.pool.make_connection()
            local.pid, local.used_at = os.getpid(), time.monotonic()
            self._open.add(connection)
        elif time.monotonic() - local.used_at > TRUST_S:
            self._check(connection)
        if not connection.is_connected:
            # Sending would connect as well, but to the last address: this asks the Sentinels who is master now.
            connection.connect()
        local.used_at = time.monotonic()
        return connection

    def _check(self, connection: Any) -> None:
        if not connection.is_connected:
            return
        try:
            # Nothing is expected: what can be read is the end of the stream.
            stale = connection.can_read(timeout=0)
        except (redis.RedisError, OSError):
            stale = True
        if stale:
            connection.disconnect()
