"""The kinds of fault. Each is a function that begins one, or says that it cannot just now."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tests.faults.proxy import Match, Moment, Rule
from tests.faults.requests import script
from tests.faults.storm.fleet import ProducerSlot, Slot, WorkerSlot
from tests.faults.storm.ledger import now_ms
from tests.faults.storm.server_chaos import (
    forget_scripts,
    freeze_server,
    kill_server,
    kill_server_in_rewrite,
    pause_server,
    run_out_of_memory,
    stop_server,
)
from tests.faults.storm.site import LEASE_S, Fault, Site

#: begins a fault; calls back with whether it struck, unless it gives False at once
Begin = Callable[[Site, Callable[[bool], None]], bool]
MOMENTS = tuple(Moment)


# -- workers --


def kill_at_boundary(site: Site, settled: Callable[[bool], None]) -> bool:
    """Kill a worker before a script's request, before its reply or after it."""
    slot = site.victim(disabling=True)
    if slot is None:
        return False
    called = sorted({name for worker in site.workers for name in worker.calls})
    pairs = [(name, moment) for name in called for moment in MOMENTS]
    least = min(site.struck[name, str(moment)] for name, moment in pairs)
    name, moment = site.chance.choice([pair for pair in pairs if site.struck[pair[0], str(pair[1])] == least])
    fault = Fault("worker killed at a script's boundary", f"{name}, {moment}", slot.name, slot.life.pid)

    def strike() -> bool:
        with slot.mutex:
            if not slot.up or len([one for one in site.workers if one.up]) < 3:
                return False
            # A job may have killed the one that was there when the trap was laid.
            fault.pid = slot.life.pid
            site.struck_now(fault)
            slot.kill()
            return True

    def done(struck: bool) -> None:
        site.struck[name, str(moment)] += struck
        slot.busy = slot.disabled = False
        settled(struck)

    slot.busy = slot.disabled = True
    site.arm(slot.proxy.ambush(_some(site, slot, name), moment, strike), fault, done)
    return True


def kill_at_random(site: Site, settled: Callable[[bool], None]) -> bool:
    """Kill a worker wherever it is, or only the process below Dramatiq's master."""
    slot = site.victim(disabling=True)
    if slot is None:
        return False
    child_only = site.chance.random() < 0.5
    with slot.mutex:
        if not slot.up:
            return False
        what = "its process" if child_only else "with its master"
        site.struck_now(Fault("worker killed", what, slot.name, slot.life.pid))
        slot.kill(child_only=child_only)
    settled(True)
    return True


def freeze(site: Site, settled: Callable[[bool], None]) -> bool:
    """Stop a worker for longer than its lease, then let it go on."""
    slot = site.victim(disabling=True)
    if slot is None:
        return False
    seconds = LEASE_S + site.chance.uniform(0.3, 2.0)
    with slot.mutex:
        if not slot.up:
            return False
        fault = Fault("worker frozen", f"{seconds:.1f} s", slot.name, slot.life.pid)
        site.struck_now(fault).until_ms = now_ms() + seconds * 1000
        slot.freeze()
    site.later(seconds, slot.thaw)
    settled(True)
    return True


def jump(site: Site, settled: Callable[[bool], None]) -> bool:
    """Set the clock of a worker or of the producer wrong, or right again."""
    slot = site.chance.choice([*site.workers, site.producer])
    if slot is None:
        return False
    hours = site.chance.choice([0.0, 0.01, 1.0, 26.0, 24.0 * 400]) * site.chance.choice([-1, 1])
    slot.clock.turn(hours * 3600)
    site.struck_now(Fault("client's clock jumps", f"{hours:+g} h", slot.name))
    settled(True)
    return True


# -- connections --


