"""Flows: jobs that wait for jobs, over any queues.

A flow is a directed acyclic graph. Each job names the jobs that it runs after, and for each of these what happens when
it fails. A chain is a line, a batch with a callback a fan-in (:mod:`shared.flows` has both as thin shapes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from shared.errors import ValidationFailed

if TYPE_CHECKING:
    from shared.engine.engine import JobRecord, NewJob

#: jobs of one flow at most: its plan is stored in one step
FLOW_JOBS = 5_000


class OnFailure(StrEnum):
    """What the failure (or cancellation, or removal) of a job does to one that runs after it."""

    #: it fails as well
    FAIL = "fail"
    #: it runs nevertheless, and finds the error among its results
    CONTINUE = "continue"


@dataclass(frozen=True, slots=True)
class Dependency:
    """An edge: the job to run after."""

    job_id: str
    on_failure: OnFailure = OnFailure.FAIL


@dataclass(frozen=True, slots=True)
class FlowJob:
    """A node."""

    job: NewJob
    after: Sequence[Dependency] = ()


@dataclass(frozen=True, slots=True)
class NewFlow:
    """A flow to be added.

    Raises:
        ValidationFailed: when it has no jobs, too many, twice the same, an edge to none of its own, or a circle.
    """

    #: ``<queue>.<ULID>``; the queue is the one that keeps the flow's record
    id: str
    jobs: Sequence[FlowJob]
    #: for people
    name: str = ""

    def __post_init__(self) -> None:
        self.from_last_to_first()

    def from_last_to_first(self) -> list[FlowJob]:
        """Give the jobs so that each comes before those that it runs after.

        Raises:
            ValidationFailed: see the class.
        """
        nodes = {node.job.id: node for node in self.jobs}
        if not 0 < len(self.jobs) <= FLOW_JOBS:
            raise ValidationFailed(f"The flow has {len(self.jobs)} jobs: give 1 to {FLOW_JOBS}.")
        if len(nodes) < len(self.jobs):
            raise ValidationFailed("Two jobs of the flow have the same id.")
        for node in self.jobs:
            if len({edge.job_id for edge in node.after}) < len(node.after):
                raise ValidationFailed(f"Job {node.job.id!r} names a job twice to run after.")
            for edge in node.after:
                if edge.job_id not in nodes:
                    raise ValidationFailed(f"Job {node.job.id!r} runs after {edge.job_id!r}, which is not of the flow.")
        graph = {node.job.id: [edge.job_id for edge in node.after] for node in self.jobs}
        try:
            order = list(TopologicalSorter(graph).static_order())
        except CycleError as error:
            raise ValidationFailed(f"The flow goes in a circle: {' -> '.join(error.args[1])}.") from None
        return [nodes[job_id] for job_id in reversed(order)]


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """A flow as it is stored."""

    id: str
    name: str
    created_ms: int
    #: edges by job id
    after: Mapping[str, Sequence[Dependency]]
    #: jobs by id; None for those that retention or somebody removed, and those still on their way to their queue
    jobs: Mapping[str, JobRecord | None] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """``running`` while any job may still run; else ``failed``, ``cancelled`` or ``completed``."""
        states = {record.state.value for record in self.jobs.values() if record is not None}
        for state in ("waiting", "delayed", "blocked", "active"):
            if state in states:
                return "running"
        for state in ("failed", "cancelled"):
            if state in states:
                return state
        return "completed"


@dataclass(frozen=True, slots=True)
class DependencyResult:
    """How a job ended that another ran after."""

    #: completed, failed, cancelled or removed
    state: str
    #: of a completed one
    result: Any = None
    #: of the others
    error: Mapping[str, Any] | None = None
