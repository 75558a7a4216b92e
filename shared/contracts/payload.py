"""The base of every job's input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import ValidationFailed


class Payload(BaseModel):
    """Input of a job. Unknown fields are refused, so that a typing mistake is told at once and not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


P = TypeVar("P", bound=Payload)


def validate_payload(model: type[P], data: Mapping[str, Any]) -> P:
    """Check a payload against its model.

    Raises:
        ValidationFailed: with one entry a mistake; the values themselves are not repeated (they may be secret).
    """
    try:
        return model.model_validate(dict(data))
    except ValidationError as error:
        errors = [
            {"field": ".".join(str(part) for part in item["loc"]) or "payload", "message": item["msg"]}
            for item in error.errors(include_url=False, include_context=False, include_input=False)
        ]
        named = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
        raise ValidationFailed(f"The payload is not valid: {named}.", errors=errors) from None
