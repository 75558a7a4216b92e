"""Deduplication: jobs whose key is held by another."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.engine.adding import Added, AddStatus, Dedupe, DedupeMode
from shared.engine.engine import Engine, LeasedJob, NewJob, Outcome
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.states import State
from shared.errors import ValidationFailed
from tests.engine.harness import (
    Rig,
    add,
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

NEW, REPEATED, DUPLICATE, REPLACED = AddStatus.NEW, AddStatus.REPEATED, AddStatus.DUPLICATE, AddStatus.REPLACED
THROTTLE, DEBOUNCE = DedupeMode.THROTTLE, DedupeMode.DEBOUNCE
#: a window that does not end while a test runs, and one that does
LONG_MS, SHORT_MS = 600_000, 60
PATIENCE_S = 10.0


def keyed(mode: DedupeMode = DedupeMode.REJECT, window_ms: int = 0, key: str = "k", **fields: Any) -> NewJob:
    return make_job(dedupe=Dedupe(key, mode, window_ms), **fields)


def add_keyed(engine: Engine, mode: DedupeMode = DedupeMode.REJECT, window_ms: int = 0, **fields: Any) -> Added:
    job = keyed(mode, window_ms, **fields)
    before = engine.counts("q")
    (added,) = engine.add("q", [job])
    if added.status is NEW:
        assert added.job_id == job.id
        assert engine.get(job.id) is not None
    else:
        assert added.job_id != job.id
        assert engine.get(job.id) is None
        assert engine.counts("q") == before
    return added


def until_new(engine: Engine, mode: DedupeMode, window_ms: int, holder: str, begun: float) -> str:
    """Add until it is let in, and see that the window was over by then; gives the id."""
    while (added := add_keyed(engine, mode, window_ms)).status is not NEW:
        assert added == (DUPLICATE, holder)
        assert time.monotonic() - begun < PATIENCE_S, "the window never ends"
        time.sleep(0.002)
    assert (time.monotonic() - begun) * 1_000 >= window_ms - 1
    return added.job_id


# -- reject --


def test_a_key_is_stored_with_its_job(engine: Engine) -> None:
    (added,) = engine.add("q", [keyed(key="größe:{1} 日本")])
    assert read(engine, added.job_id).dedupe_key == "größe:{1} 日本"
    assert read(engine, add_one(engine)).dedupe_key is None


def stall(rig: Rig, job_id: str) -> None:
    take_one(rig.engine)
    rig.expire(job_id)
    rig.engine.reap("q")


def run_now(rig: Rig, job_id: str) -> LeasedJob:
    rig.engine.promote(job_id)
    return take_one(rig.engine)


def let_come_due(rig: Rig, job_id: str) -> None:
    rig.make_due(job_id)
    cycle(rig.engine)


def end_and_remove(engine: Engine, job_id: str) -> None:
    end(engine, take_one(engine))
    engine.remove(job_id)


HELD: dict[str, Callable[[Rig, str], object]] = {
    "waiting": lambda rig, job_id: None,
    "active": lambda rig, job_id: take_one(rig.engine),
    "asked to stop": lambda rig, job_id: (take_one(rig.engine), rig.engine.cancel(job_id)),
    "retried": lambda rig, job_id: end(rig.engine, take_one(rig.engine), Outcome.RETRY, delay_ms=LONG_MS),
    "retried at once": lambda rig, job_id: end(rig.engine, take_one(rig.engine), Outcome.RETRY),
    "handed back": lambda rig, job_id: end(rig.engine, take_one(rig.engine), Outcome.RELEASE),
    "stalled": stall,
    "paused": lambda rig, job_id: rig.engine.pause("q"),
}


@pytest.mark.parametrize("how", HELD)
def test_a_second_job_is_refused_while_the_first_is_unfinished(rig: Rig, how: str) -> None:
    holder = add_keyed(rig.engine).job_id
    HELD[how](rig, holder)
    assert add_keyed(rig.engine) == (DUPLICATE, holder)
    assert add_keyed(rig.another()) == (DUPLICATE, holder)


def test_a_delayed_holder_refuses_too(engine: Engine) -> None:
    holder = add_keyed(engine, delay_ms=LONG_MS).job_id
    assert add_keyed(engine) == (DUPLICATE, holder)
    engine.promote(holder)
    assert add_keyed(engine) == (DUPLICATE, holder)


ENDS: dict[str, Callable[[Engine, str], object]] = {
    "completed": lambda engine, job_id: end(engine, take_one(engine)),
    "failed": lambda engine, job_id: end(engine, take_one(engine), Outcome.FAIL),
    "cancelled by itself": lambda engine, job_id: end(engine, take_one(engine), Outcome.CANCEL),
    "cancelled": lambda engine, job_id: engine.cancel(job_id),
}
REMOVALS: dict[str, Callable[[Engine, str], object]] = {
    "removed": lambda engine, job_id: engine.remove(job_id),
    "removed after its end": end_and_remove,
    "drained": lambda engine, job_id: engine.drain("q"),
    "cleaned": lambda engine, job_id: engine.clean("q", State.WAITING),
    "obliterated": lambda engine, job_id: engine.obliterate("q"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_of_the_holder_frees_the_key(engine: Engine, how: str) -> None:
    holder = add_keyed(engine).job_id
    ENDS[how](engine, holder)
    assert state_of(engine, holder) == how.split()[0]
    second = add_keyed(engine)
    assert second.status is NEW
    assert add_keyed(engine) == (DUPLICATE, second.job_id)


def test_a_poisonous_holder_frees_the_key(rig: Rig) -> None:
    holder = add_keyed(rig.engine, max_stalls=0).job_id
    take_one(rig.engine)
    rig.expire(holder)
    rig.engine.reap("q")
    assert state_of(rig.engine, holder) == "failed"
    assert add_keyed(rig.engine).status is NEW


@pytest.mark.parametrize("how", ENDS)
def test_a_window_begins_with_the_end(engine: Engine, how: str) -> None:
    holder = add_keyed(engine, window_ms=LONG_MS).job_id
    ENDS[how](engine, holder)
    assert add_keyed(engine, window_ms=LONG_MS) == (DUPLICATE, holder)


@pytest.mark.parametrize("how", ENDS)
def test_a_window_after_the_end_passes(rig: Rig, how: str) -> None:
    holder = add_keyed(rig.engine, window_ms=SHORT_MS).job_id
    rig.pass_time(SHORT_MS + 20)
    assert add_keyed(rig.engine, window_ms=SHORT_MS) == (DUPLICATE, holder), "it has not begun yet"
    begun = time.monotonic()
    ENDS[how](rig.engine, holder)
    second = until_new(rig.engine, DedupeMode.REJECT, SHORT_MS, holder, begun)
    assert add_keyed(rig.engine, window_ms=SHORT_MS) == (DUPLICATE, second)


@pytest.mark.parametrize("window_ms", [0, LONG_MS])
@pytest.mark.parametrize("how", REMOVALS)
def test_a_holder_that_is_removed_frees_its_key_at_once(engine: Engine, how: str, window_ms: int) -> None:
    holder = add_keyed(engine, window_ms=window_ms).job_id
    REMOVALS[how](engine, holder)
    assert engine.get(holder) is None
    assert add_keyed(engine, window_ms=window_ms).status is NEW


def test_a_holder_that_runs_again_takes_its_key_again(engine: Engine) -> None:
    holder = add_keyed(engine).job_id
    end(engine, take_one(engine), Outcome.FAIL)
    engine.retry(holder)
    assert add_keyed(engine) == (DUPLICATE, holder)
    end(engine, take_one(engine))
    assert add_keyed(engine).status is NEW


def test_a_holder_that_runs_again_within_its_window(engine: Engine) -> None:
    holder = add_keyed(engine, window_ms=LONG_MS).job_id
    end(engine, take_one(engine), Outcome.FAIL)
    engine.retry(holder)
    assert add_keyed(engine, window_ms=LONG_MS) == (DUPLICATE, holder)


def test_a_window_that_passes_while_the_holder_runs_again_frees_nothing(rig: Rig) -> None:
    holder = add_keyed(rig.engine, window_ms=SHORT_MS).job_id
    end(rig.engine, take_one(rig.engine), Outcome.FAIL)
    rig.engine.retry(holder)
    rig.pass_time(SHORT_MS + 20)
    assert add_keyed(rig.engine, window_ms=SHORT_MS) == (DUPLICATE, holder)


def test_a_job_that_runs_again_leaves_the_key_to_whoever_has_it(engine: Engine) -> None:
    first = add_keyed(engine).job_id
    end(engine, take_one(engine), Outcome.FAIL)
    second = add_keyed(engine).job_id
    engine.retry(first)
    assert add_keyed(engine) == (DUPLICATE, second)
    jobs = {job.id: job for job in take(engine, 2)}
    end(engine, jobs[first])
    assert add_keyed(engine) == (DUPLICATE, second), "the end of another frees nothing"
    engine.remove(first)
    assert add_keyed(engine) == (DUPLICATE, second)
    end(engine, jobs[second])
    assert add_keyed(engine).status is NEW


def test_keys_are_told_apart(engine: Engine) -> None:
    holders = {key: add_keyed(engine, key=key).job_id for key in ("k", "K", "k ", "k:1", "k:1:2", "größe")}
    for key, holder in holders.items():
        assert add_keyed(engine, key=key) == (DUPLICATE, holder)


def test_keys_belong_to_a_queue(engine: Engine) -> None:
    add_keyed(engine)
    assert statuses(engine, [make_job("other", dedupe=Dedupe("k"))], "other") == [NEW]


def test_two_of_a_key_in_one_call(engine: Engine) -> None:
    first, plain, second, other = keyed(), make_job(), keyed(), keyed(key="other")
    assert engine.add("q", [first, plain, second, other]) == [
        (NEW, first.id),
        (NEW, plain.id),
        (DUPLICATE, first.id),
        (NEW, other.id),
    ]
    assert engine.counts("q").waiting == 3


def test_the_repeat_of_a_call_is_no_duplicate(engine: Engine) -> None:
    """Its reply may have been lost: the caller's job is there, and not another's."""
    holder = keyed()
    assert engine.add("q", [holder]) == [(NEW, holder.id)]
    assert engine.add("q", [holder]) == [(REPEATED, holder.id)]
    end(engine, take_one(engine))
    assert engine.add("q", [holder]) == [(REPEATED, holder.id)]


def test_of_many_that_race_one_is_let_in(rig: Rig) -> None:
    engines = [rig.another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda engine: [engine.add("q", [keyed()])[0] for _ in range(25)], engines)
        found = [added for part in answers for added in part]
    assert len([added for added in found if added.status is NEW]) == 1
    assert len({added.job_id for added in found}) == 1
    assert rig.engine.counts("q").waiting == 1


def test_a_refused_job_leaves_no_trace(rig: Rig) -> None:
    add_keyed(rig.engine)
    is_armed(rig.engine)
    stored, last = rig.stored(), rig.engine.last_event("q")
    add_keyed(rig.engine)
    assert (rig.stored(), rig.engine.last_event("q")) == (stored, last)
    assert not is_armed(rig.engine)


@pytest.mark.parametrize("mode", list(DedupeMode))
def test_keys_are_forgotten_in_the_end(rig: Rig, mode: DedupeMode) -> None:
    none = keeping(completed_count=0)
    add_keyed(rig.engine, mode, SHORT_MS)
    rig.pass_time(SHORT_MS + 20)
    (job,) = cycle(rig.engine, want=1, queue=none).jobs
    cycle(rig.engine, [finish(job)], queue=none)
    rig.pass_time(SHORT_MS + 20)
    cycle(rig.engine, queue=none)
    assert rig.stored() == set()


# -- throttle --


@pytest.mark.parametrize("how", [*ENDS, "removed", "drained", "active", "waiting"])
def test_a_throttled_key_is_held_for_its_window_whatever_becomes_of_the_job(rig: Rig, how: str) -> None:
    holder = add_keyed(rig.engine, THROTTLE, LONG_MS).job_id
    if how in HELD:
        HELD[how](rig, holder)
    else:
        {**ENDS, **REMOVALS}[how](rig.engine, holder)
    assert add_keyed(rig.engine, THROTTLE, LONG_MS) == (DUPLICATE, holder)


@pytest.mark.parametrize("ended", [True, False])
def test_the_window_of_a_throttled_key_begins_with_the_add(engine: Engine, ended: bool) -> None:
    begun = time.monotonic()
    holder = add_keyed(engine, THROTTLE, SHORT_MS).job_id
    if ended:
        end(engine, take_one(engine))
    second = until_new(engine, THROTTLE, SHORT_MS, holder, begun)
    assert engine.counts("q").waiting == (1 if ended else 2)
    assert read(engine, second).dedupe_key == "k"


def test_what_is_refused_makes_no_window_longer(engine: Engine) -> None:
    begun = time.monotonic()
    holder = add_keyed(engine, THROTTLE, 2 * SHORT_MS).job_id
    until_new(engine, THROTTLE, 2 * SHORT_MS, holder, begun)  # it adds every few milliseconds


def test_two_throttled_ones_in_one_call(engine: Engine) -> None:
    first, second = keyed(THROTTLE, LONG_MS), keyed(THROTTLE, LONG_MS)
    assert engine.add("q", [first, second]) == [(NEW, first.id), (DUPLICATE, first.id)]


def test_running_again_neither_takes_nor_frees_a_throttled_key(rig: Rig) -> None:
    first = add_keyed(rig.engine, THROTTLE, SHORT_MS).job_id
    end(rig.engine, take_one(rig.engine), Outcome.FAIL)
    rig.pass_time(SHORT_MS + 20)
    second = add_keyed(rig.engine, THROTTLE, LONG_MS)
    assert second.status is NEW
    rig.engine.retry(first)
    assert add_keyed(rig.engine, THROTTLE, LONG_MS) == (DUPLICATE, second.job_id)


# -- debounce --


def test_a_debounced_job_waits_for_its_window(engine: Engine) -> None:
    record = read(engine, add_keyed(engine, DEBOUNCE, LONG_MS).job_id)
    assert (record.state, record.due_ms) == (State.DELAYED, record.created_ms + LONG_MS)


@pytest.mark.parametrize("fields", [{"delay_ms": 90_000}, {"run_at_ms": 4_000_000_000_000}])
def test_a_debounced_job_that_names_its_delay(engine: Engine, fields: dict[str, int]) -> None:
    record = read(engine, add_keyed(engine, DEBOUNCE, LONG_MS, **fields).job_id)
    assert record.state is State.DELAYED
    assert record.due_ms == fields.get("run_at_ms", record.created_ms + 90_000)


def test_a_job_takes_the_place_of_a_delayed_one(rig: Rig) -> None:
    holder = add_keyed(rig.engine, DEBOUNCE, LONG_MS, body=b'{"a":[{"v":1}]}', options={"tags": ["old"]}).job_id
    first = read(rig.engine, holder)
    rig.pass_time(5)
    body, options = b'{"a":[{"v":2}]}', {"tags": ["new"], "attempts": 7}
    assert add_keyed(rig.engine, DEBOUNCE, LONG_MS, body=body, options=options, priority=4) == (REPLACED, holder)
    record = read(rig.engine, holder)
    assert (record.payload, record.options, record.priority) == ({"v": 2}, options, 4)
    assert (record.state, record.created_ms) == (State.DELAYED, first.created_ms)
    assert first.due_ms is not None
    assert record.due_ms is not None
    assert record.due_ms >= first.due_ms + 5, "its delay began anew"
    rig.make_due(holder)
    job = take_one(rig.engine)
    assert (job.id, job.body, job.options, job.priority) == (holder, body, options, 4)


@pytest.mark.parametrize(
    ("fields", "delay_ms"), [({"delay_ms": 20_000}, 20_000), ({}, LONG_MS), ({"delay_ms": 0}, LONG_MS)]
)
def test_the_delay_of_the_newcomer_holds(engine: Engine, fields: dict[str, int], delay_ms: int) -> None:
    holder = add_keyed(engine, DEBOUNCE, LONG_MS, delay_ms=90_000).job_id
    before = read(engine, holder)
    assert before.due_ms is not None
    assert add_keyed(engine, DEBOUNCE, LONG_MS, **fields) == (REPLACED, holder)
    due_ms = read(engine, holder).due_ms
    assert due_ms is not None
    assert 0 <= due_ms - before.created_ms - delay_ms < 10_000


def test_options_that_the_newcomer_leaves_out_are_gone(engine: Engine) -> None:
    holder = add_keyed(engine, DEBOUNCE, LONG_MS, options={"tags": ["old"]}, priority=3).job_id
    add_keyed(engine, DEBOUNCE, LONG_MS)
    record = read(engine, holder)
    assert (record.options, record.priority) == ({}, 0)


def test_replacing_may_go_on(engine: Engine) -> None:
    holder = add_keyed(engine, DEBOUNCE, LONG_MS).job_id
    for number in range(5):
        body = b'{"a":[{"v":%d}]}' % number
        assert add_keyed(engine, DEBOUNCE, LONG_MS, body=body) == (REPLACED, holder)
    assert read(engine, holder).payload == {"v": 4}
    assert engine.counts("q").delayed == 1


def test_a_job_that_is_replaced_by_one_due_before_all_others_wakes_somebody(engine: Engine) -> None:
    """Else nobody would know of the time: as with a job that is added with it."""
    add_one(engine, delay_ms=60_000)
    add_keyed(engine, DEBOUNCE, LONG_MS)
    is_armed(engine)
    add_keyed(engine, DEBOUNCE, LONG_MS, delay_ms=20_000)
    assert is_armed(engine)


def test_a_job_that_waits_for_its_next_attempt_is_delayed_too(rig: Rig) -> None:
    holder = add_keyed(rig.engine, DEBOUNCE, LONG_MS).job_id
    end(rig.engine, run_now(rig, holder), Outcome.RETRY, delay_ms=LONG_MS)
    assert add_keyed(rig.engine, DEBOUNCE, LONG_MS, body=b'{"a":[{"v":2}]}') == (REPLACED, holder)
    record = read(rig.engine, holder)
    assert (record.payload, record.attempt) == ({"v": 2}, 1)


def test_a_job_of_a_flow_stays_in_its_flow(rig: Rig) -> None:
    """Whether it holds its key or none: whatever takes its place, those that run after it wait for its end."""
    first, then = keyed(DEBOUNCE, LONG_MS, delay_ms=LONG_MS), make_job()
    flow = NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])])
    rig.engine.add_flow(flow)
    add_keyed(rig.engine, DEBOUNCE, LONG_MS)
    assert read(rig.engine, first.id).flow_id == flow.id
    end(rig.engine, run_now(rig, first.id))
    settle(rig.engine, "q")
    assert state_of(rig.engine, then.id) == "waiting"


@pytest.mark.parametrize("mode", list(DedupeMode))
def test_a_flow_does_not_hang_on_a_key_that_another_job_holds(engine: Engine, mode: DedupeMode) -> None:
    holder = add_keyed(engine, mode, LONG_MS, delay_ms=LONG_MS).job_id
    first, then = keyed(mode, LONG_MS), make_job()
    engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    settle(engine, "q")
    for job_id in (holder, first.id):
        if state_of(engine, job_id) == "delayed":
            engine.promote(job_id)
    cycle(engine, [finish(job) for job in cycle(engine, want=2).jobs])
    settle(engine, "q")
    assert state_of(engine, then.id) in ("waiting", "failed"), "it waits for ever"


LEFT: dict[str, Callable[[Rig, str], object]] = {
    "promoted": lambda rig, job_id: rig.engine.promote(job_id),
    "due": let_come_due,
    "active": run_now,
    "completed": lambda rig, job_id: end(rig.engine, run_now(rig, job_id)),
    "cancelled": lambda rig, job_id: rig.engine.cancel(job_id),
    "removed": lambda rig, job_id: rig.engine.remove(job_id),
    "drained": lambda rig, job_id: rig.engine.drain("q", delayed=True),
}


@pytest.mark.parametrize("how", LEFT)
def test_a_job_that_is_no_longer_delayed_is_left_alone(rig: Rig, how: str) -> None:
    first = add_keyed(rig.engine, DEBOUNCE, LONG_MS).job_id
    LEFT[how](rig, first)
    second = add_keyed(rig.engine, DEBOUNCE, LONG_MS)
    assert second.status is NEW
    assert add_keyed(rig.engine, DEBOUNCE, LONG_MS) == (REPLACED, second.job_id)
    assert state_of(rig.engine, second.job_id) == "delayed"
    if how == "active":
        assert state_of(rig.engine, first) == "active"


def test_the_end_of_an_earlier_holder_does_not_free_the_key(engine: Engine) -> None:
    first = add_keyed(engine, DEBOUNCE, LONG_MS).job_id
    engine.promote(first)
    job = take_one(engine)
    second = add_keyed(engine, DEBOUNCE, LONG_MS).job_id
    end(engine, job)
    engine.remove(first)
    assert add_keyed(engine, DEBOUNCE, LONG_MS) == (REPLACED, second)


def test_a_debounced_job_keeps_its_group(engine: Engine) -> None:
    holder = add_keyed(engine, DEBOUNCE, LONG_MS, group="a").job_id
    add_keyed(engine, DEBOUNCE, LONG_MS, group="a")
    assert read(engine, holder).group == "a"


# -- values --


def test_what_fits_no_key_is_refused() -> None:
    for key in ("", "x" * 201, "a\nb", "\x00", "a\x7fb"):
        with pytest.raises(ValidationFailed, match="deduplication key"):
            Dedupe(key)
    for window_ms in (-1, 10**15):
        with pytest.raises(ValidationFailed, match="window"):
            Dedupe("k", window_ms=window_ms)
    with pytest.raises(ValidationFailed, match="Throttling needs a window"):
        Dedupe("k", THROTTLE)


def test_jobs_without_a_key_are_never_duplicates(engine: Engine) -> None:
    add_keyed(engine)
    assert len(add(engine, 3, body=b"same")) == 3
    take(engine, 4)
    run_one(engine)
