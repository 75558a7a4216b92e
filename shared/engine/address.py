"""The URL of a queue server, taken apart.

=================================================  ==========================================================
``redis://[user:password@]host:6379/0``            one server
``rediss://…``                                     the same over TLS
``unix:///path/of/socket?db=0``                    one server on this machine
``redis+sentinel://h1:26379,h2:26379/service/0``   the master that Sentinels name; ``rediss+sentinel`` over TLS
``redis+cluster://h1:6379,h2:6379``                a Redis Cluster, some of its nodes; ``rediss+cluster`` over TLS
=================================================  ==========================================================

User and password are those of the data servers; a Sentinel's own are ``sentinel_username`` and ``sentinel_password`` in
the query. Further parameters are redis-py's: ``ssl_ca_certs``, ``ssl_certfile``, ``ssl_keyfile``, ``ssl_cert_reqs``,
``ssl_check_hostname``, ``socket_keepalive``, ``protocol`` …
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from redis.connection import SSLConnection, UnixDomainSocketConnection, parse_url

#: longest wait for a Sentinel, which has nothing to do but to answer
SENTINEL_REPLY_TIMEOUT_S = 1.0


class Shape(StrEnum):
    """How the queue server is built."""

    SINGLE = "single"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


_SCHEMES: dict[str, tuple[Shape, bool]] = {
    "redis": (Shape.SINGLE, False),
    "rediss": (Shape.SINGLE, True),
    "unix": (Shape.SINGLE, False),
    "redis+sentinel": (Shape.SENTINEL, False),
    "rediss+sentinel": (Shape.SENTINEL, True),
    "redis+cluster": (Shape.CLUSTER, False),
    "rediss+cluster": (Shape.CLUSTER, True),
}
#: parameters for the Sentinels alone
_SENTINEL_OWN = ("sentinel_username", "sentinel_password")
_DEFAULT_PORTS = {Shape.SINGLE: 6379, Shape.SENTINEL: 26379, Shape.CLUSTER: 6379}


@dataclass(frozen=True, slots=True)
class Address:
    """Where the queue server is. May hold passwords: never log it."""

    shape: Shape
    tls: bool
    #: (host, port) of the Sentinels, or of some nodes of a cluster
    hosts: tuple[tuple[str, int], ...] = ()
    #: what the Sentinels call the master
    service: str = ""
    #: what redis-py makes connections to the data servers with
    options: dict[str, Any] = field(default_factory=dict, repr=False)
    #: the same for the Sentinels
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)


def parse_address(url: str) -> Address:
    """Take a URL apart.

    Raises:
        ValueError: when it is none of the forms above; the message says what is wrong and holds no password.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ValueError(f"The URL of the queue server begins with {parts.scheme!r}: use one of {', '.join(_SCHEMES)}.")
    shape, tls = _SCHEMES[parts.scheme]
    if shape is Shape.SINGLE:
        return Address(shape, tls, options=_checked(_parsed(url)))
    hosts = _hosts(parts.netloc.rpartition("@")[2], _DEFAULT_PORTS[shape])
    options = _options(parts, tls)
    sentinel = {name: options.pop(name) for name in list(options) if name in _SENTINEL_OWN}
    path = [unquote(part) for part in parts.path.split("/") if part]
    if shape is Shape.CLUSTER:
        if path not in ([], ["0"]) or options.pop("db", 0) != 0:
            raise ValueError("A Redis Cluster has no numbered databases: leave the number out of the URL.")
        return Address(shape, tls, hosts, options=_checked(options))
    if not path or len(path) > 2:
        raise ValueError("Name the service that the Sentinels watch: redis+sentinel://host:26379/mymaster/0.")
    if len(path) == 2:
        if not path[1].isdigit():
            raise ValueError(f"{path[1]!r} is not the number of a database: redis+sentinel://host:26379/mymaster/0.")
        options["db"] = int(path[1])
    return Address(shape, tls, hosts, path[0], _checked(options), _for_sentinels(options, sentinel))


def _options(parts: SplitResult, tls: bool) -> dict[str, Any]:
    user, at, _ = parts.netloc.rpartition("@")
    # redis-py knows the types of the parameters; host and path are ours to read.
    options = _parsed(f"redis://{user}{at}host?{parts.query}")
    options.pop("host", None)
    return options | ({"ssl": True} if tls else {})


def _parsed(url: str) -> dict[str, Any]:
    options: dict[str, Any] = parse_url(url)  # type: ignore[no-untyped-call]
    return options


def _hosts(text: str, default_port: int) -> tuple[tuple[str, int], ...]:
    hosts: list[tuple[str, int]] = []
    for item in text.split(","):
        try:
            one = urlsplit(f"//{item.strip()}")
            host, port = one.hostname, one.port or default_port
        except ValueError:
            host, port = None, default_port
        if not host:
            raise ValueError(f"{item!r} is not host:port in the URL of the queue server.")
        hosts.append((host, port))
    return tuple(hosts)


def _for_sentinels(options: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    shared = {name: value for name, value in options.items() if name.startswith(("ssl", "socket_"))}
    return shared | {name.removeprefix("sentinel_"): value for name, value in own.items()}


def _checked(options: dict[str, Any]) -> dict[str, Any]:
    classes = {base for kind in (SSLConnection, UnixDomainSocketConnection) for base in kind.__mro__}
    known = {name for base in classes for name in inspect.signature(base).parameters}
    known |= {"connection_class", "timeout", "ssl"}
    if unknown := sorted(set(options) - known):
        raise ValueError(f"The URL of the queue server has unknown parameters: {', '.join(unknown)}.")
    return options
