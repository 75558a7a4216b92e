"""Adding jobs, and the order in which they are handed out."""

from __future__ import annotations

import time

import pytest

from shared.contracts.priority import PRIORITY_MAX, PRIORITY_MIN
from shared.engine.adding import AddStatus
from shared.engine.engine import Engine
from shared.engine.keys import new_job_id
from shared.engine.states import State
from tests.engine.harness import Rig, add, add_one, cycle, make_job, state_of, take, take_one

NEW, REPEATED = AddStatus.NEW, AddStatus.REPEATED


def test_a_job_is_stored_as_given(engine: Engine) -> None:
    options = {"attempts": 5, "tags": ["größe", "日本"], "owner": "u1"}
    before = time.time() * 1000
    job_id = add_one(engine, name="ジョブ.größe", body='{"a":[{"name":"Zoë"}]}'.encode(), priority=2, options=options)
    record = engine.get(job_id)
    assert record is not None
    assert (record.id, record.queue, record.name, record.state) == (job_id, "q", "ジョブ.größe", State.WAITING)
    assert (record.priority, record.options, record.payload) == (2, options, {"name": "Zoë"})
    assert (record.attempt, record.stalls, record.attempts, record.due_ms) == (0, 0, [], None)
    assert (record.started_ms, record.finished_ms, record.worker, record.cancel_requested) == (None, None, None, False)
    assert (record.progress, record.result, record.error) == (None, None, None)
    assert before - 5_000 < record.created_ms < before + 5_000
    leased = take_one(engine)
    assert (leased.id, leased.name, leased.attempt, leased.stalls) == (job_id, "ジョブ.größe", 1, 0)
    assert (leased.priority, leased.options, leased.created_ms) == (2, options, record.created_ms)


def test_bodies_are_bytes(engine: Engine) -> None:
    body = bytes(range(256)) * 4
    job_id = add_one(engine, body=body)
    record = engine.get(job_id)
    assert record is not None
    assert record.payload is None
    assert take_one(engine).body == body


def test_adding_the_same_job_again_does_nothing(engine: Engine) -> None:
    first, second, third = make_job(body=b"1"), make_job(body=b"2"), make_job()
    assert engine.add("q", [first, second]) == [(NEW, first.id), (NEW, second.id)]
    assert engine.add("q", [make_job(id=first.id, body=b"other"), third]) == [(REPEATED, first.id), (NEW, third.id)]
    assert engine.counts("q").waiting == 3
    assert [job.body for job in take(engine, 2)] == [b"1", b"2"]
    assert engine.add("q", [first]) == [(REPEATED, first.id)], "nor while it runs"
    assert engine.counts("q").active == 2


def test_a_job_given_twice_in_one_call_is_added_once(engine: Engine) -> None:
    job = make_job()
    assert engine.add("q", [job, job]) == [(NEW, job.id), (REPEATED, job.id)]
    assert engine.counts("q").waiting == 1


def test_nothing_is_added_for_nothing(engine: Engine) -> None:
    assert engine.add("q", []) == []


@pytest.mark.parametrize("job_id", ["other.01ARZ3NDEKTSV4RRFFQ69G5FAV", "q.short", "q", "01ARZ3NDEKTSV4RRFFQ69G5FAV"])
def test_an_id_of_another_queue_is_refused(engine: Engine, job_id: str) -> None:
    with pytest.raises(ValueError, match="not the id of a job of queue 'q'"):
        engine.add("q", [make_job(), make_job(id=job_id)])
    assert engine.counts("q").waiting == 0


def test_jobs_run_in_the_order_of_their_arrival(engine: Engine) -> None:
    ids = [add_one(engine) for _ in range(5)] + add(engine, 50) + [add_one(engine)]
    assert [job.id for job in take(engine, len(ids))] == ids


def test_order_is_by_arrival_and_not_by_id(engine: Engine) -> None:
    ids = sorted((new_job_id("q") for _ in range(20)), reverse=True)
    engine.add("q", [make_job(id=job_id) for job_id in ids])
    assert [job.id for job in take(engine, 20)] == ids


