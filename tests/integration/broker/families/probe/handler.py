"""Handlers that write down each run, and wait for the test where it wants them to."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from shared.broker.relay import RelayThread
from shared.context import JobContext
from tests.integration.broker.families.probe.contract import Probe


def write_down(payload: Probe, event: str) -> None:
    """Append a line ``event name pid``; lines this short are written whole."""
    with (Path(payload.folder) / "runs").open("a") as runs:
        runs.write(f"{event} {payload.name} {os.getpid()}\n")


def note(payload: Probe, job: JobContext) -> int:
    """Run once through."""
    write_down(payload, "ran")
    return os.getpid()


note_other = note


def brief(payload: Probe, job: JobContext) -> None:
    """Take ten milliseconds."""
    time.sleep(0.01)
    write_down(payload, "ran")


def gated(payload: Probe, job: JobContext) -> int:
    """Run until the test opens the gate, or the job is cancelled."""
    write_down(payload, "began")
    while not (Path(payload.folder) / "open").exists():
        job.raise_if_cancelled()
        time.sleep(0.01)
    write_down(payload, "ended")
    return os.getpid()


async def gated_async(payload: Probe, job: JobContext) -> int:
    """Do the same on the event loop."""
    write_down(payload, "began")
    while not (Path(payload.folder) / "open").exists():
        await asyncio.sleep(0.01)
    write_down(payload, "ended")
    return os.getpid()


def fail(payload: Probe, job: JobContext) -> None:
    """Fail every time."""
    raise OSError("no luck")


def die(payload: Probe, job: JobContext) -> None:
    """Take the whole process along, as the kernel does when memory runs out."""
    write_down(payload, "began")
    os.kill(os.getpid(), signal.SIGKILL)


def deaf(payload: Probe, job: JobContext) -> None:
    """Sit in native code that never lets go of the interpreter, beside a child that ignores what it may."""
    ignoring = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", ignoring])
    with (Path(payload.folder) / "runs").open("a") as runs:
        runs.write(f"child {payload.name} {child.pid}\n")
    write_down(payload, "began")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    ctypes.PyDLL(None).sleep(600)


def leave(payload: Probe, job: JobContext) -> str:
    """Leave three jobs behind, when the gate is open; the first process dies between the commit and their way on."""
    ids = [
        job.enqueue("probe.note_other", {"folder": payload.folder, "name": f"{payload.name}-{number}"})
        for number in range(3)
    ]
    if payload.secret == "die-after-commit" and not (Path(payload.folder) / "died").exists():
        RelayThread.relay = _die_instead(payload)  # type: ignore[method-assign, assignment]
        return ",".join(ids)
    gated(payload, job)
    return ",".join(ids)


def _die_instead(payload: Probe) -> Callable[[RelayThread, str], None]:
    def relay(self: RelayThread, queue: str) -> None:
        (Path(payload.folder) / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)

    return relay
