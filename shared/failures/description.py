"""An error as it is kept with a job."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from shared.errors import CallboardError, RunStopped
from shared.failures.fingerprint import fingerprint
from shared.failures.scrubbing import scrub

#: characters of a traceback that are kept with a job: the end, where the cause is
TRACEBACK_KEPT = 4_000
#: characters of an error's message that are kept with a job
MESSAGE_KEPT = 2_000
#: a text is cut to this multiple of what is kept before it is scrubbed: whole secrets are still whole at its middle
_MARGIN = 4


class DescribedError(Exception):
    """A failure that another process described; its own traceback would say nothing.

    Attributes:
        fields: what :func:`error_fields` gave there.
        retry_after_s: see :class:`shared.failures.Verdict`.
    """

    def __init__(self, fields: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.fields = dict(fields)
        self.retry_after_s = retry_after_s
        super().__init__(f"{fields.get('type', 'Error')}: {fields.get('message', '')}")


def error_fields(error: BaseException, *, retryable: bool) -> dict[str, Any]:
    """Describe an error as it is kept with a job, its secrets scrubbed.

    Args:
        error: what the run raised.
        retryable: whether another attempt could help, as the caller judged it.
    """
    if isinstance(error, DescribedError):
        return {**error.fields, "retryable": retryable}
    trace = "".join(traceback.format_exception(error))
    message = str(error) or (type(error).__doc__ or "").strip().split("\n")[0]
    fields: dict[str, Any] = {
        "type": type(error).__name__,
        "message": scrub(message[: MESSAGE_KEPT * _MARGIN])[:MESSAGE_KEPT],
        "retryable": retryable,
        "traceback": _end(scrub(trace[-TRACEBACK_KEPT * _MARGIN :])),
        "fingerprint": fingerprint(error),
    }
    if isinstance(error, CallboardError | RunStopped):
        fields["code"] = error.code
    elif isinstance(error, MemoryError):
        fields["code"] = "out-of-memory"
    if isinstance(error, CallboardError) and error.extra:
        fields["extra"] = error.extra
    return fields


def _end(trace: str) -> str:
    return trace if len(trace) <= TRACEBACK_KEPT else "…" + trace[-TRACEBACK_KEPT:]
