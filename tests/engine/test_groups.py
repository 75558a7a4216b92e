"""Groups share a queue: within a priority they take turns, and each has limits of its own."""

from __future__ import annotations

from typing import Any

import pytest

from shared.contracts.queue import QueueContract, RateLimit
from shared.engine.engine import Engine, Outcome
from shared.engine.states import State
from shared.errors import WrongState
from tests.engine.harness import (
    QUEUE,
    Rig,
    add,
    add_one,
    cycle,
    end,
    finish,
    is_armed,
    keeping,
    limited,
    make_job,
    read,
    take,
    take_one,
)

LONG_MS = 600_000


def groups_of(engine: Engine, ids: list[str]) -> str:
    """The groups of jobs, one letter each."""
    return "".join(read(engine, job_id).group or "-" for job_id in ids)


def start(engine: Engine, count: int, *, at_once: bool, queue: QueueContract = QUEUE) -> list[str]:
    """Lease jobs by one call or by one call each; gives their ids."""
    if at_once:
        return [job.id for job in take(engine, count, queue=queue)]
    return [take_one(engine, queue=queue).id for _ in range(count)]


def listed(engine: Engine, *, newest_first: bool = False) -> list[str]:
    """All that waits, read in pages of three."""
    ids: list[str] = []
    cursor: str | None = None
    while True:
        page = engine.list("q", State.WAITING, cursor=cursor, limit=3, newest_first=newest_first)
        ids += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return ids


# -- turns --


@pytest.mark.parametrize("at_once", [True, False])
def test_groups_take_turns(engine: Engine, at_once: bool) -> None:
    ids = {group: add(engine, 3, group=group) for group in "abc"}
    started = start(engine, 9, at_once=at_once)
    for turn in range(3):
        assert sorted(started[3 * turn : 3 * turn + 3]) == sorted(ids[group][turn] for group in "abc")
    assert groups_of(engine, started) == groups_of(engine, started[:3]) * 3, "always in the same order"


@pytest.mark.parametrize("at_once", [True, False])
def test_a_group_alone_runs_in_the_order_of_arrival(engine: Engine, at_once: bool) -> None:
    ids = add(engine, 7, group="a")
    assert start(engine, 7, at_once=at_once) == ids


@pytest.mark.parametrize("at_once", [True, False])
def test_a_group_that_ends_leaves_its_turns_to_the_others(engine: Engine, at_once: bool) -> None:
    for group, count in (("a", 5), ("b", 2), ("c", 3)):
        add(engine, count, group=group)
    started = groups_of(engine, start(engine, 10, at_once=at_once))
    assert [sorted(part) for part in (started[:3], started[3:6], started[6:8], started[8:])] == [
        ["a", "b", "c"],
        ["a", "b", "c"],
        ["a", "c"],
        ["a", "a"],
    ]


@pytest.mark.parametrize("others", ["a", "ab", "abcd"])
@pytest.mark.parametrize("before", [0, 1, 2, 7])
def test_a_new_group_waits_for_one_turn_of_each_other_at_most(engine: Engine, others: str, before: int) -> None:
    for group in others:
        add(engine, 20, group=group)
    start(engine, before, at_once=False)
    lone = add_one(engine, group="z")
    assert lone in start(engine, len(others) + 1, at_once=False)


@pytest.mark.parametrize(("big", "others"), [("a", "b"), ("b", "a"), ("b", "ac")])
def test_groups_that_always_come_back_take_no_turns_of_another(engine: Engine, big: str, others: str) -> None:
    """Each of them has a job whenever a turn is to be had, and never two."""
    ids = add(engine, 40, group=big)
    waits = {group: add_one(engine, group=group) for group in others}
    started: list[str] = []
    for _ in range(24):
        started.append(take_one(engine).id)
        waits |= {group: add_one(engine, group=group) for group, job_id in waits.items() if job_id == started[-1]}
    share = 24 // (1 + len(others))
    assert share - 1 <= len([job_id for job_id in started if job_id in ids]) <= share + 1


@pytest.mark.parametrize("names", ["abcdefghijklmnopqrstuvwx", "zyxwvutsrqponmlkjihgfedc"])
def test_groups_that_are_always_new_do_not_hold_up_one_that_was_there(engine: Engine, names: str) -> None:
    ids = add(engine, 40, group="k_")
    started: list[str] = []
    for name in names:
        add_one(engine, group=name)
        started.append(take_one(engine).id)
    assert len([job_id for job_id in started if job_id in ids]) >= 3


