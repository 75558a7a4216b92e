"""What a running job reports: progress, log, checkpoint; all of it fenced."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from shared.engine.engine import Engine, LeasedJob, LeaseStatus, Outcome
from shared.engine.redis import LOG_LINES_KEPT
from tests.engine.harness import Rig, add_one, end, take_one

HELD, LOST, CANCEL_REQUESTED = LeaseStatus.HELD, LeaseStatus.LOST, LeaseStatus.CANCEL_REQUESTED


def running(engine: Engine) -> LeasedJob:
    add_one(engine)
    return take_one(engine)


def test_progress_is_kept_with_the_job(engine: Engine) -> None:
    job = running(engine)
    data = {"rows": 1_200, "note": "größe"}
    assert engine.progress(job.id, job.token, 12.34567, "Reading", data) is HELD
    record = engine.get(job.id)
    assert record is not None
    assert record.progress is not None
    at_ms = record.progress["at_ms"]
    assert record.progress == {"percent": 12.346, "message": "Reading", "data": data, "at_ms": at_ms}
    assert record.started_ms is not None
    assert at_ms >= record.started_ms
    assert engine.progress(job.id, job.token, 5, None, {}) is HELD
    record = engine.get(job.id)
    assert record is not None
    assert record.progress is not None
    assert (record.progress["percent"], record.progress["message"]) == (5, None)


def test_progress_outlives_the_run(engine: Engine) -> None:
    job = running(engine)
    engine.progress(job.id, job.token, 100, "Done", {})
    end(engine, job)
    record = engine.get(job.id)
    assert record is not None
    assert record.progress is not None
    assert record.progress["message"] == "Done"


def test_a_log_keeps_its_lines_in_order(engine: Engine) -> None:
    job = running(engine)
    for number in range(3):
        engine.log(job.id, job.token, "info", f"line {number}", {"n": number})
    lines = engine.logs(job.id)
    assert [(line["level"], line["message"], line["data"]) for line in lines] == [
        ("info", f"line {number}", {"n": number}) for number in range(3)
    ]
    assert all(line["at_ms"] >= job.created_ms for line in lines)
    assert [line["message"] for line in engine.logs(job.id, limit=2)] == ["line 1", "line 2"]


def test_a_log_is_bounded(engine: Engine) -> None:
    job = running(engine)
    for number in range(LOG_LINES_KEPT + 5):
        engine.log(job.id, job.token, "info", str(number), {})
    lines = engine.logs(job.id)
    assert len(lines) == LOG_LINES_KEPT
    assert (lines[0]["message"], lines[-1]["message"]) == ("5", str(LOG_LINES_KEPT + 4))


def test_a_file_name_that_is_no_text_can_be_logged(engine: Engine) -> None:
    job = running(engine)
    engine.log(job.id, job.token, "info", "caf\udce9.csv", {})
    assert engine.logs(job.id)[0]["message"] == "caf\udce9.csv"


def test_a_checkpoint_outlives_attempts_and_workers(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    assert rig.engine.load_checkpoint(job_id) is None
    state = bytes(range(256))
    assert rig.engine.save_checkpoint(job_id, job.token, state) is HELD
    rig.expire(job_id)
    job = take_one(rig.engine, worker="w2")
    assert rig.engine.load_checkpoint(job_id) == state
    assert rig.engine.save_checkpoint(job_id, job.token, b"") is HELD
    end(rig.engine, job, Outcome.RETRY)
    assert rig.engine.load_checkpoint(job_id) == b""
    end(rig.engine, take_one(rig.engine))
    assert rig.engine.load_checkpoint(job_id) is None, "nobody needs it any more"


REPORTS: dict[str, Callable[[Engine, str, int], LeaseStatus | None]] = {
    "progress": lambda engine, job_id, token: engine.progress(job_id, token, 99, "stale", {}),
    "checkpoint": lambda engine, job_id, token: engine.save_checkpoint(job_id, token, b"stale"),
    "log": lambda engine, job_id, token: engine.log(job_id, token, "info", "stale", {}),
}


@pytest.mark.parametrize("report", REPORTS)
@pytest.mark.parametrize("how", ["leased to another", "reaped", "finished", "removed"])
def test_whoever_lost_the_lease_reports_nothing(rig: Rig, report: str, how: str) -> None:
    job = running(rig.engine)
    if how in ("reaped", "leased to another"):
        rig.expire(job.id)
        rig.engine.reap("q")
    if how == "leased to another":
        take_one(rig.engine, worker="w2")
    if how in ("finished", "removed"):
        end(rig.engine, job)
    if how == "removed":
        rig.engine.remove(job.id)
    record, last, stored = rig.engine.get(job.id), rig.engine.last_event("q"), rig.stored()
    assert REPORTS[report](rig.engine, job.id, job.token) in (LOST, None)
    assert (rig.engine.get(job.id), rig.engine.last_event("q"), rig.stored()) == (record, last, stored)
    assert rig.engine.load_checkpoint(job.id) is None
    assert rig.engine.logs(job.id) == []


@pytest.mark.parametrize("report", ["progress", "checkpoint"])
def test_a_report_tells_that_the_job_is_not_wanted_any_more(engine: Engine, report: str) -> None:
    job = running(engine)
    engine.cancel(job.id)
    assert REPORTS[report](engine, job.id, job.token) is CANCEL_REQUESTED
