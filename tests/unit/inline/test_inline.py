"""Jobs that run where they are submitted: the same outcomes and records as on a worker, at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.config import Settings
from shared.engine.engine import JobRecord
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.states import State
from shared.errors import UnknownJobType, ValidationFailed, WrongState
from shared.inline import InlineEngine
from shared.submission import submit
from tests.engine.harness import make_job
from tests.unit.inline import program


def run(engine: InlineEngine, action: str, options: dict[str, Any] | None = None, **payload: Any) -> JobRecord:
    return submit(engine, program.CATALOGUE, f"notes.{action}", payload, options)


def test_a_job_has_run_when_it_is_submitted(engine: InlineEngine) -> None:
    job = run(engine, "plain", {"owner": "u1"}, text="a")
    assert (job.state, job.result, job.attempt) == (State.COMPLETED, {"text": "a", "attempt": 1}, 1)
    assert (job.payload, job.options, job.priority) == ({"text": "a"}, {"owner": "u1"}, 3)
    assert job.progress is not None
    assert (job.progress["percent"], job.progress["message"]) == (50, "half")
    assert [line["message"] for line in engine.logs(job.id)] == ["line"]
    assert engine.get(job.id) == job
    assert threading.get_ident() in program.THREADS, "on the caller's own thread"
    names = [event.name for event in engine.events({"notes": "0"}, block_ms=0)]
    assert names == ["added", "active", "progress", "completed"]


def test_an_async_handler(engine: InlineEngine) -> None:
    assert run(engine, "awaited", text="b").result == "B"


def test_what_is_wrong_is_refused_before_anything_runs(engine: InlineEngine) -> None:
    with pytest.raises(ValidationFailed):
        run(engine, "plain", text=7)
    with pytest.raises(UnknownJobType):
        run(engine, "unheard_of")
    assert program.RAN == []


def test_attempts_follow_each_other_at_once(engine: InlineEngine) -> None:
    job = run(engine, "flaky", number=2)
    assert (job.state, job.result) == (State.COMPLETED, 3)
    assert [attempt["outcome"] for attempt in job.attempts] == ["retry", "retry", "complete"]


def test_attempts_end(engine: InlineEngine) -> None:
    job = run(engine, "flaky", number=9)
    assert (job.state, job.attempt) == (State.FAILED, 4)
    assert job.error is not None
    assert job.error["message"] == "attempt 4"


def test_a_failure_is_told_by_the_record_and_not_raised(engine: InlineEngine) -> None:
    job = run(engine, "broken")
    assert job.state is State.FAILED
    assert job.error is not None
    assert (job.error["type"], job.error["retryable"]) == ("PermanentError", False)
    assert len(job.attempts) == 1


def test_a_time_limit_holds(engine: InlineEngine) -> None:
    job = run(engine, "slow")
    assert job.state is State.FAILED
    assert job.error is not None
    assert job.error["type"] == "TimeLimitExceeded"


def test_a_handler_that_is_not_there(engine: InlineEngine) -> None:
    job = run(engine, "lost")
    assert job.state is State.FAILED
    assert job.error is not None
    assert "no module 'tests.unit.inline.nowhere'" in job.error["message"]


@pytest.mark.parametrize("options", [{"delay_s": 3_600}, {"run_at": "2999-01-01T00:00:00Z"}])
def test_a_delay_is_not_waited_for(engine: InlineEngine, options: dict[str, Any]) -> None:
    assert run(engine, "plain", options, text="late").state is State.COMPLETED


def test_what_a_job_enqueues_runs_after_it(engine: InlineEngine) -> None:
    inner: list[JobRecord] = []

    def enqueue(payload: program.Note, job: Any) -> None:
        if payload.text == "outer":
            inner.append(run(engine, "single", text="inner"))

    program.HOOKS.append(enqueue)
    assert run(engine, "plain", text="outer").state is State.COMPLETED
    assert program.RAN == ["outer", "inner"]
    assert inner[0].state is State.WAITING, "it had not run when it was submitted"
    record = engine.get(inner[0].id)
    assert record is not None
    assert record.state is State.COMPLETED


def test_what_a_job_enqueues_with_a_delay_waits_for_it(engine: InlineEngine) -> None:
    later: list[JobRecord] = []

    def again(payload: program.Note, job: Any) -> None:
        later.append(run(engine, "plain", {"delay_s": 3_600}, text=f"{payload.text}+"))

    program.HOOKS.append(again)
    run(engine, "plain", text="x")
    assert program.RAN == ["x"], "a job that goes on for ever by enqueueing itself must not hold its caller for ever"
    program.HOOKS.clear()
    engine.promote(later[0].id)
    assert program.RAN == ["x", "x+"]


def test_flows_run_in_their_order(engine: InlineEngine) -> None:
    nodes = {
        name: make_job("notes", name="notes.plain", body=b'{"a":[{"text":"%s"}]}' % name.encode()) for name in "abc"
    }
    flow = NewFlow(
        new_job_id("notes"),
        [
            FlowJob(nodes["c"], [Dependency(nodes["b"].id)]),
            FlowJob(nodes["b"], [Dependency(nodes["a"].id)]),
            FlowJob(nodes["a"]),
        ],
    )
    engine.add_flow(flow)
    assert program.RAN == ["a", "b", "c"]
    record = engine.flow(flow.id)
    assert record is not None
    assert record.state == "completed"


def test_a_paused_queue_keeps_its_jobs_until_it_is_resumed(engine: InlineEngine) -> None:
    engine.pause("notes")
    job = run(engine, "plain", text="later")
    assert (job.state, program.RAN) == (State.WAITING, [])
    engine.resume("notes")
    assert program.RAN == ["later"]


def test_a_retry_by_hand_runs_at_once(engine: InlineEngine) -> None:
    job = run(engine, "flaky", {"attempts": 1}, number=1)
    assert job.state is State.FAILED
    engine.retry(job.id)
    record = engine.get(job.id)
    assert record is not None
    assert record.state is State.FAILED, "attempts are counted from 1 again, and it has one"
    assert len(record.attempts) == 2
    with pytest.raises(WrongState):
        engine.promote(job.id)


def test_callers_run_side_by_side(engine: InlineEngine) -> None:
    together = threading.Barrier(3, timeout=20)
    program.HOOKS.append(lambda payload, job: together.wait())
    with ThreadPoolExecutor(3) as pool:
        jobs = [*pool.map(lambda text: run(engine, "plain", text=text), "abc")]
    assert [job.result["text"] for job in jobs] == ["a", "b", "c"], "each gets its own"


def test_the_limit_of_a_queue_holds(engine: InlineEngine) -> None:
    most: list[int] = []
    program.HOOKS.append(lambda payload, job: most.append(engine.counts("single").active))
    with ThreadPoolExecutor(4) as pool:
        jobs = [*pool.map(lambda text: run(engine, "single", text=text), "abcdefgh")]
    assert {job.state for job in jobs} == {State.COMPLETED}
    assert set(most) == {1}


def test_one_process_keeps_the_jobs() -> None:
    assert Settings().queue_enabled
    assert not Settings(queue_enabled=False).queue_enabled
    with pytest.raises(ValueError, match="CALLBOARD_API_WORKERS"):
        Settings(queue_enabled=False, api_workers=2)