@pytest.mark.parametrize("grouped_first", [True, False])
def test_jobs_without_a_group_are_not_held_up(engine: Engine, grouped_first: bool) -> None:
    if grouped_first:
        add_one(engine, group="a")
    plain = add(engine, 40)
    started: list[str] = []
    for _ in range(20):
        add_one(engine, group="a")
        started.append(take_one(engine).id)
    assert 9 <= len([job_id for job_id in started if job_id in plain]) <= 11


def test_a_lone_job_behind_thousands_of_another_group(engine: Engine) -> None:
    add(engine, 5_000, group="big")
    lone = add_one(engine, group="small")
    assert lone in start(engine, 4, at_once=True)
    assert engine.counts("q").waiting == 4_997


def test_hundreds_of_groups_get_a_turn_each(engine: Engine) -> None:
    names = [f"tenant-{number}" for number in range(300)]
    engine.add("q", [make_job(group=name) for _ in range(3) for name in names])
    for _ in range(3):
        jobs = take(engine, 300)
        assert sorted(str(read(engine, job.id).group) for job in jobs) == sorted(names)
    assert cycle(engine, want=1).jobs == []


@pytest.mark.parametrize("group", ["größe", "日本", "a:b", "{x}", "a b", "%s", "*", "0", "x" * 200, "a|b", '"', "é\\"])
def test_any_name_will_do(engine: Engine, group: str) -> None:
    add(engine, 3, group="other")
    job_id = add_one(engine, group=group)
    assert read(engine, job_id).group == group
    assert job_id in start(engine, 2, at_once=True)
    assert read(engine, job_id).group == group


# -- with jobs without a group --


def test_jobs_without_a_group_form_one(engine: Engine) -> None:
    add(engine, 10, group="a")
    plain = add(engine, 3)
    assert read(engine, plain[0]).group is None
    started = start(engine, 6, at_once=False)
    assert [job_id for job_id in started if job_id in plain] == plain
    assert [sorted(groups_of(engine, started)[turn : turn + 2]) for turn in (0, 2, 4)] == [["-", "a"]] * 3


@pytest.mark.parametrize("before", [0, 3])
def test_so_do_those_that_waited_before_the_first_group_came(engine: Engine, before: int) -> None:
    plain = add(engine, 20)
    assert start(engine, before, at_once=True) == plain[:before]
    first = add_one(engine, group="a")
    started = start(engine, 4, at_once=False)
    assert first in started[:2]
    assert [job_id for job_id in started if job_id != first] == plain[before : before + 3]


def test_what_was_leased_or_delayed_before_the_first_group_came(rig: Rig) -> None:
    leased, delayed = add(rig.engine, 1) + add(rig.engine, 1, delay_ms=LONG_MS)
    job = take_one(rig.engine)
    assert job.id == leased
    grouped = add(rig.engine, 2, group="a")
    end(rig.engine, job, Outcome.RELEASE)
    rig.make_due(delayed)
    cycle(rig.engine)
    assert set(start(rig.engine, 4, at_once=True)) == {leased, delayed, *grouped}
    assert cycle(rig.engine, want=1).jobs == []


# -- with priorities --


@pytest.mark.parametrize("at_once", [True, False])
def test_priorities_win_over_turns(engine: Engine, at_once: bool) -> None:
    ids = add(engine, 4, group="a", priority=0)
    late = add_one(engine, group="b", priority=5)
    urgent = add(engine, 2, group="b", priority=-1)
    assert start(engine, 7, at_once=at_once) == [*urgent, *ids, late]


@pytest.mark.parametrize("at_once", [True, False])
def test_groups_take_turns_within_each_priority(engine: Engine, at_once: bool) -> None:
    for priority in (1, 0):
        for group in "ab":
            add(engine, 2, group=group, priority=priority)
    started = start(engine, 8, at_once=at_once)
    assert [read(engine, job_id).priority for job_id in started] == [0] * 4 + [1] * 4
    names = groups_of(engine, started)
    assert [sorted(names[turn : turn + 2]) for turn in (0, 2, 4, 6)] == [["a", "b"]] * 4


def test_within_a_group_the_better_priority_is_first(engine: Engine) -> None:
    order = [3, -1000, 1000, 0, -1]
    ids = {priority: add_one(engine, group="a", priority=priority) for priority in order}
    assert start(engine, 5, at_once=False) == [ids[priority] for priority in sorted(order)]


