"""Errors of the queue server: told apart from mistakes of ours, and put into our own words."""

from __future__ import annotations

import re

import redis
from redis.exceptions import ResponseError

from shared.errors import EngineUnavailable

#: how long a reply may take; scripts take milliseconds, so a longer silence is a broken connection
REPLY_TIMEOUT_S = 5.0

#: replies of a server that is there but cannot serve: starting, read-only replica, out of memory, failing over
_UNAVAILABLE = re.compile(
    # Servers before 7 wrap what a script's command answered: "ERR Error running script (...): -OOM command not ...".
    r"(^|-)(READONLY|LOADING|OOM|MISCONF|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|NOREPLICAS|BUSY|UNKILLABLE) "
)
#: those whose first word redis-py cuts off
_UNAVAILABLE_TYPES = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
    redis.exceptions.ClusterDownError,
    redis.exceptions.TryAgainError,
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
    return EngineUnavailable(f"The queue server {what}: {type(error).__name__}: {error}", retry_after_s=1)


def translate(error: Exception) -> Exception:
    """Give the error that the caller gets: ours for an outage, else the same."""
    return unavailable(error) or error


def longest_block_s(client: redis.Redis) -> float:
    """Give how long a call may block: less than the patience for a reply, or it would be taken for silence."""
    patience = float(client.get_connection_kwargs().get("socket_timeout") or REPLY_TIMEOUT_S)
    return patience - min(1.0, patience / 2)
