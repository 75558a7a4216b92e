"""An engine that does as it is told, for tests of what the broker does around it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.engine.engine import CycleReply, Finish, FinishStatus, LeasedJob


def leased(number: int, *, token: int = 1, name: str = "act", body: bytes = b"{}") -> LeasedJob:
    return LeasedJob(
        id=f"q.{number:026d}",
        token=token,
        name=name,
        body=body,
        attempt=1,
        stalls=0,
        priority=0,
        created_ms=0,
        options={},
    )


@dataclass
class Call:
    request: str
    repeat: bool
    want: int
    finishes: list[Finish]


@dataclass
class FakeEngine:
    """Answers each cycle with what ``answers`` holds: jobs to hand out, or an error to raise; then with nothing."""

    answers: list[list[LeasedJob] | Exception | Callable[[], list[LeasedJob]]] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    #: what it says about when something becomes due
    next_ms: int | None = None

    def cycle(
        self,
        queue: Any,
        *,
        worker: str,
        request: str,
        repeat: bool,
        want: int,
        lease_ms: int,
        finishes: Sequence[Finish] = (),
    ) -> CycleReply:
        self.calls.append(Call(request, repeat, want, list(finishes)))
        answer = self.answers.pop(0) if self.answers else []
        if isinstance(answer, Exception):
            raise answer
        jobs = answer() if callable(answer) else answer
        return CycleReply(jobs=jobs, finishes=[FinishStatus.COMMITTED] * len(finishes), next_ms=self.next_ms)
