"""What the stock broker's queue cannot keep: priorities beyond one worker's memory, and a prompt start."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import dramatiq
import pytest

from tests.faults.stock.program import Program
from tests.integration.broker.patience import eventually

MakeProgram = Callable[..., Program]


@pytest.mark.parametrize("kind", ["stock", "ours"])
def test_priorities_hold_in_the_queue_and_not_only_in_a_workers_memory(kind: str, program: MakeProgram) -> None:
    gate = threading.Event()
    run = program(kind, lambda name: gate.wait(10))
    run.work.priority = 5
    order: list[str] = []

    @dramatiq.actor(broker=run.broker, priority=0)
    def urgent():
        order.append("urgent")

    @dramatiq.actor(broker=run.broker, priority=9)
    def seldom():
        order.append("seldom")

    run.work.send("holds the only thread")
    with run.worker():
        eventually(lambda: run.runs)
        for _ in range(8):
            seldom.send()
        urgent.send()
        gate.set()
        eventually(lambda: len(order) == 9)
    if kind == "stock":
        assert order.index("urgent") > 0, "those that were fetched before it came run before it"
    else:
        assert order.index("urgent") == 0


@pytest.mark.parametrize("kind", ["stock", "ours"])
def test_an_idle_worker_starts_a_message_at_once(kind: str, program: MakeProgram) -> None:
    run = program(kind)
    waits = []
    chance = random.Random(7)
    # the worker's own timeout is Dramatiq's default
    with run.worker(timeout_ms=1000):
        for number in range(10):
            # the stock worker rests longer the longer it is idle, so give it that; at a random moment of its rest
            idle_until = time.monotonic() + 1 + chance.random()
            eventually(lambda: time.monotonic() > idle_until)  # noqa: B023
            sent = time.monotonic()
            run.work.send(str(number))
            eventually(lambda: len(run.runs) > number)  # noqa: B023
            waits.append(time.monotonic() - sent)
    print(f"{kind}: idle to start, ms: {[round(wait * 1000) for wait in sorted(waits)]}")
    if kind == "stock":
        assert max(waits) > 0.2
    else:
        assert max(waits) < 0.2
