"""Another priority for jobs that have not begun."""

from __future__ import annotations

import pytest

from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN
from shared.engine.engine import Engine, Outcome
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.errors import JobNotFound, ValidationFailed, WrongState
from tests.engine.harness import (
    Rig,
    add,
    add_one,
    cycle,
    end,
    make_job,
    read,
    run_one,
    settle,
    state_of,
    take,
    take_one,
)


def waiting(engine: Engine) -> list[str]:
    return [job.id for job in cycle(engine, want=100).jobs]


@pytest.mark.parametrize("priority", [PRIORITY_MIN, -1, 1, 4, PRIORITY_MAX])
def test_a_waiting_job_moves(engine: Engine, priority: int) -> None:
    moved, other = add(engine, 2)
    engine.reprioritise(moved, priority)
    record = read(engine, moved)
    assert (record.priority, record.state.value, record.attempt) == (priority, "waiting", 0)
    job = take(engine, 2)[0 if priority < 0 else 1]
    assert (job.id, job.priority) == (moved, priority)
    assert read(engine, other).priority == 0
    assert engine.counts("q").active == 2


def test_among_its_new_equals_it_goes_last(engine: Engine) -> None:
    low = add(engine, 3, priority=5)
    high = add(engine, 3, priority=1)
    engine.reprioritise(low[1], 1)
    engine.reprioritise(low[0], 1)
    later = add_one(engine, priority=1)
    assert waiting(engine) == [*high, low[1], low[0], later, low[2]]


def test_the_same_priority_again_makes_it_last(engine: Engine) -> None:
    first, second, third = add(engine, 3)
    engine.reprioritise(first, 0)
    assert waiting(engine) == [second, third, first]


def test_a_delayed_job_keeps_its_time(rig: Rig) -> None:
    job_id = add_one(rig.engine, delay_ms=60_000, priority=5)
    due_ms = read(rig.engine, job_id).due_ms
    rig.engine.reprioritise(job_id, -3)
    record = read(rig.engine, job_id)
    assert (record.state.value, record.priority, record.due_ms) == ("delayed", -3, due_ms)
    add_one(rig.engine)
    rig.make_due(job_id)
    job = take_one(rig.engine)
    assert (job.id, job.priority) == (job_id, -3)


def test_a_promoted_job_has_its_new_priority(engine: Engine) -> None:
    job_id = add_one(engine, delay_ms=60_000, priority=5)
    waits = add_one(engine)
    engine.reprioritise(job_id, -3)
    engine.promote(job_id)
    assert waiting(engine) == [job_id, waits]


def test_a_blocked_job(engine: Engine) -> None:
    first, then = make_job(), make_job(priority=5)
    engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    engine.reprioritise(then.id, -3)
    record = read(engine, then.id)
    assert (record.state.value, record.priority) == ("blocked", -3)
    end(engine, take_one(engine))
    other = add_one(engine)
    settle(engine, "q")
    assert waiting(engine) == [then.id, other]


@pytest.mark.parametrize("state", ["active", "completed", "failed", "cancelled"])
def test_a_job_that_has_begun_keeps_its_priority(engine: Engine, state: str) -> None:
    if state == "active":
        job_id = add_one(engine)
        take_one(engine)
    elif state == "cancelled":
        job_id = add_one(engine)
        engine.cancel(job_id)
    else:
        job_id = run_one(engine, Outcome.FAIL if state == "failed" else Outcome.COMPLETE)
    before, last = engine.get(job_id), engine.last_event("q")
    with pytest.raises(WrongState, match=job_id):
        engine.reprioritise(job_id, 1)
    assert state_of(engine, job_id) == state
    assert (engine.get(job_id), engine.last_event("q")) == (before, last)


@pytest.mark.parametrize("priority", [PRIORITY_MIN - 1, PRIORITY_MAX + 1, 10**12])
def test_a_priority_out_of_range(engine: Engine, priority: int) -> None:
    job_id = add_one(engine)
    with pytest.raises(ValidationFailed, match="priority"):
        engine.reprioritise(job_id, priority)
    assert read(engine, job_id).priority == 0


@pytest.mark.parametrize("job_id", ["q.01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense"])
def test_a_job_that_is_not_there(engine: Engine, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        engine.reprioritise(job_id, 1)


@pytest.mark.parametrize("how", ["release", "retry", "fail", "reap"])
def test_the_new_priority_stays(rig: Rig, how: str) -> None:
    engine = rig.engine
    job_id, other = add(engine, 2)
    engine.reprioritise(job_id, -3)
    job = take_one(engine)
    assert job.id == job_id
    if how == "reap":
        rig.expire(job_id)
        engine.reap("q")
    else:
        end(engine, job, Outcome(how))
    if how == "fail":
        engine.retry(job_id)
    assert read(engine, job_id).priority == -3
    assert waiting(engine) == [job_id, other]


def test_the_place_of_a_job_that_was_handed_back_is_lost(engine: Engine) -> None:
    first, second, third = add(engine, 3)
    end(engine, take_one(engine), Outcome.RELEASE)
    engine.reprioritise(first, 0)
    assert waiting(engine) == [second, third, first]


def test_a_group_that_has_only_it_moves_along(engine: Engine) -> None:
    lone = add_one(engine, group="a", priority=5)
    others = add(engine, 2, group="b")
    engine.reprioritise(lone, -1)
    assert waiting(engine) == [lone, *others]
    assert cycle(engine, want=1).jobs == []
