"""The states of a job, and which changes between them are allowed.

Lua repeats no part of this table: the scripts carry the state names, and the conformance suite drives every script
and holds each observed change against ``TRANSITIONS``.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a job is. It is in exactly one of these; ``paused`` is a property of a queue, not of a job."""

    WAITING = "waiting"
    DELAYED = "delayed"
    BLOCKED = "blocked"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to the job unless somebody asks for it."""
        return self in FINISHED


FINISHED = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})

#: changes that the engine makes; ``None`` stands for "not there" (before it was added, after it was removed)
TRANSITIONS: dict[State | None, frozenset[State | None]] = {
    None: frozenset({State.WAITING, State.DELAYED, State.BLOCKED}),
    State.WAITING: frozenset({State.ACTIVE, State.CANCELLED, None}),
    State.DELAYED: frozenset({State.WAITING, State.CANCELLED, None}),
    State.BLOCKED: frozenset({State.WAITING, State.DELAYED, State.FAILED, State.CANCELLED, None}),
    State.ACTIVE: frozenset({State.COMPLETED, State.FAILED, State.CANCELLED, State.DELAYED, State.WAITING}),
    State.COMPLETED: frozenset({None}),
    State.FAILED: frozenset({State.WAITING, State.BLOCKED, None}),
    State.CANCELLED: frozenset({State.WAITING, State.BLOCKED, None}),
}
