"""Worker threads of a process, shared out among its queues.

A job is fetched only when a thread is there to run it, so that no job waits in the memory of one worker while another
is idle. Queues that wait for a thread come before the queue that gives one back: a busy queue cannot starve the others
of its process.

While jobs take less than a millisecond or two, a process looks ahead: it fetches what its threads will get through in
a few milliseconds more, since they would otherwise spend most of their time asleep between a commit and the next job
(docs/performance.md). Busy queues share what is fetched ahead evenly. The first long job ends that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Protocol

#: more jobs at once than any process runs: of a plain Dramatiq queue, as many as there are threads
UNBOUNDED = 1_000_000
#: jobs that take less on average, seconds, are worth looking ahead for
SHORT_S = 0.002
#: a job that was fetched ahead waits for about so long, seconds
AHEAD_S = 0.01
#: jobs fetched ahead at most
AHEAD_MOST = 64
#: share of the newest run in the average
_WEIGHT = 0.05


class Claimant(Protocol):
    """Who waits for a thread."""

    def nudge(self) -> None:
        """Hear that one is set aside; called with the lock of :class:`Slots` held, so it must not block."""
        ...


class Slots:
    """A count of idle threads.

    Args:
        total: threads of the process.
    """

    def __init__(self, total: int) -> None:
        self._mutex = threading.Lock()
        self.total = total
        self._free = total
        # Not short until proven: a process begins without looking ahead.
        self._mean_run_s = SHORT_S * 5
        self._waiting: deque[Claimant] = deque()
        self._set_aside: dict[Claimant, int] = {}
        #: threads that each claimant holds, those set aside for it included
        self._held: dict[Claimant, int] = {}
        #: who got less than it last wanted
        self._hungry: set[Claimant] = set()
        #: when a run ended or a queue of the process was answered, monotonic seconds
        self.moved_at = 0.0

    @property
    def ahead(self) -> int:
        """Jobs that may be fetched beyond the threads."""
        mean_s = max(self._mean_run_s, 1e-6)
        return min(AHEAD_MOST, int(self.total * AHEAD_S / mean_s)) if mean_s < SHORT_S else 0

    @property
    def overcommitted(self) -> bool:
        """Whether more jobs are held than there are threads."""
        return self._free < 0

    def ran(self, seconds: float) -> None:
        """Hear how long a run took. Not locked: an update that is lost to a race changes an average by little."""
        self._mean_run_s += (seconds - self._mean_run_s) * _WEIGHT
        self.moved_at = time.monotonic()

    def look_no_further(self) -> None:
        """Stop looking ahead until runs have proven short again."""
        self._mean_run_s = SHORT_S * 5

    def exchange(self, claimant: Claimant, *, returned: int, wanted: int) -> int:
        """Give threads back and claim others; gives how many were granted, 0 to ``wanted``.

        A claimant that wanted and got none is nudged once one is set aside for it.
        """
        with self._mutex:
            mine = self._set_aside.pop(claimant, 0)
            granted = min(wanted, mine)
            self._hold(claimant, granted - mine - returned)
            self._serve_waiting(claimant if wanted else None)
            more = min(wanted - granted, self._room(claimant))
            self._hold(claimant, more)
            if granted + more:
                # One that was served ahead of its turn would later be set a thread aside that it has no use for.
                if claimant in self._waiting:
                    self._waiting.remove(claimant)
            elif wanted and claimant not in self._waiting:
                self._waiting.append(claimant)
            if granted + more < wanted:
                self._hungry.add(claimant)
            else:
                self._hungry.discard(claimant)
            return granted + more

    def _hold(self, claimant: Claimant, threads: int) -> None:
        self._held[claimant] = self._held.get(claimant, 0) + threads
        self._free -= threads

    def _room(self, claimant: Claimant) -> int:
        # Idle threads are for whoever comes first, or they might stay idle; what is fetched ahead is shared, or the
        # queue whose finishes come back first would take all of it again and again.
        idle, ahead = max(0, self._free), self.ahead
        if not ahead:
            return idle
        share = (self.total + ahead) // len(self._hungry | {claimant}) - self._held.get(claimant, 0)
        return max(idle, min(self._free + ahead, share))

    def _serve_waiting(self, claimant: Claimant | None) -> None:
        for other in tuple(self._waiting):
            if other is not claimant and self._room(other) > 0:
                self._waiting.remove(other)
                self._hold(other, 1)
                self._set_aside[other] = self._set_aside.get(other, 0) + 1
                other.nudge()
