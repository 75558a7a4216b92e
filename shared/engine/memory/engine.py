"""MemoryEngine: the queue in the memory of one process."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from shared.contracts.queue import QueueContract
from shared.engine.adding import Added
from shared.engine.engine import (
    Counts,
    CycleReply,
    Event,
    Finish,
    JobRecord,
    LeaseStatus,
    NewJob,
    Page,
)
from shared.engine.flows import NewFlow
from shared.engine.keys import split_job_id
from shared.engine.memory import flows, running
from shared.engine.memory.adding import add_jobs, check_room
from shared.engine.memory.job import LOG_LINES_KEPT, StoredJob
from shared.engine.memory.limits import Gate
from shared.engine.memory.operating import Operating
from shared.engine.memory.waiter import MemoryWaiter
from shared.engine.record import from_json, to_json
from shared.engine.states import State
from shared.errors import ValidationFailed

#: jobs added in one step, as on a server
ADD_STEP = 1_000
#: jobs leased at most by one call, as on a server
WANT_MOST = 1_000
_CURSOR = re.compile(r"-?\d{1,16}:[0-9A-Za-z]{26}")


class MemoryEngine(Operating):
    """See :class:`shared.engine.engine.Engine`. Threads of one process may share it; nothing outlives the process.

    Args:
        clock: what it takes the time from.
    """

    # -- producing --

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        """See :meth:`Engine.add`."""
        prefix = queue + "."
        for job in jobs:
            if not job.id.startswith(prefix) or len(job.id) != len(prefix) + 26:
                raise ValueError(f"{job.id!r} is not the id of a job of queue {queue!r}: make it with new_job_id.")
        answers: list[Added] = []
        for start in range(0, len(jobs), ADD_STEP):
            step = jobs[start : start + ADD_STEP]
            with self._write(queue) as (stored, now_ms):
                check_room(stored, step, max_length, now_ms)
                answers += add_jobs(stored, step, now_ms)
        return answers

    def add_flow(self, flow: NewFlow) -> None:
        """See :meth:`Engine.add_flow`."""
        for node in flow.jobs:
            split_job_id(node.job.id)
        with self._write(split_job_id(flow.id)[0]) as (home, now_ms):
            flows.plan_flow(self.stored, home, flow, now_ms)

    def relay(self, queue: str, *, limit: int = 100) -> int:
        """See :meth:`Engine.relay`; what follows from a step in other queues is done with it."""
        with self._changed:
            stored = self.stored(queue)
            self._take_steps(stored, limit)
            self._changed.notify_all()
            return len(stored.outbox)

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
        """See :meth:`Engine.cycle`."""
        with self._changed:
            stored, now_us = self.stored(queue.name), self.clock.now_us()
            now_ms = now_us // 1000
            want = min(want, WANT_MOST)
            ends = [running.finish(stored, finish, now_ms) for finish in finishes]
            running.reap(stored, now_ms)
            running.promote_due(stored, now_ms)
            jobs = running.leased_before(stored, worker, request) if repeat else []
            gate = Gate(stored, queue, now_us)
            before = len(jobs)
            if not stored.paused:
                jobs += running.lease(
                    stored, gate, want - before, worker=worker, request=request, now_ms=now_ms, lease_ms=lease_ms
                )
            limited, wait_ms = running.arm_after(
                stored,
                gate,
                given=len(jobs),
                started=len(jobs) - before,
                want=want,
                retry_due_ms=min((due for _, due in ends if due is not None), default=None),
            )
            if finishes or not jobs:
                # also when there is nothing to do, or what ages in a quiet queue would stay for ever
                running.sweep(stored, queue.retention, now_ms, ended=len(finishes))
            times = [ms for ms in (running.next_ms(stored, now_ms), wait_ms) if ms is not None]
            self._changed.notify_all()
            return CycleReply(
                jobs, [status for status, _ in ends], min(times, default=None), limited, len(stored.outbox)
            )

    def renew(self, queue: str, leases: Sequence[tuple[str, int]], lease_ms: int) -> list[LeaseStatus]:
        """See :meth:`Engine.renew`."""
        with self._write(queue) as (stored, now_ms):
            statuses = []
            for job_id, token in leases:
                statuses.append(_status(stored.jobs.get(job_id), token))
                if statuses[-1] is not LeaseStatus.LOST:
                    stored.sets[State.ACTIVE].put(job_id, now_ms + lease_ms)
            return statuses

    def reap(self, queue: str) -> list[str]:
        """See :meth:`Engine.reap`."""
        with self._write(queue) as (stored, now_ms):
            ids = running.reap(stored, now_ms)
            if ids:
                stored.arm()
            return ids

    def waiter(self, worker: str) -> MemoryWaiter:  # noqa: ARG002 - threads of one process need no name to be told apart
        """See :meth:`Engine.waiter`."""
        return MemoryWaiter(self._changed, self.stored)

    # -- reporting while a job runs --

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        """See :meth:`Engine.progress`."""
        with self._write(split_job_id(job_id)[0]) as (queue, now_ms):
            job = queue.jobs.get(job_id)
            status = _status(job, token)
            if job is not None and status is not LeaseStatus.LOST:
                percent = round(percent, 3)
                job.progress = to_json({"percent": percent, "message": message, "data": data, "at_ms": now_ms})
                # Getting further than ever before clears the stalls; repeating the way there does not.
                if percent > job.furthest:
                    job.furthest, job.stalls = percent, 0
                queue.emit(now_ms, "progress", job, progress=from_json(job.progress))
            return status

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        """See :meth:`Engine.log`."""
        with self._write(split_job_id(job_id)[0]) as (queue, now_ms):
            job = queue.jobs.get(job_id)
            if job is not None and _status(job, token) is not LeaseStatus.LOST:
                job.log.append(to_json({"level": level, "message": message, "data": data, "at_ms": now_ms}))

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        """See :meth:`Engine.save_checkpoint`."""
        with self._changed:
            job = self._find(job_id)
            status = _status(job, token)
            if job is not None and status is not LeaseStatus.LOST:
                job.checkpoint = bytes(state)
            return status

    def load_checkpoint(self, job_id: str) -> bytes | None:
        """See :meth:`Engine.load_checkpoint`."""
        with self._changed:
            job = self._find(job_id)
            return job.checkpoint if job else None

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        """See :meth:`Engine.lease_status`."""
        with self._changed:
            return _status(self._find(job_id), token)

    # -- reading --

    def get(self, job_id: str) -> JobRecord | None:
        """See :meth:`Engine.get`."""
        with self._changed:
            job = self._find(job_id)
            return job.record() if job else None

    def list(
        self, queue: str, state: State, *, cursor: str | None = None, limit: int = 50, newest_first: bool = False
    ) -> Page:
        """See :meth:`Engine.list`."""
        if cursor and not _CURSOR.fullmatch(cursor):
            raise ValidationFailed("The cursor is not one that a page gave: start again without one.")
        limit = max(1, limit)
        after: tuple[int, str] | None = None
        if cursor:
            score, _, local_id = cursor.partition(":")
            after = (int(score), f"{queue}.{local_id}")
        with self._changed:
            stored = self.stored(queue)
            found = stored.sets[state].page(after, limit, backwards=newest_first)
            jobs = [stored.jobs[job_id].record() for _, job_id in found]
        last = f"{found[-1][0]}:{found[-1][1][-26:]}" if len(found) == limit else None
        return Page(jobs, last)

    def logs(self, job_id: str, *, limit: int = LOG_LINES_KEPT) -> Sequence[Mapping[str, Any]]:
        """See :meth:`Engine.logs`."""
        with self._changed:
            job = self._find(job_id)
            lines = list(job.log)[-limit:] if job else []
        return [from_json(line) for line in lines]

    def counts(self, queue: str) -> Counts:
        """See :meth:`Engine.counts`."""
        with self._changed:
            stored = self.stored(queue)
            return Counts(**{state.value: len(stored.sets[state]) for state in State}, paused=stored.paused)

    def events(self, positions: Mapping[str, str], *, block_ms: int, limit: int = 500) -> Sequence[Event]:
        """See :meth:`Engine.events`."""
        deadline = time.monotonic() + block_ms / 1000
        with self._changed:
            after = {
                name: self.stored(name).last_event() if position == "$" else position
                for name, position in positions.items()
            }
            while True:
                found = [
                    event
                    for name, position in after.items()
                    for event in self.stored(name).events_after(position, limit)
                ]
                left = deadline - time.monotonic()
                if found or left <= 0:
                    return found
                self._changed.wait(left)

    def last_event(self, queue: str) -> str:
        """See :meth:`Engine.last_event`."""
        with self._changed:
            return self.stored(queue).last_event()

    def ping(self) -> None:
        """See :meth:`Engine.ping`."""

    def close(self) -> None:
        """See :meth:`Engine.close`; what is stored stays for whoever holds the engine."""


def _status(job: StoredJob | None, token: int) -> LeaseStatus:
    if job is None or job.state is not State.ACTIVE or job.token != token:
        return LeaseStatus.LOST
    return LeaseStatus.CANCEL_REQUESTED if job.cancel_requested else LeaseStatus.HELD
