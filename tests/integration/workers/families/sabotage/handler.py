"""Handlers that break their own process, each in the way a defect would."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, cast

import dramatiq
from dramatiq.middleware.threading import raise_thread_exception

from shared.broker.broker import JobBroker
from shared.broker.consumer import JobConsumer
from shared.broker.leases import LeaseThread
from shared.context import JobContext
from tests.integration.workers.families.sabotage.contract import Target

THAWED = threading.Event()


def write_down(payload: Target, event: str) -> None:
    """Append a line ``event name pid``; lines this short are written whole."""
    with (Path(payload.folder) / "runs").open("a") as runs:
        runs.write(f"{event} {payload.name} {os.getpid()}\n")


def nothing(payload: Target, job: JobContext) -> None:
    """Run once through."""
    write_down(payload, "ran")


def held(payload: Target, job: JobContext) -> None:
    """Run until the test opens the gate of this job or of all, whatever becomes of the lease."""
    folder = Path(payload.folder)
    write_down(payload, "began")
    while not ((folder / "open").exists() or (folder / f"open-{payload.name}").exists()):
        job.progress(50, "held")
        time.sleep(0.02)
    write_down(payload, "ended")


held_narrow = held


def kill_worker_thread(payload: Target, job: JobContext) -> None:
    """Raise a stray interrupt in a worker thread that waits for work."""
    _kill(_another("WorkerThread"))


def kill_consumer_thread(payload: Target, job: JobContext) -> None:
    """Raise a stray interrupt in the thread that fetches this job's queue."""
    _kill(_another("ConsumerThread", queue_name="sabotage"))


def stop_lease_thread(payload: Target, job: JobContext) -> None:
    """End the lease thread."""
    lease_thread = cast("JobBroker", dramatiq.get_broker()).lease_thread
    assert lease_thread is not None
    lease_thread.stop()


def freeze_lease_thread(payload: Target, job: JobContext) -> None:
    """Let the lease thread hang in its next pass."""
    LeaseThread._renew = lambda *_: time.sleep(3600)  # type: ignore[method-assign]


def freeze_consumption(payload: Target, job: JobContext) -> None:
    """Let every consumer hang at its next step, with what it has claimed."""
    THAWED.clear()
    go_on = JobConsumer.__next__

    def frozen(consumer: JobConsumer) -> Any:
        THAWED.wait()
        return go_on(consumer)

    JobConsumer.__next__ = frozen  # type: ignore[method-assign, assignment]
    threading.Thread(target=_thaw_when_told, args=(Path(payload.folder) / "thaw",), daemon=True).start()


def _thaw_when_told(word: Path) -> None:
    while not word.exists():
        time.sleep(0.02)
    THAWED.set()


def _another(kind: str, **having: object) -> threading.Thread:
    own = threading.current_thread()
    return next(
        thread
        for thread in threading.enumerate()
        if type(thread).__name__ == kind
        and thread is not own
        and all(getattr(thread, name) == value for name, value in having.items())
    )


def _kill(thread: threading.Thread) -> None:
    raise_thread_exception(thread.ident, SystemExit)
