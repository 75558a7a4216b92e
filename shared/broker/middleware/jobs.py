"""Decides how the run of a job with a contract ended; the broker commits that with the acknowledgement."""

from __future__ import annotations

from typing import Any

import dramatiq
from dramatiq.middleware import Middleware, Shutdown, TimeLimitExceeded
from pydantic import BaseModel
from structlog.contextvars import bind_contextvars, unbind_contextvars
from structlog.stdlib import get_logger

from shared.broker.message import JobMessage, encode_error
from shared.context import JobContext
from shared.contracts import Backoff, JobContract
from shared.contracts.options import effective_attempts, effective_backoff, effective_timeout_s
from shared.engine.engine import Engine, Finish, Outcome
from shared.engine.record import to_json
from shared.errors import (
    CallboardError,
    EngineUnavailable,
    JobCancelled,
    LeaseLost,
    PermanentError,
    RetryableError,
)

log = get_logger(__name__)

#: a larger result belongs into a file; Redis holds every kept job in memory
RESULT_LIMIT_BYTES = 1_048_576


class Jobs(Middleware):
    """Context before the run, outcome after it.

    Args:
        engine: where running jobs report to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

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
        message.context = JobContext(
            self._engine,
            job_id=message.job.id,
            token=message.job.token,
            attempt=message.job.attempt,
            attempts=effective_attempts(contract, options),
            owner=options.get("owner"),
            tags=tuple(options.get("tags", ())),
        )
        if "timeout_s" in options:
            # TimeLimit looks here before it looks at the actor.
            timeout_s = effective_timeout_s(contract, options)
            message.options["time_limit"] = float("inf") if timeout_s is None else timeout_s * 1000
        bind_contextvars(job_id=message.job.id, job_type=contract.type, attempt=message.job.attempt)

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
        unbind_contextvars("job_id", "job_type", "attempt")

    after_skip_message = after_process_message  # type: ignore[assignment]


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
    result = message.result
    try:
        if isinstance(result, BaseModel):
            result = result.model_dump(mode="json")
        data = b"" if result is None else to_json(result)
    except Exception as error:
        # Dramatiq would swallow it, and the job would count as completed without its result.
        raise PermanentError(f"The result cannot be written as JSON: {error}") from error
    if len(data) > RESULT_LIMIT_BYTES:
        raise PermanentError(
            f"The result has {len(data)} bytes, {RESULT_LIMIT_BYTES} are allowed: store a file and return its id."
        )
    return Finish(message.job.id, message.job.token, Outcome.COMPLETE, data=data)


def _ended(contract: JobContract, message: JobMessage, error: BaseException) -> Finish:
    job = message.job
    if isinstance(error, JobCancelled):
        return Finish(job.id, job.token, Outcome.CANCEL, data=encode_error(error, retryable=False))
    if isinstance(error, Shutdown | LeaseLost):
        # The worker's end is not the job's fault; and a lease that is lost makes this finish void.
        return Finish(job.id, job.token, Outcome.RELEASE)
    retryable = is_retryable(error)
    data = encode_error(error, retryable=retryable)
    if retryable and job.attempt < effective_attempts(contract, job.options):
        delay_ms = _delay_ms(effective_backoff(contract, job.options), job.attempt, error)
        log.info("job_will_retry", delay_ms=delay_ms, error=type(error).__name__)
        return Finish(job.id, job.token, Outcome.RETRY, delay_ms=delay_ms, data=data)
    return Finish(job.id, job.token, Outcome.FAIL, data=data)


def is_retryable(error: BaseException) -> bool:
    """Judge whether another attempt could help: ours say so themselves, foreign errors may be passing."""
    if isinstance(error, TimeLimitExceeded):
        return True
    if isinstance(error, CallboardError):
        return error.retryable
    return isinstance(error, Exception)


def _delay_ms(backoff: Backoff, attempt: int, error: BaseException) -> int:
    delay_ms = backoff.delay_ms(attempt)
    if isinstance(error, RetryableError) and error.retry_after_s is not None:
        return max(delay_ms, int(error.retry_after_s * 1000))
    return delay_ms
