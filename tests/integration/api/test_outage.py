"""The queue server is away: 503 with Retry-After, quickly, and everything again when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable

from flask.testing import FlaskClient

from tests.servers import ValkeyServer

JOB = {"type": "imports.excel", "payload": {"file_id": "f"}}
JOB_ID = "excel-import.01ARZ3NDEKTSV4RRFFQ69G5FAV"

CALLS = [
    ("GET", "/api/v1/jobs"),
    ("GET", f"/api/v1/jobs/{JOB_ID}"),
    ("GET", f"/api/v1/jobs/{JOB_ID}/progress"),
    ("GET", f"/api/v1/jobs/{JOB_ID}/progress?stream"),
    ("GET", f"/api/v1/jobs/{JOB_ID}/logs"),
    ("DELETE", f"/api/v1/jobs/{JOB_ID}"),
    ("POST", f"/api/v1/jobs/{JOB_ID}/cancel"),
    ("POST", f"/api/v1/jobs/{JOB_ID}/retry"),
    ("POST", f"/api/v1/jobs/{JOB_ID}/promote"),
    ("GET", "/api/v1/queues"),
    ("GET", "/api/v1/queues/excel-import"),
    ("POST", "/api/v1/queues/excel-import/pause"),
    ("POST", "/api/v1/queues/excel-import/resume"),
    ("GET", "/api/v1/events"),
    ("GET", f"/api/jobs/excel_import/{JOB_ID}"),
    ("DELETE", f"/api/jobs/excel_import/{JOB_ID}"),
]


def test_every_call_says_that_the_queue_is_away(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    server.kill()
    answers = [(call, client.open(call[1], method=call[0])) for call in CALLS]
    answers.append((("POST", "/api/v1/jobs"), client.post("/api/v1/jobs", json=JOB)))
    for call, answer in answers:
        assert answer.status_code == 503, call
        assert int(answer.headers["Retry-After"]) >= 1, call
        assert answer.get_json()["type"] == "urn:callboard:problem:queue-unavailable", call
        assert str(server.socket) not in answer.get_data(as_text=True), call


def test_the_probes_tell_alive_from_ready(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    assert client.get("/readyz").status_code == 200
    server.kill()
    assert client.get("/healthz").status_code == 200
    unready = client.get("/readyz")
    assert unready.status_code == 503
    assert unready.get_json()["parts"] == {"queue": "unavailable", "storage": "ok"}
    server.start()
    assert client.get("/readyz").status_code == 200
    assert client.post("/api/v1/jobs", json=JOB).status_code == 202


def test_a_server_that_hangs_is_given_up(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    assert client.get("/api/v1/queues").status_code == 200
    server.pause()
    began = time.monotonic()
    answer = client.post("/api/v1/jobs", json=JOB)
    took = time.monotonic() - began
    server.unpause()
    assert answer.status_code == 503
    assert took < 10


def test_a_full_server_refuses_jobs_as_unavailable(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    with server.client() as admin:
        admin.config_set("maxmemory", "1mb")
        answer = client.post("/api/v1/jobs", json=JOB)
        assert answer.status_code == 503
        assert client.get("/api/v1/queues").status_code == 200
        admin.config_set("maxmemory", "0")
    assert client.post("/api/v1/jobs", json=JOB).status_code == 202


def test_files_are_taken_while_the_queue_is_away(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    server.kill()
    assert client.post("/api/v1/files", data=b"x").status_code == 201
