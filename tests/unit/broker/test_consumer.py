"""JobConsumer and the stop of JobBroker: no lease is kept of a job that nobody will run or end."""

from __future__ import annotations

import time
from typing import Any, cast

import dramatiq
import pytest

from shared.broker.broker import JobBroker
from shared.broker.message import JobMessage
from shared.engine.engine import Engine, LeasedJob, Outcome
from shared.errors import EngineUnavailable
from tests.unit.broker.fake_engine import FakeEngine, leased


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def broker_over(engine: FakeEngine) -> JobBroker:
    broker = JobBroker(cast("Engine", engine), middleware=[])
    broker.declare_queue("q")
    return broker


def message_of(consumer: Any) -> JobMessage:
    message = next(consumer)
    assert isinstance(message, JobMessage)
    return message


def held(broker: JobBroker) -> list[str]:
    return [job_id for job_id, _ in broker._channels["q"].held()]


def test_a_run_whose_error_has_no_text_is_ended() -> None:
    engine = FakeEngine([[leased(1)]])
    broker = broker_over(engine)
    consumer = broker.consume("q")
    message = message_of(consumer)
    message.error = Mute()
    consumer.ack(message)
    assert [finish.outcome for finish in engine.calls[-1].finishes] == [Outcome.FAIL]
    assert held(broker) == []


def test_a_run_that_raised_and_was_not_settled_has_failed() -> None:
    engine = FakeEngine([[leased(1)]])
    broker = broker_over(engine)
    consumer = broker.consume("q")
    message = message_of(consumer)
    message.stuff_exception(ValueError("no"))
    consumer.ack(message)
    assert [finish.outcome for finish in engine.calls[-1].finishes] == [Outcome.FAIL]


def test_jobs_that_came_with_one_that_cannot_be_rejected_are_handed_out() -> None:
    engine = FakeEngine([[leased(1), leased(2, body=b"broken"), leased(3)], RuntimeError("a fault of the server")])
    broker = broker_over(engine)
    consumer = broker.consume("q")
    assert message_of(consumer).job == leased(1)
    with pytest.raises(RuntimeError):
        next(consumer)
    assert held(broker) == [leased(1).id, leased(3).id]
    # as Dramatiq does with a consumer that raised
    consumer.close()
    assert [finish.job_id for finish in engine.calls[-1].finishes] == [leased(3).id]
    assert held(broker) == [leased(1).id]


@pytest.mark.parametrize("body", [b'{"o":null}', b'{"o":[]}', b'{"k":[1]}'])
def test_a_body_of_the_wrong_shape_is_rejected_and_not_handed_to_dramatiq(body: bytes) -> None:
    engine = FakeEngine([[leased(1, body=body)]])
    broker = broker_over(engine)
    assert next(broker.consume("q", timeout=10)) is None
    assert [finish.outcome for finish in engine.calls[-1].finishes] == [Outcome.FAIL]


def worker_with(broker: JobBroker, jobs: list[LeasedJob]) -> None:
    """Put jobs where a thread of a worker would take them up."""
    worker = dramatiq.Worker(broker, worker_threads=8)
    broker._worker = worker
    consumer = broker.consume("q")
    for number, _ in enumerate(jobs):
        worker.work_queue.put(cast("Any", Item(number, message_of(consumer))))


class Item:
    def __init__(self, number: int, message: JobMessage) -> None:
        self.number, self.message = number, message

    def __lt__(self, other: Item) -> bool:
        return self.number < other.number


@pytest.mark.timeout(20)
def test_handing_back_at_the_stop_does_not_wait_for_a_server_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.broker.channel.STOP_GRACE_S", 0.05)
    engine = FakeEngine([[leased(1)]])
    broker = broker_over(engine)
    worker_with(broker, [leased(1)])
    engine.answers.extend([EngineUnavailable("gone")] * 10_000)
    told = time.monotonic()
    broker.drain()
    assert time.monotonic() - told < 5
    assert held(broker) == []


def test_a_queue_whose_consumer_comes_after_the_stop_fetches_nothing() -> None:
    engine = FakeEngine([[leased(1)]])
    broker = broker_over(engine)
    broker.drain()
    assert next(broker.consume("q", timeout=10)) is None
    assert all(call.want == 0 for call in engine.calls)


def test_a_wake_up_that_comes_while_a_worker_ends_is_handed_on() -> None:
    engine = FakeEngine()
    broker = broker_over(engine)
    next(broker.consume("q", timeout=10))
    broker.drain()
    broker._channels["q"].wake()
    before = len(engine.calls)
    broker.halt()
    assert [call.want for call in engine.calls[before:]] == [0]


def test_the_end_of_a_lost_run_does_not_cut_the_new_one_off_from_its_news() -> None:
    engine = FakeEngine([[leased(1)], [leased(1, token=2)]])
    broker = broker_over(engine)
    consumer = broker.consume("q")
    first = message_of(consumer)
    broker._channels["q"].wake()
    second = message_of(consumer)
    broker._ended(first)
    assert broker._messages == {leased(1).id: second}


def test_the_name_of_a_worker_can_be_stored_wherever_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Somebody's laptop\t2")
    name = broker_over(FakeEngine()).worker_name
    assert name.startswith("Somebody's-laptop-2:")
    assert len(name.split()) == 1
