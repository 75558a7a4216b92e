"""What Dramatiq's command line does on signals and deaths, as docs/operations.md says, with real processes.

A single SIGTERM, --watch and the death of the master are in tests/integration/broker/test_command_line.py.
"""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest

from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.processes import READY, WorkerProcess
from tests.integration.workers.site import Site

pytestmark = pytest.mark.faults

LEASE_S = 2.0


def processes(worker: WorkerProcess) -> list[psutil.Process]:
    """Give the worker processes under Dramatiq's master."""
    return psutil.Process(worker.pid).children()


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def test_a_second_sigterm_quits_at_once_and_others_take_over_after_the_lease(site: Site) -> None:
    with site.worker(threads=1, lease_s=LEASE_S).ready() as first:
        job_id = site.put("held", "held")
        eventually(lambda: site.runs("began") == ["held"])
        first.terminate()
        eventually(lambda: "Stopping worker process" in first.log())
        assert first.process.poll() is None, "it waits for what runs"
        told = time.monotonic()
        first.terminate()
        assert first.wait() == 1, first.log()
        assert time.monotonic() - told < 5
        assert "Killing worker process" in first.log()
        assert site.job(job_id).state is State.ACTIVE, "nobody said how it ended"
        with site.worker(threads=1, lease_s=LEASE_S).ready() as second:
            eventually(lambda: site.runs("began") == ["held", "held"], why="the lease ran out")
            site.open_gate()
            job = site.finished(job_id)
            second.terminate()
            assert second.wait() == 0
    assert (job.state, job.attempt, job.stalls) == (State.COMPLETED, 1, 1)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_stop_hands_back_what_was_not_begun_and_exits_with_0(site: Site, how: signal.Signals) -> None:
    with site.worker(processes=2, threads=1).ready() as worker:
        held = [site.put("held", f"held-{number}") for number in range(2)]
        eventually(lambda: len(site.runs("began")) == 2)
        waiting = site.put("nothing")
        os.kill(worker.pid, how)
        eventually(lambda: worker.log().count("Shutting down") == 2)
        site.open_gate()
        assert worker.wait() == 0, worker.log()
    assert [site.job(job_id).state for job_id in held] == [State.COMPLETED] * 2
    job = site.job(waiting)
    assert (job.state, job.attempt, job.stalls) == (State.WAITING, 0, 0)


def test_sighup_ends_what_runs_and_starts_anew_under_the_same_pid(site: Site) -> None:
    with site.worker(processes=2, threads=1).ready() as worker:
        before = {site.until("/readyz", 200, index=index).body["process"]["pid"] for index in range(2)}
        job_id = site.put("held", "held")
        eventually(lambda: site.runs("began") == ["held"])
        os.kill(worker.pid, signal.SIGHUP)
        eventually(lambda: worker.log().count("Shutting down") == 2)
        behind = site.put("nothing", "behind")
        assert worker.log().count(READY) == 2, "nothing starts before the last job has ended"
        site.open_gate()
        worker.ready(times=2)
        job = site.finished(job_id)
        assert (job.state, job.attempt, job.stalls) == (State.COMPLETED, 1, 0)
        assert site.finished(behind).state is State.COMPLETED
        after = {site.until("/readyz", 200, index=index).body["process"]["pid"] for index in range(2)}
        assert not before & after, "new processes, on the same ports"
        worker.terminate()
        assert worker.wait() == 0, worker.log()


def test_a_second_sighup_quits_what_runs_and_starts_anew(site: Site) -> None:
    with site.worker(threads=1, lease_s=LEASE_S).ready() as worker:
        job_id = site.put("held", "held")
        eventually(lambda: site.runs("began") == ["held"])
        os.kill(worker.pid, signal.SIGHUP)
        eventually(lambda: "Stopping worker process" in worker.log())
        os.kill(worker.pid, signal.SIGHUP)
        worker.ready(times=2)
        eventually(lambda: site.runs("began") == ["held", "held"], why="the lease ran out")
        site.open_gate()
        assert site.finished(job_id).stalls == 1
        worker.terminate()
        assert worker.wait() == 0, worker.log()


def test_one_process_killed_ends_the_others_gracefully_and_the_master_with_1(site: Site) -> None:
    with site.worker(processes=2, threads=1, lease_s=LEASE_S).ready() as worker:
        jobs = [site.put("held", f"held-{number}") for number in range(2)]
        eventually(lambda: len(site.runs("began")) == 2)
        victim, survivor = processes(worker)
        victim.kill()
        eventually(lambda: "exited unexpectedly (code -9). Shutting down" in worker.log())
        eventually(lambda: "Shutting down..." in worker.log().partition("exited unexpectedly")[2])
        assert not has_ended(survivor), "it lets its job end"
        site.open_gate()
        assert worker.wait() == 1, worker.log()
        assert has_ended(survivor)
        states = [site.job(job_id).state for job_id in jobs]
        assert State.COMPLETED in states
        with site.worker(threads=1, lease_s=LEASE_S).ready():
            ended = [site.finished(job_id) for job_id in jobs]
    assert [job.state for job in ended] == [State.COMPLETED] * 2
    assert sorted(job.stalls for job in ended) == [0, 1]


def test_a_stop_longer_than_its_limit_leaves_the_job_to_others(site: Site) -> None:
    options = ("--worker-shutdown-timeout", "500")
    with site.worker(threads=1, lease_s=LEASE_S, options=options).ready() as first:
        job_id = site.put("held", "held")
        eventually(lambda: site.runs("began") == ["held"])
        first.terminate()
        assert first.wait() == 0, "the limit is not an error to Dramatiq"
    assert site.runs("ended") == []
    with site.worker(threads=1, lease_s=LEASE_S).ready():
        eventually(lambda: site.runs("began") == ["held", "held"])
        site.open_gate()
        job = site.finished(job_id)
    assert (job.state, job.stalls) == (State.COMPLETED, 1)
