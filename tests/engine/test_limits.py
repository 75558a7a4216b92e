"""Limits of a queue over all of its workers: starts per period, jobs that run at once, jobs that may wait."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.contracts.queue import QueueContract, RateLimit
from shared.engine.adding import Dedupe
from shared.engine.engine import Engine, FinishStatus, NewJob, Outcome
from shared.errors import QueueFull
from tests.engine.harness import (
    Rig,
    add,
    add_one,
    cycle,
    end,
    finish,
    is_armed,
    limited,
    make_job,
    read,
    settle,
    state_of,
    take,
    take_one,
)

#: a period that does not pass while a test runs, milliseconds
LONG_MS = 600_000


def assert_conforms(starts_ms: list[int], rate: RateLimit) -> None:
    """No stretch of time saw more starts than the rate and its burst allow; times are cut to milliseconds."""
    starts_ms = sorted(starts_ms)
    for first in range(len(starts_ms)):
        for last in range(first, len(starts_ms)):
            passed_us = (starts_ms[last] - starts_ms[first] + 1) * 1_000
            allowed = rate.starts_at_once + passed_us / rate.interval_us
            assert last - first + 1 <= allowed, f"{starts_ms[first : last + 1]} began within {passed_us} us"


def started_ms(engine: Engine, job_id: str) -> int:
    started = read(engine, job_id).started_ms
    assert started is not None
    return started


# -- rate --


@pytest.mark.parametrize(
    ("rate", "at_once"),
    [
        (RateLimit(1, LONG_MS), 1),
        (RateLimit(9, LONG_MS), 1),
        (RateLimit(20, LONG_MS), 2),
        (RateLimit(10, LONG_MS, burst=3), 3),
        (RateLimit(1, LONG_MS, burst=5), 5),
    ],
)
def test_a_rate_lets_its_burst_through_and_no_more(engine: Engine, rate: RateLimit, at_once: int) -> None:
    queue = limited(rate=rate)
    ids = add(engine, at_once + 3)
    reply = cycle(engine, want=50, queue=queue)
    assert [job.id for job in reply.jobs] == ids[:at_once]
    assert reply.limited
    interval_ms = LONG_MS / rate.max_jobs
    assert reply.next_ms is not None
    assert interval_ms - 5_000 < reply.next_ms <= interval_ms + 1
    again = cycle(engine, want=50, queue=queue)
    assert (again.jobs, again.limited) == ([], True)
    assert again.next_ms is not None
    assert again.next_ms <= reply.next_ms


def test_the_burst_may_be_taken_one_by_one(engine: Engine) -> None:
    queue = limited(rate=RateLimit(10, LONG_MS, burst=3))
    add(engine, 5)
    assert [len(cycle(engine, want=1, queue=queue).jobs) for _ in range(5)] == [1, 1, 1, 0, 0]


def test_a_rate_holds_over_all_workers(rig: Rig) -> None:
    queue = limited(rate=RateLimit(10, LONG_MS, burst=3))
    add(rig.engine, 20)
    engines = [rig.another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        replies = pool.map(lambda engine: [cycle(engine, want=1, queue=queue) for _ in range(5)], engines)
        assert sum(len(reply.jobs) for cycles in replies for reply in cycles) == 3


def test_a_job_starts_when_the_reply_said(rig: Rig) -> None:
    rate = RateLimit(25, 1_000, burst=2)
    queue = limited(rate=rate)
    ids = add(rig.engine, 7)
    taken = [job.id for job in cycle(rig.engine, want=10, queue=queue).jobs]
    while len(taken) < len(ids):
        reply = cycle(rig.engine, want=10, queue=queue)
        if not reply.jobs:
            assert reply.limited
            assert reply.next_ms is not None
            assert reply.next_ms <= 41
            rig.pass_time(reply.next_ms)
            reply = cycle(rig.engine, want=10, queue=queue)
            assert reply.jobs, "it said that one could start by now"
        taken += [job.id for job in reply.jobs]
    assert taken == ids
    starts = [started_ms(rig.engine, job_id) for job_id in ids]
    assert_conforms(starts, rate)
    assert starts[-1] - starts[0] >= 5 * 40 - 1


def test_a_queue_that_rested_catches_up_with_its_burst_and_no_more(rig: Rig) -> None:
    rate = RateLimit(50, 5_000, burst=3)
    queue = limited(rate=rate)
    add(rig.engine, 3)
    ids = [job.id for job in take(rig.engine, 3, queue=queue)]
    rig.pass_time(600)
    add(rig.engine, 20)
    ids += [job.id for job in cycle(rig.engine, want=20, queue=queue).jobs]
    assert len(ids) == 6
    ids += [job.id for job in cycle(rig.engine, want=20, queue=queue).jobs]
    assert_conforms([started_ms(rig.engine, job_id) for job_id in ids], rate)


def test_being_held_back_costs_no_attempt(rig: Rig) -> None:
    queue = limited(rate=RateLimit(20, 1_000, burst=1))
    _, held = add(rig.engine, 2)
    take_one(rig.engine, queue=queue)
    for _ in range(5):
        cycle(rig.engine, want=0, queue=queue)
    record = read(rig.engine, held)
    assert (record.state.value, record.attempt, record.attempts) == ("waiting", 0, [])
    rig.pass_time(50)
    job = take_one(rig.engine, queue=queue)
    assert (job.id, job.attempt, job.token) == (held, 1, 1)


def test_a_job_that_starts_again_counts_again(engine: Engine) -> None:
    queue = limited(rate=RateLimit(10, LONG_MS, burst=2))
    add_one(engine)
    for _ in range(2):
        end(engine, take_one(engine, queue=queue), Outcome.RETRY)
    assert cycle(engine, want=1, queue=queue).jobs == []


def test_the_repeat_of_a_call_starts_nothing_more(engine: Engine) -> None:
    queue = limited(rate=RateLimit(10, LONG_MS, burst=2), concurrency=5)
    add(engine, 5)
    first = cycle(engine, want=2, queue=queue, request="lost")
    again = cycle(engine, want=2, queue=queue, request="lost", repeat=True)
    assert [job.id for job in again.jobs] == [job.id for job in first.jobs]
    assert cycle(engine, want=1, queue=queue).jobs == []


def test_nothing_is_limited_where_nothing_waits(engine: Engine) -> None:
    queue = limited(rate=RateLimit(10, LONG_MS, burst=1), concurrency=1)
    assert not cycle(engine, want=1, queue=queue).limited
    add_one(engine)
    reply = cycle(engine, want=1, queue=queue)
    assert (len(reply.jobs), reply.limited) == (1, False)
    reply = cycle(engine, want=1, queue=queue)
    assert (reply.limited, reply.next_ms is None or reply.next_ms > LONG_MS / 10) == (False, True)


def test_jobs_that_nobody_wanted_yet_are_not_held_back(engine: Engine) -> None:
    add(engine, 5)
    reply = cycle(engine, want=2, queue=limited(rate=RateLimit(10, LONG_MS, burst=4), concurrency=4))
    assert (len(reply.jobs), reply.limited) == (2, False)


def test_a_rate_holds_back_no_other_queue(engine: Engine) -> None:
    queue = limited(rate=RateLimit(1, LONG_MS))
    add(engine, 2)
    take_one(engine, queue=queue)
    engine.add("other", [make_job("other")])
    assert len(cycle(engine, want=1, queue=limited(name="other", rate=RateLimit(1, LONG_MS))).jobs) == 1


def test_more_is_wanted_than_one_call_may_start(engine: Engine) -> None:
    add(engine, 3_000)
    reply = cycle(engine, want=100_000, queue=limited(rate=RateLimit(1, LONG_MS, burst=2_500), concurrency=2_400))
    taken = len(reply.jobs)
    while jobs := cycle(engine, want=100_000, queue=limited(rate=RateLimit(1, LONG_MS, burst=2_500))).jobs:
        taken += len(jobs)
    assert taken == 2_500


# -- concurrency --


def test_no_more_run_at_once_than_allowed(rig: Rig) -> None:
    queue = limited(concurrency=3)
    ids = add(rig.engine, 6)
    first = cycle(rig.engine, want=2, queue=queue, worker="w1")
    second = cycle(rig.another(), want=5, queue=queue, worker="w2")
    assert [job.id for job in first.jobs + second.jobs] == ids[:3]
    assert second.limited
    assert rig.engine.counts("q").active == 3
    assert cycle(rig.engine, want=1, queue=queue).jobs == []


def test_the_end_of_a_run_makes_room_in_the_same_call(engine: Engine) -> None:
    queue = limited(concurrency=2)
    ids = add(engine, 5)
    jobs = take(engine, 2, queue=queue)
    for expected in (ids[2:4], ids[4:]):
        reply = cycle(engine, [finish(job) for job in jobs], want=5, queue=queue)
        jobs = reply.jobs
        assert [job.id for job in jobs] == expected
        assert reply.limited == (expected == ids[2:4])


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_end_makes_room(engine: Engine, outcome: Outcome) -> None:
    queue = limited(concurrency=1)
    add(engine, 3)
    job = take_one(engine, queue=queue)
    cycle(engine, [finish(job, outcome, delay_ms=LONG_MS if outcome is Outcome.RETRY else 0)], queue=queue)
    assert len(cycle(engine, want=3, queue=queue).jobs) == 1


def test_a_lost_lease_makes_room(rig: Rig) -> None:
    queue = limited(concurrency=1)
    first, _ = add(rig.engine, 2)
    take_one(rig.engine, queue=queue)
    rig.expire(first)
    assert [job.id for job in cycle(rig.engine, want=5, queue=queue).jobs] == [first]
    assert cycle(rig.engine, want=5, queue=queue).jobs == []


def test_a_stale_end_makes_no_room(rig: Rig) -> None:
    queue = limited(concurrency=1)
    first, _ = add(rig.engine, 2)
    old = take_one(rig.engine, queue=queue)
    rig.expire(first)
    take_one(rig.engine, queue=queue)
    reply = cycle(rig.engine, [finish(old)], want=5, queue=queue)
    assert (reply.finishes, reply.jobs) == ([FinishStatus.STALE], [])


def test_both_limits_hold(engine: Engine) -> None:
    queue = limited(concurrency=3, rate=RateLimit(10, LONG_MS, burst=5))
    add(engine, 9)
    jobs = take(engine, 3, queue=queue)
    assert cycle(engine, want=1, queue=queue).limited
    reply = cycle(engine, [finish(job) for job in jobs], want=9, queue=queue)
    assert (len(reply.jobs), reply.limited) == (2, True)


# -- what an operator sets --


def starts(engine: Engine, queue: QueueContract) -> int:
    return len(cycle(engine, want=100, queue=queue).jobs)


@pytest.mark.parametrize(
    ("contract", "limits", "expected"),
    [
        ({"concurrency": 2}, {"concurrency": 4}, 4),
        ({"concurrency": 4}, {"concurrency": 2}, 2),
        ({"concurrency": 2}, {"concurrency": None}, 10),
        ({"concurrency": 2}, {"rate": None}, 2),
        ({"concurrency": 2}, {}, 2),
        ({}, {"concurrency": 3}, 3),
        ({}, {"rate": RateLimit(1, LONG_MS, 4)}, 4),
        ({"rate": RateLimit(1, LONG_MS, 4)}, {"rate": RateLimit(1, LONG_MS, 6)}, 6),
        ({"rate": RateLimit(1, LONG_MS, 4)}, {"rate": None}, 10),
        ({"rate": RateLimit(1, LONG_MS, 4)}, {"concurrency": 3}, 3),
        ({"rate": RateLimit(1, LONG_MS, 4)}, {"concurrency": 6}, 4),
        ({"rate": RateLimit(1, LONG_MS, 4), "concurrency": 1}, {"rate": None, "concurrency": None}, 10),
    ],
)
def test_what_is_set_wins_over_the_contract(
    rig: Rig, contract: dict[str, Any], limits: dict[str, RateLimit | int | None], expected: int
) -> None:
    rig.engine.set_limits("q", limits)
    assert dict(rig.engine.limits("q")) == limits
    assert dict(rig.another().limits("q")) == limits
    add(rig.engine, 10)
    assert starts(rig.engine, limited(**contract)) == expected


def test_limits_change_while_the_queue_runs(engine: Engine) -> None:
    queue = limited(concurrency=2)
    add(engine, 20)
    assert starts(engine, queue) == 2
    engine.set_limits("q", {"concurrency": 5})
    assert starts(engine, queue) == 3
    engine.set_limits("q", {"concurrency": 1})
    assert starts(engine, queue) == 0
    engine.set_limits("q", {"concurrency": None})
    assert starts(engine, queue) == 15


def test_setting_nothing_goes_back_to_the_contract(engine: Engine) -> None:
    queue = limited(concurrency=2)
    engine.set_limits("q", {"concurrency": 5, "max_length": 1, "rate": RateLimit(1, LONG_MS)})
    engine.set_limits("q", {})
    assert dict(engine.limits("q")) == {}
    add(engine, 10)
    assert starts(engine, queue) == 2


def test_a_set_replaces_the_one_before(engine: Engine) -> None:
    engine.set_limits("q", {"concurrency": 5, "rate": RateLimit(1, LONG_MS)})
    engine.set_limits("q", {"max_length": None})
    assert dict(engine.limits("q")) == {"max_length": None}


def test_limits_of_a_queue_nobody_limited(engine: Engine) -> None:
    assert dict(engine.limits("q")) == {}
    assert dict(engine.limits("q", group="g")) == {}


def test_a_rate_comes_back_whole(engine: Engine) -> None:
    limits: dict[str, RateLimit | int | None] = {
        "rate": RateLimit(7, 90_000),
        "group_rate": RateLimit(3, 60_000, burst=2),
        "group_concurrency": 4,
    }
    engine.set_limits("q", limits)
    assert dict(engine.limits("q")) == limits


# -- wake-ups --


def test_a_worker_with_a_thread_to_spare_that_is_held_back_wakes_nobody(engine: Engine) -> None:
    for queue in (limited(concurrency=1), limited(rate=RateLimit(1, LONG_MS))):
        add(engine, 2)
        assert len(cycle(engine, want=2, queue=queue).jobs) <= 1
        is_armed(engine)
        assert cycle(engine, want=2, queue=queue).limited
        assert not is_armed(engine), "it would be woken again and again"


@pytest.mark.parametrize("outcome", list(Outcome))
def test_room_made_by_a_worker_that_wants_nothing_wakes_another(engine: Engine, outcome: Outcome) -> None:
    queue = limited(concurrency=1)
    add(engine, 3)
    job = take_one(engine, queue=queue)
    cycle(engine, want=1, queue=queue)
    is_armed(engine)
    cycle(engine, [finish(job, outcome, delay_ms=LONG_MS if outcome is Outcome.RETRY else 0)], queue=queue)
    assert is_armed(engine)


@pytest.mark.parametrize("group", [None, "a"])
def test_room_made_by_reaping_wakes_somebody(rig: Rig, group: str | None) -> None:
    """Also when what ran does not run again."""
    queue = limited(concurrency=1)
    add_one(rig.engine, max_stalls=0, group=group)
    waits = add_one(rig.engine, group=group)
    poison = take_one(rig.engine, queue=queue)
    cycle(rig.engine, want=1, queue=queue)
    is_armed(rig.engine)
    rig.expire(poison.id)
    rig.engine.reap("q")
    assert state_of(rig.engine, poison.id) == "failed"
    assert is_armed(rig.engine)
    assert take_one(rig.engine, queue=queue).id == waits


def test_a_start_that_a_full_worker_was_told_the_time_of_is_timed_by_another(engine: Engine) -> None:
    """As with delays: whoever has no thread to spare would not look in time."""
    queue = limited(rate=RateLimit(1, LONG_MS))
    add(engine, 2)
    is_armed(engine)
    reply = cycle(engine, want=1, queue=queue)
    assert len(reply.jobs) == 1
    assert is_armed(engine)
    reply = cycle(engine, want=1, queue=queue, worker="w2")
    assert reply.next_ms is not None
    assert reply.next_ms <= LONG_MS
    assert not is_armed(engine), "now somebody knows who has a thread to spare"


def test_room_that_is_used_up_at_once_wakes_nobody(engine: Engine) -> None:
    queue = limited(concurrency=1)
    add(engine, 3)
    job = take_one(engine, queue=queue)
    cycle(engine, want=1, queue=queue)
    is_armed(engine)
    reply = cycle(engine, [finish(job)], want=1, queue=queue)
    assert len(reply.jobs) == 1
    assert not is_armed(engine)


@pytest.mark.parametrize("contract", [{"concurrency": 1}, {"rate": RateLimit(1, LONG_MS)}])
def test_lifting_a_limit_wakes_somebody(engine: Engine, contract: dict[str, Any]) -> None:
    queue = limited(**contract)
    add(engine, 3)
    take_one(engine, queue=queue)
    cycle(engine, want=1, queue=queue)
    is_armed(engine)
    engine.set_limits("q", dict.fromkeys(contract))
    assert is_armed(engine)
    assert starts(engine, queue) == 2


def test_lifting_a_limit_of_a_queue_with_nothing_to_do_wakes_nobody(engine: Engine) -> None:
    engine.set_limits("q", {"concurrency": None})
    assert not is_armed(engine)


def test_resuming_a_limited_queue_wakes_somebody(engine: Engine) -> None:
    queue = limited(concurrency=2)
    add(engine, 3)
    take_one(engine, queue=queue)
    engine.pause("q")
    cycle(engine, want=1, queue=queue)
    assert not is_armed(engine)
    engine.resume("q")
    assert is_armed(engine)


def test_workers_that_sleep_until_they_are_told_run_everything(rig: Rig) -> None:
    """Workers of one thread look only when they are woken or when a reply said so; both limits hold all along."""
    total, workers, most = 60, 3, 2
    rate = RateLimit(500, 1_000, burst=3)
    queue = limited(concurrency=most, rate=rate)
    done: set[str] = set()
    waiters = [rig.another().waiter(f"w{number}") for number in range(workers)]
    engines = [rig.another() for _ in range(workers)]

    def work(number: int) -> None:
        engine, timeout_s = engines[number], 20.0
        while len(done) < total:
            waiters[number].wait(["q"], timeout_s)
            reply = cycle(engine, want=1, queue=queue, worker=f"w{number}")
            while reply.jobs:
                assert engine.counts("q").active <= most
                done.update(job.id for job in reply.jobs)
                reply = cycle(engine, [finish(job) for job in reply.jobs], want=1, queue=queue, worker=f"w{number}")
            timeout_s = 20.0 if reply.next_ms is None else min(20.0, max(0.001, reply.next_ms / 1_000))
        for waiter in waiters:
            waiter.interrupt()

    begun = time.monotonic()
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, number) for number in range(workers)]
        ids = [job_id for _ in range(total // 3) for job_id in add(rig.engine, 3)]
        for worker in running:
            worker.result()
    assert done == set(ids)
    assert time.monotonic() - begun < 15, "somebody slept while a job could have started"
    assert_conforms([started_ms(rig.engine, job_id) for job_id in ids], rate)
    for waiter in waiters:
        waiter.close()


# -- length --


def try_adding(engine: Engine, count: int, max_length: int | None) -> None:
    """Add jobs to a queue that is to be too full for them."""
    before = engine.counts("q")
    jobs = [make_job() for _ in range(count)]
    with pytest.raises(QueueFull):
        engine.add("q", jobs, max_length=max_length)
    assert engine.counts("q") == before
    assert all(engine.get(job.id) is None for job in jobs)


def test_a_full_queue_takes_none_of_a_call(engine: Engine) -> None:
    engine.add("q", [make_job(), make_job()], max_length=3)
    try_adding(engine, 2, max_length=3)
    engine.add("q", [make_job()], max_length=3)
    try_adding(engine, 1, max_length=3)
    add_one(engine)  # a caller that names no bound knows of none


def test_what_waits_is_delayed_or_blocked_counts_and_what_runs_does_not(engine: Engine) -> None:
    add(engine, 2)
    job = take_one(engine)
    add(engine, 2, delay_ms=LONG_MS)
    try_adding(engine, 2, max_length=4)
    engine.add("q", [make_job()], max_length=4)
    try_adding(engine, 1, max_length=4)
    end(engine, job)
    try_adding(engine, 1, max_length=4)
    take_one(engine)
    engine.add("q", [make_job()], max_length=4)


def test_the_repeat_of_a_call_that_filled_the_queue_is_answered(engine: Engine) -> None:
    """Its reply may have been lost, and its caller must learn that the jobs are there."""
    jobs = [make_job(), make_job()]
    assert all(added.is_new for added in engine.add("q", jobs, max_length=2))
    assert [added.job_id for added in engine.add("q", jobs, max_length=2)] == [job.id for job in jobs]
    try_adding(engine, 1, max_length=2)


def test_a_duplicate_needs_no_room(engine: Engine) -> None:
    holder = make_job(dedupe=Dedupe("k"))
    engine.add("q", [holder], max_length=1)
    (added,) = engine.add("q", [make_job(dedupe=Dedupe("k"))], max_length=1)
    assert added.job_id == holder.id


@pytest.mark.parametrize(
    ("contract", "limit", "room"), [(2, 4, 4), (4, 2, 2), (None, 2, 2), (2, None, 9)], ids=["more", "less", "new", "no"]
)
def test_a_bound_that_is_set_comes_first(engine: Engine, contract: int | None, limit: int | None, room: int) -> None:
    engine.set_limits("q", {"max_length": limit})
    for _ in range(room):
        engine.add("q", [make_job()], max_length=contract)
    if limit is not None:
        try_adding(engine, 1, max_length=contract)


def test_a_full_queue_takes_back_what_it_gave(rig: Rig) -> None:
    add(rig.engine, 4)
    jobs = take(rig.engine, 4)
    rig.engine.set_limits("q", {"max_length": 1})
    cycle(rig.engine, [finish(jobs[0], Outcome.RELEASE), finish(jobs[1], Outcome.RETRY), finish(jobs[2], Outcome.FAIL)])
    rig.engine.retry(jobs[2].id)
    rig.expire(jobs[3].id)
    rig.engine.reap("q")
    assert rig.engine.counts("q").waiting == 4


def test_a_follower_that_finds_its_queue_full_is_not_lost(engine: Engine) -> None:
    """It was promised with the finish; whether it may exceed the bound or waits for room is the engine's affair."""
    engine.set_limits("other", {"max_length": 1})
    (there,) = [make_job("other")]
    engine.add("other", [there])
    add_one(engine)
    follower: NewJob = make_job("other")
    end(engine, take_one(engine), followers=[follower])
    engine.relay("q")
    other = QueueContract("other")
    (job,) = cycle(engine, want=1, queue=other).jobs
    assert job.id == there.id
    cycle(engine, [finish(job)], queue=other)
    settle(engine, "q", "other")
    assert state_of(engine, follower.id) == "waiting"
