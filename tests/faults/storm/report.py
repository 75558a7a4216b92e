"""The figures of a storm."""

from __future__ import annotations

import json
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from shared.engine.engine import JobRecord
from tests.faults.storm.ledger import Ledger, pid_of
from tests.faults.storm.site import Fault, Site

#: kinds of fault that take a worker from the jobs that it runs
TAKES_WORKER = ("worker killed", "worker frozen", "worker killed by its job")


@dataclass
class Recovery:
    """From faults that took workers away to the next start of each job that they held, milliseconds."""

    #: until the queue had the job back
    back_ms: list[float] = field(default_factory=list)
    #: until it began again
    took_ms: list[float] = field(default_factory=list)
    #: the same without the time in which the server itself was away
    net_ms: list[float] = field(default_factory=list)
    #: those above the bound, in words
    slow: list[str] = field(default_factory=list)


@dataclass
class Report:
    """See the module."""

    seed: int
    seconds: float
    jobs: int
    executions: int
    faults: int
    lost: list[str]
    state_errors: list[str]
    #: runs of an attempt beyond its first
    duplicates: int
    #: those of which an earlier one had come to its end already
    duplicates_done: int
    refusals: int
    #: errors in the workers' logs that nobody injected
    surprises: list[str]
    #: leases that ran out although nothing befell their worker or the server
    unexplained: list[str]
    #: interrupted jobs, and how long they waited, milliseconds
    interrupted: int
    p50_ms: float
    p99_ms: float
    longest_ms: float
    #: until the queue had them back, whatever then ran before them
    p99_back_ms: float
    #: with the time in which the server itself was away
    p99_wall_ms: float
    bound_ms: float
    slow: list[str]
    #: how many of each kind struck
    kinds: dict[str, int]
    #: kills at a script's boundary
    boundaries: dict[str, int]

    def json(self) -> dict[str, Any]:
        return asdict(self)

    def lines(self) -> list[str]:
        """Write the table for people."""
        rows = [
            ("jobs run", f"{self.jobs:,} in {self.seconds:.0f} s, {self.executions:,} executions"),
            ("faults", f"{self.faults}"),
            ("lost", f"{len(self.lost)}"),
            ("state errors", f"{len(self.state_errors)}"),
            ("duplicate executions", f"{self.duplicates}, of which {self.duplicates_done} after a run that had ended"),
            ("refused or unanswered adds, repeated", f"{self.refusals}"),
            ("leases lost without a fault", f"{len(self.unexplained)}"),
            ("unexpected errors in the workers' logs", f"{len(self.surprises)}"),
            ("jobs interrupted by a kill or a freeze", f"{self.interrupted}"),
            ("recovery p50 / p99 / longest", f"{self.p50_ms:.0f} / {self.p99_ms:.0f} / {self.longest_ms:.0f} ms"),
            ("script boundaries with a kill", f"{len(self.boundaries)}, {sum(self.boundaries.values())} kills"),
            ("bound on p99: lease + 1 s", f"{self.bound_ms:.0f} ms"),
            ("p99 until the queue had the job back", f"{self.p99_back_ms:.0f} ms"),
            ("p99 with the server's own outages in it", f"{self.p99_wall_ms:.0f} ms"),
        ]
        rows += [(f"  {kind}", f"{times}") for kind, times in sorted(self.kinds.items())]
        width = max(len(name) for name, _ in rows)
        return [f"{name:<{width}}  {value}" for name, value in rows]


def all_faults(site: Site, ledger: Ledger) -> list[Fault]:
    """Give what was done, and what jobs did to their workers."""
    suicides = [
        Fault("worker killed by its job", run.job_id, pid=run.pid, at_ms=at_ms)
        for run in ledger.runs.values()
        for what, _, at_ms in run.notes
        if what == "dies"
    ]
    return sorted([*site.faults, *suicides], key=lambda fault: fault.at_ms or 0)


def duplicates(ledger: Ledger) -> tuple[int, int]:
    """Count the runs of an attempt beyond its first, and those after one that had come to its end."""
    again = done = 0
    for runs in ledger.runs_of.values():
        ended: Counter[int] = Counter()
        seen: set[int] = set()
        for run in runs:
            again += run.attempt in seen
            done += bool(ended[run.attempt])
            seen.add(run.attempt)
            ended[run.attempt] += run.how in ("done", "raised")
    return again, done


