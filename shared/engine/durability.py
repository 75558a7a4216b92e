"""Whether a queue server keeps what it acknowledged, told in plain words.

The promise (``docs/job-lifecycle.md``) is: never lost once ``add`` has answered. What it takes is in the hands of
whoever runs the server, and nothing would be noticed until the day that it matters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from redis.exceptions import ResponseError

from shared.engine.outages import FAILURES, translate
from shared.engine.server import Server
from shared.errors import UnsupportedServer

#: oldest release of Redis whose commands the scripts use; Valkey says which Redis it is compatible with
OLDEST_VERSION = (6, 2)


@dataclass(frozen=True, slots=True)
class Facts:
    """What one server says of itself; None where it does not say."""

    #: ``host:port`` of a node of a cluster, else empty
    node: str
    version: str
    #: ``master`` or ``slave``
    role: str
    replicas: int
    #: what is thrown away when memory is full
    eviction: str | None
    #: limit of its memory in bytes, 0 for none
    maxmemory: int | None
    appendonly: bool | None
    #: ``always``, ``everysec`` or ``no``
    appendfsync: str | None
    #: when a snapshot is written, empty for never
    save: str | None
    min_replicas: int | None
    #: whether the last write to its files went well
    writes_well: bool


def check_durability(server: Server) -> list[str]:
    """Give what speaks against the promise on this server, a sentence or two each; nothing when it holds.

    Raises:
        UnsupportedServer: when the server is too old.
        EngineUnavailable: when it cannot be asked.
    """
    found: list[str] = []
    for node, call in server.nodes().items():
        try:
            facts = read_facts(node, call)
        except FAILURES as error:
            raise translate(error) from error
        where = f"{node}: " if node else ""
        found += [where + warning for warning in warnings(facts)]
    return found


def read_facts(node: str, call: Callable[..., Any]) -> Facts:
    """Ask a server about itself.

    Raises:
        redis.RedisError: when it cannot be asked.
        UnsupportedServer: when it is too old.
    """
    info = _info(call)
    version = info.get("redis_version", "")
    if version and tuple(int(part) for part in version.split(".")[:2]) < OLDEST_VERSION:
        raise UnsupportedServer(f"The queue server is Redis {version}; Callboard needs Redis 6.2 or newer, or Valkey.")
    maxmemory = info.get("maxmemory") or _setting(call, "maxmemory")
    replicas = _setting(call, "min-replicas-to-write")
    aof = info.get("aof_enabled")
    return Facts(
        node=node,
        version=version,
        role=info.get("role", "master"),
        replicas=int(info.get("connected_slaves", 0)),
        eviction=info.get("maxmemory_policy") or _setting(call, "maxmemory-policy"),
        maxmemory=int(maxmemory) if maxmemory is not None else None,
        appendonly=aof == "1" if aof is not None else None,
        appendfsync=_setting(call, "appendfsync"),
        save=_setting(call, "save"),
        min_replicas=int(replicas) if replicas is not None else None,
        writes_well=info.get("aof_last_write_status", "ok") == "ok",
    )


def warnings(facts: Facts) -> Iterator[str]:
    """Say what the facts mean for "nothing is lost", and what to set."""
    if facts.role != "master":
        yield "This server is a replica and refuses every write. Connect to its master, or through its Sentinels."
    yield from _of_memory(facts)
    yield from _of_files(facts)
    if facts.replicas and facts.min_replicas == 0:
        yield (
            "This server has replicas, and they follow it with a delay: when one takes over, jobs acknowledged in the "
            "last moments may be missing. Set min-replicas-to-write 1 and min-replicas-max-lag 10, so that a server "
            "that lost its replicas takes no jobs; that narrows the gap and does not close it."
        )


def _of_memory(facts: Facts) -> Iterator[str]:
    policy = facts.eviction
    if policy is None:
        yield (
            "This server does not say what it throws away when its memory is full. Make sure that maxmemory-policy is "
            "noeviction; with any allkeys policy it deletes jobs."
        )
    elif policy.startswith("allkeys"):
        when = "when its memory is full" if facts.maxmemory else "as soon as it is given a maxmemory"
        yield (
            f"maxmemory-policy is {policy}: {when}, this server deletes jobs that it had accepted, without a word. "
            "Set maxmemory-policy noeviction; then it refuses new jobs instead, and the API answers 503."
        )
    elif policy.startswith("volatile"):
        yield (
            f"maxmemory-policy is {policy}: when its memory is full, this server deletes what has a time to live. Jobs "
            "have none and stay, but other things of Callboard may go early. Set maxmemory-policy noeviction."
        )


def _of_files(facts: Facts) -> Iterator[str]:
    if facts.appendonly is None:
        yield (
            "This server does not say whether it keeps an append-only file. Without one, a restart or a failover "
            "loses every job since its last snapshot: make sure that appendonly is yes."
        )
    elif not facts.appendonly and facts.save == "":
        yield (
            "This server writes nothing to disk (appendonly no, no snapshots): every restart loses every job. "
            "Set appendonly yes."
        )
    elif not facts.appendonly:
        yield (
            "This server writes snapshots only (appendonly no): a restart loses every job accepted since the last one, "
            "and runs again what was finished since then. Set appendonly yes."
        )
    elif facts.appendfsync == "no":
        yield (
            "appendfsync is no: a power cut may lose what was accepted in the last half minute or so. Set appendfsync "
            "everysec (loses about two seconds) or always (loses nothing)."
        )
    if not facts.writes_well:
        yield "The last write to the append-only file failed: is the disk full? Until that is mended, nothing is safe."


def _info(call: Callable[..., Any]) -> Mapping[str, str]:
    lines = _text(call("INFO")).splitlines()
    return dict(line.split(":", 1) for line in lines if ":" in line)


def _setting(call: Callable[..., Any], name: str) -> str | None:
    try:
        reply = call("CONFIG", "GET", name)
    except ResponseError:
        # Managed servers forbid CONFIG: unknown command, or no permission.
        return None
    values = list(reply.values()) if isinstance(reply, dict) else reply[1::2]
    return _text(values[0]) if values else None


def _text(value: Any) -> str:
    # RESP3 marks the kind of a text that is not for programs: "txt:...".
    text = value.decode() if isinstance(value, bytes) else str(value)
    return text.removeprefix("txt:")
