"""What the state machine sees of an engine beyond its protocol: each sorted set, places given out, the wake level."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from typing import Any, Protocol

from shared.engine.engine import JobRecord
from shared.engine.keys import Keys
from shared.engine.record import decode_record
from shared.engine.states import State
from tests.engine.harness import RedisRig, Rig
from tests.engine.memory_rig import MemoryRig
from tests.servers import ValkeyServer

#: the sets of a queue in which jobs stand
SETS = (*(state.value for state in State), "expires")


class Inside(Protocol):
    """The queue ``q`` of an engine, from inside."""

    @property
    def rig(self) -> Rig: ...

    def look(self, job_ids: Collection[str]) -> tuple[dict[str, list[str]], list[JobRecord]]:
        """Read the ids of every set, and the records of jobs that must be there."""
        ...

    def set_score(self, name: str, job_id: str, score: int) -> None:
        """Move a job within a set."""
        ...

    def places(self) -> int:
        """How many places were given out."""
        ...

    def armed(self) -> int:
        """Elements of the wake level."""
        ...

    def close(self) -> None: ...


class InsideRedis:
    """On a server, in a namespace of its own."""

    def __init__(self, server: ValkeyServer) -> None:
        self.rig = RedisRig(server, f"m{secrets.token_hex(6)}")
        self._keys = Keys(self.rig.namespace, "q")

    def look(self, job_ids: Collection[str]) -> tuple[dict[str, list[str]], list[JobRecord]]:
        pipe: Any = self.rig.client.pipeline(transaction=False)
        for name in SETS:
            pipe.zrange(self._keys.state(name), 0, -1)
        for job_id in job_ids:
            pipe.hgetall(self._keys.job(job_id[-26:]))
        replies = pipe.execute()
        sets = {name: [f"q.{local_id.decode()}" for local_id in replies.pop(0)] for name in SETS}
        return sets, [
            decode_record("q", job_id[-26:], {name.decode(): value for name, value in fields.items()})
            for job_id, fields in zip(job_ids, replies, strict=True)
        ]

    def set_score(self, name: str, job_id: str, score: int) -> None:
        self.rig.set_score(name, job_id, score)

    def places(self) -> int:
        return int(self.rig.client.hget(self._keys.meta, "pos") or 0)

    def armed(self) -> int:
        return int(self.rig.client.llen(self._keys.wake))

    def close(self) -> None:
        if keys := list(self.rig.client.scan_iter(f"{{{self.rig.namespace}*", count=1_000)):
            self.rig.client.delete(*keys)
        self.rig.close()


class InsideMemory:
    """In this process."""

    def __init__(self) -> None:
        self.rig = MemoryRig()

    def look(self, job_ids: Collection[str]) -> tuple[dict[str, list[str]], list[JobRecord]]:
        queue = self.rig.memory.stored("q")
        records = [queue.jobs[job_id].record() for job_id in job_ids]
        return {name: list(members) for name, members in self.rig.sets_of(queue).items()}, records

    def set_score(self, name: str, job_id: str, score: int) -> None:
        self.rig.set_score(name, job_id, score)

    def places(self) -> int:
        return self.rig.memory.stored("q").places

    def armed(self) -> int:
        return int(self.rig.memory.stored("q").armed)

    def close(self) -> None:
        self.rig.close()
