"""No more jobs run at once than a queue allows over three worker processes, and no fewer while jobs wait."""

from __future__ import annotations

import pytest

from shared.contracts.queue import RateLimit
from tests.faults.limits.site import QUEUE, Site, at_work, most_at_once
from tests.integration.broker.patience import eventually

pytestmark = pytest.mark.slow

#: how long a job takes, milliseconds
JOB_MS = 200
#: share of a slot's time that goes into ending a job and getting to the next one, where the machine has more to do
SLACK = 0.05


def test_a_limit_is_kept_and_used_up_by_three_processes(site: Site) -> None:
    limit = 5
    # Two processes alone could not use it up.
    with site.workers({"concurrency": limit}, threads=2):
        site.add(limit * 40, JOB_MS)
        site.wait_until_done(60)
    spans = site.spans()
    assert len(spans) == limit * 40
    assert most_at_once(spans) == limit
    begin, end = spans[limit].began, spans[-limit].began
    assert at_work(spans, begin, end) >= 0.95 * limit, "as the server has it"
    assert at_work(site.runs(), begin, end) >= (0.95 - SLACK) * limit, "as handlers have it"
    assert site.processes_that_ran() == 3


def test_a_limit_is_changed_while_they_run(site: Site) -> None:
    with site.workers({"concurrency": 5}):
        site.add(400, JOB_MS)
        eventually(lambda: site.engine.counts(QUEUE).completed >= 10)
        phases = []
        for limit in (2, 9):
            site.engine.set_limits(QUEUE, {"concurrency": limit})
            begin = site.now_ms()
            done = site.engine.counts(QUEUE).completed
            eventually(lambda done=done, limit=limit: site.engine.counts(QUEUE).completed >= done + limit * 15)  # type: ignore[misc]
            phases.append((limit, begin + 1_000, site.now_ms()))
        assert site.engine.counts(QUEUE).waiting > 0
        site.engine.drain(QUEUE)
        site.wait_until_done(10)
    spans = site.spans()
    for limit, begin, end in phases:
        within = [span for span in spans if span.ended > begin and span.began < end]
        assert most_at_once(within) == limit
        assert at_work(spans, begin, end) >= 0.95 * limit


def test_limits_of_groups_are_kept_and_used_up(site: Site) -> None:
    groups = [f"tenant-{number}" for number in range(4)]
    with site.workers({"group_concurrency": 2}):
        for group in groups:
            site.add(60, JOB_MS, group=group)
        site.wait_until_done(60)
    for group in groups:
        spans = site.spans(group)
        assert most_at_once(spans) == 2
        assert at_work(spans, spans[2].began, spans[-2].began) >= 0.95 * 2


def test_a_rate_of_groups_is_kept_and_used_up(site: Site) -> None:
    rate = RateLimit(20, 1_000, burst=2)
    groups = [f"tenant-{number}" for number in range(3)]
    with site.workers({"group_rate": (20, 1_000, 2)}):
        for group in groups:
            site.add(102, 1, group=group)
        site.wait_until_done(60)
    for group in groups:
        starts = [span.began for span in site.spans(group)]
        for first in range(len(starts)):
            for last in range(first, len(starts)):
                allowed = rate.starts_at_once + (starts[last] - starts[first] + 1) * 1_000 / rate.interval_us
                assert last - first + 1 <= allowed
        assert 100 / (starts[-1] - starts[0]) >= 0.95 * 20 / 1_000
