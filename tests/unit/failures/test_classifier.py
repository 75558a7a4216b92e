"""Which failures are worth another attempt, told by the errors that the packages themselves raise."""

from __future__ import annotations

import asyncio
import smtplib
import socket
import urllib.error
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import format_datetime
from typing import Any

import httpx
import pydantic
import pytest
import redis
import sqlalchemy.exc

from shared.errors import (
    EngineUnavailable,
    JobCancelled,
    OutOfMemory,
    PermanentError,
    ProcessDied,
    RetryableError,
    TimeLimitExceeded,
    ValidationFailed,
)
from shared.failures import DescribedError, ErrorTable, classify
from shared.failures.statuses import RETRY_AFTER_MOST_S


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://example.org")
    response = httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return httpx.HTTPStatusError("no", request=request, response=response)


def urllib_answered(status: int, headers: dict[str, str] | None = None) -> urllib.error.HTTPError:
    message = Message()
    for name, value in (headers or {}).items():
        message[name] = value
    return urllib.error.HTTPError("https://example.org", status, "no", message, None)


class WithStatus(Exception):
    """As openai's, aiohttp's and others' errors carry it."""

    def __init__(self, **fields: Any) -> None:
        for name, value in fields.items():
            setattr(self, name, value)


def invalid() -> pydantic.ValidationError:
    class Model(pydantic.BaseModel):
        number: int

    with pytest.raises(pydantic.ValidationError) as caught:
        Model.model_validate({"number": "many"})
    return caught.value


def from_cause(error: Exception, cause: BaseException) -> Exception:
    error.__cause__ = cause
    return error


RETRYABLE = [
    TimeoutError(),
    ConnectionResetError(104, "reset"),
    socket.gaierror(-3, "try again"),
    OSError("no luck"),
    OSError(28, "no space"),
    asyncio.CancelledError(),
    MemoryError(),
    httpx.ConnectError("refused"),
    httpx.ReadTimeout("slow"),
    httpx.RemoteProtocolError("cut off"),
    urllib.error.URLError("refused"),
    redis.ConnectionError("gone"),
    redis.exceptions.BusyLoadingError("loading"),
    sqlalchemy.exc.OperationalError("select", {}, Exception("gone")),
    smtplib.SMTPServerDisconnected("gone"),
    smtplib.SMTPResponseException(451, b"later"),
    WithStatus(status=503),
    WithStatus(code=429),
    WithStatus(response={"ResponseMetadata": {"HTTPStatusCode": 500}}),
    RetryableError("later"),
    EngineUnavailable(),
    ProcessDied(),
    OutOfMemory(),
    TimeLimitExceeded(),
    # unknown, and so perhaps passing
    ValueError("what?"),
    KeyError("what?"),
    Exception("what?"),
    WithStatus(code=7),
    WithStatus(code="E404"),
    WithStatus(status_code=True),
    DescribedError({"retryable": True}),
    ExceptionGroup("two", [TimeoutError(), ValueError()]),
    from_cause(RuntimeError("wrapped"), TimeoutError()),
    *[answered(status) for status in (408, 409, 425, 429, 500, 502, 503, 504, 599)],
]
PERMANENT = [
    FileNotFoundError(2, "no such file"),
    PermissionError(13, "no"),
    NotImplementedError(),
    invalid(),
    redis.AuthenticationError("no"),
    sqlalchemy.exc.DataError("insert", {}, Exception("out of range")),
    httpx.InvalidURL("what?"),
    httpx.UnsupportedProtocol("gopher"),
    smtplib.SMTPAuthenticationError(535, b"no"),
    smtplib.SMTPSenderRefused(550, b"no", "a@example.org"),
    WithStatus(status=404),
    WithStatus(status_code=400),
    WithStatus(response={"ResponseMetadata": {"HTTPStatusCode": 403}}),
    urllib_answered(404),
    PermanentError("no"),
    ValidationFailed(),
    JobCancelled(),
    SystemExit(3),
    SystemExit(503),
    KeyboardInterrupt(),
    GeneratorExit(),
    DescribedError({"retryable": False}),
    ExceptionGroup("two", [TimeoutError(), PermanentError("no")]),
    from_cause(RuntimeError("wrapped"), answered(404)),
    *[answered(status) for status in (400, 401, 403, 404, 405, 410, 413, 422)],
]


