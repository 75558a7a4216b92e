"""A Hypothesis state machine drives an engine against a simple model: the scripts on a real server, and the memory.

After every step: each job is in exactly one state and in the one sorted set of that state, counts and order agree
with the model, every change that was told is one of ``states.TRANSITIONS``, nothing is lost and nothing left behind.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shared.engine.adding import Dedupe, DedupeMode
from shared.engine.engine import Finish, LeasedJob, Outcome
from shared.engine.keys import new_job_id
from shared.engine.states import FINISHED, TRANSITIONS, State
from shared.errors import JobNotFound, WrongState
from tests.engine.harness import ERROR, cycle, is_armed, keeping, make_job
from tests.engine.insides import Inside, InsideMemory, InsideRedis
from tests.engine.model import Model, ModelJob
from tests.servers import ValkeyServer

QUEUE = keeping(completed_count=3, failed_count=4)
BOUNDS = {State.COMPLETED: 3, State.FAILED: 4, State.CANCELLED: 4}
DELAY_MS = 600_000

#: how the names begin under which engines store deduplication keys
KEY_PREFIXES = ("dd:", "key:")

#: event -> the state that it tells; those that tell none are not here
TELLS = {
    **{name: State(name) for name in ("waiting", "active", "delayed", "completed", "failed", "cancelled")},
    "stalled": State.WAITING,
    "removed": None,
}

#: action -> states in which it is worth trying; refusals are tried as well
FITS = {
    "cancel": {State.WAITING, State.DELAYED, State.ACTIVE},
    "retry": {State.FAILED, State.CANCELLED},
    "promote": {State.DELAYED},
    "remove": set(State) - {State.ACTIVE},
}

#: events that tell of no change of state
SAYS_NOTHING = {"progress", "cancelling", "reprioritised"}

#: a key is always of one mode; windows never end here
KEYS = [
    Dedupe("reject"),
    Dedupe("reject, and after", DedupeMode.REJECT, DELAY_MS),
    Dedupe("throttle", DedupeMode.THROTTLE, DELAY_MS),
    Dedupe("debounce", DedupeMode.DEBOUNCE, DELAY_MS),
    Dedupe("debounce too", DedupeMode.DEBOUNCE, DELAY_MS),
]

plain_jobs = st.fixed_dictionaries(
    {
        "priority": st.integers(-2, 2),
        "delay_ms": st.sampled_from([0, 0, DELAY_MS]),
        "max_stalls": st.sampled_from([None, 0, 1]),
        "keep_s": st.sampled_from([None, 3_600]),
    }
)
keyed_jobs = st.fixed_dictionaries(
    {
        "priority": st.integers(-2, 2),
        "delay_ms": st.sampled_from([0, DELAY_MS]),
        "dedupe": st.sampled_from(KEYS),
    }
)
new_jobs = st.one_of(plain_jobs, plain_jobs, keyed_jobs)
picks = st.integers(0, 10**6)
finishes = st.lists(
    st.tuples(picks, st.sampled_from(list(Outcome)), st.sampled_from([0, DELAY_MS]), st.booleans()), max_size=4
)


class EngineMachine(RuleBasedStateMachine):
    def __init__(self, make: Callable[[], Inside]) -> None:
        super().__init__()
        self.inside = make()
        self.rig = self.inside.rig
        self.engine = self.rig.engine
        self.model = Model()
        #: every lease that was ever given out, held or not
        self.leases: list[LeasedJob] = []
        #: every id that was ever used
        self.ids: list[str] = []
        self.requests = 0
        self.places = 0
        self.position = "0"
        self.told: dict[str, State | None] = {}
        #: jobs that waited when somebody took the wake-up, who has not cycled since
        self.overslept: set[tuple[str, int]] = set()

    def teardown(self) -> None:
        self.inside.close()

    # -- rules --

    @rule(jobs=st.lists(new_jobs, min_size=1, max_size=5), known=st.one_of(st.none(), picks))
    def add(self, jobs: list[dict[str, Any]], known: int | None) -> None:
        ids = [new_job_id("q") for _ in jobs]
        if known is not None and self.ids:
            ids[0] = self.ids[known % len(self.ids)]
        made = [make_job(id=job_id, **fields) for job_id, fields in zip(ids, jobs, strict=True)]
        self.ids += ids
        assert self.engine.add("q", made) == self.model.add(made)

    @rule(ends=finishes, want=st.integers(0, 4), worker=st.sampled_from(["w1", "w2"]), lost=st.booleans())
    def run(self, ends: list[tuple[int, Outcome, int, bool]], want: int, worker: str, lost: bool) -> None:
        self.requests += 1
        batch = [finish for end in ends if (finish := self.pick_finish(*end)) is not None]
        for repeat in (False, True) if lost else (False,):
            options = {"want": want, "worker": worker, "request": str(self.requests), "repeat": repeat}
            expected_statuses, expected = self.model.cycle(batch, **options)  # type: ignore[arg-type]
            reply = cycle(self.engine, batch, queue=QUEUE, **options)  # type: ignore[arg-type]
            assert reply.finishes == expected_statuses
            if not self.model.paused:
                assert reply.limited == bool(self.waiting() and not self.model.has_room())
            given = [(job.id, job.token) for job in reply.jobs]
            # A repeat gives what was lost before what is new; within the former the order says nothing.
            assert (sorted(given), len(given)) == (sorted(expected), len(expected)) if repeat else given == expected
            if batch or not expected:
                self.model.settle(self.present(), BOUNDS)
            if not (lost and not repeat):
                self.leases += reply.jobs
        self.overslept = set()

    @precondition(lambda self: self.leases)
    @rule(pick=picks)
    def renew(self, pick: int) -> None:
        job = self.leases[pick % len(self.leases)]
        expected = self.model.renew(job.id, job.token)
        assert self.engine.renew("q", [(job.id, job.token)], DELAY_MS) == [expected]

    @precondition(lambda self: self.leases)
    @rule(pick=picks, percent=st.integers(0, 5))
    def progress(self, pick: int, percent: int) -> None:
        job = self.leases[pick % len(self.leases)]
        expected = self.model.progress(job.id, job.token, percent)
        assert self.engine.progress(job.id, job.token, percent, None, {}) is expected
        assert self.engine.lease_status(job.id, job.token) is self.model.lease_status(job.id, job.token)

    @rule(pick=picks, state=st.sampled_from([State.ACTIVE, State.DELAYED]))
    def let_time_come(self, pick: int, state: State) -> None:
        jobs = [job for job in self.model.of(state) if job.due is None]
        if jobs:
            job = jobs[pick % len(jobs)]
            job.due = self.model.next_end()
            self.inside.set_score(state.value, job.id, job.due)

    @rule(pick=picks)
    def outlive(self, pick: int) -> None:
        jobs = [job for job in self.model.jobs.values() if job.state in FINISHED and job.keeps and not job.outlived]
        if jobs:
            job = jobs[pick % len(jobs)]
            job.outlived = True
            self.rig.outlive(job.id)

    @rule()
    def reap(self) -> None:
        had_room = self.model.has_room()
        expected = self.model.reap()
        assert sorted(self.engine.reap("q")) == expected
        self.tell_of_room(had_room)

    @rule(concurrency=st.sampled_from([None, 1, 2, 3]))
    def limit(self, concurrency: int | None) -> None:
        had_room = self.model.has_room()
        self.model.concurrency = concurrency
        self.engine.set_limits("q", {"concurrency": concurrency})
        self.tell_of_room(had_room)

    @precondition(lambda self: len(self.model.of(State.WAITING) + self.model.of(State.DELAYED)) > 3)
    @rule(delayed=st.booleans())
    def drain(self, delayed: bool) -> None:
        expected = self.model.drain(delayed=delayed)
        assert self.engine.drain("q", delayed=delayed) == expected

    @precondition(lambda self: self.ids)
    @rule(pick=picks, priority=st.integers(-2, 2), fitting=st.booleans())
    def reprioritise(self, pick: int, priority: int, fitting: bool) -> None:
        fits = [job.id for job in self.model.jobs.values() if job.state in (State.WAITING, State.DELAYED)]
        ids = fits if fitting and fits else self.ids
        job = self.model.jobs.get(ids[pick % len(ids)])
        if job is None:
            with pytest.raises(JobNotFound):
                self.engine.reprioritise(ids[pick % len(ids)], priority)
            return
        slept = (job.id, job.place) in self.overslept
        if self.model.reprioritise(job, priority):
            self.engine.reprioritise(job.id, priority)
        else:
            with pytest.raises(WrongState):
                self.engine.reprioritise(job.id, priority)
        if slept:
            self.overslept.add((job.id, job.place))  # it waits for no less long

    @precondition(lambda self: self.ids)
    @rule(pick=picks, action=st.sampled_from(sorted(FITS)), fitting=st.booleans())
    def steer(self, pick: int, action: str, fitting: bool) -> None:
        fits = [job.id for job in self.model.jobs.values() if job.state in FITS[action]]
        ids = fits if fitting and fits else self.ids
        job_id = ids[pick % len(ids)]
        job = self.model.jobs.get(job_id)
        act: Callable[[str], object] = getattr(self.engine, action)
        apply: Callable[[ModelJob], bool] = getattr(self.model, action)
        if job is None:
            with pytest.raises(JobNotFound):
                act(job_id)
        elif apply(job):
            act(job_id)
        else:
            with pytest.raises(WrongState):
                act(job_id)

    @rule(paused=st.booleans())
    def pause(self, paused: bool) -> None:
        act = self.engine.pause if paused else self.engine.resume
        changed = self.model.pause(paused)
        assert act("q") is changed
        if changed:
            self.overslept = set()

    @rule()
    def take_the_wake_up_and_die(self) -> None:
        if is_armed(self.engine):
            self.overslept = self.waiting()

    @rule()
    def forget_scripts(self) -> None:
        self.rig.forget_scripts()

    # -- what must hold after every step --

    @invariant()
    def every_job_is_in_one_place(self) -> None:
        expected = self.model.jobs
        sets, records = self.inside.look(expected)
        kept = set(sets.pop("expires"))
        found = sorted((job_id, state) for state, ids in sets.items() for job_id in ids)
        assert found == sorted((job.id, job.state.value) for job in expected.values())
        for job, record in zip(expected.values(), records, strict=True):
            seen = (record.state, record.attempt, record.stalls, record.cancel_requested, record.priority)
            assert seen == (job.state, job.attempt, job.stalls, job.cancel_requested, job.priority)
        assert kept == {job.id for job in expected.values() if job.keeps and job.state in FINISHED}
        names = self.rig.stored()
        assert {f"q.{name[4:]}" for name in names if name.startswith("job:")} == set(expected), "lost, or left behind"
        keys = {name.partition(":")[2] for name in names if name.startswith(KEY_PREFIXES)}
        assert keys <= set(self.model.holders)
        # An engine may forget the key of a job that is past being debounced.
        assert {key for key in self.model.holders if not key.startswith("debounce")} <= keys
        assert {name for name in names if not name.startswith(("job:", *KEY_PREFIXES))} <= {*State, "expires"}

    @invariant()
    def counts_agree(self) -> None:
        counts = self.engine.counts("q")
        assert {state: getattr(counts, state.value) for state in State} == {
            state: len(self.model.of(state)) for state in State
        }
        assert counts.paused is self.model.paused

    @invariant()
    def order_agrees(self) -> None:
        page = self.engine.list("q", State.WAITING, limit=1_000)
        assert [job.id for job in page.jobs] == [job.id for job in self.model.of(State.WAITING)]

    @invariant()
    def places_grow(self) -> None:
        places = self.inside.places()
        assert places >= self.places
        self.places = places

    @invariant()
    def somebody_is_woken(self) -> None:
        armed = self.inside.armed()
        assert armed <= 1
        if self.waiting() - self.overslept and not self.model.paused and self.model.has_room():
            assert armed == 1

    @invariant()
    def every_change_is_allowed(self) -> None:
        before: State | None
        after: State | None
        for event in self.engine.events({"q": self.position}, block_ms=0, limit=10_000):
            self.position = event.id
            if event.job_id is None or event.name in SAYS_NOTHING:
                continue
            if event.name == "added":
                # The events of an id that was removed and is used anew begin anew.
                assert self.told.get(event.job_id) is None or self.told[event.job_id] in FINISHED
                before, after = None, State.DELAYED if "due_ms" in event.data else State.WAITING
            else:
                before, after = self.told[event.job_id], TELLS[event.name]
                if before is after is State.DELAYED:
                    continue  # it was replaced, and its delay began anew
            assert after in TRANSITIONS[before], f"{event.job_id}: {before} -> {after}"
            self.told[event.job_id] = after
        for job_id, state in self.told.items():
            if job_id in self.model.jobs:
                assert state is self.model.jobs[job_id].state
            else:
                assert None in TRANSITIONS[state] or state is None

    # -- parts --

    def tell_of_room(self, had_room: bool) -> None:
        """Whoever slept on while nothing could start is told when something can."""
        if not had_room and self.model.has_room():
            self.overslept = set()

    def waiting(self) -> set[tuple[str, int]]:
        return {(job.id, job.place) for job in self.model.of(State.WAITING)}

    def present(self) -> set[str]:
        return {f"q.{name.removeprefix('job:')}" for name in self.rig.stored() if name.startswith("job:")}

    def pick_finish(self, pick: int, outcome: Outcome, delay_ms: int, held: bool) -> Finish | None:
        leases = self.leases
        if held:
            tokens = {job.id: job.token for job in self.model.of(State.ACTIVE)}
            leases = [job for job in leases if tokens.get(job.id) == job.token]
        if not leases:
            return None
        job = leases[pick % len(leases)]
        return Finish(job.id, job.token, outcome, delay_ms, ERROR if outcome is not Outcome.COMPLETE else b"1")


def drive(make: Callable[[], Inside], *, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        functools.partial(EngineMachine, make),  # type: ignore[arg-type]  # any factory does
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


@pytest.mark.slow
@pytest.mark.needs_server
def test_the_scripts_agree_with_the_model(valkey: ValkeyServer) -> None:
    drive(lambda: InsideRedis(valkey), examples=40, steps=30)


@pytest.mark.slow
def test_the_memory_agrees_with_the_model() -> None:
    drive(InsideMemory, examples=40, steps=30)


@pytest.mark.faults
@pytest.mark.needs_server
@pytest.mark.timeout(1_800)
def test_the_scripts_agree_with_the_model_for_long(valkey: ValkeyServer) -> None:
    drive(lambda: InsideRedis(valkey), examples=400, steps=60)


@pytest.mark.faults
@pytest.mark.timeout(1_800)
def test_the_memory_agrees_with_the_model_for_long() -> None:
    drive(InsideMemory, examples=400, steps=60)
