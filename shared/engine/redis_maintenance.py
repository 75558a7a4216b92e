"""RedisEngine's maintenance: removing many jobs in parts that hold the server briefly, and changing limits."""

from __future__ import annotations

import time
from collections.abc import Mapping

from shared.contracts.queue import QueueLimits, RateLimit
from shared.engine.record import from_json
from shared.engine.redis_flows import RedisFlows
from shared.engine.requests import GROUP_PARTS, changed_limits, describe_limits, read_limits
from shared.engine.states import State
from shared.errors import ValidationFailed, WrongState

#: jobs removed by one call, which holds the server for a millisecond, or two where each is of another group
CHUNK = 50


class RedisMaintenance(RedisFlows):
    """See :class:`shared.engine.engine.Engine`."""

    def drain(self, queue: str, *, delayed: bool = False) -> int:
        """See :meth:`Engine.drain`."""
        states = (State.WAITING, State.DELAYED) if delayed else (State.WAITING,)
        return sum(self._clean(queue, state, before="", limit=None) for state in states)

    def clean(self, queue: str, state: State, *, older_than_s: float = 0, limit: int = 1_000) -> int:
        """See :meth:`Engine.clean`."""
        if state is State.ACTIVE:
            raise WrongState("Running jobs cannot be cleaned away: cancel them.")
        before = ""
        if older_than_s > 0:
            seconds, micros = self._run("now", queue)
            before = str(int(seconds) * 1000 + int(micros) // 1000 - int(older_than_s * 1000))
        return self._clean(queue, state, before=before, limit=limit)

    def _clean(self, queue: str, state: State, *, before: str, limit: int | None) -> int:
        total = passed = 0
        while limit is None or total < limit:
            most = CHUNK if limit is None else min(CHUNK, limit - total)
            removed, looked_at = self._run("clean", queue, state.value, before, most, passed)
            total += removed
            passed += looked_at - removed
            if not looked_at:
                break
            # Others may have waited.
            time.sleep(0)
        self.relay_all(queue)
        return total

    def obliterate(self, queue: str, *, force: bool = False) -> None:
        """See :meth:`Engine.obliterate`."""
        self._run("pause", queue)
        if not force and self._run("counts", queue)[3]:
            raise WrongState(f"Jobs of queue {queue!r} run: wait, cancel them, or force it. The queue is paused.")
        # What runs after its jobs in other queues must learn that they are gone.
        for state in (State.WAITING, State.DELAYED, State.BLOCKED):
            self._clean(queue, state, before="", limit=None)
        while (reply := self._run("obliterate", queue, int(force), CHUNK)) == 0:
            self.relay_all(queue)
            time.sleep(0)
        if reply < 0:
            raise WrongState(f"Jobs of queue {queue!r} run: wait, cancel them, or force it. The queue is paused.")
        cursor = b"0"
        while True:
            cursor = self._run("sweep", queue, cursor, self._of(queue).prefix.replace("[", "?") + "*")
            if cursor == b"0":
                return

    def set_limits(self, queue: str, limits: Mapping[str, RateLimit | int | None], *, group: str | None = None) -> None:
        """See :meth:`Engine.set_limits`."""
        known = GROUP_PARTS if group is not None else QueueLimits.__slots__
        for name in limits:
            if name not in known:
                raise ValidationFailed(f"There is no limit {name!r}. Limits: {', '.join(known)}.")
        QueueLimits(**limits)  # type: ignore[arg-type]  # refuses what cannot hold
        cursor = b"0"
        while True:
            cursor = self._run("limit", queue, _field(group), changed_limits(limits), describe_limits(limits), cursor)
            if cursor == b"0":
                return

    def limits(self, queue: str, *, group: str | None = None) -> Mapping[str, RateLimit | int | None]:
        """See :meth:`Engine.limits`."""
        text = self._call("HGET", self._of(queue).meta, "j:" + _field(group))
        return read_limits(from_json(text)) if text else {}


def _field(group: str | None) -> str:
    return "lim" if group is None else f"lg:{group}"
