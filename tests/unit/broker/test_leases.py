"""LeaseThread: a fault with one queue costs no other its leases."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, cast

from shared.broker.channel import Channel
from shared.broker.leases import LeaseThread
from shared.engine.engine import Engine, LeaseStatus


class OneBadQueue:
    def __init__(self) -> None:
        self.renewed = threading.Event()

    def renew(self, queue: str, leases: Sequence[tuple[str, int]], lease_ms: int) -> list[LeaseStatus]:
        if queue == "good":
            self.renewed.set()
        return [LeaseStatus.HELD for _ in leases]

    def reap(self, queue: str) -> list[str]:
        if queue == "bad":
            raise RuntimeError("WRONGTYPE")
        return []


class Held:
    def __init__(self, name: str) -> None:
        self.contract: Any = type("Contract", (), {"name": name})

    def flush_overdue(self) -> None:
        return

    def held(self) -> list[tuple[str, int]]:
        return [(f"{self.contract.name}.1", 1)]


def test_a_fault_with_one_queue_costs_no_other_its_leases() -> None:
    engine = OneBadQueue()
    channels = cast("list[Channel]", [Held("bad"), Held("good")])
    thread = LeaseThread(cast("Engine", engine), lambda: channels, lease_ms=30, notice=lambda *_: None)
    thread.start()
    try:
        assert engine.renewed.wait(5)
    finally:
        thread.stop()
