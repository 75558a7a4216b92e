"""Job types for these tests, with their handlers."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

from shared.context import JobContext
from shared.contracts import (
    Catalogue,
    FamilyContract,
    FixedBackoff,
    JobContract,
    Payload,
    QueueContract,
    QueueLimits,
)
from shared.errors import PermanentError, RetryableError

HERE = "tests.unit.inline.program"


class Note(Payload):
    """Input of every job here."""

    text: str = ""
    number: int = 0


#: texts of the jobs that ran, in order
RAN: list[str] = []
#: threads that they ran on
THREADS: list[int] = []
#: what a handler calls with its payload while it runs, if anything
HOOKS: list[Any] = []


def plain(payload: Note, job: JobContext) -> dict[str, Any]:
    RAN.append(payload.text)
    THREADS.append(threading.get_ident())
    job.progress(50, "half")
    job.log("line", text=payload.text)
    for hook in HOOKS:
        hook(payload, job)
    return {"text": payload.text, "attempt": job.attempt}


async def awaited(payload: Note, job: JobContext) -> str:
    await asyncio.sleep(0)
    return payload.text.upper()


def flaky(payload: Note, job: JobContext) -> int:
    if job.attempt <= payload.number:
        raise RetryableError(f"attempt {job.attempt}", retry_after_s=3_600)
    return job.attempt


def broken(payload: Note, job: JobContext) -> None:
    raise PermanentError("never")


def slow(payload: Note, job: JobContext) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        time.sleep(0.01)


def contract(action: str, *, handler: str | None = None, queue: str = "notes", **fields: Any) -> JobContract:
    return JobContract(
        type=f"notes.{action}",
        queue=queue,
        payload=Note,
        handler=handler or f"{HERE}:{action}",
        backoff=FixedBackoff(600_000),
        **fields,
    )


PLAIN = contract("plain")
CATALOGUE = Catalogue(
    {
        "notes": FamilyContract(
            name="notes",
            queues=(
                QueueContract("notes"),
                QueueContract("single", concurrency=1, limits=QueueLimits(concurrency=1)),
            ),
            jobs=(
                PLAIN,
                contract("awaited"),
                contract("flaky", attempts=4),
                contract("broken"),
                contract("slow", timeout_s=0.3, attempts=1),
                contract("lost", handler="tests.unit.inline.nowhere:run"),
                contract("single", handler=f"{HERE}:plain", queue="single"),
            ),
        )
    }
)
