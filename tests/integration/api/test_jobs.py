"""Submitting jobs, looking at them, steering them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.engine.engine import NewJob, Outcome
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from tests.integration.api.playing import Hand

TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
PAYLOAD = {"file_id": "file_01ARZ3NDEKTSV4RRFFQ69G5FAV"}
MISSING = "excel-import.01ARZ3NDEKTSV4RRFFQ69G5FAV"


def submit(client: FlaskClient, **options: Any) -> dict[str, Any]:
    body = {"type": "imports.excel", "payload": PAYLOAD, **({"options": options} if options else {})}
    answer = client.post("/api/v1/jobs", json=body)
    assert answer.status_code == 202, answer.get_json()
    document: dict[str, Any] = answer.get_json()
    assert answer.headers["Location"] == f"/api/v1/jobs/{document['id']}"
    return document


def read(client: FlaskClient, job: dict[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = client.get(job["links"]["self"]).get_json()
    return document


def test_a_job_is_accepted_and_reads_back_the_same(client: FlaskClient) -> None:
    job = submit(client)
    assert job["state"] == "waiting"
    assert job["payload"] == PAYLOAD
    assert job["priority"] == 3
    assert job["attempt"] == 0
    assert job["attempts_max"] == 3
    assert job["attempts"] == []
    assert job["options"] == {
        "attempts": 3,
        "backoff": {"kind": "exponential", "base_ms": 2000, "cap_ms": 300000, "factor": 2.0, "jitter": 0.2},
        "timeout_s": 3600,
        "tags": [],
        "owner": None,
        "keep_s": None,
    }
    again = read(client, job)
    assert TIME.fullmatch(again["created_at"])
    # The answer to a submission has this machine's clock, the stored job the server's.
    assert {**again, "created_at": None} == {**job, "created_at": None}


def test_options_are_kept_with_the_job(client: FlaskClient) -> None:
    given = {
        "attempts": 7,
        "backoff": {"kind": "fixed", "wait_ms": 250},
        "timeout_s": 12.5,
        "tags": ["nightly", "glossary"],
        "owner": "user-7",
        "keep_s": 60,
    }
    job = read(client, submit(client, priority="critical", **given))
    assert job["options"] == given
    assert job["attempts_max"] == 7
    assert job["priority"] == 1
    assert read(client, submit(client, priority=-5))["priority"] == -5


def test_priorities_are_honoured(client: FlaskClient, hand: Hand) -> None:
    low, high = submit(client, priority="low"), submit(client, priority="high")
    assert [hand.take().id, hand.take().id] == [high["id"], low["id"]]


@pytest.mark.parametrize("option", [{"delay_s": 3600}, {"delay_ms": 3_600_000}])
def test_delayed_jobs_say_when_they_are_due_and_can_be_promoted(
    client: FlaskClient, hand: Hand, option: dict[str, Any]
) -> None:
    job = read(client, submit(client, **option))
    assert job["state"] == "delayed"
    wait = datetime.fromisoformat(job["due_at"]) - datetime.fromisoformat(job["created_at"])
    assert wait == timedelta(hours=1)
    promoted = client.post(f"{job['links']['self']}/promote")
    assert promoted.status_code == 202
    assert promoted.get_json()["state"] == "waiting"
    assert promoted.get_json()["due_at"] is None
    assert hand.take().id == job["id"]
    assert client.post(f"{job['links']['self']}/promote").status_code == 409


def test_run_at_takes_any_timezone(client: FlaskClient) -> None:
    job = submit(client, run_at="2099-07-01T12:00:00.250+02:00")
    assert job["state"] == "delayed"
    assert job["due_at"] == "2099-07-01T10:00:00.250Z"
    assert read(client, job)["due_at"] == job["due_at"]
    past = (datetime.now(UTC) - timedelta(days=1)).isoformat()
    assert read(client, submit(client, run_at=past))["state"] == "waiting"


def test_a_run_is_told_from_start_to_end(client: FlaskClient, hand: Hand) -> None:
    job = submit(client)
    leased = hand.take()
    hand.progress(leased, 40, "reading", rows=400)
    hand.log(leased, "sheet Terms has 1,000 rows", sheet="Terms")
    running = read(client, job)
    assert running["state"] == "active"
    assert running["worker"] == "hand"
    assert running["attempt"] == 1
    assert running["progress"] | {"at": None} == {
        "percent": 40,
        "message": "reading",
        "data": {"rows": 400},
        "at": None,
    }
    assert TIME.fullmatch(running["progress"]["at"])
    assert TIME.fullmatch(running["started_at"])
    (line,) = client.get(job["links"]["logs"]).get_json()["logs"]
    assert TIME.fullmatch(line.pop("at"))
    assert line == {"level": "info", "message": "sheet Terms has 1,000 rows", "data": {"sheet": "Terms"}}

    hand.complete(leased, {"inserted": 1000})
    ended = read(client, job)
    assert ended["state"] == "completed"
    assert ended["result"] == {"inserted": 1000}
    assert TIME.fullmatch(ended["finished_at"])
    (attempt,) = ended["attempts"]
    assert attempt["outcome"] == "complete"
    assert attempt["attempt"] == 1
    assert TIME.fullmatch(attempt["ended_at"])

    brief = client.get(job["links"]["progress"])
    assert brief.content_type == "application/json"
    assert brief.get_json() == {name: ended[name] for name in brief.get_json()}
    assert "payload" not in brief.get_json()
    assert brief.get_json()["result"] == {"inserted": 1000}


def test_a_failed_job_says_why_and_runs_again_on_request(client: FlaskClient, hand: Hand) -> None:
    job = submit(client)
    leased = hand.take()
    hand.finish(leased, Outcome.RETRY, {"type": "RetryableError", "message": "busy", "retryable": True})
    hand.fail(hand.take(), "not a workbook")
    failed = read(client, job)
    assert failed["state"] == "failed"
    assert failed["attempt"] == 2
    assert failed["error"]["message"] == "not a workbook"
    assert [attempt["error"]["message"] for attempt in failed["attempts"]] == ["busy", "not a workbook"]
    again = client.post(f"{job['links']['self']}/retry")
    assert again.status_code == 202
    assert again.get_json()["state"] == "waiting"
    refused = client.post(f"{job['links']['self']}/retry")
    assert refused.status_code == 409
    assert refused.get_json()["type"].endswith(":wrong-state")


def test_cancelling(client: FlaskClient, hand: Hand) -> None:
    waiting, running = submit(client, priority="low"), submit(client, priority="high")
    leased = hand.take()
    assert leased.id == running["id"]
    stopped = client.post(f"{waiting['links']['self']}/cancel")
    assert stopped.status_code == 200
    assert stopped.get_json()["state"] == "cancelled"
    asked = client.post(f"{running['links']['self']}/cancel")
    assert asked.status_code == 202
    assert asked.get_json()["state"] == "active"
    assert asked.get_json()["cancel_requested"] is True
    hand.finish(leased, Outcome.CANCEL, {"type": "JobCancelled", "message": "The job was cancelled."})
    assert read(client, running)["state"] == "cancelled"
    assert client.post(f"{running['links']['self']}/cancel").status_code == 409


def test_deleting_refuses_a_running_job_and_says_what_to_do(client: FlaskClient, hand: Hand) -> None:
    job = submit(client)
    leased = hand.take()
    refused = client.delete(job["links"]["self"])
    assert refused.status_code == 409
    assert f"POST {job['links']['self']}/cancel" in refused.get_json()["detail"]
    hand.complete(leased)
    gone = client.delete(job["links"]["self"])
    assert gone.status_code == 204
    assert gone.data == b""
    assert client.get(job["links"]["self"]).status_code == 404
    assert client.delete(job["links"]["self"]).status_code == 404


@pytest.mark.parametrize("job_id", [MISSING, "nonsense", "no such queue.01ARZ3NDEKTSV4RRFFQ69G5FAV", "a" * 3000, "%00"])
def test_every_call_on_a_job_that_is_not_there_is_404(client: FlaskClient, job_id: str) -> None:
    for method, suffix in [
        ("GET", ""),
        ("DELETE", ""),
        ("GET", "/logs"),
        ("GET", "/progress"),
        ("GET", "/progress?stream"),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("POST", "/promote"),
    ]:
        answer = client.open(f"/api/v1/jobs/{job_id}{suffix}", method=method)
        assert answer.status_code == 404, (method, suffix)
        assert answer.get_json()["type"] == "urn:callboard:problem:job-not-found"


def test_jobs_of_other_programs_can_be_read(client: FlaskClient, engine: RedisEngine) -> None:
    job_id = new_job_id("default")
    engine.add("default", [NewJob(id=job_id, name="some_actor", body=b'{"a":[1,2]}')])
    job = client.get(f"/api/v1/jobs/{job_id}").get_json()
    assert job["type"] == "some_actor"
    assert job["payload"] is None
    assert job["attempts_max"] is None


# -- lists --


def everything(client: FlaskClient, **query: Any) -> list[str]:
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = client.get("/api/v1/jobs", query_string={**query, **cursor}).get_json()
        assert len(page["jobs"]) <= query.get("limit", 50)
        found += [job["id"] for job in page["jobs"]]
        if page["next_cursor"] is None:
            return found
        cursor = {"cursor": page["next_cursor"]}


def test_a_list_gives_every_job_once_whatever_the_parts(client: FlaskClient, hand: Hand) -> None:
    assert everything(client) == []
    ids = [submit(client)["id"] for _ in range(7)]
    ids.append(submit(client, delay_s=60)["id"])
    rows = {"type": "imports.batch_insert", "payload": {"dataset": "terms", "rows": [{"term": "a"}]}}
    batch = client.post("/api/v1/jobs", json=rows).get_json()["id"]
    hand.complete(hand.take())
    running = hand.take().id
    # What runs comes first, then what will in the order of the catalogue's queues, then what did.
    expected = [running, *ids[2:7], batch, ids[7], ids[0]]
    for limit in (1, 2, 3, 5, 200):
        assert everything(client, limit=limit) == expected
    assert everything(client, queue="db-batch") == [batch]
    assert everything(client, state="delayed,completed") == [ids[7], ids[0]]
    assert everything(client, state="waiting", queue="excel-import", order="newest", limit=2) == ids[2:7][::-1]
    assert everything(client, type="imports.excel") == [job_id for job_id in expected if job_id != batch]
    assert everything(client, type="imports.excel", queue="db-batch") == []


def test_a_filter_that_matches_little_still_ends(client: FlaskClient, engine: RedisEngine) -> None:
    other = [NewJob(id=new_job_id("excel-import"), name="other", body=encode_payload({})) for _ in range(450)]
    engine.add("excel-import", other)
    mine = submit(client)["id"]
    assert everything(client, type="imports.excel", limit=3) == [mine]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=\u0661", "limit"),
        ("limit=1e2", "limit"),
        ("state=running", "state"),
        ("order=up", "order"),
        ("cursor=garbage", "cursor"),
        ("cursor=%00", "cursor"),
        ("cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", "cursor"),
        ("cursor=%C3%A4", "cursor"),
        ("stat=failed", "stat"),
    ],
)
def test_wrong_queries_are_refused(client: FlaskClient, query: str, field: str) -> None:
    answer = client.get(f"/api/v1/jobs?{query}")
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]


def test_a_cursor_is_good_for_its_own_list_only(client: FlaskClient) -> None:
    for _ in range(3):
        submit(client)
    cursor = client.get("/api/v1/jobs?limit=1").get_json()["next_cursor"]
    assert client.get("/api/v1/jobs", query_string={"limit": 1, "cursor": cursor}).status_code == 200
    for change in ({"order": "newest"}, {"state": "waiting"}, {"queue": "db-batch"}, {"type": "imports.excel"}):
        assert client.get("/api/v1/jobs", query_string={"cursor": cursor, **change}).status_code == 422


def test_unknown_names_in_a_filter_name_the_known_ones(client: FlaskClient) -> None:
    queue = client.get("/api/v1/jobs?queue=nowhere")
    assert queue.status_code == 404
    assert "excel-import" in queue.get_json()["detail"]
    kind = client.get("/api/v1/jobs?type=imports.excell")
    assert kind.status_code == 422
    assert "imports.excel" in kind.get_json()["detail"]
