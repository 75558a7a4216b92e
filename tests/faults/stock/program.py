"""The same Dramatiq program on either broker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from dramatiq.middleware import Retries

from shared.broker.broker import JobBroker
from shared.engine.redis import RedisEngine

Kind = Literal["stock", "ours"]
#: how long the programs here wait for a reply
REPLY_TIMEOUT_S = 0.5


class Program:
    """A broker with one actor, ``work``, that writes its runs down.

    Args:
        kind: whose broker.
        url: where the program finds its server.
        act: what the actor does beyond that, called with the message's name.
        lease_s: of our broker; the stock one has its default, or ``heartbeat_timeout_ms``.
        **options: further arguments of the stock broker.
    """

    def __init__(
        self,
        kind: Kind,
        url: str,
        act: Callable[[str], Any] = lambda name: None,
        *,
        lease_s: float = 30.0,
        queue: str = "default",
        max_retries: int = 3,
        **options: Any,
    ) -> None:
        self.kind = kind
        self.queue = queue
        self.runs: list[str] = []
        self.broker: dramatiq.Broker
        middleware: list[Any] = [Retries(min_backoff=20, max_backoff=40, max_retries=max_retries)]
        if kind == "ours":
            self._engine = RedisEngine.from_url(url, reply_timeout_s=REPLY_TIMEOUT_S)
            self.broker = JobBroker(self._engine, middleware=middleware, lease_s=lease_s)
        else:
            self._client = redis.Redis.from_url(url, socket_timeout=REPLY_TIMEOUT_S)
            self.broker = RedisBroker(client=self._client, middleware=middleware, **options)
        self.broker.logger.disabled = False

        @dramatiq.actor(broker=self.broker, queue_name=queue)
        def work(name):
            self.runs.append(name)
            act(name)

        self.work: dramatiq.Actor[..., Any] = work

    @contextmanager
    def worker(self, threads: int = 1, timeout_ms: int = 100) -> Iterator[dramatiq.Worker]:
        """Run a stock worker."""
        worker = dramatiq.Worker(self.broker, worker_threads=threads, worker_timeout=timeout_ms)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop(timeout=20_000)

    def close(self) -> None:
        """Give the connections back."""
        if self.kind == "ours":
            self.broker.close()
        else:
            self._client.close()


class StockQueue:
    """Looks into the keys of a stock broker, past the fault.

    Args:
        client: a direct connection.
        queue: its queue.
    """

    def __init__(self, client: redis.Redis, queue: str = "default") -> None:
        self._client = client
        self._queue = queue

    def waiting(self) -> int:
        """Count the messages that somebody could fetch."""
        return int(self._client.llen(f"dramatiq:{self._queue}"))

    def stored(self) -> int:
        """Count the messages that are there in any way."""
        names = (f"dramatiq:{self._queue}.msgs", f"dramatiq:{self._queue}.DQ.msgs")
        return sum(int(self._client.hlen(name)) for name in names)

    def unacknowledged(self) -> int:
        """Count the messages that a worker is taken to hold."""
        found = self._client.scan_iter(match=f"dramatiq:__acks__.*.{self._queue}*")
        return sum(int(self._client.scard(name)) for name in found)
