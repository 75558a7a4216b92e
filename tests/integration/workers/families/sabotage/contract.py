"""What can be broken."""

from __future__ import annotations

from shared.contracts import FamilyContract, JobContract, Payload, QueueContract

HANDLERS = "tests.integration.workers.families.sabotage.handler"


class Target(Payload):
    """Input of every job here."""

    #: folder in which ``held`` writes itself down, and waits for a file ``open``
    folder: str = ""
    name: str = ""


def _job(action: str, queue: str = "sabotage") -> JobContract:
    return JobContract(
        type=f"sabotage.{action}", queue=queue, payload=Target, handler=f"{HANDLERS}:{action}", attempts=1
    )


FAMILY = FamilyContract(
    name="sabotage",
    queues=(QueueContract("sabotage", concurrency=8), QueueContract("narrow", concurrency=1)),
    jobs=(
        _job("nothing"),
        _job("held"),
        _job("held_narrow", "narrow"),
        _job("kill_worker_thread"),
        _job("kill_consumer_thread"),
        _job("stop_lease_thread"),
        _job("freeze_lease_thread"),
        _job("freeze_consumption"),
    ),
)
