"""For tests of programs that submit jobs, and of handlers: a queue in memory, run by hand, with time that can be moved.

docs/testing.md shows it in use.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from shared.contracts import Catalogue, FamilyContract, JobContract, QueueContract
from shared.engine.engine import JobRecord
from shared.engine.keys import split_job_id
from shared.engine.memory import MemoryEngine
from shared.engine.states import State
from shared.inline import InlineEngine, Runner, make_runner, run_all
from shared.submission import submit

#: states of a job that is yet to run
ENQUEUED = (State.WAITING, State.DELAYED, State.BLOCKED)


@contextmanager
def callboard_testing(catalogue: Catalogue) -> Iterator[QueueInTest]:
    """Give a queue in memory for the time of a test.

    Args:
        catalogue: job types, e.g. of :func:`shared.contracts.discover` or :func:`catalogue_of`.
    """
    queue = QueueInTest(catalogue)
    try:
        yield queue
    finally:
        queue.close()


class QueueInTest:
    """Queues in memory; nothing runs unless the test says so.

    Args:
        catalogue: job types.

    Attributes:
        engine: the queue, to be handed to what is tested.
    """

    def __init__(self, catalogue: Catalogue) -> None:
        self.engine = MemoryEngine()
        self._catalogue = catalogue
        self._runner: Runner = make_runner(self.engine, catalogue)

    def close(self) -> None:
        """End what watches over runs."""
        self._runner.close()

    def submit(self, job_type: str, payload: Mapping[str, Any], **options: Any) -> JobRecord:
        """Submit a job as the API does; gives it as it was accepted.

        Raises:
            UnknownJobType, ValidationFailed
        """
        return submit(self.engine, self._catalogue, job_type, payload, options)

    def run_next(self, queue: str) -> JobRecord | None:
        """Run one attempt of the next job of a queue; gives the job as it is then, None when none may start."""
        job_id = self._runner.run_one(queue)
        self.engine.relay(queue)
        return self.engine.get(job_id) if job_id else None

    def run_all(self) -> list[JobRecord]:
        """Run until nothing waits any more, with all that the jobs enqueue; what is delayed stays so.

        Returns:
            the jobs as they are then, in the order of their first runs; those that retention removed are left out.
        """
        job_ids = dict.fromkeys(run_all(self.engine, self._runner))
        return [job for job_id in job_ids if (job := self.engine.get(job_id)) is not None]

    def advance(self, seconds: float | timedelta) -> None:
        """Move the queue's clock on: delays pass, windows end, records age. Nothing runs by that."""
        self.engine.advance(seconds.total_seconds() if isinstance(seconds, timedelta) else seconds)

    def get(self, job_id: str) -> JobRecord:
        """Read a job.

        Raises:
            AssertionError: there is none.
        """
        job = self.engine.get(job_id)
        if job is None:
            raise AssertionError(f"There is no job {job_id}.")
        return job

    def assert_enqueued(self, **expected: Any) -> list[JobRecord]:
        """See :func:`assert_enqueued`."""
        return assert_enqueued(self.engine, **expected)


def assert_enqueued(
    engine: MemoryEngine,
    *,
    type: str | None = None,
    payload: Mapping[str, Any] | None = None,
    queue: str | None = None,
    count: int | None = None,
) -> list[JobRecord]:
    """Check that jobs are there that have yet to run (waiting, delayed or blocked).

    Args:
        engine: where.
        type: of this type; None for any.
        payload: whose payload has these fields with these values, whatever others it has.
        queue: in this queue; None for any.
        count: so many; None for at least one.

    Returns:
        the jobs, in the order of their ids, which is that in which they were made.

    Raises:
        AssertionError: naming the jobs that are there.
    """
    there = _enqueued(engine, queue)
    found = [job for job in there if type in (None, job.name) and _has(job, payload)]
    if (count is None and found) or len(found) == count:
        return found
    what = " ".join(str(part) for part in (type or "any type", dict(payload) if payload else "") if part)
    lines = "".join(f"\n  {job.id} {job.name} {job.state.value} {job.payload}" for job in there) or " none"
    raise AssertionError(
        f"{len(found)} jobs of {what} are enqueued, expected {'some' if count is None else count}. There are:{lines}"
    )


def run_job(contract: JobContract, payload: Mapping[str, Any], **options: Any) -> JobRecord:
    """Run one job to its end at once, with all its attempts and without the waits between them.

    Args:
        contract: its type.
        payload: its input, checked as ever.
        **options: as the API takes them, e.g. ``attempts=1``.

    Returns:
        the job: its state, result, error, attempts, progress.

    Raises:
        ValidationFailed: the payload or an option.
    """
    catalogue = catalogue_of(contract)
    engine = InlineEngine(catalogue)
    try:
        return submit(engine, catalogue, contract.type, payload, options)
    finally:
        engine.close()


def catalogue_of(*contracts: JobContract) -> Catalogue:
    """Make a catalogue of some job types, each queue as it is by default."""
    queues = tuple(QueueContract(name) for name in dict.fromkeys(contract.queue for contract in contracts))
    return Catalogue({"test": FamilyContract(name="test", queues=queues, jobs=contracts)})


def _enqueued(engine: MemoryEngine, queue: str | None) -> list[JobRecord]:
    names = [queue] if queue is not None else [stored.name for stored in engine.queues()]
    jobs = [job for name in names for state in ENQUEUED for job in engine.list(name, state, limit=10**6).jobs]
    return sorted(jobs, key=lambda job: split_job_id(job.id)[1])


def _has(job: JobRecord, payload: Mapping[str, Any] | None) -> bool:
    if payload is None:
        return True
    given = job.payload or {}
    return all(name in given and given[name] == value for name, value in payload.items())
