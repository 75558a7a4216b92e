"""Worker processes on a queue with limits, and what the server says that they did.

Times of jobs are those of their records: milliseconds of the server's clock, at which a script leased a job or
committed its end. So what is held against a limit is what the cluster did, and not when a handler got to its first
line.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from shared.engine.engine import JobRecord, NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import to_json
from shared.engine.redis import RedisEngine
from shared.engine.states import State
from tests.integration.broker.patience import eventually
from tests.integration.broker.processes import WorkerProcess
from tests.servers import ValkeyServer

PROGRAM = "tests.faults.limits.program"
QUEUE = "limited"


@dataclass(frozen=True)
class Span:
    """A run: milliseconds since the epoch."""

    began: float
    ended: float


class Site:
    """A queue with limits, and its workers.

    Args:
        server: whose whole business this queue is.
        folder: an empty one.
    """

    def __init__(self, server: ValkeyServer, folder: Path) -> None:
        self.folder = folder
        self.engine = RedisEngine.from_url(server.url)
        self._server = server
        self._client: redis.Redis = server.client()

    def close(self) -> None:
        """Close the connections."""
        self.engine.close()
        self._client.close()

    @contextmanager
    def workers(self, limits: Mapping[str, Any], *, processes: int = 3, threads: int = 8) -> Iterator[WorkerProcess]:
        """Run that many processes of that many threads each, once all are up."""
        environment = {
            "REDIS_URL": self._server.url,
            "CALLBOARD_NAMESPACE": "cb",
            "PROGRAM_FOLDER": str(self.folder),
            "PROGRAM_LIMITS": json.dumps(limits),
        }
        with WorkerProcess(PROGRAM, self.folder, environment, processes=processes, threads=threads) as worker:
            yield worker.ready()

    def add(self, count: int, ms: float, **fields: Any) -> list[str]:
        """Add jobs that take so long."""
        body = to_json({"a": [ms]})
        jobs = [NewJob(new_job_id(QUEUE), "hold", body, **fields) for _ in range(count)]
        self.engine.add(QUEUE, jobs)
        return [job.id for job in jobs]

    def wait_until_done(self, within: float) -> None:
        """Wait until nothing waits or runs."""
        eventually(self._is_done, within=within, why="all jobs ran")

    def _is_done(self) -> bool:
        counts = self.engine.counts(QUEUE)
        return not (counts.waiting or counts.active)

    def completed(self) -> list[JobRecord]:
        """Read every job that completed."""
        found: list[JobRecord] = []
        cursor = None
        while True:
            page = self.engine.list(QUEUE, State.COMPLETED, cursor=cursor, limit=1_000)
            found += page.jobs
            if (cursor := page.cursor) is None:
                return found

    def spans(self, group: str | None = None) -> list[Span]:
        """Give when jobs (of a group) were leased and their ends committed, by their start."""
        jobs = [job for job in self.completed() if group is None or job.group == group]
        assert all(len(job.attempts) <= 1 for job in jobs), "no job ran twice"
        spans = [Span(job.started_ms or 0, job.finished_ms or 0) for job in jobs]
        return sorted(spans, key=lambda span: span.began)

    def runs(self) -> list[Span]:
        """Give when handlers were at work, as they say themselves."""
        lines = [line for path in self.folder.glob("runs-*") for line in path.read_text().splitlines()]
        return [Span(*map(float, line.split())) for line in lines]

    def processes_that_ran(self) -> int:
        """Count the processes that ran a job."""
        return len(list(self.folder.glob("runs-*")))

    def now_ms(self) -> float:
        """Tell the server's time."""
        seconds, micros = self._client.time()
        return float(seconds * 1_000 + micros / 1_000)

    def calls(self) -> int:
        """Count what clients have called so far that workers call: scripts, and waits for a wake-up."""
        stats: dict[str, Any] = self._client.info("commandstats")
        # Not LLEN, RPUSH and their like: what scripts run is counted with what clients call.
        return sum(stats.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("evalsha", "eval", "blpop"))

    def calls_a_second(self, seconds: float) -> float:
        """Watch what is called meanwhile."""
        before, began = self.calls(), time.monotonic()
        time.sleep(seconds)
        return (self.calls() - before) / (time.monotonic() - began)


def most_at_once(spans: list[Span]) -> int:
    """Tell how many ran at once at most; one that ends when another begins made room for it."""
    changes = sorted([(span.began, 1) for span in spans] + [(span.ended, -1) for span in spans])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most


def at_work(spans: list[Span], begin: float, end: float) -> float:
    """Tell how many ran on average between two times."""
    inside = [min(span.ended, end) - max(span.began, begin) for span in spans]
    return sum(ms for ms in inside if ms > 0) / (end - begin)


def busiest_window(starts: list[float], window_ms: float) -> int:
    """Count the starts of the stretch of that length that has most of them."""
    most = first = 0
    for last, start in enumerate(starts):
        while start - starts[first] >= window_ms:
            first += 1
        most = max(most, last - first + 1)
    return most
