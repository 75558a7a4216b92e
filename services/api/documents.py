"""What the API answers about jobs, queues, types and files. ``docs/api.md`` describes each field."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from shared.contracts import Catalogue, FamilyContract, JobContract, QueueContract
from shared.contracts.options import describe_backoff, effective_options
from shared.engine.engine import Counts, JobRecord
from shared.storage import StoredFile
from shared.submission import Submitted

API = "/api/v1"


def timestamp(ms: int | None) -> str | None:
    """Write a time as RFC 3339, in UTC, to the millisecond."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def job_document(record: JobRecord, contract: JobContract | None) -> dict[str, Any]:
    """Describe a job."""
    return {
        **status_document(record, contract),
        "payload": record.payload,
        "options": effective_options(contract, record.options),
        "attempts": [_attempt(attempt) for attempt in record.attempts],
        "group": record.group,
        "dedupe_key": record.dedupe_key,
        "flow_id": record.flow_id,
        "waits_for": list(record.waits_for),
    }


def submission_document(taken: Submitted, contract: JobContract | None) -> dict[str, Any]:
    """Describe the job that stands for a submission which added none."""
    document = {**job_document(taken.record, contract), "submission": taken.status.name.lower()}
    if taken.removed:
        # Its id is all that is known of it.
        document |= {"state": "removed", "payload": None, "group": None, "dedupe_key": None}
    return document


def status_document(record: JobRecord, contract: JobContract | None) -> dict[str, Any]:
    """Describe how a job is doing: all that changes, and none of what it was given."""
    me = f"{API}/jobs/{record.id}"
    return {
        "id": record.id,
        "type": record.name,
        "queue": record.queue,
        "state": record.state.value,
        "priority": record.priority,
        "progress": progress_document(record.progress),
        "result": record.result,
        "error": record.error,
        "attempt": record.attempt,
        "attempts_max": record.options.get("attempts", contract.attempts if contract else None),
        "stalls": record.stalls,
        "worker": record.worker,
        "cancel_requested": record.cancel_requested,
        "created_at": timestamp(record.created_ms),
        "due_at": timestamp(record.due_ms),
        "started_at": timestamp(record.started_ms),
        "finished_at": timestamp(record.finished_ms),
        "links": {
            "self": me,
            "progress": f"{me}/progress",
            "logs": f"{me}/logs",
            "queue": f"{API}/queues/{record.queue}",
        },
    }


def progress_document(progress: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Describe how far a job is."""
    if progress is None:
        return None
    return {
        "percent": progress.get("percent", 0),
        "message": progress.get("message"),
        "data": progress.get("data") or {},
        "at": timestamp(progress.get("at_ms")),
    }


def log_line(line: Mapping[str, Any]) -> dict[str, Any]:
    """Describe a line of a job's log."""
    return {
        "at": timestamp(line.get("at_ms")),
        "level": line.get("level"),
        "message": line.get("message"),
        "data": line.get("data") or {},
    }


def queue_document(family: FamilyContract, queue: QueueContract, counts: Counts) -> dict[str, Any]:
    """Describe a queue."""
    me = f"{API}/queues/{queue.name}"
    numbers = asdict(counts)
    paused = numbers.pop("paused")
    return {
        "name": queue.name,
        "family": family.name,
        "description": queue.description,
        "paused": paused,
        "counts": numbers,
        "concurrency": queue.concurrency,
        "limits": asdict(queue.limits),
        "retention": asdict(queue.retention),
        "links": {"self": me, "jobs": f"{API}/jobs?queue={queue.name}"},
    }


def type_document(family: FamilyContract, contract: JobContract) -> dict[str, Any]:
    """Describe a job type, with what holds for its jobs unless they say otherwise."""
    return {
        "type": contract.type,
        "family": family.name,
        "queue": contract.queue,
        "description": contract.description,
        "attempts": contract.attempts,
        "backoff": describe_backoff(contract.backoff),
        "priority": contract.priority,
        "timeout_s": contract.timeout_s,
        "max_stalls": contract.max_stalls,
        "payload_schema": contract.payload.model_json_schema(),
        "links": {"self": f"{API}/types/{contract.type}", "queue": f"{API}/queues/{contract.queue}"},
    }


def file_document(file: StoredFile) -> dict[str, Any]:
    """Describe a stored file."""
    me = f"{API}/files/{file.id}"
    return {
        "id": file.id,
        "name": file.name,
        "size_bytes": file.size_bytes,
        "content_type": file.content_type,
        "sha256": file.sha256,
        "created_at": timestamp(file.created_ms),
        "links": {"self": me, "content": f"{me}/content"},
    }


def queue_owner(catalogue: Catalogue, queue: str) -> FamilyContract:
    """Give the family that serves a queue of the catalogue."""
    return next(family for family in catalogue.families.values() if any(q.name == queue for q in family.queues))


def type_owner(catalogue: Catalogue, job_type: str) -> FamilyContract:
    """Give the family that a job type of the catalogue belongs to."""
    return next(family for family in catalogue.families.values() if any(job.type == job_type for job in family.jobs))


def _attempt(attempt: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "attempt": attempt.get("attempt"),
        "started_at": timestamp(attempt.get("started_ms")),
        "ended_at": timestamp(attempt.get("ended_ms")),
        "worker": attempt.get("worker"),
        "outcome": attempt.get("outcome"),
        "error": attempt.get("error"),
    }
