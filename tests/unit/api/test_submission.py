"""What becomes of a submission, seen at the engine's door."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from pydantic import Field

from shared.contracts import (
    Catalogue,
    ExponentialBackoff,
    FamilyContract,
    FixedBackoff,
    JobContract,
    Payload,
    Priority,
    QueueContract,
    QueueLimits,
)
from shared.contracts.options import describe_backoff, effective_backoff, effective_options
from shared.engine.adding import Added, AddStatus, Dedupe, DedupeMode
from shared.engine.engine import DEFAULT_MAX_STALLS, Engine, NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import decode_payload
from shared.engine.states import State
from shared.errors import IdempotencyConflict, UnknownJobType, ValidationFailed
from shared.options import parse_options
from shared.submission import new_job, submit, take_in


class Greeting(Payload):
    name: str = Field(max_length=10)
    times: int = 1


CONTRACT = JobContract(
    type="hello.greet",
    queue="greetings",
    payload=Greeting,
    handler="nowhere:greet",
    attempts=4,
    backoff=FixedBackoff(100),
    priority=Priority.HIGH,
)


def catalogue(contract: JobContract = CONTRACT) -> Catalogue:
    return Catalogue({"hello": FamilyContract("hello", (QueueContract("greetings"),), (contract,))})


class Door:
    """The one method of an engine that a submission uses."""

    def __init__(self) -> None:
        self.added: list[tuple[str, NewJob]] = []
        self.max_length: int | None = None

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        self.max_length = max_length
        self.added += [(queue, job) for job in jobs]
        return [Added(AddStatus.NEW, job.id) for job in jobs]


def added(options: dict[str, Any] | None = None, contract: JobContract = CONTRACT) -> NewJob:
    door = Door()
    record = submit(cast(Engine, door), catalogue(contract), contract.type, {"name": "Ann"}, options)
    ((queue, job),) = door.added
    assert (queue, job.name, job.id) == ("greetings", contract.type, record.id)
    return job


def test_the_contract_decides_what_nobody_asked_for() -> None:
    job = added()
    assert decode_payload(job.body) == {"name": "Ann"}, "as given, without defaults"
    assert job.options == {}
    assert (job.priority, job.delay_ms, job.run_at_ms, job.max_stalls, job.keep_s) == (2, 0, None, None, None)
    assert type(job.priority) is int, "the driver refuses subclasses"


def test_what_was_asked_for_goes_with_the_job() -> None:
    job = added({"priority": "low", "delay_s": 1.5, "attempts": 9, "owner": None, "tags": [], "keep_s": 5})
    assert (job.priority, job.delay_ms, job.keep_s) == (4, 1500, 5)
    assert job.options == {"attempts": 9, "tags": [], "keep_s": 5}
    when = datetime(2030, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
    assert added({"run_at": when.isoformat()}).run_at_ms == 1893553445678


def test_max_stalls_is_sent_when_it_is_not_the_servers_own() -> None:
    assert added(contract=replace(CONTRACT, max_stalls=10)).max_stalls == 10
    assert added(contract=replace(CONTRACT, max_stalls=0)).max_stalls == 0
    assert added(contract=replace(CONTRACT, max_stalls=DEFAULT_MAX_STALLS)).max_stalls is None


def test_the_answer_tells_whether_it_waits() -> None:
    door = cast(Engine, Door())
    args = (door, catalogue(), "hello.greet", {"name": "Ann"})
    assert submit(*args).state is State.WAITING
    delayed = submit(*args, {"delay_ms": 1})
    assert delayed.state is State.DELAYED
    assert delayed.due_ms == delayed.created_ms + 1
    assert submit(*args, {"run_at": "2001-01-01T00:00:00Z"}).state is State.WAITING


def test_an_id_can_be_given_so_that_a_repeat_adds_nothing() -> None:
    job_id = new_job_id("greetings")
    record = submit(cast(Engine, Door()), catalogue(), "hello.greet", {"name": "Ann"}, job_id=job_id)
    assert record.id == job_id


@pytest.mark.parametrize(
    ("job_type", "payload", "options", "error"),
    [
        ("hello.gret", {"name": "Ann"}, None, UnknownJobType),
        ("hello.greet", {}, None, ValidationFailed),
        ("hello.greet", {"name": "Ann", "nam": 1}, None, ValidationFailed),
        ("hello.greet", {"name": "Ann"}, {"attempts": 0}, ValidationFailed),
    ],
)
def test_nothing_wrong_is_added(job_type: str, payload: Any, options: Any, error: type[Exception]) -> None:
    door = Door()
    with pytest.raises(error):
        submit(cast(Engine, door), catalogue(), job_type, payload, options)
    assert door.added == []


@pytest.mark.parametrize("backoff", [FixedBackoff(7), ExponentialBackoff(1, 20, 3.0, 0.5)])
def test_backoffs_are_described_as_they_are_asked_for(backoff: FixedBackoff | ExponentialBackoff) -> None:
    assert effective_backoff(CONTRACT, {"backoff": describe_backoff(backoff)}) == backoff


def test_effective_options() -> None:
    assert effective_options(CONTRACT, {"attempts": 1})["attempts"] == 1
    assert effective_options(CONTRACT, {})["backoff"] == {"kind": "fixed", "wait_ms": 100}
    assert effective_options(None, {"queue_name": "x"}) == {"queue_name": "x"}


def test_keys_and_groups_go_with_the_job() -> None:
    job = added({"group": "t1", "dedupe": {"key": "k", "mode": "throttle", "window_s": 1.5}, "idempotency_key": "i"})
    assert (job.group, job.dedupe) == ("t1", Dedupe("k", DedupeMode.THROTTLE, 1500))
    assert job.idempotency is not None
    assert job.idempotency.key == "i"
    assert job.options == {}, "the engine stores them itself"
    assert added({"dedupe": {"key": "k"}}).dedupe == Dedupe("k")
    assert added({"dedupe": {"key": "k", "mode": "debounce", "window_ms": 70}}).delay_ms == 70
    assert added({"dedupe": {"key": "k", "mode": "debounce", "window_ms": 70}, "delay_ms": 9}).delay_ms == 9


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"group": ""}, "options.group"),
        ({"group": "a\nb"}, "options.group"),
        ({"idempotency_key": "x" * 201}, "options.idempotency_key"),
        ({"dedupe": "k"}, "options.dedupe"),
        ({"dedupe": {}}, "options.dedupe.key"),
        ({"dedupe": {"key": ""}}, "options"),
        ({"dedupe": {"key": "k", "mode": "sometimes"}}, "options.dedupe.mode"),
        ({"dedupe": {"key": "k", "mode": "throttle"}}, "options"),
        ({"dedupe": {"key": "k", "mode": "debounce"}}, "options"),
        ({"dedupe": {"key": "k", "window_ms": 1, "window_s": 1}}, "options.dedupe"),
        ({"dedupe": {"key": "k", "window_s": -1}}, "options.dedupe.window_s"),
    ],
)
def test_what_fits_no_key_is_told(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ValidationFailed) as caught:
        parse_options(options)
    assert [error["field"] for error in caught.value.errors] == [field]


def request_hash(payload: dict[str, Any], **options: Any) -> str:
    job = new_job(catalogue(), "hello.greet", payload, {"idempotency_key": "i", **options})
    assert job.idempotency is not None
    return job.idempotency.request_hash


def test_the_same_request_has_the_same_hash_however_it_is_written() -> None:
    one = request_hash({"name": "Ann", "times": 2}, priority="high", tags=["a"], delay_s=None)
    assert one == request_hash({"times": 2, "name": "Ann"}, tags=["a"], priority=2)
    assert one != request_hash({"name": "Ann", "times": 3}, priority="high", tags=["a"])
    assert one != request_hash({"name": "Ann", "times": 2}, tags=["a"])
    assert one != request_hash({"name": "Ann", "times": 2}, priority="high", tags=["b"])


def test_the_bound_of_the_queues_contract_is_sent() -> None:
    door = Door()
    bound = QueueContract("greetings", limits=QueueLimits(max_length=7))
    the = Catalogue({"hello": FamilyContract("hello", (bound,), (CONTRACT,))})
    submit(cast(Engine, door), the, "hello.greet", {"name": "Ann"})
    assert door.max_length == 7


class TakenDoor(Door):
    """Answers that another job stands for it, which is not there any more."""

    def __init__(self, status: AddStatus, job_id: str | None = None) -> None:
        super().__init__()
        self.status, self.job_id = status, job_id

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        return [Added(self.status, self.job_id or jobs[0].id)]

    def get(self, job_id: str) -> None:
        return None


def test_the_repeat_of_a_call_whose_reply_was_lost_is_new() -> None:
    door = cast(Engine, TakenDoor(AddStatus.REPEATED))
    assert take_in(door, catalogue(), "hello.greet", {"name": "Ann"}).is_new
    mine = new_job_id("greetings")
    assert take_in(door, catalogue(), "hello.greet", {"name": "Ann"}, job_id=mine).status is AddStatus.REPEATED


@pytest.mark.parametrize("status", [AddStatus.DUPLICATE, AddStatus.REPEATED])
def test_a_holder_that_is_gone_is_told_by_its_id(status: AddStatus) -> None:
    holder = new_job_id("greetings")
    taken = take_in(cast(Engine, TakenDoor(status, holder)), catalogue(), "hello.greet", {"name": "Ann"})
    assert (taken.record.id, taken.status, taken.removed, taken.is_new) == (holder, status, True, False)
    assert taken.record.state.finished


def test_a_key_of_another_request_is_refused() -> None:
    holder = new_job_id("greetings")
    with pytest.raises(IdempotencyConflict) as caught:
        submit(cast(Engine, TakenDoor(AddStatus.CONFLICT, holder)), catalogue(), "hello.greet", {"name": "Ann"})
    assert caught.value.extra == {"job_id": holder}
