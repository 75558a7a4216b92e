"""The job types of the storm."""

from __future__ import annotations

from shared.contracts import FamilyContract, FixedBackoff, JobContract, Payload, QueueContract
from shared.contracts.queue import Retention

HANDLERS = "tests.faults.storm.families.storm.handler"
#: what a job of each type may fail before it has failed for good; no other type's does
ATTEMPTS = {"doomed": 2}
#: no number of kills makes another job give up
MOST_STALLS = 1_000
POISON_STALLS = 2
#: everything stays until it was looked at
KEEP = Retention(completed_count=10**7, failed_count=10**7)


class Gust(Payload):
    """Input of every job here."""

    #: file in which runs are written down
    ledger: str
    #: how long it works, milliseconds
    work_ms: int = 0
    #: flaky: attempts that fail
    failures: int = 0
    #: report: how many times it saves a checkpoint
    steps: int = 0
    #: parent: the job that it adds
    child: str = ""


def _job(action: str, queue: str = "storm-quick", *, max_stalls: int = MOST_STALLS) -> JobContract:
    return JobContract(
        type=f"storm.{action}",
        queue=queue,
        payload=Gust,
        handler=f"{HANDLERS}:{action}",
        attempts=ATTEMPTS.get(action, 4),
        backoff=FixedBackoff(50),
        max_stalls=max_stalls,
    )


FAMILY = FamilyContract(
    name="storm",
    queues=(
        QueueContract("storm-quick", concurrency=8, retention=KEEP),
        QueueContract("storm-long", concurrency=8, retention=KEEP),
    ),
    jobs=(
        _job("quick"),
        _job("flaky"),
        _job("doomed"),
        _job("refused"),
        _job("parent"),
        _job("report", "storm-long"),
        _job("steady", "storm-long"),
        _job("poison", "storm-long", max_stalls=POISON_STALLS),
    ),
)
