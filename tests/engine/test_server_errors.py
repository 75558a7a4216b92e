"""A server that is away or cannot serve: told as EngineUnavailable, so that callers try again; nothing else is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from shared.contracts.queue import QueueContract
from shared.engine.engine import Engine, FinishStatus, LeaseStatus
from shared.engine.flows import FlowJob, NewFlow
from shared.engine.keys import Keys
from shared.engine.outages import unavailable
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from shared.errors import EngineUnavailable
from tests.engine.harness import add, add_one, cycle, end, finish, is_armed, keeping, make_job, state_of, take_one
from tests.servers import PATIENCE_S, ValkeyServer

pytestmark = pytest.mark.needs_server

JOB = "q.01ARZ3NDEKTSV4RRFFQ69G5FAV"
MakeServer = Callable[..., ValkeyServer]
MakeEngine = Callable[..., RedisEngine]

CALLS: dict[str, Callable[[Engine], Any]] = {
    "add": lambda engine: engine.add("q", [make_job()]),
    "cycle": lambda engine: cycle(engine, want=1),
    "renew": lambda engine: engine.renew("q", [(JOB, 1)], 1_000),
    "reap": lambda engine: engine.reap("q"),
    "wait": lambda engine: engine.waiter("w").wait(["q"], 0.05),
    "interrupt": lambda engine: engine.waiter("w").interrupt(),
    "progress": lambda engine: engine.progress(JOB, 1, 1, None, {}),
    "log": lambda engine: engine.log(JOB, 1, "info", "x", {}),
    "save_checkpoint": lambda engine: engine.save_checkpoint(JOB, 1, b"x"),
    "load_checkpoint": lambda engine: engine.load_checkpoint(JOB),
    "lease_status": lambda engine: engine.lease_status(JOB, 1),
    "cancel": lambda engine: engine.cancel(JOB),
    "retry": lambda engine: engine.retry(JOB),
    "promote": lambda engine: engine.promote(JOB),
    "remove": lambda engine: engine.remove(JOB),
    "reprioritise": lambda engine: engine.reprioritise(JOB, 1),
    "drain": lambda engine: engine.drain("q"),
    "clean": lambda engine: engine.clean("q", State.COMPLETED),
    "obliterate": lambda engine: engine.obliterate("q"),
    "set_limits": lambda engine: engine.set_limits("q", {"concurrency": 1}),
    "limits": lambda engine: engine.limits("q"),
    "add_flow": lambda engine: engine.add_flow(NewFlow(JOB, [FlowJob(make_job())])),
    "relay": lambda engine: engine.relay("q"),
    "flow": lambda engine: engine.flow(JOB),
    "cancel_flow": lambda engine: engine.cancel_flow(JOB),
    "retry_flow": lambda engine: engine.retry_flow(JOB),
    "results": lambda engine: engine.results(JOB),
    "pause": lambda engine: engine.pause("q"),
    "resume": lambda engine: engine.resume("q"),
    "get": lambda engine: engine.get(JOB),
    "list": lambda engine: engine.list("q", State.WAITING),
    "logs": lambda engine: engine.logs(JOB),
    "counts": lambda engine: engine.counts("q"),
    "events": lambda engine: engine.events({"q": "0"}, block_ms=10),
    "last_event": lambda engine: engine.last_event("q"),
    "ping": lambda engine: engine.ping(),
}


@pytest.fixture
def connect() -> Iterator[MakeEngine]:
    """Connect to a server; with a short patience where it matters."""
    made: list[RedisEngine] = []

    def make(server: ValkeyServer, **options: Any) -> RedisEngine:
        made.append(RedisEngine.from_url(server.url, "t", **options))
        return made[-1]

    yield make
    for engine in made:
        engine.close()


def test_every_method_is_tried_here() -> None:
    methods = {name for name in vars(Engine) if not name.startswith("_")}
    assert methods <= {*CALLS, "waiter", "close"}


def test_nobody_listens(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    server.kill()
    for name, call in CALLS.items():
        with pytest.raises(EngineUnavailable) as caught:
            call(engine)
        assert caught.value.retry_after_s == 1, name


def test_the_server_is_frozen(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server, reply_timeout_s=0.1)
    engine.ping()
    server.pause()
    for call in CALLS.values():
        with pytest.raises(EngineUnavailable, match="Timeout"):
            call(engine)
    server.unpause()
    server.wait_until_ready()
    engine.ping()


def test_waiting_is_no_silence_of_the_server(make_valkey: MakeServer, connect: MakeEngine) -> None:
    """A blocking call ends before the patience for a reply does."""
    engine = connect(make_valkey(), reply_timeout_s=0.3)
    assert engine.waiter("w").wait(["q"], 60) is None
    assert engine.events({"q": "$"}, block_ms=60_000) == []


def test_a_restart_loses_nothing_and_needs_no_new_engine(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey(appendonly=True)
    engine = connect(server)
    waiting, running = add(engine, 2)[::-1]
    job = take_one(engine)
    server.kill()
    with pytest.raises(EngineUnavailable):
        engine.counts("q")
    server.start()
    assert state_of(engine, waiting) == "waiting"
    assert engine.renew("q", [(running, job.token)], 60_000) == [LeaseStatus.HELD]
    assert end(engine, job) is FinishStatus.COMMITTED
    assert is_armed(engine)


def test_a_read_only_replica(make_valkey: MakeServer, connect: MakeEngine) -> None:
    """What is left after a failover that the client has not noticed."""
    server = make_valkey()
    engine = connect(server)
    add_one(engine)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
    for call in (CALLS["add"], CALLS["cycle"], CALLS["pause"], CALLS["wait"], CALLS["interrupt"]):
        with pytest.raises(EngineUnavailable):
            call(engine)
    assert engine.counts("q").waiting == 1


def test_a_replica_without_its_master(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey(replica_serve_stale_data="no")
    engine = connect(server)
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")
    for name in ("add", "cycle", "counts", "get"):
        with pytest.raises(EngineUnavailable):
            CALLS[name](engine)


def test_too_few_replicas(make_valkey: MakeServer, connect: MakeEngine) -> None:
    engine = connect(make_valkey(min_replicas_to_write=1))
    with pytest.raises(EngineUnavailable, match="NOREPLICAS"):
        add(engine)


def test_a_script_that_hangs(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey(busy_reply_threshold=1)
    engine = connect(server)

    def hang() -> None:
        with server.client() as client, pytest.raises(redis.ResponseError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=hang)
    thread.start()
    try:
        deadline = time.monotonic() + PATIENCE_S
        with pytest.raises(EngineUnavailable, match="BUSY"):
            while time.monotonic() < deadline:
                engine.counts("q")
    finally:
        with server.client() as client:
            client.script_kill()
        thread.join()
    assert engine.counts("q").waiting == 0


def test_a_server_that_loads_its_file(make_valkey: MakeServer, connect: MakeEngine) -> None:
    # Ten seconds in all: it is still loading when we ask.
    slow = {"key_load_delay": 20_000, "loading_process_events_interval_bytes": 1_024}
    server = make_valkey(**slow)
    engine = connect(server)
    add(engine, 500)
    with server.client() as client:
        client.save()
    server.kill()
    server.start(wait=False)
    deadline = time.monotonic() + PATIENCE_S
    while "Loading" not in (message := refusal(engine)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert "BusyLoadingError" in message


def refusal(engine: Engine) -> str:
    with pytest.raises(EngineUnavailable) as caught:
        engine.counts("q")
    return str(caught.value)


def fill(server: ValkeyServer) -> None:
    """Leave the server no memory."""
    with server.client() as client:
        client.config_set("maxmemory", "1")


def test_a_server_that_refuses_is_not_said_to_be_silent(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    fill(server)
    with pytest.raises(EngineUnavailable, match="refuses calls now: OutOfMemoryError"):
        engine.set_limits("q", {"concurrency": 1})
    server.kill()
    with pytest.raises(EngineUnavailable, match="does not answer"):
        add_one(engine)


def test_out_of_memory_nothing_is_added(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    add_one(engine)
    fill(server)
    with pytest.raises(EngineUnavailable, match="memory"):
        add(engine, 3)
    assert engine.counts("q").waiting == 1


def test_out_of_memory_what_is_there_is_still_worked_off(make_valkey: MakeServer, connect: MakeEngine) -> None:
    """Leases can be renewed and jobs finished, fetched and removed, or memory would never become free again."""
    server = make_valkey()
    engine = connect(server)
    add(engine, 2)
    job = take_one(engine)
    fill(server)
    assert engine.renew("q", [(job.id, job.token)], 60_000) == [LeaseStatus.HELD]
    reply = cycle(engine, [finish(job, data=b"1")], want=1)
    assert reply.finishes == [FinishStatus.COMMITTED]
    assert state_of(engine, job.id) == "completed"
    (other,) = reply.jobs
    assert end(engine, other) is FinishStatus.COMMITTED
    engine.remove(other.id)
    assert engine.counts("q").completed == 1


def test_out_of_memory_what_became_due_is_worked_off(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    due = add_one(engine, delay_ms=1)
    time.sleep(0.01)
    fill(server)
    (job,) = cycle(engine, want=1).jobs
    assert job.id == due
    assert end(engine, job) is FinishStatus.COMMITTED


def test_out_of_memory_groups_are_worked_off(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    before, grouped = add_one(engine), add_one(engine, group="a")
    # Each call but the first of a second begins with nothing that frees memory.
    cycle(engine)
    fill(server)
    assert {cycle(engine, want=1).jobs[0].id for _ in range(2)} == {before, grouped}


def test_out_of_memory_a_running_job_can_be_cancelled(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    add_one(engine)
    job = take_one(engine)
    fill(server)
    engine.cancel(job.id)
    assert engine.lease_status(job.id, job.token) is LeaseStatus.CANCEL_REQUESTED


def test_out_of_memory_a_bound_of_bytes_is_met(make_valkey: MakeServer, connect: MakeEngine) -> None:
    server = make_valkey()
    engine = connect(server)
    job_id = add_one(engine)
    end(engine, take_one(engine))
    fill(server)
    cycle(engine, queue=keeping(completed_bytes=0))
    assert engine.get(job_id) is None


def test_out_of_memory_a_wake_up_is_put_back_for_others(make_valkey: MakeServer, connect: MakeEngine) -> None:
    """A worker with no thread to spare would else repeat its call, and do nothing else, until memory is free."""
    server = make_valkey()
    engine = connect(server)
    add_one(engine)
    assert engine.waiter("w").wait(["q"], 1) == "q"
    fill(server)
    assert cycle(engine, want=0).jobs == []
    assert engine.waiter("w").wait(["q"], 1) == "q"


def test_threads_may_come_and_go(valkey: ValkeyServer, connect: MakeEngine) -> None:
    """Each takes a connection of its own, and redis-py's pool never makes more than 100 unless told to."""
    engine = connect(valkey)
    answers: list[int] = []
    for _ in range(130):
        thread = threading.Thread(target=lambda: answers.append(engine.counts("q").waiting))
        thread.start()
        thread.join()
    assert answers == [0] * 130


