"""Requests that are wrong: each has its clear error, and none goes further than that."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from services.api.bodies import MAX_JSON_BYTES
from shared.engine.redis import RedisEngine

PAYLOAD = {"file_id": "f"}


@pytest.fixture(autouse=True)
def _nothing_is_added(engine: RedisEngine) -> Any:
    yield
    for queue in ("excel-import", "db-batch"):
        counts = engine.counts(queue)
        assert (counts.waiting, counts.delayed) == (0, 0)


def refused(client: FlaskClient, body: Any, status: int = 422) -> dict[str, Any]:
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == status
    assert answer.content_type == "application/problem+json"
    document: dict[str, Any] = answer.get_json()
    assert document["status"] == status
    assert document["title"]
    assert document["detail"]
    assert document["request_id"]
    return document


def fields(document: dict[str, Any]) -> list[str]:
    return [error["field"] for error in document["errors"]]


def test_an_unknown_type_names_the_types(client: FlaskClient) -> None:
    document = refused(client, {"type": "imports.exel", "payload": PAYLOAD})
    assert document["type"] == "urn:callboard:problem:unknown-job-type"
    assert "imports.excel" in document["detail"]
    assert "imports.batch_insert" in document["detail"]


@pytest.mark.parametrize(
    ("payload", "field"),
    [
        ({}, "file_id"),
        ({"file_id": 7}, "file_id"),
        ({"file_id": "f", "header_row": 0}, "header_row"),
        ({"file_id": "f", "conflict": "merge"}, "conflict"),
        ({"file_id": "f", "colour": "red"}, "colour"),
        ({"file_id": "f", "mapping": {"a": 1}}, "mapping.a"),
    ],
)
def test_a_wrong_payload_names_the_field(client: FlaskClient, payload: dict[str, Any], field: str) -> None:
    document = refused(client, {"type": "imports.excel", "payload": payload})
    assert document["type"] == "urn:callboard:problem:validation-failed"
    assert fields(document) == [field]


def test_every_mistake_is_named_and_no_value_repeated(client: FlaskClient) -> None:
    payload = {"header_row": "s3cret", "colour": "s3cret"}
    document = refused(client, {"type": "imports.excel", "payload": payload})
    assert sorted(fields(document)) == ["colour", "file_id", "header_row"]
    assert "s3cret" not in json.dumps(document)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"payload": PAYLOAD}, "type"),
        ({"type": "imports.excel"}, "payload"),
        ({"type": "imports.excel", "payload": [1]}, "payload"),
        ({"type": "imports.excel", "payload": None}, "payload"),
        ({"type": 7, "payload": PAYLOAD}, "type"),
        ({"type": "imports.excel", "payload": PAYLOAD, "option": {}}, "option"),
        ({"type": "imports.excel", "payload": PAYLOAD, "options": []}, "options"),
    ],
)
def test_a_wrong_body_names_the_field(client: FlaskClient, body: Any, field: str) -> None:
    assert fields(refused(client, body)) == [field]


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"attempts": 0}, "options.attempts"),
        ({"attempts": 101}, "options.attempts"),
        ({"attempts": True}, "options.attempts"),
        ({"attempts": "3"}, "options.attempts"),
        ({"priority": "urgent"}, "options.priority"),
        ({"priority": 1001}, "options.priority"),
        ({"priority": 1.5}, "options.priority"),
        ({"priority": True}, "options.priority"),
        ({"delay_s": -1}, "options.delay_s"),
        ({"delay_ms": 1.5}, "options.delay_ms"),
        ({"delay_ms": 10**15}, "options.delay_ms"),
        ({"run_at": "2030-01-01T00:00:00"}, "options.run_at"),
        ({"run_at": "tomorrow"}, "options.run_at"),
        ({"run_at": 1893456000}, "options.run_at"),
        ({"run_at": "2030-01-01T00:00:00Z", "delay_s": 1}, "options"),
        ({"timeout_s": 0}, "options.timeout_s"),
        ({"backoff": {"kind": "linear"}}, "options.backoff"),
        ({"backoff": {"kind": "fixed"}}, "options.backoff.fixed.wait_ms"),
        ({"backoff": {"kind": "fixed", "wait_ms": -1}}, "options"),
        ({"backoff": {"kind": "exponential", "base_ms": 10, "cap_ms": 5}}, "options"),
        ({"tags": ["x" * 65]}, "options.tags.0"),
        ({"tags": ["t"] * 21}, "options.tags"),
        ({"tags": "t"}, "options.tags"),
        ({"owner": ""}, "options.owner"),
        ({"keep_s": -1}, "options.keep_s"),
        ({"atempts": 3}, "options.atempts"),
    ],
)
def test_wrong_options_name_the_field(client: FlaskClient, options: dict[str, Any], field: str) -> None:
    document = refused(client, {"type": "imports.excel", "payload": PAYLOAD, "options": options})
    assert fields(document) == [field]
    assert "Value error" not in document["detail"], "a sentence of ours is no matter of pydantic's"
    assert not document["detail"].endswith("..")


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "", "application/jsonp"]
)
def test_a_body_that_does_not_say_json_is_refused(client: FlaskClient, content_type: str) -> None:
    body = json.dumps({"type": "imports.excel", "payload": PAYLOAD})
    answer = client.post("/api/v1/jobs", data=body, headers={"Content-Type": content_type} if content_type else {})
    assert answer.status_code == 415
    assert "application/json" in answer.get_json()["detail"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b"[]",
        b'"text"',
        b"null",
        b'{"type": NaN}',
        b'{"type": Infinity}',
        b'{"type": "\xff"}',
        b'{"a": ' + b"[" * 100_000,
        b'{"a": ' + b"9" * 5_000 + b"}",
        b'{"type": "imports.excel", "payload": {"file_id": "\\ud800"}}',
        b'{"type": "imports.batch_insert", "payload": {"dataset": "terms", "rows": [{"term": "\\udfff"}]}}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(client: FlaskClient, body: bytes) -> None:
    answer = client.post("/api/v1/jobs", data=body, content_type="application/json")
    assert answer.status_code == 400
    assert answer.get_json()["type"] == "urn:callboard:problem:bad-request"


def test_a_body_over_a_mebibyte_is_refused(client: FlaskClient) -> None:
    body = {"type": "imports.excel", "payload": {"file_id": "x" * MAX_JSON_BYTES}}
    document = refused(client, body, 413)
    assert document["limit_bytes"] == MAX_JSON_BYTES
    assert "/api/v1/files" in document["detail"]


def test_query_parameters_are_not_ignored(client: FlaskClient) -> None:
    answer = client.post("/api/v1/jobs?priority=high", json={"type": "imports.excel", "payload": PAYLOAD})
    assert answer.status_code == 422


def test_wrong_methods_and_addresses_are_problems_too(client: FlaskClient) -> None:
    method = client.put("/api/v1/jobs")
    assert method.status_code == 405
    assert method.content_type == "application/problem+json"
    assert set(method.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}
    assert method.get_json()["type"] == "urn:callboard:problem:method-not-allowed"
    for path in ("/", "/api/v1", "/api/v1/jobs/a/b/c", "//api/v1/jobs", "/api/v1/../v1/jobs", "/static/x"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert answer.get_json()["type"] == "urn:callboard:problem:not-found"


def test_an_unexpected_error_shows_nothing_of_the_inside(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, log_text: Callable[[], str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("s3cret inside")

    monkeypatch.setattr(RedisEngine, "counts", fail)
    answer = client.get("/api/v1/queues")
    monkeypatch.undo()
    assert answer.status_code == 500
    assert answer.get_json()["type"] == "urn:callboard:problem:internal"
    assert "s3cret" not in answer.get_data(as_text=True)
    assert "Zero" not in answer.get_data(as_text=True)
    assert "ZeroDivisionError" in log_text()
    assert answer.get_json()["request_id"] in log_text()
