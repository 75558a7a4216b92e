"""What a call of the API can end in, told from the answer alone."""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from shared.errors import CallboardError

if TYPE_CHECKING:
    import httpx

#: what every problem type of Callboard begins with; the rest is the error's code
PROBLEM = "urn:callboard:problem:"


class ApiError(CallboardError):
    """The server refused a request or failed at it.

    Attributes:
        code: the server's name for the error, e.g. ``job-not-found``; ``http-502`` when the answer is not Callboard's.
        status: HTTP status.
        errors: one entry a mistake, ``{"field": dotted path, "message": what to change}``.
        retry_after_s: wait at least this many seconds before the next try; None when the server named no time.
        request_id: the server's name for this request, as in its log.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        status: int,
        errors: list[dict[str, str]] | None = None,
        retry_after_s: float | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(detail)
        # The tree fixes these a class; here they are whatever the server said.
        self.code = code  # type: ignore[misc]
        self.status = status  # type: ignore[misc]
        self.retryable = status in (429, 502, 503, 504)  # type: ignore[misc]
        self.errors = errors or []
        self.retry_after_s = retry_after_s
        self.request_id = request_id


class ApiUnreachable(CallboardError):
    """Nothing answers at the API's address.

    Attributes:
        refused: whether the request never left, so that it had no effect for certain.
    """

    code = "api-unreachable"
    status = 503
    retryable = True

    def __init__(self, detail: str | None = None, *, refused: bool = False) -> None:
        super().__init__(detail)
        self.refused = refused


class WaitTimedOut(CallboardError):
    """The job has not finished in the time that was given to it."""

    code = "wait-timed-out"
    status = 504
    retryable = True


def error_from(response: httpx.Response) -> ApiError:
    """Turn a refusal into an error; the response's body must have been read."""
    document = _document(response)
    kind = document.get("type")
    if not isinstance(kind, str) or not kind.startswith(PROBLEM):
        return ApiError(
            f"The server answered {response.status_code} {_phrase(response.status_code)}, and not as Callboard does: "
            f"check that {_origin(response)} is Callboard's address.",
            code=f"http-{response.status_code}",
            status=response.status_code,
            retry_after_s=retry_after(response.headers),
            request_id=response.headers.get("X-Request-ID"),
        )
    detail = document.get("detail") or document.get("title")
    return ApiError(
        str(detail or _phrase(response.status_code)),
        code=kind.removeprefix(PROBLEM),
        status=response.status_code,
        errors=_errors(document.get("errors")),
        retry_after_s=retry_after(response.headers),
        request_id=response.headers.get("X-Request-ID") or _text(document.get("request_id")),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Read ``Retry-After``: seconds, or a date (RFC 9110, 10.2.3)."""
    value = headers.get("Retry-After", "").strip()
    if not value:
        return None
    if value.isdecimal():
        return float(value)
    try:
        due = parsedate_to_datetime(value)
        # Held against the server's own clock where it names it: ours may be off.
        now = parsedate_to_datetime(headers["Date"])
        return max(0.0, (due - now).total_seconds())
    except (KeyError, TypeError, ValueError):
        return None


def _document(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _errors(value: object) -> list[dict[str, str]]:
    if not isinstance(value, list):
        return []
    return [{str(k): str(v) for k, v in item.items()} for item in value if isinstance(item, dict)]


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "an unknown status"


def _origin(response: httpx.Response) -> str:
    url = response.request.url
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
