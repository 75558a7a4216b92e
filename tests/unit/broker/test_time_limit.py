"""Clocks: the interrupt of a run lands in it or nowhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from dramatiq.middleware import TimeLimitExceeded
from dramatiq.threading import raise_thread_exception

from shared.broker.middleware.time_limit import Clocks

FOR_EVER_MS = 1e9


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def in_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def run(clocks: Clocks, work: Callable[[], object], limit_ms: float = 0) -> str:
    """Run as an actor does; gives how it ended."""
    clocks.add_timeout(threading.get_ident(), limit_ms)
    try:
        try:
            work()
        finally:
            clocks.stop()
    except TimeLimitExceeded:
        return "interrupted"
    return "returned"


def test_a_run_whose_time_is_up_is_interrupted() -> None:
    clocks = Clocks(0.01)
    clocks.start()

    def work() -> None:
        while True:
            time.sleep(0.001)

    assert run(clocks, work, 20) == "interrupted"


def test_a_run_that_has_ended_is_not_interrupted() -> None:
    clocks = Clocks(1)
    assert run(clocks, lambda: None) == "returned"
    clocks.look()
    time.sleep(0)


def test_a_run_within_its_time_is_left_alone() -> None:
    clocks = Clocks(1)
    assert run(clocks, clocks.look, FOR_EVER_MS) == "returned"


def test_a_run_that_ends_while_it_is_being_interrupted_waits_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    deciding = threading.Event()

    def slowly(thread_id: int, exception: type[BaseException]) -> None:
        deciding.set()
        time.sleep(0.1)
        raise_thread_exception(thread_id, exception)

    monkeypatch.setattr("shared.broker.middleware.time_limit.raise_thread_exception", slowly)
    clocks = Clocks(1)
    ends: list[str] = []

    def work() -> None:
        deciding.wait(5)

    thread = in_thread(lambda: ends.append(run(clocks, work)))
    while not clocks._clocks:
        time.sleep(0.001)
    clocks.look()
    thread.join(5)
    assert ends == ["interrupted"]


def test_a_run_that_takes_no_notice_of_its_interrupt_ends_all_the_same() -> None:
    clocks = Clocks(1)

    def work() -> None:
        with pytest.raises(TimeLimitExceeded):
            clocks.look()

    assert run(clocks, work) == "returned"


@pytest.mark.usefixtures("switching_often")
def test_nothing_lands_after_the_end_whenever_the_time_is_up() -> None:
    clocks = Clocks(1)
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
                work = a_while if round_ % 100 == 0 else nothing
                ends.append(run(clocks, work, 0.01 * (round_ % 10)))
                # what settles the run
                sum(range(100))
        except BaseException as error:
            stray.append(error)
        finally:
            done.set()

    thread = in_thread(worker)
    while not done.is_set():
        clocks.look()
    thread.join(5)
    assert not stray
    assert len(ends) == 2_000
    assert ends.count("interrupted") >= 1
