"""Runs on threads and on the event loop are stopped: cancelled, out of time, or lost; and none of it is lost."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.broker.message import JobMessage
from shared.broker.middleware.stopping import Stopping
from shared.engine.engine import JobRecord
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import LeaseLost, PermanentError
from tests.integration.broker.contracts import QUEUE, Note, Probe
from tests.integration.broker.patience import eventually
from tests.integration.broker.workers import running

Handler = Callable[..., Any]


class Endless:
    """Handlers that run until they are stopped, and tell how they were."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.cleaned = threading.Event()
        self.swallowed = 0

    def on_thread(self, payload: Note, job: object) -> None:
        self.started.set()
        try:
            while True:
                try:
                    time.sleep(0.001)
                except Exception:
                    self.swallowed += 1
        finally:
            self.cleaned.set()

    async def on_loop(self, payload: Note, job: object) -> None:
        self.started.set()
        try:
            while True:
                try:
                    await asyncio.sleep(60)
                except Exception:
                    self.swallowed += 1
        finally:
            await asyncio.sleep(0)
            self.cleaned.set()


@pytest.fixture(params=["on_thread", "on_loop"])
def endless(request: pytest.FixtureRequest) -> tuple[Endless, Handler]:
    made = Endless()
    return made, getattr(made, request.param)


def lose(engine: RedisEngine, job_id: str) -> None:
    """Take a job from its worker, as if that had been silent for longer than its lease."""
    job = engine.get(job_id)
    assert job is not None
    engine.renew(QUEUE, [(job_id, 1)], -1)
    eventually(lambda: engine.reap(QUEUE) or engine.lease_status(job_id, 1) < 0)


def error_of(job: JobRecord) -> dict[str, Any]:
    assert job.error is not None
    return dict(job.error)


def test_a_cancelled_run_is_stopped_and_cleans_up(engine: RedisEngine, endless: tuple[Endless, Handler]) -> None:
    what, handler = endless
    probe = Probe(engine, handler, attempts=5)
    with running(probe.broker):
        job_id = probe.put()
        assert what.started.wait(10)
        assert engine.cancel(job_id) is State.ACTIVE
        job = probe.finished(job_id)
        # The next one finds a thread and a loop that work.
        assert runs_on(probe, what, engine)
    assert (job.state, job.attempt) == (State.CANCELLED, 1)
    assert what.cleaned.is_set()
    assert error_of(job)["code"] == "cancelled"


def runs_on(probe: Probe, what: Endless, engine: RedisEngine) -> bool:
    what.started.clear()
    again = probe.put()
    assert what.started.wait(10)
    engine.cancel(again)
    return probe.finished(again).state is State.CANCELLED


def test_a_run_out_of_time_is_stopped_and_tried_again(engine: RedisEngine, endless: tuple[Endless, Handler]) -> None:
    what, handler = endless
    probe = Probe(engine, handler, attempts=2, timeout_s=0.1)
    with running(probe.broker):
        job = probe.finished(probe.put())
    assert (job.state, job.attempt) == (State.FAILED, 2)
    assert what.cleaned.is_set()
    assert (error_of(job)["type"], error_of(job)["code"]) == ("TimeLimitExceeded", "timed-out")
    assert [run["outcome"] for run in job.attempts] == ["retry", "fail"]


def test_a_run_that_lost_its_lease_is_stopped(engine: RedisEngine) -> None:
    ended: list[str] = []

    def handler(payload: Note, job: Any) -> str:
        if job.token > 1:
            return "the new one"
        try:
            while True:
                time.sleep(0.001)
        except LeaseLost:
            ended.append("stopped")
            raise

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        probe.until(job_id, "active")
        lose(engine, job_id)
        assert probe.finished(job_id).result == "the new one"
        eventually(lambda: ended)


def test_a_coroutine_that_lost_its_lease_is_cancelled(engine: RedisEngine) -> None:
    ended = threading.Event()

    async def handler(payload: Note, job: Any) -> str:
        if job.token > 1:
            return "the new one"
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()
        return "the late one"

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        probe.until(job_id, "active")
        lose(engine, job_id)
        assert probe.finished(job_id).result == "the new one"
        assert ended.wait(10)


def test_a_coroutine_that_swallows_its_cancellation_is_left_behind(
    engine: RedisEngine, caplog: pytest.LogCaptureFixture
) -> None:
    release = threading.Event()

    async def handler(payload: Note, job: Any) -> str:
        if payload.text:
            return payload.text
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return "never told"

    probe = Probe(engine, handler, stop_grace_s=0.2)
    with running(probe.broker, threads=1):
        job_id = probe.put()
        probe.until(job_id, "active")
        engine.cancel(job_id)
        assert probe.finished(job_id).state is State.CANCELLED
        assert probe.finished(probe.put({"text": "next"})).result == "next"
        release.set()
        assert probe.get(job_id).result is None
    assert "async_handler_left_behind" in caplog.text


