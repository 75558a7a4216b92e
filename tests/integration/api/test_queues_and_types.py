"""Queues, the catalogue, and the health probes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from shared.contracts import discover
from shared.engine.engine import NewJob
from shared.engine.keys import new_job_id
from shared.engine.redis import RedisEngine
from tests.integration.api.playing import Hand


def test_queues_tell_their_counts(client: FlaskClient, engine: RedisEngine, hand: Hand) -> None:
    jobs = [NewJob(id=new_job_id("excel-import"), name="imports.excel", body=b"{}") for _ in range(3)]
    engine.add("excel-import", jobs)
    hand.complete(hand.take())
    hand.take()
    queues = {queue["name"]: queue for queue in client.get("/api/v1/queues").get_json()["queues"]}
    assert set(queues) == {"excel-import", "db-batch"}
    queue = queues["excel-import"]
    assert queue["counts"] == {
        "waiting": 1,
        "delayed": 0,
        "blocked": 0,
        "active": 1,
        "completed": 1,
        "failed": 0,
        "cancelled": 0,
    }
    assert queue["family"] == "imports"
    assert queue["concurrency"] == 2
    assert queue["paused"] is False
    assert client.get("/api/v1/queues/excel-import").get_json() == queue
    assert len(client.get(queue["links"]["jobs"]).get_json()["jobs"]) == 3


def test_pausing_and_resuming(client: FlaskClient, engine: RedisEngine) -> None:
    for _ in range(2):  # the second time changes nothing and is no error
        paused = client.post("/api/v1/queues/db-batch/pause")
        assert paused.status_code == 200
        assert paused.get_json()["paused"] is True
    assert engine.counts("db-batch").paused
    assert not engine.counts("excel-import").paused
    for _ in range(2):
        resumed = client.post("/api/v1/queues/db-batch/resume")
        assert resumed.status_code == 200
        assert resumed.get_json()["paused"] is False
    assert not engine.counts("db-batch").paused


@pytest.mark.parametrize("name", ["nowhere", "no such", "%00", "excel-import.x"])
def test_a_queue_that_is_not_there_names_those_that_are(client: FlaskClient, name: str) -> None:
    for method, suffix in [("GET", ""), ("POST", "/pause"), ("POST", "/resume")]:
        answer = client.open(f"/api/v1/queues/{name}{suffix}", method=method)
        assert answer.status_code == 404
        assert answer.get_json()["type"] == "urn:callboard:problem:unknown-queue"
        assert "excel-import" in answer.get_json()["detail"]


def test_types_tell_their_schema_and_what_holds_by_default(client: FlaskClient) -> None:
    types = {each["type"]: each for each in client.get("/api/v1/types").get_json()["types"]}
    assert set(types) == set(discover("services.workers.families").jobs)
    excel = types["imports.excel"]
    assert (excel["queue"], excel["family"], excel["attempts"], excel["priority"]) == ("excel-import", "imports", 3, 3)
    assert excel["backoff"]["kind"] == "exponential"
    assert excel["timeout_s"] == 3600
    assert excel["max_stalls"] == 10
    schema = excel["payload_schema"]
    assert schema["required"] == ["file_id"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["conflict"]["enum"] == ["update", "skip", "fail"]
    assert client.get("/api/v1/types/imports.excel").get_json() == excel
    assert types["imports.batch_insert"]["backoff"] == {"kind": "fixed", "wait_ms": 5000}


def test_a_type_that_is_not_there_names_those_that_are(client: FlaskClient) -> None:
    answer = client.get("/api/v1/types/imports.exel")
    assert answer.status_code == 404
    assert answer.get_json()["type"] == "urn:callboard:problem:unknown-job-type"
    assert "imports.excel" in answer.get_json()["detail"]


def test_health(client: FlaskClient) -> None:
    assert client.get("/healthz").get_json() == {"status": "ok"}
    ready = client.get("/readyz")
    assert ready.status_code == 200
    assert ready.get_json() == {"status": "ready", "parts": {"queue": "ok", "storage": "ok"}}


def test_not_ready_when_files_cannot_be_stored(make_client: Callable[..., FlaskClient], tmp_path: Path) -> None:
    client = make_client()
    (tmp_path / "data").mkdir(exist_ok=True)
    (tmp_path / "data" / "files").write_text("a file where the folder should be")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["parts"] == {"queue": "ok", "storage": "unavailable"}
    assert str(tmp_path) not in answer.get_data(as_text=True)
    assert client.get("/healthz").status_code == 200


def test_the_api_runs_without_what_only_workers_need() -> None:
    heavy = {"dramatiq", "pandas", "numpy", "python_calamine", "sqlalchemy", "alembic", "openai"}
    code = f"import sys, services.api.app; print(sorted({heavy!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
