"""A flow as its home queue keeps it."""

from __future__ import annotations

from dataclasses import dataclass

from shared.engine.flows import FlowJob


@dataclass(frozen=True, slots=True)
class StoredFlow:
    """The plan of a flow."""

    id: str
    name: str
    created_ms: int
    #: each job before those that it runs after
    plan: list[FlowJob]
