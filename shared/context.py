"""What a handler is given beside its payload.

A handler is ``def handler(payload: MyPayload, job: JobContext) -> result`` (or ``async def``); the result is anything
that JSON can hold, or a pydantic model.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from structlog.stdlib import get_logger

from shared.engine.engine import LeaseStatus
from shared.engine.flows import DependencyResult
from shared.errors import ContractError, EngineUnavailable, JobCancelled, LeaseLost, PermanentError

if TYPE_CHECKING:
    from shared.options import JobOptions

log = get_logger(__name__)

#: progress reports sent at most this often; those in between are coalesced, the last one wins
PROGRESS_INTERVAL_S = 0.2
#: how long ``cancelled`` answers from memory before it asks the server again
CANCEL_CHECK_INTERVAL_S = 1.0
#: a larger state belongs into a file; the queue server holds every job in memory
CHECKPOINT_LIMIT_BYTES = 1_048_576
#: payloads of the jobs that one run enqueues, together: they are committed in one step with its end
STAGED_BYTES = 4 << 20


class JobPort(Protocol):
    """The part of the queue that a running job may talk to; implemented by the engine and by tests."""

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        """See :meth:`shared.engine.engine.Engine.progress`."""
        ...

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        """See :meth:`shared.engine.engine.Engine.log`."""
        ...

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        """See :meth:`shared.engine.engine.Engine.save_checkpoint`."""
        ...

    def load_checkpoint(self, job_id: str) -> bytes | None:
        """See :meth:`shared.engine.engine.Engine.load_checkpoint`."""
        ...

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        """See :meth:`shared.engine.engine.Engine.lease_status`."""
        ...

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        """See :meth:`shared.engine.engine.Engine.results`."""
        ...


class Stage(Protocol):
    """Takes a job in that is added when the run that enqueues it completes."""

    def __call__(
        self, job_type: str, payload: Mapping[str, Any], options: JobOptions | Mapping[str, Any] | None
    ) -> str:
        """See :meth:`JobContext.enqueue`."""
        ...


class JobContext:
    """One run of a job, as its handler sees it. Its methods may be called from any thread.

    Args:
        port: where reports go.
        job_id: ``<queue>.<ULID>``.
        token: fencing token of this run's lease.
        attempt: which attempt this is, counted from 1.
        attempts: how many there may be.
        owner: id of the user on whose behalf the job runs.
        tags: what the caller marked the job with.
        stage: takes in what the job enqueues; None where there is nobody who does.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        port: JobPort,
        *,
        job_id: str,
        token: int = 1,
        attempt: int = 1,
        attempts: int = 1,
        owner: str | None = None,
        tags: tuple[str, ...] = (),
        stage: Stage | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.job_id = job_id
        self.token = token
        self.attempt = attempt
        self.attempts = attempts
        self.owner = owner
        self.tags = tags
        self.checkpoint = Checkpoint(self, port)
        self._port = port
        self._stage = stage
        self._clock = clock
        self._mutex = threading.Lock()
        self._reading = threading.Lock()
        self._results: Mapping[str, DependencyResult] | None = None
        self._pending: tuple[float, str | None, dict[str, Any]] | None = None
        self._sent_at = float("-inf")
        self._checked_at = clock()
        self._status = LeaseStatus.HELD
        #: whether it was said that reports do not get through
        self._said_unheard = False
        #: whether the handler looks by itself whether it should stop
        self.polls = False

    @property
    def idempotency_key(self) -> str:
        """A key that is the same for every attempt of this job, for services that take one."""
        return self.job_id

    def enqueue(
        self, job_type: str, payload: Mapping[str, Any], options: JobOptions | Mapping[str, Any] | None = None
    ) -> str:
        """Leave a job behind: it is added together with the end of this run, and only if the run completes.

        A run that fails, is tried again, cancelled or handed back, or whose worker dies, adds nothing; one that is
        completed adds each of its jobs exactly once. Nothing goes to the queue server before that. A queue's
        ``max_length`` does not refuse these jobs.

        Args:
            job_type: name of a job type, of any queue.
            payload: its input, as a caller would submit it.
            options: as a caller may give them, but for ``idempotency_key``.

        Returns:
            The id that the job will have; with ``dedupe`` another may stand for it.

        Raises:
            UnknownJobType, ValidationFailed: what was given does not fit; nothing is added for it.
            PermanentError: this run has enqueued too many jobs, or too large ones.
            LeaseLost: this run has ended.
            ContractError: the worker has no catalogue of job types.
        """
        if self._stage is None:
            raise ContractError(f"{job_type!r} cannot be enqueued: nobody takes in what this job leaves behind.")
        return self._stage(job_type, payload, options)

    @property
    def results(self) -> Mapping[str, DependencyResult]:
        """How the jobs of its flow ended that this one runs after, by job id; read when first asked for, and once.

        Raises:
            LeaseLost: another worker had the job and ended it.
            EngineUnavailable: the queue server does not answer.
        """
        with self._reading:
            if self._results is None:
                found = self._port.results(self.job_id)
                if not found:
                    # A late run of a job that was removed must not take it for one that runs after none.
                    raise_if_lost(self, self._port)
                self._results = MappingProxyType(dict(found))
            return self._results

    def progress(self, percent: float, message: str | None = None, **data: Any) -> None:
        """Report how far the job is.

        Reports are coalesced to at most five a second; the last one before the end of the run is always sent.

        Args:
            percent: 0 to 100; values outside are clipped.
            message: one line for people.
            **data: anything JSON can hold, e.g. ``rows=1200, rows_per_s=800, remaining_s=3``.
        """
        with self._mutex:
            self._pending = (min(100.0, max(0.0, float(percent))), message, data)
            if self._clock() - self._sent_at < PROGRESS_INTERVAL_S:
                return
        self.flush()

    def flush(self) -> None:
        """Send the progress report that is held back, if any."""
        with self._mutex:
            if self._pending is None:
                return
            percent, message, data = self._pending
            self._pending = None
            self._sent_at = self._clock()
        try:
            status = self._port.progress(self.job_id, self.token, percent, message, data)
        except EngineUnavailable as error:
            # A report is worth less than the work: an outage must not cost the job an attempt.
            self._unheard("progress_not_reported", error)
            self._put_back((percent, message, data))
        else:
            self._said_unheard = False
            self.notice(status)

    def _unheard(self, event: str, error: EngineUnavailable) -> None:
        # Once an outage: a handler may report thousands of times while it lasts.
        if not self._said_unheard:
            log.warning(event, job_id=self.job_id, error=error.detail)
        self._said_unheard = True

    def _put_back(self, report: tuple[float, str | None, dict[str, Any]]) -> None:
        with self._mutex:
            if self._pending is None:
                self._pending = report

    def log(self, message: str, level: str = "info", **data: Any) -> None:
        """Keep a line with the job, for people who look at it. The last 1,000 lines are kept."""
        try:
            self._port.log(self.job_id, self.token, level, message, data)
        except EngineUnavailable as error:
            self._unheard("line_not_logged", error)
        else:
            self._said_unheard = False

    def notice(self, status: LeaseStatus) -> None:
        """Take note of what the queue said about this run's lease."""
        with self._mutex:
            self._checked_at = self._clock()
            # Lost is final, and a request to cancel isn't taken back.
            if status is LeaseStatus.LOST or self._status is LeaseStatus.HELD:
                self._status = status

    @property
    def status(self) -> LeaseStatus:
        """What is known of this run's lease, without asking."""
        return self._status

    def refresh(self) -> LeaseStatus:
        """Ask the queue what became of this run's lease, unless that was done within the last second."""
        if self._status is LeaseStatus.HELD and self._clock() - self._checked_at >= CANCEL_CHECK_INTERVAL_S:
            try:
                self.notice(self._port.lease_status(self.job_id, self.token))
            except EngineUnavailable:
                # Nobody knows better; the lease thread goes on asking.
                self.notice(LeaseStatus.HELD)
        return self._status

    @property
    def cancelled(self) -> bool:
        """Whether the handler should stop: the job was cancelled, or this worker lost it to another.

        A handler that looks here is given its contract's ``stop_grace_s`` to stop by itself before it is interrupted.
        """
        self.polls = True
        return self.refresh() is not LeaseStatus.HELD

    def raise_if_cancelled(self) -> None:
        """Stop here if the job was cancelled or lost.

        Raises:
            JobCancelled: somebody cancelled it.
            LeaseLost: another worker has it.
        """
        if self.cancelled:
            raise LeaseLost if self._status is LeaseStatus.LOST else JobCancelled