def test_another_priority_takes_a_job_along_within_its_group(engine: Engine) -> None:
    first, moved = add(engine, 2, group="a")
    other = add_one(engine, group="b")
    engine.reprioritise(moved, -1)
    started = start(engine, 3, at_once=False)
    assert started[0] == moved
    assert set(started[1:]) == {first, other}


# -- coming back --


@pytest.mark.parametrize("how", ["release", "reap"])
def test_a_job_that_is_handed_back_is_the_next_of_its_group(rig: Rig, how: str) -> None:
    groups = [add(rig.engine, 3, group=group) for group in "ab"]
    job = take_one(rig.engine)
    (ids,) = [ids for ids in groups if job.id == ids[0]]
    if how == "release":
        end(rig.engine, job, Outcome.RELEASE)
    else:
        rig.expire(job.id)
        rig.engine.reap("q")
    started = start(rig.engine, 6, at_once=False)
    assert [job_id for job_id in started if job_id in ids] == ids


def test_retried_promoted_and_due_jobs_stay_in_their_group(rig: Rig) -> None:
    engine = rig.engine
    failed, again = add(engine, 2, group="a")
    jobs = {job.id: job for job in take(engine, 2)}
    promoted, due = add(engine, 2, group="a", delay_ms=LONG_MS)
    waiting = add(engine, 8, group="b")
    end(engine, jobs[failed], Outcome.FAIL)
    engine.retry(failed)
    end(engine, jobs[again], Outcome.RETRY)
    engine.promote(promoted)
    rig.make_due(due)
    cycle(engine)
    started = start(engine, 8, at_once=False)
    names = groups_of(engine, started)
    assert [sorted(names[turn : turn + 2]) for turn in (0, 2, 4, 6)] == [["a", "b"]] * 4
    assert [job_id for job_id in started if job_id not in waiting] == [failed, again, promoted, due]


def test_cancelled_and_removed_jobs_take_no_turn(engine: Engine) -> None:
    a, b = add(engine, 4, group="a"), add(engine, 4, group="b")
    lone = add_one(engine, group="c")
    engine.cancel(a[0])
    engine.remove(b[1])
    engine.remove(lone)
    assert engine.counts("q").waiting == 6
    started = start(engine, 6, at_once=False)
    assert [job_id for job_id in started if job_id in a] == a[1:]
    assert [job_id for job_id in started if job_id in b] == [b[0], *b[2:]]
    assert cycle(engine, want=1).jobs == []
    with pytest.raises(WrongState):
        engine.remove(a[1])


# -- reading --


@pytest.mark.parametrize("newest_first", [False, True])
def test_lists_and_counts_know_no_groups(engine: Engine, newest_first: bool) -> None:
    plain = add(engine, 2)
    low = [add_one(engine, group=group, priority=1) for group in "abab"]
    high = [add_one(engine, group=group) for group in "bbac"]
    plain += add(engine, 2)
    expected = [*plain[:2], *high, *plain[2:], *low]
    assert listed(engine, newest_first=newest_first) == (expected[::-1] if newest_first else expected)
    assert engine.counts("q").waiting == 12
    gone = take_one(engine).id
    expected.remove(gone)
    assert listed(engine, newest_first=newest_first) == (expected[::-1] if newest_first else expected)
    assert engine.counts("q").waiting == 11


def test_a_repeat_of_a_call_gives_the_same_jobs(engine: Engine) -> None:
    for group in "ab":
        add(engine, 3, group=group)
    first = cycle(engine, want=3, request="lost")
    again = cycle(engine, want=3, request="lost", repeat=True)
    assert {job.id for job in again.jobs} == {job.id for job in first.jobs}
    assert engine.counts("q").waiting == 3


def test_groups_leave_nothing_behind(rig: Rig) -> None:
    queue = keeping(completed_count=0)
    for group in (*"abcab", None):
        add(rig.engine, 2, group=group)
    while jobs := cycle(rig.engine, want=5, queue=queue).jobs:
        cycle(rig.engine, [finish(job) for job in jobs], queue=queue)
    assert rig.stored() == set()


# -- limits of groups --


def test_each_group_runs_so_many_at_once(engine: Engine) -> None:
    queue = limited(group_concurrency=2)
    ids = {group: add(engine, 4, group=group) for group in "ab"}
    reply = cycle(engine, want=8, queue=queue)
    assert sorted(job.id for job in reply.jobs) == sorted(ids["a"][:2] + ids["b"][:2])
    assert reply.limited
    assert cycle(engine, want=8, queue=queue).jobs == []
    (ended,) = [job for job in reply.jobs if job.id == ids["a"][1]]
    again = cycle(engine, [finish(ended)], want=8, queue=queue)
    assert [job.id for job in again.jobs] == [ids["a"][2]]
    assert again.limited


