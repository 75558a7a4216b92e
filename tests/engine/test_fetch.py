"""Fetching again: repeats after a lost reply, when to come again, pause."""

from __future__ import annotations

from shared.engine.engine import Engine, FinishStatus
from tests.engine.harness import LEASE_MS, Rig, add, add_one, cycle, end, state_of, take, take_one

COMMITTED = FinishStatus.COMMITTED


# -- repeats of a fetch --


def test_the_repeat_of_a_fetch_gives_the_same_jobs_and_no_more(engine: Engine) -> None:
    add(engine, 5)
    lost = cycle(engine, want=2, request="r")
    assert cycle(engine, want=2, request="r", repeat=True).jobs == lost.jobs
    assert cycle(engine, want=2, request="r", repeat=True).jobs == lost.jobs
    assert engine.counts("q").active == 2


def test_the_repeat_of_a_fetch_fills_up_what_was_not_there(engine: Engine) -> None:
    (first,) = add(engine, 1)
    assert len(cycle(engine, want=3, request="r").jobs) == 1
    more = add(engine, 5)
    assert [job.id for job in cycle(engine, want=3, request="r", repeat=True).jobs] == [first, *more[:2]]


def test_the_repeat_of_a_fetch_that_never_arrived(engine: Engine) -> None:
    ids = add(engine, 3)
    assert [job.id for job in cycle(engine, want=2, request="r", repeat=True).jobs] == ids[:2]


def test_a_repeat_gives_nothing_of_other_requests_and_workers(engine: Engine) -> None:
    ids = add(engine, 4)
    take(engine, 1, worker="w1", request="1")
    take(engine, 1, worker="w2", request="2")
    lost = take(engine, 1, worker="w1", request="2")
    assert lost[0].id == ids[2]
    assert cycle(engine, want=1, worker="w1", request="2", repeat=True).jobs == lost


def test_a_repeat_does_not_give_what_was_lost_meanwhile(rig: Rig) -> None:
    add(rig.engine, 2)
    lost = take(rig.engine, 2, request="r")
    rig.expire(lost[0].id)
    other = take_one(rig.engine, worker="w2")
    assert other.id == lost[0].id
    assert cycle(rig.engine, want=2, request="r", repeat=True).jobs == lost[1:]


def test_a_repeat_is_answered_although_the_queue_is_paused(engine: Engine) -> None:
    add(engine, 3)
    lost = take(engine, 1, request="r")
    engine.pause("q")
    assert cycle(engine, want=2, request="r", repeat=True).jobs == lost


# -- when to come again --


def test_next_ms_is_the_end_of_the_first_lease(engine: Engine) -> None:
    add(engine, 2)
    take_one(engine, lease_ms=LEASE_MS)
    reply = cycle(engine, want=1, lease_ms=40_000)
    assert reply.next_ms is not None
    assert 30_000 < reply.next_ms <= 40_001


def test_next_ms_is_the_earlier_of_lease_and_due_time(engine: Engine) -> None:
    add_one(engine)
    take_one(engine, lease_ms=LEASE_MS)
    add_one(engine, delay_ms=20_000)
    reply = cycle(engine)
    assert reply.next_ms is not None
    assert 10_000 < reply.next_ms <= 20_000


# -- pause --


def test_a_paused_queue_hands_nothing_out(engine: Engine) -> None:
    running = add_one(engine)
    job = take_one(engine)
    add_one(engine)
    assert engine.pause("q") is True
    assert engine.pause("q") is False
    assert engine.counts("q").paused
    assert cycle(engine, want=5).jobs == []
    assert end(engine, job) is COMMITTED
    assert state_of(engine, running) == "completed"
    assert engine.resume("q") is True
    assert engine.resume("q") is False
    assert not engine.counts("q").paused
    assert len(cycle(engine, want=5).jobs) == 1


def test_time_goes_on_in_a_paused_queue(rig: Rig) -> None:
    job_id = add_one(rig.engine, delay_ms=60_000)
    rig.engine.pause("q")
    rig.make_due(job_id)
    reply = cycle(rig.engine, want=1)
    assert (reply.jobs, reply.next_ms) == ([], None), "a due job must not make workers come again and again"
    assert state_of(rig.engine, job_id) == "waiting"


def test_queues_do_not_touch_each_other(engine: Engine) -> None:
    add_one(engine)
    engine.pause("other")
    assert engine.counts("other").waiting == 0
    assert len(cycle(engine, want=1).jobs) == 1


def test_a_call_repeated_after_the_scripts_were_forgotten(rig: Rig) -> None:
    add(rig.engine, 2)
    rig.forget_scripts()
    job = take_one(rig.engine)
    rig.forget_scripts()
    assert end(rig.engine, job) is COMMITTED
    rig.forget_scripts()
    assert rig.engine.counts("q").completed == 1
