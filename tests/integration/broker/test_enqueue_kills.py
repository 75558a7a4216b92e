"""SIGKILL of a worker whose job leaves jobs behind: they are added once, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.integration.broker.ledger import Ledger
from tests.integration.broker.patience import eventually
from tests.integration.broker.processes import WorkerProcess
from tests.servers import ValkeyServer

WORKERS = "services.workers.main"


@pytest.fixture
def ledger(tmp_path: Path, engine: RedisEngine) -> Ledger:
    return Ledger(tmp_path, engine)


@pytest.fixture
def environment(ledger: Ledger, valkey: ValkeyServer, namespace: str) -> dict[str, str]:
    return ledger.environment(valkey.url, namespace, lease_s=2)


def left_behind(ledger: Ledger) -> int:
    """Count the jobs that were left behind, wherever they are."""
    counts = ledger.engine.counts("probe-other")
    return counts.waiting + counts.delayed + counts.active + counts.completed + counts.failed


def test_a_worker_that_is_killed_before_the_end_leaves_nothing_and_the_next_run_leaves_all(
    ledger: Ledger, environment: dict[str, str]
) -> None:
    job_id = ledger.put("leave", "job")
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2) as worker:
        eventually(lambda: len(ledger.lines("began")) == 1)
        worker.kill()
    while ledger.engine.relay("probe-jobs"):
        pass
    assert left_behind(ledger) == 0
    ledger.open_gate()
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2):
        eventually(lambda: len(ledger.lines("ran")) >= 3, within=40)
        eventually(lambda: ledger.engine.counts("probe-other").completed == 3)
    assert ledger.names("ran") == ["job-0", "job-1", "job-2"]
    job = ledger.engine.get(job_id)
    assert job is not None
    assert (job.state, job.stalls, job.attempt) == (State.COMPLETED, 1, 1)
    assert left_behind(ledger) == 3


def test_a_worker_that_is_killed_after_the_commit_has_left_all_once(
    ledger: Ledger, environment: dict[str, str]
) -> None:
    job_id = ledger.put("leave", "job", secret="die-after-commit")
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2):
        eventually((ledger.folder / "died").exists)
        job = ledger.engine.get(job_id)
        assert job is not None
        assert (job.state, job.stalls) == (State.COMPLETED, 0), "it was committed"
    assert left_behind(ledger) == 0, "they are still on their way"
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2):
        eventually(lambda: ledger.engine.counts("probe-other").completed == 3)
    assert ledger.names("ran") == ["job-0", "job-1", "job-2"]
    assert job.result.split(",") == sorted(page.id for page in ledger.engine.list("probe-other", State.COMPLETED).jobs)
    assert left_behind(ledger) == 3
