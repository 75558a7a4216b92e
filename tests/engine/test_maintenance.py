"""Emptying queues: drain, clean, obliterate; and retention by bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from shared.contracts.queue import QueueContract, RateLimit
from shared.engine.adding import Dedupe, DedupeMode, Idempotency
from shared.engine.engine import Engine, FinishStatus, LeaseStatus, Outcome
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import WrongState
from tests.engine.harness import (
    RedisRig,
    Rig,
    add,
    add_blocked,
    add_one,
    cycle,
    end,
    finish,
    is_armed,
    keeping,
    make_job,
    read,
    run_one,
    settle,
    state_of,
    statuses,
    take,
    take_one,
)
from tests.servers import ValkeyServer

LONG_MS = 600_000


def one_of_each(engine: Engine) -> dict[str, str]:
    """A job in every state; gives their ids."""
    ids = {
        "completed": run_one(engine),
        "failed": run_one(engine, Outcome.FAIL),
        "cancelled": add_one(engine),
        "blocked": add_blocked(engine),
        "delayed": add_one(engine, delay_ms=LONG_MS),
    }
    engine.cancel(ids["cancelled"])
    ids["active"] = add_one(engine)
    take_one(engine)
    ids["waiting"] = add_one(engine)
    assert {name: state_of(engine, job_id) for name, job_id in ids.items()} == {name: name for name in ids}
    return ids


def left(engine: Engine, ids: dict[str, str]) -> set[str]:
    return {name for name, job_id in ids.items() if engine.get(job_id) is not None}


# -- drain --


@pytest.mark.parametrize("delayed", [False, True])
def test_draining_takes_what_waits(engine: Engine, delayed: bool) -> None:
    ids = one_of_each(engine)
    add_one(engine, group="a")
    gone = {"waiting", "delayed"} if delayed else {"waiting"}
    assert engine.drain("q", delayed=delayed) == len(gone) + 1
    assert left(engine, ids) == set(ids) - gone
    counts = engine.counts("q")
    assert (counts.waiting, counts.delayed, counts.blocked, counts.active) == (0, 0 if delayed else 1, 1, 1)
    assert cycle(engine, want=9).jobs == []
    assert engine.drain("q", delayed=delayed) == 0


def test_draining_five_thousand(rig: Rig) -> None:
    add(rig.engine, 2_500)
    for group in "ab":
        add(rig.engine, 1_000, group=group)
    add(rig.engine, 500, delay_ms=LONG_MS)
    assert rig.engine.drain("q", delayed=True) == 5_000
    assert rig.stored() == set()
    add(rig.engine, 3)
    assert len(cycle(rig.engine, want=9).jobs) == 3


def test_draining_an_empty_queue(engine: Engine) -> None:
    assert engine.drain("q") == 0
    assert engine.drain("q", delayed=True) == 0


def test_a_drained_queue_is_told(engine: Engine) -> None:
    add(engine, 3)
    last = engine.last_event("q")
    engine.drain("q")
    assert engine.last_event("q") != last


def test_a_drained_queue_keeps_its_pause_and_its_limits(engine: Engine) -> None:
    engine.set_limits("q", {"concurrency": 1})
    add(engine, 3)
    engine.pause("q")
    engine.drain("q")
    assert engine.counts("q").paused
    assert dict(engine.limits("q")) == {"concurrency": 1}


# -- clean --

MAKE: dict[State, Callable[[Engine], str]] = {
    State.WAITING: add_one,
    State.DELAYED: lambda engine: add_one(engine, delay_ms=LONG_MS),
    State.BLOCKED: add_blocked,
    State.COMPLETED: run_one,
    State.FAILED: lambda engine: run_one(engine, Outcome.FAIL),
    State.CANCELLED: lambda engine: run_one(engine, Outcome.CANCEL),
}


@pytest.mark.parametrize("state", MAKE)
def test_cleaning_takes_the_oldest_of_a_state(rig: Rig, state: State) -> None:
    ids = [MAKE[state](rig.engine) for _ in range(5)]
    for number, job_id in enumerate(ids):
        rig.age(job_id, 1_000 * (5 - number))
    assert rig.engine.clean("q", state, limit=2) == 2
    assert [rig.engine.get(job_id) is not None for job_id in ids] == [False, False, True, True, True]
    assert getattr(rig.engine.counts("q"), state.value) == 3
    assert rig.engine.clean("q", state) == 3
    assert rig.engine.clean("q", state) == 0


@pytest.mark.parametrize("state", MAKE)
def test_cleaning_leaves_the_young(rig: Rig, state: State) -> None:
    ids = [MAKE[state](rig.engine) for _ in range(4)]
    for job_id, age_s in zip(ids, (59, 61, 3_600, 5), strict=True):
        rig.age(job_id, age_s * 1_000)
    assert rig.engine.clean("q", state, older_than_s=60) == 2
    assert [rig.engine.get(job_id) is not None for job_id in ids] == [True, False, False, True]
    assert rig.engine.clean("q", state, older_than_s=60) == 0


@pytest.mark.parametrize("state", MAKE)
def test_cleaning_touches_no_other_state(engine: Engine, state: State) -> None:
    ids = one_of_each(engine)
    assert engine.clean("q", state) == 1
    assert left(engine, ids) == set(ids) - {state.value}


def test_an_old_job_behind_young_ones_is_found(rig: Rig) -> None:
    old = add_one(rig.engine, priority=9)
    rig.age(old, 3_600_000)
    young = add(rig.engine, 300)
    assert rig.engine.clean("q", State.WAITING, older_than_s=60, limit=1) == 1
    assert rig.engine.get(old) is None
    assert rig.engine.counts("q").waiting == len(young)


def test_running_jobs_cannot_be_cleaned(engine: Engine) -> None:
    ids = one_of_each(engine)
    with pytest.raises(WrongState):
        engine.clean("q", State.ACTIVE)
    assert left(engine, ids) == set(ids)


def test_cleaning_thousands(rig: Rig) -> None:
    add(rig.engine, 2_500)
    assert rig.engine.clean("q", State.WAITING) == 1_000
    assert rig.engine.clean("q", State.WAITING, limit=10_000) == 1_500
    assert rig.stored() == set()


def test_cleaned_jobs_leave_nothing_behind(rig: Rig) -> None:
    job_id = add_one(rig.engine, keep_s=3_600, group="a", dedupe=Dedupe("k"))
    job = take_one(rig.engine)
    rig.engine.log(job_id, job.token, "info", "line", {})
    rig.engine.save_checkpoint(job_id, job.token, b"x")
    end(rig.engine, job, Outcome.FAIL)
    assert rig.engine.clean("q", State.FAILED) == 1
    assert rig.stored() == set()


# -- obliterate --


def fill(engine: Engine) -> None:
    """Leave as many kinds of things in the queue as there are."""
    engine.set_limits("q", {"concurrency": 100, "rate": RateLimit(1_000, 1_000)})
    engine.set_limits("q", {"concurrency": 50}, group="a")
    for group in ("a", "b", None):
        add(engine, 3, group=group)
        add(engine, 2, group=group, delay_ms=LONG_MS)
    for mode in DedupeMode:
        add_one(engine, dedupe=Dedupe(mode.value, mode, LONG_MS), idempotency=Idempotency(mode.value, "h", LONG_MS))
    first, then = make_job(), make_job()
    engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    queue = QueueContract("q")
    jobs = cycle(engine, want=6, queue=queue).jobs
    for job in jobs:
        engine.log(job.id, job.token, "info", "line", {})
        engine.progress(job.id, job.token, 5, None, {})
        engine.save_checkpoint(job.id, job.token, b"x")
    outcomes = [Outcome.COMPLETE, Outcome.FAIL, Outcome.CANCEL, Outcome.RETRY, Outcome.RELEASE]
    cycle(engine, [finish(job, outcome) for job, outcome in zip(jobs, outcomes, strict=False)])
    end(engine, jobs[5], followers=[make_job()])


def assert_fresh(rig: Rig) -> None:
    """The queue is as if it had never been."""
    engine = rig.engine
    assert rig.stored() == set()
    counts = engine.counts("q")
    assert not any(getattr(counts, state.value) for state in State)
    assert not counts.paused
    assert dict(engine.limits("q")) == dict(engine.limits("q", group="a")) == {}
    assert not is_armed(engine)
    for mode in DedupeMode:
        keyed = make_job(dedupe=Dedupe(mode.value, mode, LONG_MS), idempotency=Idempotency(mode.value, "h"))
        assert statuses(engine, [keyed])[0].name == "NEW"
    plain = add_one(engine)
    assert is_armed(engine)
    assert plain in [job.id for job in cycle(engine, want=9).jobs]


def test_nothing_is_left_of_an_obliterated_queue(rig: Rig) -> None:
    fill(rig.engine)
    assert rig.engine.counts("q").active == 0
    assert rig.stored()
    rig.engine.obliterate("q")
    assert_fresh(rig)


def test_a_queue_whose_jobs_run_is_paused_and_left(rig: Rig) -> None:
    ids = one_of_each(rig.engine)
    with pytest.raises(WrongState):
        rig.engine.obliterate("q")
    assert left(rig.engine, ids) == set(ids)
    assert rig.engine.counts("q").paused
    assert cycle(rig.engine, want=5).jobs == []


def test_a_queue_whose_jobs_run_is_obliterated_by_force(rig: Rig) -> None:
    fill(rig.engine)
    jobs = take(rig.engine, 2)
    rig.engine.obliterate("q", force=True)
    assert rig.engine.renew("q", [(jobs[0].id, jobs[0].token)], 1_000) == [LeaseStatus.LOST]
    assert rig.engine.lease_status(jobs[0].id, jobs[0].token) is LeaseStatus.LOST
    assert end(rig.engine, jobs[1]) is FinishStatus.GONE
    assert_fresh(rig)


def test_who_waits_for_a_job_that_ran_learns_that_it_is_gone(rig: Rig) -> None:
    first, then = make_job(), make_job("other")
    rig.engine.add_flow(NewFlow(new_job_id("other"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    take_one(rig.engine)
    rig.engine.obliterate("q", force=True)
    assert state_of(rig.engine, then.id) == "failed"


@pytest.mark.needs_server
def test_what_a_run_left_behind_that_ended_meanwhile_is_added(
    valkey: ValkeyServer, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(RedisRig(valkey, namespace)) as rig:
        add_one(rig.engine)
        job, follower = take_one(rig.engine), make_job("other")
        clean = RedisEngine._clean

        def end_then_clean(engine: RedisEngine, queue: str, state: State, **bounds: Any) -> int:
            removed = clean(engine, queue, state, **bounds)
            if state is State.BLOCKED:
                assert end(rig.another(), job, followers=[follower]) is FinishStatus.COMMITTED
            return removed

        monkeypatch.setattr(RedisEngine, "_clean", end_then_clean)
        rig.engine.obliterate("q", force=True)
        assert state_of(rig.engine, follower.id) == "waiting"
        assert rig.engine.get(job.id) is None


@pytest.mark.needs_server
def test_a_group_whose_jobs_an_obliteration_took_before_it_died_holds_up_no_other(
    valkey: ValkeyServer, namespace: str
) -> None:
    with closing(RedisRig(valkey, namespace)) as rig:
        gone, left = add_one(rig.engine, group="a"), add_one(rig.engine, group="b")
        keys, local_id = rig.keys_of(gone)
        rig.client.delete(keys.job(local_id), keys.state("g:a"))
        rig.client.zrem(keys.state("grouped"), local_id)
        assert take_one(rig.engine).id == left
        assert cycle(rig.engine, want=1).jobs == []


def test_a_refused_obliteration_may_be_repeated_when_the_jobs_have_ended(rig: Rig) -> None:
    add(rig.engine, 3)
    job = take_one(rig.engine)
    with pytest.raises(WrongState):
        rig.engine.obliterate("q")
    end(rig.engine, job)
    rig.engine.obliterate("q")
    assert_fresh(rig)


def test_obliterating_five_thousand(rig: Rig) -> None:
    add(rig.engine, 4_000)
    add(rig.engine, 1_000, group="a")
    cycle(rig.engine, [finish(job) for job in take(rig.engine, 500)], queue=keeping(completed_count=10**6))
    rig.engine.obliterate("q")
    assert_fresh(rig)


def test_obliterating_a_queue_that_never_was(rig: Rig) -> None:
    rig.engine.obliterate("q")
    assert_fresh(rig)


def test_other_queues_are_left_alone(rig: Rig) -> None:
    for queue in ("qq", "q.a", "q-"):
        rig.engine.add(queue, [make_job(queue)])
    add_one(rig.engine)
    rig.engine.obliterate("q")
    for queue in ("qq", "q.a", "q-"):
        assert rig.engine.counts(queue).waiting == 1


# -- retention by bytes --

#: what a kept job weighs in these tests, a little more with its error
BODY = b"x" * 1_000


def finished(rig: Rig, count: int, outcome: Outcome = Outcome.COMPLETE, *, data: bytes | None = None) -> list[str]:
    """Run jobs to their end one after another, a second apart; gives their ids, oldest first."""
    ids = []
    for _ in range(count):
        ids.append(add_one(rig.engine, body=BODY))
        fields = {} if data is None else {"data": data}
        cycle(rig.engine, [finish(take_one(rig.engine), outcome, **fields)], queue=keeping(completed_count=10**6))
    for number, job_id in enumerate(ids):
        rig.age(job_id, 1_000 * (count - number))
    return ids


def kept(rig: Rig, ids: list[str], **bounds: int) -> list[bool]:
    for _ in range(3):
        cycle(rig.engine, queue=keeping(**bounds))
    return [rig.engine.get(job_id) is not None for job_id in ids]


@pytest.mark.parametrize(
    ("outcome", "bound"),
    [
        (Outcome.COMPLETE, "completed_bytes"),
        (Outcome.FAIL, "failed_bytes"),
        (Outcome.CANCEL, "failed_bytes"),
    ],
)
def test_by_bytes_the_oldest_go_first(rig: Rig, outcome: Outcome, bound: str) -> None:
    ids = finished(rig, 5, outcome)
    assert kept(rig, ids, **{bound: 6_000}) == [True] * 5
    assert kept(rig, ids, **{bound: 3_500}) == [False, False, True, True, True]
    assert kept(rig, ids, **{bound: 1_500}) == [False, False, False, False, True]
    assert kept(rig, ids, **{bound: 0}) == [False] * 5
    assert rig.stored() == set()


def test_failed_and_cancelled_jobs_have_a_bound_each(rig: Rig) -> None:
    ids = finished(rig, 2, Outcome.FAIL) + finished(rig, 2, Outcome.CANCEL)
    assert kept(rig, ids, failed_bytes=2_500) == [True] * 4
    assert kept(rig, ids, completed_bytes=0) == [True] * 4


def test_results_and_errors_are_counted(rig: Rig) -> None:
    results = finished(rig, 3, data=b'"%s"' % (b"r" * 2_000))
    assert kept(rig, results, completed_bytes=6_500) == [False, True, True]
    errors = finished(rig, 3, Outcome.FAIL, data=b'{"type":"E","message":"%s"}' % (b"e" * 2_000))
    assert kept(rig, errors, failed_bytes=6_500) == [False, True, True]


def test_the_bound_of_bytes_is_met_when_a_job_ends(rig: Rig) -> None:
    queue = keeping(completed_bytes=2_500)
    ids = []
    for _ in range(6):
        ids.append(add_one(rig.engine, body=BODY))
        cycle(rig.engine, [finish(take_one(rig.engine))], queue=queue)
        assert rig.engine.counts("q").completed <= 2
    assert rig.engine.get(ids[-1]) is not None
    assert rig.engine.counts("q").completed == 2


def test_what_was_removed_weighs_nothing(rig: Rig) -> None:
    ids = finished(rig, 4)
    rig.engine.remove(ids[1])
    assert kept(rig, ids, completed_bytes=3_500) == [True, False, True, True]
    rig.engine.clean("q", State.COMPLETED, limit=2)
    more = finished(rig, 2)
    assert kept(rig, [ids[3], *more], completed_bytes=3_500) == [True] * 3


def test_what_runs_again_weighs_nothing(rig: Rig) -> None:
    ids = finished(rig, 3, Outcome.FAIL)
    rig.engine.retry(ids[0])
    assert kept(rig, ids, failed_bytes=2_500) == [True] * 3
    end(rig.engine, take_one(rig.engine))
    assert kept(rig, ids, failed_bytes=2_500, completed_bytes=1_500) == [True] * 3


def test_what_waits_again_for_others_weighs_nothing(rig: Rig) -> None:
    queue = keeping(failed_bytes=10_000)
    first, then = make_job(), make_job(body=BODY)
    flow = NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])])
    rig.engine.add_flow(flow)
    for _ in range(12):
        cycle(rig.engine, [finish(take_one(rig.engine, queue=queue), Outcome.FAIL)], queue=queue)
        settle(rig.engine, "q")
        assert state_of(rig.engine, then.id) == "failed"
        assert rig.engine.retry_flow(flow.id) == 2
    cycle(rig.engine, [finish(take_one(rig.engine, queue=queue), Outcome.FAIL)], queue=queue)
    settle(rig.engine, "q")
    assert kept(rig, [first.id, then.id], failed_bytes=10_000) == [True, True]


def test_an_error_of_an_earlier_attempt_weighs_as_well(rig: Rig) -> None:
    earlier = b'{"type":"E","message":"%s"}' % (b"e" * 2_000)
    queue = keeping(failed_bytes=100_000)
    cycle(rig.engine, queue=queue)
    for _ in range(3):
        job_id = add_one(rig.engine)
        cycle(rig.engine, [finish(take_one(rig.engine), Outcome.RETRY, data=earlier)], queue=queue)
        cycle(rig.engine, [finish(take_one(rig.engine), Outcome.FAIL, data=b"")], queue=queue)
        rig.engine.remove(job_id)
    ids = finished(rig, 4, Outcome.FAIL)
    assert kept(rig, ids, failed_bytes=3_500) == [False, True, True, True]


def test_a_body_that_a_retry_replaced_is_weighed_as_it_is(rig: Rig) -> None:
    ids = []
    for number in range(3):
        ids.append(add_one(rig.engine, body=b"small"))
        end(rig.engine, take_one(rig.engine), Outcome.RETRY, body=BODY)
        end(rig.engine, take_one(rig.engine))
        rig.age(ids[-1], 1_000 * (3 - number))
    assert kept(rig, ids, completed_bytes=2_500) == [False, True, True]


def test_jobs_that_are_not_finished_are_never_too_heavy(rig: Rig) -> None:
    add(rig.engine, 3, body=BODY)
    add(rig.engine, 1, body=BODY, delay_ms=LONG_MS)
    take_one(rig.engine)
    cycle(rig.engine, queue=keeping(completed_bytes=0, failed_bytes=0))
    counts = rig.engine.counts("q")
    assert (counts.waiting, counts.delayed, counts.active) == (2, 1, 1)


def test_a_heavy_job_takes_the_whole_bound(rig: Rig) -> None:
    ids = finished(rig, 3)
    heavy = add_one(rig.engine, body=BODY * 10)
    end(rig.engine, take_one(rig.engine))
    assert kept(rig, [*ids, heavy], completed_bytes=10_500) == [False, False, False, True]
    assert kept(rig, [heavy], completed_bytes=9_000) == [False]
    assert read(rig.engine, add_one(rig.engine)).state is State.WAITING
    settle(rig.engine, "q")
