"""Judges whether another attempt could mend a failure.

In this order, the first that has an opinion decides: the job type's own table; the error itself, if it is one of ours;
a status that it carries (HTTP, or SMTP); the table of types below; the error that it was raised from. Types are given
by name, so that nothing is imported that the handler did not import. An error that nobody has an opinion about may be
passing: it is tried again.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from shared.errors import CallboardError, RunStopped
from shared.failures.description import DescribedError
from shared.failures.statuses import retry_after_s, status_says

#: errors of a chain that are looked at
_DEPTH = 8

#: Types whose cause does not go away by itself: the input is wrong, or something is not allowed or not there. Mistakes
#: in code (TypeError, KeyError …) are not among them: the next attempt may meet a newer release, and they are as often
#: the echo of a half answer.
PERMANENT = frozenset(
    {
        "aiosmtplib.errors.SMTPNotSupported",
        "builtins.FileNotFoundError",
        "builtins.IsADirectoryError",
        "builtins.NotADirectoryError",
        "builtins.NotImplementedError",
        "builtins.PermissionError",
        "email.errors.MessageError",
        "ftplib.error_perm",
        "httpx.InvalidURL",
        "httpx.UnsupportedProtocol",
        "jsonschema.exceptions.ValidationError",
        "pydantic_core._pydantic_core.ValidationError",
        "redis.exceptions.AuthenticationError",
        "redis.exceptions.NoPermissionError",
        "requests.exceptions.InvalidSchema",
        "requests.exceptions.InvalidURL",
        "requests.exceptions.MissingSchema",
        "smtplib.SMTPNotSupportedError",
        "sqlalchemy.exc.ArgumentError",
        "sqlalchemy.exc.DataError",
        "sqlalchemy.exc.NoSuchModuleError",
        "zipfile.BadZipFile",
    }
)
#: Types that pass, for certain: named where a type that they derive from, or their cause, says otherwise.
RETRYABLE = frozenset(
    {
        "aiohttp.client_exceptions.ClientConnectionError",
        "asyncio.exceptions.CancelledError",
        "builtins.BlockingIOError",
        "builtins.ConnectionError",
        "builtins.MemoryError",
        "builtins.TimeoutError",
        "dramatiq.middleware.time_limit.TimeLimitExceeded",
        "httpx.TimeoutException",
        "httpx.TransportError",
        "openai.APIConnectionError",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.TimeoutError",
        "requests.exceptions.ConnectionError",
        "requests.exceptions.Timeout",
        "smtplib.SMTPServerDisconnected",
        "sqlalchemy.exc.InterfaceError",
        "sqlalchemy.exc.OperationalError",
        "sqlalchemy.exc.TimeoutError",
    }
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do after a failure."""

    #: whether another attempt could help
    retryable: bool
    #: wait at least so long before it, seconds; None leaves it to the backoff
    retry_after_s: float | None = None


class ErrorTable:
    """Types of errors, by name, and whether they are worth another attempt.

    Args:
        permanent: names, ``package.module.Class``; a re-exported name such as ``requests.HTTPError`` will do.
        retryable: likewise.
    """

    def __init__(self, permanent: Iterable[str] = (), retryable: Iterable[str] = ()) -> None:
        self._says: dict[str, dict[str, bool]] = {}
        for names, says in ((permanent, False), (retryable, True)):
            for name in names:
                package, _, kind = name.rpartition(".")
                self._says.setdefault(kind, {})[package or "builtins"] = says

    def says(self, kind: type) -> bool | None:
        """Tell whether errors of exactly this type are retryable; None for no opinion."""
        for package, says in self._says.get(kind.__name__, {}).items():
            if kind.__module__ == package or kind.__module__.startswith(f"{package}."):
                return says
        return None

    def says_of(self, error: BaseException) -> bool | None:
        """Tell it by the nearest type that the error derives from and that is listed."""
        return next((says for kind in type(error).__mro__ if (says := self.says(kind)) is not None), None)


_TABLE = ErrorTable(PERMANENT, RETRYABLE)
_NOTHING = ErrorTable()


def classify(error: BaseException, own: ErrorTable = _NOTHING) -> Verdict:
    """Judge a failure.

    Args:
        error: what the run raised.
        own: the job type's table.
    """
    for link in _causes(error):
        retryable = _opinion(link, own)
        if retryable is not None:
            return Verdict(retryable, _retry_after(error) if retryable else None)
    # What is no Exception (SystemExit, KeyboardInterrupt) asks for an end, and not for another attempt.
    return Verdict(isinstance(error, Exception), _retry_after(error) if isinstance(error, Exception) else None)


def _opinion(error: BaseException, own: ErrorTable) -> bool | None:
    if isinstance(error, DescribedError):
        return bool(error.fields.get("retryable", True))
    for kind in type(error).__mro__:
        says = own.says(kind)
        if says is not None:
            return says
        if issubclass(kind, CallboardError | RunStopped) and "retryable" in vars(kind):
            return kind.retryable
    if isinstance(error, BaseExceptionGroup):
        # One that cannot be mended is met again by every attempt, whatever became of the others.
        opinions = [classify(inner, own).retryable for inner in error.exceptions]
        return all(opinions)
    status = status_says(error)
    return status if status is not None else _TABLE.says_of(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    # Only what was named by `raise … from`: an error that merely came up while another was handled says nothing of it.
    link: BaseException | None = error
    for _ in range(_DEPTH):
        if link is None:
            return
        yield link
        link = link.__cause__


def _retry_after(error: BaseException) -> float | None:
    waits: list[float] = []
    for link in _causes(error):
        inner = link.exceptions if isinstance(link, BaseExceptionGroup) else ()
        waits += [wait for part in (link, *inner) if (wait := retry_after_s(part)) is not None]
    waits = [wait for wait in waits if math.isfinite(wait)]
    return max(waits, default=None)
