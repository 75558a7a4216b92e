"""What people do to jobs: cancel, retry, promote, remove; in every state, allowed and refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.engine.engine import Engine, FinishStatus, LeaseStatus, Outcome
from shared.engine.states import State
from shared.errors import JobNotFound, UnknownQueue, WrongState
from tests.engine.harness import Rig, add_blocked, add_one, cycle, end, read, run_one, state_of, take_one


def waiting(engine: Engine) -> str:
    return add_one(engine)


def delayed(engine: Engine) -> str:
    return add_one(engine, delay_ms=60_000)


def active(engine: Engine) -> str:
    add_one(engine)
    return take_one(engine).id


def completed(engine: Engine) -> str:
    return run_one(engine)


def failed(engine: Engine) -> str:
    return run_one(engine, Outcome.FAIL)


def cancelled(engine: Engine) -> str:
    job_id = add_one(engine)
    engine.cancel(job_id)
    return job_id


MAKE: dict[str, Callable[[Engine], str]] = {
    "waiting": waiting,
    "delayed": delayed,
    "blocked": add_blocked,
    "active": active,
    "completed": completed,
    "failed": failed,
    "cancelled": cancelled,
}

#: action -> state before -> state after; a state that is not here refuses
ALLOWED: dict[str, dict[str, str | None]] = {
    "cancel": {"waiting": "cancelled", "delayed": "cancelled", "blocked": "cancelled", "active": "active"},
    "retry": {"failed": "waiting", "cancelled": "waiting"},
    "promote": {"delayed": "waiting"},
    "remove": dict.fromkeys(("waiting", "delayed", "blocked", "completed", "failed", "cancelled")),
}


@pytest.mark.parametrize("before", MAKE)
@pytest.mark.parametrize("action", ALLOWED)
def test_every_action_in_every_state(engine: Engine, action: str, before: str) -> None:
    job_id = MAKE[before](engine)
    assert state_of(engine, job_id) == before
    record, last = engine.get(job_id), engine.last_event("q")
    act = getattr(engine, action)
    if before in ALLOWED[action]:
        act(job_id)
        assert state_of(engine, job_id) == ALLOWED[action][before]
        assert engine.last_event("q") != last, "whoever watches is told"
    else:
        with pytest.raises(WrongState, match=job_id):
            act(job_id)
        assert engine.get(job_id) == record
        assert engine.last_event("q") == last
    counts = engine.counts("q")
    now = {name: getattr(counts, name) for name in MAKE if getattr(counts, name)}
    after = state_of(engine, job_id)
    assert now == ({after: 1} if after else {})


@pytest.mark.parametrize("action", ALLOWED)
@pytest.mark.parametrize("job_id", ["q.01ARZ3NDEKTSV4RRFFQ69G5FAV", "nonsense", "q.short", ".", "", "q.", "-.x" * 9])
def test_a_job_that_is_not_there(engine: Engine, action: str, job_id: str) -> None:
    with pytest.raises(JobNotFound):
        getattr(engine, action)(job_id)


def test_reading_a_job_that_is_not_there(engine: Engine) -> None:
    assert engine.get("q.01ARZ3NDEKTSV4RRFFQ69G5FAV") is None
    assert engine.load_checkpoint("q.01ARZ3NDEKTSV4RRFFQ69G5FAV") is None
    assert engine.logs("q.01ARZ3NDEKTSV4RRFFQ69G5FAV") == []
    with pytest.raises(JobNotFound):
        engine.get("nonsense")


@pytest.mark.parametrize("queue", ["", "1a", "a b", "a{b}", "a:b", "a" * 65, "größe"])
def test_a_name_that_no_queue_can_have(engine: Engine, queue: str) -> None:
    with pytest.raises(UnknownQueue):
        engine.counts(queue)


def test_a_running_job_is_asked_to_stop_once(engine: Engine) -> None:
    job_id = add_one(engine)
    job = take_one(engine)
    assert engine.cancel(job_id) is State.ACTIVE
    last = engine.last_event("q")
    assert engine.cancel(job_id) is State.ACTIVE
    assert engine.last_event("q") == last
    record = engine.get(job_id)
    assert record is not None
    assert record.cancel_requested
    assert engine.lease_status(job.id, job.token) is LeaseStatus.CANCEL_REQUESTED


@pytest.mark.parametrize(
    ("outcome", "after"),
    [
        (Outcome.COMPLETE, "completed"),
        (Outcome.FAIL, "failed"),
        (Outcome.CANCEL, "cancelled"),
        (Outcome.RETRY, "cancelled"),
        (Outcome.RELEASE, "cancelled"),
    ],
)
def test_how_a_job_ends_that_was_to_be_cancelled(engine: Engine, outcome: Outcome, after: str) -> None:
    """It ends as its worker says, but it never runs again."""
    job_id = add_one(engine)
    job = take_one(engine)
    engine.cancel(job_id)
    assert end(engine, job, outcome) is FinishStatus.COMMITTED
    assert state_of(engine, job_id) == after
    assert read(engine, job_id).cancel_requested, "somebody who looks later sees why"
    assert cycle(engine, want=1).jobs == []


def test_a_cancelled_job_says_so(engine: Engine) -> None:
    job_id = delayed(engine)
    assert engine.cancel(job_id) is State.CANCELLED
    record = engine.get(job_id)
    assert record is not None
    assert record.error == {
        "type": "JobCancelled",
        "code": "cancelled",
        "retryable": False,
        "message": "The job was cancelled.",
    }
    assert record.finished_ms is not None
    assert record.attempts == []


def test_a_retried_job_starts_afresh(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    rig.engine.progress(job.id, job.token, 80, "nearly", {})
    rig.engine.save_checkpoint(job.id, job.token, b"row 80")
    rig.engine.cancel(job_id)
    end(rig.engine, job, Outcome.FAIL)
    rig.engine.retry(job_id)
    record = rig.engine.get(job_id)
    assert record is not None
    assert (record.state, record.attempt, record.stalls, record.progress) == (State.WAITING, 0, 0, None)
    assert (record.error, record.finished_ms, record.cancel_requested) == (None, None, False)
    assert [a["outcome"] for a in record.attempts] == ["fail"], "what happened is not forgotten"
    again = take_one(rig.engine)
    assert again.attempt == 1
    assert rig.engine.lease_status(again.id, again.token) is LeaseStatus.HELD
    assert rig.engine.load_checkpoint(job_id) == b"row 80", "nor what was done"


def test_a_job_that_completes_after_it_was_run_again_keeps_no_checkpoint(engine: Engine) -> None:
    job_id = add_one(engine)
    job = take_one(engine)
    engine.save_checkpoint(job_id, job.token, b"row 80")
    end(engine, job, Outcome.FAIL)
    engine.retry(job_id)
    end(engine, take_one(engine))
    assert engine.load_checkpoint(job_id) is None


def test_retried_and_promoted_jobs_go_to_the_end_of_their_priority(engine: Engine) -> None:
    again = failed(engine)
    later = delayed(engine)
    first = add_one(engine)
    last = add_one(engine, priority=1)
    engine.promote(later)
    engine.retry(again)
    order = [job.id for job in cycle(engine, want=9).jobs]
    assert order == [first, later, again, last]


def test_removing_leaves_nothing_behind(rig: Rig) -> None:
    job_id = add_one(rig.engine, keep_s=3_600)
    job = take_one(rig.engine)
    rig.engine.log(job.id, job.token, "info", "line", {})
    rig.engine.save_checkpoint(job.id, job.token, b"x")
    end(rig.engine, job)
    assert rig.stored()
    rig.engine.remove(job_id)
    assert rig.stored() == set()
    assert rig.engine.get(job_id) is None
