"""One cycle: finishes, and what becomes of them."""

from __future__ import annotations

import json

import pytest

from shared.engine.engine import Engine, FinishStatus, Outcome
from shared.engine.states import State
from tests.engine.harness import (
    ERROR,
    Rig,
    add,
    add_one,
    cycle,
    end,
    finish,
    state_of,
    take,
    take_one,
)

COMMITTED, ALREADY, STALE, GONE = (
    FinishStatus.COMMITTED,
    FinishStatus.ALREADY,
    FinishStatus.STALE,
    FinishStatus.GONE,
)


def test_an_empty_queue_gives_nothing(engine: Engine) -> None:
    reply = cycle(engine, want=5)
    assert (reply.jobs, reply.finishes, reply.next_ms) == ([], [], None)


def test_no_more_jobs_than_wanted(engine: Engine) -> None:
    add(engine, 3)
    assert cycle(engine, want=0).jobs == []
    assert len(cycle(engine, want=2).jobs) == 2
    assert len(cycle(engine, want=2).jobs) == 1


def test_a_run_is_recorded(engine: Engine) -> None:
    job_id = add_one(engine)
    job = take_one(engine, worker="host:1")
    record = engine.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.worker) == (State.ACTIVE, 1, "host:1")
    assert record.started_ms is not None
    (running,) = record.attempts
    assert running == {
        "attempt": 1,
        "started_ms": record.started_ms,
        "ended_ms": None,
        "worker": "host:1",
        "outcome": None,
        "error": None,
    }
    assert end(engine, job, data=b'{"rows":12}') is COMMITTED
    record = engine.get(job_id)
    assert record is not None
    assert (record.state, record.result, record.error) == (State.COMPLETED, {"rows": 12}, None)
    assert record.finished_ms is not None
    assert record.finished_ms >= record.created_ms
    (ended,) = record.attempts
    assert (ended["outcome"], ended["ended_ms"]) == ("complete", record.finished_ms)


@pytest.mark.parametrize("result", [None, 0, False, "", [], "größe", {"a": [1, 2]}, 1.5])
def test_results_come_back_as_they_were(engine: Engine, result: object) -> None:
    job_id = add_one(engine)
    end(engine, take_one(engine), data=json.dumps(result).encode())
    record = engine.get(job_id)
    assert record is not None
    assert record.result == result
    assert type(record.result) is type(result)


def test_a_retry_with_a_delay(rig: Rig) -> None:
    job_id = add_one(rig.engine, body=b'{"a":[{"try":1}]}')
    job = take_one(rig.engine)
    reply = cycle(rig.engine, [finish(job, Outcome.RETRY, delay_ms=30_000, body=b'{"a":[{"try":2}]}')])
    assert reply.finishes == [COMMITTED]
    assert reply.next_ms is not None
    assert 20_000 < reply.next_ms <= 30_000
    record = rig.engine.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.payload) == (State.DELAYED, 1, {"try": 2})
    assert record.error == json.loads(ERROR)
    assert [(a["attempt"], a["outcome"], a["error"]) for a in record.attempts] == [(1, "retry", json.loads(ERROR))]
    rig.make_due(job_id)
    again = take_one(rig.engine)
    assert (again.attempt, again.body) == (2, b'{"a":[{"try":2}]}')
    assert again.token > job.token
    end(rig.engine, again)
    record = rig.engine.get(job_id)
    assert record is not None
    assert record.error is None, "it succeeded in the end; what failed before is told by its attempts"
    assert [(a["attempt"], a["outcome"]) for a in record.attempts] == [(1, "retry"), (2, "complete")]


def test_a_retry_at_once_goes_to_the_end_and_keeps_its_body(engine: Engine) -> None:
    first, second = add(engine, 2, body=b"as it was")
    end(engine, take_one(engine), Outcome.RETRY)
    jobs = take(engine, 2)
    assert [job.id for job in jobs] == [second, first]
    assert (jobs[1].attempt, jobs[1].body) == (2, b"as it was")


def test_a_retry_forgets_stalls(rig: Rig) -> None:
    add_one(rig.engine)
    rig.expire(take_one(rig.engine).id)
    stalled = take_one(rig.engine)
    assert stalled.stalls == 1
    end(rig.engine, stalled, Outcome.RETRY)
    assert take_one(rig.engine).stalls == 0


def test_a_failure(engine: Engine) -> None:
    job_id = add_one(engine)
    assert end(engine, take_one(engine), Outcome.FAIL) is COMMITTED
    record = engine.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.error) == (State.FAILED, 1, json.loads(ERROR))
    assert [a["outcome"] for a in record.attempts] == ["fail"]


@pytest.mark.parametrize("outcome", [Outcome.FAIL, Outcome.RETRY, Outcome.CANCEL, Outcome.COMPLETE])
def test_an_end_without_data_can_be_read(engine: Engine, outcome: Outcome) -> None:
    job_id = add_one(engine)
    assert end(engine, take_one(engine), outcome, data=b"") is COMMITTED
    record = engine.get(job_id)
    assert record is not None
    assert record.result is None
    assert record.attempts[0]["outcome"] == outcome.value
    assert engine.events({"q": "0"}, block_ms=0)[-1].job_id == job_id