def test_a_coroutine_that_ends_well_in_spite_of_it_has_done_its_work(engine: RedisEngine) -> None:
    async def handler(payload: Note, job: Any) -> str:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
        return "saved what there was"

    probe = Probe(engine, handler)
    with running(probe.broker):
        job_id = probe.put()
        probe.until(job_id, "active")
        engine.cancel(job_id)
        job = probe.finished(job_id)
    assert (job.state, job.result) == (State.COMPLETED, "saved what there was")


def test_a_coroutine_that_cancels_itself_has_failed(engine: RedisEngine) -> None:
    async def handler(payload: Note, job: Any) -> None:
        raise asyncio.CancelledError

    with running((probe := Probe(engine, handler, attempts=2)).broker):
        job = probe.finished(probe.put())
    assert (job.state, job.attempt, error_of(job)["type"]) == (State.FAILED, 2, "CancelledError")


def test_a_thread_that_swallows_the_order_is_told_again(engine: RedisEngine) -> None:
    swallowed: list[str] = []

    def handler(payload: Note, job: Any) -> None:
        while True:
            try:
                time.sleep(0.001)
            except BaseException as error:
                swallowed.append(type(error).__name__)
                if len(swallowed) == 2:
                    raise

    probe = Probe(engine, handler, stop_grace_s=0.2)
    with running(probe.broker):
        job_id = probe.put()
        probe.until(job_id, "active")
        engine.cancel(job_id)
        assert probe.finished(job_id).state is State.CANCELLED
    assert swallowed == ["JobCancelled"] * 2


def test_a_job_whose_lease_is_gone_when_its_turn_comes_does_not_begin(
    engine: RedisEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []

    def handler(payload: Note, job: Any) -> None:
        ran.append(job.token)

    # As if each message had waited for a thread for longer than half its lease, in a frozen process.
    init = JobMessage.__init__

    def late(self: JobMessage, *arguments: Any) -> None:
        init(self, *arguments)
        if self.job.token == 1:
            self.fetched_at -= 20
            engine.renew(QUEUE, [(self.job.id, self.job.token)], -1)
            eventually(lambda: engine.reap(QUEUE) or engine.lease_status(self.job.id, 1) < 0)

    monkeypatch.setattr(JobMessage, "__init__", late)
    probe = Probe(engine, handler, lease_s=30)
    with running(probe.broker):
        job = probe.finished(probe.put())
    assert (job.state, job.stalls) == (State.COMPLETED, 1)
    assert len(ran) == 1
    assert ran[0] > 1


def test_a_job_that_was_cancelled_before_its_turn_does_not_begin(
    engine: RedisEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[int] = []
    init = JobMessage.__init__

    def late(self: JobMessage, *arguments: Any) -> None:
        init(self, *arguments)
        self.fetched_at -= 20
        engine.cancel(self.job.id)

    monkeypatch.setattr(JobMessage, "__init__", late)
    probe = Probe(engine, lambda payload, job: ran.append(1), lease_s=30)
    with running(probe.broker):
        assert probe.finished(probe.put()).state is State.CANCELLED
    assert not ran


@pytest.fixture
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("switching_often")
@pytest.mark.parametrize("kind", ["thread", "loop"])
def test_orders_that_race_with_the_end_lose_no_thread_and_no_outcome(engine: RedisEngine, kind: str) -> None:
    # Runs of about the length of their limit, looked at all the time: many are hit at their very end.
    def on_thread(payload: Note, job: Any) -> None:
        deadline = time.monotonic() + 0.001 * (payload.number % 7)
        while time.monotonic() < deadline:
            pass
        if payload.number % 5 == 0:
            raise PermanentError("no")

    async def on_loop(payload: Note, job: Any) -> None:
        await asyncio.sleep(0.001 * (payload.number % 7))
        if payload.number % 5 == 0:
            raise PermanentError("no")

    probe = Probe(engine, on_thread if kind == "thread" else on_loop, attempts=1, timeout_s=0.003, stop_grace_s=0.002)
    stopping = next(one for one in probe.broker.middleware if isinstance(one, Stopping))
    stopping._interval_s = 0.0005
    with running(probe.broker, threads=4) as worker:
        ids = [probe.put({"number": number}) for number in range(600)]
        ends = [probe.finished(job_id) for job_id in ids]
        assert len(worker.workers) == 4
        assert all(thread.is_alive() for thread in worker.workers)
    states = Counter(job.state for job in ends)
    assert set(states) <= {State.COMPLETED, State.FAILED}
    codes = Counter(error_of(job).get("code") for job in ends if job.error)
    assert set(codes) == {"permanent", "timed-out"}
    for number, job in enumerate(ends):
        assert job.attempt == 1
        # The error tells what became of the run, and not of another.
        if job.state is State.COMPLETED:
            assert number % 5, "it raised"
    assert engine.counts(QUEUE).active == 0
