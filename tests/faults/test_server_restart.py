"""The queue server itself dies: with its append-only file on, nothing that was answered is lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import EngineUnavailable
from tests.integration.broker.ledger import Ledger
from tests.integration.broker.patience import eventually
from tests.integration.broker.processes import WorkerProcess
from tests.servers import ValkeyServer

JOBS = 2_000


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_restart_in_the_middle_of_a_drain_loses_nothing(
    how: str, make_valkey: Callable[..., ValkeyServer], tmp_path: Path
) -> None:
    server = make_valkey(appendonly=True)
    ledger = Ledger(tmp_path, RedisEngine.from_url(server.url))
    names = [f"job-{number:04d}" for number in range(JOBS)]
    ids = ledger.put_all("brief", names)
    environment = ledger.environment(server.url, "cb", lease_s=5)
    with WorkerProcess("services.workers.main", tmp_path, environment, processes=2, threads=4).ready() as worker:
        for restart in range(1, 4):
            eventually(partial(has_run, ledger, restart * JOBS // 5))
            getattr(server, how)()
            eventually(partial(has_noticed, worker, restart), why="the workers noticed")
            server.start()
        eventually(lambda: count(ledger, State.COMPLETED) == JOBS, within=60)
        worker.terminate()
        assert worker.wait() == 0, worker.log()
    for job_id in ids[:: JOBS // 100]:
        job = ledger.engine.get(job_id)
        # the last thousand completed ones are kept
        assert job is None or (job.state, len(job.attempts)) == (State.COMPLETED, 1)
    runs = Counter(ledger.names("ran"))
    assert set(runs) == set(names), "no job is lost"
    assert max(runs.values()) == 1, "the workers lived on, so no job had to run twice"
    completed = Counter(
        event.job_id
        for event in ledger.engine.events({"probe-jobs": "0"}, block_ms=0, limit=20_000)
        if event.name == "completed"
    )
    assert completed == Counter(ids), "each was recorded completed, once"


def has_run(ledger: Ledger, many: int) -> bool:
    return len(ledger.lines("ran")) >= many


def has_noticed(worker: WorkerProcess, times: int) -> bool:
    return worker.log().count('"queue_unavailable"') >= times


def count(ledger: Ledger, state: State) -> int:
    """Count by the events, since retention keeps a thousand jobs."""
    try:
        events = ledger.engine.events({"probe-jobs": "0"}, block_ms=0, limit=20_000)
    except EngineUnavailable:
        return 0
    return sum(event.name == state for event in events)
