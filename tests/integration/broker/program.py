"""Several job types with their handlers on a worker inside the test's own process, and the catalogue of them all."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import dramatiq

from services.workers.bind import bind
from services.workers.main import middleware
from shared.broker.broker import JobBroker
from shared.contracts import Catalogue, FamilyContract, FixedBackoff, JobContract, Payload, QueueContract
from shared.engine.engine import JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.submission import submit
from tests.integration.broker.contracts import Note
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running


class Program:
    """Job types ``test.NAME``, each on a queue ``NAME`` of its own.

    Args:
        engine: the queues.
        handlers: by name.
        isolated: names of those that run in processes of their own.
        model: input of those.
        queues: contracts of queues that are not as they are by default.
        **contract: fields of every job type's contract.
    """

    def __init__(
        self,
        engine: RedisEngine,
        handlers: Mapping[str, Callable[..., Any]],
        *,
        isolated: tuple[str, ...] = (),
        model: type[Payload] = Note,
        queues: tuple[QueueContract, ...] = (),
        **contract: Any,
    ) -> None:
        self.engine = engine
        own = {queue.name: queue for queue in queues}
        contracts = {
            name: JobContract(
                type=f"test.{name}",
                queue=name,
                payload=model if name in isolated else Note,
                handler=f"{handler.__module__}:{handler.__name__}" if name in isolated else "nowhere:run",
                isolation="process" if name in isolated else "thread",
                **{"backoff": FixedBackoff(10), **contract},
            )
            for name, handler in handlers.items()
        }
        family = FamilyContract(
            "test", tuple(own.get(name, QueueContract(name)) for name in handlers), tuple(contracts.values())
        )
        self.catalogue = Catalogue({"test": family})
        self.broker = JobBroker(engine, middleware=middleware(engine, self.catalogue), queues=self.catalogue.queues)
        for name, handler in handlers.items():
            bind(self.broker, contracts[name], handler)

    def running(self) -> AbstractContextManager[dramatiq.Worker]:
        """Run a worker."""
        return running(self.broker)

    def put(self, name: str, payload: Mapping[str, Any] | None = None, **options: Any) -> str:
        """Submit a job."""
        return submit(self.engine, self.catalogue, f"test.{name}", payload or {}, options).id

    def get(self, job_id: str) -> JobRecord:
        job = self.engine.get(job_id)
        assert job is not None
        return job

    def finished(self, job_id: str) -> JobRecord:
        """Wait until a job has ended; it may not be there yet."""
        eventually(
            lambda: (job := self.engine.get(job_id)) is not None and job.state.finished, why=f"{job_id} has ended"
        )
        return self.get(job_id)

    def ran(self, name: str) -> list[Any]:
        """Give the payloads of a type's completed jobs, in the order of their ends."""
        return [job.payload for job in self.engine.list(name, State.COMPLETED, limit=2_000).jobs]

    def stored(self, name: str) -> int:
        """Count a type's jobs, and take what is still on its way to them first."""
        for queue in self.catalogue.queues:
            while self.engine.relay(queue):
                pass
        counts = self.engine.counts(name)
        return sum(getattr(counts, state.value) for state in State)
