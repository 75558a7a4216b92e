"""Channel: commits are never left waiting, and threads and leases never leak, whatever the engine does."""

from __future__ import annotations

import threading
import time
from typing import Any, cast

import pytest

from shared.broker import channel as channel_module
from shared.broker.channel import COMMIT_BATCH, Channel
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


def test_the_late_end_of_a_lost_lease_leaves_the_new_one_alone() -> None:
    engine = FakeEngine([[leased(1)], [leased(1, token=2)], []])
    channel, _ = channel_over(engine, threads=2)
    channel.step(0)
    channel.wake()
    assert channel.step(0) == [leased(1, token=2)], "reaped meanwhile, and fetched by the same process"
    late = Committing(channel, done(leased(1)))
    channel.step(10)
    late.join()
    assert channel.held() == [(leased(1).id, 2)], "nobody would renew it, and the second run would be lost as well"


def test_what_becomes_due_is_acted_on_with_no_thread_free_however_often_the_consumer_looks() -> None:
    engine = FakeEngine([[leased(1)]], next_ms=100)
    channel, _ = channel_over(engine, threads=1)
    channel.step(0)
    deadline = time.monotonic() + 0.5
    while time.monotonic() < deadline and len(engine.calls) == 1:
        channel.step(0.01)
    assert len(engine.calls) == 2


def test_everything_that_gathered_is_committed_at_the_end() -> None:
    number = COMMIT_BATCH + 1
    engine = FakeEngine([[leased(i) for i in range(number)]])
    channel, slots = channel_over(engine, threads=number, concurrency=number)
    channel.step(0)
    prove_short(slots)
    for i in range(number):
        Committing(channel, done(leased(i))).join()
    channel.flush()
    assert channel.held() == []


def test_an_idle_queue_does_not_hand_back_what_another_one_fetched_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel_module, "STUCK_S", 0.1)
    slots = Slots(1)
    prove_short(slots)
    stuck: list[str] = []

    def channel(name: str, engine: FakeEngine) -> Channel:
        contract = QueueContract(name, concurrency=100)
        server = cast("Engine", engine)
        return Channel(
            server,
            contract,
            worker="w",
            slots=slots,
            lease_ms=1000,
            on_listen=lambda: None,
            on_stuck=lambda: stuck.append(name),
        )

    idle, busy = channel("idle", FakeEngine()), channel("q", FakeEngine([[leased(i) for i in range(50)]]))
    idle.step(0)
    time.sleep(0.15)
    assert len(busy.step(0)) == 50
    idle.step(0)
    assert not stuck, "they came a moment ago"
    time.sleep(0.15)
    slots.ran(0.0001)
    idle.step(0)
    assert not stuck, "a run has just ended"
    time.sleep(0.15)
    idle.step(0)
    assert stuck == ["idle"]


def test_a_thread_set_aside_for_a_queue_that_looks_no_more_goes_to_others() -> None:
    engine = FakeEngine([[], []])
    channel, slots = channel_over(engine, threads=1)
    other, _ = channel_over(engine)
    channel.step(0)
    # It stood in line while it looked, as a queue does that claims a second time while it holds a thread.
    assert slots.exchange(other, returned=0, wanted=1) == 1
    assert slots.exchange(channel, returned=0, wanted=1) == 0
    slots.exchange(other, returned=1, wanted=0)
    assert slots.exchange(other, returned=0, wanted=1) == 0, "the thread is set aside for the queue"
    channel.step(0)
    assert slots.exchange(other, returned=0, wanted=1) == 1
