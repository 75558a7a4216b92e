"""A queue as simple as it can be said: what the state machine holds the engine against.

Time stands still in it: delays and leases are so long that they end only when the test says so, and windows never end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from shared.engine.adding import Added, AddStatus, Dedupe, DedupeMode
from shared.engine.engine import DEFAULT_MAX_STALLS, Finish, FinishStatus, LeaseStatus, NewJob, Outcome
from shared.engine.states import FINISHED, State


@dataclass
class ModelJob:
    id: str
    priority: int
    state: State
    max_stalls: int
    keeps: bool
    #: where it stands among the waiting ones of its priority; 0 is the head
    place: int = 0
    #: order in which the test let its delay or its lease end; None while that has not happened
    due: int | None = None
    attempt: int = 0
    stalls: int = 0
    furthest: float = 0.0
    #: of the last lease
    token: int = 0
    worker: str = ""
    request: str = ""
    #: token of the lease that was ended last by sending the job back
    sent_back: int = 0
    cancel_requested: bool = False
    #: whether the time for which it asked to be kept is over
    outlived: bool = False
    dedupe: Dedupe | None = None


class Model:
    def __init__(self) -> None:
        self.jobs: dict[str, ModelJob] = {}
        self.paused = False
        #: jobs that may run at once
        self.concurrency: int | None = None
        #: deduplication key -> the job that holds it, which may be gone
        self.holders: dict[str, str] = {}
        self._places = 0
        self._ends = 0

    def of(self, state: State) -> list[ModelJob]:
        """Jobs of a state; those that wait in their order."""
        found = [job for job in self.jobs.values() if job.state is state]
        return sorted(found, key=lambda job: (job.priority, job.place, job.id))

    def next_end(self) -> int:
        self._ends += 1
        return self._ends

    # -- what the engine does, one method each --

    def add(self, jobs: Sequence[NewJob]) -> list[Added]:
        answers = []
        for job in jobs:
            answers.append(self._answer(job))
            if answers[-1].is_new:
                most = DEFAULT_MAX_STALLS if job.max_stalls is None else job.max_stalls
                made = ModelJob(job.id, job.priority, State.DELAYED, most, job.keep_s is not None, dedupe=job.dedupe)
                self.jobs[job.id] = made
                if job.dedupe:
                    self.holders[job.dedupe.key] = job.id
                if not job.delay_ms and not (job.dedupe and job.dedupe.mode is DedupeMode.DEBOUNCE):
                    self._wait(made)
            elif answers[-1].status is AddStatus.REPLACED:
                replaced = self.jobs[answers[-1].job_id]
                replaced.priority, replaced.due = job.priority, None
        return answers

    def _answer(self, job: NewJob) -> Added:
        if job.id in self.jobs:
            return Added(AddStatus.REPEATED, job.id)
        holder = self.holders.get(job.dedupe.key) if job.dedupe else None
        if job.dedupe is None or holder is None:
            return Added(AddStatus.NEW, job.id)
        if job.dedupe.mode is not DedupeMode.DEBOUNCE:
            return Added(AddStatus.DUPLICATE, holder)
        if holder in self.jobs and self.jobs[holder].state is State.DELAYED:
            return Added(AddStatus.REPLACED, holder)
        return Added(AddStatus.NEW, job.id)

    def cycle(
        self, finishes: Sequence[Finish], *, want: int, worker: str, request: str, repeat: bool
    ) -> tuple[list[FinishStatus], list[tuple[str, int]]]:
        statuses = [self._finish(finish) for finish in finishes]
        self.reap()
        due = [job for job in self.of(State.DELAYED) if job.due is not None]
        for job in sorted(due, key=lambda job: job.due or 0):
            self._wait(job)
        jobs = [job for job in self.of(State.ACTIVE) if repeat and (job.worker, job.request) == (worker, request)]
        while not self.paused and self.has_room() and len(jobs) < want and (waiting := self.of(State.WAITING)):
            job = waiting[0]
            job.state, job.due = State.ACTIVE, None
            job.token += 1
            job.attempt += 1
            job.worker, job.request = worker, request
            jobs.append(job)
        return statuses, [(job.id, job.token) for job in jobs]

    def has_room(self) -> bool:
        return self.concurrency is None or len(self.of(State.ACTIVE)) < self.concurrency

    def reap(self) -> list[str]:
        expired = [job for job in self.of(State.ACTIVE) if job.due is not None]
        for job in expired:
            job.token += 1
            job.stalls += 1
            if job.cancel_requested:
                self._finished(job, State.CANCELLED)
            elif job.stalls > job.max_stalls:
                self._finished(job, State.FAILED)
            else:
                job.attempt -= 1
                self._wait(job, head=True)
        return sorted(job.id for job in expired)

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        job = self.jobs.get(job_id)
        if job is None or job.state is not State.ACTIVE or job.token != token:
            return LeaseStatus.LOST
        return LeaseStatus.CANCEL_REQUESTED if job.cancel_requested else LeaseStatus.HELD

    def renew(self, job_id: str, token: int) -> LeaseStatus:
        status = self.lease_status(job_id, token)
        if status is not LeaseStatus.LOST:
            self.jobs[job_id].due = None
        return status

    def progress(self, job_id: str, token: int, percent: float) -> LeaseStatus:
        status = self.lease_status(job_id, token)
        if status is not LeaseStatus.LOST and percent > self.jobs[job_id].furthest:
            job = self.jobs[job_id]
            job.furthest, job.stalls = percent, 0
        return status

    def cancel(self, job: ModelJob) -> bool:
        if job.state is State.ACTIVE:
            job.cancel_requested = True
        elif job.state in (State.WAITING, State.DELAYED):
            self._finished(job, State.CANCELLED)
        else:
            return False
        return True

    def retry(self, job: ModelJob) -> bool:
        if job.state not in (State.FAILED, State.CANCELLED):
            return False
        job.attempt, job.stalls, job.furthest, job.cancel_requested, job.outlived = 0, 0, 0.0, False, False
        if job.dedupe and job.dedupe.mode is DedupeMode.REJECT:
            self.holders.setdefault(job.dedupe.key, job.id)
        self._wait(job)
        return True

    def promote(self, job: ModelJob) -> bool:
        if job.state is not State.DELAYED:
            return False
        self._wait(job)
        return True

    def remove(self, job: ModelJob) -> bool:
        if job.state is State.ACTIVE:
            return False
        if job.dedupe and job.dedupe.mode is not DedupeMode.THROTTLE:
            self._free(job)
        del self.jobs[job.id]
        return True

    def reprioritise(self, job: ModelJob, priority: int) -> bool:
        if job.state not in (State.WAITING, State.DELAYED):
            return False
        job.priority = priority
        if job.state is State.WAITING:
            self._wait(job)
        return True

    def drain(self, *, delayed: bool) -> int:
        jobs = self.of(State.WAITING) + (self.of(State.DELAYED) if delayed else [])
        for job in jobs:
            self.remove(job)
        return len(jobs)

    def pause(self, paused: bool) -> bool:
        changed = self.paused is not paused
        self.paused = paused
        return changed

    def settle(self, present: Collection[str], bounds: dict[State, int]) -> None:
        """Take over which jobs retention removed, after checking that it may have."""
        for state in FINISHED:
            jobs = self.of(state)
            gone = [job for job in jobs if job.id not in present]
            over = max(0, len(jobs) - bounds[state])
            outlived = [job for job in jobs if job.outlived]
            assert all(job.id not in present for job in outlived), "kept longer than it asked for"
            unasked = len([job for job in gone if not job.outlived])
            assert over - len(outlived) <= unasked <= over, f"{unasked} removed, {over} were over"
            for job in gone:
                del self.jobs[job.id]

    # -- parts --

    def _finished(self, job: ModelJob, state: State) -> None:
        job.state = state
        if job.dedupe and (job.dedupe.mode is DedupeMode.DEBOUNCE or not job.dedupe.window_ms):
            self._free(job)

    def _free(self, job: ModelJob) -> None:
        if job.dedupe and self.holders.get(job.dedupe.key) == job.id:
            del self.holders[job.dedupe.key]

    def _wait(self, job: ModelJob, *, head: bool = False) -> None:
        self._places += 1
        job.state, job.place, job.due = State.WAITING, 0 if head else self._places, None

    def _finish(self, finish: Finish) -> FinishStatus:
        job = self.jobs.get(finish.job_id)
        if job is None:
            return FinishStatus.GONE
        if job.sent_back == finish.token:
            return FinishStatus.ALREADY
        if job.token != finish.token:
            return FinishStatus.STALE
        if job.state is not State.ACTIVE:
            return FinishStatus.ALREADY
        self._end(job, finish)
        return FinishStatus.COMMITTED

    def _end(self, job: ModelJob, finish: Finish) -> None:
        outcome = finish.outcome
        job.due = None
        if outcome is Outcome.COMPLETE:
            self._finished(job, State.COMPLETED)
        elif outcome is Outcome.FAIL:
            self._finished(job, State.FAILED)
        elif outcome is Outcome.CANCEL or job.cancel_requested:
            self._finished(job, State.CANCELLED)
        else:
            job.sent_back = job.token
            if outcome is Outcome.RELEASE:
                job.attempt -= 1
                self._wait(job, head=True)
            elif finish.delay_ms:
                job.state, job.stalls = State.DELAYED, 0
            else:
                job.stalls = 0
                self._wait(job)
