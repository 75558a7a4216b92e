"""Jobs without a queue server (``QUEUE_ENABLED=false``): whoever adds a job runs it, and then goes on.

The queue is a :class:`MemoryEngine`. Runs go through the broker, middleware and contracts of a worker process, and
leave the same records. docs/job-lifecycle.md says what differs.
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, cast

from shared.contracts import Catalogue
from shared.engine.adding import Added
from shared.engine.engine import Engine, NewJob
from shared.engine.flows import NewFlow
from shared.engine.keys import split_job_id
from shared.engine.memory import Clock, MemoryEngine
from shared.engine.states import State

#: module that runs jobs. Found by its name, as the families are: shared imports no service
WORKER = "services.workers.inline"
#: how often a thread that waits for another to run its job looks again, seconds
_LOOK_S = 0.05


class Runner(Protocol):
    """Runs jobs on the calling thread."""

    @property
    def busy(self) -> bool:
        """Whether the calling thread is running a job."""
        ...

    def run_one(self, queue: str) -> str | None:
        """Run the next job of a queue to the end of its attempt; gives its id, None when none may start."""
        ...

    def close(self) -> None:
        """End the threads that watch over runs."""
        ...


def make_runner(engine: Engine, catalogue: Catalogue) -> Runner:
    """Make what runs the jobs of a catalogue; imports what a worker process needs, but no handler yet."""
    return cast("Runner", importlib.import_module(WORKER).make_runner(engine, catalogue))


class InlineEngine(MemoryEngine):
    """A queue whose calls come back when the jobs that they are about have run.

    Delays are not waited for, neither those that a job was added with nor those between its attempts: there is nobody
    who would run it later. What a job enqueues runs after it, before the call comes back; if that is delayed it stays
    so, until its time has come and anything else is added, or until it is promoted.

    Args:
        catalogue: job types.
        clock: what the time is taken from.
    """

    def __init__(self, catalogue: Catalogue, clock: Clock | None = None) -> None:
        super().__init__(clock)
        self._catalogue = catalogue
        self._runner: Runner | None = None
        self._making = threading.Lock()

    # -- what brings jobs to run --

    def add(self, queue: str, jobs: Sequence[NewJob], *, max_length: int | None = None) -> list[Added]:
        """See :meth:`Engine.add`; the jobs have run when it returns."""
        answers = super().add(queue, jobs, max_length=max_length)
        self._run([answer.job_id for answer in answers])
        return answers

    def add_flow(self, flow: NewFlow) -> None:
        """See :meth:`Engine.add_flow`; its jobs have run when it returns."""
        super().add_flow(flow)
        self._run([node.job.id for node in flow.jobs])

    def retry(self, job_id: str) -> None:
        """See :meth:`Engine.retry`; the job has run when it returns."""
        super().retry(job_id)
        self._run([job_id])

    def promote(self, job_id: str) -> None:
        """See :meth:`Engine.promote`; the job has run when it returns."""
        super().promote(job_id)
        self._run([job_id])

    def retry_flow(self, flow_id: str) -> int:
        """See :meth:`Engine.retry_flow`; its jobs have run when it returns."""
        count = super().retry_flow(flow_id)
        flow = self.flow(flow_id)
        self._run(flow.jobs if flow else ())
        return count

    def resume(self, queue: str) -> bool:
        """See :meth:`Engine.resume`; what waited has run when it returns."""
        changed = super().resume(queue)
        with self._changed:
            waiting = list(self.stored(queue).sets[State.WAITING])
        self._run(waiting)
        return changed

    def close(self) -> None:
        """See :meth:`Engine.close`."""
        with self._making:
            if self._runner is not None:
                self._runner.close()
                self._runner = None
        super().close()

    # -- running --

    def _run(self, job_ids: Iterable[str]) -> None:
        runner = self._make_runner()
        if runner.busy:
            # A job enqueued it: whoever runs that one sees to it afterwards.
            return
        wanted = list(job_ids)
        while True:
            self._hurry(wanted)
            ran = run_all(self, runner, promote=self._hurry_retries)
            with self._changed:
                if not any(self._may_run(job_id) for job_id in wanted):
                    return
                if not ran:
                    # Another thread runs it, or a limit holds it back.
                    self._changed.wait(_LOOK_S)

    def _hurry(self, job_ids: Iterable[str]) -> None:
        for job_id in job_ids:
            with self._changed:
                job = self._find(job_id)
                if job is not None and job.state is State.DELAYED:
                    super().promote(job_id)

    def _hurry_retries(self, queue: str) -> None:
        with self._changed:
            stored = self.stored(queue)
            self._hurry([job_id for job_id in stored.sets[State.DELAYED] if stored.jobs[job_id].attempt])

    def _may_run(self, job_id: str) -> bool:
        job = self._find(job_id)
        if job is None or job.state.finished or job.state is State.BLOCKED:
            return False
        return job.state is State.ACTIVE or not self.stored(split_job_id(job_id)[0]).paused

    def _make_runner(self) -> Runner:
        with self._making:
            if self._runner is None:
                self._runner = make_runner(self, self._catalogue)
            return self._runner


def run_all(engine: MemoryEngine, runner: Runner, *, promote: Callable[[str], None] | None = None) -> list[str]:
    """Run until no job of any queue may start; gives the ids in the order of their runs.

    Args:
        engine: the queues.
        runner: what runs them.
        promote: called with a queue before it is looked at, to bring further jobs to wait.
    """
    ran: list[str] = []
    before = -1
    while before < len(ran):
        before = len(ran)
        for queue in engine.queues():
            if promote is not None:
                promote(queue.name)
            while (job_id := runner.run_one(queue.name)) is not None:
                ran.append(job_id)
                engine.relay(queue.name)
                if promote is not None:
                    promote(queue.name)
    return ran
