"""Requests that are sent twice: the second gives the job of the first."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.engine.adding import AddStatus, Dedupe, DedupeMode, Idempotency
from shared.engine.engine import Engine, NewJob, Outcome
from shared.errors import QueueFull, ValidationFailed
from tests.engine.harness import Rig, add_one, cycle, end, finish, keeping, make_job, state_of, statuses, take_one

CONFLICT, REPEATED, NEW = AddStatus.CONFLICT, AddStatus.REPEATED, AddStatus.NEW
DUPLICATE, REPLACED = AddStatus.DUPLICATE, AddStatus.REPLACED
LONG_MS, SHORT_MS = 600_000, 60


def request(key: str = "key", digest: str = "h1", window_ms: int = LONG_MS, **fields: Any) -> NewJob:
    return make_job(idempotency=Idempotency(key, digest, window_ms), **fields)


def test_the_same_request_again_gives_the_first_job(rig: Rig) -> None:
    first, second = request(body=b"first"), request(body=b"second")
    assert rig.engine.add("q", [first]) == [(NEW, first.id)]
    assert rig.engine.add("q", [second]) == [(REPEATED, first.id)]
    assert rig.another().add("q", [request()]) == [(REPEATED, first.id)]
    assert rig.engine.get(second.id) is None
    assert rig.engine.counts("q").waiting == 1
    assert take_one(rig.engine).body == b"first"


def test_another_request_under_the_same_key_is_refused(engine: Engine) -> None:
    first, other = request(), request(digest="h2")
    engine.add("q", [first])
    assert engine.add("q", [other]) == [(CONFLICT, first.id)]
    assert engine.get(other.id) is None
    assert engine.counts("q").waiting == 1
    assert engine.add("q", [request()]) == [(REPEATED, first.id)], "and changes nothing"


LATER: dict[str, Callable[[Rig, str], object]] = {
    "active": lambda rig, job_id: take_one(rig.engine),
    "completed": lambda rig, job_id: end(rig.engine, take_one(rig.engine)),
    "failed": lambda rig, job_id: end(rig.engine, take_one(rig.engine), Outcome.FAIL),
    "cancelled": lambda rig, job_id: rig.engine.cancel(job_id),
    "delayed": lambda rig, job_id: end(rig.engine, take_one(rig.engine), Outcome.RETRY, delay_ms=LONG_MS),
}


@pytest.mark.parametrize("how", LATER)
def test_whatever_became_of_the_first_job(rig: Rig, how: str) -> None:
    first = request()
    rig.engine.add("q", [first])
    LATER[how](rig, first.id)
    assert state_of(rig.engine, first.id) == how
    assert rig.engine.add("q", [request()]) == [(REPEATED, first.id)]
    assert rig.engine.add("q", [request(digest="h2")]) == [(CONFLICT, first.id)]
    assert state_of(rig.engine, first.id) == how


def test_keys_are_told_apart(engine: Engine) -> None:
    keys = ("key", "KEY", "key:1", "key ", "größe", "{a}")
    first = {key: request(key) for key in keys}
    assert statuses(engine, list(first.values())) == [NEW] * len(keys)
    for key in keys:
        assert engine.add("q", [request(key)]) == [(REPEATED, first[key].id)]


@pytest.mark.parametrize("window_ms", [0, -1, 10**12])
def test_windows_that_cannot_be(window_ms: int) -> None:
    with pytest.raises(ValidationFailed, match="window"):
        request(window_ms=window_ms)


def test_keys_belong_to_a_queue(engine: Engine) -> None:
    engine.add("q", [request()])
    other = make_job("other", idempotency=Idempotency("key", "h2"))
    assert engine.add("other", [other]) == [(NEW, other.id)]


def test_two_of_a_key_in_one_call(engine: Engine) -> None:
    first, same, other, plain = request(), request(), request(digest="h2"), make_job()
    assert engine.add("q", [first, same, other, plain]) == [
        (NEW, first.id),
        (REPEATED, first.id),
        (CONFLICT, first.id),
        (NEW, plain.id),
    ]
    assert engine.counts("q").waiting == 2


def test_a_key_is_remembered_for_its_window(engine: Engine) -> None:
    first = request(window_ms=SHORT_MS)
    begun = time.monotonic()
    engine.add("q", [first])
    while (added := engine.add("q", [request(digest="h2", window_ms=SHORT_MS)])[0]).status is not NEW:
        assert added == (CONFLICT, first.id)
        assert time.monotonic() - begun < 10, "the key is never forgotten"
        time.sleep(0.002)
    assert (time.monotonic() - begun) * 1_000 >= SHORT_MS - 1
    assert engine.counts("q").waiting == 2


def test_of_many_that_race_one_is_let_in(rig: Rig) -> None:
    engines = [rig.another() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(lambda engine: [engine.add("q", [request()])[0] for _ in range(25)], engines)
        found = [added for part in answers for added in part]
    assert sorted(added.status for added in found) == [REPEATED] * 99 + [NEW]
    assert len({added.job_id for added in found}) == 1
    assert rig.engine.counts("q").waiting == 1


def test_the_job_itself_comes_before_its_keys(engine: Engine) -> None:
    """A call whose reply was lost is repeated with the same job, which is there, whatever its keys say by now."""
    first = request("one")
    other = request("two", dedupe=Dedupe("d"))
    engine.add("q", [first, other])
    again = make_job(id=first.id, idempotency=Idempotency("two", "another"), dedupe=Dedupe("d"))
    assert engine.add("q", [again]) == [(REPEATED, first.id)]


def test_idempotency_comes_before_deduplication(engine: Engine) -> None:
    holder = make_job(dedupe=Dedupe("d"))
    first = request("one")
    engine.add("q", [holder, first])
    assert engine.add("q", [request("one", dedupe=Dedupe("d"))]) == [(REPEATED, first.id)]
    assert engine.add("q", [request("one", "h2", dedupe=Dedupe("d"))]) == [(CONFLICT, first.id)]
    assert engine.add("q", [request("two", dedupe=Dedupe("d"))]) == [(DUPLICATE, holder.id)]


def test_a_request_that_was_refused_as_a_duplicate_is_not_let_in_by_its_repeat(engine: Engine) -> None:
    holder = make_job(dedupe=Dedupe("d"))
    engine.add("q", [holder])
    assert engine.add("q", [request(dedupe=Dedupe("d"))]) == [(DUPLICATE, holder.id)]
    end(engine, take_one(engine))
    assert engine.add("q", [request(dedupe=Dedupe("d"))]) == [(REPEATED, holder.id)]
    assert engine.counts("q").waiting == 0


def test_a_repeat_does_not_replace_what_is_debounced(engine: Engine) -> None:
    debounced = Dedupe("d", DedupeMode.DEBOUNCE, LONG_MS)
    first = request(dedupe=debounced)
    engine.add("q", [first])
    assert engine.add("q", [request(dedupe=debounced, priority=7)]) == [(REPEATED, first.id)]
    record = engine.get(first.id)
    assert record is not None
    assert record.priority == 0
    assert engine.add("q", [request("other", dedupe=debounced)]) == [(REPLACED, first.id)]


def test_what_a_full_queue_refuses_is_not_remembered(engine: Engine) -> None:
    add_one(engine)
    refused = request()
    with pytest.raises(QueueFull):
        engine.add("q", [refused], max_length=1)
    second = request(digest="h2")
    assert engine.add("q", [second], max_length=2) == [(NEW, second.id)]


def test_a_repeat_needs_no_room(engine: Engine) -> None:
    first = request()
    engine.add("q", [first], max_length=1)
    assert engine.add("q", [request()], max_length=1) == [(REPEATED, first.id)]
    assert engine.add("q", [request(digest="h2")], max_length=1) == [(CONFLICT, first.id)]


def test_a_repeat_leaves_no_trace(rig: Rig) -> None:
    rig.engine.add("q", [request()])
    stored, last = rig.stored(), rig.engine.last_event("q")
    rig.engine.add("q", [request(), request(digest="h2")])
    assert (rig.stored(), rig.engine.last_event("q")) == (stored, last)


def test_keys_are_forgotten_in_the_end(rig: Rig) -> None:
    none = keeping(completed_count=0)
    rig.engine.add("q", [request(window_ms=SHORT_MS)])
    (job,) = cycle(rig.engine, want=1).jobs
    cycle(rig.engine, [finish(job)], queue=none)
    rig.pass_time(SHORT_MS + 20)
    cycle(rig.engine, queue=none)
    assert rig.stored() == set()


@pytest.mark.parametrize("key", ["", "x" * 201, "a\nb", "\x00", "half a pair \ud800"])
def test_what_fits_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValidationFailed, match="idempotency key"):
        Idempotency(key, "h")
