"""Plays a worker: leases jobs and ends them as a test asks."""

from __future__ import annotations

import json
import secrets
from typing import Any

from services.workers.families.imports.contract import FAMILY
from shared.engine.engine import Engine, Finish, LeasedJob, Outcome

QUEUES = {queue.name: queue for queue in FAMILY.queues}


class Hand:
    """A worker whose every move is a call."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def take(self, queue: str = "excel-import") -> LeasedJob:
        """Lease the next job."""
        (job,) = self._cycle(queue, want=1)
        return job

    def finish(self, job: LeasedJob, outcome: Outcome, data: Any = None, delay_ms: int = 0) -> None:
        """End a job's run."""
        finish = Finish(job.id, job.token, outcome, delay_ms=delay_ms, data=json.dumps(data).encode())
        self._cycle(job.id.rpartition(".")[0], want=0, finishes=[finish])

    def complete(self, job: LeasedJob, result: Any = None) -> None:
        self.finish(job, Outcome.COMPLETE, result)

    def fail(self, job: LeasedJob, message: str, *, retryable: bool = False) -> None:
        self.finish(job, Outcome.FAIL, {"type": "PermanentError", "message": message, "retryable": retryable})

    def progress(self, job: LeasedJob, percent: float, message: str | None = None, **data: Any) -> None:
        self._engine.progress(job.id, job.token, percent, message, data)

    def log(self, job: LeasedJob, message: str, **data: Any) -> None:
        self._engine.log(job.id, job.token, "info", message, data)

    def _cycle(self, queue: str, *, want: int, finishes: list[Finish] | None = None) -> list[LeasedJob]:
        reply = self._engine.cycle(
            QUEUES[queue],
            worker="hand",
            request=secrets.token_hex(8),
            repeat=False,
            want=want,
            lease_ms=60_000,
            finishes=finishes or [],
        )
        return reply.jobs
