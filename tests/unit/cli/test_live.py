from __future__ import annotations

import itertools
import time
from typing import Any, cast

import pytest

import shared.cli.live
from shared.cli.live import Lines, make_display
from shared.cli.output import Output
from shared.client import ApiError, ApiUnreachable, Job


class Notes:
    """Stands for the output; keeps what is told, and when."""

    as_json = False
    live = False

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.times: list[float] = []

    def note(self, text: str) -> None:
        self.times.append(time.monotonic())
        self.lines.append(text)


def job(state: str, percent: float | None = None, **data: Any) -> Job:
    progress = None if percent is None else {"percent": percent, "message": None, "data": data}
    return cast(Job, {"id": "q.1", "queue": "q", "state": state, "attempt": 1, "progress": progress})


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Notes:
    monkeypatch.setattr(shared.cli.live, "LINE_INTERVAL_S", 0.2)
    return Notes()


def test_each_state_and_the_newest_progress_of_an_interval(notes: Notes) -> None:
    display = make_display(cast(Output, notes), "a job")
    assert isinstance(display, Lines)
    with display:
        display.job(job("waiting"))
        display.job(job("active"))
        for percent in range(50):
            display.job(job("active", percent))
        assert notes.lines == ["a job: waiting", "a job: active"]
        deadline = time.monotonic() + 10
        while len(notes.lines) < 3:
            assert time.monotonic() < deadline, "the progress that was held back never came"
            time.sleep(0.01)
        assert notes.lines[2] == "a job: active 49 %"
        assert notes.times[2] - notes.times[1] >= 0.19
        display.job(job("active", 50))
    held = list(notes.lines)
    assert held[-1] == "a job: active 49 %", "what comes next is the result"


def test_many_reports_make_few_lines(notes: Notes) -> None:
    reports = 0
    with make_display(cast(Output, notes), "a job") as display:
        while len(notes.lines) < 4:
            reports += 1
            display.job(job("active", reports % 100))
    assert reports > 40
    assert all(later - earlier >= 0.19 for earlier, later in itertools.pairwise(notes.times))


def test_an_outage_is_told_once_and_a_cut_stream_never(notes: Notes) -> None:
    with make_display(cast(Output, notes), "a job") as display:
        display.job(job("active"))
        display.trouble(ApiError("too many", code="too-many-streams", status=503))
        for _ in range(3):
            display.trouble(ApiUnreachable("gone"))
        assert notes.lines == ["a job: active", "a job: connection lost, trying again"]


def test_an_upload_ends_with_all_of_it(notes: Notes) -> None:
    with make_display(cast(Output, notes), "a.csv") as display:
        for sent in (1_000_000, 2_000_000, 3_000_000):
            display.upload(sent, 3_000_000)
    assert notes.lines == ["a.csv: 1.0 MB of 3.0 MB sent", "a.csv: 3.0 MB of 3.0 MB sent"]
