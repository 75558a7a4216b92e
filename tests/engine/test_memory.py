"""What only an engine in memory has: a clock that is moved, threads on one lock, bounds on what it remembers."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from shared.contracts.queue import RateLimit
from shared.engine.adding import Dedupe, DedupeMode, Idempotency
from shared.engine.engine import Outcome
from shared.engine.flows import FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.memory import Clock, MemoryEngine
from tests.engine.harness import add, add_one, cycle, end, finish, is_armed, keeping, limited, make_job, take_one

DAY_S = 24 * 3600


@pytest.fixture
def engine() -> MemoryEngine:
    return MemoryEngine()


def test_everything_goes_by_the_clock(engine: MemoryEngine) -> None:
    delayed = add_one(engine, delay_ms=60_000)
    assert cycle(engine, want=1).jobs == []
    is_armed(engine)
    engine.advance(61)
    assert is_armed(engine), "idle workers look again"
    job = take_one(engine, lease_ms=30_000)
    assert job.id == delayed
    engine.advance(31)
    assert engine.reap("q") == [delayed]
    end(engine, take_one(engine))
    engine.advance(2 * DAY_S)
    cycle(engine)
    assert engine.get(delayed) is None


def test_two_engines_may_share_a_clock() -> None:
    clock = Clock()
    one, other = MemoryEngine(clock), MemoryEngine(clock)
    job_id = add_one(other, delay_ms=60_000)
    one.advance(60)
    assert take_one(other).id == job_id


def test_a_clock_that_is_set_back_holds_a_rate_up_for_one_burst_at_most(engine: MemoryEngine) -> None:
    queue = limited(rate=RateLimit(10, 1_000, burst=5))
    add(engine, 20)
    assert len(cycle(engine, want=20, queue=queue).jobs) == 5
    engine.advance(-3600)
    reply = cycle(engine, want=1, queue=queue)
    assert (reply.jobs, reply.limited) == ([], True)
    assert reply.next_ms is not None
    assert 0 < reply.next_ms <= 101
    engine.advance(0.5)
    assert len(cycle(engine, want=20, queue=queue).jobs) == 5


def test_positions_of_events_grow_although_the_clock_is_set_back(engine: MemoryEngine) -> None:
    add_one(engine)
    position = engine.last_event("q")
    engine.advance(-3600)
    job_id = add_one(engine)
    assert [event.job_id for event in engine.events({"q": position}, block_ms=0)] == [job_id]


def test_what_is_given_out_is_nobodys_to_change(engine: MemoryEngine) -> None:
    options = {"tags": ["a"]}
    job_id = add_one(engine, options=options)
    options["tags"].append("b")
    record = engine.get(job_id)
    assert record is not None
    assert record.options == {"tags": ["a"]}
    record.options["tags"].append("c")
    assert take_one(engine).options == {"tags": ["a"]}


def test_threads_share_the_work(engine: MemoryEngine) -> None:
    def produce() -> list[str]:
        return [add_one(engine, group=str(number % 3)) for number in range(100)]

    def consume(worker: int) -> list[str]:
        ran: list[str] = []
        while len(ran) < 75:
            jobs = cycle(engine, want=min(4, 75 - len(ran)), worker=f"w{worker}").jobs
            cycle(engine, [finish(job) for job in jobs], worker=f"w{worker}")
            ran += [job.id for job in jobs]
        return ran

    with ThreadPoolExecutor(8) as pool:
        ran = pool.map(consume, range(4))
        made = pool.map(lambda _: produce(), range(3))
        ids = [job_id for part in made for job_id in part]
        assert sorted(job_id for part in ran for job_id in part) == sorted(ids)
    counts = engine.counts("q")
    assert (counts.waiting, counts.active, counts.completed) == (0, 0, 300)


def test_groups_with_nothing_to_do_are_forgotten_in_the_end(engine: MemoryEngine) -> None:
    queue = limited(group_rate=RateLimit(1_000, 1))
    for number in range(3_000):
        add_one(engine, group=str(number))
        end(engine, take_one(engine, queue=queue), Outcome.COMPLETE)
    stored = engine.stored("q")
    assert len(stored.turns) <= 1_001
    assert len(stored.arrivals) <= 2_000
    assert stored.lanes == {}


def test_keys_whose_time_is_over_are_forgotten_in_the_end(engine: MemoryEngine) -> None:
    for number in range(3_000):
        key = str(number)
        add_one(engine, dedupe=Dedupe(key, DedupeMode.THROTTLE, 1_000), idempotency=Idempotency(key, "h", 1_000))
        engine.advance(1)
    assert len(engine.stored("q").keys) < 3_000


def test_flows_of_which_nothing_is_left_are_forgotten_in_the_end(engine: MemoryEngine) -> None:
    def add_flow() -> NewFlow:
        flow = NewFlow(new_job_id("q"), [FlowJob(make_job())])
        engine.add_flow(flow)
        return flow

    done, waiting = add_flow(), add_flow()
    cycle(engine, [finish(take_one(engine))], queue=keeping(completed_count=0))
    engine.advance(31 * DAY_S)
    add_flow()
    assert engine.flow(done.id) is None
    assert engine.flow(waiting.id) is not None, "it is not over"
