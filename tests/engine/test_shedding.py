"""A server that is nearly out of memory: new jobs are refused in time, so that what is there can be worked off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from shared.contracts.queue import QueueContract
from shared.engine import pressure
from shared.engine.engine import Engine, FinishStatus, LeaseStatus, Outcome
from shared.engine.flows import Dependency, FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import EngineOverloaded, EngineUnavailable
from tests.engine.harness import (
    add,
    add_one,
    cycle,
    end,
    finish,
    is_armed,
    keeping,
    make_job,
    settle,
    state_of,
    take,
    take_one,
)
from tests.servers import PATIENCE_S, ValkeyServer

pytestmark = pytest.mark.needs_server

MakeServer = Callable[..., ValkeyServer]
BODY = b"x" * 5_000


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the server's memory at each add: these servers are so small that they fill up between two looks."""
    monkeypatch.setattr(pressure, "HOLDS_S", 0.0)


@pytest.fixture
def server(make_valkey: MakeServer) -> ValkeyServer:
    return make_valkey()


@pytest.fixture
def engine(server: ValkeyServer) -> Iterator[RedisEngine]:
    made = RedisEngine.from_url(server.url, "t")
    yield made
    made.close()


def memory(server: ValkeyServer) -> dict[str, Any]:
    with server.client() as client:
        return {**client.info("memory"), **client.info("stats")}


def leave(server: ValkeyServer, share: float) -> None:
    """Let what is used now be this share of what the server may use."""
    with server.client() as client:
        client.config_set("maxmemory", int(memory(server)["used_memory"] / share))


def until_refused(engine: Engine, server: ValkeyServer) -> int:
    """Add jobs until none is taken; gives how many were."""
    for count in range(20_000):
        try:
            engine.add("q", [make_job(body=BODY)])
        except EngineOverloaded:
            return count
    raise AssertionError(f"20,000 jobs were taken: {memory(server)['used_memory_human']}")


def test_new_jobs_are_refused_before_the_server_refuses_writes(server: ValkeyServer, engine: Engine) -> None:
    leave(server, 0.3)
    count = until_refused(engine, server)
    assert count > 50
    found = memory(server)
    assert 0.88 < found["used_memory"] / found["maxmemory"] < 0.97
    with server.client() as client:
        client.set("the server itself", "still writes")
    assert engine.counts("q").waiting == count, "nothing of the refused call is there"


def test_a_call_of_many_is_refused_as_one_of_a_few(server: ValkeyServer, engine: Engine) -> None:
    add_one(engine)
    leave(server, 0.95)
    for jobs in ([make_job()], [make_job() for _ in range(500)], [make_job(delay_ms=60_000)]):
        with pytest.raises(EngineOverloaded):
            engine.add("q", jobs)
    counts = engine.counts("q")
    assert (counts.waiting, counts.delayed) == (1, 0)


def test_flows_are_refused_too(server: ValkeyServer, engine: Engine) -> None:
    first, then = make_job(), make_job("other")
    flow = NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])])
    leave(server, 0.95)
    with pytest.raises(EngineOverloaded):
        engine.add_flow(flow)
    assert engine.flow(flow.id) is None
    settle(engine, "q", "other")
    assert state_of(engine, first.id) is None


def test_a_refusal_may_be_answered_by_trying_later() -> None:
    assert issubclass(EngineOverloaded, EngineUnavailable)
    assert EngineOverloaded.retryable