class Checkpoint:
    """Where a job would go on after a failure. Survives retries and the death of the worker."""

    def __init__(self, job: JobContext, port: JobPort) -> None:
        self._job = job
        self._port = port

    def load(self) -> bytes | None:
        """Give what was saved last, None on the first run.

        Raises:
            LeaseLost: another worker had the job and ended it, and its checkpoint went with that.
            EngineUnavailable: the queue server does not answer.
        """
        state = self._port.load_checkpoint(self._job.job_id)
        if state is None:
            # A run that was frozen before its first line must not take a job that is done for one that is new.
            raise_if_lost(self._job, self._port)
        return state

    def save(self, state: bytes) -> None:
        """Save the state, at most 1 MiB.

        Raises:
            LeaseLost: another worker has the job; nothing was saved.
            PermanentError: the state is larger than that.
            EngineUnavailable: the queue server does not answer.
        """
        if len(state) > CHECKPOINT_LIMIT_BYTES:
            raise PermanentError(
                f"The checkpoint has {len(state)} bytes, {CHECKPOINT_LIMIT_BYTES} are allowed: keep the data in a file "
                "and its id in the checkpoint."
            )
        status = self._port.save_checkpoint(self._job.job_id, self._job.token, state)
        self._job.notice(status)
        if status is LeaseStatus.LOST:
            raise LeaseLost


def raise_if_lost(job: JobContext, port: JobPort) -> None:
    """Ask whether a run still has its job.

    Raises:
        LeaseLost: another worker has it, or had it and ended it.
    """
    status = port.lease_status(job.job_id, job.token)
    job.notice(status)
    if status is LeaseStatus.LOST:
        raise LeaseLost


def check_staged_bytes(size: int) -> None:
    """Refuse payloads that are too large together.

    Raises:
        PermanentError: says what to do.
    """
    if size > STAGED_BYTES:
        raise PermanentError(
            f"The payloads that this run enqueues have {size} bytes, {STAGED_BYTES} are allowed: keep the data in a "
            "file and its id in the payload."
        )
