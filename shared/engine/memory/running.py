"""Leasing, ends of runs, leases that ran out, retention: the parts of a cycle."""

from __future__ import annotations

from collections.abc import Sequence

from shared.contracts.queue import Retention
from shared.engine.engine import (
    DEFAULT_MAX_STALLS,
    Finish,
    FinishStatus,
    LeasedJob,
    Outcome,
)
from shared.engine.memory.job import StoredJob
from shared.engine.memory.limits import Gate
from shared.engine.memory.queue import CANCELLED, StoredQueue, brief, keep_attempt
from shared.engine.memory.steps import Follow
from shared.engine.record import to_json
from shared.engine.states import State

#: jobs promoted, reaped, or deleted of one set at most by one call, as by the scripts
BATCH = 100
#: no job waits longer than this, or for a later time, milliseconds: some three thousand years
LATEST_MS = 10**14

_STALLED = "The worker died or froze while it ran this job (its lease ran out)."


def finish(queue: StoredQueue, end: Finish, now_ms: int) -> tuple[FinishStatus, int | None]:
    """Commit the end of a run; gives what became of it and, for a retry with a delay, when that is due."""
    job = queue.jobs.get(end.job_id)
    if job is None:
        return FinishStatus.GONE, None
    if job.sent_back == end.token:
        # A job that was sent back may have been leased again before its finish is repeated, by the lost call itself.
        return FinishStatus.ALREADY, None
    if job.token != end.token:
        return FinishStatus.STALE, None
    if job.state is not State.ACTIVE:
        return FinishStatus.ALREADY, None
    queue.leave(job)
    for follower in end.followers:
        queue.write_step(Follow(follower))
    if end.outcome is Outcome.COMPLETE:
        job.result = end.data
        job.error, job.checkpoint = b"", None
        queue.to_finished(job, State.COMPLETED, now_ms)
        queue.emit(now_ms, "completed", job, attempt=job.attempt)
    elif end.outcome is Outcome.FAIL:
        keep_attempt(job, now_ms, "fail", end.data)
        job.error = end.data or job.error
        queue.to_finished(job, State.FAILED, now_ms)
        queue.emit(now_ms, "failed", job, attempt=job.attempt, error=brief(end.data))
    elif end.outcome is Outcome.CANCEL or job.cancel_requested:
        keep_attempt(job, now_ms, "cancel", end.data)
        to_cancelled(queue, job, now_ms)
    else:
        return FinishStatus.COMMITTED, _send_back(queue, job, end, now_ms)
    return FinishStatus.COMMITTED, None


