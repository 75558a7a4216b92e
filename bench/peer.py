"""The peers: how each is started, when it has drained, and what it does for a job."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENTS = ROOT / ".venv-bench"
BULLMQ = ROOT / "bench" / "peers" / "bullmq"
#: the peer that the others stand beside
OURS = "callboard"


@dataclass(frozen=True)
class Crew:
    """The workers of one measurement."""

    setup: str
    concurrency: int
    processes: int = 1
    action: str = "work"
    #: jobs are divided by this: some set-ups are far slower than the others of their peer
    fewer: int = 1


@dataclass(frozen=True)
class Promises:
    """What a peer does for each job as it is measured here."""

    states: str
    events: str
    kept: str
    #: when a job is acknowledged, and what becomes of it when its worker dies
    delivery: str
    settings: str


@dataclass(frozen=True)
class Peer:
    """One contestant."""

    name: str
    #: program and first arguments
    command: tuple[str, ...]
    #: jobs that wait or are not acknowledged yet
    backlog: Callable[[redis.Redis], int]
    #: set-ups of one worker process
    crews: tuple[Crew, ...]
    #: jobs of a drain, for a few seconds
    jobs: int
    promises: Promises
    #: set-ups of the whole machine; two processes of the best crew when empty
    whole: tuple[Crew, ...] = ()
    #: ways to send, the first of them one by one and the last the one that fills a queue
    sends: tuple[str, ...] = ("enqueue",)
    #: further part of each action's name
    suffix: str = ""
    #: sends jobs that are kept when they have finished; None when nothing is kept
    kept_by: str | None = None
    #: whether its worker counts runs; otherwise its backlog has each job until the job has ended
    counts_runs: bool = True

    @property
    def environment(self) -> Path:
        """What must be there, made by ``make bench``."""
        return BULLMQ / "node_modules" if self.command[0] == "node" else Path(self.command[0])


def _python(environment: str, module: str) -> tuple[str, ...]:
    python = sys.executable if environment == "own" else str(ENVIRONMENTS / environment / "bin" / "python")
    return (python, "-m", f"bench.peers.{module}")


def _length(*names: str) -> Callable[[redis.Redis], int]:
    """Sum up the sizes of lists, hashes and sorted sets (``list:name``)."""
    size_of = {"list": "LLEN", "hash": "HLEN", "zset": "ZCARD"}
    commands = [(size_of[kind], name) for kind, _, name in (full.partition(":") for full in names)]

    def count(client: redis.Redis) -> int:
        # In one transaction, so that a job that moves from one to the other is seen once.
        with client.pipeline() as pipeline:
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return sum(pipeline.execute())

    return count


def _stream_backlog(client: redis.Redis) -> int:
    groups: list[dict[str, Any]] = client.xinfo_groups("taskiq")
    # The lag is unknown (None) for as long as nothing was read.
    return sum(int(group["pending"]) + (1 if group["lag"] is None else int(group["lag"])) for group in groups)


def _threads(*counts: int) -> tuple[Crew, ...]:
    return tuple(Crew(f"{count} threads", count) for count in counts)


def _slots(*counts: int) -> tuple[Crew, ...]:
    return tuple(Crew(f"concurrency {count}", count) for count in counts)


PEERS = (
    Peer(
        OURS,
        _python("own", "callboard"),
        _length("zset:{cb:bench}:waiting", "zset:{cb:bench}:active"),
        _threads(8, 16, 32),
        20_000,
        Promises(
            states="state, attempts, times",
            events="stream",
            kept="last 1,000",
            delivery="after the run; at least once, by lease (30 s), fenced",
            settings="a rate limiter that does not bind",
        ),
        sends=("enqueue", "bulk"),
        kept_by="bulk",
    ),
    Peer(
        "bullmq",
        ("node", str(BULLMQ / "bullmq.js")),
        _length("list:bull:bench:wait", "list:bull:bench:active"),
        _slots(1, 10, 50, 100),
        15_000,
        Promises(
            states="state, attempts, times",
            events="stream",
            kept="last 1,000",
            delivery="after the run; at least once, by lock (30 s)",
            settings="ioredis; removeOnComplete {count: 1000}; no limiter",
        ),
        sends=("enqueue", "parallel", "bulk"),
        kept_by="bulk",
        counts_runs=False,
    ),
    Peer(
        "dramatiq",
        _python("own", "dramatiq"),
        _length("hash:dramatiq:bench.msgs"),
        _threads(8, 16),
        6_000,
        Promises(
            states="none",
            events="none",
            kept="nothing",
            delivery="after the run; at least once, by heartbeat (60 s)",
            settings="RedisBroker, default middleware",
        ),
        whole=(Crew("2 processes × 16 threads", 16, processes=2),),
    ),
    Peer(
        "celery",
        _python("main", "celery"),
        _length("list:celery", "hash:unacked"),
        (Crew("solo", 1), *_threads(8)),
        3_000,
        Promises(
            states="none without results",
            events="none (off by default)",
            kept="nothing (ignore_result)",
            delivery="before the run (default); a job of a dead worker is lost",
            settings="prefetch × 100, no gossip, mingle or heartbeat",
        ),
        whole=(Crew("2 processes × solo", 1, processes=2), Crew("prefork 2", 2, action="work-prefork")),
        sends=("enqueue", "bulk"),
        kept_by="enqueue-keep",
    ),
    Peer(
        "rq",
        _python("main", "rq"),
        _length("list:rq:queue:bench", "zset:rq:wip:bench"),
        (Crew("SimpleWorker", 1), Crew("Worker (forks)", 1, action="work-fork", fewer=10)),
        1_500,
        Promises(
            states="state, times",
            events="none",
            kept="nothing (result_ttl=0)",
            delivery="after the run; a dead worker's job fails, or is retried if asked",
            settings="SimpleWorker: no fork for each job",
        ),
        whole=(Crew("2 processes × SimpleWorker", 1, processes=2),),
        sends=("enqueue", "bulk"),
        kept_by="bulk-keep",
    ),
    Peer(
        "arq",
        _python("arq", "arq"),
        _length("zset:arq:queue"),
        _slots(10, 100),
        3_000,
        Promises(
            states="in progress, tries",
            events="none",
            kept="nothing (keep_result=0)",
            delivery="after the run; at least once, by timeout (310 s)",
            settings="uvloop, poll_delay 10 ms (default 500)",
        ),
        sends=("enqueue", "parallel"),
        kept_by="parallel",
    ),
    Peer(
        "taskiq-list",
        _python("main", "taskiq"),
        _length("list:taskiq"),
        _slots(10, 100),
        5_000,
        Promises(
            states="none",
            events="none",
            kept="nothing",
            delivery="when fetched; a job of a dead worker is lost",
            settings="ListQueueBroker, uvloop, prefetch 100",
        ),
        sends=("enqueue", "parallel"),
    ),
    Peer(
        "taskiq-stream",
        _python("main", "taskiq"),
        _stream_backlog,
        _slots(10, 100),
        5_000,
        Promises(
            states="none",
            events="none",
            kept="the message stays in the stream",
            delivery="after the run; at least once, by idle time (10 min)",
            settings="RedisStreamBroker, uvloop, prefetch 100",
        ),
        sends=("enqueue", "parallel"),
        suffix="-stream",
    ),
    Peer(
        "huey",
        _python("main", "huey"),
        _length("list:huey.redis.bench"),
        _threads(1, 8),
        6_000,
        Promises(
            states="none",
            events="none",
            kept="nothing (results=False)",
            delivery="when fetched; a job of a dead worker is lost",
            settings="RedisHuey, blocking pops",
        ),
    ),
)