def test_jobs_without_a_group_know_no_limits_of_groups(engine: Engine) -> None:
    queue = limited(group_concurrency=1, group_rate=RateLimit(1, 600_000))
    plain = add(engine, 2)
    grouped = add(engine, 3, group="a")
    plain += add(engine, 2)
    assert {job.id for job in cycle(engine, want=6, queue=queue).jobs} == {*plain, grouped[0]}


def test_a_group_that_is_held_back_holds_back_no_other(engine: Engine) -> None:
    queue = limited(group_concurrency=1)
    add(engine, 200, group="a")
    b = add(engine, 2, group="b")
    take_one(engine, queue=queue)
    assert take_one(engine, queue=queue).id == b[0]
    c = add(engine, 1, group="c")
    low = add_one(engine, group="d", priority=9)
    assert [job.id for job in cycle(engine, want=5, queue=queue).jobs] == [*c, low]


def test_a_group_that_is_held_back_does_not_save_up_turns(engine: Engine) -> None:
    queue = limited(group_concurrency=1)
    a = add(engine, 9, group="a")
    job = take_one(engine, queue=queue)
    assert job.id == a[0]
    for _ in range(5):
        for group in "bc":
            add_one(engine, group=group)
        cycle(engine, [finish(other) for other in take(engine, 2, queue=queue)], queue=queue)
    engine.set_limits("q", {"group_concurrency": None})
    for group in "bc":
        add(engine, 4, group=group)
    assert groups_of(engine, start(engine, 6, at_once=False, queue=queue)).count("a") <= 3


@pytest.mark.parametrize("outcome", list(Outcome))
def test_every_end_makes_room_in_its_group(engine: Engine, outcome: Outcome) -> None:
    queue = limited(group_concurrency=1)
    add(engine, 3, group="a")
    job = take_one(engine, queue=queue)
    assert cycle(engine, want=3, queue=queue).jobs == []
    is_armed(engine)
    cycle(engine, [finish(job, outcome, delay_ms=LONG_MS if outcome is Outcome.RETRY else 0)], queue=queue)
    assert is_armed(engine)
    assert len(cycle(engine, want=3, queue=queue).jobs) == 1


def test_a_lost_lease_makes_room_in_its_group(rig: Rig) -> None:
    queue = limited(group_concurrency=1)
    first, _ = add(rig.engine, 2, group="a")
    take_one(rig.engine, queue=queue)
    rig.expire(first)
    assert [job.id for job in cycle(rig.engine, want=3, queue=queue).jobs] == [first]


def test_groups_that_are_all_held_back_wake_nobody(engine: Engine) -> None:
    queue = limited(group_concurrency=1)
    for group in "ab":
        add(engine, 3, group=group)
    take(engine, 2, queue=queue)
    cycle(engine, want=5, queue=queue)
    is_armed(engine)
    assert cycle(engine, want=5, queue=queue).limited
    assert not is_armed(engine)
    add_one(engine, group="c")
    assert is_armed(engine)
    assert len(cycle(engine, want=5, queue=queue).jobs) == 1


def test_each_group_starts_at_its_own_rate(rig: Rig) -> None:
    queue = limited(group_rate=RateLimit(10, LONG_MS, burst=2))
    for group in "ab":
        add(rig.engine, 5, group=group)
    reply = cycle(rig.engine, want=10, queue=queue)
    assert sorted(groups_of(rig.engine, [job.id for job in reply.jobs])) == ["a", "a", "b", "b"]
    assert reply.limited
    assert reply.next_ms is not None
    assert LONG_MS / 10 - 5_000 < reply.next_ms <= LONG_MS / 10 + 1
    assert cycle(rig.engine, want=10, queue=queue).jobs == []


def test_a_group_starts_when_the_reply_said(rig: Rig) -> None:
    queue = limited(group_rate=RateLimit(20, 1_000, burst=1))
    first, second = add(rig.engine, 2, group="a")
    assert take_one(rig.engine, queue=queue).id == first
    reply = cycle(rig.engine, want=1, queue=queue)
    if not reply.jobs:
        assert reply.next_ms is not None
        assert reply.next_ms <= 51
        rig.pass_time(reply.next_ms)
        reply = cycle(rig.engine, want=1, queue=queue)
    assert [job.id for job in reply.jobs] == [second]
    started = [read(rig.engine, job_id).started_ms or 0 for job_id in (first, second)]
    assert started[1] - started[0] >= 49


