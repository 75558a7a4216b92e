"""``QUEUE_ENABLED=false`` as it is deployed: gunicorn alone, no queue server, no worker."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.config import Settings
from shared.database.migrate import upgrade
from tests.integration.api.server import ROOT, ApiServer

KEY = "test-key-of-the-administrator"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ApiServer]:
    settings = Settings(data_dir=tmp_path / "data", admin_key=KEY, queue_enabled=False)
    upgrade(settings)
    server = ApiServer(settings, KEY, tmp_path / "api.log")
    server.start()
    yield server
    server.stop()


@pytest.mark.slow
def test_a_workbook_is_imported_by_the_request_that_asks_for_it(server: ApiServer) -> None:
    with server.client() as client:
        assert client.get("/readyz").status_code == 200
        with (ROOT / "samples" / "terms.xlsx").open("rb") as workbook:
            stored = client.post("/api/v1/files", files={"file": ("terms.xlsx", workbook)}).raise_for_status().json()
        answer = client.post(
            "/api/v1/jobs", json={"type": "imports.excel", "payload": {"file_id": stored["id"], "dataset": "terms"}}
        )
        job = answer.raise_for_status().json()
        assert (answer.status_code, job["state"], job["attempt"]) == (202, "completed", 1), job["error"]
        assert job["result"]["inserted"] > 0
        assert client.get(answer.headers["Location"]).json()["result"] == job["result"]
        listed = client.get("/api/v1/jobs?state=completed").raise_for_status().json()["jobs"]
        assert [found["id"] for found in listed] == [job["id"]]
    assert server.terminate(signal.SIGTERM) < 15, "no thread of a run keeps the process"
    assert "Traceback" not in server.log()
