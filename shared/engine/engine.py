"""What a queue can do: the Engine protocol and the values that go in and out of it.

Times are milliseconds since the epoch on the *server's* clock; clients never supply the time of a transition.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import Any, NamedTuple, Protocol

from shared.contracts.queue import QueueContract, RateLimit
from shared.engine.adding import Added, Dedupe, Idempotency
from shared.engine.flows import DependencyResult, FlowRecord, NewFlow
from shared.engine.states import State

#: stalls allowed for jobs that name no number themselves
DEFAULT_MAX_STALLS = 3


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to be added."""

    #: ``<queue>.<ULID>``; adding the same id again does nothing, so that a lost reply can be answered by a repeat
    id: str
    #: job type, or the name of a Dramatiq actor
    name: str
    #: what the actor is called with, see :mod:`shared.engine.record`
    body: bytes
    #: lower runs first
    priority: int = 0
    #: wait this long before it may run, milliseconds
    delay_ms: int = 0
    #: do not run before this time, milliseconds since the epoch; wins over ``delay_ms``
    run_at_ms: int | None = None
    #: how often its worker may die under it; None stands for DEFAULT_MAX_STALLS
    max_stalls: int | None = None
    #: keep the finished job for at most this long, seconds; None leaves it to the queue
    keep_s: int | None = None
    #: further options as given by the caller (attempts, backoff, timeout_s, tags, owner); JSON-able
    options: Mapping[str, Any] = field(default_factory=dict)
    #: jobs of a group share the queue with other groups in turn, e.g. a tenant's id
    group: str | None = None
    dedupe: Dedupe | None = None
    idempotency: Idempotency | None = None


class LeasedJob(NamedTuple):
    """A job that this process holds. A tuple, since one is made for each job that runs and a tuple is made fastest."""

    id: str
    #: fencing token: grows with each lease of the job, and whoever holds an older one changes nothing
    token: int
    name: str
    body: bytes
    #: which attempt this is, counted from 1
    attempt: int
    #: how often its worker died under it since it last made progress
    stalls: int
    priority: int
    created_ms: int
    options: Mapping[str, Any]


