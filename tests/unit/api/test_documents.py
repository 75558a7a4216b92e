"""How times and problems are written."""

from __future__ import annotations

import pytest
from flask import Flask

from services.api.documents import timestamp
from services.api.envelope import register_envelope
from services.api.errors import register_errors
from shared.errors import CallboardError, ContractError, EngineUnavailable, RetryableError, WrongState


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1893553445678, "2030-01-02T03:04:05.678Z"),
        (1893553445001, "2030-01-02T03:04:05.001Z"),
        (None, None),
    ],
)
def test_times_are_rfc_3339_in_utc_to_the_millisecond(ms: int | None, text: str | None) -> None:
    assert timestamp(ms) == text


def answer_to(error: Exception):
    app = Flask("test", static_folder=None)
    register_envelope(app)
    register_errors(app)

    @app.get("/")
    def view() -> str:
        raise error

    return app.test_client().get("/")


def test_an_error_is_a_problem_document() -> None:
    answer = answer_to(WrongState("Job x runs.", state="active"))
    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"
    assert answer.get_json() == {
        "type": "urn:callboard:problem:wrong-state",
        "title": "Wrong state",
        "status": 409,
        "detail": "Job x runs.",
        "request_id": answer.headers["X-Request-ID"],
        "state": "active",
    }


def test_an_errors_own_fields_replace_none_of_the_documents() -> None:
    document = answer_to(WrongState("Told.", status=200, type="x", request_id="y")).get_json()
    assert (document["status"], document["type"]) == (409, "urn:callboard:problem:wrong-state")
    assert document["request_id"].startswith("req_")


@pytest.mark.parametrize(
    "error", [CallboardError("s3cret"), ContractError("s3cret"), OSError("s3cret"), KeyError("s3cret")]
)
def test_errors_of_the_inside_say_nothing_of_it(error: Exception) -> None:
    answer = answer_to(error)
    assert answer.status_code == 500
    assert "s3cret" not in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    ("error", "wait"),
    [
        (EngineUnavailable("redis.internal:6379"), "5"),
        (EngineUnavailable(retry_after_s=0.2), "1"),
        (RetryableError("busy", retry_after_s=12.5), "13"),
    ],
)
def test_errors_that_pass_say_when_to_come_again(error: Exception, wait: str) -> None:
    answer = answer_to(error)
    assert answer.status_code == 503
    assert answer.headers["Retry-After"] == wait
    assert "redis.internal" not in answer.get_data(as_text=True)
