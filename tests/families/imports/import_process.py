"""A process that carries out one run of an import, to be killed: FILE_ID JOB_ID TOKEN BATCH_SIZE."""

import sys
from collections.abc import Mapping
from typing import Any

import shared.context
from services.workers.families.imports.contract import ExcelImport
from services.workers.families.imports.handler import import_excel
from shared.engine.engine import LeaseStatus
from tests.families.imports.harness import FakePort


class LoudPort(FakePort):
    def progress(
        self, job_id: str, token: int, percent: float, message: str | None, data: Mapping[str, Any]
    ) -> LeaseStatus:
        print(message, flush=True)
        return LeaseStatus.HELD


shared.context.PROGRESS_INTERVAL_S = 0
file_id, job_id, token, batch_size = sys.argv[1:]
job = shared.context.JobContext(LoudPort(), job_id=job_id, token=int(token))
print(repr(import_excel(ExcelImport(file_id=file_id, batch_size=int(batch_size)), job)), flush=True)
