"""Topology: which node of a Redis Cluster has a key."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.crc import key_slot
from redis.exceptions import AskError, MovedError
from redis.retry import Retry

from shared.engine.address import Address
from shared.engine.line import Line
from shared.engine.outages import FAILURES

#: the slots are asked for again at most this often, or a cluster that fails over would be asked by every call
REFRESH_S = 0.5


@dataclass(frozen=True, slots=True)
class Node:
    """A server of the cluster."""

    #: ``host:port``
    name: str
    line: Line


class Topology:
    """Follows the slots of a cluster as they move, over redis-py's ``RedisCluster``.

    Args:
        address: some nodes of the cluster.
        reply_timeout_s: how long a reply may take.
    """

    def __init__(self, address: Address, reply_timeout_s: float) -> None:
        self._address = address
        self._reply_timeout_s = reply_timeout_s
        self._cluster: RedisCluster | None = None
        self._nodes: dict[str, Node] = {}
        self._slots: dict[str, int] = {}
        self._lock = threading.Lock()
        self._refreshing = threading.Lock()
        self._stale = False
        self._refreshed_at = 0.0
        self._failed: str | None = None

    def node_of(self, key: str) -> Node:
        """Give the node that takes writes to a key.

        Raises:
            redis.exceptions.RedisClusterException: when no node can be asked, or none has the key's slot.
        """
        slot = self._slots.get(key)
        if slot is None:
            slot = key_slot(key.encode())
            if len(self._slots) < 10_000:  # those of jobs are many, and come once
                self._slots[key] = slot
        return self._node(self._fresh().nodes_manager.get_node_from_slot(slot))

    def masters(self) -> Mapping[str, Node]:
        """Give the nodes that take writes, by name."""
        return {node.name: self._node(node) for node in self._fresh().get_primaries()}  # type: ignore[no-untyped-call]

    def redirected(self, node: Node, error: AskError) -> Node:
        """Give the node that another one named; for MOVED it is the one to call from now on."""
        cluster = self._fresh()
        # A cluster that does not know its own name in the network leaves the host out: it is the same.
        host = error.host or node.name.rpartition(":")[0]
        if isinstance(error, MovedError):
            self._stale = True
            error.host = host
            if error.slot_id in cluster.nodes_manager.slots_cache:
                cluster.nodes_manager.move_slot(error)
        found = cluster.nodes_manager.get_node(host=host, port=error.port)
        return self._node(found or ClusterNode(host, error.port))  # type: ignore[no-untyped-call]

    def lost(self, node: Node) -> None:
        """Hear that a node did not answer: another may have taken its place."""
        self._failed = node.name
        self._stale = True

    def close(self) -> None:
        """Close the connections."""
        for node in self._nodes.values():
            node.line.close()
        if self._cluster is not None:
            self._cluster.close()

    def _fresh(self) -> RedisCluster:
        cluster = self._cluster
        if cluster is None:
            with self._lock:
                cluster = self._cluster = self._cluster or self._connect()
        elif self._stale and time.monotonic() - self._refreshed_at > REFRESH_S:
            self._refresh(cluster)
        return cluster

    def _refresh(self, cluster: RedisCluster) -> None:
        # One asks, which may take a while if nodes are silent; the others go on with what is known.
        if not self._refreshing.acquire(blocking=False):
            return
        try:
            self._stale = False
            known = [(node.host, node.port) for node in cluster.nodes_manager.nodes_cache.copy().values()]
            cluster.nodes_manager.initialize(known, last_failed_node_name=self._failed)
        except FAILURES:
            # What is known may still be right; the call will tell.
            self._stale = True
        finally:
            self._refreshed_at = time.monotonic()
            self._refreshing.release()

    def _connect(self) -> RedisCluster:
        return RedisCluster(
            startup_nodes=[ClusterNode(*host) for host in self._address.hosts],  # type: ignore[no-untyped-call]
            # A queue whose node is there goes on while another's is not.
            require_full_coverage=False,
            # Those of the URL may be names, which stay right when every node got another address.
            dynamic_startup_nodes=False,
            retry=Retry(NoBackoff(), 0),
            **{
                **self._address.options,
                "socket_timeout": self._reply_timeout_s,
                "socket_connect_timeout": self._reply_timeout_s,
                "max_connections": 2**31 - 1,
            },
        )

    def _node(self, found: ClusterNode) -> Node:
        known = self._nodes.get(found.name)
        if known is None:
            with self._lock:
                known = self._nodes.get(found.name)
                if known is None:
                    client: Any = self._cluster.get_redis_connection(found)  # type: ignore[union-attr]
                    known = self._nodes[found.name] = Node(found.name, Line(client.connection_pool))
        return known
