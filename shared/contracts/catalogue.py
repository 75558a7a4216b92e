"""Every family that is installed, found by folder.

Only ``contract.py`` of each family is imported: the API lists and validates every job type without having pandas,
openai or ffmpeg.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.contracts.family import FamilyContract
from shared.contracts.job import JobContract
from shared.contracts.queue import QueueContract
from shared.errors import ContractError, UnknownJobType, UnknownQueue


@dataclass(frozen=True)
class Catalogue:
    """All families together, with look-ups by name.

    Raises:
        ContractError: when two families claim the same name.
    """

    #: families by name
    families: dict[str, FamilyContract]
    #: job types by name
    jobs: dict[str, JobContract] = field(init=False)
    #: queues by name
    queues: dict[str, QueueContract] = field(init=False)

    def __post_init__(self) -> None:
        jobs: dict[str, JobContract] = {}
        queues: dict[str, QueueContract] = {}
        for family in self.families.values():
            for job in family.jobs:
                if job.type in jobs:
                    raise ContractError(f"job type {job.type!r} is declared by two families, rename one.")
                jobs[job.type] = job
            for queue in family.queues:
                if queue.name in queues:
                    raise ContractError(f"queue {queue.name!r} is declared by two families, rename one.")
                queues[queue.name] = queue
        object.__setattr__(self, "jobs", jobs)
        object.__setattr__(self, "queues", queues)

    def job(self, job_type: str) -> JobContract:
        """Look a job type up.

        Raises:
            UnknownJobType: naming the types that there are.
        """
        try:
            return self.jobs[job_type]
        except KeyError:
            known = ", ".join(sorted(self.jobs))
            raise UnknownJobType(f"There is no job type {job_type!r}. Types: {known}.") from None

    def queue(self, name: str) -> QueueContract:
        """Look a queue up.

        Raises:
            UnknownQueue: naming the queues that there are.
        """
        try:
            return self.queues[name]
        except KeyError:
            known = ", ".join(sorted(self.queues))
            raise UnknownQueue(f"There is no queue {name!r}. Queues: {known}.") from None

    def family(self, name: str) -> FamilyContract:
        """Look a family up.

        Raises:
            ContractError: naming the families that there are.
        """
        try:
            return self.families[name]
        except KeyError:
            known = ", ".join(sorted(self.families))
            raise ContractError(f"There is no family {name!r}. Families: {known}, or 'all'.") from None


def discover(package: str) -> Catalogue:
    """Find the families below a package by folder and load their contracts.

    Args:
        package: dotted name, e.g. ``services.workers.families``; several may be given, parted by commas.

    Raises:
        ContractError: when a family has no ``contract.py`` with a ``FAMILY``, or contracts contradict each other.
    """
    found: dict[str, FamilyContract] = {}
    for name in filter(None, (part.strip() for part in package.split(","))):
        for family in _families_in(name):
            if family.name in found:
                raise ContractError(f"family {family.name!r} is declared twice, rename one.")
            found[family.name] = family
    return Catalogue(dict(sorted(found.items())))


def _families_in(package: str) -> Iterable[FamilyContract]:
    root = importlib.import_module(package)
    for info in sorted(pkgutil.iter_modules(root.__path__), key=lambda item: item.name):
        if not info.ispkg:
            continue
        module_name = f"{package}.{info.name}.contract"
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name != module_name:
                raise
            raise ContractError(f"folder {info.name!r} in {package} has no contract.py: add one.") from None
        family = getattr(module, "FAMILY", None)
        if not isinstance(family, FamilyContract):
            raise ContractError(f"{module_name} has no FAMILY = FamilyContract(...): add it.")
        if family.name != info.name:
            raise ContractError(f"{module_name}: FAMILY is named {family.name!r} but its folder {info.name!r}.")
        yield family
