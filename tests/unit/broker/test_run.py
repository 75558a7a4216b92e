"""Run: an order to stop lands in the run or nowhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from dramatiq.threading import raise_thread_exception

from shared.broker.run import ORDERS, Run
from shared.context import JobContext
from shared.engine.engine import LeaseStatus
from shared.errors import JobCancelled, LeaseLost, RunStopped, TimeLimitExceeded

LONG_S = 1e6


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def a_run(limit_s: float | None = 0, *, grace_s: float = LONG_S) -> Run:
    context = JobContext(None, job_id="q.1")  # type: ignore[arg-type] # nothing is reported
    return Run(context, limit_s=limit_s, grace_s=grace_s)


def carry_out(run: Run, work: Callable[[], object]) -> str:
    """Run as an actor does; gives how it ended."""
    try:
        try:
            try:
                try:
                    run.begin()
                    work()
                finally:
                    run.end()
            finally:
                run.end()
        finally:
            run.end()
    except RunStopped as stopped:
        return stopped.code
    return "returned"


def look(run: Run) -> type[RunStopped] | None:
    """Look at a run from another thread, which is where orders come from."""
    seen: list[type[RunStopped] | None] = []
    thread = threading.Thread(target=lambda: seen.append(run.look(time.monotonic())))
    thread.start()
    thread.join(5)
    return seen[0]


def busy() -> None:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        time.sleep(0.001)
    raise AssertionError("nothing came")


def stopped_while_busy(run: Run) -> None:
    look(run)
    busy()


def test_a_run_whose_time_is_up_is_told() -> None:
    run = a_run(0)
    assert carry_out(run, lambda: stopped_while_busy(run)) == "timed-out"
    assert run.reason is TimeLimitExceeded


def test_a_run_within_its_time_is_left_alone() -> None:
    run = a_run(LONG_S)
    assert carry_out(run, lambda: look(run)) == "returned"
    assert run.reason is None


@pytest.mark.parametrize(
    ("status", "why"), [(LeaseStatus.CANCEL_REQUESTED, JobCancelled), (LeaseStatus.LOST, LeaseLost)]
)
def test_a_run_whose_lease_changed_is_told(status: LeaseStatus, why: type[RunStopped]) -> None:
    run = a_run(None)
    run.context.notice(status)
    assert carry_out(run, lambda: stopped_while_busy(run)) == why.code


def test_a_run_that_has_ended_is_told_nothing() -> None:
    run = a_run(0)
    assert carry_out(run, lambda: None) == "returned"
    assert look(run) is None
    time.sleep(0)


def test_a_handler_that_looks_by_itself_gets_its_grace() -> None:
    run = a_run(None, grace_s=10)
    run.context.notice(LeaseStatus.CANCEL_REQUESTED)

    def work() -> None:
        assert run.context.cancelled
        began = time.monotonic()
        assert run.look(began) is None
        assert run.look(began + 9) is None
        run.look(began + 11)
        busy()

    assert carry_out(run, work) == "cancelled"


def test_a_run_that_goes_on_is_told_again_and_at_last_no_more() -> None:
    told: list[type[RunStopped]] = []
    run = a_run(0, grace_s=10)
    run.begin(told.append)
    start = time.monotonic()
    for second in range(60):
        run.look(start + second)
    run.end()
    assert told == [TimeLimitExceeded] * ORDERS


def test_the_first_reason_stays() -> None:
    told: list[type[RunStopped]] = []
    run = a_run(0, grace_s=10)
    run.begin(told.append)
    start = time.monotonic()
    run.look(start)
    run.context.notice(LeaseStatus.CANCEL_REQUESTED)
    run.look(start + 11)
    assert told == [TimeLimitExceeded] * 2


def test_a_run_that_swallows_the_order_hears_it_again() -> None:
    run = a_run(0, grace_s=0.01)
    heard: list[str] = []

    def work() -> None:
        for _ in range(ORDERS):
            try:
                time.sleep(0.02)
                look(run)
                busy()
            except TimeLimitExceeded as error:
                heard.append(error.code)

    assert carry_out(run, work) == "returned"
    assert len(heard) == ORDERS


def test_a_run_that_ends_while_it_is_being_told_waits_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    deciding = threading.Event()

    def slowly(thread_id: int, exception: type[BaseException]) -> None:
        deciding.set()
        time.sleep(0.1)
        raise_thread_exception(thread_id, exception)

    monkeypatch.setattr("shared.broker.run.raise_thread_exception", slowly)
    run = a_run(0)
    ends: list[str] = []
    begun = threading.Event()

    def work() -> None:
        begun.set()
        deciding.wait(5)

    thread = threading.Thread(target=lambda: ends.append(carry_out(run, work)), daemon=True)
    thread.start()
    assert begun.wait(5)
    run.look(time.monotonic())
    thread.join(5)
    assert ends == ["timed-out"]


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("grace_s", [LONG_S, 0.0], ids=["told once", "told as often as possible"])
def test_nothing_lands_after_the_end_whenever_the_order_comes(grace_s: float) -> None:
    runs: dict[Run, None] = {}
    ends: list[str] = []
    stray: list[BaseException] = []
    done = threading.Event()

    def a_while() -> None:
        time.sleep(0.02)

    def nothing() -> None:
        sum(range(50))

    def worker() -> None:
        try:
            for round_ in range(2_000):
                # some end by themselves at about the time of their limit, some are there to be interrupted
                run = a_run(0.00001 * (round_ % 10), grace_s=grace_s)
                runs[run] = None
                ends.append(carry_out(run, a_while if round_ % 100 == 0 else nothing))
                runs.pop(run, None)
                # what settles the run
                sum(range(100))
        except BaseException as error:
            stray.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=worker, daemon=True)
    thread.start()
    while not done.is_set():
        for run in list(runs):
            if run._thread_id:
                run.look(time.monotonic())
    thread.join(5)
    assert not stray
    assert len(ends) == 2_000
    assert ends.count("timed-out") >= 1
