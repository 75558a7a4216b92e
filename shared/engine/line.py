"""The way scripts take to the server: a connection that each thread keeps.

redis-py's ``execute_command`` takes a connection from a pool, records telemetry and gives it back, for every call; for
a script call on a local server that is about half of its time.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any

import redis
from redis.exceptions import NoScriptError

from shared.engine.loader import Script

#: a connection that was silent for longer is checked before it is used: the server may have closed it
TRUST_S = 1.0


class Line:
    """Calls scripts.

    Args:
        pool: makes the connections.
    """

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool
        self._local = threading.local()
        self._open: weakref.WeakSet[Any] = weakref.WeakSet()

    def call(self, script: Script, meta: str, args: tuple[Any, ...]) -> Any:
        """Run a script and give its reply.

        Args:
            script: what to run.
            meta: its only key.
            args: its arguments.

        Raises:
            redis.RedisError, OSError: as redis-py would.
        """
        connection = self._connection()
        try:
            return self._ask(connection, "EVALSHA", script.sha, 1, meta, *args)
        except NoScriptError:
            # A fresh server, or one whose script cache was flushed.
            return self._ask(connection, "EVAL", script.source, 1, meta, *args)

    def close(self) -> None:
        """Close every thread's connection."""
        for connection in list(self._open):
            connection.disconnect()

    def _ask(self, connection: Any, *command: Any) -> Any:
        try:
            connection.send_packed_command(connection.pack_command(*command), check_health=False)
            reply = connection.read_response()
        except redis.ResponseError:
            raise
        except BaseException:
            # Whatever ended this early, an interrupt of the thread too: a reply may come that nobody waits for.
            connection.disconnect()
            raise
        self._local.used_at = time.monotonic()
        return reply

    def _connection(self) -> Any:
        local = self._local
        connection = getattr(local, "connection", None)
        if connection is None or local.pid != os.getpid():
            # After a fork the connection of the parent is left alone; two processes on one would mix their replies.
            connection = local.connection = self._pool.make_connection()
            local.pid = os.getpid()
            self._open.add(connection)
        elif time.monotonic() - local.used_at > TRUST_S:
            self._check(connection)
        local.used_at = time.monotonic()
        return connection

    def _check(self, connection: Any) -> None:
        try:
            # Nothing is expected: what can be read is the end of the stream.
            stale = connection.can_read(timeout=0)
        except (redis.RedisError, OSError):
            stale = True
        if stale:
            connection.disconnect()
