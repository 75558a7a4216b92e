"""What whoever watches a queue is told: names, order, data."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from shared.engine.engine import Engine, Event, Outcome
from tests.engine.harness import Rig, add_one, cycle, end, finish, make_job, run_one, take_one


def told(engine: Engine, after: str = "0") -> Sequence[Event]:
    return engine.events({"q": after}, block_ms=0)


def names(engine: Engine, after: str = "0") -> list[str]:
    return [event.name for event in told(engine, after)]


def test_the_life_of_a_job(engine: Engine) -> None:
    job_id = add_one(engine, name="größe")
    job = take_one(engine)
    engine.progress(job.id, job.token, 40, "Reading", {"rows": 2})
    end(engine, job)
    engine.remove(job_id)
    events = told(engine)
    assert [event.name for event in events] == ["added", "active", "progress", "completed", "removed"]
    assert {(event.queue, event.job_id, event.data["type"]) for event in events} == {("q", job_id, "größe")}
    assert (events[1].data["attempt"], events[3].data["attempt"]) == (1, 1)
    progress = events[2].data["progress"]
    assert (progress["percent"], progress["message"], progress["data"]) == (40, "Reading", {"rows": 2})


def test_a_delayed_job(rig: Rig) -> None:
    job_id = add_one(rig.engine, delay_ms=60_000)
    record = rig.engine.get(job_id)
    assert record is not None
    rig.make_due(job_id)
    cycle(rig.engine)
    added, waiting = told(rig.engine)
    assert (added.name, added.data["due_ms"]) == ("added", record.due_ms)
    assert waiting.name == "waiting"


def test_retries_and_failures_tell_why(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    end(rig.engine, take_one(rig.engine), Outcome.RETRY, delay_ms=60_000)
    rig.engine.promote(job_id)
    end(rig.engine, take_one(rig.engine), Outcome.RETRY)
    end(rig.engine, take_one(rig.engine), Outcome.FAIL)
    rig.engine.retry(job_id)
    events = told(rig.engine)
    assert [event.name for event in events] == [
        *("added", "active", "delayed", "waiting", "active", "waiting", "active", "failed", "waiting")
    ]
    why = {"type": "ValueError", "message": "no", "retryable": True}
    assert [events[at].data["error"] for at in (2, 5, 7)] == [why] * 3
    assert events[2].data["due_ms"] > events[2].data.get("at_ms", 0)
    assert (events[6].data["attempt"], events[7].data["attempt"]) == (3, 3)


@pytest.mark.parametrize("message", ["x" * 3_000, "ö" * 3_000, "a" + "日" * 3_000, "💥" * 900])
def test_a_long_error_is_cut_for_the_event_but_not_for_the_job(engine: Engine, message: str) -> None:
    error = {"type": "ValueError", "code": "c", "message": message, "retryable": False, "traceback": "t" * 5_000}
    job_id = run_one(engine, Outcome.FAIL, data=json.dumps(error, ensure_ascii=False).encode())
    record = engine.get(job_id)
    assert record is not None
    assert record.error == error
    event = told(engine)[-1]
    assert event.data["error"] == {
        "type": "ValueError",
        "code": "c",
        "message": event.data["error"]["message"],
        "retryable": False,
    }
    kept = event.data["error"]["message"]
    assert kept.endswith("…")
    assert message.startswith(kept[:-1])
    assert 480 < len(kept.encode()) <= 503


@pytest.mark.parametrize("data", [b"", b"not json", b"[1]", b'"text"', b"{}"])
def test_an_error_of_another_shape_stops_nobody(engine: Engine, data: bytes) -> None:
    add_one(engine)
    cycle(engine, [finish(take_one(engine), Outcome.FAIL, data=data)])
    assert names(engine) == ["added", "active", "failed"]


def test_stalls(rig: Rig) -> None:
    add_one(rig.engine, max_stalls=1)
    for _ in range(2):
        rig.expire(take_one(rig.engine).id)
        rig.engine.reap("q")
    events = told(rig.engine)
    assert [event.name for event in events] == ["added", "active", "stalled", "active", "failed"]
    assert events[2].data["stalls"] == 1
    assert events[4].data["error"]["code"] == "max-stalls"


def test_cancelling(engine: Engine) -> None:
    engine.cancel(add_one(engine))
    assert names(engine) == ["added", "cancelled"]
    after = engine.last_event("q")
    job_id = add_one(engine)
    job = take_one(engine)
    engine.cancel(job_id)
    end(engine, job, Outcome.CANCEL)
    assert names(engine, after) == ["added", "active", "cancelling", "cancelled"]


def test_handing_back(engine: Engine) -> None:
    add_one(engine)
    end(engine, take_one(engine), Outcome.RELEASE)
    assert names(engine) == ["added", "active", "waiting"]


def test_events_of_the_queue_itself(engine: Engine) -> None:
    engine.pause("q")
    engine.pause("q")
    engine.resume("q")
    engine.resume("q")
    assert [(event.name, event.job_id) for event in told(engine)] == [("paused", None), ("resumed", None)]


def test_reading_on_from_a_position(engine: Engine) -> None:
    assert engine.last_event("q") == "0"
    assert told(engine, engine.last_event("q")) == []
    add_one(engine)
    position = engine.last_event("q")
    assert told(engine)[-1].id == position
    assert told(engine, position) == []
    late = add_one(engine)
    assert [event.job_id for event in told(engine, position)] == [late]


def test_reading_in_parts(engine: Engine) -> None:
    for _ in range(5):
        add_one(engine)
    everything = list(told(engine))
    parts: list[Event] = []
    position = "0"
    while part := engine.events({"q": position}, block_ms=0, limit=2):
        assert len(part) <= 2
        parts += part
        position = part[-1].id
    assert parts == everything


def test_several_queues(engine: Engine) -> None:
    mine = add_one(engine)
    job = make_job("other.one")
    engine.add("other.one", [job])
    events = engine.events({"q": "0", "other.one": "0", "empty": "0"}, block_ms=0)
    assert {(event.queue, event.job_id) for event in events} == {("q", mine), ("other.one", job.id)}


def test_waiting_for_what_comes(engine: Engine) -> None:
    position = engine.last_event("q")
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(lambda: engine.events({"q": position}, block_ms=4_000))
        job_id = add_one(engine)
        assert [event.job_id for event in future.result(timeout=4)] == [job_id]


def test_waiting_for_nothing_ends(engine: Engine) -> None:
    assert engine.events({"q": "$"}, block_ms=10) == []


def test_no_event_names_a_job_that_was_not_there(rig: Rig) -> None:
    """Refused and repeated calls are not told."""
    job_id = add_one(rig.engine)
    job = take_one(rig.engine)
    end(rig.engine, job)
    before = names(rig.engine)
    calls: list[Any] = [
        lambda: rig.engine.add("q", [make_job(id=job_id)]),
        lambda: end(rig.engine, job),
        lambda: rig.engine.progress(job_id, job.token, 1, None, {}),
        lambda: rig.engine.reap("q"),
    ]
    for call in calls:
        call()
    assert names(rig.engine) == before