def recovery(
    jobs: Mapping[str, JobRecord],
    ledger: Ledger,
    faults: Sequence[Fault],
    outages: Sequence[tuple[float, float]],
    bound_ms: float,
) -> Recovery:
    """Find each job that a kill or a freeze interrupted, and when it began again.

    A run that was interrupted is one that the queue recorded as stalled, with a worker that was killed or frozen
    meanwhile. The job began again when its next run did; where that one's worker died before the job's first line,
    when it was leased.
    """
    found = Recovery()
    by_pid: dict[int, list[Fault]] = {}
    for taken in faults:
        if taken.kind.startswith(TAKES_WORKER) and taken.pid is not None:
            by_pid.setdefault(taken.pid, []).append(taken)
    for job in jobs.values():
        for entry, following in zip(job.attempts, job.attempts[1:], strict=False):
            if entry["outcome"] != "stalled":
                continue
            fault = _cause(entry, by_pid.get(pid_of(entry["worker"]), []))
            if fault is None or fault.at_ms is None:
                continue
            again_ms = _began_again(job.id, following, ledger)
            took_ms = again_ms - fault.at_ms
            away_ms = _away(fault.at_ms, again_ms, outages)
            back_ms = float(entry["ended_ms"])
            found.back_ms.append(back_ms - fault.at_ms - _away(fault.at_ms, back_ms, outages))
            found.took_ms.append(took_ms)
            found.net_ms.append(took_ms - away_ms)
            if took_ms - away_ms > bound_ms:
                found.slow.append(f"{job.id}: {took_ms:.0f} ms (server away {away_ms:.0f}) after {fault}: {following}")
    return found


def unexplained_stalls(
    jobs: Mapping[str, JobRecord], faults: Sequence[Fault], outages: Sequence[tuple[float, float]], slack_ms: float
) -> list[str]:
    """Name the leases that ran out although neither their worker, its connections nor the server had a fault."""
    by_pid: dict[int | None, list[Fault]] = {}
    for fault in faults:
        if not fault.kind.startswith("client's clock"):
            by_pid.setdefault(fault.pid, []).append(fault)
    found = []
    for job in jobs.values():
        for entry in job.attempts:
            if entry["outcome"] != "stalled":
                continue
            start, end = entry["started_ms"] - slack_ms, entry["ended_ms"]
            near = [
                fault
                for fault in by_pid.get(pid_of(entry["worker"]), [])
                if (fault.at_ms or 0) <= end and start <= (fault.until_ms or fault.at_ms or 0)
            ]
            if not near and not any(begin <= end and start <= over for begin, over in outages):
                found.append(f"{job.id}: {entry}")
    return found


def surprises(logs: Iterable[str]) -> list[str]:
    """Name the errors in workers' logs beyond those that their jobs raise and that the kills are told by."""
    found = []
    for log in logs:
        for line in log.splitlines():
            # Each line is an object but for what Dramatiq's master and the interpreter itself say.
            if not line.startswith("{"):
                if "Traceback" in line:
                    found.append(line)
                continue
            try:
                entry = json.loads(line)
            except ValueError:
                continue  # cut short by a kill
            told = str(entry.get("event", ""))
            if entry.get("level") in ("error", "critical") and not told.startswith("Failed to process message"):
                found.append(line)
    return found


def quantile(values: Sequence[float], share: float) -> float:
    """Give the smallest value that so large a share does not exceed."""
    if not values:
        return 0.0
    if share == 0.5:
        return statistics.median(values)
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def _away(start_ms: float, end_ms: float, outages: Sequence[tuple[float, float]]) -> float:
    return sum(max(0.0, min(end, end_ms) - max(start, start_ms)) for start, end in outages)


def _cause(entry: Mapping[str, Any], faults: Sequence[Fault]) -> Fault | None:
    # The lease is given by the server a moment before the proxy knows of the reply.
    near = [fault for fault in faults if entry["started_ms"] - 5 <= (fault.at_ms or 0) <= entry["ended_ms"]]
    return near[0] if near else None


def _began_again(job_id: str, following: Mapping[str, Any], ledger: Ledger) -> float:
    # A worker that was itself taken away before the job's first line had the job nevertheless.
    leased_ms, pid = float(following["started_ms"]), pid_of(following["worker"])
    ended_ms = float(following["ended_ms"] or float("inf"))
    began = [run.began_ms for run in ledger.runs_of.get(job_id, []) if run.pid == pid]
    return min((at_ms for at_ms in began if leased_ms - 5 <= at_ms <= ended_ms + 5), default=leased_ms)
