"""A plain Dramatiq program on the stock broker, whose worker looks for dead ones as often as it can."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dramatiq
from dramatiq.brokers.redis import RedisBroker

FOLDER = Path(os.environ["PROGRAM_FOLDER"])

dramatiq.set_broker(RedisBroker(url=os.environ["REDIS_URL"], heartbeat_timeout=300, maintenance_chance=1_000_000))


@dramatiq.actor(max_retries=1, min_backoff=10)
def die(name):
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"began {name} {os.getpid()}\n")
    os.kill(os.getpid(), signal.SIGKILL)
