"""Submissions that add nothing: another job stands for them, or there is no room."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from shared.engine.redis import RedisEngine
from tests.integration.api.playing import Hand
from tests.integration.api.test_jobs import PAYLOAD
from tests.integration.broker.patience import eventually
from tests.servers import ValkeyServer

OTHER = {"file_id": "file_01ARZ3NDEKTSV4RRFFQ69G5FAW"}
QUEUE = "excel-import"


def post(client: FlaskClient, payload: dict[str, Any] = PAYLOAD, **options: Any) -> TestResponse:
    return client.post("/api/v1/jobs", json={"type": "imports.excel", "payload": payload, "options": options})


def body(answer: TestResponse) -> dict[str, Any]:
    document: dict[str, Any] = answer.get_json()
    return document


def read(client: FlaskClient, job_id: str) -> dict[str, Any]:
    return body(client.get(f"/api/v1/jobs/{job_id}"))


def test_a_request_is_repeated_under_its_key(client: FlaskClient, hand: Hand) -> None:
    first = post(client, idempotency_key="k", priority="high")
    assert first.status_code == 202
    assert "submission" not in body(first)
    job_id = body(first)["id"]
    again = post(client, idempotency_key="k", priority=2)
    assert (again.status_code, again.headers["Location"]) == (200, first.headers["Location"])
    assert body(again) == {**read(client, job_id), "submission": "repeated"}
    hand.complete(hand.take(), {"rows": 3})
    assert (body(post(client, idempotency_key="k", priority=2))["result"]) == {"rows": 3}


def test_another_request_under_the_same_key_is_refused(client: FlaskClient) -> None:
    job_id = body(post(client, idempotency_key="k"))["id"]
    for answer in (post(client, OTHER, idempotency_key="k"), post(client, idempotency_key="k", delay_s=1)):
        assert answer.status_code == 422
        assert body(answer)["type"] == "urn:callboard:problem:idempotency-key-reused"
        assert body(answer)["job_id"] == job_id


def test_a_duplicate_is_answered_with_the_job_that_holds_the_key(client: FlaskClient, engine: RedisEngine) -> None:
    job = body(post(client, dedupe={"key": "k"}, group="t1"))
    assert (job["dedupe_key"], job["group"]) == ("k", "t1")
    answer = post(client, OTHER, dedupe={"key": "k"})
    assert answer.status_code == 200
    assert body(answer) == {**read(client, job["id"]), "submission": "duplicate"}
    assert engine.counts(QUEUE).waiting == 1


def test_a_debounced_job_takes_the_newest_payload(client: FlaskClient, engine: RedisEngine) -> None:
    rule = {"key": "k", "mode": "debounce", "window_s": 60}
    job = body(post(client, dedupe=rule))
    assert job["state"] == "delayed"
    answer = post(client, OTHER, dedupe=rule)
    assert answer.status_code == 200
    assert (body(answer)["id"], body(answer)["submission"]) == (job["id"], "replaced")
    assert (read(client, job["id"])["payload"], engine.counts(QUEUE).delayed) == (OTHER, 1)


def test_a_key_outlives_its_job(client: FlaskClient, hand: Hand) -> None:
    options: dict[str, Any] = {"dedupe": {"key": "k", "mode": "throttle", "window_s": 60}, "keep_s": 0}
    job_id = body(post(client, **options))["id"]
    hand.complete(hand.take())
    eventually(lambda: client.get(f"/api/v1/jobs/{job_id}").status_code == 404)
    answer = post(client, OTHER, **options)
    document = body(answer)
    assert (answer.status_code, document["id"]) == (200, job_id)
    assert (document["state"], document["submission"], document["payload"]) == ("removed", "duplicate", None)


def test_a_full_queue_refuses_and_says_when_to_come_back(client: FlaskClient, engine: RedisEngine) -> None:
    engine.set_limits(QUEUE, {"max_length": 1})
    job = body(post(client, dedupe={"key": "k"}))
    answer = post(client)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) >= 1
    assert body(answer)["type"] == "urn:callboard:problem:queue-full"
    assert body(post(client, dedupe={"key": "k"}))["id"] == job["id"], "a duplicate needs no room"


def test_a_server_that_is_nearly_full_refuses_and_says_when_to_come_back(
    make_valkey: Callable[..., ValkeyServer], make_client: Callable[..., FlaskClient]
) -> None:
    server = make_valkey()
    client = make_client(redis_url_override=server.url)
    assert post(client).status_code == 202
    with server.client() as direct:
        info: Any = direct.info("memory")
        direct.config_set("maxmemory", int(info["used_memory"] / 0.95))
        # What is known of the server's memory holds for half a second.
        eventually(lambda: post(client).status_code == 503)
        answer = post(client)
        assert body(answer)["type"] == "urn:callboard:problem:queue-server-full"
        assert int(answer.headers["Retry-After"]) >= 1
        direct.config_set("maxmemory", 0)
        eventually(lambda: post(client).status_code == 202)
