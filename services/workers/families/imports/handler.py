"""The handlers of the imports family."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

from sqlalchemy import Engine

from services.workers.families.imports.checkpoint import Checkpoint
from services.workers.families.imports.contract import BatchInsert, ExcelImport
from services.workers.families.imports.delimited import DelimitedSource
from services.workers.families.imports.formats import FileFormat, detect
from services.workers.families.imports.layout import Layout, match_columns
from services.workers.families.imports.run import ImportRun, Rules, Step, database_errors
from services.workers.families.imports.settings import ImportSettings, load_import_settings
from services.workers.families.imports.source import RowBatch, RowSource
from services.workers.families.imports.validation import Validator
from services.workers.families.imports.workbook import WorkbookSource
from shared.config import Settings, load_settings
from shared.context import JobContext
from shared.database import connect
from shared.database.datasets import Dataset, load_datasets
from shared.database.datasets.tables import ensure_table
from shared.errors import FileNotStored, PermanentError
from shared.storage import LocalStorage, open_storage


def import_excel(payload: ExcelImport, job: JobContext) -> dict[str, Any]:
    """Import a stored workbook or csv file into a dataset.

    Returns:
        ``read``, ``inserted``, ``updated``, ``skipped``, ``rejected`` (rows), ``ignored_columns``,
        ``report_file_id`` (None when nothing was rejected), ``dataset``, ``sheet`` and ``seconds``.

    Raises:
        PermanentError: the file or the request is at fault; the message says what to change.
        RetryableError: the database is at fault; what is committed stays, and the next run goes on after it.
        LeaseLost: another worker has the job.
        JobCancelled: it was cancelled.
    """
    return FamilyRun(load_settings(), load_import_settings()).excel(payload, job)


def batch_insert(payload: BatchInsert, job: JobContext) -> dict[str, Any]:
    """Write the rows of the request into a dataset.

    A column that a row does not name is left alone in a row that is there, and empty in a new one.

    Returns:
        as :func:`import_excel`; ``sheet`` is None, and rows are counted from 1.

    Raises:
        PermanentError, RetryableError, LeaseLost, JobCancelled: as :func:`import_excel`.
    """
    return FamilyRun(load_settings(), load_import_settings()).rows(payload, job)


class FamilyRun:
    """Carries out import jobs with given settings.

    Args:
        settings: database, storage and datasets.
        bounds: what a file may cost.
    """

    def __init__(self, settings: Settings, bounds: ImportSettings) -> None:
        self._settings = settings
        self._bounds = bounds
        self._storage: LocalStorage = open_storage(settings)

    def excel(self, payload: ExcelImport, job: JobContext) -> dict[str, Any]:
        """See :func:`import_excel`."""
        dataset = self._dataset(payload.dataset)
        engine = connect(self._settings)
        try:
            name = self._file_name(payload.file_id)
            run = ImportRun(engine, self._storage, dataset, _rules(payload), job, name)
            done = self._claim(run, engine, dataset)
            if done.result is not None:
                return done.result
            with closing(self._open(payload, job)) as source:
                layout = match_columns(
                    dataset,
                    source.header,
                    payload.mapping,
                    header_row=payload.header_row,
                    first_column=source.first_column,
                )
                total = None if source.last_row is None else source.last_row - payload.header_row
                steps = _steps(source, layout, engine.dialect.name, payload, done)
                facts = {"sheet": source.sheet, "ignored_columns": list(layout.ignored)}
                return run.carry_out(done, steps, total=total, facts=facts)
        finally:
            engine.dispose()

    def rows(self, payload: BatchInsert, job: JobContext) -> dict[str, Any]:
        """See :func:`batch_insert`."""
        dataset = self._dataset(payload.dataset)
        engine = connect(self._settings)
        try:
            run = ImportRun(engine, self._storage, dataset, _rules(payload), job, "rows")
            done = self._claim(run, engine, dataset)
            if done.result is not None:
                return done.result
            ignored = dict.fromkeys(name for row in payload.rows for name in row if dataset.column(name) is None)
            steps = _row_steps(payload, dataset, engine.dialect.name, done)
            facts = {"sheet": None, "ignored_columns": list(ignored)}
            return run.carry_out(done, steps, total=len(payload.rows), facts=facts)
        finally:
            engine.dispose()

    def _dataset(self, name: str) -> Dataset:
        datasets: Mapping[str, Dataset] = load_datasets(self._settings.datasets_path)
        if name not in datasets:
            raise PermanentError(f"There is no dataset {name!r}. Datasets: {', '.join(sorted(datasets))}.")
        return datasets[name]

    def _claim(self, run: ImportRun, engine: Engine, dataset: Dataset) -> Checkpoint:
        with database_errors():
            ensure_table(engine, dataset)
        return run.claim(keep_days=self._bounds.keep_checkpoints_days)

    def _file_name(self, file_id: str) -> str:
        try:
            return self._storage.stat(file_id).name
        except FileNotStored as error:
            raise PermanentError(error.detail) from None

    def _open(self, payload: ExcelImport, job: JobContext) -> RowSource:
        path = self._storage.local_path(payload.file_id)
        file_format = detect(path, self._bounds)
        if file_format is FileFormat.CSV:
            if payload.sheet not in (None, 0):
                raise PermanentError(f"A csv file has no sheets, so there is no sheet {payload.sheet!r}: leave it out.")
            return DelimitedSource(path, header_row=payload.header_row)

        def waiting() -> None:
            job.raise_if_cancelled()

        job.progress(0, "reading the workbook")
        return WorkbookSource(
            path,
            file_format=file_format,
            sheet=payload.sheet,
            header_row=payload.header_row,
            settings=self._bounds,
            waiting=waiting,
        )


def _rules(payload: ExcelImport | BatchInsert) -> Rules:
    return Rules(conflict=payload.conflict, on_error=payload.on_error, max_rejects=payload.max_rejects)


def _steps(source: RowSource, layout: Layout, dialect: str, payload: ExcelImport, done: Checkpoint) -> Iterator[Step]:
    validator = Validator(layout, dialect)
    rows = max(1, (source.last_row or 0) - payload.header_row)
    for batch in source.batches(done.position, payload.batch_size):
        share = batch.share if batch.share is not None else (batch.last_row - payload.header_row) / rows
        yield Step(layout, validator.validate(batch), batch.last_row, share)


def _row_steps(payload: BatchInsert, dataset: Dataset, dialect: str, done: Checkpoint) -> Iterator[Step]:
    """Batch consecutive rows that name the same columns: rows of one statement set the same ones."""
    numbered = itertools.islice(enumerate(payload.rows, 1), done.position, None)
    for names, group in itertools.groupby(numbered, key=lambda item: _names(item[1], dataset)):
        layout = Layout(
            columns=tuple(column for column in dataset.columns if column.name in names),
            indexes=tuple(range(len(names))),
            ignored=(),
            width=len(names),
        )
        validator = Validator(layout, dialect)
        while chunk := list(itertools.islice(group, payload.batch_size)):
            cells = [[row.get(column.name) for column in layout.columns] for _, row in chunk]
            batch = RowBatch(first_row=chunk[0][0], rows=cells)
            yield Step(layout, validator.validate(batch), batch.last_row, batch.last_row / len(payload.rows))


def _names(row: Mapping[str, Any], dataset: Dataset) -> frozenset[str]:
    # What must have a value is always part of the layout, so that a row without it is rejected with that reason.
    needed = {column.name for column in dataset.columns if not column.nullable}
    return frozenset(needed | {name for name in row if dataset.column(name) is not None})