def test_the_limits_of_the_queue_hold_over_all_groups(engine: Engine) -> None:
    queue = limited(concurrency=3, group_concurrency=2, group_rate=RateLimit(1, LONG_MS, 2))
    for group in "abc":
        add(engine, 3, group=group)
    reply = cycle(engine, want=9, queue=queue)
    assert sorted(groups_of(engine, [job.id for job in reply.jobs])) == ["a", "b", "c"]
    assert reply.limited


def test_a_group_of_one_that_is_limited_leaves_the_rest_of_the_rate_to_others(engine: Engine) -> None:
    queue = limited(rate=RateLimit(1, LONG_MS, 4), group_rate=RateLimit(1, LONG_MS))
    add(engine, 9, group="a")
    for group in "bcd":
        add(engine, 2, group=group)
    assert len(cycle(engine, want=9, queue=queue).jobs) == 4


# -- limits of one group --


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"concurrency": 3}, 3),
        ({"concurrency": 1}, 1),
        ({"concurrency": None}, 8),
        ({"rate": RateLimit(1, LONG_MS)}, 1),
        ({"rate": None}, 2),
        ({}, 2),
    ],
)
def test_limits_of_one_group_win_over_those_of_every_group(
    rig: Rig, limits: dict[str, RateLimit | int | None], expected: int
) -> None:
    queue = limited(group_concurrency=2)
    rig.engine.set_limits("q", limits, group="a")
    assert dict(rig.engine.limits("q", group="a")) == limits
    assert dict(rig.another().limits("q", group="b")) == {}
    assert dict(rig.engine.limits("q")) == {}
    for group in "ab":
        add(rig.engine, 8, group=group)
    jobs = cycle(rig.engine, want=99, queue=queue).jobs
    names = groups_of(rig.engine, [job.id for job in jobs])
    assert (names.count("a"), names.count("b")) == (expected, 2)


def test_a_group_goes_back_to_what_holds_for_all(engine: Engine) -> None:
    queue = limited(group_concurrency=2)
    add(engine, 8, group="a")
    engine.set_limits("q", {"concurrency": 1}, group="a")
    assert len(cycle(engine, want=8, queue=queue).jobs) == 1
    engine.set_limits("q", {}, group="a")
    assert len(cycle(engine, want=8, queue=queue).jobs) == 1
    engine.set_limits("q", {"group_concurrency": 3})
    assert len(cycle(engine, want=8, queue=queue).jobs) == 1
    engine.set_limits("q", {"group_concurrency": 1})
    engine.set_limits("q", {"concurrency": None}, group="a")
    assert len(cycle(engine, want=8, queue=queue).jobs) == 5


def test_lifting_a_limit_of_one_group_wakes_somebody(engine: Engine) -> None:
    queue = limited(group_concurrency=1)
    add(engine, 3, group="a")
    take_one(engine, queue=queue)
    cycle(engine, want=1, queue=queue)
    is_armed(engine)
    engine.set_limits("q", {"concurrency": None}, group="a")
    assert is_armed(engine)
    assert len(cycle(engine, want=3, queue=queue).jobs) == 2


# -- many groups --


def start_all(engine: Engine, queue: QueueContract) -> int:
    """Lease until nothing may start; gives how many did."""
    started = 0
    while jobs := cycle(engine, want=1_000, queue=queue).jobs:
        started += len(jobs)
    return started


@pytest.mark.parametrize(("name", "limit"), [("rate", RateLimit(1, LONG_MS)), ("concurrency", 1)])
def test_a_limit_that_is_lifted_frees_any_number_of_groups(engine: Engine, name: str, limit: RateLimit | int) -> None:
    groups = [f"g{number}" for number in range(1_050)]
    limits: dict[str, Any] = {f"group_{name}": limit}
    queue = limited(**limits)
    for _ in range(2):
        engine.add("q", [make_job(group=group) for group in groups])
    assert start_all(engine, queue) == len(groups)
    for _ in range(6):
        assert cycle(engine, want=1, queue=queue).jobs == []
    is_armed(engine)
    cycle(engine, want=1, queue=queue)
    assert not is_armed(engine), "nothing can start"
    engine.set_limits("q", {name: None}, group=max(groups))
    assert is_armed(engine)
    assert read(engine, take_one(engine, queue=queue).id).group == max(groups)
    engine.set_limits("q", {f"group_{name}": None})
    assert is_armed(engine)
    assert start_all(engine, queue) == len(groups) - 1
