"""What a server's answer says about a failure: its status, and when to come back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

#: statuses below 500 after which the same request may succeed
_PASSING = frozenset({408, 409, 425, 429})
#: nobody waits longer because a server says so
RETRY_AFTER_MOST_S = 86_400.0
#: packages whose errors carry SMTP's statuses, which mean the contrary: 4xx pass, 5xx do not
_SMTP = frozenset({"aiosmtplib", "smtplib"})


def status_says(error: BaseException) -> bool | None:
    """Tell whether the status that an error carries is worth another attempt; None when it carries none."""
    if not isinstance(error, Exception):
        # SystemExit has a code too.
        return None
    if any(kind.__module__.partition(".")[0] in _SMTP for kind in type(error).__mro__):
        status = _integer(error, "smtp_code", "code")
        return None if status is None or not 400 <= status < 600 else status < 500
    status = http_status(error)
    return None if status is None else status >= 500 or status in _PASSING


def http_status(error: BaseException) -> int | None:
    """Find the HTTP status, 400 to 599, that an error carries in one of the usual ways."""
    response = _get(error, "response")
    for place in (error, response):
        status = _integer(place, "status_code", "status", "code", "http_status")
        if status is not None and 400 <= status < 600:
            return status
    if isinstance(response, Mapping):
        # botocore's
        metadata = response.get("ResponseMetadata")
        status = metadata.get("HTTPStatusCode") if isinstance(metadata, Mapping) else None
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None


def retry_after_s(error: BaseException) -> float | None:
    """Find when a server asked to come back: seconds from now, at most a day; None when it did not."""
    said = _get(error, "retry_after_s")
    wait = float(said) if _is_number(said) else None
    for place in (_get(error, "response"), error):
        if wait is None:
            wait = _from_headers(_get(place, "headers"))
    if wait is None or not math.isfinite(wait):
        return None
    return min(max(0.0, wait), RETRY_AFTER_MOST_S)


def _from_headers(headers: Any) -> float | None:
    get = _get(headers, "get")
    if not callable(get):
        return None
    try:
        value = get("Retry-After") or get("retry-after")
    except Exception:  # noqa: BLE001 - a header's container is anybody's code
        return None
    return None if value is None else _parse(str(value).strip())


def _parse(value: str) -> float | None:
    try:
        return float(value)
    except ValueError:
        pass
    try:
        due = parsedate_to_datetime(value)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    due = due if due.tzinfo else due.replace(tzinfo=UTC)
    return (due - datetime.now(UTC)).total_seconds()


def _integer(place: Any, *names: str) -> int | None:
    for name in names:
        value = _get(place, name)
        if isinstance(value, int) and not isinstance(value, bool):
            return int(value)
    return None


def _get(place: Any, name: str) -> Any:
    try:
        return getattr(place, name, None)
    except Exception:  # noqa: BLE001 - httpx raises from a property of an error that has no request
        return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
