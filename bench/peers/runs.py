"""What every Python peer's program shares: the payload, the count of runs, the pace, the protocol.

Only the standard library, since it is imported in the peers' environments.
"""

from __future__ import annotations

import asyncio
import json
import logging
import mmap
import os
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: bytes of a job's argument
PAYLOAD = "x" * 200
#: jobs a second while latency is measured, far below what any peer can do
PACE_PER_S = 50
#: jobs of one bulk call
CHUNK = 1_000
#: coroutines that send in parallel; each may open a connection
SENDERS = 50
#: where runs are counted, given by the measuring process
FOLDER = "CALLBOARD_BENCH_FOLDER"
#: counters of eight bytes, one for each process, by its id
SLOTS = 4096

#: called with the server's URL, the concurrency and the number of jobs
Action = Callable[[str, int, int], "dict[str, Any] | None"]


class _Runs:
    """Counts in memory that the measuring process sees: a file would be a system call, and threads switch there."""

    def __init__(self, folder: Path) -> None:
        with (folder / "runs").open("r+b") as file:
            self._counters = memoryview(mmap.mmap(file.fileno(), SLOTS * 8)).cast("Q")
        self._starts = os.open(folder / "starts", os.O_WRONLY | os.O_APPEND)
        self._mutex = threading.Lock()
        self._enter()
        os.register_at_fork(after_in_child=self._enter)

    def _enter(self) -> None:
        self._slot = os.getpid() % SLOTS

    def ran(self) -> None:
        with self._mutex:
            self._counters[self._slot] += 1

    def started(self, sent: float) -> None:
        os.write(self._starts, struct.pack("<d", time.monotonic() - sent))
        self.ran()


_runs = _Runs(Path(os.environ[FOLDER])) if FOLDER in os.environ else None


def ran() -> None:
    """Count a run of the no-op job."""
    if _runs is not None:
        _runs.ran()


def started(sent: float) -> None:
    """Note how long after ``sent`` (monotonic seconds, the same clock in every process) a job starts."""
    if _runs is not None:
        _runs.started(sent)


def ready() -> None:
    """Say that this worker waits for jobs."""
    print('{"ready": true}', flush=True)


def timed(jobs: int, send: Callable[[], object]) -> dict[str, Any]:
    """Send them all; gives jobs a second."""
    began = time.monotonic()
    send()
    return {"jobs_per_s": jobs / (time.monotonic() - began)}


def one_by_one(jobs: int, send: Callable[[], object]) -> dict[str, Any]:
    """Call ``send`` for each job, the next when the last is answered."""
    return timed(jobs, lambda: [send() for _ in range(jobs)])


async def one_by_one_async(jobs: int, send: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """As :func:`one_by_one`."""
    began = time.monotonic()
    for _ in range(jobs):
        await send()
    return {"jobs_per_s": jobs / (time.monotonic() - began)}


async def parallel_async(jobs: int, send: Callable[[], Awaitable[object]]) -> dict[str, Any]:
    """Send from as many coroutines as :data:`SENDERS`, each the next job when its last is answered."""
    left = iter(range(jobs))

    async def sender() -> None:
        for _ in left:
            await send()

    began = time.monotonic()
    await asyncio.gather(*(sender() for _ in range(SENDERS)))
    return {"jobs_per_s": jobs / (time.monotonic() - began)}


def chunks(jobs: int) -> list[int]:
    """Sizes of the bulk calls for so many jobs."""
    return [min(CHUNK, jobs - start) for start in range(0, jobs, CHUNK)]


def pace(jobs: int, send: Callable[[float], object]) -> dict[str, Any]:
    """Send at an even pace; ``send`` takes the time at which it is called."""
    began = time.monotonic()
    for number in range(jobs):
        time.sleep(max(0.0, began + number / PACE_PER_S - time.monotonic()))
        send(time.monotonic())
    return {"sent": jobs}


async def pace_async(jobs: int, send: Callable[[float], Awaitable[object]]) -> dict[str, Any]:
    """As :func:`pace`."""
    began = time.monotonic()
    for number in range(jobs):
        await asyncio.sleep(max(0.0, began + number / PACE_PER_S - time.monotonic()))
        await send(time.monotonic())
    return {"sent": jobs}


def main(package: str, actions: Mapping[str, Action]) -> None:
    """Do what the command line asks for, and print what was measured."""
    action, url, concurrency, jobs = sys.argv[1:]
    if action == "version":
        print(json.dumps({"version": version(package)}))
        return
    logging.disable(logging.WARNING)
    measured = actions[action](url, int(concurrency), int(jobs))
    if measured is not None:
        print(json.dumps(measured), flush=True)
