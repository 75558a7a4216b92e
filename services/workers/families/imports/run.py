"""One import: batch after batch from a source into the database, going on where an earlier run stopped."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError

from services.workers.families.imports.checkpoint import Checkpoint, CheckpointStore
from services.workers.families.imports.contract import ConflictMode, ErrorMode
from services.workers.families.imports.layout import Layout
from services.workers.families.imports.report import store_report
from services.workers.families.imports.validation import Reject, ValidBatch, shown
from services.workers.families.imports.writing import BatchWriter, Counts, writer_for
from shared.context import JobContext
from shared.database import begin_write, describe_error
from shared.database.datasets import Dataset
from shared.errors import PermanentError, RetryableError
from shared.storage import Storage


@dataclass(frozen=True, slots=True)
class Rules:
    """What the caller asked for."""

    #: what to do with a row whose key is there already
    conflict: ConflictMode
    #: whether the first row that is not valid ends the import
    on_error: ErrorMode
    #: how many rows may be rejected; None for any number
    max_rejects: int | None


@dataclass(frozen=True, slots=True)
class Step:
    """A batch that is ready to be written."""

    #: how its columns are laid out
    layout: Layout
    #: the rows
    batch: ValidBatch
    #: last row of the source that it covers
    last_row: int
    #: how much of the source is read after it, 0 to 1
    share: float


class ImportRun:
    """Carries out one run of an import job.

    Args:
        engine: the database.
        storage: where the reject report goes.
        dataset: where the rows go.
        rules: what the caller asked for.
        job: the run.
        name: name of the file that is imported.
    """

    def __init__(
        self, engine: Engine, storage: Storage, dataset: Dataset, rules: Rules, job: JobContext, name: str
    ) -> None:
        self._engine = engine
        self._storage = storage
        self._dataset = dataset
        self._rules = rules
        self._job = job
        self._name = name
        self._store = CheckpointStore(engine, job.job_id, job.token)
        self._writers: dict[Layout, BatchWriter] = {}
        self._started = time.monotonic()

    def claim(self, *, keep_days: int) -> Checkpoint:
        """Take the job's checkpoint over.

        Raises:
            LeaseLost: a later run has it.
            RetryableError: the database cannot be reached.
        """
        with database_errors():
            return self._store.claim(keep_days=keep_days)

    def carry_out(
        self, done: Checkpoint, steps: Iterator[Step], *, total: int | None, facts: dict[str, Any]
    ) -> dict[str, Any]:
        """Write all steps and give the result.

        Args:
            done: what :meth:`claim` gave.
            steps: the batches after ``done.position``.
            total: number of rows in the source, where it is known.
            facts: what else belongs in the result.

        Raises:
            PermanentError: the rules say that the import fails.
            RetryableError: the database failed in a way that may pass.
            LeaseLost, JobCancelled: somebody else decided.
        """
        progress = Progress(self._job, total, done.read)
        spent = done.seconds
        for step in steps:
            self._job.raise_if_cancelled()
            done = self._commit(done, step, spent + time.monotonic() - self._started)
            progress.report(done.read, step.share)
        self._job.raise_if_cancelled()
        result = {
            "dataset": self._dataset.name,
            **facts,
            "read": done.read,
            "inserted": done.counts.inserted,
            "updated": done.counts.updated,
            "skipped": done.counts.skipped,
            "rejected": done.rejected,
            "report_file_id": None,
            "seconds": round(spent + time.monotonic() - self._started, 3),
        }
        with database_errors():
            if done.rejected:
                result["report_file_id"] = store_report(self._storage, self._name, self._store.mistakes())
            self._store.finish(result)
        progress.finish(done.read)
        return result

    def _commit(self, done: Checkpoint, step: Step, seconds: float) -> Checkpoint:
        self._check_rejects(done, step.batch.rejects, step.batch.rejected)
        try:
            with database_errors():
                return self._write_whole(done, step, seconds)
        except _Refused:
            # Some row of the batch breaks a rule that only the database knows. Which one is found row by row.
            with database_errors():
                return self._write_singly(done, step, seconds)

    def _write_whole(self, done: Checkpoint, step: Step, seconds: float) -> Checkpoint:
        with begin_write(self._engine) as connection:
            self._store.fence(connection)
            writer = self._writer(connection, step.layout)
            try:
                counts = writer.write(connection, step.batch.columns)
            except (OperationalError, InterfaceError):
                raise
            except DBAPIError as error:
                raise _Refused from error
            after = self._after(done, step, counts, step.batch.rejected, seconds)
            self._store.save(connection, after, step.batch.rejects)
            return after

    def _write_singly(self, done: Checkpoint, step: Step, seconds: float) -> Checkpoint:
        refused: list[Reject] = []
        counts = Counts()
        with begin_write(self._engine) as connection:
            self._store.fence(connection)
            writer = self._writer(connection, step.layout)
            for index, number in enumerate(step.batch.row_numbers):
                row = [values[index : index + 1] for values in step.batch.columns]
                try:
                    with connection.begin_nested():
                        counts += writer.write(connection, row)
                except (OperationalError, InterfaceError):
                    raise
                except DBAPIError as error:
                    self._refuse_conflict(connection, writer, step.layout, row, number)
                    refused.append(_reject(number, error, step.layout, row))
            rejects = sorted([*step.batch.rejects, *refused], key=lambda reject: reject.row_number)
            rejected = step.batch.rejected + len(refused)
            self._check_rejects(done, rejects, rejected)
            after = self._after(done, step, counts, rejected, seconds)
            self._store.save(connection, after, rejects)
            return after

    def _writer(self, connection: Connection, layout: Layout) -> BatchWriter:
        if layout not in self._writers:
            self._writers[layout] = writer_for(connection, self._dataset, layout, self._rules.conflict)
        return self._writers[layout]

    def _after(self, done: Checkpoint, step: Step, counts: Counts, rejected: int, seconds: float) -> Checkpoint:
        return done.advanced(
            position=step.last_row, read=step.batch.read, counts=counts, rejected=rejected, seconds=seconds
        )

    def _refuse_conflict(
        self, connection: Connection, writer: BatchWriter, layout: Layout, row: Sequence[Sequence[Any]], number: int
    ) -> None:
        if self._rules.conflict != "fail" or not writer.is_there(connection, row):
            return
        names = [column.name for column in layout.columns]
        key = ", ".join(f"{name} = {shown(row[names.index(name)][0])!r}" for name in self._dataset.key)
        raise PermanentError(
            f"Row {number}: {key} is in {self._dataset.name!r} already, and conflict is 'fail'. The rows of its batch "
            "were not written; use 'update' or 'skip' to go on."
        )

    def _check_rejects(self, done: Checkpoint, rejects: Sequence[Reject], rejected: int) -> None:
        if rejects and self._rules.on_error == "fail":
            first = rejects[0]
            what = f"{first.column} {first.reason}".strip()
            raise PermanentError(
                f"Row {first.row_number}: {what} (value: {first.value!r}). The import stopped, since on_error is "
                "'fail'; the rows of its batch were not written."
            )
        limit = self._rules.max_rejects
        if limit is not None and done.rejected + rejected > limit:
            report = store_report(self._storage, self._name, self._all_mistakes(rejects))
            raise PermanentError(
                f"{done.rejected + rejected} rows were rejected by row {rejects[-1].row_number}, more than max_rejects "
                f"({limit}), so the import stopped. File {report} lists them.",
                report_file_id=report,
            )

    def _all_mistakes(self, latest: Sequence[Reject]) -> Iterator[Sequence[Reject]]:
        yield from self._store.mistakes()
        yield latest


class Progress:
    """Reports how far an import is, with rate and remaining time."""

    def __init__(self, job: JobContext, total: int | None, read: int, clock: Callable[[], float] = time.monotonic):
        self._job = job
        self._total = total
        self._before = read
        self._clock = clock
        self._started = clock()

    def report(self, read: int, share: float) -> None:
        """Report after a batch.

        Args:
            read: rows read by all runs.
            share: how much of the source is done, 0 to 1.
        """
        spent = max(self._clock() - self._started, 1e-6)
        rate = (read - self._before) / spent
        total = self._total if self._total is not None else (round(read / share) if share > 0 else None)
        remaining = None if total is None or rate <= 0 else round(max(0, total - read) / rate, 1)
        # 100 is for the finished job; the report of rejects is still to be written.
        self._job.progress(
            min(99.0, 100.0 * share),
            f"{read:,} rows" if self._total is None else f"{read:,} of {self._total:,} rows",
            rows=read,
            total=self._total,
            rows_per_s=round(rate, 1),
            remaining_s=remaining,
        )

    def finish(self, read: int) -> None:
        """Report the end."""
        rate = (read - self._before) / max(self._clock() - self._started, 1e-6)
        self._job.progress(100.0, f"{read:,} rows", rows=read, total=read, rows_per_s=round(rate, 1), remaining_s=0.0)


class _Refused(Exception):
    """The database refused a row of a batch."""


class database_errors:  # noqa: N801 - used like a function
    """Turns what a database driver raises into errors that say whether another attempt can help."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not isinstance(error, DBAPIError):
            return
        told = describe_error(error)
        if isinstance(error, (OperationalError, InterfaceError)):
            raise RetryableError(f"The database did not take the rows now ({told}).") from error
        raise PermanentError(f"The database refused the statement ({told}).") from error


def _reject(number: int, error: DBAPIError, layout: Layout, row: Sequence[Sequence[Any]]) -> Reject:
    told = describe_error(error)
    diagnosis = getattr(error.orig, "diag", None)
    named = getattr(diagnosis, "column_name", None) or ""
    for index, column in enumerate(layout.columns):
        if column.name == named or (not named and f".{column.name}" in told):
            return Reject(number, column.name, f"the database refused it: {told}", shown(row[index][0]))
    return Reject(number, "", f"the database refused the row: {told}", "")
