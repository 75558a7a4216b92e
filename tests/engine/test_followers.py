"""Jobs that are added with the end of a run, exactly if it is committed."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace

import pytest

from shared.contracts.queue import QueueContract, Retention
from shared.engine.adding import Dedupe
from shared.engine.engine import Engine, FinishStatus, LeasedJob, NewJob, Outcome
from shared.engine.flows import FlowJob, NewFlow
from shared.engine.keys import new_job_id
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.engine.harness import (
    QUEUE,
    Died,
    RedisRig,
    Rig,
    add,
    add_one,
    cycle,
    end,
    finish,
    is_armed,
    keeping,
    make_job,
    read,
    settle,
    state_of,
    take,
    take_one,
)
from tests.servers import ValkeyServer

COMMITTED, ALREADY, STALE, GONE = (
    FinishStatus.COMMITTED,
    FinishStatus.ALREADY,
    FinishStatus.STALE,
    FinishStatus.GONE,
)
OTHER = QueueContract("other")
#: keeps nothing that ended
FLEETING = QueueContract("other", retention=Retention(completed_count=0, failed_count=0))


def followers(count: int = 1, queue: str = "other") -> list[NewJob]:
    return [make_job(queue) for _ in range(count)]


def waiting(engine: Engine, queue: str = "other") -> list[str]:
    return [job.id for job in engine.list(queue, State.WAITING, limit=1_000).jobs]


@pytest.mark.parametrize("outcome", list(Outcome))
@pytest.mark.parametrize("queue", ["other", "q"])
def test_every_end_may_have_followers(engine: Engine, outcome: Outcome, queue: str) -> None:
    job_id = add_one(engine)
    jobs = followers(2, queue)
    ends = [finish(take_one(engine), outcome, delay_ms=600_000 if outcome is Outcome.RETRY else 0, followers=jobs)]
    assert cycle(engine, ends).finishes == [COMMITTED]
    settle(engine, "q", "other")
    ids = {job.id for job in jobs}
    assert set(waiting(engine, queue)) - {job_id} == ids
    assert {job.id for job in cycle(engine, want=9, queue=QueueContract(queue)).jobs} - {job_id} == ids


def test_a_follower_is_stored_as_given(engine: Engine) -> None:
    add_one(engine)
    group = make_job(
        "other", name="größe", body=bytes(range(256)), priority=3, options={"attempts": 9}, group="g", max_stalls=7
    )
    later = make_job("other", delay_ms=60_000, keep_s=60)
    keyed = make_job("other", dedupe=Dedupe("k"))
    end(engine, take_one(engine), followers=[group, later, keyed])
    settle(engine, "q", "other")
    record = read(engine, group.id)
    assert (record.name, record.priority, record.options, record.group) == ("größe", 3, {"attempts": 9}, "g")
    delayed = read(engine, later.id)
    assert (delayed.state, delayed.due_ms) == (State.DELAYED, delayed.created_ms + 60_000)
    assert read(engine, keyed.id).dedupe_key == "k"
    jobs = {job.id: job for job in cycle(engine, want=9, queue=OTHER).jobs}
    assert jobs[group.id].body == group.body
    assert set(jobs) == {group.id, keyed.id}


def test_a_reply_tells_that_steps_are_to_be_taken(engine: Engine) -> None:
    assert cycle(engine).outbox == 0
    add_one(engine)
    (job,) = followers()
    reply = cycle(engine, [finish(take_one(engine), followers=[job])])
    assert reply.outbox > 0
    assert cycle(engine).outbox > 0, "and goes on to tell it"
    assert engine.relay("q") == 0
    assert cycle(engine).outbox == 0
    assert waiting(engine) == [job.id]


def test_nothing_to_relay(engine: Engine) -> None:
    assert engine.relay("q") == 0


def test_steps_may_be_taken_a_few_at_a_time(engine: Engine) -> None:
    add(engine, 6)
    jobs = followers(6)
    cycle(engine, [finish(job, followers=[jobs[number]]) for number, job in enumerate(take(engine, 6))])
    left, lefts = 6, []
    while left:
        before, left = left, engine.relay("q", limit=2)
        assert left < before
        lefts.append(left)
    assert len(lefts) > 1
    assert waiting(engine) == [job.id for job in jobs], "in their order"


def test_a_follower_wakes_its_queue(engine: Engine) -> None:
    add_one(engine)
    end(engine, take_one(engine), followers=followers())
    settle(engine, "q")
    assert is_armed(engine, "other")


@pytest.mark.parametrize("relayed", [True, False])
@pytest.mark.parametrize("outcome", list(Outcome))
def test_the_repeat_of_an_end_adds_nothing(engine: Engine, outcome: Outcome, relayed: bool) -> None:
    add_one(engine)
    jobs = followers(3)
    delay_ms = 600_000 if outcome is Outcome.RETRY else 0
    ends = [finish(take_one(engine), outcome, delay_ms=delay_ms, followers=jobs)]
    assert cycle(engine, ends, request="lost").finishes == [COMMITTED]
    if relayed:
        settle(engine, "q", "other")
    assert cycle(engine, ends, request="lost", repeat=True).finishes == [ALREADY]
    settle(engine, "q", "other")
    assert waiting(engine) == [job.id for job in jobs]


def test_the_repeat_of_an_end_adds_nothing_even_when_its_followers_are_gone(engine: Engine) -> None:
    add_one(engine)
    ends = [finish(take_one(engine), followers=followers(2))]
    cycle(engine, ends, request="lost")
    settle(engine, "q", "other")
    jobs = cycle(engine, want=2, queue=FLEETING).jobs
    cycle(engine, [finish(job) for job in jobs], queue=FLEETING)
    assert engine.get(jobs[0].id) is None
    assert cycle(engine, ends, request="lost", repeat=True).finishes == [ALREADY]
    settle(engine, "q", "other")
    assert waiting(engine) == []


def test_a_stale_end_adds_nothing(rig: Rig) -> None:
    job_id = add_one(rig.engine)
    old = take_one(rig.engine)
    rig.expire(job_id)
    new = take_one(rig.engine, worker="w2")
    assert end(rig.engine, old, followers=followers()) is STALE
    settle(rig.engine, "q", "other")
    assert waiting(rig.engine) == []
    (mine,) = followers()
    assert end(rig.engine, new, followers=[mine]) is COMMITTED
    assert end(rig.engine, old, followers=followers()) is STALE
    settle(rig.engine, "q", "other")
    assert waiting(rig.engine) == [mine.id]


def test_the_end_of_a_job_that_is_gone_adds_nothing(engine: Engine) -> None:
    add_one(engine)
    ends = [finish(take_one(engine))]
    cycle(engine, ends, queue=keeping(completed_count=0))
    assert cycle(engine, [replace(ends[0], followers=followers())]).finishes == [GONE]
    settle(engine, "q", "other")
    assert waiting(engine) == []


def test_followers_of_a_job_that_is_deleted_with_its_end(engine: Engine) -> None:
    add_one(engine)
    (job,) = followers()
    cycle(engine, [finish(take_one(engine), followers=[job])], queue=keeping(completed_count=0))
    settle(engine, "q")
    assert waiting(engine) == [job.id]


def test_each_attempt_may_have_its_own(engine: Engine) -> None:
    add_one(engine)
    first, second = followers(2)
    end(engine, take_one(engine), Outcome.RETRY, followers=[first])
    end(engine, take_one(engine), followers=[second])
    settle(engine, "q", "other")
    assert waiting(engine) == [first.id, second.id]


def test_some_ends_of_a_call_have_followers_and_some_have_none(rig: Rig) -> None:
    add(rig.engine, 4)
    jobs = take(rig.engine, 4)
    rig.expire(jobs[1].id)
    rig.engine.reap("q")
    more = [followers(count) for count in (2, 3, 0, 1)]
    reply = cycle(rig.engine, [finish(job, followers=own) for job, own in zip(jobs, more, strict=True)])
    assert reply.finishes == [COMMITTED, STALE, COMMITTED, COMMITTED]
    settle(rig.engine, "q", "other")
    assert set(waiting(rig.engine)) == {job.id for own in (more[0], more[3]) for job in own}


def test_many_followers(engine: Engine) -> None:
    add_one(engine)
    jobs = [job for queue in ("other", "third") for job in followers(700, queue)]
    end(engine, take_one(engine), followers=jobs)
    settle(engine, "q", "other", "third")
    assert engine.counts("other").waiting == engine.counts("third").waiting == 700


def test_two_engines_relay_at_the_same_time(rig: Rig) -> None:
    add(rig.engine, 40)
    jobs = followers(80)
    leases = take(rig.engine, 40)
    cycle(rig.engine, [finish(job, followers=jobs[2 * at : 2 * at + 2]) for at, job in enumerate(leases)])
    engines = [rig.another() for _ in range(4)]

    def work(engine: Engine) -> list[str]:
        """Relay, and run what comes to its end, so that a job brought twice would run twice."""
        ran: list[str] = []
        left = 1
        while left:
            left = engine.relay("q", limit=3)
            leased = cycle(engine, want=5, queue=FLEETING).jobs
            ran += [job.id for job in leased]
            cycle(engine, [finish(job) for job in leased], queue=FLEETING)
        return ran

    with ThreadPoolExecutor(4) as pool:
        ran = [job_id for part in pool.map(work, engines) for job_id in part]
    settle(rig.engine, "q", "other")
    ran += [job.id for job in cycle(rig.engine, want=100, queue=OTHER).jobs]
    assert sorted(ran) == sorted(job.id for job in jobs)


@pytest.mark.parametrize("queue", ["other", "q"])
def test_steps_that_are_taken_twice_have_their_effect_once(rig: Rig, queue: str) -> None:
    """Whoever relayed them died before striking them off; by then their jobs had ended and were deleted."""
    contract = replace(FLEETING, name=queue)
    add_one(rig.engine)
    jobs = followers(3, queue)
    end(rig.engine, take_one(rig.engine), followers=jobs)
    put_back = rig.rewinding("q")
    settle(rig.engine, "q")
    leases = cycle(rig.engine, want=3, queue=contract).jobs
    assert {job.id for job in leases} == {job.id for job in jobs}
    put_back()
    settle(rig.another(), "q")
    assert cycle(rig.engine, want=9, queue=contract).jobs == [], "while they run"
    cycle(rig.engine, [finish(job) for job in leases], queue=contract)
    assert rig.engine.get(jobs[0].id) is None
    put_back()
    settle(rig.another(), "q")
    assert cycle(rig.engine, want=9, queue=contract).jobs == [], "and after their end"


def test_steps_after_those_that_are_taken_twice_are_taken(rig: Rig) -> None:
    """What tells an old step from a new one must not swallow the new one."""
    first, second = followers(2)
    add(rig.engine, 2)
    one, other = take(rig.engine, 2)
    end(rig.engine, one, followers=[first])
    put_back = rig.rewinding("q")
    settle(rig.engine, "q")
    put_back()
    end(rig.engine, other, followers=[second])
    settle(rig.engine, "q")
    assert sorted(waiting(rig.engine)) == sorted([first.id, second.id])


def test_a_relay_that_dies_anywhere_is_taken_up_by_another(rig: Rig) -> None:
    calls, died = 0, True
    while died:
        queues = [f"{name}-{calls}" for name in ("source", "one", "two")]
        source, *targets = (replace(FLEETING, name=queue) for queue in queues)
        rig.engine.add(source.name, [make_job(source.name)])
        (job,) = cycle(rig.engine, want=1, queue=source).jobs
        jobs = [follower for target in targets for follower in followers(3, target.name)]
        cycle(rig.engine, [finish(job, followers=jobs)], queue=source)
        dying = rig.dying(calls)
        try:
            dying.relay(source.name)
            died = False
        except Died:
            pass
        ran = []
        for _ in range(2):
            for target in targets:
                leases = cycle(rig.engine, want=9, queue=target).jobs
                ran += [lease.id for lease in leases]
                cycle(rig.engine, [finish(lease) for lease in leases], queue=target)
            settle(rig.engine, *queues)
        assert sorted(ran) == sorted(follower.id for follower in jobs), f"it died after {calls} calls"
        calls += 1
        assert calls < 50


def test_outboxes_leave_nothing_behind(rig: Rig) -> None:
    none = keeping(completed_count=0)
    add_one(rig.engine)
    cycle(rig.engine, [finish(take_one(rig.engine), followers=followers(2, "q"))], queue=none)
    settle(rig.engine, "q")
    jobs = cycle(rig.engine, want=2, queue=none).jobs
    cycle(rig.engine, [finish(job) for job in jobs], queue=none)
    assert len(jobs) == 2
    assert rig.stored() == set()


def test_a_follower_that_is_there_already_is_left_alone(engine: Engine) -> None:
    known = make_job("other", body=b"as it was")
    engine.add("other", [known])
    add_one(engine)
    end(engine, take_one(engine, queue=QUEUE), followers=[replace(known, body=b"another"), *followers()])
    settle(engine, "q", "other")
    assert engine.counts("other").waiting == 2
    assert cycle(engine, want=1, queue=OTHER).jobs[0].body == b"as it was"
    assert state_of(engine, known.id) == "active"


@pytest.mark.needs_server
@pytest.mark.parametrize("call", ["reap", "cancel", "add_flow"])
def test_an_outbox_that_others_go_on_to_fill_keeps_no_caller(
    valkey: ValkeyServer, namespace: str, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A process that looked into it until it were empty would renew no lease meanwhile."""
    with closing(RedisRig(valkey, namespace)) as rig:
        relay, runs = RedisEngine._relay, 0

        def relay_slowly(engine: RedisEngine, queue: str, limit: int) -> dict[str, int]:
            nonlocal runs
            runs += 1
            assert runs < 50, "it never ends"
            add_one(rig.engine)
            end(rig.engine, take_one(rig.engine), followers=followers())
            return relay(engine, queue, 1)

        end(rig.engine, run_of(rig.engine), followers=followers(3))
        steered = add_one(rig.engine, delay_ms=600_000)
        monkeypatch.setattr(RedisEngine, "_relay", relay_slowly)
        if call == "reap":
            rig.engine.reap("q")
        elif call == "cancel":
            rig.engine.cancel(steered)
        else:
            rig.engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(make_job("other"))]))
        monkeypatch.undo()
        settle(rig.engine, "q")
        assert rig.engine.counts("other").waiting == 3 + runs + (call == "add_flow")


def run_of(engine: Engine) -> LeasedJob:
    add_one(engine)
    return take_one(engine)
