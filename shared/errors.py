"""One typed tree of errors.

Every error that crosses a boundary (API answer, command line, job record) is one of these. Each class carries a
stable ``code`` (the last part of the problem type, see RFC 9457), the HTTP status that the API answers with, and
whether trying the same thing again can help.
"""

from __future__ import annotations

import traceback
from typing import Any, ClassVar

#: characters of a traceback that are kept with a job: the end, where the cause is
TRACEBACK_KEPT = 4_000
#: characters of an error's message that are kept with a job
MESSAGE_KEPT = 2_000


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


class JobCancelled(CallboardError):
    """The job was cancelled while it ran."""

    code = "cancelled"
    status = 409


class LeaseLost(CallboardError):
    """This worker no longer holds the job: its lease ran out and the job was given to another."""

    code = "lease-lost"
    status = 409


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


def error_fields(error: BaseException, *, retryable: bool) -> dict[str, Any]:
    """Describe an error as it is kept with a job.

    Args:
        error: what the run raised.
        retryable: whether another attempt could help, as the caller judged it.
    """
    trace = "".join(traceback.format_exception(error))
    fields: dict[str, Any] = {
        "type": type(error).__name__,
        "message": (str(error) or (type(error).__doc__ or "").strip().split("\n")[0])[:MESSAGE_KEPT],
        "retryable": retryable,
        "traceback": trace if len(trace) <= TRACEBACK_KEPT else "…" + trace[-TRACEBACK_KEPT:],
    }
    if isinstance(error, CallboardError):
        fields["code"] = error.code
        if error.extra:
            fields["extra"] = error.extra
    return fields
