"""All peers on one server in one run, in turn."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.progress import Progress

from bench.figures import Row, Samples, percentile
from bench.peer import OURS, PEERS, Crew, Peer
from bench.server import Meter, queue_server
from bench.workers import PeerFailed, Workers, child

#: of a drain, run before it is timed
WARM_UP_SHARE = 0.2
LATENCY_JOBS = 250
#: of a latency measurement, not counted
LATENCY_WARM_UP_JOBS = 25
#: jobs sent one by one; more for a bulk call
ENQUEUE_JOBS = 2_000
BULK_JOBS = 10_000
#: jobs of a memory measurement; peers of which a drain has few jobs get fewer
MEMORY_WARM_UP_JOBS = 100
MEMORY_JOBS, FEWER_MEMORY_JOBS, FEW = 20_000, 5_000, 2_000

DRAIN, WHOLE, LATENCY = "drain, one worker process", "drain, two worker processes", "enqueue to start, idle, 50/s"
ENQUEUE, BULK = "enqueue, one by one", "enqueue, many at once"
WAITING, KEPT = "memory, waiting job", "memory, kept finished job"


@dataclass(frozen=True)
class Step:
    """One thing to measure in a round."""

    measurement: str
    peer: Peer
    setup: str
    measure: Callable[[], dict[str, float]]


def where(step: Step) -> str:
    """Name a step for people."""
    return f"{step.measurement}: {step.peer.name}, {step.setup}"


class Contest:
    """Measures peers in rounds.

    Args:
        peers: who takes part.
        url: the server.
        console: where failures are told.
        fewer: all numbers of jobs are divided by this.
    """

    def __init__(self, peers: Iterable[Peer], url: str, console: Console, fewer: int = 1) -> None:
        self._fewer = fewer
        self._peers = list(peers)
        self._url = url
        self._console = console
        self._meter = Meter(url)
        self._client = redis.Redis.from_url(url)
        self._whole: dict[str, tuple[Crew, ...]] = {}
        self.samples = Samples()
        self.failures: list[str] = []

    def run(self, rounds: int, progress: Progress) -> None:
        """Measure everything; memory once, since it does not depend on the machine's speed."""
        task = progress.add_task("peers", total=None)
        parts: list[Callable[[], list[Step]]] = [self._drains, self._wholes, self._latencies, self._sends]
        for number in range(rounds):
            for part in [*parts, self._memories] if number == 0 else parts:
                # Each peer early as often as late: the machine's speed drifts.
                steps = part()
                for step in steps if number % 2 == 0 else reversed(steps):
                    description = f"round {number + 1}/{rounds}: {where(step)}"
                    progress.update(task, description=description)
                    if not self._console.is_terminal:
                        self._console.print(f"{time.strftime('%X')} {description}", markup=False, highlight=False)
                    self._take(step)

    def _take(self, step: Step) -> None:
        try:
            self._meter.clear()
            figures = step.measure()
        except PeerFailed as failure:
            self.failures.append(f"{step.measurement}: {failure}")
            # The last line says what, the others are in the JSON.
            self._console.print(f"failed: {where(step)}: {str(failure).splitlines()[-1]}", markup=False)
        else:
            self.samples.add(step.measurement, step.peer.name, step.setup, figures)

    # -- what a round is made of --

    def _drains(self) -> list[Step]:
        # The first set-up of all peers, then the second: so that one peer's are far apart.
        ordered = sorted(
            ((position, peer, crew) for peer in self._peers for position, crew in enumerate(peer.crews)),
            key=lambda entry: entry[0],
        )
        return [self._drain_step(DRAIN, peer, crew) for _, peer, crew in ordered]

    def _wholes(self) -> list[Step]:
        return [self._drain_step(WHOLE, peer, crew) for peer in self._peers for crew in self._whole_crews(peer)]

    def _whole_crews(self, peer: Peer) -> tuple[Crew, ...]:
        if peer.name not in self._whole:
            setup = self.samples.best_setup(DRAIN, peer.name, "jobs_per_s")
            best = next((crew for crew in peer.crews if crew.setup == setup), peer.crews[0])
            twice = replace(best, setup=f"2 processes × {best.setup}", processes=2)
            # Chosen once, so that all rounds measure the same.
            self._whole[peer.name] = peer.whole or (twice,)
        return self._whole[peer.name]

    def _latencies(self) -> list[Step]:
        return [
            Step(LATENCY, peer, peer.crews[0].setup, lambda peer=peer: self._latency(peer))  # type: ignore[misc]
            for peer in self._peers
        ]

    def _sends(self) -> list[Step]:
        steps = []
        for peer in self._peers:
            for way in peer.sends:
                measurement, jobs = (ENQUEUE, ENQUEUE_JOBS) if way == "enqueue" else (BULK, BULK_JOBS)
                # Those whose calls are slow take a while even with fewer.
                jobs = (jobs if peer.jobs > FEW or way == "enqueue" else jobs // 2) // self._fewer
                steps.append(
                    Step(measurement, peer, way, lambda peer=peer, way=way, jobs=jobs: self._send(peer, way, jobs))  # type: ignore[misc]
                )
        return steps

    def _memories(self) -> list[Step]:
        steps = [
            Step(WAITING, peer, peer.sends[-1], lambda peer=peer: self._waiting(peer))  # type: ignore[misc]
            for peer in self._peers
        ]
        return steps + [
            Step(KEPT, peer, peer.crews[0].setup, lambda peer=peer: self._kept(peer))  # type: ignore[misc]
            for peer in self._peers
            if peer.kept_by
        ]

    def _drain_step(self, measurement: str, peer: Peer, crew: Crew) -> Step:
        return Step(measurement, peer, crew.setup, lambda: self._drain(peer, crew))

    # -- how each is measured --

    def _drain(self, peer: Peer, crew: Crew) -> dict[str, float]:
        jobs = peer.jobs // crew.fewer // self._fewer * (2 if crew.processes > 1 else 1)
        child(peer, peer.sends[-1], self._url, jobs)
        if (backlog := peer.backlog(self._client)) != jobs:
            raise PeerFailed(f"{peer.name}: {jobs} jobs wait, and {backlog} are found: keys have other names now")
        with Workers(peer, crew, self._url) as workers:
            workers.expect(jobs)
            # All are up by now, and what is measured begins when they are warm.
            warm = workers.wait_until_done(int(jobs * WARM_UP_SHARE))
            self._meter.reset()
            cpu_s, began = workers.cpu_s(), time.monotonic()
            workers.wait_until_drained()
            seconds = time.monotonic() - began
            cpu_s, server_s = workers.cpu_s() - cpu_s, self._meter.cpu_s()
        jobs -= warm
        if jobs < peer.jobs // crew.fewer // self._fewer // 4:
            raise PeerFailed(f"{peer.name}, {crew.setup}: only {jobs} jobs were left when all workers were ready")
        return {
            "jobs_per_s": jobs / seconds,
            "worker_cpu_us_per_job": cpu_s / jobs * 1e6,
            "server_cpu_us_per_job": server_s / jobs * 1e6,
        }

    def _latency(self, peer: Peer) -> dict[str, float]:
        with Workers(peer, peer.crews[0], self._url) as workers:
            workers.send("latency", LATENCY_JOBS // self._fewer + LATENCY_WARM_UP_JOBS)
            workers.wait_until_drained()
            waits = workers.waits_ms()[LATENCY_WARM_UP_JOBS:]
        return {"p50_ms": percentile(waits, 0.5), "p99_ms": percentile(waits, 0.99)}

    def _send(self, peer: Peer, way: str, jobs: int) -> dict[str, float]:
        figures: dict[str, float] = child(peer, way, self._url, jobs)
        return {**figures, "server_cpu_us_per_job": self._meter.cpu_s() / jobs * 1e6}

    def _waiting(self, peer: Peer) -> dict[str, float]:
        jobs = memory_jobs(peer) // self._fewer
        # A server of its own: nothing is left there of what was measured before. The first jobs bring the scripts.
        with queue_server() as url:
            meter = Meter(url)
            child(peer, peer.sends[-1], url, MEMORY_WARM_UP_JOBS)
            before = meter.memory_bytes()
            child(peer, peer.sends[-1], url, jobs)
            return {"bytes_per_job": (meter.memory_bytes() - before) / jobs}

    def _kept(self, peer: Peer) -> dict[str, float]:
        assert peer.kept_by is not None
        jobs = memory_jobs(peer) // self._fewer
        with queue_server() as url, Workers(peer, replace(peer.crews[0], action="work-keep"), url) as workers:
            meter = Meter(url)
            workers.send(peer.kept_by, MEMORY_WARM_UP_JOBS)
            workers.wait_until_drained()
            before = meter.memory_bytes()
            workers.send(peer.kept_by, jobs)
            workers.wait_until_drained()
            return {"bytes_per_job": (meter.memory_bytes() - before) / jobs}


def memory_jobs(peer: Peer) -> int:
    """How many jobs a memory measurement of this peer takes."""
    return MEMORY_JOBS if peer.jobs > FEW else FEWER_MEMORY_JOBS


def choose(names: list[str] | None, console: Console) -> list[Peer]:
    """Give the peers asked for, ours always among them; say which cannot run here."""
    chosen = [peer for peer in PEERS if not names or peer.name in names or peer.name == OURS]
    there = []
    for peer in chosen:
        if _is_there(peer.environment):
            there.append(peer)
        else:
            npm_is_missing = peer.name == "bullmq" and shutil.which("npm") is None
            why = "npm is missing" if npm_is_missing else "it is not installed; `make bench` does that"
            console.print(f"going on without {peer.name}: {why}")
    return there


def _is_there(environment: Path) -> bool:
    return environment.exists()


@dataclass
class Outcome:
    """What a contest gave."""

    versions: dict[str, str]
    measurements: dict[str, list[Row]]
    failures: list[str]

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON-able values."""
        return {
            "versions": self.versions,
            "promises": {peer.name: asdict(peer.promises) for peer in PEERS if peer.name in self.versions},
            "measurements": {name: [asdict(row) for row in rows] for name, rows in self.measurements.items()},
            "failures": self.failures,
        }


def run(rounds: int, names: list[str] | None, console: Console, fewer: int = 1) -> Outcome:
    """Measure the peers on a server of their own; ``fewer`` divides all numbers of jobs."""
    peers = choose(names, console)
    with queue_server() as url, Progress(console=console) as progress:
        contest = Contest(peers, url, console, fewer)
        contest.run(rounds, progress)
        versions = {peer.name: str(child(replace(peer, suffix=""), "version", url, 0)["version"]) for peer in peers}
    measurements = {
        name: contest.samples.rows(name, OURS) for name in (DRAIN, WHOLE, LATENCY, ENQUEUE, BULK, WAITING, KEPT)
    }
    return Outcome(versions, measurements, contest.failures)
