"""Waiting for the end of a job within a request."""

from __future__ import annotations

import time

from services.api.backend import Backend
from services.api.errors import TooManyStreams
from services.api.hub import SubscriptionClosed
from shared.engine.engine import JobRecord
from shared.engine.keys import split_job_id
from shared.errors import EngineUnavailable


def wait_for_end(the: Backend, job_id: str, timeout_s: float) -> JobRecord | None:
    """Wait until a job has finished.

    Returns:
        The finished job; None when it has not finished in time, or cannot be watched: it goes on in any case.
    """
    deadline = time.monotonic() + timeout_s
    queue, _ = split_job_id(job_id)
    try:
        with the.hub.subscribe([queue], job_id) as subscription:
            while True:
                # Read after the subscription began, and again after each event, so that no end is missed.
                record = the.engine.get(job_id)
                if record is None or record.state.finished:
                    return record
                while (remaining := deadline - time.monotonic()) > 0:
                    notice = subscription.get(remaining)
                    if notice is not None and notice.event.name != "progress":
                        break
                else:
                    return None
    except (TooManyStreams, SubscriptionClosed, EngineUnavailable):
        return None