def test_five_thousand_jobs_in_one_call(engine: Engine) -> None:
    ids = add(engine, 5_000)
    assert engine.counts("q").waiting == 5_000
    taken: list[str] = []
    while len(taken) < 5_000:
        jobs = cycle(engine, want=700).jobs
        assert 0 < len(jobs) <= 700
        taken += [job.id for job in jobs]
    assert taken == ids


def test_however_many_are_wanted_none_is_lost(engine: Engine) -> None:
    add(engine, 5_000)
    taken: set[str] = set()
    while jobs := cycle(engine, want=100_000).jobs:
        taken |= {job.id for job in jobs}
        assert engine.counts("q").active == len(taken)
    assert len(taken) == 5_000


def test_lower_priority_runs_first(engine: Engine) -> None:
    order = [4, PRIORITY_MAX, 1, 0, PRIORITY_MIN, -1, 3, 999, -999]
    ids = {priority: add(engine, 2, priority=priority) for priority in order}
    expected = [job_id for priority in sorted(order) for job_id in ids[priority]]
    assert [job.id for job in take(engine, len(expected))] == expected


@pytest.mark.parametrize("priority", [PRIORITY_MIN, -1, 0, 1, PRIORITY_MAX])
def test_places_stay_exact_at_the_end_of_their_range(rig: Rig, priority: int) -> None:
    # The last places before they would reach the next priority: seven years at 20,000 jobs a second.
    rig.skip_places(2**42 - 1_000)
    worse = add_one(rig.engine, priority=min(priority + 1, PRIORITY_MAX))
    ids = add(rig.engine, 900, priority=priority)
    expected = [worse, *ids] if priority == PRIORITY_MAX else [*ids, worse]
    assert [job.id for job in take(rig.engine, 901)] == expected


def test_a_delayed_job_waits_for_its_time(rig: Rig) -> None:
    job_id = add_one(rig.engine, delay_ms=60_000)
    record = rig.engine.get(job_id)
    assert record is not None
    assert record.state is State.DELAYED
    assert record.due_ms == record.created_ms + 60_000
    reply = cycle(rig.engine, want=1)
    assert reply.jobs == []
    assert reply.next_ms is not None
    assert 50_000 < reply.next_ms <= 60_000
    rig.make_due(job_id)
    assert take_one(rig.engine).id == job_id
    record = rig.engine.get(job_id)
    assert record is not None
    assert record.due_ms is None


def test_run_at_wins_over_delay(engine: Engine) -> None:
    at = int(time.time() * 1000) + 3_600_000
    job_id = add_one(engine, run_at_ms=at, delay_ms=5)
    record = engine.get(job_id)
    assert record is not None
    assert (record.state, record.due_ms) == (State.DELAYED, at)


@pytest.mark.parametrize("fields", [{"run_at_ms": 0}, {"run_at_ms": 1_000}, {"delay_ms": 0}, {"delay_ms": -5}])
def test_a_time_that_is_past_means_now(engine: Engine, fields: dict[str, int]) -> None:
    assert state_of(engine, add_one(engine, **fields)) == "waiting"


def test_due_jobs_queue_behind_those_that_wait_and_by_priority(rig: Rig) -> None:
    late, later = add_one(rig.engine, delay_ms=1_000), add_one(rig.engine, delay_ms=2_000)
    urgent = add_one(rig.engine, delay_ms=3_000, priority=-1)
    waiting = add_one(rig.engine)
    for ago_s, job_id in enumerate((urgent, later, late), start=1):
        rig.make_due(job_id, ago_s * 1_000)
    assert [job.id for job in take(rig.engine, 4)] == [urgent, waiting, late, later]


def test_many_due_jobs_are_promoted_over_several_cycles(rig: Rig) -> None:
    ids = add(rig.engine, 250, delay_ms=60_000)
    for job_id in ids:
        rig.make_due(job_id)
    waiting = 0
    while (next_ms := cycle(rig.engine).next_ms) == 0:
        before, waiting = waiting, rig.engine.counts("q").waiting
        assert before < waiting <= before + 100, "some at a time; 0 means: more are due, come again at once"
    assert (next_ms, rig.engine.counts("q").waiting) == (None, 250)
