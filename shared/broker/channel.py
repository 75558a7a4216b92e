"""One queue in one worker process: where finished runs are committed and jobs are fetched.

Worker threads hand their finish in and wait; the consumer thread commits all that have gathered in one ``cycle`` and
fetches as many jobs as threads got free by it. While a call is under way further finishes gather, so the batch grows
with the load by itself (group commit), and nothing is acknowledged that is not stored.

While jobs are so short that the process looks ahead (:mod:`shared.broker.slots`), threads do not wait: putting one to
sleep and waking it costs more than such a job. See docs/adr/0006.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from structlog.stdlib import get_logger

from shared.broker.outage_log import OutageLog
from shared.broker.slots import Slots
from shared.contracts.queue import QueueContract
from shared.engine.engine import CycleReply, Engine, Finish, FinishStatus, LeasedJob, Outcome
from shared.errors import EngineUnavailable

log = get_logger(__name__)

#: an idle queue is looked at this often although nobody woke us: a worker may have died with the wake-up in its hand
IDLE_LOOK_S = 5.0
#: waits between tries while the server cannot be reached
FIRST_RETRY_S, LAST_RETRY_S = 0.02, 0.5
#: how long a stopping worker goes on trying to commit; then its jobs are left to the reaper
STOP_GRACE_S = 10.0
#: finishes committed at most by one call, a bound on how long the server is held
COMMIT_BATCH = 256
#: no run has ended for so long while more jobs are held than there are threads: those that wait are handed back
STUCK_S = 0.05
#: a worker thread that waits longer than this for its commit looks whether anybody commits at all
COMMIT_PATIENCE_S = 0.5


#: finishes that changed nothing: what is logged, and why in words
_LOST = {
    FinishStatus.STALE: ("lease_lost", "the lease ran out before the run ended; another worker has the job or had it"),
    FinishStatus.GONE: ("job_gone", "the queue server has no such job any more: it was removed, or the data was lost"),
}


class _Pending:
    """A finish on its way, and the thread that waits for it, if one does."""

    __slots__ = ("done", "finish", "status")

    def __init__(self, finish: Finish, *, waited_for: bool = True) -> None:
        self.finish = finish
        self.status: FinishStatus | None = None
        # A bare lock serves as the cheapest one-shot event there is; an Event would cost a Condition a job.
        self.done = threading.Lock() if waited_for else None
        if self.done is not None:
            self.done.acquire()


class Channel:
    """See the module.

    Args:
        engine: the queue server.
        contract: the queue.
        worker: name of this process.
        slots: its threads.
        lease_ms: length of a lease, milliseconds.
        on_listen: called when the queue was seen empty with threads to spare, so that somebody waits for its wake-up.
        on_stuck: called when jobs that were fetched ahead wait behind long ones; hands them back.
        on_steps: called with the queue's name when steps for other queues wait to be taken.
        outages: told when the server does not answer.
    """

    def __init__(
        self,
        engine: Engine,
        contract: QueueContract,
        *,
        worker: str,
        slots: Slots,
        lease_ms: int,
        on_listen: Callable[[], None],
        on_stuck: Callable[[], None] = lambda: None,
        on_steps: Callable[[str], None] = lambda _: None,
        outages: OutageLog | None = None,
    ) -> None:
        self.contract = contract
        #: whether somebody should wait on the wake level for us
        self.listening = False
        #: when jobs were fetched last, monotonic seconds
        self.fetched_at = 0.0
        self._outages = outages or OutageLog()
        self._engine = engine
        self._worker = worker
        self._slots = slots
        self._lease_ms = lease_ms
        self._on_listen = on_listen
        self._on_stuck = on_stuck
        self._on_steps = on_steps
        #: finishes to commit; None is a nudge to look again
        self._inbox: SimpleQueue[_Pending | None] = SimpleQueue()
        self._mutex = threading.Lock()
        self._held: dict[str, LeasedJob] = {}
        self._requests = 0
        #: threads claimed for the next fetch
        self._granted = 0
        #: whether the queue may hold jobs that we were not refused yet
        self._look = True
        #: when to look although nobody told us to, monotonic seconds
        self._look_at = 0.0
        self._woken = False
        #: when a run ended or jobs came, monotonic seconds
        self._moved_at = 0.0
        self._draining = False
        self._limited = False
        self._stop_by = float("inf")
        self._consumer_thread = 0

    # -- called by worker threads --

    def commit(self, finish: Finish) -> FinishStatus | None:
        """Store how a run ended, and wait until that is done unless runs are very short.

        Returns:
            what became of it; None when nobody waited, or the worker stopped before the server could be reached.
        """
        pending = _Pending(finish, waited_for=not self._slots.ahead)
        if threading.get_ident() == self._consumer_thread:
            # Dramatiq's consumer thread itself rejects what no actor is there for; it cannot wait for itself.
            self._commit_here([pending])
            return pending.status
        self._inbox.put(pending)
        if pending.done is None:
            return None
        while not pending.done.acquire(timeout=COMMIT_PATIENCE_S):
            # Dramatiq pauses its consumers, and rests for seconds after an error: then nobody gathers.
            self._commit_gathered()
        return pending.status

    # -- called by other threads of the process --

    def nudge(self) -> None:
        """Look again: a thread was set aside for this queue."""
        self._inbox.put(None)

    def wake(self) -> None:
        """Look again: there is work, and that word was taken from the other workers, so it must be acted on."""
        self._woken = True
        self._inbox.put(None)

    def drain(self) -> None:
        """Fetch nothing any more."""
        self._draining = True
        self.listening = False
        self._inbox.put(None)

    def stop(self) -> None:
        """Bound how long commits are tried from here on."""
        self._stop_by = time.monotonic() + STOP_GRACE_S

    def held(self) -> list[tuple[str, int]]:
        """Give the leases that this process holds, as (job id, token)."""
        with self._mutex:
            return [(job.id, job.token) for job in self._held.values()]

    @property
    def limited(self) -> bool:
        """Whether a limit of the queue, and not a want of threads, keeps this process from fetching."""
        return self._limited or len(self._held) >= self.contract.concurrency

    def release(self, jobs: Sequence[LeasedJob]) -> None:
        """Hand jobs back that were not started; they go to the head of the queue and no attempt is counted."""
        if jobs:
            self._commit_here([_Pending(Finish(job.id, job.token, Outcome.RELEASE)) for job in jobs])

    def pass_on(self) -> None:
        """Act on a wake-up that came when nobody looked any more: it was taken from the other workers."""
        if not self._woken:
            return
        self._woken = False
        # One try: without it the others look by themselves, only later.
        with suppress(EngineUnavailable):
            self._engine.cycle(
                self.contract, worker=self._worker, request="end", repeat=False, want=0, lease_ms=self._lease_ms
            )

    # -- called by the consumer thread --

    def discard(self, finish: Finish) -> None:
        """Commit the end of a job that never reached a worker thread."""
        self._commit_here([_Pending(finish)])

    def step(self, timeout_s: float) -> list[LeasedJob]:
        """Wait for something to do, for at most ``timeout_s``, and do it; gives the jobs that were fetched."""
        self._consumer_thread = threading.get_ident()
        if self._look and not self._granted:
            self._granted = self._claim(returned=0)
        batch = self._gather(timeout_s)
        if batch:
            self._moved()
        elif (
            # Threads claimed for a fetch that is yet to come hold no jobs.
            not self._granted and self._slots.overcommitted and time.monotonic() - self._slots.moved_at >= STUCK_S
        ):
            self._slots.look_no_further()
            self._on_stuck()
        woken = self._woken
        if woken:
            # Not set without need: a word that came since it was read would be lost.
            self._woken = False
        # Something became due: it must be promoted or reaped even if no thread of ours is free, for others to run it.
        due = time.monotonic() >= self._look_at
        if woken or due:
            self._look = True
        if not batch and not self._look:
            # We stood in line when we still looked; a thread that was set aside for us since is of use to others.
            self._slots.exchange(self, returned=0, wanted=0)
            return []
        want, self._granted = self._granted, 0
        if batch or not want:
            # Who holds threads already and gives none back must not stand in line for more: it may find no work.
            want += self._claim(returned=len(batch), granted=want)
        if not batch and not want and not woken and not due:
            # There may be jobs, but no thread is free; the next finish or nudge brings us back, or what becomes due.
            return []
        try:
            reply = self._cycle(batch, want)
        except BaseException:
            # Dramatiq restarts a consumer that raised; the threads that it had claimed must not be lost by that.
            self._slots.exchange(self, returned=want, wanted=0)
            self._look = True
            raise
        return self._took(reply, want) if reply else []

    def _claim(self, *, returned: int, granted: int = 0) -> int:
        # Those whose finish is at hand still count as held.
        room = 0 if self._draining else self.contract.concurrency - len(self._held) + returned - granted
        return self._slots.exchange(self, returned=returned, wanted=max(0, room))

    def _gather(self, timeout_s: float) -> list[_Pending]:
        batch: list[_Pending] = []
        hurry = self._granted and self._look
        if self._slots.overcommitted:
            timeout_s = min(timeout_s, STUCK_S)
        wait = 0.0 if hurry else max(0.0, min(timeout_s, self._look_at - time.monotonic()))
        try:
            item = self._inbox.get(timeout=wait) if wait else self._inbox.get_nowait()
            while True:
                if item is not None:
                    batch.append(item)
                    if len(batch) == COMMIT_BATCH:
                        break
                item = self._inbox.get_nowait()
        except Empty:
            pass
        return batch

    def _took(self, reply: CycleReply, want: int) -> list[LeasedJob]:
        unused = want - len(reply.jobs)
        self._moved()
        self._limited = reply.limited
        if reply.jobs:
            self.fetched_at = self._moved_at
        if want:
            self._look = unused == 0
        if unused:
            self._slots.exchange(self, returned=unused, wanted=0)
        quiet = IDLE_LOOK_S if reply.next_ms is None else min(IDLE_LOOK_S, reply.next_ms / 1000)
        self._look_at = time.monotonic() + quiet
        was_listening, self.listening = self.listening, bool(unused) and not self._draining
        if self.listening and not was_listening:
            self._on_listen()
        if self._draining and reply.jobs:
            self.release(reply.jobs)
            return []
        return reply.jobs

    def _moved(self) -> None:
        self._moved_at = self._slots.moved_at = time.monotonic()

    def flush(self) -> None:
        """Commit what has gathered: there is no consumer thread any more, or it rests."""
        while self._commit_gathered() == COMMIT_BATCH:
            pass

    def flush_overdue(self) -> None:
        """Commit what has gathered if the consumer thread rests; finishes that nobody waits for would rest with it."""
        if time.monotonic() - self._moved_at > COMMIT_PATIENCE_S:
            self.flush()

    def _commit_gathered(self) -> int:
        batch: list[_Pending] = []
        nudged = False
        try:
            while len(batch) < COMMIT_BATCH:
                item = self._inbox.get_nowait()
                if item is None:
                    nudged = True
                else:
                    batch.append(item)
        except Empty:
            pass
        if nudged:
            self._inbox.put(None)
        if batch:
            self._commit_here(batch)
        return len(batch)

    def _commit_here(self, batch: Sequence[_Pending]) -> None:
        try:
            self._cycle(batch, want=0)
        finally:
            self._slots.exchange(self, returned=len(batch), wanted=0)

    def _cycle(self, batch: Sequence[_Pending], want: int) -> CycleReply | None:
        with self._mutex:
            self._requests += 1
            request = str(self._requests)
        try:
            reply = self._call(request, [pending.finish for pending in batch], want)
        except BaseException:
            # A run that was not committed is left to the reaper, so its lease must not be renewed any more.
            self._drop(batch)
            raise
        else:
            # In this order: a job that was sent back may have come again with this very reply.
            self._drop(batch)
            with self._mutex:
                for job in reply.jobs if reply else ():
                    self._held[job.id] = job
            if reply is not None and reply.outbox:
                self._on_steps(self.contract.name)
            for pending, status in zip(batch, reply.finishes if reply else (), strict=False):
                pending.status = status
                if status in _LOST:
                    event, reason = _LOST[status]
                    log.warning(event, job_id=pending.finish.job_id, outcome=str(pending.finish.outcome), reason=reason)
            return reply
        finally:
            # Whatever happened, no thread may wait for ever.
            for pending in batch:
                if pending.done is not None:
                    pending.done.release()

    def _drop(self, batch: Sequence[_Pending]) -> None:
        with self._mutex:
            for pending in batch:
                self._let_go(pending.finish.job_id, pending.finish.token)

    def _let_go(self, job_id: str, token: int) -> None:
        # A job that was lost, as by a frozen process, may have come again: the end of its first run leaves that lease.
        job = self._held.get(job_id)
        if job is not None and job.token == token:
            del self._held[job_id]

    def _call(self, request: str, finishes: Sequence[Finish], want: int) -> CycleReply | None:
        repeat = answered = False
        # This call and no other: one that is refused for what it carries would else begin and end an outage each time.
        caller = (self.contract.name, request)
        wait_s = FIRST_RETRY_S
        try:
            while True:
                try:
                    reply = self._engine.cycle(
                        self.contract,
                        worker=self._worker,
                        request=request,
                        repeat=repeat,
                        want=want,
                        lease_ms=self._lease_ms,
                        finishes=finishes,
                    )
                except EngineUnavailable as error:
                    if time.monotonic() > self._stop_by:
                        log.warning(
                            "stopped_uncommitted", queue=self.contract.name, jobs=len(finishes), error=error.detail
                        )
                        return None
                    repeat = True
                    self._outages.failed(caller, error)
                    time.sleep(wait_s)
                    wait_s = min(LAST_RETRY_S, wait_s * 2)
                else:
                    answered = True
                    return reply
        finally:
            if repeat:
                self._outages.ended(caller, answered=answered)