def test_a_job_that_is_handed_back_is_next_and_lost_no_attempt(engine: Engine) -> None:
    ids = add(engine, 4)
    jobs = take(engine, 2)
    reply = cycle(engine, [finish(job, Outcome.RELEASE) for job in reversed(jobs)])
    assert reply.finishes == [COMMITTED, COMMITTED]
    record = engine.get(ids[0])
    assert record is not None
    assert (record.state, record.attempt, record.attempts) == (State.WAITING, 0, [])
    again = take(engine, 4)
    assert [job.id for job in again] == ids
    assert {job.attempt for job in again} == {1}


def test_a_job_that_is_handed_back_stays_behind_better_priorities(engine: Engine) -> None:
    worse = add_one(engine, priority=5)
    job = take_one(engine)
    better = add_one(engine, priority=1)
    end(engine, job, Outcome.RELEASE)
    assert [job.id for job in take(engine, 2)] == [better, worse]


def test_a_run_that_ends_cancelled(engine: Engine) -> None:
    job_id = add_one(engine)
    end(engine, take_one(engine), Outcome.CANCEL)
    record = engine.get(job_id)
    assert record is not None
    assert record.state is State.CANCELLED
    assert record.error is not None
    assert record.error["type"] == "JobCancelled"


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("want", [0, 5])
def test_the_repeat_of_a_finish_changes_nothing(engine: Engine, outcome: Outcome, want: int) -> None:
    """The reply was lost, so the caller repeats the call; what the first call leased meanwhile changes nothing."""
    add_one(engine)
    ends = [finish(take_one(engine), outcome, delay_ms=60_000 if outcome is Outcome.RETRY and want == 0 else 0)]
    first = cycle(engine, ends, want=want, request="lost")
    counts, last = engine.counts("q"), engine.last_event("q")
    again = cycle(engine, ends, want=want, request="lost", repeat=True)
    assert (first.finishes, again.finishes) == ([COMMITTED], [ALREADY])
    assert again.jobs == first.jobs
    assert engine.counts("q") == counts
    assert engine.last_event("q") == last


def test_the_same_finish_twice_in_one_call(engine: Engine) -> None:
    add_one(engine)
    job = take_one(engine)
    assert cycle(engine, [finish(job), finish(job, Outcome.FAIL)]).finishes == [COMMITTED, ALREADY]
    assert engine.counts("q").completed == 1


@pytest.mark.parametrize("outcome", list(Outcome))
def test_a_finish_with_a_lease_that_was_lost_changes_nothing(rig: Rig, outcome: Outcome) -> None:
    job_id = add_one(rig.engine)
    old = take_one(rig.engine)
    rig.expire(job_id)
    new = take_one(rig.engine, worker="w2")
    assert new.token > old.token
    before = rig.engine.get(job_id)
    assert end(rig.engine, old, outcome) is STALE
    assert rig.engine.get(job_id) == before
    assert end(rig.engine, new) is COMMITTED
    assert end(rig.engine, old, outcome) is STALE
    assert state_of(rig.engine, job_id) == "completed"


def test_a_finish_of_a_job_that_was_reaped_and_waits_is_stale(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    rig.expire(job_id)
    assert rig.engine.reap("q") == [job_id]
    assert end(rig.engine, job) is STALE
    assert state_of(rig.engine, job_id) == "waiting"


def test_a_lease_that_ran_out_unnoticed_still_counts(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    rig.expire(job_id)
    assert end(rig.engine, job) is COMMITTED, "nobody else had it"
    assert state_of(rig.engine, job_id) == "completed"


def test_a_finish_of_a_job_that_is_gone(engine: Engine) -> None:
    job_id = add_one(engine)
    job = take_one(engine)
    end(engine, job)
    engine.remove(job_id)
    assert end(engine, job) is GONE


def test_statuses_come_in_the_order_of_the_finishes(rig: Rig) -> None:
    add(rig.engine, 4)
    a, b, c, d = take(rig.engine, 4)
    end(rig.engine, a)
    rig.expire(b.id)
    rig.engine.reap("q")
    end(rig.engine, c)
    rig.engine.remove(c.id)
    ends = [finish(job) for job in (d, c, b, a)]
    assert cycle(rig.engine, ends).finishes == [COMMITTED, GONE, STALE, ALREADY]


@pytest.mark.parametrize(("outcome", "earlier"), [("retry", "STALE"), ("release", "STALE"), ("complete", "ALREADY")])
def test_two_runs_of_a_job_in_one_call(engine: Engine, outcome: str, earlier: str) -> None:
    """As if each had come by a call of its own: of runs that were sent back, the last alone is remembered."""
    add_one(engine)
    first = take_one(engine)
    end(engine, first, Outcome.RETRY)
    batch = [finish(take_one(engine), Outcome(outcome)), finish(first, Outcome.RETRY)]
    assert cycle(engine, batch).finishes == [FinishStatus.COMMITTED, FinishStatus[earlier]]
