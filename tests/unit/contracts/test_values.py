"""Backoffs, priorities, payloads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from shared.contracts import (
    PRIORITY_MAX,
    PRIORITY_MIN,
    ExponentialBackoff,
    FixedBackoff,
    Payload,
    Priority,
    parse_priority,
    validate_payload,
)
from shared.contracts.backoff import LONGEST_DELAY_MS
from shared.errors import ValidationFailed

attempts = st.integers(-5, 100_000)
delays = st.integers(0, LONGEST_DELAY_MS)


@given(wait=delays, attempt=attempts)
def test_a_fixed_wait_is_fixed(wait: int, attempt: int) -> None:
    assert FixedBackoff(wait).delay_ms(attempt) == wait


@given(bounds=st.tuples(delays, delays).map(sorted), factor=st.floats(1, 100), jitter=st.floats(0, 1), attempt=attempts)
def test_an_exponential_wait_stays_in_its_bounds(bounds: list[int], factor: float, jitter: float, attempt: int) -> None:
    base, cap = bounds
    wait = ExponentialBackoff(base, cap, factor, jitter).delay_ms(attempt)
    assert isinstance(wait, int)
    assert base * (1 - jitter) - 1 <= wait <= cap


@given(attempt=st.integers(1, 200), factor=st.floats(1, 10))
def test_without_jitter_waits_never_shrink(attempt: int, factor: float) -> None:
    backoff = ExponentialBackoff(100, 3_600_000, factor)
    assert backoff.delay_ms(attempt) <= backoff.delay_ms(attempt + 1)


def test_waits_double_up_to_the_cap() -> None:
    backoff = ExponentialBackoff(1_000, 7_000)
    assert [backoff.delay_ms(attempt) for attempt in (1, 2, 3, 4, 5)] == [1_000, 2_000, 4_000, 7_000, 7_000]


def test_jitter_spreads_what_failed_together() -> None:
    waits = {ExponentialBackoff(1_000_000, jitter=0.5).delay_ms(1) for _ in range(200)}
    assert len(waits) > 100
    assert min(waits) >= 500_000
    assert max(waits) <= 1_000_000


@pytest.mark.parametrize("priority", list(Priority))
def test_priorities_have_names(priority: Priority) -> None:
    assert parse_priority(priority.name.lower()) == parse_priority(priority.name) == int(priority)


def test_urgent_names_run_first() -> None:
    assert [name.lower() for name in Priority.__members__] == ["critical", "high", "normal", "low"]
    assert sorted(Priority) == list(Priority)


@given(value=st.integers())
def test_any_integer_in_range_is_a_priority(value: int) -> None:
    if PRIORITY_MIN <= value <= PRIORITY_MAX:
        assert parse_priority(value) == value
    else:
        with pytest.raises(ValidationFailed, match="use -1000 to 1000, lower runs first"):
            parse_priority(value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("urgent", "priority is 'urgent': use critical, high, normal, low, or an integer"),
        ("", "priority is ''"),
        ("5", "priority is '5'"),
        (True, "priority is True: use a name or an integer"),
    ],
)
def test_what_is_no_priority(value: str | int, message: str) -> None:
    with pytest.raises(ValidationFailed, match=message):
        parse_priority(value)


class Inner(Payload):
    size: int = Field(ge=1)


class Input(Payload):
    name: str
    rows: tuple[Inner, ...] = ()


def test_a_payload_as_it_should_be() -> None:
    payload = validate_payload(Input, {"name": "  a ", "rows": [{"size": 1}]})
    assert (payload.name, payload.rows[0].size) == ("a", 1)
    with pytest.raises(ValidationError, match="frozen"):
        payload.name = "b"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        ({}, ["name"]),
        ({"name": 5}, ["name"]),
        ({"name": "a", "nmae": "b"}, ["nmae"]),
        ({"name": "a", "rows": [{"size": 1}, {"size": 0}]}, ["rows.1.size"]),
        ({"rows": [{"size": "secret-value"}], "extra": 1}, ["name", "rows.0.size", "extra"]),
    ],
)
def test_every_mistake_is_named_at_once(data: dict[str, object], fields: list[str]) -> None:
    with pytest.raises(ValidationFailed) as caught:
        validate_payload(Input, data)
    assert [item["field"] for item in caught.value.errors] == fields
    assert caught.value.extra["errors"] == caught.value.errors
    assert all(item["message"] for item in caught.value.errors)
    assert all(f"{field}: " in caught.value.detail for field in fields)
    assert "secret-value" not in f"{caught.value.detail}{caught.value.errors}", "values may be secret"
