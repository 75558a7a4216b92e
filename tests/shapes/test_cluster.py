"""A Redis Cluster: each queue on one node, found again wherever it goes."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from redis.crc import key_slot

from shared.contracts.queue import QueueContract
from shared.engine.keys import Keys
from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.engine.harness import cycle, make_job
from tests.servers import PATIENCE_S
from tests.shapes.work import Traffic
from tests.topologies import TcpServer, ValkeyCluster, wait_until

pytestmark = pytest.mark.needs_server


@pytest.fixture
def engine(cluster: ValkeyCluster, namespace: str) -> Iterator[RedisEngine]:
    made = RedisEngine.from_url(cluster.url, namespace)
    yield made
    made.close()


def spread(cluster: ValkeyCluster, namespace: str) -> list[str]:
    """A queue on each node, in the order of the nodes."""
    by_node: dict[int, str] = {}
    number = 0
    while len(by_node) < len(cluster.masters):
        by_node.setdefault(cluster.master_of(Keys(namespace, f"q{number}").meta).port, f"q{number}")
        number += 1
    return [by_node[node.port] for node in cluster.masters]


def test_the_keys_of_a_queue_are_on_one_node(cluster: ValkeyCluster, engine: RedisEngine, namespace: str) -> None:
    for queue, node in zip(spread(cluster, namespace), cluster.masters, strict=True):
        job = make_job(queue)
        assert engine.add(queue, [job])[0].is_new
        assert engine.get(job.id) is not None
        with node.client() as client:
            names = {name.decode() for name in client.scan_iter(f"{{{namespace}:{queue}}}*", count=1_000)}
        assert Keys(namespace, queue).job(job.id[-26:]) in names


def test_one_wait_hears_of_queues_on_every_node(cluster: ValkeyCluster, engine: RedisEngine, namespace: str) -> None:
    queues = spread(cluster, namespace)
    waiter = engine.waiter("w")
    for queue in queues:
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(waiter.wait, queues, 3)
            engine.add(queue, [make_job(queue)])
            assert waiting.result(timeout=10) == queue
    waiter.close()


def test_a_wait_leaves_nothing_behind_that_would_take_from_others(
    cluster: ValkeyCluster, engine: RedisEngine, namespace: str
) -> None:
    queues = spread(cluster, namespace)
    one, other = engine.waiter("w1"), engine.waiter("w2")
    assert one.wait(queues, 0.01) is None
    engine.add(queues[0], [make_job(queues[0])])
    assert one.wait(queues, 5) == queues[0]
    for queue in queues[1:]:
        engine.add(queue, [make_job(queue)])
    # Both are raised: whichever is told of first, the word of the other is not lost.
    heard = {other.wait(queues, 5), one.wait(queues, 5)}
    assert heard == set(queues[1:])
    one.close()
    other.close()


def test_events_of_every_node_are_read_at_once(cluster: ValkeyCluster, engine: RedisEngine, namespace: str) -> None:
    queues = spread(cluster, namespace)
    positions = dict.fromkeys(queues, "0")
    seen: list[str] = []
    for queue in queues:
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(engine.events, dict(positions), block_ms=3_000)
            job = make_job(queue)
            engine.add(queue, [job])
            found = reading.result(timeout=10)
        for event in found:
            positions[event.queue] = event.id
            seen.append(event.queue)
    assert seen == queues
    assert engine.events(positions, block_ms=10) == []
    assert {event.queue for event in engine.events(dict.fromkeys(queues, "0"), block_ms=0)} == set(queues)


def test_one_address_is_enough(cluster: ValkeyCluster, namespace: str) -> None:
    engine = RedisEngine.from_url(f"redis+cluster://{cluster.masters[1].address}", namespace)
    for queue in spread(cluster, namespace):
        assert engine.add(queue, [make_job(queue)])[0].is_new
    engine.close()


def test_a_cluster_taken_for_a_single_server_is_told(cluster: ValkeyCluster, namespace: str) -> None:
    queue = spread(cluster, namespace)[0]
    engine = RedisEngine.from_url(f"redis://{cluster.masters[2].address}", namespace)
    with pytest.raises(EngineUnavailable, match=r"redis\+cluster://"):
        engine.counts(queue)
    engine.close()


def test_a_single_server_taken_for_a_cluster_is_told(namespace: str) -> None:
    with TcpServer() as server:
        engine = RedisEngine.from_url(f"redis+cluster://{server.address}", namespace)
        with pytest.raises(EngineUnavailable, match="Cluster mode is not enabled"):
            engine.counts("q")
        engine.close()


def test_nobody_listens(namespace: str) -> None:
    engine = RedisEngine.from_url("redis+cluster://127.0.0.1:1,127.0.0.1:2", namespace)
    for call in (engine.ping, lambda: engine.counts("q"), lambda: engine.waiter("w").wait(["q"], 1)):
        with pytest.raises(EngineUnavailable):
            call()
    engine.close()


@pytest.mark.shapes
def test_a_queue_whose_slot_moves_loses_nothing(namespace: str) -> None:
    """Key by key, as redis-cli reshards: no script may see a queue of which half has gone."""
    with ValkeyCluster(appendonly=True) as cluster:
        queue = spread(cluster, namespace)[0]
        with Traffic(cluster.url, namespace, [queue]) as traffic:
            move_slot(cluster, Keys(namespace, queue).meta, cluster.masters[0], cluster.masters[1])
            traffic.wait_for_more()
            traffic.run_out()
        assert set(traffic.finished.values()) == {1}
        with cluster.masters[0].client() as client:
            assert list(client.scan_iter(f"{{{namespace}:*")) == []


def move_slot(cluster: ValkeyCluster, key: str, source: TcpServer, target: TcpServer) -> None:
    slot = key_slot(key.encode())
    with source.client() as old, target.client() as new:
        new.execute_command("CLUSTER", "SETSLOT", slot, "IMPORTING", cluster.id_of(source))
        old.execute_command("CLUSTER", "SETSLOT", slot, "MIGRATING", cluster.id_of(target))
        while names := old.execute_command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            # One at a time, slowly: the queue is in pieces for a while.
            for name in names:
                old.execute_command("MIGRATE", "127.0.0.1", target.port, name, 0, 5_000)
        for node in (new, old):
            node.execute_command("CLUSTER", "SETSLOT", slot, "NODE", cluster.id_of(target))


@pytest.mark.shapes
def test_a_node_that_dies_is_replaced_and_nothing_acknowledged_is_lost(namespace: str) -> None:
    with ValkeyCluster(replicas=True, appendonly=True) as cluster:
        queues = spread(cluster, namespace)
        engine = RedisEngine.from_url(cluster.url, namespace)
        kept = make_job(queues[0])
        assert engine.add(queues[0], [kept])[0].is_new
        cluster.masters[0].wait_for_replicas()
        with Traffic(cluster.url, namespace, queues[1:]) as traffic:
            cluster.masters[0].kill()
            # The others do not notice.
            traffic.wait_for_more()
            assert traffic.outages == 0
            wait_until(lambda: _is_there(engine, kept.id), "the replica has taken over", PATIENCE_S)
            traffic.run_out()
        (job,) = cycle(engine, want=1, queue=QueueContract(queues[0])).jobs
        assert job.id == kept.id
        engine.close()


@pytest.mark.shapes
def test_work_goes_on_by_itself_after_a_failover(namespace: str) -> None:
    with ValkeyCluster(replicas=True, appendonly=True) as cluster:
        queue = spread(cluster, namespace)[0]
        with Traffic(cluster.url, namespace, [queue]) as traffic:
            with cluster.replicas[0].client() as client:
                # By hand the master waits until its replica has everything, so nothing may be missing.
                client.execute_command("CLUSTER", "FAILOVER")
            wait_until(lambda: _role(cluster.replicas[0]) == "master", "the replica has taken over")
            traffic.wait_for_more()
            traffic.run_out()
        assert set(traffic.finished.values()) == {1}


def _role(node: TcpServer) -> str:
    with node.client() as client:
        return str(client.role()[0].decode())


def _is_there(engine: RedisEngine, job_id: str) -> bool:
    try:
        return engine.get(job_id) is not None
    except EngineUnavailable:
        return False
