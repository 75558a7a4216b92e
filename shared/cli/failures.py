"""Exit codes, and errors as one line each."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from enum import IntEnum
from http import HTTPStatus
from typing import Any

from shared.errors import CallboardError, ValidationFailed

#: what the API says when its queue server is away
QUEUE_UNAVAILABLE = "queue-unavailable"
#: how a line goes on when a job was followed
GOES_ON = "The job goes on; follow it with: "


class ExitCode(IntEnum):
    """How a command ended; ``docs/cli.md`` has the table for people."""

    OK = 0
    #: the job that was waited for failed or was cancelled
    JOB_FAILED = 1
    #: bad usage, or input that the server does not take
    BAD_INPUT = 2
    #: not there, or in a state that does not allow it
    REFUSED = 3
    #: no key, a wrong one, or one that may not do this
    NOT_AUTHENTICATED = 4
    #: the server is not there, or cannot do it now
    UNAVAILABLE = 5
    #: the time given with --timeout is over; the job goes on
    TIMED_OUT = 6
    #: a fault of the command line itself
    INTERNAL = 70
    #: Ctrl-C
    INTERRUPTED = 130
    #: whoever read the output has gone
    BROKEN_PIPE = 141


class UsageError(CallboardError):
    """The command cannot be understood."""

    code = "usage"
    status = 400


class Interrupted(CallboardError):
    """Ctrl-C was pressed."""

    code = "interrupted"


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is told."""

    line: str
    code: str
    exit_code: ExitCode
    #: further fields of the problem document
    fields: dict[str, Any] = field(default_factory=dict)


def describe(error: CallboardError | OSError) -> Failure:
    """Say an error in one line, and choose the exit code."""
    if isinstance(error, CallboardError):
        return _described(error)
    name = f"{error.filename}: " if error.filename else ""
    return Failure(f"{name}{error.strerror or error}", "file", ExitCode.BAD_INPUT)


def report(line: str, *, as_json: bool, code: str, **fields: Any) -> None:
    """Print an error to stderr, as a line or a problem document (RFC 9457) in a line."""
    line = " ".join(line.split())
    if as_json:
        document = {"type": f"urn:callboard:problem:{code}", "detail": line, **fields}
        line = json.dumps({name: value for name, value in document.items() if value not in (None, [])})
    else:
        line = f"callboard: {line}"
    print(
        line.encode(sys.stderr.encoding or "utf-8", "replace").decode(sys.stderr.encoding or "utf-8"), file=sys.stderr
    )


def _described(error: CallboardError) -> Failure:
    fields: dict[str, Any] = {}
    if not isinstance(error, Interrupted | UsageError):
        fields["status"] = error.status  # of an answer; these two never asked
    for name in ("errors", "retry_after_s", "request_id"):
        fields[name] = getattr(error, name, None)
    return Failure(_line(error), error.code, _exit_code(error), fields)


def _line(error: CallboardError) -> str:
    line, retry_after_s = error.detail, getattr(error, "retry_after_s", None)
    if error.code == QUEUE_UNAVAILABLE:
        # In words for somebody who has never heard of a queue server; what the API says adds nothing to them.
        _, said, goes_on = line.partition(GOES_ON)
        line = f"Callboard answers, but its queue server (Redis) is down or takes no writes. {said}{goes_on}".strip()
    if retry_after_s is not None:
        line = f"{line.rstrip('.')}. Try again in {retry_after_s:g} s."
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR and (request_id := getattr(error, "request_id", None)):
        line = f"{line} (request {request_id})"
    return line


def _exit_code(error: CallboardError) -> ExitCode:
    if isinstance(error, Interrupted):
        return ExitCode.INTERRUPTED
    if isinstance(error, UsageError | ValidationFailed):
        return ExitCode.BAD_INPUT
    if error.code == "wait-timed-out":
        return ExitCode.TIMED_OUT
    if error.status in (401, 403):
        return ExitCode.NOT_AUTHENTICATED
    if error.status in (400, 413, 415, 422):
        return ExitCode.BAD_INPUT
    return ExitCode.REFUSED if error.status < 500 else ExitCode.UNAVAILABLE
