"""Faults of the server itself, shaped as in :mod:`tests.faults.storm.chaos`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import redis

from tests.faults.storm.ledger import now_ms
from tests.faults.storm.site import LEASE_S, Fault, Site


def kill_server(site: Site, settled: Callable[[bool], None]) -> bool:
    """Kill the server; it comes back with its append-only file."""
    return _server_away(site, settled, "server killed", site.server.kill)


def stop_server(site: Site, settled: Callable[[bool], None]) -> bool:
    """Stop the server as an operator does."""
    return _server_away(site, settled, "server stopped", site.server.stop)


def kill_server_in_rewrite(site: Site, settled: Callable[[bool], None]) -> bool:
    """Kill the server while it writes its append-only file anew."""
    if not site.server_is_calm():
        return False
    # It may be at it by itself.
    with site.direct() as client, suppress(redis.ResponseError):
        client.bgrewriteaof()
    return _server_away(site, settled, "server killed in an AOF rewrite", site.server.kill)


def _server_away(site: Site, settled: Callable[[bool], None], kind: str, end: Callable[[], None]) -> bool:
    if not site.server_is_calm():
        return False
    site.server_busy = True
    fault = site.struck_now(Fault(kind))
    end()

    def start() -> None:
        site.server.start()
        fault.until_ms = now_ms()
        site.outages.append((fault.at_ms or 0, fault.until_ms))
        site.server_done()

    site.later(site.chance.uniform(0, 0.5), start)
    settled(True)
    return True


def pause_server(site: Site, settled: Callable[[bool], None]) -> bool:
    """Let the server answer nobody (CLIENT PAUSE), now and then for longer than the lease."""
    if not site.server_is_calm():
        return False
    long = site.chance.random() < 0.25
    ms = int(site.chance.uniform(LEASE_S * 1100, LEASE_S * 1700) if long else site.chance.uniform(100, 900))
    with site.direct() as client:
        fault = site.struck_now(Fault("CLIENT PAUSE", "longer than a lease" if long else "shorter than a lease"))
        client.client_pause(ms)
    _outage(site, fault, ms / 1000)
    settled(True)
    return True


def freeze_server(site: Site, settled: Callable[[bool], None]) -> bool:
    """Stop the server's process for a moment."""
    if not site.server_is_calm():
        return False
    seconds = site.chance.uniform(0.1, 1.5)
    fault = site.struck_now(Fault("server frozen", f"{seconds:.1f} s"))
    site.server.pause()
    site.later(seconds, site.server.unpause)
    _outage(site, fault, seconds)
    settled(True)
    return True


def _outage(site: Site, fault: Fault, seconds: float) -> None:
    site.server_busy = True
    fault.until_ms = (fault.at_ms or 0) + seconds * 1000
    site.outages.append((fault.at_ms or 0, fault.until_ms))
    site.later(seconds, site.server_done)


def run_out_of_memory(site: Site, settled: Callable[[bool], None]) -> bool:
    """Leave the server no memory for new jobs."""
    if not site.server_is_calm():
        return False
    seconds = site.chance.uniform(0.5, 1.5)
    with site.direct() as client:
        client.config_set("maxmemory", "1mb")
    site.server_busy = True
    fault = site.struck_now(Fault("server out of memory", f"{seconds:.1f} s"))

    def mend() -> None:
        with site.direct() as client:
            client.config_set("maxmemory", "0")
        fault.until_ms = now_ms()
        site.server_done()

    site.later(seconds, mend)
    settled(True)
    return True


def forget_scripts(site: Site, settled: Callable[[bool], None]) -> bool:
    """Empty the server's script cache."""
    if site.server_busy:
        return False
    with suppress(redis.RedisError), site.direct() as client:
        client.script_flush()
        site.struck_now(Fault("script cache emptied"))
        settled(True)
        return True
    return False
