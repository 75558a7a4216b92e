"""Imports: workbooks and rows into the product's database."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from shared.contracts import (
    ExponentialBackoff,
    FamilyContract,
    FixedBackoff,
    JobContract,
    Payload,
    QueueContract,
)

#: Rows written in one transaction when the caller names no number. Measured with 40 columns (2 cores, see
#: docs/datasets.md): SQLite reaches its full speed here, PostgreSQL three quarters of it, with 30 ms a transaction;
#: ten times as many rows would hold SQLite's write lock ten times as long and take more memory.
DEFAULT_BATCH_SIZE = 1_000

ConflictMode = Literal["update", "skip", "fail"]
ErrorMode = Literal["report", "fail"]


class ExcelImport(Payload):
    """Input of ``imports.excel``."""

    file_id: str = Field(description="The stored workbook: what POST /api/v1/files answered.")
    dataset: str = Field("terms", description="Where the rows go: a declared dataset.")
    sheet: str | int | None = Field(None, description="Sheet by name or by index from 0; the first when left out.")
    header_row: int = Field(1, ge=1, description="Row that holds the column names, counted from 1.")
    mapping: dict[str, str] = Field(
        default_factory=dict, description="Column of the workbook -> column of the dataset, where the names differ."
    )
    conflict: ConflictMode = Field("update", description="What to do with a row whose key is there already.")
    on_error: ErrorMode = Field("report", description="Report rows that are not valid, or fail at the first.")
    max_rejects: int | None = Field(None, ge=0, description="Fail when more rows than this are rejected.")
    batch_size: int = Field(DEFAULT_BATCH_SIZE, ge=1, le=10_000, description="Rows written in one transaction.")


class BatchInsert(Payload):
    """Input of ``imports.batch_insert``."""

    dataset: str = Field(description="Where the rows go: a declared dataset.")
    rows: list[dict[str, Any]] = Field(min_length=1, max_length=10_000, description="The rows, column -> value.")
    conflict: ConflictMode = Field("update", description="What to do with a row whose key is there already.")
    on_error: ErrorMode = Field("report", description="Report rows that are not valid, or fail at the first.")
    max_rejects: int | None = Field(None, ge=0, description="Fail when more rows than this are rejected.")
    batch_size: int = Field(DEFAULT_BATCH_SIZE, ge=1, le=10_000, description="Rows written in one transaction.")


FAMILY = FamilyContract(
    name="imports",
    queues=(
        QueueContract("excel-import", concurrency=2, description="Workbooks; each may take minutes."),
        QueueContract("db-batch", concurrency=5, description="Rows that came with the request."),
    ),
    jobs=(
        JobContract(
            type="imports.excel",
            queue="excel-import",
            payload=ExcelImport,
            handler="services.workers.families.imports.handler:import_excel",
            attempts=3,
            backoff=ExponentialBackoff(base_ms=2_000, cap_ms=300_000, jitter=0.2),
            timeout_s=3_600,
            # A checkpoint makes each life of the worker count, so more of them may be spent.
            max_stalls=10,
            description="Import a workbook (xlsx, xls, xlsb, ods) or csv file into a dataset.",
        ),
        JobContract(
            type="imports.batch_insert",
            queue="db-batch",
            payload=BatchInsert,
            handler="services.workers.families.imports.handler:batch_insert",
            attempts=3,
            backoff=FixedBackoff(5_000),
            description="Write rows into a dataset.",
        ),
    ),
)
