from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.client.events import Event, parse_events

STREAM = (
    "retry: 2500\r\n\r\n"
    ": heartbeat\n\n"
    'event: progress\nid: q:1-0\ndata: {"percent": 5,\ndata: "message": "a\u2028b"}\n\n'
    "data: 1\r\n\r\n"
    "event: nothing\n\n"
    "event: completed\nid: q:2-0\ndata: {}\n\n"
    'event: cut\ndata: {"a": 1}\n'
).encode()
EVENTS = [
    Event("", None, None),
    Event("progress", "q:1-0", {"percent": 5, "message": "a\u2028b"}),
    Event("message", "q:1-0", 1),
    Event("completed", "q:2-0", {}),
]


@given(st.lists(st.integers(0, len(STREAM)), max_size=12))
def test_events_are_the_same_however_the_stream_is_cut_into_chunks(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(STREAM)]
    chunks = [STREAM[start:end] for start, end in itertools.pairwise(edges)]
    assert list(parse_events(chunks)) == EVENTS


def test_data_that_is_no_json() -> None:
    with pytest.raises(ValueError, match="Expecting"):
        list(parse_events([b"data: {\n\n"]))