class Outcome(StrEnum):
    """How a run ended."""

    COMPLETE = "complete"
    #: try again after a delay
    RETRY = "retry"
    FAIL = "fail"
    CANCEL = "cancel"
    #: hand it back unstarted: no attempt is counted
    RELEASE = "release"


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a run, to be committed."""

    job_id: str
    token: int
    outcome: Outcome
    #: RETRY: wait this long, milliseconds
    delay_ms: int = 0
    #: COMPLETE: the result as JSON; RETRY, FAIL and CANCEL: the error as JSON
    data: bytes = b""
    #: RETRY: replaces the body; empty keeps it
    body: bytes = b""
    #: jobs of any queue that are added with the finish, and exactly if it is committed
    followers: Sequence[NewJob] = ()


class FinishStatus(IntEnum):
    """What became of a finish."""

    #: there is no such job any more
    GONE = -2
    #: the lease was lost: somebody else holds the job, nothing was changed
    STALE = -1
    #: this very finish was committed before (its reply was lost)
    ALREADY = 0
    COMMITTED = 1


class LeaseStatus(IntEnum):
    """What a lease holder learns when it renews or reports."""

    LOST = -1
    HELD = 1
    #: held, and somebody asked to cancel the job
    CANCEL_REQUESTED = 2


@dataclass(frozen=True, slots=True)
class CycleReply:
    """What one cycle gave."""

    jobs: list[LeasedJob]
    #: one status a finish, in order
    finishes: list[FinishStatus]
    #: milliseconds until something may become due without anybody's doing; None when nothing is
    next_ms: int | None
    #: a limit of the queue holds jobs back that wait
    limited: bool = False
    #: steps for other queues that are yet to be taken, see :meth:`Engine.relay`
    outbox: int = 0


@dataclass(frozen=True, slots=True)
class Counts:
    """How many jobs a queue has in each state."""

    waiting: int
    delayed: int
    blocked: int
    active: int
    completed: int
    failed: int
    cancelled: int
    paused: bool


@dataclass(frozen=True, slots=True)
class JobRecord:
    """A job as it is stored, for people and the API."""

    id: str
    queue: str
    name: str
    state: State
    priority: int
    created_ms: int
    #: delayed: when it is due
    due_ms: int | None
    #: start of the last attempt
    started_ms: int | None
    finished_ms: int | None
    #: attempts made, the running one included
    attempt: int
    stalls: int
    worker: str | None
    cancel_requested: bool
    #: first argument of the call when that is a JSON object (every contract's job); None where it cannot be shown
    payload: Mapping[str, Any] | None
    options: Mapping[str, Any]
    #: ``{"percent": 0-100, "message": str, "data": {...}, "at_ms": int}``
    progress: Mapping[str, Any] | None
    result: Any
    #: ``{"type": str, "message": str, "retryable": bool, "traceback": str}``
    error: Mapping[str, Any] | None
    #: every attempt so far: ``{"attempt", "started_ms", "ended_ms", "worker", "outcome", "error"}``
    attempts: Sequence[Mapping[str, Any]]
    group: str | None = None
    #: flow that it belongs to
    flow_id: str | None = None
    #: jobs that it still waits for
    waits_for: Sequence[str] = ()
    dedupe_key: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list of jobs."""

    jobs: list[JobRecord]
    #: pass it to get the next part; None at the end
    cursor: str | None


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a job or a queue."""

    #: position in the queue's stream
    id: str
    queue: str
    #: added, waiting, active, progress, completed, failed, delayed, cancelled, stalled, removed, paused, resumed …
    name: str
    #: None for events of the queue itself
    job_id: str | None
    #: further fields, e.g. ``type``, ``attempt``, ``progress``, ``error``
    data: Mapping[str, Any]


class Waiter(Protocol):
    """Blocks until a queue may have work. One thread waits; any may interrupt."""

    def wait(self, queues: Sequence[str], timeout_s: float) -> str | None:
        """Block until one of the queues may have work; gives its name, None after the timeout or an interrupt.

        Whoever is told takes that word from the others, and so must cycle the queue, with or without wanting a job.
        """
        ...

    def interrupt(self) -> None:
        """End the wait that is under way, or the next one if none is."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Engine(Protocol):
    """The queue.

    Every method may raise :class:`shared.errors.EngineUnavailable` when the server cannot be reached or cannot take
    writes; the call may then have taken effect or not, and repeating it is safe.
    """

    # -- producing --

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        """Add jobs, in one step up to 1,000; gives what became of each.

        Args:
            queue: their queue.
            jobs: the jobs.
            max_length: refuse them all when the queue would hold more unfinished jobs than this; an operator's own
                bound (:meth:`set_limits`) comes first.

        Raises:
            QueueFull: the queue is at its bound; nothing of the step was added.
            EngineOverloaded: the server is nearly out of memory; nothing was added.
        """
        ...

    def add_flow(self, flow: NewFlow) -> None:
        """Add a flow, all of it or nothing; adding it again changes nothing.

        The plan is stored in one step and its jobs are brought to their queues at once, or by any worker that serves
        the queue of the flow's id should this process die in between.

        Raises:
            EngineOverloaded
        """
        ...

    def relay(self, queue: str, *, limit: int = 100) -> int:
        """Take the steps for other queues that wait in a queue's outbox; gives how many are left.

        Steps are taken in order and each has its effect once, whoever takes it and however often.
        """
        ...

    # -- consuming --

    def cycle(
        self,
        queue: QueueContract,
        *,
        worker: str,
        request: str,
        repeat: bool,
        want: int,
        lease_ms: int,
        finishes: Sequence[Finish] = (),
    ) -> CycleReply:
        """Commit finishes, tidy up, and lease up to ``want`` jobs, in one step.

        Args:
            queue: the queue.
            worker: stable name of the process.
            request: id of this call; a repeat of the call carries the same.
            repeat: whether this call's earlier reply was lost; then the jobs that it leased are given again.
            want: jobs leased at most.
            lease_ms: length of a lease, milliseconds.
            finishes: ends of runs.
        """
        ...

    def renew(self, queue: str, leases: Sequence[tuple[str, int]], lease_ms: int) -> list[LeaseStatus]:
        """Extend leases, given as (job id, token)."""
        ...

    def reap(self, queue: str) -> list[str]:
        """Take jobs from workers whose lease ran out; gives their ids."""
        ...

    def waiter(self, worker: str) -> Waiter:
        """Make what a worker process blocks on while it is idle."""
        ...

    # -- reporting while a job runs --

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        """Store a job's progress and tell those who watch."""
        ...

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        """Append to the job's log, which keeps the last 1,000 lines."""
        ...

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        """Store where the job would go on after a failure."""
        ...

    def load_checkpoint(self, job_id: str) -> bytes | None:
        """Give what :meth:`save_checkpoint` stored last."""
        ...

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        """Ask whether the lease is still held and the job still wanted."""
        ...

    # -- steering --

    def cancel(self, job_id: str) -> State:
        """Cancel a job. A running one is asked to stop and stays active until it does; gives the state after.

        Raises:
            JobNotFound, WrongState: when it is finished already.
        """
        ...

    def retry(self, job_id: str) -> None:
        """Run a failed or cancelled job again, with all its attempts.

        Raises:
            JobNotFound, WrongState
        """
        ...

    def promote(self, job_id: str) -> None:
        """Let a delayed job run now.

        Raises:
            JobNotFound, WrongState
        """
        ...

    def remove(self, job_id: str) -> None:
        """Delete a job that is not running.

        Raises:
            JobNotFound, WrongState
        """
        ...

    def reprioritise(self, job_id: str, priority: int) -> None:
        """Give a job that has not begun another priority; among its new equals it goes last.

        Raises:
            JobNotFound, WrongState
        """
        ...

    def drain(self, queue: str, *, delayed: bool = False) -> int:
        """Remove what waits (and what is delayed); gives how many. Jobs that run after a removed one learn of it."""
        ...

    def clean(self, queue: str, state: State, *, older_than_s: float = 0, limit: int = 1_000) -> int:
        """Remove jobs of a state, the oldest first; gives how many.

        Args:
            queue: the queue.
            state: any but ACTIVE.
            older_than_s: age since the end of finished jobs, since they were added of the others.
            limit: jobs removed at most.

        Raises:
            WrongState: for running jobs.
        """
        ...

    def obliterate(self, queue: str, *, force: bool = False) -> None:
        """Remove a queue with all that is stored of it; it is paused first.

        Raises:
            WrongState: jobs run and ``force`` is not set; the queue stays paused.
        """
        ...

    def set_limits(self, queue: str, limits: Mapping[str, RateLimit | int | None], *, group: str | None = None) -> None:
        """Change limits of a queue while it runs, or of one of its groups; they win over those of the contract.

        Args:
            queue: the queue.
            limits: by name as in :class:`QueueLimits` (for a group: ``rate`` and ``concurrency``); None lifts the
                limit. A name that is left out is as the contract says.
            group: one group, for which its own limits win over those for every group.
        """
        ...

    def limits(self, queue: str, *, group: str | None = None) -> Mapping[str, RateLimit | int | None]:
        """Give what :meth:`set_limits` stored."""
        ...

    def flow(self, flow_id: str) -> FlowRecord | None:
        """Read a flow with its jobs."""
        ...

    def cancel_flow(self, flow_id: str) -> None:
        """Cancel every job of a flow that has not finished.

        Raises:
            JobNotFound
        """
        ...

    def retry_flow(self, flow_id: str) -> int:
        """Run what failed or was cancelled of a flow again, and what depends on it; gives the number of jobs.

        Raises:
            JobNotFound
        """
        ...

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        """Give how the jobs ended that a job runs after, by id; those that have not are missing."""
        ...

    def pause(self, queue: str) -> bool:
        """Stop handing out a queue's jobs; running ones go on. Gives whether that changed anything."""
        ...

    def resume(self, queue: str) -> bool:
        """Undo :meth:`pause`. Gives whether that changed anything."""
        ...

    # -- reading --

    def get(self, job_id: str) -> JobRecord | None:
        """Read a job."""
        ...

    def list(
        self, queue: str, state: State, *, cursor: str | None = None, limit: int = 50, newest_first: bool = False
    ) -> Page:
        """Read jobs of one state, in the order in which they would run (or ended)."""
        ...

    def logs(self, job_id: str, *, limit: int = 1000) -> Sequence[Mapping[str, Any]]:
        """Read the end of a job's log."""
        ...

    def counts(self, queue: str) -> Counts:
        """Count a queue's jobs."""
        ...

    def events(self, positions: Mapping[str, str], *, block_ms: int, limit: int = 500) -> Sequence[Event]:
        """Read what happened after the given position of each queue (``$`` is now, ``0`` the beginning)."""
        ...

    def last_event(self, queue: str) -> str:
        """Give the position of the newest event."""
        ...

    def ping(self) -> None:
        """Check that the server answers."""
        ...

    def close(self) -> None:
        """Close the connections."""
        ...
