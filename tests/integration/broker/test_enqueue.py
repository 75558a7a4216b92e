"""What a job leaves behind: jobs that are added with its end, exactly if it completes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shared.contracts import QueueContract, QueueLimits
from shared.engine.engine import LeaseStatus
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import LeaseLost, PermanentError, RetryableError, UnknownJobType, ValidationFailed
from shared.staging import STAGED_JOBS, StagedJobs
from tests.integration.broker import isolated
from tests.integration.broker.contracts import Note, Probe
from tests.integration.broker.patience import eventually
from tests.integration.broker.program import Program
from tests.integration.broker.workers import running

Handler = Callable[..., Any]


def silent(payload: Any, job: Any) -> None:
    """Do nothing."""


def test_what_a_job_enqueues_runs_after_it(engine: RedisEngine) -> None:
    def first(payload, job):
        ids = [job.enqueue("test.second", {"number": number}, {"priority": 9 - number}) for number in range(3)]
        assert all(engine.get(job_id) is None for job_id in ids), "nothing goes out before the end"
        return ids

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        ids = program.finished(program.put("first")).result
        jobs = [program.finished(job_id) for job_id in ids]
    assert [(job.payload, job.priority) for job in jobs] == [({"number": n}, 9 - n) for n in range(3)]


def test_an_async_handler_may_too(engine: RedisEngine) -> None:
    async def first(payload: Note, job: Any) -> str:
        job_id: str = job.enqueue("test.second", {"text": "a"})
        await asyncio.sleep(0)
        return job_id

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        job_id = program.finished(program.put("first")).result
        assert program.finished(job_id).payload == {"text": "a"}


def test_and_one_in_a_process_of_its_own(engine: RedisEngine, tmp_path: Path) -> None:
    program = Program(
        engine, {"first": isolated.leave_jobs, "second": silent}, isolated=("first",), model=isolated.Task
    )
    with program.running():
        job = program.finished(program.put("first", {"folder": str(tmp_path), "number": 3}))
        assert job.state is State.COMPLETED, job.error
        ids, errors = job.result
        jobs = [program.finished(job_id) for job_id in ids]
    assert [(job.payload, job.options["tags"]) for job in jobs] == [({"number": n}, ["x"]) for n in range(3)]
    assert [error[0] for error in errors] == [
        "UnknownJobType",
        "ValidationFailed",
        "ValidationFailed",
        "PermanentError",
    ]
    assert errors[1][1] == [{"field": "numbr", "message": "Extra inputs are not permitted"}]


def test_nothing_is_left_by_an_isolated_run_that_fails(engine: RedisEngine, tmp_path: Path) -> None:
    program = Program(
        engine, {"first": isolated.leave_jobs, "second": silent}, isolated=("first",), model=isolated.Task, attempts=1
    )
    with program.running():
        job = program.finished(program.put("first", {"folder": str(tmp_path), "number": 3, "text": "fail"}))
    assert job.state is State.FAILED
    assert program.stored("second") == 0


@pytest.mark.parametrize("how", ["retry", "fail", "result", "cancel", "timeout", "lost"])
def test_a_run_that_does_not_complete_leaves_nothing(engine: RedisEngine, how: str) -> None:
    began, gate = threading.Event(), threading.Event()

    def first(payload, job):
        job.enqueue("test.second", {"number": job.token})
        began.set()
        if how == "retry" and job.attempt == 1:
            raise RetryableError("later")
        if how == "fail":
            raise PermanentError("never")
        if how == "result":
            return {(1, 2): "no JSON"}
        if how in ("cancel", "timeout"):
            eventually(lambda: False)
        if how == "lost" and job.token == 1:
            gate.wait(10)
        return None

    program = Program(engine, {"first": first, "second": silent}, timeout_s=0.1 if how == "timeout" else 60, attempts=2)
    with program.running():
        job_id = program.put("first")
        assert began.wait(10)
        if how == "cancel":
            engine.cancel(job_id)
        if how == "lost":
            engine.renew("first", [(job_id, 1)], -1)
            eventually(lambda: engine.reap("first") or program.get(job_id).stalls)
        job = program.finished(job_id)
        gate.set()
    # Stopping the worker has waited for the late run, and its end was refused.
    assert (job.state is State.COMPLETED) == (how in ("retry", "lost"))
    left = program.stored("second")
    if how in ("retry", "lost"):
        states = (State.WAITING, State.COMPLETED)
        (payload,) = [job.payload for state in states for job in engine.list("second", state).jobs]
        assert payload is not None
        assert payload["number"] > 1, "that of the run which counted"
    assert left == (how in ("retry", "lost"))


def test_what_does_not_fit_is_told_at_once_and_the_job_may_go_on(engine: RedisEngine) -> None:
    wrong: list[tuple[str, Any, Any, type[Exception]]] = [
        ("test.nothing", {}, None, UnknownJobType),
        ("test.second", {"number": "many"}, None, ValidationFailed),
        ("test.second", {}, {"attempts": 0}, ValidationFailed),
        ("test.second", {}, {"idempotency_key": "k"}, ValidationFailed),
    ]

    def first(payload, job):
        for job_type, given, options, error in wrong:
            with pytest.raises(error):
                job.enqueue(job_type, given, options)
        return job.enqueue("test.second", {})

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        job = program.finished(program.put("first"))
        assert job.state is State.COMPLETED, job.error
        program.finished(job.result)
    assert program.stored("second") == 1


def test_a_run_may_leave_many_and_not_too_many(engine: RedisEngine) -> None:
    def first(payload, job):
        for number in range(payload.number):
            job.enqueue("test.second", {"number": number})

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        assert program.finished(program.put("first", {"number": STAGED_JOBS})).state is State.COMPLETED
        eventually(lambda: engine.counts("second").completed == STAGED_JOBS, within=60)
        job = program.finished(program.put("first", {"number": STAGED_JOBS + 1}))
    assert job.state is State.FAILED
    assert job.error is not None
    assert "1,000 jobs" in job.error["message"]
    assert program.stored("second") == STAGED_JOBS


def test_payloads_are_bounded_together(engine: RedisEngine) -> None:
    def first(payload, job):
        for _ in range(payload.number):
            job.enqueue("test.second", {"text": "x" * (1 << 20)})

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        job = program.finished(program.put("first", {"number": 4}))
    assert job.error is not None
    assert "keep the data in a file" in job.error["message"]


def test_a_key_is_shared_with_jobs_that_others_submit(engine: RedisEngine) -> None:
    def first(payload, job):
        return job.enqueue("test.second", {}, {"dedupe": {"key": "k"}})

    program = Program(engine, {"first": first, "second": silent})
    engine.pause("second")
    holder = program.put("second", dedupe={"key": "k"})
    with program.running():
        mine = program.finished(program.put("first")).result
    assert program.stored("second") == 1
    assert engine.get(mine) is None
    assert program.get(holder).state is State.WAITING


def test_a_full_queue_takes_them_all_the_same(engine: RedisEngine) -> None:
    def first(payload, job):
        for _ in range(5):
            job.enqueue("test.second", {})

    full = QueueContract("second", limits=QueueLimits(max_length=1))
    program = Program(engine, {"first": first, "second": silent}, queues=(full,))
    engine.pause("second")
    program.put("second")
    with program.running():
        program.finished(program.put("first"))
    assert program.stored("second") == 6


def test_a_worker_without_a_catalogue_says_what_it_lacks(engine: RedisEngine) -> None:
    probe = Probe(engine, lambda payload, job: job.enqueue("probe.run", {}), attempts=1)
    with running(probe.broker):
        job = probe.finished(probe.put())
    assert job.error is not None
    assert "Jobs(engine, catalogue)" in job.error["message"]


def test_a_handler_that_goes_on_after_its_run_is_refused(engine: RedisEngine) -> None:
    program = Program(engine, {"first": silent})
    staged = StagedJobs(program.catalogue)
    staged.stage("test.first", {})
    assert len(staged.close()) == 1
    with pytest.raises(LeaseLost):
        staged.stage("test.first", {})
    assert len(staged.close()) == 1


def test_a_run_that_completes_although_it_was_cancelled_has_done_its_work(engine: RedisEngine) -> None:
    began = threading.Event()

    def first(payload, job):
        began.set()
        eventually(lambda: job.cancelled)
        assert job.status is LeaseStatus.CANCEL_REQUESTED
        return job.enqueue("test.second", {})

    program = Program(engine, {"first": first, "second": silent})
    with program.running():
        job_id = program.put("first")
        assert began.wait(10)
        engine.cancel(job_id)
        assert program.finished(program.finished(job_id).result).state is State.COMPLETED
