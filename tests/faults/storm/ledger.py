"""What happened, as those say who did it: a file beside the queue, which no fault of the queue can touch.

A line is a JSON array. Each is written by one call to a file opened for appending, so that lines of several processes
do not mix, and a process that is killed leaves whole lines.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


def now_ms() -> float:
    """Give the time of day, however wrong the process's clock is made to go."""
    return time.clock_gettime(time.CLOCK_REALTIME) * 1000


def pid_of(worker: str) -> int:
    """Read the process out of the name of a worker, ``host:pid:random``."""
    return int(worker.split(":")[-2])


class Writer:
    """Appends to a ledger.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, *values: Any) -> None:
        os.write(self._file, json.dumps([*values, round(now_ms(), 3)]).encode() + b"\n")

    def run(self, job_id: str, attempt: int, token: int) -> Run:
        """Write down that a run begins."""
        run = Run(self, f"{os.getpid()}-{secrets.token_hex(6)}")
        self.write("began", run.name, job_id, attempt, token, os.getpid())
        return run


class Run:
    """A run that is under way."""

    def __init__(self, writer: Writer, name: str) -> None:
        self._writer = writer
        self.name = name

    def note(self, what: str, value: Any) -> None:
        self._writer.write("note", self.name, what, value)

    def ended(self, how: str) -> None:
        self._writer.write("ended", self.name, how)


@dataclass
class Execution:
    """A run as it is read back; times are milliseconds since the epoch."""

    name: str
    job_id: str
    attempt: int
    token: int
    pid: int
    began_ms: float
    #: done, raised, cancelled, lost; None when its process died
    how: str | None = None
    ended_ms: float | None = None
    #: (what, value, at)
    notes: list[tuple[str, Any, float]] = field(default_factory=list)


@dataclass
class Ledger:
    """Everything that was written down."""

    #: by name
    runs: dict[str, Execution] = field(default_factory=dict)
    #: of each job, in the order in which they began
    runs_of: dict[str, list[Execution]] = field(default_factory=lambda: defaultdict(list))
    #: jobs whose producer was told that they are added
    acknowledged: set[str] = field(default_factory=set)
    #: what the canceller was told, by job: a state, ``finished`` or ``not found``
    cancels: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    #: adds that were refused or not answered, and repeated
    refusals: int = 0


def read(path: Path) -> Ledger:
    """Read a ledger."""
    ledger = Ledger()
    with path.open() as lines:
        for line in lines:
            if not line.endswith("\n"):
                break  # it is being written
            kind, *values, at_ms = json.loads(line)
            _TAKE[kind](ledger, at_ms, *values)
    return ledger


def _began(ledger: Ledger, at_ms: float, name: str, job_id: str, attempt: int, token: int, pid: int) -> None:
    run = ledger.runs[name] = Execution(name, job_id, attempt, token, pid, at_ms)
    ledger.runs_of[job_id].append(run)


def _ended(ledger: Ledger, at_ms: float, name: str, how: str) -> None:
    ledger.runs[name].how, ledger.runs[name].ended_ms = how, at_ms


def _note(ledger: Ledger, at_ms: float, name: str, what: str, value: Any) -> None:
    run = ledger.runs[name]
    run.notes.append((what, value, at_ms))
    if what == "added":
        ledger.acknowledged.add(value)


def _acknowledged(ledger: Ledger, at_ms: float, *job_ids: str) -> None:
    ledger.acknowledged.update(job_ids)


def _refused(ledger: Ledger, at_ms: float) -> None:
    ledger.refusals += 1


def _cancelled(ledger: Ledger, at_ms: float, job_id: str, answer: str) -> None:
    ledger.cancels[job_id].append(answer)


_TAKE: dict[str, Callable[..., None]] = {
    "began": _began,
    "ended": _ended,
    "note": _note,
    "acknowledged": _acknowledged,
    "refused": _refused,
    "cancel": _cancelled,
}