def to_cancelled(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Put a job, which has left its set, among the cancelled."""
    job.error = CANCELLED
    queue.to_finished(job, State.CANCELLED, now_ms)
    queue.emit(now_ms, "cancelled", job)


def _send_back(queue: StoredQueue, job: StoredJob, end: Finish, now_ms: int) -> int | None:
    job.sent_back = job.token
    if end.outcome is Outcome.RELEASE:
        job.attempt -= 1
        queue.to_waiting(job, 0)
        queue.emit(now_ms, "waiting", job)
        return None
    keep_attempt(job, now_ms, "retry", end.data)
    job.stalls, job.error = 0, end.data
    job.body = end.body or job.body
    delay_ms = min(int(end.delay_ms), LATEST_MS)
    if delay_ms > 0:
        queue.to_delayed(job, now_ms + delay_ms)
        queue.emit(now_ms, "delayed", job, due_ms=now_ms + delay_ms, error=brief(end.data))
        return now_ms + delay_ms
    queue.to_waiting(job, queue.next_place())
    queue.emit(now_ms, "waiting", job, error=brief(end.data))
    return None


def reap(queue: StoredQueue, now_ms: int) -> list[str]:
    """Take jobs from workers whose lease ran out; gives their ids."""
    expired = queue.sets[State.ACTIVE].up_to(now_ms, BATCH)
    for job_id in expired:
        job = queue.jobs[job_id]
        queue.leave(job)
        # the new lease number fences the old worker off
        job.token += 1
        job.stalls += 1
        error = to_json({"type": "Stalled", "code": "stalled", "retryable": True, "message": _STALLED})
        keep_attempt(job, now_ms, "stalled", error)
        allowed = DEFAULT_MAX_STALLS if job.max_stalls is None else job.max_stalls
        if job.cancel_requested:
            to_cancelled(queue, job, now_ms)
        elif job.stalls > allowed:
            message = (
                f"The worker died or froze {job.stalls} times while it ran this job, without progress in between; "
                f"{allowed} are allowed."
            )
            job.error = to_json({"type": "Stalled", "code": "max-stalls", "retryable": False, "message": message})
            queue.to_finished(job, State.FAILED, now_ms)
            queue.emit(now_ms, "failed", job, attempt=job.attempt, error=brief(job.error))
        else:
            job.error = error
            job.attempt = max(0, job.attempt - 1)
            queue.to_waiting(job, 0)
            queue.emit(now_ms, "stalled", job, stalls=job.stalls)
    return expired


def promote_due(queue: StoredQueue, now_ms: int) -> None:
    """Let jobs wait for a worker whose time has come."""
    due = queue.sets[State.DELAYED].up_to(now_ms, BATCH)
    place = queue.next_place(len(due))
    for number, job_id in enumerate(due):
        job = queue.jobs[job_id]
        queue.leave(job)
        queue.to_waiting(job, place + number)
        queue.emit(now_ms, "waiting", job)


def leased_before(queue: StoredQueue, worker: str, request: str) -> list[LeasedJob]:
    """Give the jobs that a lost reply of this request leased: they are this worker's still."""
    active = [queue.jobs[job_id] for job_id in queue.sets[State.ACTIVE]]
    return [job.lease() for job in active if (job.worker, job.request) == (worker, request)]


def lease(
    queue: StoredQueue, gate: Gate, want: int, *, worker: str, request: str, now_ms: int, lease_ms: int
) -> list[LeasedJob]:
    """Lease the next jobs."""
    jobs: list[LeasedJob] = []
    while len(jobs) < want and (job := gate.next_job()) is not None:
        job.state = State.ACTIVE
        job.token += 1
        job.attempt += 1
        job.started_ms, job.worker, job.request = now_ms, worker, request
        queue.sets[State.ACTIVE].put(job.id, now_ms + lease_ms)
        queue.emit(now_ms, "active", job, attempt=job.attempt)
        jobs.append(job.lease())
    return jobs


def sweep(queue: StoredQueue, keep: Retention, now_ms: int, *, ended: int) -> None:
    """Delete finished jobs that are kept no longer, more than the ``ended`` ones that have just come."""
    most = BATCH + ended
    bounds = (keep.completed_age_s, keep.completed_count, keep.completed_bytes)
    _trim(queue, State.COMPLETED, *bounds, now_ms, most)
    bounds = (keep.failed_age_s, keep.failed_count, keep.failed_bytes)
    for state in (State.FAILED, State.CANCELLED):
        _trim(queue, state, *bounds, now_ms, most)
    _delete(queue, queue.expires.up_to(now_ms, most))


def _trim(
    queue: StoredQueue, state: State, age_s: int, count: int, most_bytes: int | None, now_ms: int, most: int
) -> None:
    kept = queue.sets[state]
    if len(kept) > count:
        _delete(queue, kept.oldest(min(len(kept) - count, most)))
    _delete(queue, kept.up_to(now_ms - age_s * 1000, most))
    if most_bytes is not None:
        for _ in range(most):
            first = kept.first()
            if first is None or queue.kept_bytes[state] <= most_bytes:
                break
            _delete(queue, [first[1]])


def _delete(queue: StoredQueue, job_ids: Sequence[str]) -> None:
    for job_id in job_ids:
        queue.delete(queue.jobs[job_id])


def next_ms(queue: StoredQueue, now_ms: int) -> int | None:
    """Give the time until something is due or a lease runs out, milliseconds."""
    times: list[int] = []
    if (due := queue.sets[State.DELAYED].first()) is not None:
        times.append(max(0, due[0] - now_ms))
    if (deadline := queue.sets[State.ACTIVE].first()) is not None:
        times.append(max(0, deadline[0] - now_ms + 1))
    return min(times, default=None)


def arm_after(
    queue: StoredQueue, gate: Gate, *, given: int, started: int, want: int, retry_due_ms: int | None
) -> tuple[bool, int | None]:
    """Wake another worker where this one leaves something to do; gives whether limits hold jobs back, and how long."""
    limited, wait_ms = gate.holds_back()
    if queue.paused:
        return False, None
    full = given >= want
    if (queue.sets[State.WAITING] and not limited) or (wait_ms is not None and started and full):
        queue.arm()
    due = queue.sets[State.DELAYED].first()
    # Whoever has a thread to spare keeps the timer; a caller that is full or stopping hands it to an idle one.
    if retry_due_ms is not None and due is not None and retry_due_ms <= due[0] and full:
        queue.arm()
    return limited, wait_ms
