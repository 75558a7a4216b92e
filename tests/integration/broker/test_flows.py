"""Flows with real workers: chains, batches, failures, and what is done to a whole flow."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from shared.engine.engine import JobRecord
from shared.engine.flows import Dependency, OnFailure
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import PermanentError
from shared.flows import FlowBuilder, JobBatch, JobChain, SubmittedFlow, submit_flow
from tests.integration.broker import isolated
from tests.integration.broker.patience import eventually
from tests.integration.broker.program import Program


def number(payload: Any, job: Any) -> int:
    """Give its number, or fail when it is negative."""
    if payload.number < 0:
        raise PermanentError("negative")
    return int(payload.number)


def add_up(payload: Any, job: Any) -> dict[str, Any]:
    """Tell what the jobs before it gave."""
    ends = {job_id: [end.state, end.result, end.error and end.error["type"]] for job_id, end in job.results.items()}
    return {"ends": ends, "total": sum(end.result or 0 for end in job.results.values())}


async def add_up_async(payload: Any, job: Any) -> dict[str, Any]:
    """Do the same on the event loop."""
    return add_up(payload, job)


def jobs_of(program: Program, flow: SubmittedFlow, state: str) -> list[JobRecord]:
    """Wait until a flow is in a state; gives its jobs."""

    def there() -> bool:
        record = program.engine.flow(flow.id)
        assert record is not None
        return record.state == state and all(job is not None and job.state.finished for job in record.jobs.values())

    eventually(there, why=f"the flow has {state}")
    return [program.get(job_id) for job_id in flow.job_ids]


def test_a_job_of_a_chain_reads_the_result_of_the_one_before(engine: RedisEngine) -> None:
    program = Program(engine, {"number": number, "sum": add_up})
    chain = JobChain(program.catalogue, "two").then("test.number", {"number": 4}).then("test.sum", {})
    with program.running():
        flow = submit_flow(engine, chain)
        first, second = jobs_of(program, flow, "completed")
    assert second.result == {"ends": {first.id: ["completed", 4, None]}, "total": 4}
    assert first.flow_id == second.flow_id == flow.id
    assert first.finished_ms is not None
    assert second.started_ms is not None
    assert first.finished_ms <= second.started_ms
    record = engine.flow(flow.id)
    assert record is not None
    assert record.name == "two"


def test_adding_a_flow_again_changes_nothing(engine: RedisEngine) -> None:
    program = Program(engine, {"number": number, "sum": add_up})
    chain = JobChain(program.catalogue).then("test.number", {"number": 4}).then("test.sum", {})
    assert submit_flow(engine, chain) == submit_flow(engine, chain)
    assert (program.stored("number"), program.stored("sum")) == (1, 1)


def test_a_batch_calls_back_when_all_have_ended(engine: RedisEngine) -> None:
    program = Program(engine, {"number": number, "sum": add_up, "async": add_up_async})
    batch = JobBatch(program.catalogue)
    for value in (1, 2, -3, 4):
        batch.add("test.number", {"number": value})
    batch.on_completion("test.sum", {}).on_completion("test.async", {}).on_success("test.sum", {"text": "never"})
    with program.running():
        flow = submit_flow(engine, batch)
        *members, callback, other, success = jobs_of(program, flow, "failed")
    assert [job.state for job in members] == [State.COMPLETED, State.COMPLETED, State.FAILED, State.COMPLETED]
    assert callback.result["total"] == 7
    assert callback.result["ends"][members[2].id] == ["failed", None, "PermanentError"]
    assert other.result == callback.result
    assert (success.state, success.attempt) == (State.FAILED, 0)
    assert callback.started_ms is not None
    assert all(job.finished_ms is not None and job.finished_ms <= callback.started_ms for job in members)


def test_a_process_of_its_own_reads_results_too(engine: RedisEngine, tmp_path: Path) -> None:
    program = Program(engine, {"number": number, "sum": isolated.add_up}, isolated=("sum",), model=isolated.Task)
    batch = JobBatch(program.catalogue)
    for value in (1, -2, 3):
        batch.add("test.number", {"number": value})
    batch.on_completion("test.sum", {"folder": str(tmp_path)})
    with program.running():
        *members, callback = jobs_of(program, submit_flow(engine, batch), "failed")
    assert callback.state is State.COMPLETED, callback.error
    assert callback.result["total"] == 4
    assert callback.result["ends"][members[1].id] == ["failed", None, "PermanentError"]


def test_a_failure_goes_down_a_chain_until_somebody_goes_on(engine: RedisEngine) -> None:
    program = Program(engine, {"number": number, "sum": add_up})
    chain = (
        JobChain(program.catalogue)
        .then("test.number", {"number": -1})
        .then("test.number", {"number": 2})
        .then("test.sum", {}, on_failure="continue")
    )
    with program.running():
        first, second, third = jobs_of(program, submit_flow(engine, chain), "failed")
    assert (first.state, second.state, third.state) == (State.FAILED, State.FAILED, State.COMPLETED)
    assert second.attempt == 0
    assert [end[0] for end in third.result["ends"].values()] == ["failed"]


def test_any_graph_can_be_built(engine: RedisEngine) -> None:
    program = Program(engine, {"number": number, "sum": add_up})
    build = FlowBuilder(program.catalogue, "diamond")
    top = build.add("test.number", {"number": 1})
    sides = [build.add("test.number", {"number": value}, after=[top]) for value in (2, -3)]
    edges: list[str | Dependency] = [sides[0], Dependency(sides[1], OnFailure.CONTINUE)]
    bottom = build.add("test.sum", {"text": "last"}, {"priority": "high"}, after=edges)
    with program.running():
        flow = submit_flow(engine, build)
        jobs_of(program, flow, "failed")
    assert flow.job_ids == (top, *sides, bottom)
    assert program.get(bottom).result["total"] == 2
    assert program.get(bottom).priority == 2


def test_a_flow_that_is_cancelled_runs_again_from_where_it_stopped(engine: RedisEngine) -> None:
    began, gate = threading.Event(), threading.Event()
    runs: list[int] = []

    def gated(payload, job):
        runs.append(payload.number)
        if payload.number == 2 and not gate.is_set():
            began.set()
            eventually(lambda: job.raise_if_cancelled() or gate.is_set())
        return payload.number

    program = Program(engine, {"number": gated, "sum": add_up})
    chain = JobChain(program.catalogue)
    chain.then("test.number", {"number": 1}).then("test.number", {"number": 2}).then("test.sum", {})
    with program.running():
        flow = submit_flow(engine, chain)
        assert began.wait(20)
        engine.cancel_flow(flow.id)
        first, second, third = jobs_of(program, flow, "cancelled")
        assert (first.state, second.state, third.state) == (State.COMPLETED, State.CANCELLED, State.CANCELLED)
        gate.set()
        assert engine.retry_flow(flow.id) == 2
        *_, last = jobs_of(program, flow, "completed")
    assert last.result["total"] == 2
    assert runs == [1, 2, 2], "what had completed does not run again"


def test_a_flow_that_failed_runs_again_with_what_depends_on_it(engine: RedisEngine) -> None:
    mended = threading.Event()

    def flaky(payload, job):
        if payload.number == 2 and not mended.is_set():
            raise PermanentError("not yet")
        return payload.number

    program = Program(engine, {"number": flaky, "sum": add_up})
    batch = JobBatch(program.catalogue)
    for value in (1, 2, 3):
        batch.add("test.number", {"number": value})
    batch.on_success("test.sum", {})
    with program.running():
        flow = submit_flow(engine, batch)
        jobs_of(program, flow, "failed")
        mended.set()
        assert engine.retry_flow(flow.id) == 2
        *_, callback = jobs_of(program, flow, "completed")
    assert callback.result["total"] == 6


def test_a_job_without_a_flow_runs_after_none(engine: RedisEngine) -> None:
    program = Program(engine, {"sum": add_up})
    with program.running():
        assert program.finished(program.put("sum")).result == {"ends": {}, "total": 0}
