"""Wake-ups: no job may wait while a worker sleeps, in whatever order things happen.

The rule that all of this follows from: while a job waits in a queue that is not paused, either the wake level is
armed, or somebody took it and has not cycled yet. And whoever learns of the next due time has a thread to spare to
act on it, or the level is armed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.engine.engine import Engine, Outcome
from tests.engine.harness import Rig, add, add_one, cycle, end, finish, is_armed, make_job, take_one


def test_an_empty_queue_wakes_nobody(engine: Engine) -> None:
    assert not is_armed(engine)
    cycle(engine, want=1)
    assert not is_armed(engine)


def failed(rig: Rig) -> str:
    job_id = add_one(rig.engine)
    end(rig.engine, take_one(rig.engine), Outcome.FAIL)
    return job_id


def expired(rig: Rig) -> str:
    job_id = add_one(rig.engine)
    take_one(rig.engine)
    rig.expire(job_id)
    return job_id


def due(rig: Rig) -> str:
    job_id = add_one(rig.engine, delay_ms=60_000)
    rig.make_due(job_id)
    return job_id


WAYS_INTO_WAITING: dict[str, tuple[Callable[[Rig], str], Callable[[Rig, str], object]]] = {
    "add": (lambda rig: "", lambda rig, _: add_one(rig.engine)),
    "add, with jobs that are known": (
        lambda rig: add_one(rig.engine, delay_ms=60_000),
        lambda rig, known: rig.engine.add("q", [make_job(id=known), make_job()]),
    ),
    "retry": (failed, lambda rig, job_id: rig.engine.retry(job_id)),
    "promote": (lambda rig: add_one(rig.engine, delay_ms=60_000), lambda rig, job_id: rig.engine.promote(job_id)),
    "reap": (expired, lambda rig, _: rig.engine.reap("q")),
    "reap by a cycle": (expired, lambda rig, _: cycle(rig.engine)),
    "coming due": (due, lambda rig, _: cycle(rig.engine)),
}


@pytest.mark.parametrize("way", WAYS_INTO_WAITING)
def test_every_way_into_waiting_arms_the_level(rig: Rig, way: str) -> None:
    prepare, happen = WAYS_INTO_WAITING[way]
    job_id = prepare(rig)
    is_armed(rig.engine)
    happen(rig, job_id)
    assert rig.engine.counts("q").waiting == 1
    assert is_armed(rig.engine)
    assert not is_armed(rig.engine), "it is a level of one, not a count"


@pytest.mark.parametrize("way", WAYS_INTO_WAITING)
def test_no_way_into_waiting_wakes_a_paused_queue(rig: Rig, way: str) -> None:
    prepare, happen = WAYS_INTO_WAITING[way]
    job_id = prepare(rig)
    rig.engine.pause("q")
    assert not is_armed(rig.engine)
    happen(rig, job_id)
    assert rig.engine.counts("q").waiting == 1
    assert not is_armed(rig.engine)
    rig.engine.resume("q")
    assert is_armed(rig.engine)


@pytest.mark.parametrize("outcome", [Outcome.RELEASE, Outcome.RETRY])
def test_a_job_sent_back_by_a_worker_that_wants_none_wakes_another(engine: Engine, outcome: Outcome) -> None:
    add_one(engine)
    job = take_one(engine)
    is_armed(engine)
    cycle(engine, [finish(job, outcome)], want=0)
    assert is_armed(engine)


def test_pausing_takes_the_wake_up_back(engine: Engine) -> None:
    add_one(engine)
    engine.pause("q")
    assert not is_armed(engine)


def test_the_level_does_not_grow(engine: Engine) -> None:
    for _ in range(5):
        add(engine, 3)
    assert is_armed(engine)
    assert not is_armed(engine)


def test_whoever_leaves_jobs_behind_wakes_the_next(engine: Engine) -> None:
    add(engine, 3)
    for left in (2, 1):
        assert is_armed(engine)
        take_one(engine)
        assert engine.counts("q").waiting == left
    assert is_armed(engine)
    take_one(engine)
    assert not is_armed(engine), "nothing is left"


def test_a_worker_that_takes_the_wake_up_and_wants_nothing_passes_it_on(engine: Engine) -> None:
    add_one(engine)
    assert is_armed(engine)
    cycle(engine, want=0)
    assert is_armed(engine)


def test_a_worker_that_dies_with_the_wake_up_holds_nothing_up(rig: Rig) -> None:
    """What it took along is put back by the next look of any other worker, woken or not."""
    first, second = add(rig.engine, 2)
    assert is_armed(rig.engine)  # and then it dies
    other = rig.another()
    assert take_one(other).id == first
    assert is_armed(rig.engine)
    assert take_one(other).id == second


def test_a_worker_that_dies_with_the_wake_up_does_not_silence_later_adds(engine: Engine) -> None:
    add_one(engine)
    assert is_armed(engine)  # and then it dies
    add_one(engine)
    assert is_armed(engine)


def test_a_job_due_earlier_than_all_others_wakes_somebody(engine: Engine) -> None:
    add_one(engine, delay_ms=60_000)
    assert is_armed(engine), "the first: nobody knew of it"
    add_one(engine, delay_ms=90_000)
    assert not is_armed(engine), "whoever knows of the first will look in time"
    add_one(engine, delay_ms=30_000)
    assert is_armed(engine)
    engine.add("q", [make_job(delay_ms=80_000), make_job(delay_ms=10_000), make_job(delay_ms=70_000)])
    assert is_armed(engine)
    reply = cycle(engine, want=1)
    assert reply.next_ms is not None
    assert reply.next_ms <= 10_000


@pytest.mark.parametrize("full", [True, False])
def test_a_retry_due_before_all_others_is_timed_by_somebody_with_a_thread_to_spare(engine: Engine, full: bool) -> None:
    add_one(engine)
    job = take_one(engine)
    if full:
        add_one(engine)
    is_armed(engine)
    reply = cycle(engine, [finish(job, Outcome.RETRY, delay_ms=30_000)], want=1)
    assert len(reply.jobs) == full
    assert reply.next_ms is not None
    assert reply.next_ms <= 30_000, "the caller knows"
    assert is_armed(engine) == full, "but when it is full, another must"


def test_a_retry_due_after_others_wakes_nobody(engine: Engine) -> None:
    add_one(engine)
    job = take_one(engine)
    add_one(engine, delay_ms=10_000)
    is_armed(engine)
    cycle(engine, [finish(job, Outcome.RETRY, delay_ms=30_000)])
    assert not is_armed(engine)


def test_the_word_names_the_queue(engine: Engine) -> None:
    waiter = engine.waiter("w")
    assert waiter.wait(["a", "b.c"], 0.01) is None
    engine.add("b.c", [make_job("b.c")])
    assert waiter.wait(["a", "b.c"], 5) == "b.c"
    waiter.close()


def test_an_interrupt_ends_the_wait_or_the_next_one(engine: Engine) -> None:
    waiter = engine.waiter("w")
    waiter.interrupt()
    assert waiter.wait(["q"], 30) is None
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(waiter.wait, ["q"], 30)
        waiter.interrupt()
        assert waiting.result(timeout=3) is None
    waiter.close()


def test_an_interrupt_is_for_one_process(engine: Engine) -> None:
    one, other = engine.waiter("w1"), engine.waiter("w2")
    one.interrupt()
    add_one(engine)
    assert other.wait(["q"], 5) == "q"
    assert one.wait(["q"], 5) is None
    one.close()
    other.close()


def test_workers_that_only_move_when_woken_run_everything(rig: Rig) -> None:
    """Four workers with one thread each race with a producer; none of them ever looks without being woken."""
    total, workers = 300, 4
    done: set[str] = set()
    finished = threading.Event()
    engines = [rig.another() for _ in range(workers)]

    def work(number: int) -> None:
        engine = engines[number]
        waiter = engine.waiter(f"w{number}")
        while not finished.is_set():
            if waiter.wait(["q"], 0.5) is None:
                continue
            reply = cycle(engine, want=1, worker=f"w{number}")
            while reply.jobs:
                done.update(job.id for job in reply.jobs)
                ends = [finish(job) for job in reply.jobs]
                reply = cycle(engine, ends, want=1, worker=f"w{number}")
                if len(done) == total:
                    finished.set()
        waiter.close()

    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(work, number) for number in range(workers)]
        ids = {job_id for _ in range(total // 3) for job_id in add(rig.engine, 3)}
        try:
            assert finished.wait(20), f"{rig.engine.counts('q')} and nobody is woken"
        finally:
            finished.set()
        for worker in running:
            worker.result()
    assert done == ids
