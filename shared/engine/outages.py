"""Errors of the queue server: told apart from mistakes of ours, and put into our own words."""

from __future__ import annotations

import re

import redis
from redis.exceptions import AskError, MovedError, RedisClusterException, RedisError, ResponseError

from shared.errors import EngineUnavailable

#: how long a reply may take; scripts take milliseconds, so a longer silence is a broken connection
REPLY_TIMEOUT_S = 5.0

#: what a call may raise when it did not go well, be it the server's fault or ours
FAILURES = (RedisError, OSError, RedisClusterException)
#: replies of a server that is there but cannot serve: starting, read-only replica, out of memory, failing over
_UNAVAILABLE = re.compile(
    # Servers before 7 wrap what a script's command answered: "ERR Error running script (...): -OOM command not ...".
    r"(^|-)(READONLY|LOADING|OOM|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|BUSY|UNKILLABLE|UNBLOCKED) "
)
#: those whose first word redis-py cuts off
_UNAVAILABLE_TYPES = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
    # also Moved: slots of a cluster are on their way, or a cluster is taken for a single server
    AskError,
)
#: what a server says that is there; some of these are connection errors to redis-py
_ANSWERS = (
    ResponseError,
    redis.exceptions.BusyLoadingError,
    redis.exceptions.AuthenticationError,
)


def unavailable(error: Exception) -> EngineUnavailable | None:
    """Tell an error of the surroundings (try again) from one of ours (None)."""
    if isinstance(error, redis.exceptions.DataError):
        return None
    if (
        isinstance(error, ResponseError)
        and not isinstance(error, _UNAVAILABLE_TYPES)
        and not _UNAVAILABLE.search(str(error))
    ):
        return None
    # The text of a connection error names host and port but never the password.
    what = "refuses calls now" if isinstance(error, _ANSWERS) else "does not answer"
    hint = " (it is a node of a cluster: begin its URL with redis+cluster://)" if isinstance(error, MovedError) else ""
    # The text of a connection error names host and port but never the password.
    return EngineUnavailable(f"The queue server {what}: {type(error).__name__}: {error}{hint}", retry_after_s=1)


def translate(error: Exception) -> Exception:
    """Give the error that the caller gets: ours for an outage, else the same."""
    return unavailable(error) or error


def is_read_only(error: Exception) -> bool:
    """Tell whether what was taken for the master is a replica: its address has to be asked for anew."""
    # servers before 7 wrap what a script's command answered
    return isinstance(error, redis.exceptions.ReadOnlyError) or "-READONLY " in str(error)


def tells_of_failover(error: Exception) -> bool:
    """Tell whether another server may have taken this one's place, or is about to."""
    gone = (redis.ConnectionError, redis.TimeoutError, redis.exceptions.ClusterDownError, OSError)
    return isinstance(error, gone) or is_read_only(error)


def longest_block_s(reply_timeout_s: float) -> float:
    """Give how long a call may block: less than the patience for a reply, or it would be taken for silence."""
    return reply_timeout_s - min(1.0, reply_timeout_s / 2)
