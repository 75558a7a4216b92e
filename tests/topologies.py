"""Several real servers that act as one: a cluster with replicas, and a master watched by Sentinels."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import redis

from tests.servers import PATIENCE_S, ValkeyServer

SLOTS = 16384
HOST = "127.0.0.1"


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], Any], what: str, patience_s: float = PATIENCE_S) -> None:
    """Wait for a condition; an error of the connection means not yet."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            if condition():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.02)


class TcpServer(ValkeyServer):
    """A server that listens on a port of the loopback too."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**{"bind": HOST, "port": free_port(), "repl-diskless-sync-delay": 0, **config})

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def wait_for_replicas(self, count: int = 1) -> None:
        """Wait until the replicas have everything that was written so far."""
        with self.client() as client:
            wait_until(lambda: _synced(client) >= count, f"{count} replicas of {self.address} in step")


def _synced(client: redis.Redis) -> int:
    info: dict[str, Any] = client.info("replication")
    replicas = [info[name] for name in info if name.startswith("slave") and isinstance(info[name], dict)]
    return sum(one["state"] == "online" and one["offset"] >= info["master_repl_offset"] for one in replicas)


class _Group:
    """Servers that begin and end together."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


class ValkeyCluster(_Group):
    """A cluster on the loopback.

    Args:
        masters: nodes that share the slots.
        replicas: whether each has a replica, so that it can be killed.
        options: as of :class:`ValkeyServer`.
    """

    def __init__(self, masters: int = 3, *, replicas: bool = False, **options: Any) -> None:
        super().__init__()
        cluster = {
            "cluster-enabled": "yes",
            "cluster-node-timeout": 1500,
            # a test that kills one node wants to see the others go on
            "cluster-require-full-coverage": "no",
            "cluster-replica-validity-factor": 0,
        }
        made = [
            TcpServer(**{**cluster, "cluster-port": free_port(), **options})
            for _ in range(masters * (2 if replicas else 1))
        ]
        self.masters, self.replicas = made[:masters], made[masters:]

    @property
    def nodes(self) -> list[TcpServer]:
        return [*self.masters, *self.replicas]

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(node.address for node in self.masters)

    def client(self) -> redis.RedisCluster:
        return redis.RedisCluster(host=HOST, port=self.masters[0].port)

    def __enter__(self) -> ValkeyCluster:
        for node in self.nodes:
            self._stack.enter_context(node)
        size = SLOTS // len(self.masters) + 1
        for number, node in enumerate(self.masters):
            with node.client() as client:
                first, last = number * size, min((number + 1) * size, SLOTS) - 1
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        self._meet()
        for master, replica in zip(self.masters, self.replicas, strict=False):
            with replica.client() as client:
                client.execute_command("CLUSTER", "REPLICATE", self.id_of(master))
        wait_until(self._is_whole, "every node sees the whole cluster")
        for master in self.masters if self.replicas else ():
            master.wait_for_replicas()
        return self

    def id_of(self, node: TcpServer) -> str:
        with node.client() as client:
            return str(client.execute_command("CLUSTER", "MYID").decode())

    def master_of(self, key: str) -> TcpServer:
        """The node that a key was given to at the start."""
        from redis.crc import key_slot

        return self.masters[key_slot(key.encode()) // (SLOTS // len(self.masters) + 1)]

    def _meet(self) -> None:
        first = self.nodes[0]
        with first.client() as client:
            for node in self.nodes[1:]:
                client.execute_command("CLUSTER", "MEET", HOST, node.port, node._config["cluster-port"])
        wait_until(lambda: all(self._known(node) == len(self.nodes) for node in self.nodes), "all nodes have met")

    def _known(self, node: TcpServer) -> int:
        return int(_cluster_info(node)["cluster_known_nodes"])

    def _is_whole(self) -> bool:
        infos = [_cluster_info(node) for node in self.nodes]
        return all(
            info["cluster_state"] == "ok" and int(info["cluster_size"]) == len(self.masters) for info in infos
        ) and all(self._slaves_seen(node) == len(self.replicas) for node in self.nodes)

    def _slaves_seen(self, node: TcpServer) -> int:
        with node.client() as client:
            return sum(" slave " in line or ",slave " in line for line in _lines(client, "NODES"))


def _cluster_info(node: TcpServer) -> dict[str, str]:
    with node.client() as client:
        return dict(line.split(":", 1) for line in _lines(client, "INFO"))


def _lines(client: redis.Redis, what: str) -> list[str]:
    # Past redis-py's own reading of these replies, which differs between its releases.
    connection = client.connection_pool.get_connection()
    try:
        connection.send_command("CLUSTER", what)
        return str(connection.read_response().decode()).splitlines()
    finally:
        client.connection_pool.release(connection)


class WatchedMaster(_Group):
    """A master and its replica, watched by Sentinels.

    Args:
        sentinels: their number; most of them must agree that the master is gone.
        options: of master and replica, as of :class:`ValkeyServer`.
    """

    SERVICE = "mymaster"

    def __init__(self, sentinels: int = 3, **options: Any) -> None:
        super().__init__()
        self.master, self.replica = TcpServer(**options), TcpServer(**options)
        self.sentinels = [SentinelServer() for _ in range(sentinels)]

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(one.address for one in self.sentinels)}/{self.SERVICE}/0"

    def __enter__(self) -> WatchedMaster:
        self._stack.enter_context(self.master)
        self._stack.enter_context(self.replica)
        with self.replica.client() as client:
            client.replicaof(HOST, str(self.master.port))
        self.master.wait_for_replicas()
        for sentinel in self.sentinels:
            sentinel.watch(self.SERVICE, self.master, len(self.sentinels) // 2 + 1)
            self._stack.enter_context(sentinel)
        wait_until(lambda: all(self._sees_all(one) for one in self.sentinels), "the Sentinels know each other")
        return self

    def named_master(self) -> int:
        """Port of the master that the first Sentinel names."""
        with self.sentinels[0].client() as client:
            return int(client.sentinel_get_master_addr_by_name(self.SERVICE)[1])

    def _sees_all(self, sentinel: SentinelServer) -> bool:
        with sentinel.client(decode_responses=True) as client:
            state = client.sentinel_masters()[self.SERVICE]
        return bool(state["num-slaves"] == 1 and state["num-other-sentinels"] == len(self.sentinels) - 1)


class SentinelServer(ValkeyServer):
    """The wheel's server as a Sentinel."""

    def __init__(self) -> None:
        super().__init__()
        self._port = free_port()
        self._config = {}

    @property
    def port(self) -> int:
        """Where it listens; its own configuration file says so."""
        return self._port

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"

    def watch(self, service: str, master: TcpServer, quorum: int) -> None:
        """Write the configuration, which it keeps its own notes in."""
        lines = [
            f"port {self.port}",
            f"bind {HOST}",
            f"dir {self.folder}",
            f"unixsocket {self.socket}",
            f"sentinel monitor {service} {HOST} {master.port} {quorum}",
            f"sentinel down-after-milliseconds {service} 1000",
            f"sentinel failover-timeout {service} 6000",
        ]
        (self.folder / "sentinel.conf").write_text("\n".join(lines) + "\n")

    def _arguments(self) -> list[str]:
        return [str(self.folder / "sentinel.conf"), "--sentinel"]
