"""A worker that is killed fifty times over one import: the table ends as if nothing had happened."""

from __future__ import annotations

import random
import re
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import pytest

from shared.engine.states import State
from tests.faults.imports import ROWS, ImportSite, write_workbook
from tests.integration.broker.patience import eventually
from tests.servers import ValkeyServer

KILLS = 50
LEASE_S = 2.0
#: how long after a kill the job must be at work again, beyond the lease: a new process has to start
MARGIN_S = 2.0
#: small batches, so that there is something left to do after each of so many deaths
BATCH_SIZE = 100
#: longest life of a worker after it took the job up, seconds
LONGEST_RUN_S = 1.5
#: share of the kills that come while a worker starts, or waits for the lease of the one before
EARLY_SHARE = 0.2
#: when a worker process was up, in its log
READY_AT = re.compile(r'"event": "Worker process is ready for action\.".*"timestamp": "([^"]+)"')


@pytest.mark.timeout(900)
def test_an_import_survives_fifty_kills_of_its_worker(server: ValkeyServer, tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    workbook = tmp_path / "terms.xlsx"
    write_workbook(workbook)

    calm = ImportSite(server, "calm", tmp_path / "calm", lease_s=LEASE_S)
    calm_id = calm.submit(workbook, batch_size=BATCH_SIZE)
    with calm.worker():
        eventually(lambda: calm.job(calm_id).state.finished, within=180)
    expected = calm.outcome(calm_id)
    assert expected.rows < ROWS, "some rows must be updates and rejects, or the counters prove little"
    assert expected.counters["updated"] > 0
    assert expected.counters["rejected"] > 0

    site = ImportSite(server, "shaken", tmp_path / "shaken", lease_s=LEASE_S)
    job_id = site.submit(workbook, batch_size=BATCH_SIZE)
    begun = time.monotonic()
    lives = kill_again_and_again(site, job_id, random.Random(seed))
    before_the_end = site.rows()
    with site.worker():
        # nobody intervenes from here on
        eventually(lambda: site.job(job_id).state.finished, within=180)
    took_s = time.monotonic() - begun

    job = site.job(job_id)
    answers_ms, late_ms = answers(site, job_id, lives)
    starts_ms = [life.start_ms for life in lives if life.start_ms]
    held = sum(life.held for life in lives)
    print(
        f"{len(lives)} kills, {held} of them while the job ran; {took_s:.0f} s, "
        f"undisturbed {calm.job(calm_id).result['seconds']:.1f} s; "
        f"{before_the_end} of {expected.rows} rows when the last life began\n"
        f"kill to the job's next start, ms: median {statistics.median(answers_ms):.0f}, "
        f"longest {max(answers_ms)} of {len(answers_ms)}; "
        f"start of a worker, ms: median {statistics.median(starts_ms):.0f}, longest {max(starts_ms):.0f}"
    )
    assert job.state is State.COMPLETED
    assert len(lives) == KILLS
    assert held >= KILLS // 2
    assert 0 < before_the_end < expected.rows, "the kills were spread over the import"
    assert site.outcome(job_id) == expected
    assert not late_ms
    assert job.attempt == 1, "a worker's death costs no attempt"
    names = [event.name for event in site.events(job_id, "0")]
    assert names.count("completed") == 1
    assert names.count("failed") == 0


@dataclass(frozen=True)
class Life:
    """One worker, from its start to its kill; times are milliseconds since the epoch."""

    started_ms: float
    killed_ms: float
    #: how long it took to be ready; None when it was killed before
    start_ms: float | None
    #: whether it held the job when it was killed
    held: bool


def kill_again_and_again(site: ImportSite, job_id: str, chance: random.Random) -> list[Life]:
    """Start a worker, kill it at a random moment, start the next.

    No life gets so far that too little is left for those to come.
    """
    lives: list[Life] = []
    for number in range(1, KILLS + 1):
        most_rows = ROWS * number // (KILLS + 2)
        started_ms = time.time() * 1000

        def has_it(started_ms: float = started_ms) -> bool:
            job = site.job(job_id)
            return job.state is State.ACTIVE and (job.started_ms or 0) >= started_ms

        with site.worker() as worker:
            early = chance.random() < EARLY_SHARE
            if not early:
                eventually(lambda: has_it() or has_ended(site, job_id), why=f"life {number}: taken up again")
            assert not has_ended(site, job_id), f"life {number}: {site.job(job_id)}\n{worker.log()}"
            wait_until(time.monotonic() + chance.uniform(0, LONGEST_RUN_S), site, most_rows)
            held = has_it()
            killed_ms = time.time() * 1000
            worker.kill()
            ready = READY_AT.search(worker.log())
            start_ms = datetime.fromisoformat(ready[1]).timestamp() * 1000 - started_ms if ready else None
            lives.append(Life(started_ms, killed_ms, start_ms, held))
    return lives


def answers(site: ImportSite, job_id: str, lives: list[Life]) -> tuple[list[int], list[int]]:
    """Give the time from a kill to the job's next start, for each start that followed one, and those too long, in ms.

    Of several kills in a row, with no start between them, the last counts: nobody lived who could have answered. And
    a process that was longer in starting than the margin, on a busy machine, is given that much more.
    """
    found, late = [], []
    for event in site.events(job_id, "0"):
        at_ms = int(event.id.partition("-")[0])
        before = [life for life in lives if life.killed_ms <= at_ms]
        if event.name == "active" and before:
            after = next((life for life in lives if life.started_ms <= at_ms < life.killed_ms), None)
            slow_ms = max(0.0, (after.start_ms or 0) - MARGIN_S * 1000) if after else 0.0
            found.append(round(at_ms - before[-1].killed_ms))
            if found[-1] > (LEASE_S + MARGIN_S) * 1000 + slow_ms:
                late.append(found[-1])
    return found, late


def has_ended(site: ImportSite, job_id: str) -> bool:
    return site.job(job_id).state.finished


def wait_until(deadline: float, site: ImportSite, most_rows: int) -> None:
    while time.monotonic() < deadline and site.rows() < most_rows:
        time.sleep(0.005)
