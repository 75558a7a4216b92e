"""Jobs that a running job leaves behind: checked at once, and added with its end if it completes."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from shared.context import check_staged_bytes
from shared.contracts import Catalogue
from shared.engine.engine import NewJob
from shared.errors import ContractError, LeaseLost, PermanentError, ValidationFailed
from shared.submission import Options, new_job

#: jobs that one run may leave behind: they are committed in one step with its end
STAGED_JOBS = 1_000


class StagedJobs:
    """What one run has enqueued so far. Its methods may be called from any thread.

    Args:
        catalogue: job types; None for a program that runs jobs without one.
    """

    def __init__(self, catalogue: Catalogue | None) -> None:
        self._catalogue = catalogue
        self._mutex = threading.Lock()
        self._jobs: list[NewJob] = []
        self._bytes = 0
        self._closed = False

    def stage(self, job_type: str, payload: Mapping[str, Any], options: Options = None) -> str:
        """See :meth:`shared.context.JobContext.enqueue`."""
        if self._catalogue is None:
            raise ContractError(
                f"{job_type!r} cannot be enqueued from a handler: this worker knows no job types. Give its Jobs "
                "middleware the catalogue: Jobs(engine, catalogue)."
            )
        job = new_job(self._catalogue, job_type, payload, options)
        if job.idempotency is not None:
            message = "not for a job that another enqueues: it is added once as it is; use dedupe to share a key"
            raise ValidationFailed(
                f"The options are not valid: options.idempotency_key: {message}.",
                errors=[{"field": "options.idempotency_key", "message": message}],
            )
        with self._mutex:
            if self._closed:
                raise LeaseLost("This run has ended: what it enqueues now would be added with nothing.")
            if len(self._jobs) >= STAGED_JOBS:
                raise PermanentError(
                    f"One run may enqueue {STAGED_JOBS:,} jobs: let it enqueue some that enqueue the others."
                )
            check_staged_bytes(self._bytes + len(job.body))
            self._jobs.append(job)
            self._bytes += len(job.body)
        return job.id

    def close(self) -> list[NewJob]:
        """Give what was staged, and take no more."""
        with self._mutex:
            self._closed = True
            return self._jobs
