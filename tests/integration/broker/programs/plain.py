"""A plain Dramatiq program, as its documentation writes them; the broker is the only line of ours."""

from __future__ import annotations

import os
import time
from pathlib import Path

import dramatiq

from shared.broker.broker import JobBroker

FOLDER = Path(os.environ["PROGRAM_FOLDER"])

dramatiq.set_broker(JobBroker(url=os.environ["REDIS_URL"], namespace=os.environ["CALLBOARD_NAMESPACE"], lease_s=5))


@dramatiq.actor(max_retries=0)
def note(name):
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"ran {name} {os.getpid()}\n")


@dramatiq.actor(max_retries=0)
def gated(name):
    with (FOLDER / "runs").open("a") as runs:
        runs.write(f"began {name} {os.getpid()}\n")
    while not (FOLDER / "open").exists():
        time.sleep(0.01)
    note.fn(name)
