"""Flows: jobs that wait for jobs, over several queues."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from shared.contracts.queue import QueueContract, Retention
from shared.engine.adding import Dedupe, Idempotency
from shared.engine.engine import Engine, LeasedJob, Outcome
from shared.engine.flows import FLOW_JOBS, Dependency, DependencyResult, FlowJob, FlowRecord, NewFlow, OnFailure
from shared.engine.keys import new_job_id
from shared.engine.states import State
from shared.errors import JobNotFound, ValidationFailed, WrongState
from tests.engine.harness import (
    ERROR,
    Died,
    Rig,
    add_one,
    cycle,
    finish,
    is_armed,
    make_job,
    read,
    settle,
    state_of,
)

CONTINUE, FAIL = OnFailure.CONTINUE, OnFailure.FAIL
QUEUES = ("q", "r", "s")
LONG_MS = 600_000


class Made:
    """A flow, with a name for each of its jobs: ``Made("a>b", "a>c", "bc>d", b="r")`` puts ``b`` on the queue ``r``."""

    def __init__(self, *edges: str, on_failure: OnFailure = FAIL, fields: Any = None, **queues: str) -> None:
        names = sorted({name for edge in edges for name in edge.replace(">", "")})
        self.ids = {name: new_job_id(queues.get(name, "q")) for name in names}
        after: dict[str, list[str]] = {name: [] for name in names}
        for edge in edges:
            firsts, _, lasts = edge.partition(">")
            for last in lasts:
                after[last] += firsts
        self.flow = NewFlow(
            new_job_id("q"),
            [
                FlowJob(
                    make_job(id=self.ids[name], body=b'{"a":["%s"]}' % name.encode(), **(fields or {}).get(name, {})),
                    [Dependency(self.ids[first], on_failure) for first in after[name]],
                )
                for name in names
            ],
            name="a flow",
        )

    def states(self, engine: Engine) -> dict[str, str | None]:
        return {name: state_of(engine, job_id) for name, job_id in self.ids.items()}

    def record(self, engine: Engine) -> FlowRecord:
        record = engine.flow(self.flow.id)
        assert record is not None
        return record

    def names(self, ids: Mapping[str, Any] | list[str]) -> list[str]:
        names = {job_id: name for name, job_id in self.ids.items()}
        return [names[job_id] for job_id in ids]


def added(engine: Engine, *edges: str, **options: Any) -> Made:
    made = Made(*edges, **options)
    engine.add_flow(made.flow)
    return made


def lease(engine: Engine, queue: str = "q", **bounds: int) -> list[LeasedJob]:
    return cycle(engine, want=1_000, queue=QueueContract(queue, retention=Retention(**bounds))).jobs


def leave(engine: Engine, job: LeasedJob, outcome: Outcome = Outcome.COMPLETE, **fields: Any) -> None:
    """End a run, and let everybody know who depends on it."""
    queue = QueueContract(job.id.rpartition(".")[0])
    cycle(engine, [finish(job, outcome, **fields)], queue=queue)
    settle(engine, *QUEUES)


def run(engine: Engine, made: Made, failing: str = "", **bounds: int) -> list[str]:
    """Run all that can; the result of each job is its name in quotes. Gives the names in the order of their starts."""
    started: list[str] = []
    busy = True
    while busy:
        busy = False
        for queue in QUEUES:
            jobs = lease(engine, queue, **bounds)
            names = made.names([job.id for job in jobs])
            ends = [
                finish(job, Outcome.FAIL) if name in failing else finish(job, data=b'"%s"' % name.encode())
                for job, name in zip(jobs, names, strict=True)
            ]
            cycle(engine, ends, queue=QueueContract(queue, retention=Retention(**bounds)))
            busy = busy or bool(jobs)
            started += names
        settle(engine, *QUEUES)
    return started


def blocks(made: Made, engine: Engine) -> str:
    return "".join(name for name, state in made.states(engine).items() if state == "blocked")


# -- order --


@pytest.mark.parametrize("queues", [{}, {"b": "r", "c": "s"}, {"a": "s", "b": "r"}])
def test_a_chain_runs_in_its_order(engine: Engine, queues: dict[str, str]) -> None:
    made = added(engine, "a>b", "b>c", **queues)
    assert made.states(engine) == {"a": "waiting", "b": "blocked", "c": "blocked"}
    for name, blocked in (("a", "bc"), ("b", "c"), ("c", "")):
        assert blocks(made, engine) == blocked
        (job,) = [job for queue in QUEUES for job in lease(engine, queue)]
        assert job.id == made.ids[name]
        leave(engine, job)
    assert set(made.states(engine).values()) == {"completed"}


def test_a_diamond(engine: Engine) -> None:
    made = added(engine, "a>bc", "bc>d", b="r", c="s", d="r")
    assert blocks(made, engine) == "bcd"
    leave(engine, lease(engine)[0])
    assert blocks(made, engine) == "d"
    leave(engine, lease(engine, "s")[0])
    assert blocks(made, engine) == "d", "it waits for both"
    leave(engine, lease(engine, "r")[0])
    assert made.states(engine)["d"] == "waiting"
    assert run(engine, made) == ["d"]


def test_jobs_that_run_after_none_run_at_once(engine: Engine) -> None:
    made = added(engine, "a>c", "b>c", "d>", b="r", d="s")
    assert blocks(made, engine) == "c"
    assert run(engine, made)[-1] == "c"


def test_jobs_of_both_kinds_in_a_queue(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", "c>d", "a>e", "e>d")
    assert engine.counts("q").blocked == 4
    page = engine.list("q", State.BLOCKED)
    assert sorted(made.names([job.id for job in page.jobs])) == ["b", "c", "d", "e"]
    plain = add_one(engine)
    jobs = lease(engine)
    assert [job.id for job in jobs] == [made.ids["a"], plain]
    for job in jobs:
        leave(engine, job)
    assert sorted(made.names([job.id for job in engine.list("q", State.WAITING).jobs])) == ["b", "e"]


def test_a_fan_in_of_hundreds_over_three_queues(engine: Engine) -> None:
    queues = [QUEUES[number % 3] for number in range(200)]
    jobs = [make_job(queue) for queue in queues]
    last = make_job("r")
    flow = NewFlow(new_job_id("s"), [*map(FlowJob, jobs), FlowJob(last, [Dependency(job.id) for job in jobs])])
    engine.add_flow(flow)
    assert set(read(engine, last.id).waits_for) == {job.id for job in jobs}
    for queue in QUEUES:
        leases = lease(engine, queue)
        assert state_of(engine, last.id) == "blocked"
        cycle(engine, [finish(job, data=b"1") for job in leases], queue=QueueContract(queue))
        settle(engine, *QUEUES)
    assert [job.id for job in lease(engine, "r")] == [last.id]
    results = engine.results(last.id)
    assert len(results) == 200
    assert set(results) == {job.id for job in jobs}
    assert all(result == DependencyResult("completed", 1) for result in results.values())


def test_a_fan_out_of_more_than_a_thousand(engine: Engine) -> None:
    first = make_job()
    jobs = [make_job("r") for _ in range(1_100)]
    engine.add_flow(NewFlow(new_job_id("q"), [FlowJob(first), *(FlowJob(job, [Dependency(first.id)]) for job in jobs)]))
    assert engine.counts("r").blocked == 1_100
    leave(engine, lease(engine)[0])
    counts = engine.counts("r")
    assert (counts.blocked, counts.waiting) == (0, 1_100)


def test_a_retry_does_not_release_what_runs_after(engine: Engine) -> None:
    made = added(engine, "a>b")
    for outcome in (Outcome.RETRY, Outcome.RELEASE):
        leave(engine, lease(engine)[0], outcome)
        assert blocks(made, engine) == "b"
    assert run(engine, made) == ["a", "b"]


def test_a_lost_lease_does_not_release_what_runs_after(rig: Rig) -> None:
    made = added(rig.engine, "a>b")
    (old,) = lease(rig.engine)
    rig.expire(old.id)
    rig.engine.reap("q")
    leave(rig.engine, old)
    assert made.states(rig.engine) == {"a": "waiting", "b": "blocked"}


def test_a_poisonous_job_fails_what_runs_after(rig: Rig) -> None:
    made = added(rig.engine, "a>b", b="r", fields={"a": {"max_stalls": 0}})
    rig.expire(lease(rig.engine)[0].id)
    rig.engine.reap("q")
    settle(rig.engine, *QUEUES)
    assert made.states(rig.engine) == {"a": "failed", "b": "failed"}


def test_what_runs_after_a_job_wakes_its_queue(engine: Engine) -> None:
    added(engine, "a>b", b="r")
    assert is_armed(engine, "q")
    assert not is_armed(engine, "r")
    leave(engine, lease(engine)[0])
    assert is_armed(engine, "r")


def test_what_was_released_into_a_paused_queue_waits_for_it(engine: Engine) -> None:
    made = added(engine, "a>b", b="r")
    engine.pause("r")
    leave(engine, lease(engine)[0])
    assert made.states(engine)["b"] == "waiting"
    assert not is_armed(engine, "r")
    assert lease(engine, "r") == []
    engine.resume("r")
    assert len(lease(engine, "r")) == 1


# -- delays, priorities, groups --


def test_a_delay_begins_when_the_last_dependency_ended(rig: Rig) -> None:
    made = added(rig.engine, "ab>c", c="r", fields={"c": {"delay_ms": LONG_MS}})
    assert blocks(made, rig.engine) == "c"
    rig.pass_time(30)
    for job in lease(rig.engine):
        leave(rig.engine, job)
    record = read(rig.engine, made.ids["c"])
    ended = max(read(rig.engine, made.ids[name]).finished_ms or 0 for name in "ab")
    assert record.state is State.DELAYED
    assert record.due_ms is not None
    assert 0 <= record.due_ms - ended - LONG_MS < 10_000
    rig.make_due(made.ids["c"])
    assert len(lease(rig.engine, "r")) == 1


@pytest.mark.parametrize(("run_at_ms", "state"), [(1_000, "waiting"), (4_000_000_000_000, "delayed")])
def test_a_time_to_run_at(engine: Engine, run_at_ms: int, state: str) -> None:
    made = added(engine, "a>b", fields={"b": {"run_at_ms": run_at_ms}})
    assert blocks(made, engine) == "b"
    leave(engine, lease(engine)[0])
    assert made.states(engine)["b"] == state
    if state == "delayed":
        assert read(engine, made.ids["b"]).due_ms == run_at_ms


def test_a_first_job_may_be_delayed(engine: Engine) -> None:
    made = added(engine, "a>b", fields={"a": {"delay_ms": LONG_MS}})
    assert made.states(engine) == {"a": "delayed", "b": "blocked"}
    engine.promote(made.ids["a"])
    assert run(engine, made) == ["a", "b"]


def test_jobs_keep_their_priority_and_group(engine: Engine) -> None:
    fields = {"b": {"priority": 5, "group": "g"}, "c": {"priority": -1, "options": {"tags": ["x"]}}}
    made = added(engine, "a>bc", fields=fields)
    leave(engine, lease(engine)[0])
    jobs = lease(engine)
    assert made.names([job.id for job in jobs]) == ["c", "b"]
    assert read(engine, made.ids["b"]).group == "g"
    assert jobs[0].options == {"tags": ["x"]}
    assert jobs[0].body == b'{"a":["c"]}'


# -- what a flow's jobs and records tell --


def test_a_flow_is_stored_as_given(engine: Engine) -> None:
    made = added(engine, "a>b", "ab>c", b="r", on_failure=CONTINUE)
    record = made.record(engine)
    assert (record.id, record.name, record.state) == (made.flow.id, "a flow", "running")
    assert set(record.jobs) == set(record.after) == set(made.ids.values())
    assert {job_id: set(edges) for job_id, edges in record.after.items()} == {
        made.ids["a"]: set(),
        made.ids["b"]: {Dependency(made.ids["a"], CONTINUE)},
        made.ids["c"]: {Dependency(made.ids["a"], CONTINUE), Dependency(made.ids["b"], CONTINUE)},
    }
    for job_id, job in record.jobs.items():
        assert job == engine.get(job_id)
        assert job is not None
        assert job.flow_id == made.flow.id
    assert abs(record.created_ms - read(engine, made.ids["a"]).created_ms) < 10_000


def test_jobs_say_what_they_wait_for(engine: Engine) -> None:
    made = added(engine, "ab>c", b="r")
    assert list(read(engine, made.ids["a"]).waits_for) == []
    assert set(read(engine, made.ids["c"]).waits_for) == {made.ids["a"], made.ids["b"]}
    leave(engine, lease(engine)[0])
    assert list(read(engine, made.ids["c"]).waits_for) == [made.ids["b"]]
    leave(engine, lease(engine, "r")[0])
    assert list(read(engine, made.ids["c"]).waits_for) == []


def test_a_job_of_no_flow(engine: Engine) -> None:
    record = read(engine, add_one(engine))
    assert (record.flow_id, list(record.waits_for)) == (None, [])
    assert engine.results(record.id) == {}


def test_a_flow_that_is_not_there(engine: Engine) -> None:
    assert engine.flow(new_job_id("q")) is None
    for act in (engine.cancel_flow, engine.retry_flow):
        with pytest.raises(JobNotFound):
            act(new_job_id("q"))


@pytest.mark.parametrize(
    ("failing", "state"), [("", "completed"), ("b", "failed"), ("a", "failed")], ids=["ok", "last", "first"]
)
def test_the_state_of_a_flow(engine: Engine, failing: str, state: str) -> None:
    made = added(engine, "a>b", "b>c", b="r")
    assert made.record(engine).state == "running"
    run(engine, made, failing)
    assert made.record(engine).state == state


def test_jobs_that_are_gone_are_known_to_their_flow(engine: Engine) -> None:
    made = added(engine, "a>b", b="r")
    run(engine, made, completed_count=0)
    record = made.record(engine)
    assert record.jobs == dict.fromkeys(made.ids.values())
    assert record.state == "completed"


def test_the_results_of_those_before(engine: Engine) -> None:
    made = added(engine, "ab>c", c="r")
    first, second = lease(engine)
    assert engine.results(made.ids["c"]) == {}
    leave(engine, first, data='{"größe":[1,null]}'.encode())
    assert engine.results(made.ids["c"]) == {first.id: DependencyResult("completed", {"größe": [1, None]})}
    leave(engine, second)
    assert engine.results(made.ids["c"])[second.id] == DependencyResult("completed", None)
    assert len(lease(engine, "r")) == 1
    assert set(engine.results(made.ids["c"])) == {first.id, second.id}, "and while it runs"


def test_results_outlive_the_jobs_that_gave_them(engine: Engine) -> None:
    made = added(engine, "ab>c", c="r")
    jobs = lease(engine)
    none = QueueContract("q", retention=Retention(completed_count=0))
    cycle(engine, [finish(job, data=b"7") for job in jobs], queue=none)
    settle(engine, *QUEUES)
    assert engine.get(jobs[0].id) is None
    assert made.states(engine)["c"] == "waiting"
    assert engine.results(made.ids["c"]) == {job.id: DependencyResult("completed", 7) for job in jobs}


# -- failures --

ENDS: dict[str, Callable[[Engine, str], object]] = {
    "failed": lambda engine, job_id: leave(engine, lease(engine)[0], Outcome.FAIL),
    "cancelled": lambda engine, job_id: engine.cancel(job_id),
    "cancelled by itself": lambda engine, job_id: leave(engine, lease(engine)[0], Outcome.CANCEL),
    "removed": lambda engine, job_id: engine.remove(job_id),
    "drained": lambda engine, job_id: engine.drain("q"),
    "cleaned": lambda engine, job_id: engine.clean("q", State.WAITING),
}


def ended_as(how: str) -> str:
    return "removed" if how in ("drained", "cleaned") else how.split()[0]


@pytest.mark.parametrize("how", ENDS)
@pytest.mark.parametrize("queue", ["q", "r"])
def test_a_failure_fails_all_that_runs_after(engine: Engine, how: str, queue: str) -> None:
    made = added(engine, "a>b", "b>c", "c>d", b=queue, d=queue, c="s")
    ENDS[how](engine, made.ids["a"])
    settle(engine, *QUEUES)
    states = made.states(engine)
    assert states.pop("a") == (None if ended_as(how) == "removed" else ended_as(how))
    assert states == dict.fromkeys("bcd", "failed")
    for name in "bcd":
        record = read(engine, made.ids[name])
        assert record.error is not None
        assert (record.error["type"], record.error["code"]) == ("DependencyFailed", "dependency-failed")
        assert record.finished_ms is not None
        assert (record.attempt, list(record.attempts)) == (0, [])
    assert engine.results(made.ids["b"])[made.ids["a"]].state == ended_as(how)
    assert run(engine, made) == []


@pytest.mark.parametrize("how", ENDS)
def test_a_job_may_run_nevertheless(engine: Engine, how: str) -> None:
    made = added(engine, "a>b", "b>c", on_failure=CONTINUE, b="r")
    ENDS[how](engine, made.ids["a"])
    settle(engine, *QUEUES)
    assert made.states(engine)["b"] == "waiting"
    result = engine.results(made.ids["b"])[made.ids["a"]]
    assert (result.state, result.result) == (ended_as(how), None)
    if how == "failed":
        assert result.error == json.loads(ERROR)
    assert run(engine, made) == ["b", "c"]


def test_an_edge_decides_for_itself(engine: Engine) -> None:
    first, careless, careful = make_job(), make_job("r"), make_job("r")
    jobs = [
        FlowJob(first),
        FlowJob(careless, [Dependency(first.id, CONTINUE)]),
        FlowJob(careful, [Dependency(first.id, FAIL)]),
    ]
    engine.add_flow(NewFlow(new_job_id("q"), jobs))
    leave(engine, lease(engine)[0], Outcome.FAIL)
    assert (state_of(engine, careless.id), state_of(engine, careful.id)) == ("waiting", "failed")


def test_a_failure_does_not_wait_for_the_others(engine: Engine) -> None:
    made = added(engine, "ab>c", "c>d", b="r", c="s")
    leave(engine, lease(engine)[0], Outcome.FAIL)
    assert made.states(engine) == {"a": "failed", "b": "waiting", "c": "failed", "d": "failed"}
    leave(engine, lease(engine, "r")[0])
    assert made.states(engine) == {"a": "failed", "b": "completed", "c": "failed", "d": "failed"}


def test_a_failure_of_one_branch_leaves_the_other_alone(engine: Engine) -> None:
    made = added(engine, "a>bc", "b>d", "c>e", b="r", e="s")
    run(engine, made, failing="b")
    assert made.states(engine) == {"a": "completed", "b": "failed", "c": "completed", "d": "failed", "e": "completed"}


def test_retention_is_no_removal(engine: Engine) -> None:
    made = added(engine, "a>b", b="r")
    none = QueueContract("q", retention=Retention(completed_count=0))
    (job,) = lease(engine)
    cycle(engine, [finish(job)], queue=none)
    assert engine.get(job.id) is None
    settle(engine, *QUEUES)
    assert made.states(engine)["b"] == "waiting"


@pytest.mark.parametrize("outcome", [Outcome.COMPLETE, Outcome.FAIL])
def test_removing_what_ended_changes_nothing(engine: Engine, outcome: Outcome) -> None:
    made = added(engine, "ab>c", on_failure=CONTINUE, c="r")
    first, second = lease(engine)
    leave(engine, first, outcome)
    before = engine.results(made.ids["c"])
    engine.remove(first.id)
    settle(engine, *QUEUES)
    assert engine.results(made.ids["c"]) == before
    leave(engine, second)
    assert made.states(engine)["c"] == "waiting"


# -- steering single jobs --


def test_a_blocked_job_may_be_cancelled(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", b="r")
    assert engine.cancel(made.ids["b"]) is State.CANCELLED
    settle(engine, *QUEUES)
    assert made.states(engine) == {"a": "waiting", "b": "cancelled", "c": "failed"}
    assert run(engine, made) == ["a"]
    assert made.states(engine)["b"] == "cancelled"


def test_a_blocked_job_may_be_removed(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", on_failure=CONTINUE, b="r", c="s")
    engine.remove(made.ids["b"])
    settle(engine, *QUEUES)
    assert made.states(engine) == {"a": "waiting", "b": None, "c": "waiting"}
    assert engine.results(made.ids["c"]) == {made.ids["b"]: DependencyResult("removed")}
    assert sorted(run(engine, made)) == ["a", "c"]
    assert engine.get(made.ids["b"]) is None


@pytest.mark.parametrize("action", ["promote", "retry"])
def test_a_blocked_job_cannot_be_made_to_run(engine: Engine, action: str) -> None:
    made = added(engine, "a>b")
    with pytest.raises(WrongState):
        getattr(engine, action)(made.ids["b"])
    assert blocks(made, engine) == "b"


# -- once --


def test_a_flow_that_is_added_twice_is_there_once(rig: Rig) -> None:
    made = added(rig.engine, "a>bc", "bc>d", b="r")
    stored, last = rig.stored(), rig.engine.last_event("q")
    rig.another().add_flow(made.flow)
    settle(rig.engine, *QUEUES)
    assert (rig.stored(), rig.engine.last_event("q")) == (stored, last)
    leave(rig.engine, lease(rig.engine)[0])
    states = made.states(rig.engine)
    rig.engine.add_flow(made.flow)
    settle(rig.engine, *QUEUES)
    assert made.states(rig.engine) == states
    assert sorted(run(rig.engine, made)) == ["b", "c", "d"]


def test_a_flow_that_has_run_is_not_run_again(engine: Engine) -> None:
    made = added(engine, "a>b", b="r")
    assert run(engine, made, completed_count=0) == ["a", "b"]
    engine.add_flow(made.flow)
    settle(engine, *QUEUES)
    assert run(engine, made) == []
    assert set(made.states(engine).values()) == {None}


def test_a_flow_is_there_in_whole_or_not_at_all(rig: Rig) -> None:
    """Whoever adds it dies after each of its calls to the server; another takes the steps that are left."""
    calls, died, absent = 0, True, 0
    while died:
        made = Made("a>bc", "bc>d", b="r", c="s", d="r")
        try:
            rig.dying(calls).add_flow(made.flow)
            died = False
        except Died:
            pass
        other = rig.another()
        settle(other, *QUEUES)
        if other.flow(made.flow.id) is None:
            assert set(made.states(other).values()) == {None}
            absent += 1
            assert absent <= 2, "the plan comes before all else but a look at the server's memory"
        else:
            assert sorted(run(other, made)) == list("abcd"), f"it died after {calls} calls"
        calls += 1
        assert calls < 50


def test_a_flow_whose_first_jobs_run_while_it_is_added(rig: Rig) -> None:
    calls, died = 0, True
    while died:
        made = Made("ab>cd", "cd>e", b="r", c="s", e="r")
        try:
            rig.dying(calls).add_flow(made.flow)
            died = False
        except Died:
            pass
        jobs = [job for queue in QUEUES for job in lease(rig.engine, queue)]
        for job in jobs:
            cycle(rig.engine, [finish(job)], queue=QueueContract(job.id.rpartition(".")[0]))
        rig.another().add_flow(made.flow)
        settle(rig.engine, *QUEUES)
        assert sorted(made.names([job.id for job in jobs]) + run(rig.engine, made)) == list("abcde")
        calls += 1
        assert calls < 50


def test_every_step_may_be_taken_twice(rig: Rig) -> None:
    """Of each queue in turn the outbox is put back after its steps were taken and their jobs ended and were deleted."""
    made = added(rig.engine, "a>bc", "bc>d", b="r", c="s", d="r")
    started: list[str] = []
    while True:
        jobs = [(queue, job) for queue in QUEUES for job in lease(rig.engine, queue)]
        if not jobs:
            break
        for queue, job in jobs:
            none = QueueContract(queue, retention=Retention(completed_count=0))
            cycle(rig.engine, [finish(job)], queue=none)
            started += made.names([job.id])
        put_back = [rig.rewinding(queue) for queue in QUEUES]
        for _ in range(2):
            settle(rig.engine, *QUEUES)
            for again in put_back:
                again()
        settle(rig.engine, *QUEUES)
    assert sorted(started) == list("abcd")
    counts = [rig.engine.counts(queue) for queue in QUEUES]
    assert [(count.waiting, count.blocked, count.delayed, count.active) for count in counts] == [(0, 0, 0, 0)] * 3


def test_a_plan_that_is_carried_out_twice_runs_nothing_twice(rig: Rig) -> None:
    """Whoever carried it out first died before striking it off; by then the flow had run and its jobs were deleted."""
    made = Made("a>b", "b>c", b="r")
    calls = 0
    while rig.engine.flow(made.flow.id) is None:
        with suppress(Died):
            rig.dying(calls).add_flow(made.flow)
        calls += 1
    put_back = rig.rewinding("q")
    settle(rig.engine, *QUEUES)
    assert sorted(run(rig.engine, made, completed_count=0)) == ["a", "b", "c"]
    put_back()
    settle(rig.engine, *QUEUES)
    assert run(rig.engine, made) == []
    assert [rig.engine.counts(queue).blocked for queue in QUEUES] == [0, 0, 0]


# -- cancelling and retrying whole flows --


def test_cancelling_a_flow_cancels_what_has_not_ended(rig: Rig) -> None:
    engine = rig.engine
    made = added(engine, "a>bc", "bc>d", "a>e", b="r", c="s", d="r", fields={"e": {"delay_ms": LONG_MS}})
    leave(engine, lease(engine)[0])
    (running,) = lease(engine, "r")
    rig.another().cancel_flow(made.flow.id)
    settle(engine, *QUEUES)
    assert made.states(engine) == {
        "a": "completed",
        "b": "active",
        "c": "cancelled",
        "d": "cancelled",
        "e": "cancelled",
    }
    assert read(engine, running.id).cancel_requested
    assert made.record(engine).state == "running"
    leave(engine, running, Outcome.CANCEL)
    assert made.record(engine).state == "cancelled"
    assert run(engine, made) == []


def test_cancelling_a_flow_at_its_beginning_fails_none(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", "c>d", b="r", d="s")
    engine.cancel_flow(made.flow.id)
    settle(engine, *QUEUES)
    assert set(made.states(engine).values()) == {"cancelled"}
    engine.cancel_flow(made.flow.id)
    settle(engine, *QUEUES)
    assert set(made.states(engine).values()) == {"cancelled"}


def test_cancelling_a_flow_whose_jobs_are_gone(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", b="r")
    engine.remove(made.ids["b"])
    engine.cancel_flow(made.flow.id)
    settle(engine, *QUEUES)
    assert made.states(engine)["a"] == "cancelled"
    assert made.states(engine)["c"] in ("cancelled", "failed"), "who was first decides"


def test_retrying_a_flow_runs_what_failed_and_what_depends_on_it(engine: Engine) -> None:
    made = added(engine, "a>bc", "bc>d", "d>e", b="r", c="s", d="r")
    run(engine, made, failing="b")
    assert made.states(engine) == {"a": "completed", "b": "failed", "c": "completed", "d": "failed", "e": "failed"}
    assert engine.retry_flow(made.flow.id) == 3
    settle(engine, *QUEUES)
    assert made.states(engine) == {"a": "completed", "b": "waiting", "c": "completed", "d": "blocked", "e": "blocked"}
    assert made.record(engine).state == "running"
    assert list(read(engine, made.ids["d"]).waits_for) == [made.ids["b"]]
    assert set(engine.results(made.ids["d"])) == {made.ids["c"]}, "the other has not ended"
    assert run(engine, made) == ["b", "d", "e"]
    assert made.record(engine).state == "completed"
    assert {name: engine.results(made.ids["d"])[made.ids[name]].result for name in "bc"} == {"b": "b", "c": "c"}
    assert read(engine, made.ids["d"]).error is None


def test_retrying_a_flow_may_fail_again(engine: Engine) -> None:
    made = added(engine, "a>b", "b>c", b="r")
    for _ in range(3):
        assert run(engine, made, failing="a") == ["a"]
        assert set(made.states(engine).values()) == {"failed"}
        assert engine.retry_flow(made.flow.id) == 3
        settle(engine, *QUEUES)
        assert made.states(engine) == {"a": "waiting", "b": "blocked", "c": "blocked"}
    assert run(engine, made) == ["a", "b", "c"]


def test_retrying_a_cancelled_flow(engine: Engine) -> None:
    made = added(engine, "ab>c", "c>d", b="r", c="s")
    leave(engine, lease(engine)[0])
    engine.cancel_flow(made.flow.id)
    settle(engine, *QUEUES)
    assert engine.retry_flow(made.flow.id) == 3
    settle(engine, *QUEUES)
    assert made.states(engine) == {"a": "completed", "b": "waiting", "c": "blocked", "d": "blocked"}
    assert run(engine, made) == ["b", "c", "d"]


def test_retrying_a_flow_leaves_alone_what_completed_in_spite_of_a_failure(engine: Engine) -> None:
    made = added(engine, "a>b", on_failure=CONTINUE, b="r")
    run(engine, made, failing="a")
    assert made.states(engine) == {"a": "failed", "b": "completed"}
    assert engine.retry_flow(made.flow.id) == 1
    assert run(engine, made) == ["a"]
    assert made.states(engine) == {"a": "completed", "b": "completed"}


def test_retrying_a_flow_with_nothing_to_retry(engine: Engine) -> None:
    made = added(engine, "a>b")
    assert engine.retry_flow(made.flow.id) == 0
    run(engine, made)
    assert engine.retry_flow(made.flow.id) == 0
    assert run(engine, made) == []


def test_a_job_of_a_flow_runs_whoever_holds_its_keys(engine: Engine) -> None:
    """Those that run after it wait for it and for no other."""
    keys: dict[str, Any] = {"dedupe": Dedupe("d"), "idempotency": Idempotency("i", "h")}
    held = add_one(engine, **keys)
    made = added(engine, "a>b", fields={"a": keys})
    assert made.states(engine) == {"a": "waiting", "b": "blocked"}
    engine.remove(held)
    assert run(engine, made) == ["a", "b"]


# -- values --


def node(job_id: str, *after: str) -> FlowJob:
    return FlowJob(make_job(id=job_id), [Dependency(first) for first in after])


A, B, C = (f"q.01ARZ3NDEKTSV4RRFFQ69G5FA{letter}" for letter in "ABC")


@pytest.mark.parametrize(
    ("jobs", "says"),
    [
        ([], "has 0 jobs"),
        ([node(A), node(A)], "the same id"),
        ([node(A, B)], "not of the flow"),
        ([node(A), node(B, A, A)], "twice"),
        ([node(A, A)], "circle"),
        ([node(A, B), node(B, C), node(C, A)], "circle"),
        ([node(new_job_id("q")) for _ in range(FLOW_JOBS + 1)], "5001 jobs"),
    ],
    ids=["none", "same", "foreign", "twice", "itself", "circle", "many"],
)
def test_what_is_no_flow_is_refused(jobs: list[FlowJob], says: str) -> None:
    with pytest.raises(ValidationFailed, match=says):
        NewFlow(new_job_id("q"), jobs)


def test_those_that_run_after_come_first() -> None:
    order = [job.job.id for job in NewFlow(new_job_id("q"), [node(A), node(B, A), node(C, A, B)]).from_last_to_first()]
    assert order == [C, B, A]
