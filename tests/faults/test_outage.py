"""The queue server is away for a minute, or comes back empty: the workers go on by themselves, and say little."""

from __future__ import annotations

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import EngineUnavailable
from tests.integration.broker.patience import eventually, never
from tests.integration.broker.processes import WorkerProcess
from tests.integration.workers.site import Site, free_ports
from tests.servers import ValkeyServer

OUTAGE_S = 60.0
PROCESSES = 2
THREADS = 2


@pytest.fixture
def server(make_valkey: Callable[..., ValkeyServer]) -> ValkeyServer:
    """A server on a port, as another one may take it over."""
    return make_valkey(appendonly=True, port=free_ports(1))


@pytest.fixture
def site(tmp_path: Path, server: ValkeyServer) -> Site:
    return Site(tmp_path, RedisEngine.from_url(server.url), f"redis://127.0.0.1:{server.port}/0", "cb")


@pytest.mark.timeout(300)
@pytest.mark.parametrize("lease_s", [30.0, 120.0], ids=["longer than a lease", "within a lease"])
def test_after_a_minute_without_server_the_workers_go_on_by_themselves(
    server: ValkeyServer, site: Site, lease_s: float
) -> None:
    # the defaults of a deployment, but for the lease
    with site.worker(processes=PROCESSES, threads=THREADS, lease_s=lease_s, stuck_s=30).ready() as worker:
        names = [f"held-{number}" for number in range(PROCESSES * THREADS)]
        held = [site.put("held", name) for name in names]
        eventually(lambda: len(site.runs("began")) == len(held))
        waiting = [site.put("nothing", f"waiting-{number:03d}") for number in range(100)]
        for index in range(PROCESSES):
            site.until("/readyz", 200, index=index)

        server.kill()
        down_at = time.monotonic()
        for index in range(PROCESSES):
            assert site.until("/readyz", 503, index=index).failing == {"server"}
        never(
            lambda: any(site.ask(index=index).status != 200 for index in range(PROCESSES)),
            during=OUTAGE_S / 2,
            why="live: a restart would not help",
        )
        # some end while nobody can be told, others only after the server is back
        for name in names[::2]:
            site.open_gate(name)
        eventually(lambda: sorted(site.runs("ended")) == names[::2])
        never(lambda: site.runs("ran"), during=OUTAGE_S - (time.monotonic() - down_at), why="nothing to fetch")

        server.start()
        back_at = time.monotonic()
        eventually(lambda: site.runs("ran"), why="a job that waited runs")
        resumed_s = time.monotonic() - back_at
        site.open_gate()
        for job_id in (*held, *waiting):
            eventually(partial(has_completed, site, job_id), why=f"{job_id} is completed")
        for index in range(PROCESSES):
            site.until("/readyz", 200, index=index)
        print(f"lease {lease_s:g} s: the first job that waited ran {resumed_s:.1f} s after the server was back")
        assert resumed_s < 5
        assert Counter(site.runs("ran")) == Counter(f"waiting-{number:03d}" for number in range(100))
        # nobody died, so nothing is run twice, although every lease may have run out
        assert Counter(site.runs("began")) == Counter(site.runs("ended")) == Counter(names)
        assert [len(job.attempts) for job in map(site.job, held)] == [1] * len(held)
        worker.terminate()
        assert worker.wait() == 0, worker.log()
    said = Counter(line["event"] for line in outage_lines(worker))
    assert said["queue_unavailable"] == said["queue_available_again"] == PROCESSES, said
    assert said["queue_still_unavailable"] <= PROCESSES, said
    # besides, each of the jobs that went on reporting says once that nobody hears it
    assert said.total() <= 3 * PROCESSES + len(held), said


def test_workers_go_on_with_an_empty_server_in_the_place_of_the_old_one(server: ValkeyServer, site: Site) -> None:
    with site.worker(processes=PROCESSES, threads=THREADS, lease_s=2).ready() as worker:
        names = [f"held-{number}" for number in range(PROCESSES * THREADS)]
        held = [site.put("held", name) for name in names]
        eventually(lambda: len(site.runs("began")) == len(held))
        lost = [site.put("nothing", f"lost-{number}") for number in range(10)]

        server.kill()
        for index in range(PROCESSES):
            assert site.until("/readyz", 503, index=index).failing == {"server"}
        # some end before the new server is there, others after
        for name in names[::2]:
            site.open_gate(name)
        eventually(lambda: sorted(site.runs("ended")) == names[::2])
        shutil.rmtree(server.folder / "appendonlydir")
        server.start()
        back_at = time.monotonic()
        for index in range(PROCESSES):
            site.until("/readyz", 200, index=index)
        new = [put_at_last(site, f"new-{number}") for number in range(50)]
        for job_id in new:
            eventually(partial(has_completed, site, job_id), why=f"{job_id} is completed")
        print(f"an empty server: 50 new jobs were done {time.monotonic() - back_at:.1f} s after it was there")
        # the others were told to stop meanwhile, since nobody holds their jobs any more
        site.open_gate()
        eventually(lambda: worker.log().count('"job_gone"') == len(held), why="each finish is answered, once")
        again = site.put("nothing", "again")
        eventually(partial(has_completed, site, again))
        never(lambda: site.ask().failing or site.ask(index=1).failing, during=3, why="all is well")
        worker.terminate()
        assert worker.wait() == 0, worker.log()
    assert [site.engine.get(job_id) for job_id in (*held, *lost)] == [None] * (len(held) + len(lost))
    assert Counter(site.runs("ran")) == Counter([f"new-{number}" for number in range(50)] + ["again"])
    said = outage_lines(worker)
    gone = [line for line in said if line["event"] == "job_gone"]
    assert {line["job_id"] for line in gone} == set(held)
    assert all("the queue server has no such job any more" in line["reason"] for line in gone)
    assert len(said) <= len(held) * 2 + PROCESSES * 3, Counter(line["event"] for line in said)


def put_at_last(site: Site, name: str) -> str:
    """Add a job on a connection that may be from before."""

    def put() -> str | None:
        try:
            return site.put("nothing", name)
        except EngineUnavailable:
            return None

    return str(eventually(put))


def has_completed(site: Site, job_id: str) -> bool:
    try:
        job = site.engine.get(job_id)
    except EngineUnavailable:  # a connection of before the server's death
        return False
    return job is not None and job.state is State.COMPLETED


def outage_lines(worker: WorkerProcess) -> list[dict[str, Any]]:
    """Give the warnings and worse that the workers logged; none may be an exception of theirs."""
    said = [json.loads(line) for line in worker.log().splitlines() if line.startswith("{")]
    found = [line for line in said if line["level"] != "info" or line["event"].startswith("queue_")]
    assert "Traceback" not in worker.log(), worker.log()
    assert not [line for line in found if line["level"] in ("error", "critical")], found
    return found
