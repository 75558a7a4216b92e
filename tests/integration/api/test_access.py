"""Who gets in: nobody without a key, but for the health probes."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from services.api.auth import OPEN_ENDPOINTS
from tests.integration.api.conftest import KEY

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@pytest.fixture
def stranger(client: FlaskClient) -> FlaskClient:
    """A client that sends no key."""
    return client.application.test_client()


def address(rule: Rule) -> str:
    return re.sub(r"<[^>]+>", "excel-import.01ARZ3NDEKTSV4RRFFQ69G5FAV", rule.rule)


def closed_rules(app: Flask) -> list[Rule]:
    return [rule for rule in app.url_map.iter_rules() if rule.endpoint not in OPEN_ENDPOINTS]


def test_only_the_health_probes_are_open(client: FlaskClient, stranger: FlaskClient) -> None:
    assert {"health.healthz", "health.readyz"} == OPEN_ENDPOINTS
    assert stranger.get("/healthz").status_code == 200
    assert stranger.get("/readyz").status_code == 200


def test_every_address_and_method_refuses_without_a_key(stranger: FlaskClient) -> None:
    rules = closed_rules(stranger.application)
    assert len(rules) >= 20
    for rule in rules:
        for method in METHODS:
            answer = stranger.open(address(rule), method=method)
            assert answer.status_code == 401, (rule, method)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "header",
    [
        "Bearer wrong",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        f"Basic {KEY}",
        KEY,
        "Bearer",
        "Bearer ",
        "Bearer \u00e4\u00f6",
        f"Bearer {KEY}, Bearer {KEY}",
    ],
)
def test_a_wrong_key_is_refused_and_never_repeated(stranger: FlaskClient, header: str) -> None:
    answer = stranger.get("/api/v1/queues", headers={"Authorization": header})
    assert answer.status_code == 401
    assert answer.content_type == "application/problem+json"
    assert answer.get_json()["type"] == "urn:callboard:problem:not-authenticated"
    assert KEY not in answer.get_data(as_text=True)


def test_a_key_in_the_address_does_not_count(stranger: FlaskClient) -> None:
    for name in ("key", "api_key", "token", "access_token"):
        assert stranger.get("/api/v1/queues", query_string={name: KEY}).status_code == 401


def test_an_address_that_is_not_there_tells_strangers_nothing(client: FlaskClient, stranger: FlaskClient) -> None:
    assert stranger.get("/api/v1/nothing").status_code == 401
    assert client.get("/api/v1/nothing").status_code == 404


def test_the_key_opens_every_address(client: FlaskClient) -> None:
    for rule in closed_rules(client.application):
        if rule.endpoint == "events.follow":
            continue  # never ends; test_streams has it
        for method in rule.methods or ():
            assert client.open(address(rule), method=method).status_code != 401, (rule, method)


def test_the_key_works_from_the_settings_and_is_in_no_file(client: FlaskClient, tmp_path) -> None:
    assert client.get("/api/v1/queues").status_code == 200
    assert not (tmp_path / "data" / "admin.key").exists()


def test_no_key_reaches_the_log(client: FlaskClient, stranger: FlaskClient, log_text: Callable[[], str]) -> None:
    client.get("/api/v1/queues", query_string={"token": "in-the-address"})
    stranger.get("/api/v1/queues", headers={"Authorization": "Bearer not-the-key"})
    written = log_text()
    assert "/api/v1/queues" in written, "the log was not captured"
    for secret in (KEY, "not-the-key", "in-the-address"):
        assert secret not in written


def test_no_other_origin_is_let_in(client: FlaskClient) -> None:
    answer = client.options("/api/v1/queues", headers={"Origin": "https://evil.example"})
    assert answer.status_code == 200
    assert set(answer.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    assert not [name for name, _ in answer.headers if name.lower().startswith("access-control")]


def test_answers_carry_security_headers(client: FlaskClient) -> None:
    for path in ("/healthz", "/api/v1/queues", "/api/v1/nothing"):
        headers = client.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert headers["Cache-Control"] == "no-store"


def test_the_request_id_is_taken_over_when_sane(client: FlaskClient) -> None:
    given = client.get("/api/v1/nothing", headers={"X-Request-ID": "abc-123"})
    assert given.headers["X-Request-ID"] == "abc-123" == given.get_json()["request_id"]
    for odd in ("a b", "x" * 129, "<script>", "a\tb"):
        made = client.get("/api/v1/nothing", headers={"X-Request-ID": odd})
        assert made.headers["X-Request-ID"].startswith("req_")
        assert made.headers["X-Request-ID"] != odd
        assert made.get_json()["request_id"] == made.headers["X-Request-ID"]
