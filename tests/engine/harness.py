"""What the conformance suite knows of an engine beyond its protocol, and short ways to say what a test does.

The suite is written against :class:`shared.engine.engine.Engine`. The little that the protocol cannot do (make time
pass, look at what is stored) is a :class:`Rig`, one for each implementation.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from shared.contracts.queue import QueueContract, Retention
from shared.engine.engine import CycleReply, Engine, Finish, FinishStatus, LeasedJob, NewJob, Outcome
from shared.engine.keys import Keys, new_job_id
from shared.engine.redis import RedisEngine
from tests.servers import ValkeyServer
from tests.topologies import ValkeyCluster

QUEUE = QueueContract("q")
#: a lease that does not run out while a test runs
LEASE_MS = 600_000
ERROR = b'{"type":"ValueError","message":"no","retryable":true}'

_requests = itertools.count(1)


class Rig(Protocol):
    """An engine, and what a test may do behind its back."""

    engine: Engine

    def another(self) -> Engine:
        """A further process on the same queues."""
        ...

    def expire(self, job_id: str) -> None:
        """Let an active job's lease run out."""
        ...

    def make_due(self, job_id: str, ago_ms: int = 1) -> None:
        """Let a delayed job's time come."""
        ...

    def age(self, job_id: str, by_ms: int) -> None:
        """Let a finished job have finished that much earlier."""
        ...

    def outlive(self, job_id: str) -> None:
        """Let the time pass for which a finished job asked to be kept."""
        ...

    def stored(self) -> set[str]:
        """Names of all that is stored for single jobs, and of sorted sets with anything in them."""
        ...

    def skip_places(self, count: int) -> None:
        """Let that many jobs have been added before."""
        ...

    def forget_scripts(self) -> None:
        """What a restart of the server does to its cache of scripts."""
        ...


class RedisRig:
    """A :class:`Rig` over a real server: time passes by writing scores."""

    def __init__(self, server: ValkeyServer | ValkeyCluster, namespace: str) -> None:
        self.namespace = namespace
        self.client: Any = server.client()
        self._server = server
        self._engines: list[RedisEngine] = []
        self.engine: Engine = self.another()

    def another(self) -> RedisEngine:
        engine = RedisEngine.from_url(self._server.url, self.namespace)
        self._engines.append(engine)
        return engine

    def close(self) -> None:
        for engine in self._engines:
            engine.close()
        self.client.close()

    def now_ms(self) -> int:
        # All servers of the tests have the clock of this machine.
        return int(time.time() * 1000)

    def keys_of(self, job_id: str) -> tuple[Keys, str]:
        queue, _, local_id = job_id.rpartition(".")
        return Keys(self.namespace, queue), local_id

    def expire(self, job_id: str) -> None:
        self.set_score("active", job_id, self.now_ms() - 1)

    def make_due(self, job_id: str, ago_ms: int = 1) -> None:
        self.set_score("delayed", job_id, self.now_ms() - ago_ms)

    def age(self, job_id: str, by_ms: int) -> None:
        keys, local_id = self.keys_of(job_id)
        state = self.client.hget(keys.job(local_id), "s").decode()
        self.set_score(state, job_id, self.now_ms() - by_ms)

    def outlive(self, job_id: str) -> None:
        self.set_score("expires", job_id, self.now_ms() - 1)

    def stored(self) -> set[str]:
        found = {key.decode() for key in self.client.scan_iter(f"{{{self.namespace}:*", count=1000)}
        return {key.partition("}:")[2] for key in found} - {"meta", "events", "wake"}

    def skip_places(self, count: int) -> None:
        self.client.hincrby(Keys(self.namespace, "q").meta, "pos", count)

    def forget_scripts(self) -> None:
        self.client.script_flush()

    def set_score(self, name: str, job_id: str, score: int) -> None:
        """Move a job within a sorted set, as time would."""
        keys, local_id = self.keys_of(job_id)
        # CH counts changes: a job that is not there, or stands there already, is a mistake of the test
        assert self.client.zadd(keys.state(name), {local_id: score}, xx=True, ch=True) == 1, f"{job_id} is not {name}"


def make_job(queue: str = "q", **fields: Any) -> NewJob:
    """A job to be added."""
    return NewJob(**{"id": new_job_id(queue), "name": "echo", "body": b'{"a":[{"x":1}]}', **fields})


def add(engine: Engine, count: int = 1, **fields: Any) -> list[str]:
    """Add jobs in one call; gives their ids."""
    jobs = [make_job(**fields) for _ in range(count)]
    assert engine.add("q", jobs) == [True] * count
    return [job.id for job in jobs]


def add_one(engine: Engine, **fields: Any) -> str:
    return add(engine, 1, **fields)[0]


def cycle(
    engine: Engine,
    finishes: Sequence[Finish] = (),
    *,
    want: int = 0,
    queue: QueueContract = QUEUE,
    worker: str = "w1",
    request: str | None = None,
    repeat: bool = False,
    lease_ms: int = LEASE_MS,
) -> CycleReply:
    return engine.cycle(
        queue,
        worker=worker,
        request=request or str(next(_requests)),
        repeat=repeat,
        want=want,
        lease_ms=lease_ms,
        finishes=finishes,
    )


def take(engine: Engine, want: int = 1, **options: Any) -> list[LeasedJob]:
    """Lease jobs, exactly as many as are wanted."""
    jobs = cycle(engine, want=want, **options).jobs
    assert len(jobs) == want
    return jobs


def take_one(engine: Engine, **options: Any) -> LeasedJob:
    return take(engine, 1, **options)[0]


def finish(job: LeasedJob, outcome: Outcome = Outcome.COMPLETE, **fields: Any) -> Finish:
    """The end of a run, with an error where the outcome has one."""
    if outcome in (Outcome.RETRY, Outcome.FAIL, Outcome.CANCEL):
        fields.setdefault("data", ERROR)
    return Finish(job.id, job.token, outcome, **fields)


def end(engine: Engine, job: LeasedJob, outcome: Outcome = Outcome.COMPLETE, **fields: Any) -> FinishStatus:
    """End a run; gives what became of that."""
    (status,) = cycle(engine, [finish(job, outcome, **fields)]).finishes
    return status


def run_one(engine: Engine, outcome: Outcome = Outcome.COMPLETE, **fields: Any) -> str:
    """Add a job and run it to its end; gives its id."""
    job_id = add_one(engine)
    (job,) = take(engine)
    assert job.id == job_id, "run_one needs a queue with nothing else to do"
    assert end(engine, job, outcome, **fields) is FinishStatus.COMMITTED
    return job_id


def keeping(**bounds: int) -> QueueContract:
    """The queue with another retention."""
    return replace(QUEUE, retention=Retention(**bounds))


def state_of(engine: Engine, job_id: str) -> str | None:
    record = engine.get(job_id)
    return record.state.value if record else None


def is_armed(engine: Engine) -> bool:
    """Whether an idle worker would be woken; takes the wake-up."""
    waiter = engine.waiter("probe")
    try:
        return waiter.wait(["q"], 0.01) == "q"
    finally:
        waiter.close()
