"""The place of the storm: a server, workers, a producer, and what was done to them."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import redis

from shared.engine.redis import RedisEngine
from shared.errors import EngineUnavailable
from tests.faults.proxy import Match, Rule
from tests.faults.storm.dial import Dial
from tests.faults.storm.families.storm.contract import FAMILY
from tests.faults.storm.fleet import NAMESPACE, ProducerSlot, Slot, WorkerSlot
from tests.faults.storm.ledger import now_ms
from tests.faults.storm.watch import Watch
from tests.servers import ValkeyServer

WORKERS = 6
LEASE_S = 2.0
QUEUES = tuple(queue.name for queue in FAMILY.queues)
#: an armed fault that met no such call by then is tried again elsewhere, seconds
ARMED_S = 5.0
#: rest between two faults of the server itself, seconds
SERVER_REST_S = 2.0


@dataclass
class Fault:
    """Something that was done; times are milliseconds since the epoch."""

    kind: str
    detail: str = ""
    #: place of the process that it befell; None for the server's
    slot: str | None = None
    #: process that runs jobs there
    pid: int | None = None
    #: None until it struck
    at_ms: float | None = None
    #: end of what lasts
    until_ms: float | None = None


class Site:
    """See the module.

    Args:
        folder: an empty one.
        server: the queue server; it is killed and restarted.
        chance: draws everything that is left to chance.
    """

    def __init__(self, folder: Path, server: ValkeyServer, chance: random.Random) -> None:
        self.folder = folder
        self.server = server
        self.chance = chance
        self.engine = RedisEngine.from_url(server.url, NAMESPACE)
        self.watch = Watch(server.url, NAMESPACE, QUEUES)
        #: how many jobs of the plan may be added by now, and will be in all
        self.allowed, self.limit = Dial(folder / "allowed"), Dial(folder / "limit")
        self.workers = [WorkerSlot(str(n), folder, server.socket, lease_s=LEASE_S) for n in range(1, WORKERS + 1)]
        self.producer: ProducerSlot | None = None
        #: those that struck, in order
        self.faults: list[Fault] = []
        #: when the server could not serve, milliseconds since the epoch
        self.outages: list[tuple[float, float]] = []
        #: kills at a script's boundary, by script and moment
        self.struck: Counter[tuple[str, str]] = Counter()
        self.server_busy = False
        self._server_rested_at = 0.0
        self._later: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._armed: list[tuple[Rule, Fault, float, Callable[[bool], None]]] = []
        self._mutex = threading.Lock()

    # -- who is there --

    def healthy(self) -> list[WorkerSlot]:
        """Give the workers that run jobs, and go on doing so for all that is planned."""
        return [slot for slot in self.workers if slot.up and not slot.disabled]

    def victim(self, *, disabling: bool) -> WorkerSlot | None:
        """Choose a worker for a fault; None when there is none, or too few others to take its jobs over."""
        healthy = self.healthy()
        if disabling and len(healthy) < 3:
            return None
        free = [slot for slot in healthy if not slot.busy]
        return self.chance.choice(free) if free else None

    def server_is_calm(self) -> bool:
        """Whether a fault of the server may begin."""
        return not self.server_busy and time.monotonic() >= self._server_rested_at

    def server_done(self) -> None:
        """Take note that the server serves again."""
        self.server_busy = False
        self._server_rested_at = time.monotonic() + SERVER_REST_S

    def direct(self) -> redis.Redis:
        """Connect past the proxies."""
        return self.server.client(socket_timeout=10)

    # -- faults --

    def struck_now(self, fault: Fault) -> Fault:
        """Write a fault down that happens now."""
        fault.at_ms = now_ms()
        with self._mutex:
            self.faults.append(fault)
        return fault

    def arm(self, rule: Rule, fault: Fault, settled: Callable[[bool], None]) -> None:
        """Wait for a fault to strike; ``settled`` is told whether it did, by :meth:`tick`."""
        self._armed.append((rule, fault, time.monotonic() + ARMED_S, settled))

    def marks(self, match: Match, fault: Fault, slot: Slot) -> Match:
        """Make a match that writes the fault down when it takes a request."""

        def marking(request: bytes) -> bool:
            if not match(request):
                return False
            fault.pid = slot.life.pid
            self.struck_now(fault)
            return True

        return marking

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do something by and by."""
        heapq.heappush(self._later, (time.monotonic() + seconds, next(self._numbers), act))

    @property
    def quiet(self) -> bool:
        """Whether nothing is armed or under way."""
        return not self._later and not self._armed

    def tick(self) -> None:
        """Do what is due."""
        for slot in self.workers:
            slot.tick()
        if self.producer is not None:
            self.producer.tick()
        while self._later and self._later[0][0] <= time.monotonic():
            heapq.heappop(self._later)[2]()
        armed, self._armed = self._armed, []
        for rule, fault, until, settled in armed:
            if fault.at_ms is not None:
                settled(True)
            elif time.monotonic() > until:
                rule.end()
                # It may have struck at this very moment.
                settled(fault.at_ms is not None)
            else:
                self._armed.append((rule, fault, until, settled))

    # -- the end --

    def unfinished(self) -> int | None:
        """Count the jobs that have not ended; None while the server does not answer."""
        with suppress(EngineUnavailable):
            counts = [self.engine.counts(queue) for queue in QUEUES]
            return sum(one.waiting + one.delayed + one.blocked + one.active for one in counts)
        return None

    def write_faults(self) -> None:
        """Keep the list of faults with the storm's files."""
        lines = [json.dumps(asdict(fault)) for fault in self.faults]
        (self.folder / "faults").write_text("\n".join(lines) + "\n")

    def close(self) -> None:
        self.watch.close()
        slots: Sequence[Any] = [*self.workers, *([self.producer] if self.producer else [])]
        for slot in slots:
            slot.close()
        self.engine.close()
