"""A worker of one queue; the test says its limits."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import dramatiq

from shared.broker.broker import JobBroker
from shared.contracts.queue import QueueContract, QueueLimits, RateLimit, Retention

RUNS = Path(os.environ["PROGRAM_FOLDER"]) / f"runs-{os.getpid()}"
LIMITS = json.loads(os.environ["PROGRAM_LIMITS"])
for rate in ("rate", "group_rate"):
    if rate in LIMITS:
        LIMITS[rate] = RateLimit(*LIMITS[rate])
# The test reads every job's record in the end.
QUEUE = QueueContract(
    "limited", concurrency=64, limits=QueueLimits(**LIMITS), retention=Retention(completed_count=1_000_000)
)

dramatiq.set_broker(
    JobBroker(url=os.environ["REDIS_URL"], namespace=os.environ["CALLBOARD_NAMESPACE"], queues={QUEUE.name: QUEUE})
)


@dramatiq.actor(queue_name=QUEUE.name, max_retries=0)
def hold(ms):
    began = time.time()
    time.sleep(ms / 1000)
    with RUNS.open("a") as runs:
        runs.write(f"{began * 1000:.3f} {time.time() * 1000:.3f}\n")