@pytest.mark.parametrize("error", RETRYABLE, ids=repr)
def test_what_may_pass_is_tried_again(error: BaseException) -> None:
    assert classify(error).retryable


@pytest.mark.parametrize("error", PERMANENT, ids=repr)
def test_what_does_not_pass_is_not_tried_again(error: BaseException) -> None:
    assert not classify(error).retryable


def test_what_merely_came_up_while_another_error_was_handled_decides_nothing() -> None:
    error = RuntimeError("unknown")
    error.__context__ = FileNotFoundError(2, "no such file")
    assert classify(error).retryable


class Refused(ValueError):
    pass


@pytest.mark.parametrize(
    ("own", "error", "retryable"),
    [
        (ErrorTable(permanent=["builtins.ValueError"]), Refused(), False),
        (ErrorTable(permanent=["builtins.ValueError"]), TypeError(), True),
        (ErrorTable(permanent=["builtins.Exception"], retryable=["builtins.ValueError"]), Refused(), True),
        (ErrorTable(permanent=["builtins.Exception"], retryable=["builtins.ValueError"]), TypeError(), False),
        (ErrorTable(retryable=["builtins.FileNotFoundError"]), FileNotFoundError(2, "not yet"), True),
        # a name that the package re-exports from a module of its own
        (ErrorTable(permanent=["redis.ConnectionError"]), redis.exceptions.ConnectionError("gone"), False),
        (ErrorTable(permanent=["red.ConnectionError"]), redis.exceptions.ConnectionError("gone"), True),
        (ErrorTable(retryable=["httpx.HTTPStatusError"]), answered(404), True),
        (ErrorTable(permanent=["shared.errors.OutOfMemory"]), OutOfMemory(), False),
        # what the handler says itself is nearer than what its contract says of everything
        (ErrorTable(retryable=["builtins.Exception"]), PermanentError("no"), False),
    ],
)
def test_a_job_type_may_know_better(own: ErrorTable, error: BaseException, retryable: bool) -> None:
    assert classify(error, own).retryable is retryable


def in_s(seconds: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds), usegmt=True)


@pytest.mark.parametrize(
    ("error", "least_s", "most_s"),
    [
        (answered(429, retry_after="7"), 7, 7),
        (answered(503, retry_after="1.5"), 1.5, 1.5),
        (answered(503, retry_after=in_s(10_000)), 5_000, 10_000),
        (answered(503, retry_after=in_s(-60)), 0, 0),
        (answered(429, retry_after="99999999"), RETRY_AFTER_MOST_S, RETRY_AFTER_MOST_S),
        (urllib_answered(503, {"Retry-After": "3"}), 3, 3),
        (WithStatus(status=429, headers={"retry-after": "4"}), 4, 4),
        (RetryableError("later", retry_after_s=5), 5, 5),
        (from_cause(RuntimeError("wrapped"), answered(429, retry_after="6")), 6, 6),
        (DescribedError({"retryable": True}, 8), 8, 8),
        (ExceptionGroup("two", [answered(429, retry_after="1"), answered(429, retry_after="9")]), 9, 9),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_a_server_may_say_when_to_come_back(error: Exception, least_s: float, most_s: float) -> None:
    wait = classify(error).retry_after_s
    assert wait is not None
    assert least_s <= wait <= most_s


@pytest.mark.parametrize(
    "error",
    [answered(429), answered(429, retry_after="soon"), answered(429, retry_after="nan"), ValueError()],
    ids=repr,
)
def test_otherwise_the_backoff_says_it(error: Exception) -> None:
    assert classify(error).retry_after_s is None


def test_an_error_that_will_not_be_read_is_unknown() -> None:
    class Hostile(Exception):
        @property
        def response(self) -> object:
            raise RuntimeError("no request")

    assert classify(Hostile()).retryable