def test_with_room_again_jobs_are_taken_again(server: ValkeyServer, engine: Engine) -> None:
    leave(server, 0.3)
    count = until_refused(engine, server)
    none = keeping(completed_count=0)
    for _ in range(count // 2):
        cycle(engine, [finish(job) for job in cycle(engine, want=2, queue=none).jobs], queue=none)
    deadline = time.monotonic() + PATIENCE_S
    while until_refused(engine, server) == 0:
        assert time.monotonic() < deadline, "it never takes jobs again"
        time.sleep(0.01)  # what was deleted is given back in the background


def test_what_is_known_of_the_memory_is_soon_known_anew(
    server: ValkeyServer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "HOLDS_S", 0.1)
    for share, refused in ((0.5, False), (0.95, True), (0.5, False)):
        leave(server, share)
        deadline = time.monotonic() + PATIENCE_S
        while is_refused(engine) is not refused:
            assert time.monotonic() < deadline
            time.sleep(0.01)


def is_refused(engine: Engine) -> bool:
    try:
        add_one(engine)
    except EngineOverloaded:
        return True
    return False


def test_a_server_without_a_bound_takes_everything(server: ValkeyServer, engine: Engine) -> None:
    assert memory(server)["maxmemory"] == 0
    add(engine, 1_000, body=BODY)


#: nearly full, full, and far over
@pytest.fixture(params=[0.95, 1.0, 3.0])
def share(request: pytest.FixtureRequest) -> float:
    return float(request.param)


@pytest.mark.parametrize("outcome", list(Outcome))
def test_runs_end_however_full_the_server_is(
    server: ValkeyServer, engine: Engine, outcome: Outcome, share: float
) -> None:
    add(engine, 2)
    job = take_one(engine)
    leave(server, share)
    delay_ms = 600_000 if outcome is Outcome.RETRY else 0
    assert end(engine, job, outcome, delay_ms=delay_ms) is FinishStatus.COMMITTED
    assert state_of(engine, job.id) != "active"


def test_jobs_start_and_report_however_full_the_server_is(server: ValkeyServer, engine: Engine, share: float) -> None:
    add(engine, 2)
    add(engine, 2, group="a")
    leave(server, share)
    jobs = take(engine, 4)
    assert engine.renew("q", [(job.id, job.token) for job in jobs], 600_000) == [LeaseStatus.HELD] * 4
    reply = cycle(engine, [finish(job, data=b"1") for job in jobs])
    assert reply.finishes == [FinishStatus.COMMITTED] * 4
    with pytest.raises(EngineOverloaded):
        add_one(engine)


def test_what_follows_is_not_lost(server: ValkeyServer, engine: Engine, share: float) -> None:
    """It is promised with the finish; it is brought to its queue when there is room, if not at once."""
    add_one(engine)
    follower = make_job("other")
    job = take_one(engine)
    leave(server, share)
    assert end(engine, job, followers=[follower]) is FinishStatus.COMMITTED
    try:
        engine.relay("q")
    except EngineUnavailable:
        assert state_of(engine, follower.id) is None
    with server.client() as client:
        client.config_set("maxmemory", 0)
    settle(engine, "q")
    assert state_of(engine, follower.id) == "waiting"


def test_flows_go_on_however_full_the_server_is(server: ValkeyServer, engine: Engine, share: float) -> None:
    first, then = make_job(), make_job("other")
    engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(first), FlowJob(then, [Dependency(first.id)])]))
    job = take_one(engine)
    leave(server, share)
    assert end(engine, job) is FinishStatus.COMMITTED
    settle(engine, "q", "other")
    (last,) = cycle(engine, want=1, queue=QueueContract("other")).jobs
    assert last.id == then.id


def test_what_makes_room_works_however_full_the_server_is(server: ValkeyServer, engine: Engine, share: float) -> None:
    ids = add(engine, 10)
    add(engine, 3, delay_ms=600_000)
    cycle(engine, [finish(job) for job in take(engine, 3)])
    leave(server, share)
    engine.cancel(ids[4])
    engine.remove(ids[5])
    assert engine.clean("q", State.COMPLETED) == 3
    assert engine.drain("q", delayed=True) == 8
    engine.obliterate("q")
    assert engine.counts("q").waiting == 0


def test_limits_hold_however_full_the_server_is(server: ValkeyServer, engine: Engine, share: float) -> None:
    add(engine, 3)
    engine.set_limits("q", {"concurrency": 1})
    job = take_one(engine)
    leave(server, share)
    assert cycle(engine, want=2).limited
    is_armed(engine)
    cycle(engine, [finish(job)])
    assert is_armed(engine), "room was made, and somebody is told"
