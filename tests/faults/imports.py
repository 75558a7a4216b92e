"""An import on services of its own, and what it left behind."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openpyxl import Workbook

from shared.config import Settings
from shared.contracts import discover
from shared.database.migrate import upgrade
from shared.engine.engine import Event, JobRecord
from shared.engine.keys import split_job_id
from shared.engine.redis import RedisEngine
from shared.storage import open_storage
from shared.submission import submit
from tests.integration.broker.processes import WorkerProcess
from tests.servers import ValkeyServer

#: rows of the workbook
ROWS = 50_000
#: every so many rows one names the key of an earlier row, or is not valid
UPDATE_EVERY, REJECT_EVERY = 97, 1_009


def write_workbook(path: Path) -> None:
    """Write a glossary; some rows repeat a key with other content, some are not valid."""
    workbook = Workbook(write_only=True)
    sheet = workbook.create_sheet("terms")
    sheet.append(["term", "definition", "category", "difficulty", "year_introduced"])
    for number in range(1, ROWS + 1):
        key = number - 50 if number % UPDATE_EVERY == 0 else number
        difficulty = "impossible" if number % REJECT_EVERY == 0 else ("beginner", "advanced")[number % 2]
        category, year = f"category {number % 13}", 1900 + number % 120
        sheet.append([f"term {key:06d}", f"what row {number} says", category, difficulty, year])
    workbook.save(path)


@dataclass(frozen=True)
class Outcome:
    """What an import left behind."""

    #: of every row, in the order of the key
    table_sha256: str
    rows: int
    #: the job's result without what must differ: the time it took, the id of its report
    counters: dict[str, Any]
    #: of the reject report
    report_sha256: str


class ImportSite:
    """One import with data folder, database and keys of its own.

    Args:
        server: the queue server.
        name: tells it from others.
        folder: where its data goes.
        lease_s: of its workers.
    """

    def __init__(self, server: ValkeyServer, name: str, folder: Path, *, lease_s: float) -> None:
        folder.mkdir()
        self._folder = folder
        self._environment = {
            "REDIS_URL": server.url,
            "CALLBOARD_NAMESPACE": name,
            "CALLBOARD_DATA_DIR": str(folder),
            "CALLBOARD_LEASE_S": str(lease_s),
            "CALLBOARD_LOG_FORMAT": "json",
            "WORKER_FAMILY": "imports",
        }
        self._settings = Settings(data_dir=folder, namespace=name)
        self.engine = RedisEngine.from_url(server.url, name)
        upgrade(self._settings)

    def submit(self, workbook: Path, **payload: Any) -> str:
        """Store the workbook and submit its import."""
        with workbook.open("rb") as source:
            stored = open_storage(self._settings).save(source, name=workbook.name)
        job = submit(
            self.engine,
            discover("services.workers.families"),
            "imports.excel",
            {"file_id": stored.id, "dataset": "terms", **payload},
        )
        return job.id

    def worker(self) -> WorkerProcess:
        """Start a worker process."""
        return WorkerProcess("services.workers.main", self._folder, self._environment, threads=2)

    def job(self, job_id: str) -> JobRecord:
        """Read the job."""
        job = self.engine.get(job_id)
        assert job is not None
        return job

    def rows(self) -> int:
        """Count the rows that are committed."""
        with sqlite3.connect(self._folder / "callboard.db", timeout=30) as connection:
            return int(connection.execute("SELECT count(*) FROM terms").fetchone()[0])

    def events(self, job_id: str, after: str) -> list[Event]:
        """Read what happened to the job after a position of its queue."""
        queue = split_job_id(job_id)[0]
        return [
            event for event in self.engine.events({queue: after}, block_ms=0, limit=10_000) if event.job_id == job_id
        ]

    def outcome(self, job_id: str) -> Outcome:
        """Read what the import left behind."""
        table = hashlib.sha256()
        with sqlite3.connect(self._folder / "callboard.db") as connection:
            rows = 0
            for row in connection.execute("SELECT * FROM terms ORDER BY term"):
                table.update(repr(row).encode())
                rows += 1
        result = dict(self.job(job_id).result)
        result.pop("seconds")
        report = open_storage(self._settings).local_path(result.pop("report_file_id")).read_bytes()
        return Outcome(table.hexdigest(), rows, result, hashlib.sha256(report).hexdigest())
