"""Leases: renewing, fencing, and what happens when one runs out."""

from __future__ import annotations

import pytest

from shared.engine.engine import DEFAULT_MAX_STALLS, Engine, FinishStatus, LeasedJob, LeaseStatus, Outcome
from shared.engine.states import State
from tests.engine.harness import Rig, add, add_one, cycle, end, read, state_of, take, take_one

HELD, LOST, CANCEL_REQUESTED = LeaseStatus.HELD, LeaseStatus.LOST, LeaseStatus.CANCEL_REQUESTED


def stall(rig: Rig, job: LeasedJob) -> None:
    """Let the worker of a job die."""
    rig.expire(job.id)
    assert rig.engine.reap("q") == [job.id]


def test_renewing_extends_a_lease(engine: Engine) -> None:
    add_one(engine)
    job = take_one(engine, lease_ms=20_000)
    assert engine.renew("q", [(job.id, job.token)], 500_000) == [HELD]
    next_ms = cycle(engine).next_ms
    assert next_ms is not None
    assert 400_000 < next_ms <= 500_001


def test_renewing_answers_for_each_lease(rig: Rig) -> None:
    ended, reaped, wanted, held = add(rig.engine, 4)
    jobs = {job.id: job for job in take(rig.engine, 4)}
    end(rig.engine, jobs[ended])
    stall(rig, jobs[reaped])
    rig.engine.cancel(wanted)
    leases = [(job_id, jobs[job_id].token) for job_id in (ended, reaped, wanted, held)]
    unknown = ("q.01ARZ3NDEKTSV4RRFFQ69G5FAV", 1)
    expected = [LOST, LOST, CANCEL_REQUESTED, HELD, LOST]
    assert rig.engine.renew("q", [*leases, unknown], 60_000) == expected
    assert [rig.engine.lease_status(*lease) for lease in (*leases, unknown)] == expected
    assert rig.engine.counts("q").active == 2, "renewing brings nothing back"


def test_renewing_nothing(engine: Engine) -> None:
    assert engine.renew("q", [], 1_000) == []


def test_a_lease_that_ran_out_unnoticed_can_be_renewed(rig: Rig) -> None:
    add_one(rig.engine)
    job = take_one(rig.engine)
    rig.expire(job.id)
    assert rig.engine.renew("q", [(job.id, job.token)], 60_000) == [HELD]
    assert rig.engine.reap("q") == []


def test_an_older_lease_cannot_be_renewed(rig: Rig) -> None:
    add_one(rig.engine)
    old = take_one(rig.engine)
    stall(rig, old)
    new = take_one(rig.engine, worker="w2")
    assert rig.engine.renew("q", [(old.id, old.token)], 60_000) == [LOST]
    assert rig.engine.renew("q", [(new.id, new.token)], 60_000) == [HELD]


