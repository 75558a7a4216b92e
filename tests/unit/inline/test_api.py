"""The API of an installation without a queue server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from services.api.app import create_app
from services.api.backend import EXTENSION
from shared.config import Settings
from shared.inline import InlineEngine
from tests.unit.inline import program

KEY = "test-key-of-the-administrator"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[FlaskClient]:
    app = create_app(Settings(data_dir=tmp_path, admin_key=KEY, queue_enabled=False), catalogue=program.CATALOGUE)
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {KEY}"
    yield client
    app.extensions[EXTENSION].hub.close()
    app.extensions[EXTENSION].engine.close()


def test_the_answer_to_a_submission_has_the_result(client: FlaskClient) -> None:
    assert isinstance(client.application.extensions[EXTENSION].engine, InlineEngine)
    answer = client.post("/api/v1/jobs", json={"type": "notes.plain", "payload": {"text": "hello"}})
    assert answer.status_code == 202
    assert answer.json is not None
    assert (answer.json["state"], answer.json["result"]["text"]) == ("completed", "hello")
    again = client.get(answer.headers["Location"])
    assert again.json == answer.json


def test_jobs_are_listed_and_steered(client: FlaskClient) -> None:
    failed = client.post("/api/v1/jobs", json={"type": "notes.broken", "payload": {}})
    assert failed.json is not None
    assert failed.json["state"] == "failed"
    job_id = failed.json["id"]
    listed = client.get("/api/v1/jobs?state=failed")
    assert listed.json is not None
    assert [job["id"] for job in listed.json["jobs"]] == [job_id]
    retried = client.post(f"/api/v1/jobs/{job_id}/retry")
    assert retried.json is not None
    assert (retried.status_code, retried.json["state"], len(retried.json["attempts"])) == (202, "failed", 2)
    assert client.delete(f"/api/v1/jobs/{job_id}").status_code == 204
    assert client.get(f"/api/v1/jobs/{job_id}").status_code == 404


def test_it_is_ready(client: FlaskClient) -> None:
    assert client.get("/readyz").status_code == 200
