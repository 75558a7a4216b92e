"""What the API answers, as typed dictionaries: the documents themselves, so that they can be passed on unchanged."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

#: states in which nothing more happens to a job unless somebody asks for it
FINISHED = frozenset({"completed", "failed", "cancelled"})


class Progress(TypedDict):
    """How far a job is."""

    percent: float
    message: str | None
    #: whatever the handler reports, e.g. ``rows``, ``rows_per_s``, ``remaining_s``
    data: dict[str, Any]
    at: NotRequired[str | None]


class Failure(TypedDict):
    """Why a job, or one attempt of it, failed."""

    type: str
    message: str
    retryable: NotRequired[bool]
    traceback: NotRequired[str]
    code: NotRequired[str]
    #: further fields of the error, e.g. ``report_file_id`` of an import with too many rejects
    extra: NotRequired[dict[str, Any]]


class Attempt(TypedDict):
    """One run of a job."""

    attempt: int
    started_at: str | None
    ended_at: str | None
    worker: str | None
    outcome: str | None
    error: Failure | None


class Job(TypedDict):
    """A job."""

    id: str
    type: str
    queue: str
    state: str
    priority: int
    payload: dict[str, Any] | None
    options: dict[str, Any]
    progress: Progress | None
    result: Any
    error: Failure | None
    #: attempts made, the running one included
    attempt: int
    attempts_max: int | None
    attempts: list[Attempt]
    created_at: str
    due_at: NotRequired[str | None]
    started_at: NotRequired[str | None]
    finished_at: NotRequired[str | None]
    worker: NotRequired[str | None]
    stalls: NotRequired[int]
    cancel_requested: NotRequired[bool]


class JobPage(TypedDict):
    """A part of a list of jobs."""

    jobs: list[Job]
    #: pass it to get the next part; None at the end
    next_cursor: str | None


class LogLine(TypedDict):
    """One line that a handler kept with its job."""

    at: str
    level: str
    message: str
    data: NotRequired[dict[str, Any]]


class Queue(TypedDict):
    """A queue, and how many jobs it has in each state."""

    name: str
    paused: bool
    counts: dict[str, int]
    family: NotRequired[str]
    concurrency: NotRequired[int]
    description: NotRequired[str]


class JobType(TypedDict):
    """A job type of the catalogue."""

    type: str
    queue: str
    family: NotRequired[str]
    description: NotRequired[str]
    attempts: NotRequired[int]
    priority: NotRequired[int]
    timeout_s: NotRequired[float | None]
    payload_schema: NotRequired[dict[str, Any]]


class StoredFile(TypedDict):
    """A file that the server keeps."""

    id: str
    name: str
    size_bytes: int
    content_type: NotRequired[str]
    sha256: NotRequired[str]
    created_at: NotRequired[str]
