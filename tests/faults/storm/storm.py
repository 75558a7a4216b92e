"""Raises the storm: jobs at a steady rate, faults at a steady rate, and then calm until everything has ended."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from functools import partial

from tests.faults.storm.chaos import SHARES, Begin
from tests.faults.storm.fleet import ProducerSlot
from tests.faults.storm.plan import Planned, make_plan, write_plan
from tests.faults.storm.site import Site

#: jobs added a second
RATE = 65.0
#: how long the last jobs may take once the storm is over, seconds
CALM_S = 60.0
#: the plan holds so many times the jobs that are asked for: they go on until the last fault has struck
RESERVE = 3


def raise_storm(site: Site, *, jobs: int, faults: int) -> list[Planned]:
    """Put at least so many jobs through at least so many faults; gives the jobs."""
    plan = list(make_plan(RESERVE * jobs, site.folder / "ledger", site.chance))
    write_plan(site.folder / "plan", plan)
    site.limit.turn(len(plan))
    _until(site, lambda: len(site.healthy()) == len(site.workers), 30, "the workers are up")
    site.producer = ProducerSlot(site.folder, site.server.socket)
    todo = _draw(faults, site.chance)
    began, pace = time.monotonic(), jobs / RATE / faults
    struck = 0
    next_at, tell_at = began + 1.0, began

    def settled(begin: Begin, it_struck: bool) -> None:
        nonlocal struck
        struck += it_struck
        if not it_struck:
            todo.append(begin)

    while struck < faults or not site.producer.done:
        site.tick()
        now = time.monotonic()
        allowed = min(site.limit.read(), (now - began) * RATE)
        site.allowed.turn(allowed)
        if struck >= faults and site.limit.read() == len(plan):
            site.limit.turn(max(jobs, int(allowed)))
        if now >= tell_at:
            print(f"{now - began:4.0f} s: {site.allowed.read():6.0f} jobs, {struck} faults")
            tell_at += 20
        if todo and now >= next_at:
            # A fault that cannot begin now lets the next one go first.
            for _ in range(len(todo)):
                begin = todo.popleft()
                if begin(site, partial(settled, begin)):
                    next_at = max(next_at + pace, now - 2 * pace)
                    break
                todo.append(begin)
        assert now - began < RESERVE * jobs / RATE, f"{struck} of {faults} faults, to do: {len(todo)}"
        time.sleep(0.005)
    _until(site, lambda: site.quiet, 30, "the last faults are over")
    for slot in site.workers:
        slot.clock.turn(0)
        slot.proxy.heal()
    return plan


def calm_down(site: Site) -> bool:
    """Wait until every job has ended; gives whether that was in time."""
    end = time.monotonic() + CALM_S
    while time.monotonic() < end:
        site.tick()
        if site.unfinished() == 0:
            return True
        time.sleep(0.02)
    return False


def _draw(faults: int, chance: random.Random) -> deque[Begin]:
    """Choose the faults: of each kind its share, and of the rarest one at least."""
    total = sum(SHARES.values())
    wanted = Counter({begin: max(1, round(faults * share / total)) for begin, share in SHARES.items()})
    kinds = list(wanted.elements())
    chance.shuffle(kinds)
    most = max(SHARES, key=lambda begin: SHARES[begin])
    kinds += [most] * (faults - len(kinds))
    return deque(kinds)


def _until(site: Site, condition: partial[bool] | object, within_s: float, why: str) -> None:
    end = time.monotonic() + within_s
    assert callable(condition)
    while not condition():
        site.tick()
        assert time.monotonic() < end, f"not within {within_s:g} s: {why}"
        time.sleep(0.01)
