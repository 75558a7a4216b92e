"""How far an import is: kept in the database, changed in the transaction that writes the rows."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from services.workers.families.imports.validation import Reject
from services.workers.families.imports.writing import Counts
from shared.database import begin_write
from shared.database.models import import_checkpoints as checkpoints
from shared.database.models import import_rejects as rejects
from shared.errors import LeaseLost

#: rejects fetched at a time for the report
_CHUNK = 10_000


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is committed of an import."""

    #: last row of the source that is dealt with; 0 before the first
    position: int = 0
    #: rows read that were not blank
    read: int = 0
    #: what became of those that were valid
    counts: Counts = field(default_factory=Counts)
    #: rows that were not valid
    rejected: int = 0
    #: time spent on it, by all runs together
    seconds: float = 0.0
    #: the result once the import is finished
    result: dict[str, Any] | None = None

    def advanced(self, *, position: int, read: int, counts: Counts, rejected: int, seconds: float) -> Checkpoint:
        """Give the checkpoint after a further batch."""
        return replace(
            self,
            position=position,
            read=self.read + read,
            counts=self.counts + counts,
            rejected=self.rejected + rejected,
            seconds=seconds,
        )


class CheckpointStore:
    """The checkpoint of one run of a job, fenced with the token of its lease.

    A worker that was frozen, lost its job to another and wakes up has a lower token than the row; whatever it
    tries fails with LeaseLost before it is committed.
    """

    def __init__(self, engine: Engine, job_id: str, token: int) -> None:
        self._engine = engine
        self._job_id = job_id
        self._token = token

    def claim(self, *, keep_days: int) -> Checkpoint:
        """Take the checkpoint over from any earlier run; removes what other jobs left long ago.

        Raises:
            LeaseLost: a later run has it.
        """
        now = dt.datetime.now(dt.UTC)
        with begin_write(self._engine) as connection:
            dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
            statement = dialect.insert(checkpoints).values(
                job_id=self._job_id,
                token=self._token,
                position=0,
                read=0,
                inserted=0,
                updated=0,
                skipped=0,
                rejected=0,
                seconds=0.0,
                updated_at=now,
            )
            statement = statement.on_conflict_do_update(
                index_elements=[checkpoints.c.job_id],
                set_={"token": statement.excluded.token, "updated_at": statement.excluded.updated_at},
                where=checkpoints.c.token <= statement.excluded.token,
            )
            if connection.execute(statement).rowcount == 0:
                raise LeaseLost
            _remove_old(connection, now - dt.timedelta(days=keep_days))
            row = connection.execute(select(checkpoints).where(checkpoints.c.job_id == self._job_id)).one()
        return Checkpoint(
            position=row.position,
            read=row.read,
            counts=Counts(row.inserted, row.updated, row.skipped),
            rejected=row.rejected,
            seconds=row.seconds,
            result=None if row.result is None else json.loads(row.result),
        )

    def fence(self, connection: Connection) -> None:
        """Lock the checkpoint; the first thing that every writing transaction does.

        Raises:
            LeaseLost: a later run has it, or it is finished.
        """
        held = connection.execute(
            update(checkpoints)
            .where(
                checkpoints.c.job_id == self._job_id,
                checkpoints.c.token == self._token,
                checkpoints.c.result.is_(None),
            )
            .values(token=self._token)
        )
        if held.rowcount == 0:
            raise LeaseLost

    def save(self, connection: Connection, checkpoint: Checkpoint, mistakes: Sequence[Reject]) -> None:
        """Store how far the import is with the commit of ``connection``, and what is wrong with rejected rows."""
        self._update(
            connection,
            position=checkpoint.position,
            read=checkpoint.read,
            inserted=checkpoint.counts.inserted,
            updated=checkpoint.counts.updated,
            skipped=checkpoint.counts.skipped,
            rejected=checkpoint.rejected,
            seconds=checkpoint.seconds,
        )
        if mistakes:
            connection.execute(insert(rejects), [*self._numbered(mistakes)])

    def finish(self, result: dict[str, Any]) -> None:
        """Keep the result for a run that comes after it, and drop the rejects that are in its report.

        Raises:
            LeaseLost: a later run has the job.
        """
        with begin_write(self._engine) as connection:
            self.fence(connection)
            self._update(connection, result=json.dumps(result))
            connection.execute(delete(rejects).where(rejects.c.job_id == self._job_id))

    def mistakes(self) -> Iterator[list[Reject]]:
        """Give the rejects of all runs, in the order of the rows, some thousands at a time."""
        after = (-1, -1)
        while True:
            with self._engine.connect() as connection:
                rows = connection.execute(
                    select(rejects)
                    .where(
                        rejects.c.job_id == self._job_id,
                        (rejects.c.row_number > after[0])
                        | ((rejects.c.row_number == after[0]) & (rejects.c.mistake > after[1])),
                    )
                    .order_by(rejects.c.row_number, rejects.c.mistake)
                    .limit(_CHUNK)
                ).all()
            if not rows:
                return
            yield [Reject(row.row_number, row.column_name, row.reason, row.value) for row in rows]
            after = (rows[-1].row_number, rows[-1].mistake)

    def _update(self, connection: Connection, **values: Any) -> None:
        connection.execute(
            update(checkpoints)
            .where(checkpoints.c.job_id == self._job_id)
            .values(updated_at=dt.datetime.now(dt.UTC), **values)
        )

    def _numbered(self, mistakes: Sequence[Reject]) -> Iterator[dict[str, Any]]:
        row, mistake = 0, 0
        for reject in mistakes:
            row, mistake = reject.row_number, mistake + 1 if reject.row_number == row else 0
            yield {
                "job_id": self._job_id,
                "row_number": row,
                "mistake": mistake,
                "column_name": reject.column,
                "reason": reject.reason,
                "value": reject.value,
            }


def _remove_old(connection: Connection, before: dt.datetime) -> None:
    old = select(checkpoints.c.job_id).where(checkpoints.c.updated_at < before)
    connection.execute(delete(rejects).where(rejects.c.job_id.in_(old)))
    connection.execute(delete(checkpoints).where(checkpoints.c.updated_at < before))
