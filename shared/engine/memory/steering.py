"""What people do to jobs and queues in memory."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contracts.queue import RateLimit
from shared.engine.memory.job import StoredJob
from shared.engine.memory.queue import Limits, StoredQueue
from shared.engine.states import State
from shared.errors import ValidationFailed, WrongState

_RATES = frozenset({"rate", "group_rate"})
_OF_A_QUEUE = frozenset({"rate", "concurrency", "max_length", "group_rate", "group_concurrency"})
_OF_A_GROUP = frozenset({"rate", "concurrency"})


def retry(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Run a failed or cancelled job again.

    Raises:
        WrongState
    """
    if job.state not in (State.FAILED, State.CANCELLED):
        raise WrongState(f"Job {job.id!r} has neither failed nor been cancelled.")
    queue.leave(job)
    job.forget_runs()
    queue.keys.runs_again(job, now_ms)
    _to_the_end(queue, job, now_ms)


def promote(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Let a delayed job run now.

    Raises:
        WrongState
    """
    if job.state is not State.DELAYED:
        raise WrongState(f"Job {job.id!r} is not delayed.")
    queue.leave(job)
    _to_the_end(queue, job, now_ms)


def _to_the_end(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    queue.to_waiting(job, queue.next_place())
    queue.emit(now_ms, "waiting", job)
    queue.arm()


def remove(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Delete a job that is not running.

    Raises:
        WrongState
    """
    if job.state is State.ACTIVE:
        raise WrongState(f"Job {job.id!r} is running: cancel it first.")
    queue.remove(job)
    queue.emit(now_ms, "removed", job)


def reprioritise(queue: StoredQueue, job: StoredJob, priority: int, now_ms: int) -> None:
    """Give a job that has not begun another priority.

    Raises:
        WrongState
    """
    if job.state not in (State.WAITING, State.DELAYED, State.BLOCKED):
        raise WrongState(f"Job {job.id!r} has begun: its priority cannot be changed any more.")
    if job.state is State.WAITING:
        queue.leave(job)
        job.priority = priority
        queue.to_waiting(job, queue.next_place())
    job.priority = priority
    queue.emit(now_ms, "reprioritised", job, priority=priority)


def drain(queue: StoredQueue, now_ms: int, *, delayed: bool) -> int:
    """Remove what waits, and what is delayed if that is asked for; gives how many."""
    ids = list(queue.sets[State.WAITING])
    if delayed:
        ids += queue.sets[State.DELAYED]
    for job_id in ids:
        remove(queue, queue.jobs[job_id], now_ms)
    return len(ids)


def clean(queue: StoredQueue, state: State, now_ms: int, *, older_than_ms: int, limit: int) -> int:
    """Remove jobs of a state, the oldest first; gives how many.

    Raises:
        WrongState: for running jobs.
    """
    if state is State.ACTIVE:
        raise WrongState("Running jobs cannot be cleaned away: cancel them first.")
    latest_ms = now_ms - older_than_ms
    if state.finished:
        ids = queue.sets[state].up_to(latest_ms, max(0, limit))
    else:
        by_age = sorted((queue.jobs[job_id].created_ms, job_id) for job_id in queue.sets[state])
        ids = [job_id for created_ms, job_id in by_age if created_ms <= latest_ms][: max(0, limit)]
    for job_id in ids:
        remove(queue, queue.jobs[job_id], now_ms)
    return len(ids)


def check_limits(limits: Mapping[str, RateLimit | int | None], *, group: str | None) -> Limits:
    """Check limits that an operator sets.

    Raises:
        ValidationFailed: a name that there is not, or a value that does not fit it.
    """
    known = _OF_A_QUEUE if group is None else _OF_A_GROUP
    for name, value in limits.items():
        if name not in known:
            raise ValidationFailed(f"There is no limit {name!r}: use {', '.join(sorted(known))}.")
        if value is None:
            continue
        if (name in _RATES) is not isinstance(value, RateLimit):
            raise ValidationFailed(f"Limit {name!r} is {value!r}: use {'a rate' if name in _RATES else 'a number'}.")
        if isinstance(value, int) and (isinstance(value, bool) or value < 1):
            raise ValidationFailed(f"Limit {name!r} is {value}, use 1 or more, or None for no limit.")
    return dict(limits)


def set_limits(queue: StoredQueue, limits: Limits, now_ms: int, *, group: str | None) -> None:
    """Store what an operator set; workers look again, since more may be allowed now."""
    if group is None:
        queue.limits = limits
    elif limits:
        queue.group_limits[group] = limits
    else:
        queue.group_limits.pop(group, None)
    queue.emit(now_ms, "limited", None)
    if queue.sets[State.WAITING]:
        queue.arm()
