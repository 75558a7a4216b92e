"""Callboard's own tables, beside those of the datasets."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, DateTime, Float, Integer, MetaData, Table, Text

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

#: How far each import is. A row changes in the same transaction as the rows that it counts.
import_checkpoints = Table(
    "import_checkpoints",
    metadata,
    Column("job_id", Text, primary_key=True),
    # The highest fencing token seen: a worker that comes with a lower one lost the job and may write nothing.
    Column("token", BigInteger, nullable=False),
    # The last row of the source that is dealt with, counted as in the workbook.
    Column("position", BigInteger, nullable=False),
    Column("read", BigInteger, nullable=False),
    Column("inserted", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    # The result as JSON once the import is finished: a run whose reply was lost answers with it and writes nothing.
    Column("result", Text),
    Column("updated_at", DateTime(timezone=True), nullable=False, index=True),
)

#: What is wrong with the rows that an import did not take; becomes the reject report, then is deleted.
import_rejects = Table(
    "import_rejects",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("row_number", BigInteger, primary_key=True, autoincrement=False),
    # Which mistake of the row it is: a row may have several.
    Column("mistake", Integer, primary_key=True, autoincrement=False),
    Column("column_name", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("value", Text, nullable=False),
)