def test_each_lease_has_a_greater_token(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    tokens = []
    for outcome in (Outcome.RELEASE, Outcome.RETRY, Outcome.FAIL):
        job = take_one(rig.engine)
        tokens.append(job.token)
        end(rig.engine, job, outcome)
    rig.engine.retry(job_id)
    stalled = take_one(rig.engine)
    stall(rig, stalled)
    tokens += [stalled.token, take_one(rig.engine).token]
    assert tokens == sorted(set(tokens))


def test_only_leases_that_ran_out_are_reaped(rig: Rig) -> None:
    first, second, third = add(rig.engine, 3)
    take(rig.engine, 3)
    assert rig.engine.reap("q") == []
    rig.expire(first)
    rig.expire(third)
    assert sorted(rig.engine.reap("q")) == [first, third]
    assert [state_of(rig.engine, job_id) for job_id in (first, second, third)] == ["waiting", "active", "waiting"]


def test_a_stall_is_counted_and_costs_no_attempt(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    stall(rig, take_one(rig.engine, worker="w-dead"))
    record = rig.engine.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.stalls) == (State.WAITING, 0, 1)
    assert record.error is not None
    assert record.error["code"] == "stalled"
    assert [(a["attempt"], a["outcome"], a["worker"]) for a in record.attempts] == [(1, "stalled", "w-dead")]
    again = take_one(rig.engine)
    assert (again.attempt, again.stalls) == (1, 1)


def test_a_job_that_completes_after_a_stall_has_no_error(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    stall(rig, take_one(rig.engine))
    end(rig.engine, take_one(rig.engine))
    assert read(rig.engine, job_id).error is None


def test_a_stalled_job_runs_before_those_that_wait(rig: Rig) -> None:
    stalled = add_one(rig.engine)
    job = take_one(rig.engine)
    later = add_one(rig.engine)
    stall(rig, job)
    assert [job.id for job in take(rig.engine, 2)] == [stalled, later]


def test_a_cycle_reaps_and_gives_the_job_to_its_caller(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    old = take_one(rig.engine)
    rig.expire(job_id)
    new = take_one(rig.engine, worker="w2")
    assert (new.id, new.stalls) == (job_id, 1)
    assert end(rig.engine, old) is FinishStatus.STALE


def test_many_are_reaped_over_several_calls(rig: Rig) -> None:
    ids = add(rig.engine, 150)
    take(rig.engine, 150)
    for job_id in ids:
        rig.expire(job_id)
    assert cycle(rig.engine).next_ms == 0, "there is more to reap: come again at once"
    waiting = rig.engine.counts("q").waiting
    assert 0 < waiting <= 100
    assert len(rig.engine.reap("q")) == 150 - waiting
    assert rig.engine.counts("q").waiting == 150
    assert [job.id for job in take(rig.engine, 150)] == ids


@pytest.mark.parametrize(("given", "allowed"), [(None, DEFAULT_MAX_STALLS), (0, 0), (1, 1), (5, 5)])
def test_a_job_that_kills_its_workers_fails(rig: Rig, given: int | None, allowed: int) -> None:
    job_id = add_one(rig.engine, max_stalls=given)
    for _ in range(allowed):
        stall(rig, take_one(rig.engine))
        assert state_of(rig.engine, job_id) == "waiting"
    stall(rig, take_one(rig.engine))
    record = rig.engine.get(job_id)
    assert record is not None
    assert (record.state, record.stalls) == (State.FAILED, allowed + 1)
    assert record.error is not None
    assert record.error["code"] == "max-stalls"
    assert f"{allowed + 1} times" in record.error["message"]
    assert [a["outcome"] for a in record.attempts] == ["stalled"] * (allowed + 1)


def test_only_the_last_attempts_are_kept(rig: Rig) -> None:
    job_id = add_one(rig.engine, max_stalls=1_000)
    for _ in range(30):
        end(rig.engine, take_one(rig.engine), Outcome.RETRY)
    record = rig.engine.get(job_id)
    assert record is not None
    assert [a["attempt"] for a in record.attempts] == list(range(11, 31))


def test_a_job_to_be_cancelled_is_not_run_again_when_its_worker_dies(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    assert rig.engine.cancel(job_id) is State.ACTIVE
    stall(rig, job)
    record = rig.engine.get(job_id)
    assert record is not None
    assert record.state is State.CANCELLED
    assert record.error is not None
    assert record.error["type"] == "JobCancelled"


def progress(engine: Engine, job: LeasedJob, percent: float) -> None:
    assert engine.progress(job.id, job.token, percent, None, {}) is HELD


def stalls_of(engine: Engine, job_id: str) -> int:
    record = engine.get(job_id)
    assert record is not None
    return record.stalls


def test_getting_further_than_ever_clears_the_stalls(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    for percent in (10, 20):
        job = take_one(rig.engine)
        progress(rig.engine, job, percent)
        assert stalls_of(rig.engine, job_id) == 0
        stall(rig, job)
        assert stalls_of(rig.engine, job_id) == 1


def test_getting_as_far_as_before_does_not_clear_the_stalls(rig: Rig) -> None:
    """A job that always kills its worker at 50 % must be found out."""
    job_id = add_one(rig.engine, max_stalls=2)
    for expected in (1, 2, 3):
        job = take_one(rig.engine)
        for percent in (0, 25, 50):
            progress(rig.engine, job, percent)
        stall(rig, job)
        assert stalls_of(rig.engine, job_id) == expected
    assert state_of(rig.engine, job_id) == "failed"


def test_progress_is_compared_as_a_number(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    progress(rig.engine, job, 9.5)
    stall(rig, job)
    job = take_one(rig.engine)
    progress(rig.engine, job, 9.4)
    assert stalls_of(rig.engine, job_id) == 1
    progress(rig.engine, job, 10)
    assert stalls_of(rig.engine, job_id) == 0
