"""The one place where errors become answers: problem documents of RFC 9457."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

import structlog
from flask import Flask, Response, g, jsonify
from werkzeug.exceptions import HTTPException

from shared.errors import CallboardError, EngineUnavailable, NotAuthenticated, RetryableError

#: what every problem type begins with; a stable name, and not an address that would have to be kept alive
PROBLEM_TYPE = "urn:callboard:problem:"
PROBLEM_JSON = "application/problem+json"
#: wait that is asked for when an error that may pass names none, seconds
RETRY_AFTER_S = 5

#: HTTP errors whose published code is not their name in RFC 9110
_CODES = {413: "request-too-large"}
#: headers of an HTTP error that belong to its meaning
_KEPT_HEADERS = ("Allow", "Content-Range", "Retry-After")
_DETAILS = {
    404: "There is nothing at this address; docs/api.md lists the addresses that there are.",
    405: "This address does not take this method; the Allow header lists those it takes.",
    413: "The request is larger than this address accepts.",
}

_log = structlog.get_logger(__name__)


class BadRequest(CallboardError):
    """The request cannot be read."""

    code = "bad-request"
    status = 400


class UnsupportedMediaType(CallboardError):
    """The request has a content type that this address does not take."""

    code = "unsupported-media-type"
    status = 415


class RequestTooLarge(CallboardError):
    """The request is larger than this address accepts."""

    code = "request-too-large"
    status = 413


class TooManyStreams(RetryableError):
    """This server follows as many event streams as it can."""

    code = "too-many-streams"
    status = 503


def problem(code: str, status: int, detail: str, extra: dict[str, Any] | None = None) -> Response:
    """Make a problem document; what every error has wins over an error's own fields."""
    document = {
        **(extra or {}),
        "type": PROBLEM_TYPE + code,
        "title": code.replace("-", " ").capitalize(),
        "status": status,
        "detail": detail,
        "request_id": g.get("request_id"),
    }
    response = jsonify(document)
    response.status_code = status
    response.mimetype = PROBLEM_JSON
    return response


def register_errors(app: Flask) -> None:
    """Answer every error of an application with a problem document."""
    app.register_error_handler(CallboardError, _answer_own)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def _answer_own(error: CallboardError) -> Response:
    if error.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        return _answer_unexpected(error)
    detail = error.detail
    if isinstance(error, EngineUnavailable):
        # The error names where the server is, which is for the log and not for clients.
        _log.warning("queue unavailable", detail=detail)
        detail = "The queue server cannot be reached or cannot take writes right now; try again."
    response = problem(error.code, error.status, detail, error.extra)
    if isinstance(error, RetryableError):
        wait_s = RETRY_AFTER_S if error.retry_after_s is None else error.retry_after_s
        response.headers["Retry-After"] = str(max(1, math.ceil(wait_s)))
    if isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="callboard"'
    return response


def _answer_http(error: HTTPException) -> Response | HTTPException:
    status = error.code
    if status is None or status < HTTPStatus.BAD_REQUEST:
        return error  # a redirect, or an answer in an exception's clothes
    code = _CODES.get(status, error.name.lower().replace(" ", "-"))
    response = problem(code, status, _DETAILS.get(status) or error.description or error.name)
    for name, value in error.get_headers():
        if name in _KEPT_HEADERS:
            response.headers[name] = value
    return response


def _answer_unexpected(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return problem("internal", 500, "Something went wrong in the server; its log tells more under this request id.")
