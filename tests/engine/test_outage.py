"""After an outage every lease has run out: the workers that live get a moment to renew theirs."""

from __future__ import annotations

import pytest

from shared.engine.engine import LeaseStatus
from shared.engine.keys import Keys
from shared.engine.states import State
from tests.engine.harness import RedisRig, Rig, add, cycle, state_of, take

#: of the engine with a server that others may fail to reach
pytestmark = [pytest.mark.parametrize("rig", [pytest.param("redis", marks=pytest.mark.needs_server)], indirect=True)]


def silent_for(rig: Rig, seconds: float) -> None:
    """Let it be so long ago that any worker called."""
    assert isinstance(rig, RedisRig)
    meta = Keys(rig.namespace, "q").meta
    seen = rig.client.hget(meta, "seen")
    assert isinstance(seen, bytes)
    rig.client.hset(meta, "seen", str(int(seen) - int(seconds * 1000)))


@pytest.mark.parametrize("first", ["cycle", "reap"])
def test_after_an_outage_leases_that_ran_out_meanwhile_get_a_grace(rig: Rig, first: str) -> None:
    alive, dead = add(rig.engine, 2)
    tokens = {job.id: job.token for job in take(rig.engine, 2)}
    for job_id in (alive, dead):
        rig.expire(job_id)
    silent_for(rig, 20)
    # another worker is the first to come back
    if first == "cycle":
        reply = cycle(rig.engine, want=2)
        assert reply.jobs == []
        assert reply.next_ms is not None
        assert 4_000 < reply.next_ms <= 6_001, "and who waits is told when to look again"
    else:
        assert rig.engine.reap("q") == []
    assert rig.engine.renew("q", [(alive, tokens[alive])], 60_000) == [LeaseStatus.HELD]
    rig.expire(dead)
    assert rig.engine.reap("q") == [dead], "the grace is given once"
    assert state_of(rig.engine, alive) == State.ACTIVE


def test_a_short_silence_is_no_outage(rig: Rig) -> None:
    (job_id,) = add(rig.engine, 1)
    take(rig.engine, 1)
    rig.expire(job_id)
    silent_for(rig, 12)
    assert rig.engine.reap("q") == [job_id]
