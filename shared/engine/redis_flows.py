"""RedisEngine's outbox and flows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from graphlib import TopologicalSorter
from itertools import groupby
from typing import Any

from structlog.stdlib import get_logger

from shared.engine.flows import Dependency, DependencyResult, FlowRecord, NewFlow, OnFailure
from shared.engine.keys import split_job_id
from shared.engine.record import decode_record, from_json, to_json
from shared.engine.redis_commands import RedisCommands
from shared.engine.replies import hash_fields, stream_entries
from shared.engine.requests import job_args
from shared.engine.states import State
from shared.errors import JobNotFound, UnknownQueue, WrongState

log = get_logger(__name__)

#: how long the record of a flow is kept, milliseconds
FLOW_KEPT_MS = 30 * 24 * 3600 * 1000
#: outboxes looked into at most for steps that those of another led to; what is left is taken by who cycles the queue
LED_TO = 1_000

_Step = tuple[bytes, dict[bytes, bytes]]


class RedisFlows(RedisCommands):
    """See :class:`shared.engine.engine.Engine`."""

    # -- the outbox --

    def relay(self, queue: str, *, limit: int = 100) -> int:
        """See :meth:`Engine.relay`; steps that these steps lead to in other queues are taken as well."""
        left = self._relay(queue, limit)
        todo = [name for name in self._touched(left) if name != queue]
        for _ in range(LED_TO):
            if not todo:
                break
            # In turn: into an outbox that others fill meanwhile, one might look for ever.
            name = todo.pop(0)
            todo += self._touched(self._relay(name, limit)).difference(todo)
        return left[queue]

    def relay_all(self, queue: str) -> None:
        """Take every step that a queue's outbox holds by now; others may go on to fill it."""
        outbox = self._of(queue).outbox
        newest = stream_entries(self._call("XREVRANGE", outbox, "+", "-", "COUNT", 1))
        while newest and self.relay(queue) and self._call("XRANGE", outbox, "-", newest[0][0], "COUNT", 1):
            pass

    @staticmethod
    def _touched(left: Mapping[str, int]) -> set[str]:
        return {queue for queue, steps in left.items() if steps}

    def _relay(self, queue: str, limit: int) -> dict[str, int]:
        """Take steps; gives how many are left, of this queue and of those that the steps led to."""
        outbox = self._of(queue).outbox
        steps = stream_entries(self._call("XRANGE", outbox, "-", "+", "COUNT", limit))
        left: dict[str, int] = {}
        taken: list[bytes] = []
        try:
            for target, some in groupby(steps, key=_target):
                together = list(some)
                try:
                    left.update(self._take(queue, target, together))
                except (UnknownQueue, JobNotFound):
                    # It cannot be taken, now or later, and must not stand in the way of others.
                    log.exception("step_dropped", queue=queue, target=target)
                taken += [step_id for step_id, _ in together]
        finally:
            if taken:
                self._call("XDEL", outbox, *taken)
        left[queue] = int(self._call("XLEN", outbox))
        return left

    def _take(self, home: str, target: tuple[str, str], steps: list[_Step]) -> dict[str, int]:
        kind, queue = target
        if kind == "add":
            args: list[Any] = [home, len(steps)]
            for step_id, fields in steps:
                args.append(step_id)
                args += [fields[b"%d" % n] for n in range(1, 9)]
            self._run("relay_add", queue, *args)
            return {}
        left = 0
        for step_id, fields in steps:
            _, local_id = split_job_id(fields[b"to"].decode())
            ended = f"{home}.{fields[b'from'].decode()}"
            left = self._run("resolve", queue, home, step_id, local_id, ended, fields[b"s"], fields[b"p"], fields[b"x"])
        return {queue: left}

    # -- flows --

    def add_flow(self, flow: NewFlow) -> None:
        """See :meth:`Engine.add_flow`."""
        home, local_id = split_job_id(flow.id)
        dependents: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for node in flow.jobs:
            for edge in node.after:
                dependents[edge.job_id].append((edge.on_failure.value, node.job.id))
        edges = {node.job.id: [[edge.job_id, edge.on_failure.value] for edge in node.after] for node in flow.jobs}
        args: list[Any] = [local_id, to_json({"name": flow.name, "jobs": edges}), FLOW_KEPT_MS, len(flow.jobs)]
        # From last to first: by the time that a job can end, whoever waits for it is there to be told.
        for node in flow.from_last_to_first():
            args.append(split_job_id(node.job.id)[0])
            args += job_args(node.job, flow_id=flow.id, after=node.after, dependents=dependents[node.job.id])
        self._admit(home)
        self._run("flow_add", home, *args)
        self.relay_all(home)

    def _admit(self, queue: str) -> None:
        """Let new jobs pass, or not."""

    def flow(self, flow_id: str) -> FlowRecord | None:
        """See :meth:`Engine.flow`."""
        home, local_id = split_job_id(flow_id)
        # Whoever added it may have died before its jobs arrived; they would be taken for jobs that are gone.
        self.relay(home)
        fields = hash_fields(self._call("HGETALL", self._of(home).flow(local_id)))
        if not fields:
            return None
        described = from_json(fields["j"])
        after = {
            job_id: [Dependency(other, OnFailure(policy)) for other, policy in edges]
            for job_id, edges in described["jobs"].items()
        }
        jobs = {}
        for job_id in after:
            queue, job_local_id = split_job_id(job_id)
            flat = self._call("HGETALL", self._of(queue).job(job_local_id))
            jobs[job_id] = decode_record(queue, job_local_id, hash_fields(flat)) if flat else None
        return FlowRecord(flow_id, described["name"], int(fields["ca"]), after, jobs)

    def cancel_flow(self, flow_id: str) -> None:
        """See :meth:`Engine.cancel_flow`."""
        record = self._arrived(flow_id)
        for job_id in _from_last_to_first(record):
            with suppress(JobNotFound, WrongState):
                self._steer("cancel", job_id, "is finished already")
        self._relay_of(record)

    def retry_flow(self, flow_id: str) -> int:
        """See :meth:`Engine.retry_flow`."""
        record = self._arrived(flow_id)
        ended = {job_id for job_id, job in record.jobs.items() if job and job.state in (State.FAILED, State.CANCELLED)}
        free: list[str] = []
        open_edges: list[tuple[str, Dependency]] = []
        for job_id in _from_last_to_first(record):
            if job_id not in ended:
                continue
            edges = record.after[job_id]
            if not any(_is_open(record, edge.job_id) for edge in edges):
                free.append(job_id)
                continue
            with suppress(JobNotFound, WrongState):
                pairs = [part for edge in edges for part in (edge.job_id, edge.on_failure.value)]
                self._steer("reblock", job_id, "runs already", *pairs)
                open_edges += [(job_id, edge) for edge in edges if edge.job_id not in ended]
        for job_id in free:
            with suppress(JobNotFound, WrongState):
                self._steer("retry", job_id, "runs already")
        self._close_ended(open_edges)
        self._relay_of(record)
        return len(ended)

    def _close_ended(self, edges: list[tuple[str, Dependency]]) -> None:
        """Tell jobs of what had ended when they began to wait again, or has since: its own word came too early."""
        for job_id, edge in edges:
            queue, local_id = split_job_id(edge.job_id)
            flat = self._call("HGETALL", self._of(queue).job(local_id))
            job = decode_record(queue, local_id, hash_fields(flat)) if flat else None
            if job is not None and not job.state.finished:
                continue
            state = "removed" if job is None else job.state.value
            data = b"" if job is None else to_json(job.result if job.state is State.COMPLETED else job.error)
            target, target_id = split_job_id(job_id)
            self._run("resolve", target, "", "", target_id, edge.job_id, state, edge.on_failure.value, data)

    def _arrived(self, flow_id: str) -> FlowRecord:
        self.relay_all(split_job_id(flow_id)[0])
        record = self.flow(flow_id)
        if record is None:
            raise JobNotFound(f"There is no flow {flow_id!r}; flows are kept for 30 days.")
        return record

    def _relay_of(self, record: FlowRecord) -> None:
        for queue in {split_job_id(job_id)[0] for job_id in record.after}:
            self.relay_all(queue)

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        """See :meth:`Engine.results`."""
        queue, local_id = split_job_id(job_id)
        fields = hash_fields(self._call("HGETALL", self._of(queue).job(local_id)))
        return {
            name[2:]: DependencyResult(**from_json(value)) for name, value in fields.items() if name.startswith("R:")
        }


def _target(step: _Step) -> tuple[str, str]:
    fields = step[1]
    if fields[b"t"] == b"add":
        return "add", fields[b"q"].decode()
    return "dep", fields[b"to"].decode().rpartition(".")[0]


def _from_last_to_first(record: FlowRecord) -> list[str]:
    graph = {job_id: [edge.job_id for edge in edges] for job_id, edges in record.after.items()}
    return list(reversed(list(TopologicalSorter(graph).static_order())))


def _is_open(record: FlowRecord, job_id: str) -> bool:
    job = record.jobs[job_id]
    return job is not None and job.state is not State.COMPLETED
