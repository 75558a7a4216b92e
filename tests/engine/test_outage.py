"""After an outage every lease has run out: the workers that live get a moment to renew theirs."""

from __future__ import annotations

import pytest

from shared.engine.engine import LeaseStatus
from shared.engine.keys import Keys
from shared.engine.states import State
from tests.engine.harness import RedisRig, add, cycle, state_of, take

pytestmark = pytest.mark.needs_server

#: of the engine with a server that others may fail to reach
pytestmark = [pytest.mark.parametrize("rig", [pytest.param("redis", marks=pytest.mark.needs_server)], indirect=True)]


def silent_for(server_rig: RedisRig, seconds: float) -> None:
    """Let it be so long ago that any worker called."""
    meta = Keys(server_rig.namespace, "q").meta
    seen = server_rig.client.hget(meta, "seen")
    assert isinstance(seen, bytes)
    server_rig.client.hset(meta, "seen", str(int(seen) - int(seconds * 1000)))


@pytest.mark.parametrize("first", ["cycle", "reap"])
def test_after_an_outage_leases_that_ran_out_meanwhile_get_a_grace(server_rig: RedisRig, first: str) -> None:
    alive, dead = add(server_rig.engine, 2)
    tokens = {job.id: job.token for job in take(server_rig.engine, 2)}
    for job_id in (alive, dead):
        server_rig.expire(job_id)
    silent_for(server_rig, 20)
    # another worker is the first to come back
    if first == "cycle":
        reply = cycle(server_rig.engine, want=2)
        assert reply.jobs == []
        assert reply.next_ms is not None
        assert 4_000 < reply.next_ms <= 6_001, "and who waits is told when to look again"
    else:
        assert server_rig.engine.reap("q") == []
    assert server_rig.engine.renew("q", [(alive, tokens[alive])], 60_000) == [LeaseStatus.HELD]
    server_rig.expire(dead)
    assert server_rig.engine.reap("q") == [dead], "the grace is given once"
    assert state_of(server_rig.engine, alive) == State.ACTIVE


def test_a_short_silence_is_no_outage(server_rig: RedisRig) -> None:
    (job_id,) = add(server_rig.engine, 1)
    take(server_rig.engine, 1)
    server_rig.expire(job_id)
    silent_for(server_rig, 12)
    assert server_rig.engine.reap("q") == [job_id]
