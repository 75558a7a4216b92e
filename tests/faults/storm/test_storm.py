"""Twenty thousand jobs through five hundred faults: none is lost, and none ends in a wrong state.

``STORM_JOBS``, ``STORM_FAULTS`` and ``STORM_SEED`` make another storm of it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.proxy import Moment
from tests.faults.storm import ledger as ledgers
from tests.faults.storm.report import (
    TAKES_WORKER,
    Report,
    all_faults,
    duplicates,
    quantile,
    recovery,
    surprises,
    unexplained_stalls,
)
from tests.faults.storm.site import LEASE_S, QUEUES, Site
from tests.faults.storm.storm import calm_down, raise_storm
from tests.faults.storm.verdict import lost, read_queues, state_errors
from tests.integration.broker.processes import ROOT
from tests.servers import ValkeyServer

JOBS = int(os.environ.get("STORM_JOBS", "20000"))
FAULTS = int(os.environ.get("STORM_FAULTS", "520"))
BOUND_MS = (LEASE_S + 1) * 1000
#: a small file is rewritten often, and so also while it is killed
SERVER = {"appendonly": True, "auto_aof_rewrite_min_size": "4mb"}
#: figures, and the files of a storm that went wrong
KEPT = ROOT / ".data" / "storm"


@pytest.mark.timeout(1200)
def test_nothing_is_lost_in_a_storm(
    make_valkey: Callable[..., ValkeyServer], tmp_path: Path, keep_report: Callable[[Report], None]
) -> None:
    seed = int(os.environ.get("STORM_SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}")
    began = time.monotonic()
    site = Site(tmp_path, make_valkey(**SERVER), random.Random(seed))
    try:
        plan = raise_storm(site, jobs=JOBS, faults=FAULTS)
        calm = calm_down(site)
        seconds = time.monotonic() - began
        exits = [slot.terminate() for slot in site.workers]
        stored = read_queues(site.engine, QUEUES)
    finally:
        site.close()
        site.write_faults()

    ledger = ledgers.read(tmp_path / "ledger")
    faults = all_faults(site, ledger)
    found = recovery(stored.jobs, ledger, faults, site.outages, BOUND_MS)
    again, after_done = duplicates(ledger)
    report = Report(
        seed=seed,
        seconds=seconds,
        jobs=len(stored.jobs),
        executions=len(ledger.runs),
        faults=len(faults),
        lost=lost(ledger, stored),
        state_errors=state_errors(plan, ledger, stored, site.watch.names),
        duplicates=again,
        duplicates_done=after_done,
        refusals=ledger.refusals,
        surprises=surprises(life.log() for slot in site.workers for life in slot.lives),
        unexplained=unexplained_stalls(stored.jobs, faults, site.outages, BOUND_MS),
        interrupted=len(found.net_ms),
        p50_ms=quantile(found.net_ms, 0.5),
        p99_ms=quantile(found.net_ms, 0.99),
        longest_ms=max(found.net_ms, default=0),
        p99_back_ms=quantile(found.back_ms, 0.99),
        p99_wall_ms=quantile(found.took_ms, 0.99),
        bound_ms=BOUND_MS,
        slow=found.slow,
        kinds=dict(Counter(fault.kind for fault in faults)),
        boundaries={f"{name}, {moment}": times for (name, moment), times in sorted(site.struck.items())},
    )
    keep_report(report)
    keep_files(report, tmp_path)

    assert not report.lost
    assert not report.state_errors
    assert calm, "every job had ended soon after the storm"
    added = sum(job.id in ledger.acknowledged for job in plan)
    assert added >= JOBS, "the producer was told of every job"
    assert report.faults >= FAULTS
    assert report.interrupted > report.kinds["worker frozen"], "the kills and freezes met running jobs"
    assert report.p99_ms <= BOUND_MS, report.slow
    assert exits == [0] * len(exits), "the workers stopped when they were told to"
    died = [life for slot in site.workers for life in slot.lives if life.died_ms and not life.killed]
    deaths = sum(fault.kind == TAKES_WORKER[2] for fault in faults)
    assert len(died) <= deaths, [life.log()[-2000:] for life in died]
    if FAULTS >= 500:
        scripts = {name for name, _ in site.struck}
        missed = {f"{name}, {moment}" for name in scripts for moment in Moment} - set(report.boundaries)
        assert len(scripts) >= 6, "workers call that many scripts"
        assert not missed, "a worker was killed at every boundary of every script"


def keep_files(report: Report, folder: Path) -> None:
    """Keep the figures, and everything else of a storm that found something."""
    KEPT.mkdir(parents=True, exist_ok=True)
    (KEPT / "report.json").write_text(json.dumps(report.json(), indent=1))
    shutil.copy(folder / "faults", KEPT / "faults")
    if report.lost or report.state_errors:
        for name in ("ledger", "plan"):
            shutil.copy(folder / name, KEPT / name)
