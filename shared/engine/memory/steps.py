"""What a queue's outbox holds: steps that a commit decided on and that are yet to be taken."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from shared.engine.engine import NewJob
from shared.engine.flows import DependencyResult, FlowJob


@dataclass(frozen=True, slots=True)
class Follow:
    """Add a job that was enqueued with a finish."""

    job: NewJob


@dataclass(frozen=True, slots=True)
class Arrive:
    """Bring a job of a flow to its queue."""

    flow_id: str
    node: FlowJob
    dependents: Sequence[str]


@dataclass(frozen=True, slots=True)
class Resolve:
    """Tell a job how one ended that it runs after."""

    dependent: str
    dependency: str
    result: DependencyResult


Step = Follow | Arrive | Resolve
