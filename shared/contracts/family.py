"""A family: queues and job types that are deployed and scaled together."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.contracts.job import JobContract
from shared.contracts.queue import QueueContract
from shared.errors import ContractError


@dataclass(frozen=True, slots=True)
class FamilyContract:
    """One family; its ``contract.py`` holds one of these under the name ``FAMILY``.

    Raises:
        ContractError: when its parts do not fit together.
    """

    #: name, as in ``WORKER_FAMILY``
    name: str
    #: queues that only this family serves
    queues: tuple[QueueContract, ...]
    #: job types that run on them
    jobs: tuple[JobContract, ...]

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ContractError(f"family name {self.name!r}: use lower-case letters, digits and '_'.")
        queues = [queue.name for queue in self.queues]
        types = [job.type for job in self.jobs]
        for kind, names in (("queue", queues), ("job type", types)):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ContractError(f"family {self.name}: {kind} {twice[0]!r} is declared twice, remove one.")
        for job in self.jobs:
            if job.queue not in queues:
                raise ContractError(
                    f"{job.type}: queue {job.queue!r} is not one of this family's ({', '.join(queues) or 'none'}): "
                    "declare it in 'queues' or name one of these."
                )
        for name in queues:
            if not any(job.queue == name for job in self.jobs):
                raise ContractError(f"family {self.name}: no job type uses queue {name!r}, remove it.")
