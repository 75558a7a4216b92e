"""A queue server that is away costs a running job its reports, and nothing else."""

from __future__ import annotations

import pytest

from shared.context import CHECKPOINT_LIMIT_BYTES, JobContext
from shared.engine.engine import LeaseStatus
from shared.engine.flows import DependencyResult
from shared.errors import EngineUnavailable, LeaseLost, PermanentError


class FlakyPort:
    """A port whose server is away while ``away`` is set."""

    def __init__(self) -> None:
        self.away = False
        self.reported: list[float] = []
        self.status = LeaseStatus.HELD

    def progress(self, job_id: str, token: int, percent: float, message: object, data: object) -> LeaseStatus:
        self.check()
        self.reported.append(percent)
        return self.status

    def log(self, *args: object) -> None:
        self.check()

    def save_checkpoint(self, *args: object) -> LeaseStatus:
        self.check()
        return self.status

    def load_checkpoint(self, job_id: str) -> bytes | None:
        self.check()
        return None

    def lease_status(self, *args: object) -> LeaseStatus:
        self.check()
        return self.status

    def results(self, job_id: str) -> dict[str, DependencyResult]:
        self.check()
        return {}

    def check(self) -> None:
        if self.away:
            raise EngineUnavailable


@pytest.fixture
def port() -> FlakyPort:
    return FlakyPort()


@pytest.fixture
def clock() -> list[float]:
    return [0.0]


@pytest.fixture
def job(port: FlakyPort, clock: list[float]) -> JobContext:
    return JobContext(port, job_id="q.01ARZ3NDEKTSV4RRFFQ69G5FAV", clock=lambda: clock[0])


def test_a_report_that_could_not_be_sent_is_sent_later(job: JobContext, port: FlakyPort) -> None:
    port.away = True
    job.progress(10)
    job.log("a line")
    port.away = False
    job.flush()
    assert port.reported == [10]


def test_a_newer_report_is_not_replaced_by_one_that_could_not_be_sent(
    job: JobContext, port: FlakyPort, clock: list[float]
) -> None:
    port.away = True
    job.progress(10)
    job.progress(20)
    port.away = False
    clock[0] += 1
    job.flush()
    assert port.reported == [20]


def test_asking_whether_to_stop_survives_an_outage(job: JobContext, port: FlakyPort, clock: list[float]) -> None:
    port.away = True
    clock[0] += 2
    assert not job.cancelled
    port.away = False
    port.status = LeaseStatus.CANCEL_REQUESTED
    clock[0] += 2
    assert job.cancelled


def test_a_checkpoint_that_was_not_saved_is_told(job: JobContext, port: FlakyPort) -> None:
    port.away = True
    with pytest.raises(EngineUnavailable):
        job.checkpoint.save(b"x")


def test_a_checkpoint_that_is_too_large_is_refused(job: JobContext) -> None:
    job.checkpoint.save(b"x" * CHECKPOINT_LIMIT_BYTES)
    with pytest.raises(PermanentError, match="1048577 bytes"):
        job.checkpoint.save(b"x" * (CHECKPOINT_LIMIT_BYTES + 1))


def test_lost_outweighs_a_request_to_cancel(job: JobContext) -> None:
    job.notice(LeaseStatus.CANCEL_REQUESTED)
    job.notice(LeaseStatus.LOST)
    with pytest.raises(LeaseLost):
        job.raise_if_cancelled()
