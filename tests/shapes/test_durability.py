"""What a worker says at start about its server."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from redis.exceptions import NoPermissionError

from shared.engine.durability import check_durability, read_facts, warnings
from shared.engine.server import Server
from shared.errors import EngineUnavailable, UnsupportedServer
from tests.servers import ValkeyServer
from tests.topologies import HOST, TcpServer, ValkeyCluster

pytestmark = pytest.mark.needs_server


def said_of(server: Any) -> list[str]:
    with closing(Server.from_url(server.url)) as connections:
        return check_durability(connections)


def test_nothing_is_said_of_a_server_that_keeps_everything(make_valkey: Callable[..., ValkeyServer]) -> None:
    assert said_of(make_valkey(appendonly=True)) == []
    assert said_of(make_valkey(appendonly=True, appendfsync="everysec")) == []


@pytest.mark.parametrize(
    ("config", "parts"),
    [
        ({"appendonly": False}, ["writes nothing to disk", "every restart loses every job", "Set appendonly yes"]),
        ({"appendonly": False, "save": "900 1"}, ["snapshots only", "Set appendonly yes"]),
        ({"appendfsync": "no"}, ["appendfsync is no", "power cut"]),
        (
            {"maxmemory_policy": "allkeys-lru", "maxmemory": "100mb"},
            ["allkeys-lru: when its memory is full, this server deletes jobs", "Set maxmemory-policy noeviction"],
        ),
        ({"maxmemory_policy": "allkeys-random"}, ["as soon as it is given a maxmemory", "deletes jobs"]),
        ({"maxmemory_policy": "volatile-ttl"}, ["Jobs have none and stay"]),
    ],
    ids=str,
)
def test_a_setting_that_breaks_the_promise_is_named(
    make_valkey: Callable[..., ValkeyServer], config: dict[str, Any], parts: list[str]
) -> None:
    (warning,) = said_of(make_valkey(**{"appendonly": True, **config}))
    for part in parts:
        assert part in warning


def test_replication_is_said_to_lag() -> None:
    with TcpServer(appendonly=True) as master, TcpServer(appendonly=True) as replica:
        with replica.client() as client:
            client.replicaof(HOST, str(master.port))
        master.wait_for_replicas()
        (warning,) = said_of(master)
        assert "min-replicas-to-write 1" in warning
        with master.client() as client:
            client.config_set("min-replicas-to-write", 1)
        assert said_of(master) == []
        assert "is a replica" in said_of(replica)[0]


def test_every_node_of_a_cluster_is_asked(cluster: ValkeyCluster) -> None:
    found = said_of(cluster)
    assert {warning.partition(": ")[0] for warning in found} == {node.address for node in cluster.masters}


def test_a_managed_server_that_forbids_config_is_asked_otherwise(make_valkey: Callable[..., ValkeyServer]) -> None:
    server = make_valkey(maxmemory_policy="allkeys-lfu")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "default", "-config")
    found = said_of(server)
    assert any("allkeys-lfu" in warning for warning in found)
    assert any("snapshots only" in warning for warning in found)


def test_a_server_that_says_nothing_is_not_taken_for_a_good_one() -> None:
    def call(*command: Any) -> Any:
        if command == ("INFO",):
            return b"# Server\r\nredis_version:7.4.0\r\nrole:master\r\n"
        raise NoPermissionError("no")

    facts = read_facts("", call)
    assert (facts.appendonly, facts.eviction, facts.save) == (None, None, None)
    said = list(warnings(facts))
    assert len(said) == 2
    assert "make sure" in said[0].lower()
    assert "make sure" in said[1].lower()


@pytest.mark.parametrize("version", ["6.0.16", "5.0.14", "3.2"])
def test_a_release_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(UnsupportedServer, match=f"is Redis {version}; Callboard needs Redis 6.2 or newer"):
        read_facts("", lambda *command: f"redis_version:{version}\r\nrole:master\r\n".encode())


def test_a_server_that_is_away_is_an_outage(make_valkey: Callable[..., ValkeyServer]) -> None:
    server = make_valkey()
    server.kill()
    with pytest.raises(EngineUnavailable):
        said_of(server)


def test_a_write_that_failed_is_told() -> None:
    info = b"redis_version:7.4.0\r\nrole:master\r\naof_enabled:1\r\naof_last_write_status:err\r\n"
    info += b"maxmemory_policy:noeviction\r\n"
    facts = read_facts("", lambda *command: info if command == ("INFO",) else [])
    (warning,) = warnings(facts)
    assert "is the disk full?" in warning
