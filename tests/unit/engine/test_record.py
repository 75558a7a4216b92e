"""A job as stored <-> a job as told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.engine.events import decode_event
from shared.engine.record import decode_payload, decode_record, encode_payload, from_json, to_json
from shared.engine.states import FINISHED, State

LOCAL_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fields(state: State, **more: bytes) -> dict[str, bytes]:
    return {"s": state.value.encode(), "n": b"demo.run", "ca": b"1000", "p": b"3", **more}


@given(value=json_values)
def test_json_comes_back_as_it_was(value: Any) -> None:
    assert from_json(to_json(value)) == value


def test_half_a_surrogate_pair_can_be_stored() -> None:
    assert from_json(to_json({"file": "caf\udce9.csv"})) == {"file": "caf\udce9.csv"}


def test_what_json_does_not_know_is_stored_as_text() -> None:
    assert from_json(to_json({"state": State.FAILED, "set": {1}})) == {"state": "failed", "set": "{1}"}


@given(payload=st.dictionaries(st.text(), json_values, max_size=4))
def test_a_payload_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    assert decode_payload(encode_payload(payload)) == payload


@pytest.mark.parametrize(
    "body",
    [b"", b"\x80\x04\x95", b"{", b"{\xff}", b"[1]", b'"a"', b"{}", b'{"a":[]}', b'{"a":[{},{}]}', b'{"a":[5]}',
     b'{"a":{"x":1}}', b'{"k":{"x":1}}'],
)  # fmt: skip
def test_a_body_that_holds_no_payload(body: bytes) -> None:
    assert decode_payload(body) is None


@pytest.mark.parametrize("state", list(State))
def test_a_record_of_nothing_but_the_necessary(state: State) -> None:
    record = decode_record("q", LOCAL_ID, {"s": state.value.encode(), "n": b"demo.run"})
    assert (record.id, record.queue, record.state, record.name) == (f"q.{LOCAL_ID}", "q", state, "demo.run")
    assert (record.priority, record.created_ms, record.attempt, record.stalls) == (0, 0, 0, 0)
    assert (record.payload, record.result, record.error, record.progress) == (None, None, None, None)
    assert (record.options, record.cancel_requested) == ({}, False)


@pytest.mark.parametrize("state", list(State))
def test_times_are_told_only_where_they_mean_something(state: State) -> None:
    record = decode_record("q", LOCAL_ID, fields(state, da=b"2000", sa=b"3000", fa=b"4000"))
    assert record.due_ms == (2_000 if state is State.DELAYED else None)
    assert record.finished_ms == (4_000 if state in FINISHED else None)
    assert record.started_ms == 3_000


def test_the_running_attempt_comes_last() -> None:
    ended = json.dumps({"attempt": 1, "outcome": "retry"}).encode()
    more = {"at": ended + b"\n" + ended, "a": b"3", "sa": b"3000", "w": b"host:1"}
    for state, outcome, end in ((State.ACTIVE, None, None), (State.COMPLETED, "complete", 4_000)):
        record = decode_record("q", LOCAL_ID, fields(state, fa=b"4000", **more))
        assert [attempt["attempt"] for attempt in record.attempts] == [1, 1, 3]
        assert record.attempts[-1] == {
            "attempt": 3, "started_ms": 3_000, "ended_ms": end, "worker": "host:1", "outcome": outcome, "error": None,
        }  # fmt: skip
    for state in (State.WAITING, State.DELAYED, State.FAILED, State.CANCELLED):
        assert len(decode_record("q", LOCAL_ID, fields(state, **more)).attempts) == 2


def test_an_event_passes_over_what_it_does_not_know() -> None:
    event = decode_event("q", "5-0", {b"e": b"failed", b"j": LOCAL_ID.encode(), b"new": b"\xff", b"a": b"2"})
    assert (event.id, event.name, event.job_id, event.data) == ("5-0", "failed", f"q.{LOCAL_ID}", {"attempt": 2})


def test_an_event_of_the_queue_names_no_job() -> None:
    assert decode_event("q", "5-0", {b"e": b"paused", b"j": b""}).job_id is None


def test_an_event_with_everything() -> None:
    event = decode_event(
        "q", "1-1", {b"e": b"x", b"n": "größe".encode(), b"t": b"2", b"due": b"7", b"g": b'{"percent":1}', b"x": b"{}"}
    )
    assert event.data == {"type": "größe", "stalls": 2, "due_ms": 7, "progress": {"percent": 1}, "error": {}}
