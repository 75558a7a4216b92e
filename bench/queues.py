"""Callboard and stock Dramatiq on one server, interleaved."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from typing import Any

from rich.progress import Progress

from bench.server import Meter, queue_server

PEERS = ("callboard", "dramatiq")
THREADS = (1, 8, 32)
#: jobs of a drain by threads: about as long for each, and long enough that start-up does not show
DRAIN_JOBS = {1: 3_000, 8: 16_000, 32: 30_000}
ENQUEUE_JOBS = 4_000
LATENCY_JOBS = 500
MEMORY_JOBS = 20_000
ROUNDS = 3

Figures = dict[str, dict[str, dict[str, float]]]


def child(peer: str, action: str, url: str, threads: int, jobs: int) -> dict[str, float]:
    """Run one action in a process of its own; gives what it measured.

    Raises:
        RuntimeError: when it failed, with what it wrote.
    """
    command = [sys.executable, "-m", "bench.program", peer, action, url, str(threads), str(jobs)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise RuntimeError(f"{peer} {action} failed:\n{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def run(rounds: int = ROUNDS) -> Figures:
    """Measure everything; gives ``{measurement: {peer: {figure: median}}}``."""
    samples: dict[str, dict[str, dict[str, list[float]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    steps = [(f"drain, {n} threads", drain, n) for n in THREADS]
    steps += [(f"enqueue, {n} threads", enqueue, n) for n in THREADS]
    steps += [("enqueue to start, idle, 50/s", latency, 8), ("memory", memory, 8)]
    with queue_server() as url, Progress() as progress:
        meter = Meter(url)
        task = progress.add_task("queues", total=len(steps) * rounds * len(PEERS))
        for number in range(rounds):
            for name, measure, threads in steps:
                # In turn, and each first as often as the other: the machine's speed drifts.
                for peer in PEERS if number % 2 == 0 else reversed(PEERS):
                    meter.clear()
                    for figure, value in measure(peer, url, threads, meter).items():
                        samples[name][peer][figure].append(value)
                    progress.advance(task)
    return {
        name: {
            peer: {figure: statistics.median(values) for figure, values in figures.items()}
            for peer, figures in peers.items()
        }
        for name, peers in samples.items()
    }


def drain(peer: str, url: str, threads: int, meter: Meter) -> dict[str, float]:
    """Run jobs that wait already."""
    jobs = DRAIN_JOBS[threads]
    child(peer, "enqueue", url, 8, jobs)
    meter.reset()
    measured = child(peer, "drain", url, threads, jobs)
    measured["script_calls_per_job"] = meter.script_calls() / jobs
    measured["server_cpu_us_per_job"] = meter.cpu_s() / jobs * 1e6
    return measured


def enqueue(peer: str, url: str, threads: int, meter: Meter) -> dict[str, float]:
    """Send jobs one by one."""
    measured = child(peer, "enqueue", url, threads, ENQUEUE_JOBS)
    measured["server_cpu_us_per_job"] = meter.cpu_s() / ENQUEUE_JOBS * 1e6
    return measured


def latency(peer: str, url: str, threads: int, meter: Meter) -> dict[str, float]:  # noqa: ARG001
    """Send jobs to an idle worker."""
    return child(peer, "latency", url, threads, LATENCY_JOBS)


def memory(peer: str, url: str, threads: int, meter: Meter) -> dict[str, float]:
    """Let jobs wait, and then finish."""
    before = meter.memory_bytes()
    child(peer, "enqueue", url, threads, MEMORY_JOBS)
    return {"bytes_per_waiting_job": (meter.memory_bytes() - before) / MEMORY_JOBS}


def rows(figures: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """Flatten to (measurement, figure, Callboard, stock Dramatiq)."""
    return [
        (name, figure, value, peers["dramatiq"][figure])
        for name, peers in figures.items()
        for figure, value in peers["callboard"].items()
    ]
