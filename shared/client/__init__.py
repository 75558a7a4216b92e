"""A typed client of Callboard's own API: for other services, the command line and tests."""

from shared.client.answers import (
    FINISHED,
    Attempt,
    Failure,
    Job,
    JobPage,
    JobType,
    LogLine,
    Progress,
    Queue,
    StoredFile,
)
from shared.client.client import Client
from shared.client.errors import ApiError, ApiUnreachable, WaitTimedOut
from shared.client.events import Event

__all__ = [
    "FINISHED",
    "ApiError",
    "ApiUnreachable",
    "Attempt",
    "Client",
    "Event",
    "Failure",
    "Job",
    "JobPage",
    "JobType",
    "LogLine",
    "Progress",
    "Queue",
    "StoredFile",
    "WaitTimedOut",
]
