"""What a call costs the server in a queue of a thousand jobs and in one of a million.

Both queues are on one server, and calls are made to both in turn, a few at a time: what differs is the length of the
queue, and not how much memory the server walks through. A call's cost is what the server says that its script took, in
the best of many rounds, since whatever else the machine does only adds to it; the way to the server is not in it. The
number of commands that a script runs is counted too: it does not depend on the machine.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import redis
from rich.progress import Progress
from rich.table import Table

from bench.server import queue_server
from shared.contracts.queue import QueueContract
from shared.engine.engine import Finish, LeasedJob, NewJob, Outcome
from shared.engine.keys import Keys, new_job_id
from shared.engine.redis import RedisEngine
from shared.engine.states import State

FEW, MANY = 1_000, 1_000_000
GROUPS, GROUP_SIZE = 1_000, 200
#: rounds, and how often a call is made in each
ROUNDS, TIMES = 40, 5
ADD_AT_ONCE = 1_000
#: jobs in a cycle that takes as many as it finishes
BATCH = 10
#: finished jobs that a queue keeps by default, and a batch more, so that each cycle removes some
KEPT = 1_050
#: jobs of a page by default
PAGE = 50
PRIORITY = 2
#: jobs that are looked up before the measurement, for calls that name one
SAMPLES = 250
BODY = b'{"a":[{"id":12345678}]}'

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Cost:
    """What one call takes: microseconds of the server, and the commands that its script runs."""

    us: float
    commands: float


@dataclass(frozen=True)
class Call:
    """Something to measure, and what puts the queue back to its size afterwards."""

    make: Callable[[], object]
    undo: Callable[[], object] = lambda: None


class Filled:
    """A queue with jobs that wait.

    Args:
        url: the server.
        queue: its name.
        grouped: how many jobs a group has; None for jobs without a group.
    """

    def __init__(self, url: str, queue: str, grouped: int | None = None) -> None:
        self.engine = RedisEngine.from_url(url)
        self._client = redis.Redis.from_url(url)
        self._queue = queue
        self._contract = QueueContract(queue)
        self._grouped = grouped
        self._held: list[LeasedJob] = []
        #: some that wait, from all over the queue
        self._waiting: list[str] = []
        self._cursor = ""

    def close(self) -> None:
        """Close the connections."""
        self.engine.close()
        self._client.close()

    def fill(self, jobs: int, advance: Callable[[int], None] = lambda _: None) -> None:
        """Add jobs, and get to where the queue stays: some run, and as many finished ones are kept as may be."""
        self.add(KEPT)
        for _ in range(KEPT // BATCH):
            self.cycle(BATCH)
        for start in range(0, jobs, ADD_AT_ONCE):
            batch = [self._job(number) for number in range(start, min(jobs, start + ADD_AT_ONCE))]
            self.engine.add(self._queue, batch)
            advance(len(batch))
        # A rewrite of the append-only file takes processor time, and copies the pages that change meanwhile.
        self._client.config_set("auto-aof-rewrite-percentage", 0)
        while self._client.info("persistence")["aof_rewrite_in_progress"]:
            time.sleep(0.1)
        self._look_around(jobs)

    def _look_around(self, jobs: int) -> None:
        key = Keys("cb", self._queue).state("waiting" if self._grouped is None else "grouped")
        ids = [
            self.engine.server.call("ZRANGE", key, rank, rank)[0].decode() for rank in range(0, jobs, jobs // SAMPLES)
        ][:SAMPLES]
        middle = ids[len(ids) // 2]
        self._cursor = f"{self._client.zscore(key, middle):.0f}:{middle}"
        self._waiting = [f"{self._queue}.{local_id}" for local_id in ids]

    def _job(self, number: int) -> NewJob:
        group = None if self._grouped is None else f"tenant-{number // self._grouped}"
        return NewJob(new_job_id(self._queue), "noop", BODY, group=group)

    def add(self, count: int) -> None:
        """Add jobs in one call."""
        self.engine.add(self._queue, [self._job(next(_numbers) % FEW) for _ in range(count)])

    def cycle(self, want: int) -> None:
        """Finish what is held, and take others."""
        finishes = [Finish(job.id, job.token, Outcome.COMPLETE) for job in self._held]
        request = str(next(_numbers))
        reply = self.engine.cycle(
            self._contract, worker="w", request=request, repeat=False, want=want, lease_ms=600_000, finishes=finishes
        )
        self._held = reply.jobs
        assert len(self._held) == want

    def _list(self, cursor: str | None) -> None:
        assert len(self.engine.list(self._queue, State.WAITING, cursor=cursor).jobs) == PAGE

    def _reprioritise(self) -> None:
        self.engine.reprioritise(self._waiting[next(_numbers) % len(self._waiting)], PRIORITY)

    def calls(self) -> dict[str, Call]:
        """Give what is measured; those first that find jobs where they stood at the beginning."""
        return {
            "counts": Call(lambda: self.engine.counts(self._queue)),
            "list, the first page": Call(lambda: self._list(None)),
            "list, a page from the middle": Call(lambda: self._list(self._cursor)),
            "reprioritise": Call(self._reprioritise),
            "cancel": Call(lambda: self.engine.cancel(self._waiting.pop()), lambda: self.add(1)),
            "cycle, 10 ends and 10 starts": Call(lambda: self.cycle(BATCH), lambda: self.add(BATCH)),
            "add, 1 job": Call(lambda: self.add(1), lambda: self.cycle(1)),
            "add, 100 jobs": Call(lambda: self.add(100), lambda: self.cycle(100)),
        }

    def take(self, call: Call, times: int) -> Cost:
        """Make a call so many times; gives what one took of the server on average."""
        began = self._spent()
        for _ in range(times):
            call.make()
        ended = self._spent()
        for _ in range(times):
            call.undo()
        return Cost((ended.us - began.us) / times, (ended.commands - began.commands) / times)

    def _spent(self) -> Cost:
        stats: dict[str, Any] = self._client.info("commandstats")
        # What tells us this is no part of the calls.
        commands = sum(stat["calls"] for name, stat in stats.items() if name != "cmdstat_info")
        return Cost(stats["cmdstat_evalsha"]["usec"], commands)


def compare(few: Filled, many: Filled, rounds: int) -> dict[str, tuple[Cost, Cost]]:
    """Make every call to both in turn; gives what it costs each."""
    costs = {}
    ours, theirs = few.calls(), many.calls()
    for name, call in ours.items():
        taken: list[tuple[Cost, Cost]] = []
        for number in range(rounds):
            # Each first as often as the other.
            if number % 2:
                cost = many.take(theirs[name], TIMES)
                taken.append((few.take(call, TIMES), cost))
            else:
                taken.append((few.take(call, TIMES), many.take(theirs[name], TIMES)))
        costs[name] = (_typical([cost for cost, _ in taken]), _typical([cost for _, cost in taken]))
    return costs


def _typical(taken: list[Cost]) -> Cost:
    # What else the machine does only ever adds.
    return Cost(min(cost.us for cost in taken), statistics.median(cost.commands for cost in taken))


def measure(
    few_jobs: int,
    many_jobs: int,
    grouped: int | None,
    advance: Callable[[int], None] = lambda _: None,
    *,
    rounds: int = ROUNDS,
) -> dict[str, tuple[Cost, Cost]]:
    """Fill two queues and compare them."""
    with (
        queue_server() as url,
        closing(Filled(url, "few", grouped)) as few,
        closing(Filled(url, "many", grouped)) as many,
    ):
        few.fill(few_jobs)
        many.fill(many_jobs, advance)
        return compare(few, many, rounds)


def run() -> dict[str, Any]:
    """Measure; gives ``{queue: {call: figures}}``."""
    results: dict[str, Any] = {}
    shapes = {
        f"{MANY:,} jobs": (MANY, None),
        f"{GROUPS:,} groups of {GROUP_SIZE} jobs": (GROUPS * GROUP_SIZE, GROUP_SIZE),
    }
    with Progress() as progress:
        for name, (jobs, grouped) in shapes.items():
            task = progress.add_task(name, total=jobs)
            costs = measure(FEW, jobs, grouped, lambda count, task=task: progress.advance(task, count))  # type: ignore[misc]
            results[name] = {
                call: {
                    "few_us": few.us,
                    "many_us": many.us,
                    "ratio": many.us / few.us,
                    "few_commands": few.commands,
                    "many_commands": many.commands,
                }
                for call, (few, many) in costs.items()
            }
    return results


def tables(results: dict[str, Any]) -> list[Table]:
    """One table a queue."""
    made = []
    for name, calls in results.items():
        table = Table(title=f"Server time of a call, µs: {FEW:,} jobs wait, and {name}")
        for column in ("call", "ratio", f"{FEW:,} jobs", name, "commands", "commands"):
            table.add_column(column, justify="left" if column == "call" else "right")
        for call, found in calls.items():
            cells = (f"{found['few_us']:,.0f}", f"{found['many_us']:,.0f}")
            commands = (f"{found['few_commands']:,.1f}", f"{found['many_commands']:,.1f}")
            table.add_row(call, f"{found['ratio']:.2f}", *cells, *commands)
        made.append(table)
    return made
