"""Reading requests: JSON bodies and queries, strictly."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

from flask import g, request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from services.api.errors import BadRequest, RequestTooLarge, UnsupportedMediaType
from shared.contracts import validation_failed
from shared.errors import ValidationFailed

#: largest JSON body, bytes; larger input belongs into a file
MAX_JSON_BYTES = 1024 * 1024

M = TypeVar("M", bound=BaseModel)


def read_json(model: type[M]) -> M:
    """Read the body as JSON and check it against a model.

    Raises:
        UnsupportedMediaType, RequestTooLarge, BadRequest, ValidationFailed
    """
    if request.mimetype != "application/json":
        named = f"{request.mimetype!r}" if request.mimetype else "no type"
        raise UnsupportedMediaType(f"The body has {named}: send JSON with 'Content-Type: application/json'.")
    try:
        raw = request.get_data(cache=False)
    except RequestEntityTooLarge:
        raise RequestTooLarge(
            f"The body is larger than {MAX_JSON_BYTES} bytes: store a file (POST /api/v1/files) and name it.",
            limit_bytes=MAX_JSON_BYTES,
        ) from None
    g.body_read = True
    try:
        return model.model_validate(_parse(raw))
    except ValidationError as error:
        raise validation_failed("request", error) from None


def check_query(allowed: Iterable[str]) -> None:
    """Refuse query parameters that the address does not know: a mistyped filter would match everything.

    Raises:
        ValidationFailed
    """
    known = sorted(allowed)
    unknown = sorted(set(request.args) - set(known))
    if unknown:
        message = f"not known here; known are: {', '.join(known)}" if known else "this address takes no parameters"
        raise ValidationFailed(
            f"Query parameter {unknown[0]!r} is {message}.",
            errors=[{"field": name, "message": message} for name in unknown],
        )


def query_number(name: str, default: int, *, least: int, most: int) -> int:
    """Read a whole number from the query.

    Raises:
        ValidationFailed
    """
    text = request.args.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise wrong_field(name, f"use a whole number from {least} to {most}")
    return int(text)


def query_flag(name: str) -> bool:
    """Read a yes or no from the query; a name without a value means yes.

    Raises:
        ValidationFailed
    """
    text = request.args.get(name)
    if text is None or text.lower() in ("false", "0", "no"):
        return False
    if text.lower() in ("", "true", "1", "yes"):
        return True
    raise wrong_field(name, "use true or false")


def query_list(name: str) -> list[str]:
    """Read values from the query: given several times, or parted by commas."""
    return [part for text in request.args.getlist(name) for part in text.split(",") if part]


def wrong_field(field: str, message: str) -> ValidationFailed:
    """Make the error for one wrong field."""
    return ValidationFailed(f"{field}: {message}.", errors=[{"field": field, "message": message}])


def _parse(raw: bytes) -> dict[str, Any]:
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise BadRequest("The body is not UTF-8, as JSON must be.") from None
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise BadRequest(f"The body is not JSON: {error.msg} (line {error.lineno}, column {error.colno}).") from None
    except (ValueError, RecursionError):
        raise BadRequest("The body is JSON that cannot be read: a number too long, or nested too deep.") from None
    if not isinstance(document, dict):
        raise BadRequest("The body must be a JSON object: {...}.")
    if "\\u" in text:
        _refuse_half_characters(document)
    return document


def _refuse_constant(name: str) -> NoReturn:
    raise BadRequest(f"The body holds {name}, which is not JSON.")


def _refuse_half_characters(document: dict[str, Any]) -> None:
    # JSON can escape half of a surrogate pair, which no UTF-8 can store: it would fail far from here.
    try:
        json.dumps(document, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadRequest("The body holds an escape (\\ud800 to \\udfff) that is half a character.") from None
