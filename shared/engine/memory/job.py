"""A job as an engine in memory keeps it; the fields are those of the hash on a server (``lua/lib/job.lua``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.engine.adding import Dedupe
from shared.engine.engine import JobRecord, LeasedJob
from shared.engine.flows import DependencyResult, OnFailure
from shared.engine.keys import split_job_id
from shared.engine.record import decode_payload, from_json
from shared.engine.states import State

#: attempts of a job that are kept
ATTEMPTS_KEPT = 20
#: lines of a job's log that are kept
LOG_LINES_KEPT = 1_000


@dataclass(slots=True)
class FlowPlace:
    """A job's place in its flow."""

    flow_id: str
    #: jobs that it runs after
    edges: dict[str, OnFailure]
    #: those of them that it still waits for
    pending: set[str]
    #: jobs that run after it
    dependents: Sequence[str]
    #: how those of ``edges`` ended that did
    results: dict[str, DependencyResult] = field(default_factory=dict)


@dataclass(slots=True)
class StoredJob:
    """A job."""

    id: str
    name: str
    body: bytes
    priority: int
    created_ms: int
    #: JSON
    options: bytes = b""
    max_stalls: int | None = None
    keep_ms: int | None = None
    group: str | None = None
    dedupe: Dedupe | None = None
    flow: FlowPlace | None = None
    #: what it was added with; a blocked job's delay counts from the moment that nothing blocks it
    delay_ms: int = 0
    run_at_ms: int | None = None

    state: State = State.WAITING
    due_ms: int | None = None
    started_ms: int | None = None
    finished_ms: int | None = None
    attempt: int = 0
    stalls: int = 0
    #: number of the last lease
    token: int = 0
    #: number of the lease that was ended last by a retry or a hand-back
    sent_back: int = 0
    worker: str | None = None
    #: request that leased it
    request: str = ""
    cancel_requested: bool = False
    progress: bytes = b""
    furthest: float = 0.0
    result: bytes = b""
    error: bytes = b""
    attempts: deque[bytes] = field(default_factory=lambda: deque(maxlen=ATTEMPTS_KEPT))
    checkpoint: bytes | None = None
    log: deque[bytes] = field(default_factory=lambda: deque(maxlen=LOG_LINES_KEPT))
    #: bytes that count for its queue's retention, since it finished
    kept_bytes: int = 0

    def lease(self) -> LeasedJob:
        """Give it as whoever leased it gets it."""
        return LeasedJob(
            id=self.id,
            token=self.token,
            name=self.name,
            body=self.body,
            attempt=self.attempt,
            stalls=self.stalls,
            priority=self.priority,
            created_ms=self.created_ms,
            options=from_json(self.options) if self.options else {},
        )

    def record(self) -> JobRecord:
        """Give it as people and the API see it."""
        return JobRecord(
            id=self.id,
            queue=split_job_id(self.id)[0],
            name=self.name,
            state=self.state,
            priority=self.priority,
            created_ms=self.created_ms,
            due_ms=self.due_ms if self.state is State.DELAYED else None,
            started_ms=self.started_ms,
            finished_ms=self.finished_ms if self.state.finished else None,
            attempt=self.attempt,
            stalls=self.stalls,
            worker=self.worker,
            cancel_requested=self.cancel_requested,
            payload=decode_payload(self.body),
            options=from_json(self.options) if self.options else {},
            progress=from_json(self.progress) if self.progress else None,
            result=from_json(self.result) if self.result else None,
            error=from_json(self.error) if self.error else None,
            attempts=self._attempts(),
            group=self.group,
            flow_id=self.flow.flow_id if self.flow else None,
            waits_for=sorted(self.flow.pending) if self.flow and self.state is State.BLOCKED else (),
            dedupe_key=self.dedupe.key if self.dedupe else None,
        )

    def _attempts(self) -> list[dict[str, Any]]:
        attempts: list[dict[str, Any]] = [from_json(line) for line in self.attempts]
        if self.state is State.ACTIVE or self.state is State.COMPLETED:
            # Runs that failed are kept; the current or successful one is derived, as from the record on a server.
            attempts.append(
                {
                    "attempt": self.attempt,
                    "started_ms": self.started_ms,
                    "ended_ms": self.finished_ms if self.state.finished else None,
                    "worker": self.worker,
                    "outcome": "complete" if self.state is State.COMPLETED else None,
                    "error": None,
                }
            )
        return attempts

    def forget_runs(self) -> None:
        """Let it begin afresh; its checkpoint and its past attempts stay."""
        self.attempt, self.stalls, self.furthest = 0, 0, 0.0
        self.progress, self.error = b"", b""
        self.finished_ms, self.cancel_requested = None, False
