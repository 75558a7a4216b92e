"""What the probe family promises."""

from __future__ import annotations

from typing import Literal

from shared.contracts import FamilyContract, FixedBackoff, JobContract, Payload, QueueContract

HANDLERS = "tests.integration.broker.families.probe.handler"


class Probe(Payload):
    """Input of every probe."""

    #: folder in which the runs are written down
    folder: str
    #: name of this job in there
    name: str
    secret: str = ""


def _job(
    action: str, queue: str = "probe-jobs", *, max_stalls: int = 3, isolation: Literal["thread", "process"] = "thread"
) -> JobContract:
    return JobContract(
        type=f"probe.{action}",
        queue=queue,
        payload=Probe,
        handler=f"{HANDLERS}:{action}",
        attempts=2,
        backoff=FixedBackoff(10),
        max_stalls=max_stalls,
        isolation=isolation,
    )


FAMILY = FamilyContract(
    name="probe",
    queues=(
        QueueContract("probe-jobs", concurrency=8),
        QueueContract("probe-other", concurrency=8),
    ),
    jobs=(
        _job("note"),
        _job("brief"),
        _job("gated"),
        _job("gated_async"),
        _job("fail"),
        _job("die", max_stalls=2),
        _job("deaf", isolation="process"),
        _job("note_other", "probe-other"),
        _job("leave"),
    ),
)