# -- what is ours is not taken for the server's --


def test_a_key_of_another_kind_is_a_mistake_and_not_an_outage(valkey: ValkeyServer, connect: MakeEngine) -> None:
    engine = connect(valkey)
    queue = f"q{time.time_ns()}"
    with valkey.client() as client:
        client.set(Keys("t", queue).state("waiting"), "x")
    for call in (
        lambda: engine.add(queue, [make_job(queue)]),
        lambda: cycle(engine, want=1, queue=QueueContract(queue)),
    ):
        with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
            call()


def test_a_value_that_cannot_be_sent_is_a_mistake_and_not_an_outage(valkey: ValkeyServer, connect: MakeEngine) -> None:
    with pytest.raises(redis.DataError):
        connect(valkey).add("q", [make_job(body=None)])


@pytest.mark.parametrize(
    "reply",
    [
        "ERR unknown command",
        "BUSYGROUP Consumer Group name already exists",
        "WRONGTYPE Operation against a key holding the wrong kind of value",
        "ERR no BUSY or OOM in the beginning",
    ],
)
def test_replies_that_are_ours(reply: str) -> None:
    assert unavailable(redis.ResponseError(reply)) is None


@pytest.mark.parametrize(
    "error",
    [
        redis.ResponseError("MISCONF Errors writing to the AOF file: No space left on device"),
        redis.ResponseError(
            "ERR Error running script (call to f_1): @user_script:1: -OOM command not allowed when used memory"
        ),
        redis.ResponseError("NOREPLICAS Not enough good replicas to write."),
        redis.exceptions.MasterDownError("Link with MASTER is down"),
        redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
        redis.ConnectionError("Connection closed by server."),
        redis.TimeoutError("Timeout reading from socket"),
        OSError(24, "Too many open files"),
    ],
    ids=repr,
)
def test_replies_that_are_the_surroundings(error: Exception) -> None:
    assert unavailable(error) is not None


def test_the_address_may_be_told_but_not_the_password() -> None:
    engine = RedisEngine.from_url("redis://user:hunter2@127.0.0.1:1/0")
    with pytest.raises(EngineUnavailable) as caught:
        engine.ping()
    assert "hunter2" not in f"{caught.value!r} {caught.value.__cause__!r} {caught.value.extra}"
    engine.close()
