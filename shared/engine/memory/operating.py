"""What people do to jobs, queues and flows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from shared.contracts.priority import parse_priority
from shared.contracts.queue import RateLimit
from shared.engine.flows import DependencyResult, FlowRecord
from shared.engine.keys import split_job_id
from shared.engine.memory import flows, steering
from shared.engine.memory.base import Memory
from shared.engine.memory.flow import StoredFlow
from shared.engine.memory.job import StoredJob
from shared.engine.memory.queue import StoredQueue
from shared.engine.states import State
from shared.errors import JobNotFound, WrongState


class Operating(Memory):
    """The part of :class:`MemoryEngine` that steers."""

    def cancel(self, job_id: str) -> State:
        """See :meth:`Engine.cancel`."""
        with self._steer(job_id) as (queue, job, now_ms):
            if job.state.finished:
                raise WrongState(f"Job {job_id!r} is finished already.")
            flows.cancel(queue, job, now_ms)
            return job.state

    def retry(self, job_id: str) -> None:
        """See :meth:`Engine.retry`."""
        with self._steer(job_id) as (queue, job, now_ms):
            steering.retry(queue, job, now_ms)

    def promote(self, job_id: str) -> None:
        """See :meth:`Engine.promote`."""
        with self._steer(job_id) as (queue, job, now_ms):
            steering.promote(queue, job, now_ms)

    def remove(self, job_id: str) -> None:
        """See :meth:`Engine.remove`."""
        with self._steer(job_id) as (queue, job, now_ms):
            steering.remove(queue, job, now_ms)

    def reprioritise(self, job_id: str, priority: int) -> None:
        """See :meth:`Engine.reprioritise`.

        Raises:
            ValidationFailed: the priority is out of range.
        """
        with self._steer(job_id) as (queue, job, now_ms):
            steering.reprioritise(queue, job, parse_priority(priority), now_ms)

    def drain(self, queue: str, *, delayed: bool = False) -> int:
        """See :meth:`Engine.drain`."""
        with self._write(queue) as (stored, now_ms):
            return steering.drain(stored, now_ms, delayed=delayed)

    def clean(self, queue: str, state: State, *, older_than_s: float = 0, limit: int = 1_000) -> int:
        """See :meth:`Engine.clean`."""
        with self._write(queue) as (stored, now_ms):
            return steering.clean(stored, state, now_ms, older_than_ms=round(older_than_s * 1000), limit=limit)

    def obliterate(self, queue: str, *, force: bool = False) -> None:
        """See :meth:`Engine.obliterate`."""
        with self._write(queue) as (stored, now_ms):
            self._pause(stored, now_ms)
            if stored.sets[State.ACTIVE] and not force:
                raise WrongState(f"Jobs of queue {queue!r} are running: wait for their end, or force it.")
            for job in list(stored.jobs.values()):
                stored.remove(job)
            # What was decided on is done before nobody knows of it any more.
            self._take_steps(stored)
            del self._queues[queue]

    def set_limits(self, queue: str, limits: Mapping[str, RateLimit | int | None], *, group: str | None = None) -> None:
        """See :meth:`Engine.set_limits`.

        Raises:
            ValidationFailed: a name that there is not, or a value that does not fit it.
        """
        checked = steering.check_limits(limits, group=group)
        with self._write(queue) as (stored, now_ms):
            steering.set_limits(stored, checked, now_ms, group=group)

    def limits(self, queue: str, *, group: str | None = None) -> Mapping[str, RateLimit | int | None]:
        """See :meth:`Engine.limits`."""
        with self._changed:
            stored = self.stored(queue)
            return dict(stored.limits if group is None else stored.group_limits.get(group, {}))

    def pause(self, queue: str) -> bool:
        """See :meth:`Engine.pause`."""
        with self._write(queue) as (stored, now_ms):
            return self._pause(stored, now_ms)

    def _pause(self, queue: StoredQueue, now_ms: int) -> bool:
        if queue.paused:
            return False
        queue.paused, queue.armed = True, False
        queue.emit(now_ms, "paused", None)
        return True

    def resume(self, queue: str) -> bool:
        """See :meth:`Engine.resume`."""
        with self._write(queue) as (stored, now_ms):
            if not stored.paused:
                return False
            stored.paused = False
            stored.emit(now_ms, "resumed", None)
            stored.arm()
            return True

    # -- flows --

    def flow(self, flow_id: str) -> FlowRecord | None:
        """See :meth:`Engine.flow`."""
        with self._changed:
            flow = self.stored(split_job_id(flow_id)[0]).flows.get(flow_id)
            if flow is None:
                return None
            after = {node.job.id: tuple(node.after) for node in reversed(flow.plan)}
            jobs = {job_id: job.record() if (job := self._find(job_id)) else None for job_id in after}
            return FlowRecord(flow.id, flow.name, flow.created_ms, after, jobs)

    def cancel_flow(self, flow_id: str) -> None:
        """See :meth:`Engine.cancel_flow`."""
        with self._steer_flow(flow_id) as (flow, now_ms):
            flows.cancel_flow(self.stored, flow, now_ms)

    def retry_flow(self, flow_id: str) -> int:
        """See :meth:`Engine.retry_flow`."""
        with self._steer_flow(flow_id) as (flow, now_ms):
            return flows.retry_flow(self.stored, flow, now_ms)

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        """See :meth:`Engine.results`."""
        with self._changed:
            job = self._find(job_id)
            return dict(job.flow.results) if job is not None and job.flow is not None else {}

    # -- under the hood --

    @contextmanager
    def _steer(self, job_id: str) -> Iterator[tuple[StoredQueue, StoredJob, int]]:
        with self._write(split_job_id(job_id)[0]) as (queue, now_ms):
            job = queue.jobs.get(job_id)
            if job is None:
                raise JobNotFound(f"There is no job {job_id!r}; it may have been removed by retention.")
            yield queue, job, now_ms

    @contextmanager
    def _steer_flow(self, flow_id: str) -> Iterator[tuple[StoredFlow, int]]:
        with self._write(split_job_id(flow_id)[0]) as (home, now_ms):
            flow = home.flows.get(flow_id)
            if flow is None:
                raise JobNotFound(f"There is no flow {flow_id!r}; it may have been removed by retention.")
            self._take_steps(home)
            yield flow, now_ms
            for node in flow.plan:
                self._take_steps(self.stored(split_job_id(node.job.id)[0]))
