"""Channel: commits are never left waiting, and threads and leases never leak, whatever the engine does."""

from __future__ import annotations

import threading
from typing import Any, cast

import pytest

from shared.broker import channel as channel_module
from shared.broker.channel import Channel
from shared.broker.slots import Slots
from shared.contracts.queue import QueueContract
from shared.engine.engine import Engine, Finish, FinishStatus, LeasedJob, Outcome
from shared.errors import EngineUnavailable
from tests.unit.broker.fake_engine import FakeEngine, leased


def channel_over(engine: FakeEngine, *, threads: int = 2, concurrency: int = 8) -> tuple[Channel, Slots]:
    slots = Slots(threads)
    channel = Channel(
        cast("Engine", engine),
        QueueContract("q", concurrency=concurrency),
        worker="w",
        slots=slots,
        lease_ms=1000,
        on_listen=lambda: None,
    )
    return channel, slots


def done(job: LeasedJob) -> Finish:
    return Finish(job.id, job.token, Outcome.COMPLETE)


class Committing:
    """A worker thread that hands a finish in."""

    def __init__(self, channel: Channel, finish: Finish) -> None:
        self.status: Any = "waiting"
        self._thread = threading.Thread(target=self._run, args=(channel, finish), daemon=True)
        self._thread.start()

    def _run(self, channel: Channel, finish: Finish) -> None:
        self.status = channel.commit(finish)

    def join(self) -> Any:
        self._thread.join(10)
        assert not self._thread.is_alive(), "the commit was never answered"
        return self.status


def test_as_many_jobs_are_fetched_as_threads_are_idle() -> None:
    engine = FakeEngine([[leased(1), leased(2)]])
    channel, _ = channel_over(engine, threads=2)
    assert channel.step(0) == [leased(1), leased(2)]
    assert channel.step(0) == []
    assert [call.want for call in engine.calls] == [2]


def test_a_queue_takes_no_more_threads_than_its_concurrency() -> None:
    engine = FakeEngine([[leased(1)]])
    channel, slots = channel_over(engine, threads=4, concurrency=1)
    assert channel.step(0) == [leased(1)]
    other, _ = channel_over(engine)
    assert slots.exchange(other, returned=0, wanted=9) == 3


def test_the_consumer_thread_commits_what_it_rejects_itself() -> None:
    engine = FakeEngine([[leased(1)]])
    channel, _ = channel_over(engine)
    channel.step(0)
    # would wait for itself for ever
    assert channel.commit(done(leased(1))) is FinishStatus.COMMITTED
    assert channel.held() == []


def test_a_commit_does_not_wait_for_a_consumer_that_rests() -> None:
    engine = FakeEngine([[leased(1)]])
    channel, slots = channel_over(engine, threads=1)
    channel.step(0)
    assert Committing(channel, done(leased(1))).join() is FinishStatus.COMMITTED
    assert slots.exchange(channel, returned=0, wanted=1) == 1


def test_a_nudge_outlives_a_commit_without_the_consumer() -> None:
    engine = FakeEngine([[leased(1)], [], [leased(2)]])
    channel, _ = channel_over(engine, threads=1)
    channel.step(0)
    channel.wake()
    Committing(channel, done(leased(1))).join()
    assert channel.step(5) == [leased(2)]


def test_a_fault_of_the_engine_costs_neither_threads_nor_leases() -> None:
    engine = FakeEngine([[leased(1)], RuntimeError("a fault"), [leased(2), leased(3)]])
    channel, _ = channel_over(engine, threads=2)
    channel.step(0)
    commit = Committing(channel, done(leased(1)))
    with pytest.raises(RuntimeError, match="a fault"):
        channel.step(10)
    assert commit.join() is None
    assert channel.held() == [], "the lease of a run that was not committed must run out"
    assert channel.step(0) == [leased(2), leased(3)]
    assert engine.calls[-1].want == 2


def test_a_lost_reply_is_asked_for_again_as_a_repeat_of_the_same_request() -> None:
    engine = FakeEngine([EngineUnavailable("down"), EngineUnavailable("down"), [leased(1)]])
    channel, _ = channel_over(engine)
    assert channel.step(0) == [leased(1)]
    assert [(call.request, call.repeat) for call in engine.calls] == [("1", False), ("1", True), ("1", True)]


