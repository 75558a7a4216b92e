"""What is stored of one queue in memory, and the changes that every command is made of."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import Any

from shared.contracts.queue import RateLimit
from shared.engine.engine import Event
from shared.engine.flows import DependencyResult
from shared.engine.memory.dedupe import Keys
from shared.engine.memory.flow import StoredFlow
from shared.engine.memory.job import StoredJob
from shared.engine.memory.ordered import Ordered
from shared.engine.memory.steps import Resolve, Step
from shared.engine.record import from_json, to_json
from shared.engine.states import FINISHED, State

#: events that are kept
EVENTS_KEPT = 10_000
#: a waiting job's score is its priority times this, plus its place; see ``lua/lib/waiting.lua``
SPAN = 2**42
#: bytes of an error's message that an event carries
_MESSAGE_KEPT = 500

CANCELLED = to_json(
    {"type": "JobCancelled", "code": "cancelled", "retryable": False, "message": "The job was cancelled."}
)

Limits = dict[str, RateLimit | int | None]


class StoredQueue:
    """One queue. Whoever calls holds the engine's lock."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.jobs: dict[str, StoredJob] = {}
        self.sets: dict[State, Ordered] = {state: Ordered() for state in State}
        #: finished jobs that asked to be kept for less time than the queue keeps its own
        self.expires = Ordered()
        self.paused = False
        #: whether there is something to fetch that nobody was told of
        self.armed = False
        self.events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self.keys = Keys()
        self.flows: dict[str, StoredFlow] = {}
        self.outbox: deque[tuple[int, Step]] = deque()
        #: steps written so far, and how many of them were taken
        self.steps = self.taken = 0
        self.kept_bytes = dict.fromkeys(FINISHED, 0)
        #: waiting jobs by group; None until the queue has seen a grouped job
        self.lanes: dict[str, Ordered] | None = None
        #: when each group last had its turn, counted in turns
        self.turns: dict[str, float] = {}
        self.turn = 0
        #: what an operator set
        self.limits: Limits = {}
        self.group_limits: dict[str, Limits] = {}
        #: theoretical arrival times of the rate limits, microseconds; of the queue under None
        self.arrivals: dict[str | None, float] = {}
        #: places given out
        self.places = 0
        self._last_event = (0, 0)

    # -- waiting --

    def next_place(self, count: int = 1) -> int:
        """Take places at the end; gives the first of them."""
        self.places += count
        return self.places - count + 1

    def to_waiting(self, job: StoredJob, place: int) -> None:
        """Put a job among those that wait; place 0 is the head of its priority."""
        job.state = State.WAITING
        score = job.priority * SPAN + place
        if job.group is not None and self.lanes is None:
            self._open_lanes()
        self.sets[State.WAITING].put(job.id, score)
        if self.lanes is not None:
            self._lane(self.lanes, job.group or "").put(job.id, score)

    def _lane(self, lanes: dict[str, Ordered], group: str) -> Ordered:
        if group not in lanes:
            # Behind the one whose turn it is: groups that are always new, or always come back, must not hold it up.
            first = min((self.turns.get(other, 0.0) for other in lanes), default=float("-inf"))
            self.turns[group] = max(self.turns.get(group, 0.0), first + 0.5)
            lanes[group] = Ordered()
        return lanes[group]

    def _open_lanes(self) -> None:
        self.lanes = {}
        for job_id in self.sets[State.WAITING]:
            lane = self.lanes.setdefault("", Ordered())
            lane.put(job_id, self.sets[State.WAITING].score(job_id) or 0)

    def to_delayed(self, job: StoredJob, due_ms: int) -> None:
        """Let a job wait for its time."""
        job.state, job.due_ms = State.DELAYED, due_ms
        self.sets[State.DELAYED].put(job.id, due_ms)

    def leave(self, job: StoredJob) -> None:
        """Take a job out of the set of its state."""
        self.sets[job.state].discard(job.id)
        if job.state is State.WAITING and self.lanes is not None:
            lane = self.lanes[job.group or ""]
            lane.discard(job.id)
            if not lane:
                del self.lanes[job.group or ""]
        elif job.state.finished:
            self.kept_bytes[job.state] -= job.kept_bytes
            self.expires.discard(job.id)

    # -- the end --

    def to_finished(self, job: StoredJob, state: State, now_ms: int) -> None:
        """Put a job, which has left its set, into a finished state, and tell those that run after it."""
        job.state, job.finished_ms = state, now_ms
        self.sets[state].put(job.id, now_ms)
        job.kept_bytes = len(job.body) + len(job.result) + len(job.error)
        self.kept_bytes[state] += job.kept_bytes
        if job.keep_ms is not None:
            self.expires.put(job.id, now_ms + job.keep_ms)
        self.keys.ended(job, now_ms)
        self.tell_dependents(job, state.value)

    def tell_dependents(self, job: StoredJob, how: str) -> None:
        """Write to the outbox how a job ended, once for each that runs after it."""
        if job.flow is None:
            return
        result = _read(job.result) if how == "completed" else None
        error = _read(job.error) if how in ("failed", "cancelled") else None
        for dependent in job.flow.dependents:
            self.write_step(Resolve(dependent, job.id, DependencyResult(how, result, error)))

    def delete(self, job: StoredJob) -> None:
        """Forget a job with all that belongs to it."""
        self.leave(job)
        del self.jobs[job.id]

    def remove(self, job: StoredJob) -> None:
        """Delete a job on somebody's order; those that wait for it learn of it."""
        self.delete(job)
        self.keys.removed(job)
        if not job.state.finished:
            self.tell_dependents(job, "removed")

    # -- what is to be done in other queues --

    def write_step(self, step: Step) -> None:
        """Write a step to the outbox."""
        self.steps += 1
        self.outbox.append((self.steps, step))

    def next_step(self) -> Step | None:
        """Strike the first step off; None for one that was taken before."""
        number, step = self.outbox.popleft()
        if number <= self.taken:
            return None
        self.taken = number
        return step

    # -- telling --

    def emit(self, now_ms: int, name: str, job: StoredJob | None, **data: Any) -> None:
        """Write down what happened."""
        # As on a server: never two of the same id, nor an earlier one, should the clock be set back.
        at, number = self._last_event
        self._last_event = (now_ms, 0) if now_ms > at else (at, number + 1)
        if job is not None:
            data = {"type": job.name, **data}
        event_id = f"{self._last_event[0]}-{self._last_event[1]}"
        self.events.append(Event(event_id, self.name, name, job.id if job else None, data))

    def last_event(self) -> str:
        """Give the position of the newest event."""
        return self.events[-1].id if self.events else "0"

    def events_after(self, position: str, limit: int) -> list[Event]:
        """Read on from a position."""
        after = _position(position)
        newer: list[Event] = []
        for event in reversed(self.events):
            if _position(event.id) <= after:
                break
            newer.append(event)
        return newer[::-1][:limit]

    # -- waking --

    def arm(self) -> None:
        """Let an idle worker be woken, unless the queue is paused."""
        if not self.paused:
            self.armed = True

    def arm_for(self, due_ms: int) -> None:
        """Let somebody look again who sleeps until the next due job, if this one is due before it."""
        first = self.sets[State.DELAYED].first()
        if first is not None and first[0] >= due_ms:
            self.armed = True


def brief(error: bytes) -> Mapping[str, Any]:
    """Give an error as events carry it: without traceback, and not longer than need be."""
    try:
        full = from_json(error)
    except ValueError:
        return {}
    if not isinstance(full, dict):
        return {}
    message = str(full.get("message") or "")
    if len(message.encode()) > _MESSAGE_KEPT:
        message = message.encode()[:_MESSAGE_KEPT].decode(errors="ignore") + "…"
    kept = {name: full[name] for name in ("type", "code", "retryable") if full.get(name) is not None}
    return {**kept, "message": message}


def keep_attempt(job: StoredJob, now_ms: int, outcome: str, error: bytes) -> None:
    """Add the run that just ended to the job's attempts."""
    head = {"attempt": job.attempt, "started_ms": job.started_ms, "ended_ms": now_ms, "worker": job.worker}
    line = json.dumps({**head, "outcome": outcome}, separators=(",", ":")).encode()
    job.attempts.append(line[:-1] + b',"error":' + (error or b"null") + b"}")


def _read(data: bytes) -> Any:
    try:
        return from_json(data) if data else None
    except ValueError:
        return None


def _position(text: str) -> tuple[int, int]:
    at, _, number = text.partition("-")
    return int(at), int(number or 0)
