"""Handlers that write down each run, whatever becomes of it."""

from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import dramatiq

from shared.broker.broker import JobBroker
from shared.context import JobContext
from shared.engine.engine import NewJob
from shared.engine.keys import split_job_id
from shared.engine.record import encode_payload
from shared.errors import EngineUnavailable, JobCancelled, LeaseLost, PermanentError
from tests.faults.storm.families.storm.contract import MOST_STALLS, Gust
from tests.faults.storm.ledger import Run, Writer

T = TypeVar("T")
#: how often a long job looks whether it is still wanted, seconds
LOOK_S = 0.05

Body = Callable[[Gust, JobContext, Run], None]
Handler = Callable[[Gust, JobContext], dict[str, str]]


def recorded(body: Body) -> Handler:
    """Write down when a run begins and how it ends; its result is the name under which it did so."""

    @functools.wraps(body)
    def handler(payload: Gust, job: JobContext) -> dict[str, str]:
        run = _writer(payload.ledger).run(job.job_id, job.attempt, job.token)
        try:
            body(payload, job, run)
        except JobCancelled:
            run.ended("cancelled")
            raise
        except LeaseLost:
            run.ended("lost")
            raise
        except Exception:
            run.ended("raised")
            raise
        run.ended("done")
        return {"run": run.name}

    return handler


@functools.cache
def _writer(path: str) -> Writer:
    return Writer(Path(path))


@recorded
def quick(payload: Gust, job: JobContext, run: Run) -> None:
    """Take a few milliseconds."""
    time.sleep(payload.work_ms / 1000)


@recorded
def flaky(payload: Gust, job: JobContext, run: Run) -> None:
    """Fail the first attempts."""
    if job.attempt <= payload.failures:
        raise OSError(f"attempt {job.attempt} has no luck")


@recorded
def doomed(payload: Gust, job: JobContext, run: Run) -> None:
    """Fail every time."""
    raise OSError("never any luck")


@recorded
def refused(payload: Gust, job: JobContext, run: Run) -> None:
    """Fail once and for all."""
    raise PermanentError("This cannot be done.")


@recorded
def parent(payload: Gust, job: JobContext, run: Run) -> None:
    """Add another job; a repeat adds the same one."""
    queue, _ = split_job_id(payload.child)
    child = NewJob(
        payload.child, "storm.quick", encode_payload({"ledger": payload.ledger, "work_ms": 1}), max_stalls=MOST_STALLS
    )
    engine = _broker().engine
    patiently(lambda: engine.add(queue, [child]))
    run.note("added", payload.child)


@recorded
def report(payload: Gust, job: JobContext, run: Run) -> None:
    """Go on from the checkpoint, and report after every step."""
    stored = patiently(job.checkpoint.load)
    done = int(stored or b"0")
    run.note("loaded", done)
    while done < payload.steps:
        time.sleep(payload.work_ms / 1000)
        done += 1
        job.progress(100 * done / payload.steps, f"step {done}")
        job.log(f"step {done}")
        state = str(done).encode()
        patiently(functools.partial(job.checkpoint.save, state))
        run.note("saved", done)


@recorded
def steady(payload: Gust, job: JobContext, run: Run) -> None:
    """Work for a second or so, and stop when asked to."""
    end = time.monotonic() + payload.work_ms / 1000
    while time.monotonic() < end:
        job.raise_if_cancelled()
        time.sleep(LOOK_S)


@recorded
def poison(payload: Gust, job: JobContext, run: Run) -> None:
    """Take the whole process along, as the kernel does when memory runs out."""
    run.note("dies", 0)
    os.kill(os.getpid(), signal.SIGKILL)


def patiently(call: Callable[[], T]) -> T:
    """Repeat a call while the server is away, which is no failure of the job's."""
    while True:
        try:
            return call()
        except EngineUnavailable:
            time.sleep(0.1)


def _broker() -> JobBroker:
    broker = dramatiq.get_broker()
    assert isinstance(broker, JobBroker)
    return broker
