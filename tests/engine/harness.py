"""What the conformance suite knows of an engine beyond its protocol, and short ways to say what a test does.

The suite is written against :class:`shared.engine.engine.Engine`. The little that the protocol cannot do (make time
pass, look at what is stored) is a :class:`Rig`, one for each implementation.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

from shared.contracts.queue import QueueContract, QueueLimits, Retention
from shared.engine.adding import AddStatus
from shared.engine.engine import CycleReply, Engine, Finish, FinishStatus, JobRecord, LeasedJob, NewJob, Outcome
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import Keys, new_job_id
from shared.engine.loader import Script
from shared.engine.redis import RedisEngine
from shared.engine.server import Server
from shared.engine.states import State
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
        """Let a finished job have finished that much earlier, and any other have been added that much earlier."""
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

    def pass_time(self, ms: int) -> None:
        """Let that much time pass on the clock of the server."""
        ...

    def rewinding(self, queue: str) -> Callable[[], None]:
        """Remember a queue's outbox; gives what puts it back, as if whoever relays it had died before striking off."""
        ...

    def dying(self, calls: int) -> Engine:
        """A process that raises :class:`Died` at its next call to the server after so many.

        An engine that does what the test does with it in one step may give one that lives.
        """
        ...


class Died(BaseException):
    """A process of the test is no more."""


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
        standing, identity = cast("list[bytes]", self.client.hmget(keys.job(local_id), "s", "i"))
        state = State(standing.decode().partition(" ")[0])
        if state.finished:
            self.set_score(state, job_id, self.now_ms() - by_ms)
            return
        name, priority, added, rest = identity.decode().split("\n", 3)
        aged = "\n".join((name, priority, str(int(added) - by_ms), rest))
        self.client.hset(keys.job(local_id), "i", aged)
        if state is State.BLOCKED:
            self.client.zincrby(keys.state(state), -by_ms, local_id)

    def outlive(self, job_id: str) -> None:
        self.set_score("expires", job_id, self.now_ms() - 1)

    def stored(self) -> set[str]:
        found = {key.decode() for key in self.client.scan_iter(f"{{{self.namespace}:*", count=1000)}
        # An empty outbox stays, as it tells the ids of steps to come from those that were.
        empty = {key for key in found if key.endswith("}:outbox") and not self.client.xlen(key)}
        return {key.partition("}:")[2] for key in found - empty} - {"meta", "events", "wake"}

    def skip_places(self, count: int) -> None:
        self.client.hincrby(Keys(self.namespace, "q").meta, "pos", count)

    def forget_scripts(self) -> None:
        self.client.script_flush()

    def pass_time(self, ms: int) -> None:
        until = self.now_ms() + ms
        while self.now_ms() <= until:
            time.sleep(0.002)

    def rewinding(self, queue: str) -> Callable[[], None]:
        key = Keys(self.namespace, queue).state("outbox")
        kept = self.client.dump(key)

        def put_back() -> None:
            self.client.delete(key)
            if kept is not None:
                self.client.restore(key, 0, kept)

        return put_back

    def dying(self, calls: int) -> RedisEngine:
        server = DyingServer(Server.from_url(self._server.url), calls)
        engine = RedisEngine(cast("Server", server), self.namespace)
        self._engines.append(engine)
        return engine

    def set_score(self, name: str, job_id: str, score: int) -> None:
        """Move a job within a sorted set, as time would."""
        keys, local_id = self.keys_of(job_id)
        # CH counts changes: a job that is not there, or stands there already, is a mistake of the test
        assert self.client.zadd(keys.state(name), {local_id: score}, xx=True, ch=True) == 1, f"{job_id} is not {name}"


class DyingServer:
    """The connections of a process that dies after so many calls."""

    def __init__(self, server: Server, calls: int) -> None:
        self._server = server
        self._left = calls

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)

    def run(self, script: Script, key: str, args: tuple[Any, ...]) -> Any:
        self._count()
        return self._server.run(script, key, args)

    def call(self, *command: Any) -> Any:
        self._count()
        return self._server.call(*command)

    def _count(self) -> None:
        if self._left == 0:
            raise Died
        self._left -= 1


def make_job(queue: str = "q", **fields: Any) -> NewJob:
    """A job to be added."""
    return NewJob(**{"id": new_job_id(queue), "name": "echo", "body": b'{"a":[{"x":1}]}', **fields})


def add(engine: Engine, count: int = 1, **fields: Any) -> list[str]:
    """Add jobs in one call; gives their ids."""
    jobs = [make_job(**fields) for _ in range(count)]
    assert statuses(engine, jobs) == [AddStatus.NEW] * count
    return [job.id for job in jobs]


def statuses(engine: Engine, jobs: Sequence[NewJob], queue: str = "q") -> list[AddStatus]:
    """Add jobs; gives what became of each."""
    return [added.status for added in engine.add(queue, jobs)]


def add_one(engine: Engine, **fields: Any) -> str:
    return add(engine, 1, **fields)[0]


def add_blocked(engine: Engine) -> str:
    """Add a job that runs after one of another queue; gives its id."""
    first, then = make_job("elsewhere"), make_job()
    engine.add_flow(NewFlow(new_job_id("elsewhere"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    assert state_of(engine, then.id) == "blocked"
    return then.id


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


def limited(*, name: str = "q", **limits: Any) -> QueueContract:
    """A queue with limits, named as in QueueLimits."""
    return QueueContract(name, limits=QueueLimits(**limits))


def read(engine: Engine, job_id: str) -> JobRecord:
    """Read a job that is there."""
    record = engine.get(job_id)
    assert record is not None
    return record


def state_of(engine: Engine, job_id: str) -> str | None:
    record = engine.get(job_id)
    return record.state.value if record else None


def settle(engine: Engine, *queues: str) -> None:
    """Relay until no outbox of these queues has anything in it; steps may lead to further ones."""
    for _ in range(1_000):
        for queue in queues:
            engine.relay(queue)
        if not any(cycle(engine, queue=QueueContract(queue)).outbox for queue in queues):
            return
    raise AssertionError(f"the outboxes of {queues} never became empty")


def is_armed(engine: Engine, queue: str = "q") -> bool:
    """Whether an idle worker would be woken; takes the wake-up."""
    waiter = engine.waiter("probe")
    try:
        return waiter.wait([queue], 0.01) == queue
    finally:
        waiter.close()
