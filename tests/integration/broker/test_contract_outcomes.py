"""How the run of a job with a contract ends, and what is stored of it."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any

import pytest
from pydantic import BaseModel

from shared.contracts import FixedBackoff
from shared.engine.engine import JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import PermanentError, RetryableError
from shared.results import RESULT_LIMIT_BYTES
from tests.integration.broker.contracts import QUEUE, Note, Probe
from tests.integration.broker.patience import eventually, never
from tests.integration.broker.workers import running


class Sum(BaseModel):
    total: int


def run_one(probe: Probe, payload: dict[str, Any] | bytes = b"", **options: Any) -> JobRecord:
    with running(probe.broker):
        return probe.finished(probe.put(payload, **options))


def error_of(job: JobRecord) -> dict[str, Any]:
    assert job.error is not None
    return dict(job.error)


@pytest.mark.parametrize(
    ("returned", "stored"),
    [({"rows": 3}, {"rows": 3}), ([1, None], [1, None]), (None, None), (0, 0), ("", ""), (Sum(total=4), {"total": 4})],
)
def test_what_a_handler_returns_is_the_jobs_result(engine: RedisEngine, returned: Any, stored: Any) -> None:
    job = run_one(Probe(engine, lambda payload, job: returned))
    assert job.state is State.COMPLETED
    assert job.result == stored
    assert job.error is None
    assert [run["outcome"] for run in job.attempts] == ["complete"]


def test_async_handlers_run_on_the_event_loop(engine: RedisEngine) -> None:
    async def handler(payload: Note, job: object) -> str:
        await asyncio.sleep(0)
        return payload.text.upper()

    assert run_one(Probe(engine, handler), {"text": "loud"}).result == "LOUD"


def test_a_handler_gets_its_payload_checked_and_its_context(engine: RedisEngine) -> None:
    def handler(payload, job):
        return [payload.text, payload.number, job.job_id, job.attempt, job.attempts, job.owner, list(job.tags)]

    probe = Probe(engine, handler, attempts=4)
    job = run_one(probe, {"text": "a", "number": 2}, owner="u1", tags=["x"])
    assert job.result == ["a", 2, job.id, 1, 4, "u1", ["x"]]


def test_a_failure_is_retried_after_its_backoff(engine: RedisEngine) -> None:
    def handler(payload, job):
        if job.attempt == 1:
            raise OSError("a passing trouble")
        return job.attempt

    job = run_one(Probe(engine, handler, backoff=FixedBackoff(150)))
    assert (job.state, job.result, job.attempt) == (State.COMPLETED, 2, 2)
    assert [run["outcome"] for run in job.attempts] == ["retry", "complete"]
    first, second = job.attempts
    assert first["error"]["message"] == "a passing trouble"
    assert 150 <= second["started_ms"] - first["ended_ms"] < 400


def test_a_server_that_says_when_to_come_back_is_believed(engine: RedisEngine) -> None:
    def handler(payload, job):
        if job.attempt == 1:
            raise RetryableError("429", retry_after_s=0.3)

    job = run_one(Probe(engine, handler, backoff=FixedBackoff(0)))
    first, second = job.attempts
    assert 300 <= second["started_ms"] - first["ended_ms"] < 600


def test_a_job_fails_when_its_attempts_are_used_up(engine: RedisEngine) -> None:
    def handler(payload, job):
        raise OSError(f"try {job.attempt}")

    job = run_one(Probe(engine, handler, attempts=3))
    assert (job.state, job.attempt) == (State.FAILED, 3)
    assert error_of(job)["message"] == "try 3"
    assert [run["outcome"] for run in job.attempts] == ["retry", "retry", "fail"]


def test_a_permanent_error_fails_at_once(engine: RedisEngine) -> None:
    def handler(payload, job):
        raise PermanentError("there is no such file", path="/a")

    job = run_one(Probe(engine, handler, attempts=5))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    error = error_of(job)
    assert (error["code"], error["retryable"], error["extra"]) == ("permanent", False, {"path": "/a"})
    assert "test_contract_outcomes" in error["traceback"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_a_handler_that_asks_the_process_to_end_fails_alone(engine: RedisEngine, error: BaseException) -> None:
    def handler(payload, job):
        if payload.text == "end":
            raise error

    probe = Probe(engine, handler)
    with running(probe.broker, threads=1):
        assert probe.finished(probe.put({"text": "end"})).state is State.FAILED
        assert probe.finished(probe.put()).state is State.COMPLETED


def test_a_result_that_is_too_large_fails_the_job_and_says_what_to_do(engine: RedisEngine) -> None:
    job = run_one(Probe(engine, lambda payload, job: "x" * RESULT_LIMIT_BYTES))
    assert (job.state, job.attempt, job.result) == (State.FAILED, 1, None)
    assert "store a file" in error_of(job)["message"]


def circle() -> list[Any]:
    made: list[Any] = []
    made.append(made)
    return made


@pytest.mark.parametrize("returned", [{(1, 2): 3}, circle()], ids=["keys", "circle"])
def test_a_result_that_is_not_json_fails_the_job(engine: RedisEngine, returned: Any) -> None:
    job = run_one(Probe(engine, lambda payload, job: returned))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert "cannot be written as JSON" in error_of(job)["message"]


@pytest.mark.parametrize(
    "body",
    [b"\x80\x04K\x01.", b"not json", b"[1]", b'{"a": 5}', b"[" * 100_000],
    ids=["pickle", "text", "list", "args", "deep"],
)
def test_a_body_that_cannot_be_decoded_fails_and_the_next_job_runs(engine: RedisEngine, body: bytes) -> None:
    probe = Probe(engine, lambda payload, job: "ran")
    with running(probe.broker, threads=1):
        job = probe.finished(probe.put(body))
        assert probe.finished(probe.put()).result == "ran"
    assert (job.state, error_of(job)["code"]) == (State.FAILED, "undecodable")


@pytest.mark.parametrize("payload", [{"texts": "an older name"}, {"number": "many"}])
def test_a_payload_of_an_older_release_fails_with_its_mistake(engine: RedisEngine, payload: dict[str, Any]) -> None:
    job = run_one(Probe(engine, lambda payload, job: "ran", attempts=5), payload)
    assert (job.state, job.attempt) == (State.FAILED, 1)
    error = error_of(job)
    assert error["code"] == "validation-failed"
    assert error["extra"]["errors"][0]["field"] in payload
    assert "many" not in str(error)


def test_a_waiting_job_can_be_cancelled(engine: RedisEngine) -> None:
    ran: list[int] = []
    probe = Probe(engine, lambda payload, job: ran.append(1))
    job_id = probe.put()
    assert probe.engine.cancel(job_id) is State.CANCELLED
    later = probe.put()
    with running(probe.broker):
        probe.finished(later)
    assert len(ran) == 1
    assert probe.get(job_id).attempt == 0


@pytest.mark.parametrize("way", ["polls", "raises", "reports"])
def test_a_running_job_hears_that_it_is_cancelled(engine: RedisEngine, way: str) -> None:
    started = threading.Event()

    def handler(payload, job):
        started.set()
        if way == "polls":
            eventually(lambda: job.cancelled)
            return "stopped early"
        if way == "raises":
            eventually(lambda: job.raise_if_cancelled())
        eventually(lambda: job.progress(1) or job.cancelled)
        job.raise_if_cancelled()
        raise AssertionError("unreachable")

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        assert started.wait(10)
        assert probe.engine.cancel(job_id) is State.ACTIVE
        job = probe.finished(job_id)
    # a handler that ends well in spite of the request has done its work, and that is what is told
    assert job.state is (State.COMPLETED if way == "polls" else State.CANCELLED)


def test_a_job_that_fails_after_it_was_cancelled_is_not_retried(engine: RedisEngine) -> None:
    started, gate = threading.Event(), threading.Event()

    def handler(payload, job):
        started.set()
        gate.wait(10)
        raise OSError("a passing trouble")

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        assert started.wait(10)
        probe.engine.cancel(job_id)
        gate.set()
        assert probe.finished(job_id).state is State.CANCELLED


def test_a_timeout_is_retried_and_then_fails(engine: RedisEngine) -> None:
    def handler(payload, job):
        eventually(lambda: False)

    probe = Probe(engine, handler, attempts=2, timeout_s=0.05)
    job = run_one(probe)
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert error_of(job)["type"] == "TimeLimitExceeded"


def test_a_timeout_stops_an_async_handler(engine: RedisEngine) -> None:
    ended = threading.Event()

    async def handler(payload: Note, job: object) -> None:
        try:
            await asyncio.sleep(30)
        finally:
            ended.set()

    job = run_one(Probe(engine, handler, attempts=1, timeout_s=0.05))
    assert error_of(job)["type"] == "TimeLimitExceeded"
    assert ended.wait(10)


def test_a_job_may_differ_from_its_contract(engine: RedisEngine) -> None:
    def handler(payload, job):
        if payload.text == "slow":
            eventually(lambda: False)
        raise OSError("no")

    probe = Probe(engine, handler, attempts=1, timeout_s=None, backoff=FixedBackoff(60_000))
    with running(probe.broker):
        often = probe.finished(probe.put(attempts=3, backoff={"kind": "fixed", "wait_ms": 1}))
        slow = probe.finished(probe.put({"text": "slow"}, timeout_s=0.05))
    assert often.attempt == 3
    assert error_of(slow)["type"] == "TimeLimitExceeded"


def test_a_job_that_lost_its_lease_ends_without_effect(engine: RedisEngine) -> None:
    started, gate = threading.Event(), threading.Event()

    def handler(payload, job):
        if job.token == 1:
            started.set()
            gate.wait(10)
            return "the late one"
        return "the new one"

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        assert started.wait(10)
        # as if this process had been silent for longer than its lease
        probe.engine.renew(QUEUE, [(job_id, 1)], -1)
        eventually(lambda: probe.engine.reap(QUEUE) or probe.get(job_id).stalls)
        assert probe.finished(job_id).result == "the new one"
        gate.set()
        never(lambda: probe.get(job_id).result != "the new one", during=0.2)
    assert probe.get(job_id).stalls == 1


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Opaque(BaseModel):
    thing: Any


def test_an_error_that_cannot_be_told_fails_its_job_all_the_same(engine: RedisEngine) -> None:
    def handler(payload, job):
        raise Mute

    job = run_one(Probe(engine, handler, attempts=2))
    assert job.state is State.FAILED
    assert (error_of(job)["type"], job.attempt) == ("Mute", 2)


def test_an_error_whose_fields_cannot_be_stored_fails_its_job_all_the_same(engine: RedisEngine) -> None:
    def handler(payload, job):
        raise PermanentError("no", table={(1, 2): 3})

    job = run_one(Probe(engine, handler))
    assert job.state is State.FAILED
    assert error_of(job)["code"] == "permanent"


@pytest.mark.parametrize("result", [Opaque(thing=object()), {"error": Mute()}], ids=["a model", "a value"])
def test_a_result_that_nothing_can_write_fails_the_job(engine: RedisEngine, result: Any) -> None:
    job = run_one(Probe(engine, lambda payload, job: result))
    assert job.state is State.FAILED


def test_a_last_report_that_cannot_be_written_costs_the_job_nothing(engine: RedisEngine) -> None:
    def handler(payload, job):
        job.progress(1)
        job.progress(2, table={(1, 2): 3})
        return "done"

    job = run_one(Probe(engine, handler))
    assert (job.state, job.result) == (State.COMPLETED, "done")


def test_a_run_that_fails_just_before_its_time_is_up_has_failed(engine: RedisEngine) -> None:
    def handler(payload, job):
        raise PermanentError("no")

    def slowly(record: logging.LogRecord) -> bool:
        # Dramatiq writes down that the run failed before it settles it; the time is up meanwhile.
        for _ in range(60):
            time.sleep(0.01)
        return True

    log = logging.getLogger("dramatiq.worker.WorkerThread")
    log.addFilter(slowly)
    try:
        probe = Probe(engine, handler, attempts=1, timeout_s=0.2)
        with running(probe.broker) as worker:
            job = probe.finished(probe.put())
            time.sleep(0.1)
            assert job.state is State.FAILED
            assert all(thread.is_alive() for thread in worker.workers)
    finally:
        log.removeFilter(slowly)
    assert error_of(job)["message"] == "no"
