"""Runs import jobs without a queue: the handlers' own code, a real database, a fake port."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import text

from services.workers.families.imports.contract import BatchInsert, ExcelImport
from services.workers.families.imports.handler import FamilyRun
from services.workers.families.imports.settings import ImportSettings
from shared.config import Settings
from shared.context import JobContext
from shared.database import begin_write, connect
from shared.engine.engine import LeaseStatus
from shared.engine.flows import DependencyResult
from shared.storage import open_storage


class FakePort:
    """Keeps what a job reports, and answers as the queue would."""

    def __init__(self, status: Callable[[], LeaseStatus] = lambda: LeaseStatus.HELD) -> None:
        self.reports: list[tuple[float, str | None, dict[str, Any]]] = []
        self._status = status

    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        self.reports.append((percent, message, dict(data)))
        return self._status()

    def log(self, job_id: str, token: int, level: str, message: str, data: Mapping[str, Any]) -> None: ...

    def save_checkpoint(self, job_id: str, token: int, state: bytes) -> LeaseStatus:
        return self._status()

    def load_checkpoint(self, job_id: str) -> bytes | None:
        return None

    def lease_status(self, job_id: str, token: int) -> LeaseStatus:
        return self._status()

    def results(self, job_id: str) -> dict[str, DependencyResult]:
        return {}


class Imports:
    """A product with a database and a storage, into which things are imported."""

    def __init__(self, url: str, folder: Path, **bounds: int) -> None:
        self.folder = folder
        self.settings = Settings.model_validate({"data_dir": folder / "data", "database_url_override": url})
        self.bounds = ImportSettings(**bounds)  # type: ignore[arg-type]
        self.storage = open_storage(self.settings)
        self.engine = connect(url)
        self._jobs = 0

    def declare(self, source: str) -> None:
        """Add datasets of a user's own."""
        file = self.folder / "own.py"
        file.write_text("from shared.database.datasets import Column, ColumnType, Dataset\n" + source)
        self.settings = self.settings.model_copy(update={"datasets_path": file})

    def store(self, path: Path) -> str:
        with path.open("rb") as file:
            return self.storage.save(file, name=path.name).id

    def job(self, job_id: str | None = None, token: int = 1, port: FakePort | None = None) -> JobContext:
        self._jobs += 1
        return JobContext(port or FakePort(), job_id=job_id or f"excel-import.{self._jobs}", token=token)

    def excel(self, path: Path, *, job: JobContext | None = None, **options: Any) -> dict[str, Any]:
        return self.stored(self.store(path), job=job, **options)

    def stored(self, file_id: str, *, job: JobContext | None = None, **options: Any) -> dict[str, Any]:
        payload = ExcelImport.model_validate({"file_id": file_id, **options})
        return FamilyRun(self.settings, self.bounds).excel(payload, job or self.job())

    def rows(self, rows: Sequence[Mapping[str, Any]], *, job: JobContext | None = None, **options: Any) -> Any:
        payload = BatchInsert.model_validate({"rows": rows, **options})
        return FamilyRun(self.settings, self.bounds).rows(payload, job or self.job())

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        with self.engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(statement))]

    def execute(self, *statements: str) -> None:
        with begin_write(self.engine) as connection:
            for statement in statements:
                connection.execute(text(statement))

    def report(self, file_id: str) -> list[dict[str, str]]:
        with self.storage.open(file_id) as file:
            return list(csv.DictReader(io.StringIO(file.read().decode("utf-8-sig"))))


def counts(result: Mapping[str, Any]) -> tuple[int, int, int, int, int]:
    """Read, inserted, updated, skipped, rejected."""
    return tuple(result[name] for name in ("read", "inserted", "updated", "skipped", "rejected"))
