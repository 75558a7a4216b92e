"""One typed tree of errors.

Every error that crosses a boundary (API answer, command line, job record) is one of these. Each class carries a
stable ``code`` (the last part of the problem type, see RFC 9457), the HTTP status that the API answers with, and
whether trying the same thing again can help.
"""

from __future__ import annotations

from typing import Any, ClassVar


class CallboardError(Exception):
    """Something went wrong in Callboard.

    A subclass raised without a message uses the first line of its docstring as the message.

    Attributes:
        detail: what happened and what to change, for a person.
        extra: further fields for machines; they are published, so they never hold secrets.
    """

    #: stable, published identifier of this kind of error
    code: ClassVar[str] = "internal"
    #: HTTP status of the API answer
    status: ClassVar[int] = 500
    #: whether the same call may succeed later
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, **extra: Any) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.extra = extra
        super().__init__(self.detail)


# -- what a handler raises ------------------------------------------------------------------------------------


class RetryableError(CallboardError):
    """The job failed in a way that another attempt may mend.

    Attributes:
        retry_after_s: wait at least this many seconds before the next attempt; None leaves it to the backoff.
    """

    code = "retryable"
    status = 503
    retryable = True

    def __init__(self, detail: str | None = None, *, retry_after_s: float | None = None, **extra: Any) -> None:
        super().__init__(detail, **extra)
        self.retry_after_s = retry_after_s


class PermanentError(CallboardError):
    """The job failed in a way that no further attempt can mend."""

    code = "permanent"
    status = 422


class ProcessDied(RetryableError):
    """The process that ran the job ended without saying how the job did."""

    code = "process-died"


class OutOfMemory(RetryableError):
    """The job took more memory than it may have."""

    code = "out-of-memory"


# -- why a run is stopped -----------------------------------------------------------------------------------------


class RunStopped(BaseException):
    """The run was told to stop.

    Not an :class:`Exception`, as asyncio's CancelledError is none: an ``except Exception`` around each row of a handler
    must not swallow the order.

    Attributes:
        detail: what happened, for a person.
    """

    code: ClassVar[str] = "stopped"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        super().__init__(self.detail)


class JobCancelled(RunStopped):
    """The job was cancelled while it ran."""

    code = "cancelled"


class LeaseLost(RunStopped):
    """This worker no longer holds the job: its lease ran out and the job was given to another."""

    code = "lease-lost"


class TimeLimitExceeded(RunStopped):
    """The run took longer than its timeout."""

    code = "timed-out"
    retryable = True


# -- what a caller did wrong ------------------------------------------------------------------------------------


class ValidationFailed(CallboardError):
    """The request is not valid.

    Attributes:
        errors: one entry a mistake, ``{"field": dotted path, "message": what to change}``.
    """

    code = "validation-failed"
    status = 422

    def __init__(self, detail: str | None = None, *, errors: list[dict[str, str]] | None = None, **extra: Any):
        self.errors = errors or []
        if self.errors:
            extra["errors"] = self.errors
        super().__init__(detail, **extra)


class UnknownJobType(CallboardError):
    """There is no job type of that name."""

    code = "unknown-job-type"
    status = 422


class UnknownQueue(CallboardError):
    """There is no queue of that name."""

    code = "unknown-queue"
    status = 404


class JobNotFound(CallboardError):
    """There is no job with that id; it may have been removed by retention."""

    code = "job-not-found"
    status = 404


class WrongState(CallboardError):
    """The job is in a state that does not allow this."""

    code = "wrong-state"
    status = 409


class IdempotencyConflict(CallboardError):
    """The idempotency key was used for another request: use a new key, or send the same request again."""

    code = "idempotency-key-reused"
    status = 422


class ContractError(CallboardError):
    """A contract contradicts itself."""

    code = "contract"


class NotAuthenticated(CallboardError):
    """Send a valid key: 'Authorization: Bearer KEY'."""

    code = "not-authenticated"
    status = 401


class FileNotStored(CallboardError):
    """There is no file with that id."""

    code = "file-not-found"
    status = 404


class FileTooLarge(CallboardError):
    """The file is larger than this server accepts."""

    code = "file-too-large"
    status = 413


# -- what the surroundings did ----------------------------------------------------------------------------------


class EngineUnavailable(RetryableError):
    """The queue server cannot be reached or cannot take writes right now."""

    code = "queue-unavailable"
    status = 503


class UnsupportedServer(CallboardError):
    """The queue server is older than Callboard can work with."""

    code = "unsupported-server"


class EngineOverloaded(EngineUnavailable):
    """The queue server is nearly out of memory and takes no new jobs until some have finished."""

    code = "queue-server-full"


class QueueFull(RetryableError):
    """The queue holds as many unfinished jobs as it may."""

    code = "queue-full"
    status = 429
