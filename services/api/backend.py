"""What the views stand on, one set an application."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from flask import current_app

from services.api.hub import EventHub
from shared.config import Settings
from shared.contracts import Catalogue, JobContract
from shared.engine.engine import Engine, JobRecord
from shared.errors import JobNotFound
from shared.storage import LocalStorage

#: where an application keeps it
EXTENSION = "callboard"


@dataclass(frozen=True, slots=True)
class Backend:
    """Everything that a view may ask."""

    settings: Settings
    catalogue: Catalogue
    engine: Engine
    storage: LocalStorage
    hub: EventHub
    #: signs what clients carry for us, e.g. cursors
    secret: bytes

    def read(self, job_id: str) -> JobRecord:
        """Read a job that must be there.

        Raises:
            JobNotFound
        """
        record = self.engine.get(job_id)
        if record is None:
            raise JobNotFound(f"There is no job {job_id!r}; it may have been removed by retention.")
        return record

    def contract(self, record: JobRecord) -> JobContract | None:
        """Give a job's contract; None for a job of another program that shares the queue."""
        return self.catalogue.jobs.get(record.name)


def backend() -> Backend:
    """Give the backend of the running application."""
    return cast(Backend, current_app.extensions[EXTENSION])
