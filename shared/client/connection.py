"""HTTP to one server: the key, the retries that can do no harm, and errors that say what to do."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from shared.client.errors import ApiError, ApiUnreachable, error_from
from shared.errors import ValidationFailed

#: hosts that no proxy can reach for us
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: errors raised before anything of a request is sent
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
#: answers of a server that cannot do it now but will be able to
_BUSY = frozenset({429, 503})
#: first pause between two tries, seconds; it doubles each time
_FIRST_PAUSE_S = 0.1

Params = Mapping[str, str | int]
#: makes the body anew for each try
Body = Callable[[], Iterable[bytes]]


class Connection:
    """Sends requests to one server.

    Args:
        base_url: where the API answers, e.g. ``http://127.0.0.1:8000``.
        key: sent as a bearer token; empty sends none. It appears in no message and no representation.
        timeout_s: longest wait for any one step of an exchange, seconds.
        retry_for_s: how long tries are repeated, all pauses together, seconds.
        transport: replaces the network, e.g. by ``httpx.WSGITransport``.

    Raises:
        ValidationFailed: when the address or the key cannot be one.
    """

    def __init__(
        self,
        base_url: str,
        key: str,
        *,
        timeout_s: float,
        retry_for_s: float,
        transport: httpx.BaseTransport | None,
    ) -> None:
        url = _address(base_url)
        self.base_url = str(url).rstrip("/")
        self.timeout_s = timeout_s
        self._retry_for_s = retry_for_s
        headers = {"Accept": "application/json, application/problem+json", "User-Agent": "callboard"}
        if key:
            headers["Authorization"] = f"Bearer {_header_value(key)}"
        self._http = httpx.Client(
            base_url=url,
            headers=headers,
            timeout=timeout_s,
            transport=transport,
            # The default loads every certificate authority, which plain HTTP has no use for: 100 ms of a short command.
            verify=url.scheme == "https",
            trust_env=url.host not in _LOOPBACK,
            # A redirect would carry the key to wherever it points.
            follow_redirects=False,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        json: Any = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        patient: bool = True,
    ) -> Any:
        """Send a request and read its answer; None where there is nothing to read.

        A GET is repeated after connection errors and 429 or 503, anything else only when it was never sent.

        Args:
            method: of HTTP.
            path: below the base URL.
            params: query.
            json: body, as JSON.
            body: body, as bytes.
            headers: further ones.
            patient: whether to repeat it at all.

        Raises:
            ApiError: the server refused.
            ApiUnreachable: nothing answered.
        """
        for pause in self._tries() if patient else (None,):
            try:
                response = self._send(method, path, params=params, json=json, body=body, headers=headers)
            except ApiUnreachable as error:
                if pause is None or not (method == "GET" or error.refused):
                    raise
                time.sleep(pause)
                continue
            if response.is_success:
                return _read(response)
            refusal = error_from(response)
            wait = max(pause or 0, refusal.retry_after_s or 0)
            if method != "GET" or response.status_code not in _BUSY or pause is None or wait > self._retry_for_s:
                raise refusal
            time.sleep(wait)
        raise AssertionError("the last try raises or returns")

    @contextmanager
    def stream(
        self, path: str, *, headers: Mapping[str, str] | None = None, read_timeout_s: float | None = None
    ) -> Iterator[httpx.Response]:
        """Open an answer that is read as it comes, once.

        Raises:
            ApiError: the server refused.
            ApiUnreachable: nothing answered, or the connection broke while it was read.
        """
        timeout = httpx.Timeout(self.timeout_s, read=read_timeout_s or self.timeout_s)
        with self._translated(), self._http.stream("GET", path, headers=headers, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise error_from(response)
            yield response

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Params | None,
        json: Any,
        body: Body | None,
        headers: Mapping[str, str] | None,
    ) -> httpx.Response:
        content = body() if body else None
        with self._translated():
            return self._http.request(method, path, params=params, json=json, content=content, headers=headers)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except _NOT_SENT as error:
            raise ApiUnreachable(
                f"Callboard does not answer at {self.base_url} ({_reason(error)}). Start it there ('make run'), or "
                "name the right address (CALLBOARD_URL, or --url).",
                refused=True,
            ) from error
        except httpx.TransportError as error:
            raise ApiUnreachable(
                f"The connection to {self.base_url} broke ({_reason(error)}); see whether Callboard runs there."
            ) from error

    def _tries(self) -> Iterator[float | None]:
        """Give the pause after each try, None after the last."""
        deadline = time.monotonic() + self._retry_for_s
        pause = _FIRST_PAUSE_S
        while time.monotonic() + pause < deadline:
            # Jitter, so that clients that lost a server together do not return together.
            yield pause * (0.5 + random.random() / 2)  # noqa: S311 - spreads load, guards nothing
            pause *= 2
        yield None


def _address(base_url: str) -> httpx.URL:
    try:
        url = httpx.URL(base_url.strip().rstrip("/"))
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValidationFailed("That is no address of an API: use http://HOST:PORT or https://HOST.")
    if url.userinfo:
        # It would be repeated in error messages.
        raise ValidationFailed("The address holds a password: take it out, keys go into CALLBOARD_ADMIN_KEY.")
    return url


def _header_value(key: str) -> str:
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValidationFailed(
            "The key holds a character that no key has (a space, a line end or a letter not in ASCII)."
        )
    return key


def _read(response: httpx.Response) -> Any:
    if response.status_code == 204 or not response.content:
        return None
    try:
        return response.json()
    except ValueError:
        raise ApiError(
            f"The answer of {response.request.url.host} is not JSON: check that this is Callboard's address.",
            code="unexpected-answer",
            status=502,
        ) from None


def _reason(error: Exception) -> str:
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror.lower()
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__
