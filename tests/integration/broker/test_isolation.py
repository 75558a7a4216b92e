"""Handlers with isolation="process": in a process of their own, which is stopped with all that it started."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from shared.contracts import FixedBackoff
from shared.engine.engine import JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.integration.broker import isolated
from tests.integration.broker.contracts import QUEUE, Probe
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running

pytestmark = pytest.mark.faults

Handler = Callable[..., Any]


def probe_of(engine: RedisEngine, handler: Handler, **contract: Any) -> Probe:
    return Probe(engine, handler, isolation="process", model=isolated.Task, **contract)


def run_one(probe: Probe, folder: Path, *, text: str = "", number: int = 0, **options: Any) -> JobRecord:
    with running(probe.broker):
        return probe.finished(probe.put({"folder": str(folder), "text": text, "number": number}, **options))


def error_of(job: JobRecord) -> dict[str, Any]:
    assert job.error is not None
    return dict(job.error)


def pid_in(folder: Path, name: str = "pid") -> int:
    path = folder / name
    eventually(path.exists, why=f"{name} is written")
    return int(path.read_text())


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True) if not is_gone(child.pid)}


# -- a run --


def test_it_runs_in_a_group_of_its_own_with_its_payload_and_context(engine: RedisEngine, tmp_path: Path) -> None:
    before = children()
    job = run_one(probe_of(engine, isolated.facts, attempts=4), tmp_path, text="a", owner="u1", tags=["x"])
    result = job.result
    assert job.state is State.COMPLETED
    assert result["pid"] == result["group"]
    assert result["parent"] == os.getpid()
    assert result["text"] == "a"
    assert result["job"] == [job.id, 1, 4, "u1", ["x"]]
    assert not result["dramatiq"], "the process is small"
    assert children() == before, "nothing is left behind"


def test_models_and_coroutines_work_as_on_a_thread(engine: RedisEngine, tmp_path: Path) -> None:
    assert run_one(probe_of(engine, isolated.model), tmp_path, number=4).result == {"total": 4}


def test_an_async_handler_gets_a_loop_of_its_own(engine: RedisEngine, tmp_path: Path) -> None:
    assert run_one(probe_of(engine, isolated.on_loop), tmp_path).result != os.getpid()


def test_reports_reach_the_job(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.report), tmp_path)
    assert (job.state, job.result, job.attempt) == (State.COMPLETED, "\x00half", 2)
    assert job.progress is not None
    assert (job.progress["percent"], job.progress["message"]) == (100, "done")
    lines = [(line["level"], line["message"], line["data"]) for line in engine.logs(job.id)]
    assert lines == [("warning", "row 7 has no key", {"row": 7})] * 2


# -- failures --


def test_a_failure_is_told_as_on_a_thread(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.fail, attempts=2), tmp_path)
    assert (job.state, job.attempt) == (State.FAILED, 2)
    for run in job.attempts:
        error = run["error"]
        assert (error["type"], error["message"]) == ("OSError", "a passing trouble with password=[redacted]")
        assert "isolated.py" in error["traceback"]
        assert "hunter2" not in error["traceback"]
        assert error["fingerprint"] == job.attempts[0]["error"]["fingerprint"]


def test_a_permanent_failure_is_not_tried_again(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.fail, attempts=5), tmp_path, text="permanent")
    assert (job.state, job.attempt) == (State.FAILED, 1)
    error = error_of(job)
    assert (error["code"], error["retryable"], error["extra"]) == ("permanent", False, {"path": "/a"})


def test_the_contracts_own_table_is_used_there(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.fail, attempts=5, permanent_errors=(OSError,)), tmp_path)
    assert (job.state, job.attempt) == (State.FAILED, 1)


def test_when_to_come_back_is_believed(engine: RedisEngine, tmp_path: Path) -> None:
    probe = probe_of(engine, isolated.fail, attempts=2, backoff=FixedBackoff(0))
    job = run_one(probe, tmp_path, text="later")
    first, second = job.attempts
    assert second["started_ms"] - first["ended_ms"] >= 400


@pytest.mark.parametrize(
    ("text", "number", "said"),
    [
        ("exit", 3, {"exit_code": 3}),
        ("signal", signal.SIGKILL, {"signal": "SIGKILL"}),
    ],
)
def test_a_process_that_dies_is_tried_again_and_says_how(
    engine: RedisEngine, tmp_path: Path, text: str, number: int, said: dict[str, Any]
) -> None:
    attempts = 2 if text == "signal" else 1
    job = run_one(probe_of(engine, isolated.leave, attempts=attempts), tmp_path, text=text, number=number)
    assert (job.state, job.attempt, job.stalls) == (State.FAILED, attempts, 0)
    error = error_of(job)
    assert (error["code"], error["retryable"], error["extra"]) == ("process-died", True, said)


def test_a_crash_in_native_code_costs_the_job_an_attempt_and_the_worker_nothing(
    engine: RedisEngine, tmp_path: Path
) -> None:
    job = run_one(probe_of(engine, isolated.crash, attempts=1), tmp_path)
    assert error_of(job)["extra"] == {"signal": "SIGSEGV"}


def test_a_process_that_somebody_kills_is_told(engine: RedisEngine, tmp_path: Path) -> None:
    probe = probe_of(engine, isolated.leave, attempts=1)
    with running(probe.broker):
        job_id = probe.put({"folder": str(tmp_path)})
        os.kill(pid_in(tmp_path), signal.SIGKILL)
        job = probe.finished(job_id)
    assert error_of(job)["message"] == "The job's process was ended by SIGKILL."


# -- stopping --


@pytest.mark.parametrize("handler", [isolated.endless, isolated.endless_on_loop])
def test_a_cancelled_run_cleans_up_and_is_cancelled(engine: RedisEngine, tmp_path: Path, handler: Handler) -> None:
    probe = probe_of(engine, handler, attempts=5)
    with running(probe.broker):
        job_id = probe.put({"folder": str(tmp_path)})
        pid = pid_in(tmp_path)
        assert engine.cancel(job_id) is State.ACTIVE
        job = probe.finished(job_id)
    assert (job.state, job.attempt) == (State.CANCELLED, 1)
    assert (tmp_path / "cleaned").exists()
    assert not (tmp_path / "swallowed").exists()
    assert is_gone(pid)


def test_a_handler_that_asks_ends_by_itself(engine: RedisEngine, tmp_path: Path) -> None:
    probe = probe_of(engine, isolated.polling)
    with running(probe.broker):
        job_id = probe.put({"folder": str(tmp_path)})
        pid_in(tmp_path)
        engine.cancel(job_id)
        job = probe.finished(job_id)
    assert (job.state, job.result) == (State.COMPLETED, "stopped by itself")


def test_a_run_out_of_time_is_tried_again(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.endless, attempts=2, timeout_s=0.5), tmp_path)
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert (error_of(job)["type"], error_of(job)["code"]) == ("TimeLimitExceeded", "timed-out")
    assert (tmp_path / "cleaned").exists()
    assert is_gone(pid_in(tmp_path))


@pytest.mark.parametrize("why", ["cancelled", "timed-out", "lost"])
def test_what_hears_nothing_is_killed_with_all_that_it_started(engine: RedisEngine, tmp_path: Path, why: str) -> None:
    timeout_s = 5.0 if why == "timed-out" else None
    probe = probe_of(engine, isolated.deaf, attempts=1, timeout_s=timeout_s, stop_grace_s=0.3)
    with running(probe.broker):
        job_id = probe.put({"folder": str(tmp_path)})
        pid, grandchild = pid_in(tmp_path), pid_in(tmp_path, "grandchild")
        if why == "cancelled":
            engine.cancel(job_id)
        if why == "lost":
            engine.renew(QUEUE, [(job_id, 1)], -1)
            eventually(lambda: engine.reap(QUEUE) or engine.lease_status(job_id, 1) < 0)
        eventually(lambda: is_gone(pid) and is_gone(grandchild), why="both are killed")
        if why == "lost":
            # It came again, to this very worker.
            eventually(lambda: pid_in(tmp_path) != pid)
            engine.cancel(job_id)
        job = probe.finished(job_id)
    assert job.state is (State.FAILED if why == "timed-out" else State.CANCELLED)
    if why == "timed-out":
        assert error_of(job)["code"] == why
        assert "had to be killed" in error_of(job)["message"]


def test_what_a_handler_leaves_running_ends_with_it(engine: RedisEngine, tmp_path: Path) -> None:
    assert run_one(probe_of(engine, isolated.leave_a_child), tmp_path).result == "done"
    assert is_gone(pid_in(tmp_path, "grandchild"))


# -- memory --


@pytest.mark.parametrize("text", ["", "child"])
def test_a_run_over_its_memory_is_killed_and_says_so(engine: RedisEngine, tmp_path: Path, text: str) -> None:
    probe = probe_of(engine, isolated.take_memory, attempts=1, memory_limit_mb=200)
    job = run_one(probe, tmp_path, text=text, number=600)
    assert (job.state, job.attempt) == (State.FAILED, 1)
    error = error_of(job)
    assert (error["code"], error["type"], error["extra"]) == ("out-of-memory", "OutOfMemory", {"limit_mb": 200})
    assert "its limit is 200 MiB" in error["message"]


def test_a_run_below_its_limit_is_left_alone(engine: RedisEngine, tmp_path: Path) -> None:
    assert run_one(probe_of(engine, isolated.take_memory, memory_limit_mb=1_000), tmp_path, number=50).result == 50


def test_an_allocation_that_fails_is_out_of_memory(engine: RedisEngine, tmp_path: Path) -> None:
    job = run_one(probe_of(engine, isolated.take_memory, attempts=1), tmp_path, text="error")
    assert (error_of(job)["code"], error_of(job)["retryable"]) == ("out-of-memory", True)


def test_a_job_type_may_give_up_when_memory_runs_out(engine: RedisEngine, tmp_path: Path) -> None:
    probe = probe_of(
        engine,
        isolated.take_memory,
        attempts=3,
        memory_limit_mb=200,
        permanent_errors=("shared.errors.OutOfMemory",),
    )
    assert run_one(probe, tmp_path, number=600).attempt == 1


# -- many --


def test_many_short_runs_all_end_and_leave_nothing(engine: RedisEngine, tmp_path: Path) -> None:
    before = children()
    probe = probe_of(engine, isolated.model, attempts=1, timeout_s=None)
    began = time.monotonic()
    with running(probe.broker, threads=3) as worker:
        ids = [probe.put({"folder": str(tmp_path), "number": number}) for number in range(4)]
        ends = [probe.finished(job_id) for job_id in ids]
        assert all(thread.is_alive() for thread in worker.workers)
    print(f"{(time.monotonic() - began) / 4:.2f} s a run")
    assert [job.result for job in ends] == [{"total": number} for number in range(4)]
    assert children() == before
