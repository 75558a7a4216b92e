"""Which jobs are put into the storm, and what must become of them."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.engine.engine import NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.states import State
from tests.faults.storm.families.storm.contract import FAMILY

CONTRACTS = {contract.type.removeprefix("storm."): contract for contract in FAMILY.jobs}
#: of a hundred jobs
SHARES = {
    "quick": 58,
    "delayed": 12,
    "flaky": 9,
    "doomed": 3,
    "refused": 2,
    "parent": 3,
    "report": 7,
    "steady": 3,
    "cancelled while delayed": 2,
    "cancelled while running": 1,
}
#: jobs in all for each that kills its workers
POISON_EVERY = 4_000
#: critical, high, normal, low
PRIORITIES = (-100, -10, 0, 0, 0, 0, 100)


@dataclass(frozen=True)
class Planned:
    """A job to be added."""

    id: str
    #: see SHARES
    kind: str
    #: of its contract, without the family
    action: str
    payload: dict[str, Any]
    priority: int = 0
    delay_ms: int = 0
    #: cancel it so long after it was added
    cancel_after_ms: int | None = None

    @property
    def queue(self) -> str:
        return CONTRACTS[self.action].queue

    def new_job(self) -> NewJob:
        contract = CONTRACTS[self.action]
        return NewJob(
            self.id,
            contract.type,
            encode_payload(self.payload),
            priority=self.priority,
            delay_ms=self.delay_ms,
            max_stalls=contract.max_stalls,
        )

    @property
    def expected(self) -> frozenset[State]:
        """States in which it may end, as far as nothing depends on how a cancel was answered."""
        if self.action in ("doomed", "refused", "poison"):
            return frozenset({State.FAILED})
        return frozenset({State.COMPLETED})

    @property
    def attempts(self) -> int | None:
        """Attempts that it takes to its end; None where its deaths decide that."""
        if self.action == "poison":
            return None
        if self.action == "doomed":
            return CONTRACTS["doomed"].attempts
        return 1 + int(self.payload.get("failures", 0))


def make_plan(jobs: int, ledger: Path, chance: random.Random) -> Iterator[Planned]:
    """Draw so many jobs; what they write down goes into that ledger."""
    kinds = list(SHARES)
    for number, kind in enumerate(chance.choices(kinds, [SHARES[kind] for kind in kinds], k=jobs)):
        if number % POISON_EVERY == POISON_EVERY // 2:
            kind = "poison"
        yield _planned(kind, str(ledger), chance)


def _planned(kind: str, ledger: str, chance: random.Random) -> Planned:
    action = {"delayed": "quick", "cancelled while delayed": "quick", "cancelled while running": "steady"}.get(
        kind, kind
    )
    payload: dict[str, Any] = {"ledger": ledger}
    delay_ms, cancel_after_ms = 0, None
    if kind in ("quick", "delayed") and chance.random() < 0.5:
        payload["work_ms"] = chance.randint(1, 30)
    if kind == "delayed":
        delay_ms = chance.randint(100, 5_000)
    elif kind == "flaky":
        payload["failures"] = chance.randint(1, 3)
    elif kind == "parent":
        payload["child"] = new_job_id(CONTRACTS["quick"].queue)
    elif kind == "report":
        payload.update(steps=chance.randint(2, 5), work_ms=chance.randint(10, 60))
    elif kind == "steady":
        payload["work_ms"] = chance.randint(500, 2_000)
    elif kind == "cancelled while delayed":
        delay_ms, cancel_after_ms = 3_000, chance.randint(0, 3_100)
    elif kind == "cancelled while running":
        payload["work_ms"], cancel_after_ms = 2_000, chance.randint(100, 1_900)
    priority = chance.choice(PRIORITIES)
    return Planned(new_job_id(CONTRACTS[action].queue), kind, action, payload, priority, delay_ms, cancel_after_ms)


def write_plan(path: Path, plan: list[Planned]) -> None:
    path.write_text("".join(json.dumps(asdict(job)) + "\n" for job in plan))


def read_plan(path: Path) -> list[Planned]:
    return [Planned(**json.loads(line)) for line in path.read_text().splitlines()]
