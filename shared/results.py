"""What a handler returns, as it is stored."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from shared.engine.record import to_json
from shared.errors import PermanentError

#: a larger result belongs into a file; Redis holds every kept job in memory
RESULT_LIMIT_BYTES = 1_048_576


def encode_result(result: Any) -> bytes:
    """Encode what a handler returned: anything that JSON can hold, or a pydantic model; empty for None.

    Raises:
        PermanentError: JSON cannot hold it, or it is too large.
    """
    try:
        if isinstance(result, BaseModel):
            result = result.model_dump(mode="json")
        data = b"" if result is None else to_json(result)
    except Exception as error:
        raise PermanentError(f"The result cannot be written as JSON: {error}") from error
    if len(data) > RESULT_LIMIT_BYTES:
        raise PermanentError(
            f"The result has {len(data)} bytes, {RESULT_LIMIT_BYTES} are allowed: store a file and return its id."
        )
    return data
