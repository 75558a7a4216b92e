"""Holds what the queue says against what the ledger says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.engine.engine import Engine, JobRecord
from shared.engine.states import TRANSITIONS, State
from tests.faults.storm.families.storm.contract import POISON_STALLS
from tests.faults.storm.ledger import Execution, Ledger, pid_of
from tests.faults.storm.plan import Planned

#: the state that a job is in after an event; those that are not here change none
STATE_AFTER = {
    "waiting": State.WAITING,
    "active": State.ACTIVE,
    "completed": State.COMPLETED,
    "failed": State.FAILED,
    "delayed": State.DELAYED,
    "cancelled": State.CANCELLED,
    "stalled": State.WAITING,
}
#: clocks of one machine, read by two processes
CLOCK_MS = 3


@dataclass
class Stored:
    """The queue as it is at the end."""

    #: by id
    jobs: dict[str, JobRecord]
    #: contradictions between its lists, its counts and its records
    errors: list[str]


def read_queues(engine: Engine, queues: Sequence[str]) -> Stored:
    """Read every job of every state, and compare with the counts."""
    stored = Stored({}, [])
    for queue in queues:
        counts = engine.counts(queue)
        for state in State:
            found = _list(engine, queue, state)
            if len(found) != getattr(counts, state.value):
                stored.errors.append(
                    f"{queue}: {getattr(counts, state.value)} {state} jobs are counted, {len(found)} listed"
                )
            for job in found:
                if job.id in stored.jobs:
                    stored.errors.append(f"{job.id} is listed twice")
                if job.state is not state:
                    stored.errors.append(f"{job.id} is {job.state} and listed as {state}")
                stored.jobs[job.id] = job
    return stored


def _list(engine: Engine, queue: str, state: State) -> list[JobRecord]:
    jobs: list[JobRecord] = []
    cursor = None
    while True:
        page = engine.list(queue, state, cursor=cursor, limit=1_000)
        jobs += page.jobs
        cursor = page.cursor
        if cursor is None:
            return jobs


def lost(ledger: Ledger, stored: Stored) -> list[str]:
    """Name the jobs whose producer was told that they are there, and that are gone or never ended."""
    return [
        f"{job_id}: {job.state if (job := stored.jobs.get(job_id)) else 'gone'}"
        for job_id in sorted(ledger.acknowledged)
        if job_id not in stored.jobs or not stored.jobs[job_id].state.finished
    ]


def state_errors(
    plan: Sequence[Planned], ledger: Ledger, stored: Stored, events: Mapping[str, Sequence[str]]
) -> list[str]:
    """Name every contradiction."""
    errors = list(stored.errors)
    planned = {job.id: job for job in plan}
    children = {job.payload["child"] for job in plan if job.action == "parent"}
    for job_id, job in stored.jobs.items():
        runs = ledger.runs_of.get(job_id, [])
        wish = planned.get(job_id)
        if wish is None and job_id not in children:
            errors.append(f"{job_id} was never added")
        found = [
            *_wrong_end(job, wish, ledger.cancels.get(job_id, [])),
            *_wrong_completion(job, runs, ledger),
            *_wrong_attempts(job, wish, runs),
            *_wrong_history(events.get(job_id, ())),
            *_wrong_runs(job, wish, runs),
            *_wrong_checkpoints(runs),
        ]
        kind = wish.kind if wish else "child"
        errors += [f"{job_id} ({kind}): {error}" for error in found]
    return errors


def _wrong_end(job: JobRecord, wish: Planned | None, cancels: Sequence[str]) -> list[str]:
    allowed = set(wish.expected) if wish else {State.COMPLETED}
    if cancels:
        if "cancelled" in cancels:
            allowed = {State.CANCELLED}
        elif "active" in cancels or len(cancels) > 1 or (wish and wish.cancel_after_ms is not None):
            # Asked while it ran, it may have ended first; and an answer that was lost may have been any.
            allowed.add(State.CANCELLED)
    if not job.state.finished or job.state in allowed:
        return []
    return [f"ended {job.state}, expected {' or '.join(sorted(allowed))} (cancels: {list(cancels)}, {job.error})"]


def _wrong_completion(job: JobRecord, runs: Sequence[Execution], ledger: Ledger) -> list[str]:
    if job.state is not State.COMPLETED:
        return []
    name = job.result["run"] if isinstance(job.result, dict) and "run" in job.result else None
    run = ledger.runs.get(name) if name else None
    if run is None or run not in runs:
        return [f"completed with the result {job.result!r}, which no run of it gave"]
    if run.how != "done":
        return [f"completed by a run that {run.how or 'never ended'}"]
    if run.attempt != job.attempt:
        return [f"completed by attempt {run.attempt}, and says attempt {job.attempt}"]
    if run.pid != pid_of(str(job.worker)):
        return [f"completed by process {run.pid} while {job.worker} held it"]
    if any(other.token > run.token and other.began_ms < (job.finished_ms or 0) for other in runs):
        return [f"completed by lease {run.token} when a later one was given"]
    return []


def _wrong_attempts(job: JobRecord, wish: Planned | None, runs: Sequence[Execution]) -> list[str]:
    errors = []
    expected = wish.attempts if wish else 1
    if job.state is not State.CANCELLED and expected is not None and job.attempt != expected:
        errors.append(f"took {job.attempt} attempts, expected {expected}")
    raised = {(run.attempt, run.pid) for run in runs if run.how == "raised"}
    counted = [entry for entry in job.attempts if entry["outcome"] in ("retry", "fail")]
    errors += [
        f"attempt {entry['attempt']} is recorded as {entry['outcome']}, and no run of it by {entry['worker']} raised"
        for entry in counted
        if (entry["attempt"], pid_of(entry["worker"])) not in raised
    ]
    numbers = [entry["attempt"] for entry in counted]
    if len(numbers) != len(set(numbers)):
        errors.append(f"an attempt failed twice: {numbers}")
    if wish and wish.action == "poison":
        deaths = sum(entry["outcome"] == "stalled" for entry in job.attempts)
        if job.state is State.FAILED and (deaths != POISON_STALLS + 1 or (job.error or {}).get("code") != "max-stalls"):
            errors.append(f"failed after {deaths} deaths with {job.error}")
    return errors


def _wrong_history(names: Sequence[str]) -> list[str]:
    errors = []
    ends = [name for name in names if name in ("completed", "failed", "cancelled")]
    if len(ends) != 1:
        errors.append(f"ended {len(ends)} times: {list(names)}")
    state: State | None = None
    for name in names:
        if name == "added":
            # waiting or delayed; what is due becomes waiting by an event of its own
            state = None
            continue
        after = STATE_AFTER.get(name)
        if after is None:
            continue
        if state is not None and after not in TRANSITIONS[state]:
            errors.append(f"went from {state} to {after}: {list(names)}")
        state = after
    if not names or names[0] != "added" or list(names).count("added") != 1:
        errors.append(f"was not added once: {list(names)}")
    return errors


def _wrong_runs(job: JobRecord, wish: Planned | None, runs: Sequence[Execution]) -> list[str]:
    errors = []
    leases = Counter(run.token for run in runs)
    errors += [f"lease {token} ran {times} times" for token, times in leases.items() if times > 1]
    if wish and wish.delay_ms and runs:
        early_ms = job.created_ms + wish.delay_ms - min(run.began_ms for run in runs)
        if early_ms > CLOCK_MS:
            errors.append(f"began {early_ms:.0f} ms before it was due")
    if not runs and job.state in (State.COMPLETED, State.FAILED):
        errors.append(f"{job.state} without any run")
    return errors


def _wrong_checkpoints(runs: Sequence[Execution]) -> list[str]:
    errors = []
    saved: list[tuple[float, int, int]] = [
        (at_ms, run.token, value) for run in runs for what, value, at_ms in run.notes if what == "saved"
    ]
    for run in runs:
        for what, value, at_ms in run.notes:
            if what == "loaded":
                least = max((step for at, token, step in saved if at < run.began_ms and token < run.token), default=0)
                if value < least:
                    errors.append(f"went on from step {value} after step {least} was saved ({at_ms:.0f})")
    return errors
