"""A lone job does not wait behind a hundred thousand of another group."""

from __future__ import annotations

import pytest

from tests.faults.limits.site import QUEUE, Site
from tests.integration.broker.patience import eventually

MANY = 100_000


@pytest.mark.slow
@pytest.mark.parametrize("ms", [1, 20])
def test_a_lone_job_starts_within_two_rounds(site: Site, ms: float) -> None:
    for _ in range(MANY // 1_000):
        site.add(1_000, ms, group="big")
    with site.workers({}, processes=2, threads=4):
        for number in range(5):
            eventually(lambda number=number: site.engine.counts(QUEUE).completed >= 50 * (number + 1))  # type: ignore[misc]
            (lone,) = site.add(1, ms, group=f"small-{number}")
            eventually(lambda lone=lone: site.engine.get(lone).state.finished)  # type: ignore[misc,union-attr]
        assert site.engine.counts(QUEUE).waiting > MANY // 2
    jobs = site.completed()
    lone_jobs = [job for job in jobs if job.group != "big"]
    assert len(lone_jobs) == 5
    for job in lone_jobs:
        # A round is one turn of each of the two groups. Times are cut to milliseconds: what began in the very one in
        # which the job was added, or in which it began, may have begun before or after.
        between = [
            other
            for other in jobs
            if other.group == "big" and job.created_ms < (other.started_ms or 0) < (job.started_ms or 0)
        ]
        assert len(between) <= 2
