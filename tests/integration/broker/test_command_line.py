"""The dramatiq command line with real worker processes: -p 2, --watch, and a graceful stop."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

import dramatiq
import psutil
import pytest

from shared.broker.broker import JobBroker
from shared.engine.engine import NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.integration.broker.ledger import Ledger
from tests.integration.broker.patience import eventually
from tests.integration.broker.processes import ROOT, WorkerProcess
from tests.servers import ValkeyServer

PLAIN = "tests.integration.broker.programs.plain"
WORKERS = "services.workers.main"


@pytest.fixture
def ledger(tmp_path: Path, engine: RedisEngine) -> Ledger:
    return Ledger(tmp_path, engine)


@pytest.fixture
def environment(ledger: Ledger, valkey: ValkeyServer, namespace: str) -> dict[str, str]:
    return ledger.environment(valkey.url, namespace)


def actor_in(broker: JobBroker, actor_name: str) -> dramatiq.Actor:
    """Stand in for an actor that another process runs."""

    @dramatiq.actor(broker=broker, actor_name=actor_name, max_retries=0)
    def never_here(name: str) -> None:
        raise AssertionError("the test's own process runs nothing")

    return never_here


def test_two_processes_of_a_plain_program_share_the_work(
    ledger: Ledger, environment: dict[str, str], broker: JobBroker
) -> None:
    gated = actor_in(broker, "gated")
    with WorkerProcess(PLAIN, ledger.folder, environment, processes=2, threads=2).ready() as worker:
        for number in range(4):
            gated.send(f"job-{number}")
        eventually(lambda: len(ledger.lines("began")) == 4)
        ledger.open_gate()
        broker.join("default", timeout=10_000)
        worker.terminate()
        assert worker.wait() == 0, worker.log()
    assert ledger.names("ran") == [f"job-{number}" for number in range(4)]
    assert len({pid for _, pid in ledger.lines("began")}) == 2


def test_a_changed_file_reloads_the_program_and_the_job_survives(
    ledger: Ledger, environment: dict[str, str], broker: JobBroker
) -> None:
    home = ledger.folder / "home"
    home.mkdir()
    shutil.copy(ROOT / (PLAIN.replace(".", "/") + ".py"), home / "program.py")
    gated, note = actor_in(broker, "gated"), actor_in(broker, "note")
    options = ("--watch", str(home))
    with WorkerProcess("program", ledger.folder, environment, options=options, path=home).ready() as worker:
        gated.send("begun-before")
        eventually(lambda: ledger.names("began") == ["begun-before"])
        change_until_noticed(home / "program.py", worker)
        ledger.open_gate()
        worker.ready(times=2)
        note.send("sent-after")
        eventually(lambda: broker.engine.counts("default").completed == 2)
        # Each event in the folder is a signal, and a second one kills a Dramatiq worker where it stands: then the
        # job that ran is run again by the new program.
        assert set(ledger.names("ran") + ledger.names("reran")) == {"begun-before", "sent-after"}
        assert "sent-after" in ledger.names("reran"), "the new program runs"
        worker.terminate()
        assert worker.wait() == 0, worker.log()


def change_until_noticed(program: Path, worker: WorkerProcess) -> None:
    """Save a new version; again and again, since nothing tells when the watcher has begun to watch."""
    changed = program.read_text().replace('f"ran {name}', 'f"reran {name}')
    saved_at = 0.0

    def noticed() -> bool:
        nonlocal saved_at
        if time.monotonic() > saved_at + 1:
            draft = program.parent.parent / "draft"
            draft.write_text(changed)
            draft.rename(program)
            saved_at = time.monotonic()
        return "Detected changes" in worker.log()

    eventually(noticed)


@pytest.mark.parametrize("action", ["gated", "gated_async"])
def test_a_worker_told_to_stop_finishes_what_runs_and_hands_back_the_rest(
    ledger: Ledger, environment: dict[str, str], action: str
) -> None:
    engine = ledger.engine
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready() as first:
        running = [ledger.put(action, f"running-{number}") for number in range(2)]
        eventually(lambda: len(ledger.lines("began")) == 2)
        waiting = [ledger.put("note", f"waiting-{number}") for number in range(20)]
        first.terminate()
        eventually(lambda: "Shutting down" in first.log(), why="it heard")
        with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready() as second:
            # while the first still works on what it began
            eventually(lambda: len(ledger.lines("ran")) == 20)
            eventually(lambda: engine.counts("probe-jobs").completed == 20)
            assert engine.counts("probe-jobs").active == 2
            ledger.open_gate()
            assert first.wait() == 0, first.log()
            second.terminate()
            assert second.wait() == 0, second.log()
    for job_id in running + waiting:
        job = engine.get(job_id)
        assert job is not None
        assert (job.state, job.attempt, job.stalls) == (State.COMPLETED, 1, 0)
        assert len(job.attempts) == 1
    assert len(ledger.lines("began")) == 2, "nothing that ran was started again"
    assert ledger.names("ran") == sorted(f"waiting-{number}" for number in range(20))


def has_ended(pid: int) -> bool:
    """Say whether a process that is no child of ours has ended, even if nobody has asked for its exit code."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_worker_process_stops_by_itself_when_its_master_was_killed(
    ledger: Ledger, environment: dict[str, str]
) -> None:
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready() as worker:
        job_id = ledger.put("gated", "running")
        eventually(lambda: len(ledger.lines("began")) == 1)
        _, pid = ledger.lines("began")[0]
        worker.process.kill()
        worker.wait()
        ledger.open_gate()
        eventually(lambda: has_ended(pid), why="it stopped")
    job = ledger.engine.get(job_id)
    assert job is not None
    assert (job.state, job.stalls) == (State.COMPLETED, 0), "and let the job end before"


