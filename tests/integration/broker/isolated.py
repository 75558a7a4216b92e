"""Handlers that run in processes of their own, and so are found by name and share nothing with the test but files."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from shared.context import JobContext
from shared.contracts import Payload
from shared.errors import CallboardError, PermanentError, RetryableError

MIB = 1 << 20


class Task(Payload):
    """Input of the handlers here."""

    folder: str
    number: int = 0
    text: str = ""


class Sum(BaseModel):
    """A result."""

    total: int


def write(payload: Task, name: str, value: object = "") -> None:
    """Leave a word for the test; renamed, so that it is there whole or not at all."""
    path = Path(payload.folder) / name
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(str(value))
    draft.rename(path)


def facts(payload: Task, job: JobContext) -> dict[str, Any]:
    """Tell where it runs and what it was given."""
    return {
        "pid": os.getpid(),
        "group": os.getpgrp(),
        "parent": os.getppid(),
        "text": payload.text,
        "job": [job.job_id, job.attempt, job.attempts, job.owner, list(job.tags)],
        "dramatiq": "dramatiq" in sys.modules,
    }


def model(payload: Task, job: JobContext) -> Sum:
    """Give a model."""
    return Sum(total=payload.number)


async def on_loop(payload: Task, job: JobContext) -> int:
    """Run on an event loop."""
    await asyncio.sleep(0)
    return os.getpid()


def report(payload: Task, job: JobContext) -> str:
    """Use all that a context has."""
    before = job.checkpoint.load()
    job.progress(30, "reading", rows=3)
    job.log("row 7 has no key", level="warning", row=7)
    if before is None:
        job.checkpoint.save(b"\x00half")
        raise RetryableError("after the half")
    job.progress(100, "done")
    return before.decode("latin-1")


def fail(payload: Task, job: JobContext) -> None:
    """Fail as it is told."""
    if payload.text == "permanent":
        raise PermanentError("there is no such thing", path="/a")
    if payload.text == "later":
        raise RetryableError("429", retry_after_s=0.4)
    if payload.text == "unwritable":
        return object.__new__(type("Circle", (BaseModel,), {"__annotations__": {}}))  # type: ignore[return-value]
    raise OSError("a passing trouble with password=hunter2-Zx81")


def endless(payload: Task, job: JobContext) -> None:
    """Run until it is stopped, and clean up."""
    write(payload, "pid", os.getpid())
    try:
        while True:
            try:
                time.sleep(0.01)
            except Exception:
                write(payload, "swallowed")
    finally:
        write(payload, "cleaned")


async def endless_on_loop(payload: Task, job: JobContext) -> None:
    """Do the same on an event loop."""
    write(payload, "pid", os.getpid())
    try:
        await asyncio.sleep(600)
    finally:
        await asyncio.sleep(0)
        write(payload, "cleaned")


def polling(payload: Task, job: JobContext) -> str:
    """Run until it is asked to stop."""
    write(payload, "pid", os.getpid())
    while not job.cancelled:
        time.sleep(0.01)
    return "stopped by itself"


def deaf(payload: Task, job: JobContext) -> None:
    """Sit in C with the interpreter's lock held, ignoring what a process may ignore, and with a child that does too."""
    command = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(os.getpid(), flush=True)"
    child = subprocess.Popen([sys.executable, "-c", f"{command}; time.sleep(600)"], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    child.stdout.readline()
    write(payload, "grandchild", child.pid)
    write(payload, "pid", os.getpid())
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    # PyDLL keeps the lock, as native code does that never thinks of others.
    ctypes.PyDLL(None).sleep(600)


def leave_a_child(payload: Task, job: JobContext) -> str:
    """Return while a process that it started goes on."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    write(payload, "grandchild", child.pid)
    return "done"


def leave(payload: Task, job: JobContext) -> None:
    """Leave the process without a word."""
    write(payload, "pid", os.getpid())
    if payload.text == "exit":
        os._exit(payload.number)
    if payload.text == "signal":
        os.kill(os.getpid(), payload.number)
    time.sleep(600)


def take_memory(payload: Task, job: JobContext) -> int:
    """Take memory, alone or by a process that it starts."""
    if payload.text == "error":
        raise MemoryError
    if payload.text == "child":
        source = f"import time; taken = b'x' * {payload.number * MIB}; time.sleep(600)"
        return subprocess.run([sys.executable, "-c", source], check=False).returncode
    taken = []
    for _ in range(payload.number):
        taken.append(b"x" * MIB)
        time.sleep(0.002)
    return len(taken)


def crash(payload: Task, job: JobContext) -> None:
    """Read where nothing is."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    ctypes.string_at(0)


def leave_jobs(payload: Task, job: JobContext) -> Any:
    """Enqueue jobs, and some that do not fit."""
    ids = [job.enqueue("test.second", {"number": number}, {"tags": ["x"]}) for number in range(payload.number)]
    if payload.text == "fail":
        raise PermanentError("after that")
    wrong: list[tuple[str, dict[str, Any], dict[str, Any] | None]] = [
        ("test.nothing", {}, None),
        ("test.second", {"numbr": 1}, None),
        ("test.second", {}, {"priority": "urgent"}),
        ("test.second", {"text": "x" * (9 << 20)}, None),
    ]
    errors = []
    for job_type, given, options in wrong:
        try:
            job.enqueue(job_type, given, options)
        except CallboardError as error:
            errors.append((type(error).__name__, error.extra.get("errors")))
    return ids, errors


def add_up(payload: Task, job: JobContext) -> Any:
    """Give the results of the jobs that it runs after, and what they add up to."""
    ends = {job_id: [end.state, end.result, end.error and end.error["type"]] for job_id, end in job.results.items()}
    return {"ends": ends, "total": sum(end.result or 0 for end in job.results.values())}
