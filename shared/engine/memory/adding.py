"""Adding jobs: what is there already, who holds the keys, whether there is room."""

from __future__ import annotations

from collections.abc import Sequence

from shared.engine.adding import Added, AddStatus, Dedupe, DedupeMode
from shared.engine.engine import NewJob
from shared.engine.memory.job import StoredJob
from shared.engine.memory.queue import StoredQueue
from shared.engine.memory.running import LATEST_MS
from shared.engine.record import to_json
from shared.engine.states import State
from shared.errors import QueueFull


def check_room(queue: StoredQueue, jobs: Sequence[NewJob], max_length: int | None, now_ms: int) -> None:
    """Check the bound on unfinished jobs; those that are there already, or will be refused, need no room.

    Raises:
        QueueFull: with the others the queue would be beyond it.
    """
    bound = queue.limits.get("max_length", max_length)
    if not isinstance(bound, int):
        return
    new = sum(_answer(queue, job, now_ms) is None for job in jobs)
    length = sum(len(queue.sets[state]) for state in (State.WAITING, State.DELAYED, State.BLOCKED))
    if new and length + new > bound:
        raise QueueFull(f"Queue {queue.name!r} holds {length} unfinished jobs, {bound} are allowed.")


def add_jobs(queue: StoredQueue, jobs: Sequence[NewJob], now_ms: int) -> list[Added]:
    """Add jobs in one step."""
    place = queue.next_place(len(jobs))
    waiting = False
    earliest: int | None = None
    answers: list[Added] = []
    for number, job in enumerate(jobs):
        answer = _answer(queue, job, now_ms)
        stored: StoredJob | None = None
        if answer is None:
            stored = _store(queue, job, place + number, now_ms)
            answer = Added(AddStatus.NEW, job.id)
            waiting = waiting or stored.state is State.WAITING
        elif answer.status is AddStatus.REPLACED and job.dedupe is not None:
            stored = _replace(queue, queue.jobs[answer.job_id], job, job.dedupe, now_ms)
        answers.append(answer)
        _remember(queue, job, answer, now_ms)
        if stored is not None and stored.state is State.DELAYED and stored.due_ms is not None:
            earliest = stored.due_ms if earliest is None else min(earliest, stored.due_ms)
    if waiting and not queue.paused:
        queue.arm()
    elif earliest is not None:
        queue.arm_for(earliest)
    return answers


def due_at(job: NewJob | StoredJob, now_ms: int) -> int:
    """Give the time at which a job may run that begins to wait now."""
    if job.run_at_ms is not None:
        return min(int(job.run_at_ms), LATEST_MS)
    return now_ms + min(int(job.delay_ms), LATEST_MS)


def stored_job(job: NewJob, now_ms: int) -> StoredJob:
    """Make what is stored of a job."""
    return StoredJob(
        id=job.id,
        name=job.name,
        body=bytes(job.body),
        priority=int(job.priority),
        created_ms=now_ms,
        options=to_json(job.options) if job.options else b"",
        max_stalls=job.max_stalls,
        keep_ms=None if job.keep_s is None else int(job.keep_s * 1000),
        group=job.group,
        dedupe=job.dedupe,
        delay_ms=job.delay_ms,
        run_at_ms=job.run_at_ms,
    )


def _answer(queue: StoredQueue, job: NewJob, now_ms: int) -> Added | None:
    """Give what becomes of a job that is not to be added; None for one that is."""
    if job.id in queue.jobs:
        return Added(AddStatus.REPEATED, job.id)
    if job.idempotency is not None:
        asked = queue.keys.request(job.idempotency, now_ms)
        if asked is not None:
            first, same = asked
            return Added(AddStatus.REPEATED if same else AddStatus.CONFLICT, first)
    holder = queue.keys.holder(job.dedupe.key, now_ms) if job.dedupe else None
    if job.dedupe is None or holder is None:
        return None
    if job.dedupe.mode is not DedupeMode.DEBOUNCE:
        return Added(AddStatus.DUPLICATE, holder)
    held = queue.jobs.get(holder)
    if held is None or held.state is not State.DELAYED:
        return None
    return Added(AddStatus.REPLACED, holder)


def _remember(queue: StoredQueue, job: NewJob, answer: Added, now_ms: int) -> None:
    # A request that was answered with the holder of a key is answered with it again.
    if job.idempotency is not None and answer.status not in (AddStatus.REPEATED, AddStatus.CONFLICT):
        queue.keys.answered(job.idempotency, answer.job_id, now_ms)


def _store(queue: StoredQueue, job: NewJob, place: int, now_ms: int) -> StoredJob:
    stored = stored_job(job, now_ms)
    queue.jobs[job.id] = stored
    due_ms = _debounced(job, job.dedupe, now_ms)
    if due_ms > now_ms:
        queue.to_delayed(stored, due_ms)
        queue.emit(now_ms, "added", stored, due_ms=due_ms)
    else:
        queue.to_waiting(stored, place)
        queue.emit(now_ms, "added", stored)
    queue.keys.hold(stored, now_ms)
    return stored


def _replace(queue: StoredQueue, held: StoredJob, job: NewJob, dedupe: Dedupe, now_ms: int) -> StoredJob:
    held.body = bytes(job.body)
    held.options = to_json(job.options) if job.options else b""
    held.priority = int(job.priority)
    held.dedupe = dedupe
    due_ms = max(now_ms, _debounced(job, dedupe, now_ms))
    queue.to_delayed(held, due_ms)
    queue.keys.hold(held, now_ms)
    queue.emit(now_ms, "delayed", held, due_ms=due_ms)
    return held


def _debounced(job: NewJob, dedupe: Dedupe | None, now_ms: int) -> int:
    if dedupe is not None and dedupe.mode is DedupeMode.DEBOUNCE and job.run_at_ms is None and job.delay_ms <= 0:
        return now_ms + dedupe.window_ms
    return due_at(job, now_ms)
