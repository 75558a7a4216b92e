"""Sentinels: the master is the one that they name, also after it died."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.engine.harness import add_one, take_one
from tests.servers import PATIENCE_S
from tests.shapes.work import Traffic
from tests.topologies import HOST, TcpServer, WatchedMaster, wait_until

pytestmark = [pytest.mark.needs_server, pytest.mark.shapes]


def test_a_master_that_dies_is_replaced_and_nothing_acknowledged_is_lost(namespace: str) -> None:
    with WatchedMaster(appendonly=True) as group, closing(RedisEngine.from_url(group.url, namespace)) as engine:
        kept = add_one(engine)
        # Replication is asynchronous: only what the replica has is safe.
        group.master.wait_for_replicas()
        group.master.kill()
        wait_until(lambda: group.named_master() == group.replica.port, "a new master is named", 30)
        wait_until(lambda: _counts(engine) == 1, "the same engine finds it", PATIENCE_S)
        assert take_one(engine).id == kept
        with Traffic(group.url, namespace, ["other"]) as traffic:
            traffic.run_out()
        assert set(traffic.finished.values()) == {1}


def test_work_goes_on_when_the_master_is_demoted(namespace: str) -> None:
    """The old master answers READONLY from then on."""
    with WatchedMaster(appendonly=True) as group, Traffic(group.url, namespace, ["q"]) as traffic:
        with group.sentinels[0].client() as client:
            client.execute_command("SENTINEL", "FAILOVER", group.SERVICE)
        wait_until(lambda: group.named_master() == group.replica.port, "a new master is named", 30)
        traffic.wait_for_more()


def test_a_service_that_nobody_knows_is_told(namespace: str) -> None:
    with WatchedMaster(sentinels=1) as group:
        url = group.url.replace(group.SERVICE, "other")
        with (
            closing(RedisEngine.from_url(url, namespace)) as engine,
            pytest.raises(EngineUnavailable, match="No master found for 'other'"),
        ):
            engine.ping()


def test_sentinels_of_which_one_is_gone_still_name_the_master(namespace: str) -> None:
    with WatchedMaster() as group:
        group.sentinels[0].kill()
        with closing(RedisEngine.from_url(group.url, namespace)) as engine:
            add_one(engine)


def test_a_server_that_says_read_only_is_connected_to_anew(namespace: str) -> None:
    """As managed services fail over: the same name, another address."""
    with TcpServer() as server, closing(RedisEngine.from_url(f"redis://{server.address}", namespace)) as engine:
        add_one(engine)
        with server.client() as client:
            client.replicaof(HOST, "1")
            before = _of(client)
            for _ in range(3):
                with pytest.raises(EngineUnavailable):
                    engine.pause("q")
            assert _of(client) == before + 2


def _of(client: Any) -> int:
    return int(client.info("stats")["total_connections_received"])


def _counts(engine: RedisEngine) -> int:
    try:
        return engine.counts("q").waiting
    except EngineUnavailable:
        return 0
