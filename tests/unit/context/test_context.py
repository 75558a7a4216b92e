"""What a handler is given: progress that is coalesced, a question that is seldom asked, a fenced checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.context import CANCEL_CHECK_INTERVAL_S, PROGRESS_INTERVAL_S, JobContext
from shared.engine.engine import LeaseStatus
from shared.engine.flows import DependencyResult
from shared.errors import ContractError, EngineUnavailable, JobCancelled, LeaseLost

HELD, LOST, CANCEL_REQUESTED = LeaseStatus.HELD, LeaseStatus.LOST, LeaseStatus.CANCEL_REQUESTED
JOB = "q.01ARZ3NDEKTSV4RRFFQ69G5FAV"


class FakePort:
    """A queue that writes down what it is told and answers as the test says."""

    def __init__(self) -> None:
        self.answer = HELD
        self.sent: list[tuple[float, str | None, Mapping[str, Any]]] = []
        self.lines: list[tuple[str, str, Mapping[str, Any]]] = []
        self.saved: bytes | None = None
        self.asked = 0
        self.ended: dict[str, DependencyResult] = {}
        self.read = 0

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        assert (job_id, token) == (JOB, 7)
        self.sent.append((percent, message, data))
        return self.answer

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None:
        assert (job_id, token) == (JOB, 7)
        self.lines.append((level, message, data))

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        assert (job_id, token) == (JOB, 7)
        if self.answer is not LOST:
            self.saved = state
        return self.answer

    def load_checkpoint(self, job_id: str) -> bytes | None:
        assert job_id == JOB
        return self.saved

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        assert (job_id, token) == (JOB, 7)
        self.asked += 1
        return self.answer

    def results(self, job_id: str) -> Mapping[str, DependencyResult]:
        assert job_id == JOB
        self.read += 1
        return self.ended


class FakeClock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def port() -> FakePort:
    return FakePort()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def job(port: FakePort, clock: FakeClock) -> JobContext:
    return JobContext(port, job_id=JOB, token=7, attempt=2, attempts=3, owner="u1", tags=("a",), clock=clock)


def test_what_a_handler_may_know(job: JobContext) -> None:
    assert (job.attempt, job.attempts, job.owner, job.tags) == (2, 3, "u1", ("a",))


def test_the_idempotency_key_is_that_of_every_attempt(port: FakePort) -> None:
    keys = {JobContext(port, job_id=JOB, token=attempt, attempt=attempt).idempotency_key for attempt in (1, 2, 3)}
    assert keys == {JOB}


def test_the_first_report_is_sent_at_once(job: JobContext, port: FakePort) -> None:
    job.progress(1, "Reading", rows=5)
    assert port.sent == [(1, "Reading", {"rows": 5})]


def test_reports_are_coalesced_and_the_last_one_wins(job: JobContext, port: FakePort, clock: FakeClock) -> None:
    for percent in range(11):
        job.progress(percent)
        clock.now += PROGRESS_INTERVAL_S / 10 + 1e-9
    assert [percent for percent, _, _ in port.sent] == [0, 10]


def test_at_most_five_a_second(job: JobContext, port: FakePort, clock: FakeClock) -> None:
    for step in range(1_000):
        job.progress(step / 10)
        clock.now += 0.002
    assert 8 <= len(port.sent) <= 11


def test_what_was_held_back_is_sent_at_the_end_and_once(job: JobContext, port: FakePort) -> None:
    job.progress(1)
    job.progress(50)
    job.progress(99, "Almost", rows=9)
    assert len(port.sent) == 1
    job.flush()
    job.flush()
    assert port.sent[1:] == [(99, "Almost", {"rows": 9})]


def test_nothing_to_flush(job: JobContext, port: FakePort) -> None:
    job.flush()
    assert port.sent == []


@given(percent=st.floats())
def test_percentages_are_clipped(percent: float) -> None:
    port = FakePort()
    JobContext(port, job_id=JOB, token=7).progress(percent)
    assert 0 <= port.sent[0][0] <= 100


def test_a_log_line(job: JobContext, port: FakePort) -> None:
    job.log("Read", rows=5)
    job.log("Slow", "warning")
    assert port.lines == [("info", "Read", {"rows": 5}), ("warning", "Slow", {})]


def test_whether_it_is_cancelled_is_asked_once_a_second(job: JobContext, port: FakePort, clock: FakeClock) -> None:
    for _ in range(100):
        assert not job.cancelled
    assert port.asked == 0, "it was held when it began"
    clock.now += CANCEL_CHECK_INTERVAL_S
    for _ in range(100):
        assert not job.cancelled
    assert port.asked == 1


@pytest.mark.parametrize(("answer", "error"), [(CANCEL_REQUESTED, JobCancelled), (LOST, LeaseLost)])
def test_a_handler_that_asks_learns_that_it_should_stop(
    job: JobContext, port: FakePort, clock: FakeClock, answer: LeaseStatus, error: type[Exception]
) -> None:
    job.raise_if_cancelled()
    port.answer = answer
    clock.now += CANCEL_CHECK_INTERVAL_S
    assert job.cancelled
    with pytest.raises(error):
        job.raise_if_cancelled()
    port.answer = HELD
    clock.now += CANCEL_CHECK_INTERVAL_S
    assert job.cancelled, "that is not taken back"
    assert port.asked == 1, "nor asked again"


@pytest.mark.parametrize("answer", [CANCEL_REQUESTED, LOST])
def test_a_report_tells_it_too(job: JobContext, port: FakePort, answer: LeaseStatus) -> None:
    port.answer = answer
    job.progress(1)
    assert job.cancelled
    assert port.asked == 0


def test_a_report_saves_the_question(job: JobContext, port: FakePort, clock: FakeClock) -> None:
    clock.now += CANCEL_CHECK_INTERVAL_S
    job.progress(1)
    assert not job.cancelled
    assert port.asked == 0


def test_the_process_may_tell_it(job: JobContext, port: FakePort) -> None:
    """The thread that renews leases learns of cancelled jobs without their asking."""
    job.notice(CANCEL_REQUESTED)
    with pytest.raises(JobCancelled):
        job.raise_if_cancelled()
    assert port.asked == 0


def test_a_checkpoint(job: JobContext, port: FakePort) -> None:
    assert job.checkpoint.load() is None
    job.checkpoint.save(b"row 5")
    assert job.checkpoint.load() == b"row 5"


def test_a_checkpoint_of_a_job_that_is_to_be_cancelled_is_still_saved(job: JobContext, port: FakePort) -> None:
    port.answer = CANCEL_REQUESTED
    job.checkpoint.save(b"row 5")
    assert port.saved == b"row 5"
    assert job.cancelled


def test_a_lost_job_whose_checkpoint_is_gone_does_not_begin_anew(job: JobContext, port: FakePort) -> None:
    port.answer = LOST
    with pytest.raises(LeaseLost):
        job.checkpoint.load()


def test_a_checkpoint_of_a_lost_job_is_refused(job: JobContext, port: FakePort) -> None:
    port.answer = LOST
    with pytest.raises(LeaseLost):
        job.checkpoint.save(b"row 5")
    assert port.saved is None
    assert job.cancelled


def test_results_are_read_when_they_are_asked_for_and_once(job: JobContext, port: FakePort) -> None:
    port.ended = {"q.1": DependencyResult("completed", 5)}
    assert port.read == 0
    assert [job.results["q.1"].result for _ in range(3)] == [5, 5, 5]
    assert port.read == 1
    with pytest.raises(TypeError):
        job.results["q.2"] = DependencyResult("completed")  # type: ignore[index]


def test_a_job_that_runs_after_none_has_no_results(job: JobContext, port: FakePort) -> None:
    assert dict(job.results) == {}
    assert dict(job.results) == {}
    assert (port.read, port.asked) == (1, 1)


def test_a_late_run_of_a_job_that_is_gone_is_told_so_instead(job: JobContext, port: FakePort) -> None:
    port.answer = LOST
    with pytest.raises(LeaseLost):
        _ = job.results
    assert job.status is LOST


def test_results_that_could_not_be_read_can_be_asked_for_again(
    job: JobContext, port: FakePort, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(job_id: str) -> Mapping[str, DependencyResult]:
        raise EngineUnavailable

    port.ended = {"q.1": DependencyResult("failed", error={"type": "OSError"})}
    with monkeypatch.context() as patch:
        patch.setattr(port, "results", fail)
        with pytest.raises(EngineUnavailable):
            _ = job.results
    assert job.results["q.1"].error == {"type": "OSError"}


def test_a_context_without_anybody_to_take_jobs_in_says_so(job: JobContext) -> None:
    with pytest.raises(ContractError, match="cannot be enqueued"):
        job.enqueue("a.b", {})
