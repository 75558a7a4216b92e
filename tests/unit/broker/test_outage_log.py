"""OutageLog: an outage is said when it begins, each minute, and when it is over, whoever and however many notice it."""

from __future__ import annotations

from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.broker.outage_log import OutageLog
from shared.errors import EngineUnavailable

DOWN = EngineUnavailable("The queue server does not answer.")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Give a clock whose only element the test sets."""
    now = [1000.0]
    monkeypatch.setattr("shared.broker.outage_log.time.monotonic", lambda: now[0])
    return now


def test_an_outage_noticed_by_many_is_said_once_and_its_end_once(clock: list[float]) -> None:
    outages = OutageLog()
    with capture_logs() as said:
        for tenth in range(300):
            clock[0] = 1000 + tenth / 10
            for caller in ("a", "b", "leases"):
                outages.failed(caller, DOWN)
        for caller in ("b", "leases", "a"):
            outages.ended(caller, answered=True)
        outages.ended("a", answered=True)
    assert said == [
        {"event": "queue_unavailable", "error": DOWN.detail, "log_level": "warning"},
        {"event": "queue_available_again", "seconds": 29.9, "log_level": "info"},
    ]


def test_one_that_lasts_is_mentioned_each_minute(clock: list[float]) -> None:
    outages = OutageLog()
    with capture_logs() as said:
        for second in range(181):
            clock[0] = 1000.0 + second
            outages.failed("a", DOWN)
    assert events(said) == ["queue_unavailable", *["queue_still_unavailable"] * 3]
    assert [line["seconds"] for line in said[1:]] == [60, 120, 180]


def test_who_is_answered_never_does_not_end_what_others_wait_for(clock: list[float]) -> None:
    outages = OutageLog()
    with capture_logs() as said:
        outages.failed("refused for what it carries", DOWN)
        for call in range(100):
            outages.failed(call, DOWN)
            outages.ended(call, answered=True)
        outages.ended("refused for what it carries", answered=False)
        outages.failed("later", DOWN)
    assert events(said) == ["queue_unavailable", "queue_unavailable"]


def events(said: list[Any]) -> list[str]:
    return [line["event"] for line in said]