def test_a_stop_in_the_middle_of_a_drain_loses_and_doubles_nothing(ledger: Ledger, environment: dict[str, str]) -> None:
    total = 1500
    names = [f"job-{number:04d}" for number in range(total)]
    ledger.put_all("brief", names)
    for _ in range(2):
        with WorkerProcess(WORKERS, ledger.folder, environment, threads=4) as worker:
            before = len(ledger.lines("ran"))
            eventually(partial(ran_more_than, ledger, before + 20))
            worker.terminate()
            assert worker.wait() == 0, worker.log()
        counts = ledger.engine.counts("probe-jobs")
        assert counts.active == 0, "nothing is left with a worker that is gone"
        assert 0 < counts.completed == len(ledger.lines("ran"))
        assert counts.completed + counts.waiting == total
        assert counts.waiting > 0, "the stop was in the middle"
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=8):
        eventually(lambda: len(ledger.lines("ran")) == total)
        eventually(lambda: ledger.engine.counts("probe-jobs").active == 0)
    assert ledger.names("ran") == names


def ran_more_than(ledger: Ledger, count: int) -> bool:
    return len(ledger.lines("ran")) > count


def test_a_worker_serves_the_family_it_is_told(ledger: Ledger, environment: dict[str, str]) -> None:
    with WorkerProcess(WORKERS, ledger.folder, {**environment, "WORKER_FAMILY": "probe"}).ready():
        for action in ("note", "note_other"):
            ledger.put(action, action)
        eventually(lambda: ledger.names("ran") == ["note", "note_other"])


def test_a_family_that_is_not_there_is_told_at_once(ledger: Ledger, environment: dict[str, str]) -> None:
    with WorkerProcess(WORKERS, ledger.folder, {**environment, "WORKER_FAMILY": "exporst"}) as worker:
        assert worker.wait() != 0
        assert "There is no family 'exporst'. Families: probe, or 'all'." in worker.log()


def test_payloads_are_not_in_the_workers_logs(ledger: Ledger, environment: dict[str, str]) -> None:
    secret = "hunter2-in-the-payload"
    with WorkerProcess(WORKERS, ledger.folder, environment, options=("-v",), threads=2).ready() as worker:
        ids = [ledger.put("note", "noted", secret=secret), ledger.put("fail", "failed", secret=secret)]
        begun = ledger.put("gated", "cancelled", secret=secret)
        # a payload that no longer validates, as an older release may have left
        stale = new_job_id("probe-jobs")
        body = encode_payload({"password": secret, "folder": [secret]})
        ledger.engine.add("probe-jobs", [NewJob(stale, "probe.note", body)])
        eventually(lambda: ledger.names("began") == ["cancelled"])
        ledger.engine.cancel(begun)
        for job_id in [*ids, begun, stale]:
            eventually(partial(ledger.has_ended, job_id))
        worker.terminate()
        assert worker.wait() == 0
    assert "Failed to process message" in worker.log(), "the log is on"
    assert secret not in worker.log()


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("whom", ["all of the worker", "the process that runs jobs"])
def test_a_worker_that_is_killed_leaves_no_isolated_run_behind(
    ledger: Ledger, environment: dict[str, str], whom: str
) -> None:
    with WorkerProcess(WORKERS, ledger.folder, environment, threads=2).ready() as worker:
        job_id = ledger.put("deaf", "job")
        eventually(lambda: ledger.lines("began"))
        pids = [ledger.lines("began")[0][1], ledger.lines("child")[0][1]]
        parent = psutil.Process(pids[0]).parent()
        assert parent is not None
        assert not any(map(is_gone, pids))
        if whom == "all of the worker":
            worker.kill()
        else:
            parent.kill()
        eventually(lambda: all(map(is_gone, pids)), why="the run and its child are killed")
        job = ledger.engine.get(job_id)
        assert job is not None
        assert job.state is State.ACTIVE, "another worker will have it when its lease runs out"
