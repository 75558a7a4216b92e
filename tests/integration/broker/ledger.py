"""What the jobs of a test wrote down, and the job types of the probe family."""

from __future__ import annotations

from pathlib import Path

from shared.engine.engine import NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from tests.integration.broker.families.probe.contract import FAMILY

CONTRACTS = {contract.type: contract for contract in FAMILY.jobs}


class Ledger:
    """A folder in which handlers write each run down.

    Args:
        folder: an empty one.
        engine: where jobs are put.
    """

    def __init__(self, folder: Path, engine: RedisEngine) -> None:
        self.folder = folder
        self.engine = engine

    def lines(self, event: str) -> list[tuple[str, int]]:
        """Give (name, pid) of each such event."""
        path = self.folder / "runs"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        # the last line may be half written
        return [(row[1], int(row[2])) for row in rows if len(row) == 3 and row[0] == event]

    def names(self, event: str) -> list[str]:
        """Give the names alone, sorted."""
        return sorted(name for name, _ in self.lines(event))

    def open_gate(self) -> None:
        """Let the gated jobs end."""
        (self.folder / "open").touch()

    def put(self, action: str, name: str, *, secret: str = "") -> str:
        """Add a job of the probe family."""
        return self.put_all(action, [name], secret=secret)[0]

    def put_all(self, action: str, names: list[str], *, secret: str = "") -> list[str]:
        """Add a job a name."""
        contract = CONTRACTS[f"probe.{action}"]
        jobs = [
            NewJob(
                new_job_id(contract.queue),
                contract.type,
                encode_payload({"folder": str(self.folder), "name": name, "secret": secret}),
                max_stalls=contract.max_stalls,
            )
            for name in names
        ]
        self.engine.add(contract.queue, jobs)
        return [job.id for job in jobs]

    def has_ended(self, job_id: str) -> bool:
        """Say whether nothing more happens to a job."""
        job = self.engine.get(job_id)
        return job is not None and job.state.finished

    def environment(self, url: str, namespace: str, *, lease_s: float = 10) -> dict[str, str]:
        """Give what a worker process is told."""
        return {
            "REDIS_URL": url,
            "CALLBOARD_NAMESPACE": namespace,
            "CALLBOARD_FAMILIES": "tests.integration.broker.families",
            "CALLBOARD_LEASE_S": str(lease_s),
            "CALLBOARD_LOG_FORMAT": "json",
            "CALLBOARD_DATA_DIR": str(self.folder),
            "PROGRAM_FOLDER": str(self.folder),
        }
