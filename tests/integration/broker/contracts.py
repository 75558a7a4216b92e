"""Contract jobs on a worker inside the test's own process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from services.workers.bind import bind
from services.workers.main import middleware
from shared.broker.broker import JobBroker
from shared.contracts import Backoff, FixedBackoff, JobContract, Payload, QueueContract
from shared.engine.engine import JobRecord, NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from tests.integration.broker.patience import eventually

QUEUE = "probe-queue"


class Note(Payload):
    """Input of the jobs here."""

    text: str = ""
    number: int = 0


class Probe:
    """One job type with a handler, and its jobs.

    Args:
        engine: the queue.
        handler: what runs.
        lease_s: length of a lease.
        concurrency: jobs at once a process.
        model: input of the job type.
        **contract: fields of the job type's contract.
    """

    def __init__(
        self,
        engine: RedisEngine,
        handler: Callable[..., Any],
        *,
        lease_s: float = 30,
        concurrency: int = 8,
        attempts: int = 3,
        backoff: Backoff | None = None,
        timeout_s: float | None = 600,
        priority: int = 0,
        model: type[Payload] = Note,
        **contract: Any,
    ) -> None:
        self.engine = engine
        self.contract = JobContract(
            type="probe.run",
            queue=QUEUE,
            payload=model,
            handler=f"{handler.__module__}:{handler.__name__}" if contract.get("isolation") else "nowhere:run",
            attempts=attempts,
            backoff=backoff or FixedBackoff(10),
            timeout_s=timeout_s,
            priority=priority,
            **contract,
        )
        self.broker = JobBroker(
            engine,
            middleware=middleware(engine),
            queues={QUEUE: QueueContract(QUEUE, concurrency=concurrency)},
            lease_s=lease_s,
        )
        bind(self.broker, self.contract, handler)

    def put(self, payload: Mapping[str, Any] | bytes = b"", *, delay_ms: int = 0, **options: Any) -> str:
        """Add a job; a payload in bytes is its body as stored."""
        job_id = new_job_id(QUEUE)
        body = payload if isinstance(payload, bytes) and payload else encode_payload(payload or {})
        self.engine.add(QUEUE, [NewJob(job_id, self.contract.type, body, delay_ms=delay_ms, options=options)])
        return job_id

    def get(self, job_id: str) -> JobRecord:
        job = self.engine.get(job_id)
        assert job is not None
        return job

    def until(self, job_id: str, state: str) -> JobRecord:
        """Wait until a job is in a state."""
        eventually(lambda: self.get(job_id).state == state, why=f"{job_id} is {state}")
        return self.get(job_id)

    def finished(self, job_id: str) -> JobRecord:
        """Wait until a job has ended."""
        eventually(lambda: self.get(job_id).state.finished, why=f"{job_id} has ended")
        return self.get(job_id)
