"""How many jobs may start: rate and concurrency of a queue and of its groups, and whose turn it is."""

from __future__ import annotations

import math
from collections import Counter

from shared.contracts.queue import QueueContract, RateLimit
from shared.engine.memory.job import StoredJob
from shared.engine.memory.queue import StoredQueue
from shared.engine.states import State

#: a clock that was set back by more than this, microseconds, must not hold jobs up for that time
_SET_BACK_US = 1_000_000

#: groups beyond those that wait whose last turn is remembered
_GROUPS_REMEMBERED = 1_000


class Meter:
    """A rate limit at one moment: the generic cell rate algorithm over the server's clock.

    Args:
        rate: the limit.
        arrival_us: theoretical arrival time of the next start, microseconds.
        now_us: the time.
    """

    def __init__(self, rate: RateLimit, arrival_us: float, now_us: int) -> None:
        self._interval_us = rate.interval_us
        self._burst = rate.starts_at_once
        self._now_us = now_us
        if arrival_us > now_us + self._burst * self._interval_us + _SET_BACK_US:
            arrival_us = now_us + self._burst * self._interval_us
        self._base_us = max(arrival_us, float(now_us))
        self._started = 0
        behind = (self._base_us - now_us) / self._interval_us
        # The small part makes up for the rounding of floats: a start that is due counts as due.
        self._allowed = max(0, math.floor(self._burst - 1 - behind + 1e-6) + 1)

    @property
    def allows(self) -> bool:
        """Whether one more may start."""
        return self._started < self._allowed

    def start(self) -> float:
        """Count a start; gives the arrival time from here on."""
        self._started += 1
        return self.arrival_us

    @property
    def arrival_us(self) -> float:
        """Theoretical arrival time of the next start, microseconds."""
        return self._base_us + self._started * self._interval_us

    @property
    def wait_ms(self) -> int:
        """How long until the next start is allowed, milliseconds, rounded up."""
        wait_us = self.arrival_us - (self._burst - 1) * self._interval_us - self._now_us
        return max(0, math.ceil(wait_us / 1000 - 1e-6))


class Gate:
    """Lets waiting jobs start, as far as the limits of the queue and of its groups allow.

    Args:
        queue: the queue.
        contract: its limits, unless an operator set others.
        now_us: the time, microseconds.
    """

    def __init__(self, queue: StoredQueue, contract: QueueContract, now_us: int) -> None:
        self._queue = queue
        self._contract = contract
        self._now_us = now_us
        self._meters: dict[str | None, Meter | None] = {}
        self._running: Counter[str] | None = None

    def next_job(self) -> StoredJob | None:
        """Take the job that starts next out of those that wait; None when none may."""
        queue = self._queue
        if not queue.sets[State.WAITING] or not self._open():
            return None
        if queue.lanes is None:
            first = queue.sets[State.WAITING].first()
            job = queue.jobs[first[1]] if first else None
        else:
            job = self._next_of_lanes()
        if job is not None:
            self._count(job)
            queue.leave(job)
        return job

    def holds_back(self) -> tuple[bool, int | None]:
        """Tell whether jobs wait of which none may start, and how long the rate goes on to say so, milliseconds."""
        queue = self._queue
        if not queue.sets[State.WAITING]:
            return False, None
        meter = self._meter(None)
        if meter is not None and not meter.allows:
            return True, meter.wait_ms
        if not self._open():
            return True, None
        if queue.lanes is None or self._next_of_lanes() is not None:
            return False, None
        meters = [meter for group in queue.lanes if (meter := self._meter(group)) is not None and not meter.allows]
        return True, min((meter.wait_ms for meter in meters), default=None)

    def _open(self) -> bool:
        most = self._limit("concurrency")
        if isinstance(most, int) and len(self._queue.sets[State.ACTIVE]) >= most:
            return False
        meter = self._meter(None)
        return meter is None or meter.allows

    def _next_of_lanes(self) -> StoredJob | None:
        queue = self._queue
        best: tuple[int, float, str] | None = None
        for group, lane in (queue.lanes or {}).items():
            first = lane.first()
            if first is None or not self._group_open(group):
                continue
            # The group that has not had a turn for longest; one that never had, or not lately, stands at the head.
            place = (queue.jobs[first[1]].priority, queue.turns.get(group, 0), group)
            if best is None or place < best:
                best = place
        if best is None or queue.lanes is None:
            return None
        first = queue.lanes[best[2]].first()
        return queue.jobs[first[1]] if first else None

    def _group_open(self, group: str) -> bool:
        most = self._group_limit(group, "concurrency")
        if isinstance(most, int) and self._running_of(group) >= most:
            return False
        meter = self._meter(group)
        return meter is None or meter.allows

    def _running_of(self, group: str) -> int:
        if self._running is None:
            queue = self._queue
            self._running = Counter(queue.jobs[job_id].group or "" for job_id in queue.sets[State.ACTIVE])
        return self._running[group]

    def _count(self, job: StoredJob) -> None:
        queue, group = self._queue, job.group or ""
        if self._running is not None:
            self._running[group] += 1
        if (meter := self._meter(None)) is not None:
            queue.arrivals[None] = meter.start()
        if queue.lanes is None:
            return
        if (meter := self._meter(group)) is not None:
            queue.arrivals[group] = meter.start()
        queue.turn += 1
        queue.turns[group] = queue.turn
        if len(queue.turns) > 2 * len(queue.lanes) + _GROUPS_REMEMBERED:
            self._forget_groups()

    def _forget_groups(self) -> None:
        """Forget groups with nothing to do, the longest ago first: they would come first anyway."""
        queue = self._queue
        idle = sorted((turn, group) for group, turn in queue.turns.items() if group not in (queue.lanes or {}))
        for _, group in idle[: len(idle) // 2]:
            del queue.turns[group]
        queue.arrivals = {
            group: arrival_us
            for group, arrival_us in queue.arrivals.items()
            if group is None or group in queue.turns or arrival_us > self._now_us
        }

    def _meter(self, group: str | None) -> Meter | None:
        if group not in self._meters:
            rate = self._limit("rate") if group is None else self._group_limit(group, "rate")
            before_us = self._queue.arrivals.get(group, 0.0)
            meter = Meter(rate, before_us, self._now_us) if isinstance(rate, RateLimit) else None
            if meter is not None and meter.arrival_us < before_us:
                # Kept although nothing may start: brought down at each look only, it would stay ahead of each.
                self._queue.arrivals[group] = meter.arrival_us
            self._meters[group] = meter
        return self._meters[group]

    def _limit(self, name: str) -> RateLimit | int | None:
        if name in self._queue.limits:
            return self._queue.limits[name]
        limit: RateLimit | int | None = getattr(self._contract.limits, name)
        return limit

    def _group_limit(self, group: str, name: str) -> RateLimit | int | None:
        if not group:
            return None  # jobs that name no group take turns with the groups, but are nobody's tenant
        own = self._queue.group_limits.get(group, {})
        return own[name] if name in own else self._limit(f"group_{name}")
