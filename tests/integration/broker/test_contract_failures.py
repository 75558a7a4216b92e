"""What a failure of a handler leads to, and what is kept of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.contracts import FixedBackoff
from shared.engine.engine import JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.integration.broker.contracts import Probe
from tests.integration.broker.workers import running


def run_one(probe: Probe) -> JobRecord:
    with running(probe.broker):
        return probe.finished(probe.put())


def answer_with(status: int, **headers: str) -> Any:
    """Make a handler that is answered so, by a real client's response."""

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(status, headers={name.replace("_", "-"): value for name, value in headers.items()})

    def handler(payload: object, job: object) -> None:
        with httpx.Client(transport=httpx.MockTransport(answer)) as client:
            client.get("https://user:hunter2-Zx81@example.org/?api_key=hunter2-Zx81").raise_for_status()

    return handler


def test_an_answer_that_will_not_change_is_not_asked_for_again(engine: RedisEngine) -> None:
    job = run_one(Probe(engine, answer_with(404), attempts=5))
    assert (job.state, job.attempt) == (State.FAILED, 1)
    assert job.error is not None
    assert job.error["retryable"] is False


def test_an_answer_that_may_change_is_waited_for_as_long_as_it_says(engine: RedisEngine) -> None:
    job = run_one(Probe(engine, answer_with(429, Retry_After="1"), attempts=2, backoff=FixedBackoff(0)))
    assert (job.state, job.attempt) == (State.FAILED, 2)
    first, second = job.attempts
    assert second["started_ms"] - first["ended_ms"] >= 1_000


def test_a_file_that_is_not_there_is_not_looked_for_again(engine: RedisEngine, tmp_path: Path) -> None:
    def handler(payload: object, job: object) -> str:
        return (tmp_path / "nothing").read_text()

    assert run_one(Probe(engine, handler, attempts=5)).attempt == 1


@pytest.mark.parametrize("named", [ValueError, "ValueError", "builtins.ValueError"])
def test_a_job_type_may_call_an_error_permanent(engine: RedisEngine, named: Any) -> None:
    def handler(payload: object, job: object) -> None:
        raise UnicodeError("no")

    assert run_one(Probe(engine, handler, attempts=5, permanent_errors=(named,))).attempt == 1


def test_a_job_type_may_call_an_error_retryable(engine: RedisEngine) -> None:
    def handler(payload: object, job: object) -> None:
        raise FileNotFoundError(2, "not yet")

    assert run_one(Probe(engine, handler, attempts=3, retryable_errors=(FileNotFoundError,))).attempt == 3


def test_each_attempt_keeps_its_traceback_without_secrets_and_its_fingerprint(engine: RedisEngine) -> None:
    job = run_one(Probe(engine, answer_with(503), attempts=3))
    errors = [run["error"] for run in job.attempts]
    assert len(errors) == 3
    for error in errors:
        assert "raise_for_status" in error["traceback"]
        assert "503" in error["message"]
        assert "hunter2" not in str(error)
    assert len({error["fingerprint"] for error in errors}) == 1


def test_an_error_that_cannot_be_classified_is_tried_again(engine: RedisEngine) -> None:
    class Odd(int):
        def __int__(self) -> int:
            raise RuntimeError("not a number after all")

    class Strange(Exception):
        status_code = Odd(404)

    def handler(payload: object, job: object) -> None:
        raise Strange

    job = run_one(Probe(engine, handler, attempts=2))
    assert (job.state, job.attempt) == (State.FAILED, 2)
