"""Reading jobs page by page."""

from __future__ import annotations

import pytest

from shared.engine.engine import Engine, Outcome
from shared.engine.states import State
from shared.errors import ValidationFailed
from tests.engine.harness import Rig, add, add_one, cycle, end, finish, make_job, run_one, take, take_one


def read_all(engine: Engine, state: State, *, limit: int, newest_first: bool = False) -> list[str]:
    found: list[str] = []
    cursor: str | None = None
    while True:
        page = engine.list("q", state, cursor=cursor, limit=limit, newest_first=newest_first)
        assert len(page.jobs) <= limit
        assert all(job.state is state for job in page.jobs)
        found += [job.id for job in page.jobs]
        cursor = page.cursor
        if cursor is None:
            return found


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 4, 12, 50])
def test_a_whole_list_without_gaps_and_doubles(engine: Engine, limit: int, newest_first: bool) -> None:
    ids = [job_id for priority in (-1000, -1, 2) for job_id in add(engine, 4, priority=priority)]
    expected = ids[::-1] if newest_first else ids
    assert read_all(engine, State.WAITING, limit=limit, newest_first=newest_first) == expected


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("limit", [1, 3, 100])
def test_ties_are_ordered_by_id(engine: Engine, limit: int, newest_first: bool) -> None:
    jobs = [make_job(run_at_ms=4_000_000_000_000) for _ in range(10)]
    engine.add("q", jobs)
    expected = sorted((job.id for job in jobs), reverse=newest_first)
    assert read_all(engine, State.DELAYED, limit=limit, newest_first=newest_first) == expected


def test_jobs_of_other_states_and_queues_are_not_listed(engine: Engine) -> None:
    done = run_one(engine)
    engine.add("other", [make_job("other")])
    waiting = add_one(engine)
    assert read_all(engine, State.COMPLETED, limit=5) == [done]
    assert read_all(engine, State.WAITING, limit=5) == [waiting]
    assert read_all(engine, State.BLOCKED, limit=5) == []


def test_finished_jobs_are_listed_by_their_end(rig: Rig) -> None:
    ids = [run_one(rig.engine) for _ in range(4)]
    for number, job_id in enumerate(ids):
        rig.age(job_id, 60_000 * (number + 1))
    assert read_all(rig.engine, State.COMPLETED, limit=2) == ids[::-1]
    assert read_all(rig.engine, State.COMPLETED, limit=2, newest_first=True) == ids


@pytest.mark.parametrize("newest_first", [False, True])
@pytest.mark.parametrize("run_at_ms", [None, 4_000_000_000_000], ids=["places", "ties"])
def test_the_job_of_the_cursor_moved_away(engine: Engine, newest_first: bool, run_at_ms: int | None) -> None:
    jobs = [make_job(run_at_ms=run_at_ms) for _ in range(9)]
    engine.add("q", jobs)
    state = State.WAITING if run_at_ms is None else State.DELAYED
    ids = sorted((job.id for job in jobs), reverse=newest_first)
    page = engine.list("q", state, limit=4, newest_first=newest_first)
    assert [job.id for job in page.jobs] == ids[:4]
    engine.remove(ids[3])
    engine.remove(ids[1])
    engine.remove(ids[4])
    rest = engine.list("q", state, cursor=page.cursor, limit=9, newest_first=newest_first)
    assert [job.id for job in rest.jobs] == ids[5:]


@pytest.mark.parametrize("newest_first", [False, True])
def test_the_job_of_the_cursor_moved_within_the_list(engine: Engine, newest_first: bool) -> None:
    """The reader goes on where it was, and is not taken along to the other end."""
    jobs = [make_job() for _ in range(6)]
    engine.add("q", jobs)
    ids = sorted((job.id for job in jobs), reverse=newest_first)
    page = engine.list("q", State.WAITING, limit=3, newest_first=newest_first)
    leased = take(engine, 6)
    (moved,) = [job for job in leased if job.id == ids[2]]
    cycle(engine, [finish(job) for job in leased if job is not moved])
    end(engine, moved, Outcome.RETRY)
    rest = engine.list("q", State.WAITING, cursor=page.cursor, limit=9, newest_first=newest_first)
    assert [job.id for job in rest.jobs] == ([] if newest_first else [ids[2]])


def test_a_full_last_page_is_followed_by_an_empty_one_at_most(engine: Engine) -> None:
    add(engine, 4)
    page = engine.list("q", State.WAITING, limit=4)
    assert len(page.jobs) == 4
    if page.cursor is not None:
        last = engine.list("q", State.WAITING, cursor=page.cursor, limit=4)
        assert (last.jobs, last.cursor) == ([], None)


@pytest.mark.parametrize("cursor", ["x", "1:2", ":", "abc:01ARZ3NDEKTSV4RRFFQ69G5FAV", "1:01ARZ3NDEKTSV4RRFFQ69G5FA*"])
def test_a_cursor_that_no_page_gave(engine: Engine, cursor: str) -> None:
    with pytest.raises(ValidationFailed, match="cursor"):
        engine.list("q", State.WAITING, cursor=cursor)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_one(engine: Engine, limit: int) -> None:
    add(engine, 3)
    assert len(engine.list("q", State.WAITING, limit=limit).jobs) == 1


def test_counts(engine: Engine) -> None:
    add(engine, 2, delay_ms=60_000)
    add(engine, 6)
    jobs = take(engine, 3)
    cycle(engine, [finish(job) for job in jobs[:2]])
    engine.cancel(add_one(engine))
    counts = engine.counts("q")
    assert (counts.waiting, counts.delayed, counts.active, counts.completed) == (3, 2, 1, 2)
    assert (counts.failed, counts.cancelled, counts.blocked, counts.paused) == (0, 1, 0, False)
    take_one(engine)
    assert engine.counts("q").active == 2