def _on_a_call(
    kind: str, effect: str, site: Site, settled: Callable[[bool], None], *, disabling: bool = False, lasts_s: float = 0
) -> bool:
    worker = site.victim(disabling=disabling)
    slot = site.producer if not disabling and site.producer is not None and site.chance.random() < 0.15 else worker
    if slot is None or not slot.calls:
        return False
    name = site.chance.choice(sorted(slot.calls))
    fault = Fault(kind, name, slot.name, slot.life.pid)
    match = site.marks(_some(site, slot, name), fault, slot)
    rule: Rule = getattr(slot.proxy, effect)(match)

    def free() -> None:
        if isinstance(slot, WorkerSlot):
            slot.busy = slot.disabled = False

    def done(struck: bool) -> None:
        if struck and lasts_s:
            fault.until_ms = now_ms() + lasts_s * 1000
            site.later(lasts_s, free)
        else:
            free()
        settled(struck)

    if isinstance(slot, WorkerSlot):
        slot.busy, slot.disabled = True, disabling
    site.arm(rule, fault, done)
    return True


lose_request: Begin = partial(_on_a_call, "request lost", "lose_request")
lose_reply: Begin = partial(_on_a_call, "reply lost", "lose_reply")
#: a client gives up after five seconds, and until then may hold what it cannot say
swallow_requests: Begin = partial(_on_a_call, "half-open, requests vanish", "black_hole", disabling=True, lasts_s=5.5)
swallow_replies: Begin = partial(
    _on_a_call, "half-open, replies vanish", "swallow_replies", disabling=True, lasts_s=5.5
)


def delay_reply(site: Site, settled: Callable[[bool], None]) -> bool:
    """Deliver a reply late."""
    slot = site.victim(disabling=False)
    if slot is None or not slot.calls:
        return False
    name = site.chance.choice(sorted(slot.calls))
    seconds = site.chance.uniform(0.1, 1.0)
    fault = Fault("reply late", f"{name}, {seconds:.1f} s", slot.name, slot.life.pid)
    rule, release = slot.proxy.hold_reply(site.marks(_some(site, slot, name), fault, slot))

    def done(struck: bool) -> None:
        slot.busy = False
        site.later(seconds, release.set)
        settled(struck)

    slot.busy = True
    site.arm(rule, fault, done)
    return True


def reset(site: Site, settled: Callable[[bool], None]) -> bool:
    """Cut every connection of a process at once; one time in three it cannot connect again for a while."""
    slot = site.producer if site.chance.random() < 0.15 else site.victim(disabling=False)
    if slot is None:
        return False
    seconds = site.chance.uniform(0.2, 1.2) if site.chance.random() < 0.33 else 0.0
    fault = site.struck_now(
        Fault("connections cut", f"refused for {seconds:.1f} s" if seconds else "", slot.name, slot.life.pid)
    )
    fault.until_ms = now_ms() + seconds * 1000
    slot.proxy.cut(refuse=bool(seconds))
    site.later(seconds, slot.proxy.heal)
    settled(True)
    return True


# -- the producer --


def kill_producer(site: Site, settled: Callable[[bool], None]) -> bool:
    """Kill the producer at a boundary of what it calls."""
    slot = site.producer
    if slot is None or slot.done or slot.life.killed or not slot.calls:
        return False
    name, moment = site.chance.choice(sorted(slot.calls)), site.chance.choice(MOMENTS)
    fault = Fault("producer killed", f"{name}, {moment}", slot.name)
    producer: ProducerSlot = slot

    def strike() -> bool:
        with producer.mutex:
            site.struck_now(fault)
            producer.kill()
            return True

    site.arm(slot.proxy.ambush(script(name), moment, strike), fault, settled)
    return True


def _some(site: Site, slot: Slot, name: str) -> Match:
    """Match one of the next calls of a script; of one that is seldom called the next."""
    left = site.chance.randint(1, 3) if slot.calls[name] > 0.2 * slot.calls.total() else 1
    calls = script(name)

    def some(request: bytes) -> bool:
        nonlocal left
        if not calls(request):
            return False
        left -= 1
        return left <= 0

    return some


#: of every hundred faults or so. A failover belongs here too, where the server has somebody to fail over to.
SHARES: dict[Begin, int] = {
    kill_at_boundary: 30,
    kill_at_random: 7,
    freeze: 6,
    lose_request: 8,
    lose_reply: 10,
    delay_reply: 8,
    swallow_requests: 3,
    swallow_replies: 3,
    reset: 7,
    jump: 8,
    kill_producer: 3,
    kill_server: 2,
    stop_server: 1,
    kill_server_in_rewrite: 1,
    pause_server: 2,
    freeze_server: 1,
    run_out_of_memory: 2,
    forget_scripts: 1,
}
