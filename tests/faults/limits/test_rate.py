"""A rate holds over three worker processes, is used up while jobs wait, and makes nobody poll."""

from __future__ import annotations

import pytest

from shared.contracts.queue import RateLimit
from tests.faults.limits.site import Site, busiest_window
from tests.integration.broker.patience import eventually

PROCESSES = 3
#: calls that a worker process may make for each start of the cluster: a timer's look, a commit, and waits for a wake-up
CALLS_A_START = 5


@pytest.mark.parametrize(
    ("rate", "periods"),
    [
        pytest.param(RateLimit(50, 3_000), 6, id="50 in 3 s", marks=pytest.mark.slow),
        pytest.param(RateLimit(50, 60_000), 3, id="50 a minute", marks=[pytest.mark.slow, pytest.mark.timeout(600)]),
    ],
)
def test_a_rate_is_kept_and_used_up_by_three_processes(site: Site, rate: RateLimit, periods: int) -> None:
    expected = periods * rate.max_jobs
    with site.workers({"rate": (rate.max_jobs, rate.per_ms)}, processes=PROCESSES):
        site.add(expected + rate.starts_at_once, 5)
        period_s = rate.per_ms / 1_000
        calls_a_second = site.calls_a_second(min(10, periods * period_s / 2))
        site.wait_until_done(periods * period_s * 1.2 + 30)
    starts = [span.began for span in site.spans()]
    assert len(starts) == expected + rate.starts_at_once
    # Never more: times are cut to milliseconds, so that a window may seem one longer than it is.
    assert busiest_window(starts, rate.per_ms - 1) <= rate.max_jobs + rate.starts_at_once
    # Never less than 95 % of it: there was a job to start until the last of them.
    took_ms = starts[-1] - starts[0]
    assert (len(starts) - rate.starts_at_once) / took_ms >= 0.95 * rate.max_jobs / rate.per_ms
    assert emptiest_window(starts, rate.per_ms) >= 0.95 * rate.max_jobs
    assert site.processes_that_ran() == PROCESSES
    starts_a_second = rate.max_jobs / period_s
    assert calls_a_second <= CALLS_A_START * PROCESSES * (starts_a_second + 1)


def emptiest_window(starts: list[float], window_ms: float) -> int:
    """Count the starts of the stretch of that length, between the first and the last of them, that has fewest."""
    ends = [start for start in starts if start <= starts[-1] - window_ms]
    # A stretch that begins right behind a start has as few as may be.
    return min(sum(1 for start in starts if begin < start <= begin + window_ms) for begin in ends)


@pytest.mark.slow
def test_workers_sleep_until_the_next_start(site: Site) -> None:
    """One start a second: between two of them each process has a timer, and nothing to ask the server."""
    with site.workers({"rate": (10, 10_000, 1)}, processes=PROCESSES):
        site.add(30, 1)
        eventually(lambda: site.engine.counts("limited").completed >= 2)
        calls_a_second = site.calls_a_second(8)
        assert site.engine.counts("limited").waiting > 10, "they were held back all the time"
    assert calls_a_second <= CALLS_A_START * PROCESSES


@pytest.mark.slow
def test_idle_workers_are_silent(site: Site) -> None:
    with site.workers({"rate": (10, 10_000, 1)}, processes=PROCESSES):
        site.add(1, 1)
        eventually(lambda: site.engine.counts("limited").completed == 1)
        assert site.calls_a_second(8) <= 2 * PROCESSES
