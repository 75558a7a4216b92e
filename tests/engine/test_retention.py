"""How long finished jobs are kept."""

from __future__ import annotations

import pytest

from shared.engine.engine import Engine, Outcome
from tests.engine.harness import Rig, add, add_one, cycle, end, finish, keeping, run_one, state_of, take, take_one

FAR = 10**9


def finish_all(engine: Engine, count: int, outcome: Outcome = Outcome.COMPLETE) -> list[str]:
    """Run jobs to their end, one after another; gives their ids, oldest first."""
    return [run_one(engine, outcome) for _ in range(count)]


@pytest.mark.parametrize(
    ("outcome", "bound"),
    [
        (Outcome.COMPLETE, "completed_count"),
        (Outcome.FAIL, "failed_count"),
        (Outcome.CANCEL, "failed_count"),
    ],
)
def test_by_count_the_oldest_go_first(rig: Rig, outcome: Outcome, bound: str) -> None:
    ids = finish_all(rig.engine, 5, outcome)
    for number, job_id in enumerate(ids):
        rig.age(job_id, 1_000 * (len(ids) - number))
    cycle(rig.engine, queue=keeping(**{bound: 3}))
    assert [rig.engine.get(job_id) is not None for job_id in ids] == [False, False, True, True, True]


@pytest.mark.parametrize(
    ("outcome", "bound"),
    [
        (Outcome.COMPLETE, "completed_age_s"),
        (Outcome.FAIL, "failed_age_s"),
        (Outcome.CANCEL, "failed_age_s"),
    ],
)
def test_by_age(rig: Rig, outcome: Outcome, bound: str) -> None:
    old, young = finish_all(rig.engine, 2, outcome)
    rig.age(old, 61_000)
    rig.age(young, 59_000)
    cycle(rig.engine, queue=keeping(**{bound: 60}))
    assert rig.engine.get(old) is None
    assert rig.engine.get(young) is not None


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.FAIL, Outcome.CANCEL])
def test_the_bounds_of_one_kind_do_not_touch_the_other(rig: Rig, outcome: Outcome) -> None:
    job_id = run_one(rig.engine, outcome)
    others = "failed" if outcome is Outcome.COMPLETE else "completed"
    cycle(rig.engine, queue=keeping(**{f"{others}_count": 0, f"{others}_age_s": 0}))
    assert rig.engine.get(job_id) is not None


@pytest.mark.parametrize("bound", ["completed_count", "completed_age_s"])
def test_keeping_none(rig: Rig, bound: str) -> None:
    add_one(rig.engine)
    job = take_one(rig.engine)
    rig.engine.log(job.id, job.token, "info", "line", {})
    cycle(rig.engine, [finish(job)], queue=keeping(**{bound: 0}))
    assert rig.stored() == set()


def test_a_quiet_queue_ages_too(rig: Rig) -> None:
    job_id = run_one(rig.engine)
    rig.age(job_id, 2 * 24 * 3600 * 1000)
    assert cycle(rig.engine, want=1).jobs == []
    assert rig.stored() == set()


def test_only_so_many_are_deleted_at_once_and_all_in_the_end(rig: Rig) -> None:
    add(rig.engine, 350)
    cycle(rig.engine, [finish(job) for job in take(rig.engine, 350)], queue=keeping(completed_count=FAR))
    left = []
    for _ in range(4):
        cycle(rig.engine, queue=keeping(completed_count=0, completed_age_s=FAR))
        left.append(rig.engine.counts("q").completed)
    assert left == [250, 150, 50, 0]
    assert rig.stored() == set()


def test_no_more_is_kept_however_many_end_at_once(rig: Rig) -> None:
    queue = keeping(completed_count=10)
    for _ in range(4):
        add(rig.engine, 250)
        cycle(rig.engine, [finish(job) for job in take(rig.engine, 250, queue=queue)], queue=queue)
    assert rig.engine.counts("q").completed == 10


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.FAIL, Outcome.CANCEL])
def test_a_job_that_asked_to_be_kept_for_less(rig: Rig, outcome: Outcome) -> None:
    job_id = add_one(rig.engine, keep_s=60)
    other = add_one(rig.engine)
    for job in take(rig.engine, 2):
        end(rig.engine, job, outcome)
    cycle(rig.engine)
    assert rig.engine.get(job_id) is not None
    rig.outlive(job_id)
    cycle(rig.engine)
    assert rig.engine.get(job_id) is None
    assert rig.engine.get(other) is not None
    assert not any("expires" in name for name in rig.stored())


def test_a_cancelled_job_too(rig: Rig) -> None:
    job_id = add_one(rig.engine, keep_s=60)
    rig.engine.cancel(job_id)
    rig.outlive(job_id)
    cycle(rig.engine)
    assert rig.stored() == set()


def test_a_job_that_asked_to_be_kept_for_no_time(rig: Rig) -> None:
    add_one(rig.engine, keep_s=0)
    end(rig.engine, take_one(rig.engine))
    assert rig.stored() == set()


def test_a_job_that_runs_again_is_not_swept(rig: Rig) -> None:
    job_id = add_one(rig.engine, keep_s=60)
    end(rig.engine, take_one(rig.engine), Outcome.FAIL)
    rig.engine.retry(job_id)
    assert not any("expires" in name for name in rig.stored())
    cycle(rig.engine)
    assert state_of(rig.engine, job_id) == "waiting"
    end(rig.engine, take_one(rig.engine))
    rig.outlive(job_id)
    cycle(rig.engine)
    assert rig.engine.get(job_id) is None


def test_a_job_trimmed_by_count_leaves_no_expiry_behind(rig: Rig) -> None:
    add_one(rig.engine, keep_s=3_600)
    cycle(rig.engine, [finish(take_one(rig.engine))], queue=keeping(completed_count=0))
    assert rig.stored() == set()


def test_jobs_that_are_not_finished_are_never_swept(rig: Rig) -> None:
    none = keeping(completed_count=0, completed_age_s=0, failed_count=0, failed_age_s=0)
    add(rig.engine, 2, keep_s=0)
    add_one(rig.engine, delay_ms=60_000, keep_s=0)
    cycle(rig.engine, want=1, queue=none)
    cycle(rig.engine, queue=none)
    counts = rig.engine.counts("q")
    assert (counts.waiting, counts.active, counts.delayed) == (1, 1, 1)