def test_a_job_that_comes_back_in_the_reply_that_sent_it_back_is_held() -> None:
    engine = FakeEngine([[leased(1)], [leased(1, token=2)]])
    channel, _ = channel_over(engine, threads=1)
    channel.step(0)
    commit = Committing(channel, Finish(leased(1).id, 1, Outcome.RETRY))
    assert channel.step(10) == [leased(1, token=2)]
    commit.join()
    assert channel.held() == [(leased(1).id, 2)]


def test_what_arrives_while_draining_is_handed_back() -> None:
    engine = FakeEngine()
    channel, slots = channel_over(engine, threads=2)

    def told_to_stop_meanwhile() -> list[LeasedJob]:
        channel.drain()
        return [leased(1), leased(2)]

    engine.answers.append(told_to_stop_meanwhile)
    assert channel.step(0) == []
    assert [(finish.job_id, finish.outcome) for finish in engine.calls[-1].finishes] == [
        (leased(1).id, Outcome.RELEASE),
        (leased(2).id, Outcome.RELEASE),
    ]
    assert channel.held() == []
    assert channel.step(0) == []
    assert engine.calls[-1].want == 0
    assert slots.exchange(channel, returned=0, wanted=2) == 2


def test_a_worker_that_stops_gives_up_after_its_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.broker.channel.STOP_GRACE_S", 0.05)
    engine = FakeEngine([[leased(1)]])
    channel, _ = channel_over(engine)
    channel.step(0)
    engine.answers.extend([EngineUnavailable("gone")] * 1000)
    commit = Committing(channel, done(leased(1)))
    channel.stop()
    channel.step(10)
    assert commit.join() is None


def test_a_wake_up_is_acted_on_even_with_no_thread_to_spare() -> None:
    engine = FakeEngine([[leased(1)]])
    channel, _ = channel_over(engine, threads=1)
    channel.step(0)
    channel.wake()
    channel.step(10)
    assert [call.want for call in engine.calls] == [1, 0], "the cycle puts the word back for other workers"


def prove_short(slots: Slots) -> None:
    for _ in range(200):
        slots.ran(0.0001)


def test_nobody_waits_for_the_commit_of_a_short_run() -> None:
    engine = FakeEngine([[leased(1), leased(2)], []])
    channel, slots = channel_over(engine)
    channel.step(0)
    prove_short(slots)
    assert Committing(channel, done(leased(1))).join() is None
    assert [lease[0] for lease in channel.held()] == [leased(1).id, leased(2).id], "it is held until it is stored"
    channel.step(0)
    assert engine.calls[-1].finishes == [done(leased(1))]
    assert [lease[0] for lease in channel.held()] == [leased(2).id]


def test_what_nobody_waited_for_is_committed_at_the_end() -> None:
    engine = FakeEngine([[leased(1), leased(2)], []])
    channel, slots = channel_over(engine)
    channel.step(0)
    prove_short(slots)
    Committing(channel, done(leased(1))).join()
    channel.nudge()
    channel.flush()
    assert engine.calls[-1].finishes == [done(leased(1))]


def test_jobs_that_wait_behind_long_ones_are_handed_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "STUCK_S", 0.0)
    engine = FakeEngine([[leased(1)], [leased(2), leased(3)], []])
    channel, slots = channel_over(engine, threads=1)
    channel.step(0)
    prove_short(slots)
    channel.step(0)
    stuck: list[bool] = []
    channel._on_stuck = lambda: stuck.append(slots.ahead == 0)
    channel.step(0)
    assert stuck == [True]


def test_what_nobody_waited_for_does_not_rest_with_the_consumer(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine([[leased(1), leased(2)], []])
    channel, slots = channel_over(engine)
    channel.step(0)
    prove_short(slots)
    Committing(channel, done(leased(1))).join()
    channel.flush_overdue()
    assert len(engine.calls) == 1, "the consumer thread may still come"
    monkeypatch.setattr(channel_module, "COMMIT_PATIENCE_S", 0.0)
    channel.flush_overdue()
    assert engine.calls[-1].finishes == [done(leased(1))]
