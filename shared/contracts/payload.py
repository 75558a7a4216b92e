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
        raise validation_failed("payload", error) from None


def validation_failed(what: str, error: ValidationError, *, within: str | None = None) -> ValidationFailed:
    """Translate pydantic's error, one entry a mistake; the values themselves are not repeated (they may be secret).

    Args:
        what: what is wrong, for the sentence; also names a mistake that belongs to no field.
        error: what pydantic says.
        within: the field that the wrong ones are fields of.
    """
    errors = [
        {
            "field": ".".join(map(str, [within, *item["loc"]] if within else item["loc"])) or what,
            # Our own validators speak in sentences, which pydantic introduces.
            "message": item["msg"].removeprefix("Value error, ").removesuffix("."),
        }
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    named = "; ".join(f"{item['field']}: {item['message']}" for item in errors)
    verb = "are" if what.endswith("s") else "is"
    return ValidationFailed(f"The {what} {verb} not valid: {named}.", errors=errors)
