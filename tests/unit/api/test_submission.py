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
)
from shared.contracts.options import describe_backoff, effective_backoff, effective_options
from shared.engine.adding import Added, AddStatus
from shared.engine.engine import DEFAULT_MAX_STALLS, Engine, NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import decode_payload
from shared.engine.states import State
from shared.errors import UnknownJobType, ValidationFailed
from shared.submission import submit


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
