"""A job as stored <-> a job as told."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.engine.engine import Event
from shared.engine.events import decode_events, entry_before, order_of
from shared.engine.record import decode_payload, decode_record, encode_payload, from_json, to_json
from shared.engine.states import FINISHED, State

LOCAL_ID = "01ARZ3NDEKTSV4RRFFQ69G5FAV"
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def fields(state: State, *, at: int = 0, attempt: int = 0, started: int = 0, worker: str = "-") -> dict[str, bytes]:
    """A job's hash, as ``lua/lib/job.lua`` describes it."""
    standing = f"{state.value} {at} - - 5 {attempt} 0 0 {started} {worker}"
    return {"s": standing.encode(), "i": b"pdemo.run\n3\n1000\n\n\n\n\n\n"}


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


def test_a_record_of_nothing_but_the_necessary() -> None:
    record = decode_record("q", LOCAL_ID, {"s": b"waiting", "i": b"pdemo.run\n0\n1000\n\n\n\n\n\n"})
    assert (record.id, record.queue, record.state) == (f"q.{LOCAL_ID}", "q", State.WAITING)
    assert (record.name, record.priority, record.created_ms) == ("demo.run", 0, 1_000)
    assert (record.attempt, record.stalls, record.worker, record.attempts) == (0, 0, None, [])
    assert (record.payload, record.result, record.error, record.progress) == (None, None, None, None)
    assert (record.options, record.cancel_requested) == ({}, False)
    assert (record.group, record.flow_id, record.dedupe_key, record.waits_for) == (None, None, None, [])


def test_a_record_of_everything() -> None:
    identity = b'xdemo.run\n-3\n1000\n2\n500\na group\nreject 0 a key\nq.FLOW\n{"tags":["x"]}'
    stored = {
        "s": b"blocked 0 - c 0 0 1 0 0 -",
        "i": identity,
        "D:q.A": b"fail",
        "R:q.B": b"{}",
        "g": b'{"percent":5}',
        "e": b'{"type":"Stalled"}',
    }
    record = decode_record("q", LOCAL_ID, stored)
    assert (record.priority, record.options, record.stalls, record.cancel_requested) == (-3, {"tags": ["x"]}, 1, True)
    assert (record.group, record.flow_id, record.dedupe_key) == ("a group", "q.FLOW", "a key")
    assert (record.waits_for, record.progress, record.error) == (["q.A"], {"percent": 5}, {"type": "Stalled"})


@pytest.mark.parametrize("state", list(State))
def test_times_are_told_only_where_they_mean_something(state: State) -> None:
    record = decode_record("q", LOCAL_ID, fields(state, at=4_000, started=3_000))
    assert record.due_ms == (4_000 if state is State.DELAYED else None)
    assert record.finished_ms == (4_000 if state in FINISHED else None)
    assert record.started_ms == 3_000


def test_the_running_attempt_comes_last() -> None:
    ended = json.dumps({"attempt": 1, "outcome": "retry"}).encode()
    for state, outcome, end in ((State.ACTIVE, None, None), (State.COMPLETED, "complete", 4_000)):
        stored = fields(state, at=4_000, attempt=3, started=3_000, worker="host:1") | {"at": ended + b"\n" + ended}
        record = decode_record("q", LOCAL_ID, stored)
        assert [attempt["attempt"] for attempt in record.attempts] == [1, 1, 3]
        assert record.attempts[-1] == {
            "attempt": 3, "started_ms": 3_000, "ended_ms": end, "worker": "host:1", "outcome": outcome, "error": None,
        }  # fmt: skip
    for state in (State.WAITING, State.DELAYED, State.FAILED, State.CANCELLED):
        assert len(decode_record("q", LOCAL_ID, fields(state) | {"at": ended + b"\n" + ended}).attempts) == 2


def events(*lines: str, after: str = "0") -> list[Event]:
    return decode_events("q", "5-3", {b"b": "\n".join(lines).encode(), b"new": b"\xff"}, after=after)


def test_an_event_passes_over_what_it_does_not_know() -> None:
    (event,) = events(f"failed\t{LOCAL_ID}\tnew\tx\ta\t2")
    assert (event.id, event.name, event.job_id, event.data) == ("5-3", "failed", f"q.{LOCAL_ID}", {"attempt": 2})


def test_an_event_of_the_queue_names_no_job() -> None:
    assert events("paused\t")[0].job_id is None


def test_an_event_with_everything() -> None:
    (event,) = events('x\t\tn\tgröße\tt\t2\tdue\t7\tg\t{"percent":1}\tx\t{}\tp\t-1\tblocked\t4')
    assert event.data == {
        "type": "größe", "stalls": 2, "due_ms": 7, "progress": {"percent": 1}, "error": {}, "priority": -1,
        "waits_for": 4,
    }  # fmt: skip


def test_events_of_one_entry_can_be_gone_on_from_each() -> None:
    lines = [f"active\t{n}" for n in range(3)]
    ids = [event.id for event in events(*lines)]
    assert ids == ["5-3.0", "5-3.1", "5-3"]
    for n, position in enumerate(ids[:2]):
        assert [event.id for event in events(*lines, after=position)] == ids[n + 1 :]
        assert entry_before(position) == "5-2", "the entry is read once more"
    assert entry_before(ids[2]) == "5-3", "the entry is over"
    assert entry_before("5-0.1") == f"4-{2**64 - 1}"
    assert sorted(["6-0", *ids, "5-2", "4"], key=order_of) == ["4", "5-2", *ids, "6-0"]


@pytest.mark.parametrize("position", ["$", "0", "12", "5-3"])
def test_a_position_that_is_no_part_of_an_entry_stays(position: str) -> None:
    assert entry_before(position) == position
