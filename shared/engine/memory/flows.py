"""Taking the steps of an outbox, and what is done to whole flows."""

from __future__ import annotations

from collections.abc import Callable

from shared.engine.engine import NewJob
from shared.engine.flows import DependencyResult, NewFlow, OnFailure
from shared.engine.keys import split_job_id
from shared.engine.memory.adding import add_jobs, due_at, stored_job
from shared.engine.memory.flow import StoredFlow
from shared.engine.memory.job import FlowPlace, StoredJob
from shared.engine.memory.queue import StoredQueue
from shared.engine.memory.running import to_cancelled
from shared.engine.memory.steps import Arrive, Follow, Resolve, Step
from shared.engine.record import to_json
from shared.engine.states import State

#: a flow of which no job is left is forgotten so long after it was added, milliseconds
FLOW_KEPT_MS = 30 * 24 * 3600 * 1000

Find = Callable[[str], StoredQueue]


def queue_of(find: Find, job_id: str) -> StoredQueue:
    """Give the queue of a job."""
    return find(split_job_id(job_id)[0])


def find_job(find: Find, job_id: str) -> StoredJob | None:
    """Give a job, if it is there."""
    return queue_of(find, job_id).jobs.get(job_id)


def plan_flow(find: Find, home: StoredQueue, flow: NewFlow, now_ms: int) -> None:
    """Store a flow and write to the outbox which jobs go where, each before those that it runs after."""
    if flow.id in home.flows:
        return
    _forget_old(find, home, now_ms)
    plan = flow.from_last_to_first()
    dependents: dict[str, list[str]] = {node.job.id: [] for node in plan}
    for node in plan:
        for edge in node.after:
            dependents[edge.job_id].append(node.job.id)
    home.flows[flow.id] = StoredFlow(flow.id, flow.name, now_ms, plan)
    for node in plan:
        home.write_step(Arrive(flow.id, node, tuple(dependents[node.job.id])))


def _forget_old(find: Find, home: StoredQueue, now_ms: int) -> None:
    for flow in list(home.flows.values()):
        if flow.created_ms + FLOW_KEPT_MS <= now_ms and not any(find_job(find, node.job.id) for node in flow.plan):
            del home.flows[flow.id]


# -- steps --


def take_step(find: Find, step: Step, now_ms: int) -> StoredQueue:
    """Take a step; a second time it has no effect. Gives the queue that it was for."""
    match step:
        case Follow():
            return _follow(find, step.job, now_ms)
        case Arrive():
            return _arrive(find, step, now_ms)
        case Resolve():
            return _resolve(find, step, now_ms)


def _follow(find: Find, job: NewJob, now_ms: int) -> StoredQueue:
    queue = queue_of(find, job.id)
    add_jobs(queue, [job], now_ms)
    return queue


def _arrive(find: Find, step: Arrive, now_ms: int) -> StoredQueue:
    queue = queue_of(find, step.node.job.id)
    if step.node.job.id in queue.jobs:
        return queue
    job = stored_job(step.node.job, now_ms)
    # A job of a flow is always added, or those that run after it would wait for ever: it holds no key.
    job.dedupe = None
    edges = {edge.job_id: edge.on_failure for edge in step.node.after}
    job.flow = FlowPlace(step.flow_id, edges, set(edges), step.dependents)
    queue.jobs[job.id] = job
    if edges:
        _block(queue, job, now_ms)
        queue.emit(now_ms, "added", job, waits_for=len(edges))
        return queue
    due_ms = due_at(job, now_ms)
    if due_ms > now_ms:
        queue.to_delayed(job, due_ms)
        queue.emit(now_ms, "added", job, due_ms=due_ms)
        queue.arm_for(due_ms)
    else:
        queue.to_waiting(job, queue.next_place())
        queue.emit(now_ms, "added", job)
        queue.arm()
    return queue


