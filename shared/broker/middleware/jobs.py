"""Decides how the run of a job with a contract ended; the broker commits that with the acknowledgement."""

from __future__ import annotations

import time
from typing import Any

import dramatiq
from dramatiq.middleware import Middleware, Shutdown, SkipMessage
from structlog.contextvars import bind_contextvars, unbind_contextvars
from structlog.stdlib import get_logger

from shared.broker.message import JobMessage, encode_error
from shared.context import JobContext
from shared.contracts import Catalogue, JobContract
from shared.contracts.options import effective_attempts, effective_backoff
from shared.engine.engine import Engine, Finish, LeaseStatus, Outcome
from shared.errors import EngineUnavailable, JobCancelled, LeaseLost, PermanentError
from shared.failures import ErrorTable, Verdict, classify
from shared.results import encode_result
from shared.staging import StagedJobs

log = get_logger(__name__)


class Jobs(Middleware):
    """Context before the run, outcome after it.

    Args:
        engine: where running jobs report to.
        catalogue: job types that handlers may enqueue.
    """

    def __init__(self, engine: Engine, catalogue: Catalogue | None = None) -> None:
        self._engine = engine
        self._catalogue = catalogue

    @property
    def actor_options(self) -> set[str]:
        """``contract``: the actor's :class:`JobContract`; actors without one are left alone."""
        return {"contract"}

    def before_process_message(self, broker: dramatiq.Broker, message: JobMessage) -> None:  # type: ignore[override]
        """Give the job what its handler is called with."""
        contract = _contract(broker, message)
        if contract is None:
            return
        options = message.job.options
        message.staged = StagedJobs(self._catalogue)
        message.context = JobContext(
            self._engine,
            job_id=message.job.id,
            token=message.job.token,
            attempt=message.job.attempt,
            attempts=effective_attempts(contract, options),
            owner=options.get("owner"),
            tags=tuple(options.get("tags", ())),
            stage=message.staged.stage,
        )
        bind_contextvars(job_id=message.job.id, job_type=contract.type, attempt=message.job.attempt)
        if not self._still_wanted(broker, message, message.context):
            raise SkipMessage

    def _still_wanted(self, broker: dramatiq.Broker, message: JobMessage, context: JobContext) -> bool:
        # A job that waited here for a thread, in a process that was frozen perhaps, may have been given to another.
        lease_s = getattr(broker, "lease_ms", 0) / 1000
        if context.status is LeaseStatus.HELD and time.monotonic() - message.fetched_at > lease_s / 2:
            try:
                context.notice(self._engine.lease_status(message.job.id, message.job.token))
            except EngineUnavailable:
                # Its finish is fenced.
                return True
        return context.status is LeaseStatus.HELD

    def after_process_message(  # type: ignore[override]
        self,
        broker: dramatiq.Broker,
        message: JobMessage,
        *,
        result: Any = None,  # noqa: ARG002 - an actor with a contract leaves its result with the message
        exception: BaseException | None = None,
    ) -> None:
        """Decide the outcome."""
        contract = _contract(broker, message)
        if contract is None or message.context is None:
            return
        _flush(message.context)
        try:
            outcome = _completed(message) if exception is None else None
        except PermanentError as error:
            exception, outcome = error, None
        if outcome is None and exception is not None:
            outcome = _ended(contract, message, exception)
        message.outcome = outcome
        if message.staged is not None:
            # Closed in any case: a handler that was left behind may go on, and nothing would come of its jobs.
            staged = message.staged.close()
            if outcome is not None and outcome.outcome is Outcome.COMPLETE:
                message.followers += staged
        unbind_contextvars("job_id", "job_type", "attempt")

    def after_skip_message(self, broker: dramatiq.Broker, message: JobMessage) -> None:  # type: ignore[override]
        """Decide the outcome of a job that was cancelled or lost before it began."""
        context = message.context
        lost = context is None or context.status is not LeaseStatus.CANCEL_REQUESTED
        self.after_process_message(broker, message, exception=LeaseLost() if lost else JobCancelled())


def _contract(broker: dramatiq.Broker, message: JobMessage) -> JobContract | None:
    actor = broker.actors.get(message.actor_name)
    contract: JobContract | None = actor.options.get("contract") if actor else None
    return contract


def _flush(context: JobContext) -> None:
    try:
        context.flush()
    except EngineUnavailable:
        # Progress is worth less than the outcome, which waits for the server.
        return
    except Exception as error:  # noqa: BLE001 - Dramatiq would swallow it, and the outcome with it
        log.warning("progress_not_reported", error=type(error).__name__)


def _completed(message: JobMessage) -> Finish:
    return Finish(message.job.id, message.job.token, Outcome.COMPLETE, data=encode_result(message.result))


def _ended(contract: JobContract, message: JobMessage, error: BaseException) -> Finish:
    job = message.job
    if isinstance(error, JobCancelled):
        return Finish(job.id, job.token, Outcome.CANCEL, data=encode_error(error, retryable=False))
    if isinstance(error, Shutdown | LeaseLost):
        # The worker's end is not the job's fault; and a lease that is lost makes this finish void.
        return Finish(job.id, job.token, Outcome.RELEASE)
    verdict = _judge(contract, error)
    data = encode_error(error, retryable=verdict.retryable)
    if verdict.retryable and job.attempt < effective_attempts(contract, job.options):
        delay_ms = effective_backoff(contract, job.options).delay_ms(job.attempt)
        if verdict.retry_after_s is not None:
            delay_ms = max(delay_ms, int(verdict.retry_after_s * 1000))
        log.info("job_will_retry", delay_ms=delay_ms, error=type(error).__name__)
        return Finish(job.id, job.token, Outcome.RETRY, delay_ms=delay_ms, data=data)
    return Finish(job.id, job.token, Outcome.FAIL, data=data)


def _judge(contract: JobContract, error: BaseException) -> Verdict:
    try:
        return classify(error, ErrorTable(*contract.error_names))
    except Exception:
        # Anybody's code tells what an error carries, and a run that cannot be judged would be held for ever.
        log.exception("error_not_classified", error=type(error).__name__)
        return Verdict(isinstance(error, Exception))
