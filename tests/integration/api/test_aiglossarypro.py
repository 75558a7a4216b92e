"""The calls that AIGlossaryPro's job queue guide prints, as it prints them."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from shared.engine.engine import Outcome
from shared.engine.redis import RedisEngine
from tests.integration.api.playing import Hand
from tests.servers import PATIENCE_S

IMPORT = "/api/admin/import"


def form(**fields: str) -> dict[str, Any]:
    return {"data": {"file": (io.BytesIO(b"term,definition\n"), "terms.csv"), **fields}}


@pytest.fixture
def busy(engine: RedisEngine, hand: Hand) -> Any:
    """Let a worker end the next import while the test waits for its answer."""
    threads: list[threading.Thread] = []

    def start(end: Callable[[Any], None]) -> None:
        def run() -> None:
            deadline = time.monotonic() + PATIENCE_S
            while not engine.counts("excel-import").waiting:
                assert time.monotonic() < deadline, "nothing was submitted"
                time.sleep(0.005)
            end(hand.take())

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield start
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def test_a_small_file_is_imported_before_the_answer(client: FlaskClient, hand: Hand, busy: Any) -> None:
    def end(job: Any) -> None:
        hand.progress(job, 50, "halfway")
        hand.complete(job, {"inserted": 3})

    busy(end)
    answer = client.post(IMPORT, **form())
    assert answer.status_code == 200
    document = answer.get_json()
    assert document["success"] is True
    data = document["data"]
    assert data["async"] is False
    assert data["state"] == "completed"
    assert data["result"] == {"inserted": 3}
    job = client.get(f"/api/v1/jobs/{data['jobId']}").get_json()
    assert job["type"] == "imports.excel"
    assert job["payload"]["dataset"] == "terms"
    file = client.get(f"/api/v1/files/{job['payload']['file_id']}").get_json()
    assert file["name"] == "terms.csv"


@pytest.mark.parametrize(("retryable", "status"), [(False, 422), (True, 500)])
def test_a_small_file_that_fails_says_why(
    client: FlaskClient, hand: Hand, busy: Any, retryable: bool, status: int
) -> None:
    busy(lambda job: hand.fail(job, "not a workbook", retryable=retryable))
    answer = client.post(IMPORT, **form())
    assert answer.status_code == status
    document = answer.get_json()
    assert document["success"] is False
    assert document["failedReason"] == document["data"]["failedReason"] == "not a workbook"
    assert document["data"]["state"] == "failed"


def test_a_small_file_that_is_cancelled_says_so(client: FlaskClient, hand: Hand, busy: Any) -> None:
    busy(lambda job: hand.finish(job, Outcome.CANCEL, {"type": "JobCancelled", "message": "cancelled"}))
    answer = client.post(IMPORT, **form())
    assert answer.status_code == 409
    assert answer.get_json()["success"] is False


def test_asked_for_it_is_imported_after_the_answer(client: FlaskClient, engine: RedisEngine) -> None:
    for query in ("?async=true", "?async=1", "?async"):
        answer = client.post(f"{IMPORT}{query}", **form(dataset="papers"))
        assert answer.status_code == 200
        document = answer.get_json()
        assert document == {"success": True, "data": {"jobId": document["data"]["jobId"], "async": True}}
        record = engine.get(document["data"]["jobId"])
        assert record is not None
        assert record.payload is not None
        assert record.payload["dataset"] == "papers"


def test_over_five_megabytes_it_is_imported_after_the_answer(make_client: Callable[..., FlaskClient]) -> None:
    client = make_client(max_upload_bytes=10_000_000)
    edge = 5 * 1024 * 1024
    with (
        io.BytesIO(b"x" * (edge + 1)) as content,
    ):
        head = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        body = head + content.getvalue() + b"\r\n--B--\r\n"
    answer = client.post(IMPORT, data=body, content_type="multipart/form-data; boundary=B")
    assert answer.get_json()["data"]["async"] is True


def test_with_no_worker_the_wait_has_an_end(make_client: Callable[..., FlaskClient]) -> None:
    answer = make_client(import_wait_s=0.05).post(IMPORT, **form())
    assert answer.status_code == 200
    assert answer.get_json()["data"]["async"] is True


def test_the_state_of_an_import(client: FlaskClient, hand: Hand) -> None:
    job_id = client.post(f"{IMPORT}?async=true", **form()).get_json()["data"]["jobId"]
    path = f"/api/jobs/excel_import/{job_id}"

    def data() -> dict[str, Any]:
        document = client.get(path).get_json()
        assert document["success"] is True
        return dict(document["data"])

    assert (data()["state"], data()["progress"], data()["result"]) == ("waiting", 0, None)
    job = hand.take()
    hand.progress(job, 12.5, "reading")
    assert (data()["state"], data()["progress"]) == ("active", 12.5)
    hand.complete(job, {"inserted": 1})
    assert (data()["state"], data()["progress"], data()["result"]) == ("completed", 100, {"inserted": 1})
    assert data()["failedReason"] is None


def test_a_failed_import_has_its_reason(client: FlaskClient, hand: Hand) -> None:
    job_id = client.post(f"{IMPORT}?async=true", **form()).get_json()["data"]["jobId"]
    hand.fail(hand.take(), "column 'term' is missing")
    data = client.get(f"/api/jobs/excel_import/{job_id}").get_json()["data"]
    assert (data["state"], data["failedReason"]) == ("failed", "column 'term' is missing")


def test_cancelling_an_import(client: FlaskClient, hand: Hand) -> None:
    job_id = client.post(f"{IMPORT}?async=true", **form()).get_json()["data"]["jobId"]
    path = f"/api/jobs/excel_import/{job_id}"
    cancelled = client.delete(path)
    assert cancelled.status_code == 200
    assert cancelled.get_json()["success"] is True
    # The guide's polling loop ends at completed and failed only.
    after = client.get(path).get_json()["data"]
    assert (after["state"], after["failedReason"]) == ("failed", "The job was cancelled.")
    removed = client.delete(path).get_json()
    assert removed == {"success": True, "data": {"jobId": job_id, "removed": True}}
    assert client.get(path).status_code == 404


def test_cancelling_a_running_import_asks_it_to_stop(client: FlaskClient, hand: Hand) -> None:
    job_id = client.post(f"{IMPORT}?async=true", **form()).get_json()["data"]["jobId"]
    hand.take()
    answer = client.delete(f"/api/jobs/excel_import/{job_id}").get_json()
    assert answer["success"] is True
    assert answer["data"]["state"] == "active"
    assert client.get(f"/api/v1/jobs/{job_id}").get_json()["cancel_requested"] is True


@pytest.mark.parametrize(
    ("fields", "query", "status"),
    [({"colour": "red"}, "", 422), ({}, "?asinc=true", 422), ({}, "?async=maybe", 422)],
)
def test_what_it_does_not_know_is_refused_and_the_file_dropped(
    client: FlaskClient, tmp_path: Path, fields: dict[str, str], query: str, status: int
) -> None:
    answer = client.post(f"{IMPORT}{query}", **form(**fields))
    assert answer.status_code == status
    document = answer.get_json()
    assert document["success"] is False
    assert document["failedReason"] == document["detail"]
    folder = tmp_path / "data" / "files"
    assert not folder.exists() or list(folder.iterdir()) == []


def test_errors_have_both_forms(client: FlaskClient) -> None:
    stranger = client.application.test_client()
    for answer, status in [
        (stranger.post(IMPORT), 401),
        (client.post(IMPORT), 400),
        (client.post(IMPORT, data=b"x" * 1_000_001), 413),
        (client.get("/api/jobs/excel_import/excel-import.01ARZ3NDEKTSV4RRFFQ69G5FAV"), 404),
        (client.get("/api/jobs/excel_import/12345"), 404),
    ]:
        assert answer.status_code == status
        document = answer.get_json()
        assert document["success"] is False
        assert document["failedReason"] == document["detail"]
        assert document["type"].startswith("urn:callboard:problem:")


def test_other_jobs_are_no_imports(client: FlaskClient) -> None:
    body = {"type": "imports.batch_insert", "payload": {"dataset": "terms", "rows": [{"term": "a"}]}}
    job_id = client.post("/api/v1/jobs", json=body).get_json()["id"]
    for method in ("GET", "DELETE"):
        assert client.open(f"/api/jobs/excel_import/{job_id}", method=method).status_code == 404
    assert client.get(f"/api/v1/jobs/{job_id}").status_code == 200