def _block(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    job.state = State.BLOCKED
    queue.sets[State.BLOCKED].put(job.id, now_ms)


def _resolve(find: Find, step: Resolve, now_ms: int) -> StoredQueue:
    queue = queue_of(find, step.dependent)
    job = queue.jobs.get(step.dependent)
    if job is None or job.flow is None or step.dependency not in job.flow.edges:
        return queue
    # Also where another failed it before: it may run again, and need this one's result then.
    job.flow.results[step.dependency] = step.result
    if job.state is not State.BLOCKED or step.dependency not in job.flow.pending:
        return queue
    job.flow.pending.discard(step.dependency)
    if step.result.state != "completed" and job.flow.edges[step.dependency] is OnFailure.FAIL:
        queue.leave(job)
        _fail(queue, job, step.dependency, step.result, now_ms)
    elif not job.flow.pending:
        queue.leave(job)
        unblock(queue, job, now_ms)
    return queue


def _fail(queue: StoredQueue, job: StoredJob, dependency: str, result: DependencyResult, now_ms: int) -> None:
    fields = {"type": "DependencyFailed", "code": "dependency-failed", "retryable": False}
    how = "failed" if result.state == "failed" else f"was {result.state}"
    error = {**fields, "message": f"Job {dependency}, which it runs after, {how}."}
    job.error = to_json(error)
    queue.to_finished(job, State.FAILED, now_ms)
    queue.emit(now_ms, "failed", job, attempt=job.attempt, error=error)


def unblock(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Let a job run that nothing blocks any more, after the delay that it was added with."""
    due_ms = due_at(job, now_ms)
    if due_ms > now_ms:
        queue.to_delayed(job, due_ms)
        queue.emit(now_ms, "delayed", job, due_ms=due_ms)
        queue.arm_for(due_ms)
    else:
        queue.to_waiting(job, queue.next_place())
        queue.emit(now_ms, "waiting", job)
        queue.arm()


# -- whole flows --


def cancel_flow(find: Find, flow: StoredFlow, now_ms: int) -> None:
    """Cancel what has not finished, dependents first, so that each is cancelled and does not fail."""
    for node in flow.plan:
        job = find_job(find, node.job.id)
        if job is not None and not job.state.finished:
            cancel(queue_of(find, job.id), job, now_ms)


def cancel(queue: StoredQueue, job: StoredJob, now_ms: int) -> None:
    """Cancel a job that has not finished; a running one is asked to stop."""
    if job.state is not State.ACTIVE:
        queue.leave(job)
        to_cancelled(queue, job, now_ms)
    elif not job.cancel_requested:
        job.cancel_requested = True
        queue.emit(now_ms, "cancelling", job)


def retry_flow(find: Find, flow: StoredFlow, now_ms: int) -> int:
    """Run what failed or was cancelled again; gives the number of jobs."""
    jobs = {node.job.id: find_job(find, node.job.id) for node in flow.plan}
    # Those before come first, so that they join their queues in the order in which they run.
    again = [job for job in reversed(jobs.values()) if job and job.state in (State.FAILED, State.CANCELLED)]
    for job in again:
        queue = queue_of(find, job.id)
        queue.leave(job)
        job.forget_runs()
        job.due_ms = None
        queue.keys.runs_again(job, now_ms)
        pending = _not_completed(job, jobs)
        if job.flow is not None:
            job.flow.pending = pending
            for dependency in pending:
                job.flow.results.pop(dependency, None)
        if pending:
            _block(queue, job, now_ms)
            queue.emit(now_ms, "blocked", job)
        else:
            queue.to_waiting(job, queue.next_place())
            queue.emit(now_ms, "waiting", job)
            queue.arm()
    return len(again)


def _not_completed(job: StoredJob, jobs: dict[str, StoredJob | None]) -> set[str]:
    edges = job.flow.edges if job.flow else {}
    return {
        dependency
        for dependency in edges
        if (found := jobs[dependency]) is not None and found.state is not State.COMPLETED
    }
