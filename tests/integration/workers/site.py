"""A place where workers run, jobs are put and probes are asked."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.engine.engine import JobRecord, NewJob
from shared.engine.keys import new_job_id
from shared.engine.record import encode_payload
from shared.engine.redis import RedisEngine
from tests.integration.broker.patience import PATIENCE_S, eventually
from tests.integration.broker.processes import WorkerProcess
from tests.integration.workers.families.sabotage.contract import FAMILY

QUEUES = {contract.type: contract.queue for contract in FAMILY.jobs}
#: after which consumption counts as stuck here; a look is taken every sixth of it
STUCK_S = 1.5


@dataclass(frozen=True)
class Answer:
    """What a probe said."""

    status: int
    body: dict[str, Any]

    @property
    def failing(self) -> set[str]:
        """The checks that were not well."""
        return {name for name, check in self.body.get("checks", {}).items() if not check["ok"]}


class Site:
    """See the module.

    Args:
        folder: an empty one.
        engine: the queue, for the test itself.
        url: where workers find it.
        namespace: of its keys.
    """

    def __init__(self, folder: Path, engine: RedisEngine, url: str, namespace: str) -> None:
        self.folder = folder
        self.engine = engine
        self._url = url
        self._namespace = namespace
        self.port = 0

    def worker(
        self,
        *,
        processes: int = 1,
        threads: int = 2,
        lease_s: float = 10,
        stuck_s: float = STUCK_S,
        port: int | None = None,
        options: tuple[str, ...] = (),
    ) -> WorkerProcess:
        """Start workers with probes, on ports that nobody has unless told."""
        self.port = port or free_ports(processes)
        environment = {
            "REDIS_URL": self._url,
            "CALLBOARD_NAMESPACE": self._namespace,
            "CALLBOARD_FAMILIES": "tests.integration.workers.families",
            "CALLBOARD_LEASE_S": str(lease_s),
            "CALLBOARD_LOG_FORMAT": "json",
            "CALLBOARD_DATA_DIR": str(self.folder),
            "WORKER_HEALTH_PORT": str(self.port),
            "WORKER_HEALTH_STUCK_S": str(stuck_s),
        }
        return WorkerProcess(
            "services.workers.main", self.folder, environment, processes=processes, threads=threads, options=options
        )

    def ask(self, path: str = "/healthz", *, index: int = 0) -> Answer:
        """Ask a probe; status 0 when nobody listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port + index}{path}", timeout=5) as reply:
                return Answer(reply.status, json.load(reply))
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error))
        except OSError:
            return Answer(0, {})

    def until(self, path: str, status: int, *, index: int = 0, within: float = PATIENCE_S) -> Answer:
        """Ask until a probe has that status; gives the answer."""

        def asked() -> Answer | None:
            answer = self.ask(path, index=index)
            return answer if answer.status == status else None

        answer = eventually(asked, within=within, why=f"{path} answers {status}; now {self.ask(path, index=index)}")
        assert answer is not None
        return answer

    def put(self, action: str, name: str = "unnamed") -> str:
        """Add a job of the sabotage family."""
        kind = f"sabotage.{action}"
        job_id = new_job_id(QUEUES[kind])
        body = encode_payload({"folder": str(self.folder), "name": name})
        self.engine.add(QUEUES[kind], [NewJob(job_id, kind, body)])
        return job_id

    def job(self, job_id: str) -> JobRecord:
        """Read a job."""
        job = self.engine.get(job_id)
        assert job is not None
        return job

    def finished(self, job_id: str) -> JobRecord:
        """Wait until a job has ended."""
        eventually(lambda: self.job(job_id).state.finished, why=f"{job_id} has ended")
        return self.job(job_id)

    def runs(self, event: str) -> list[str]:
        """Give the names of the jobs that ``ran``, or of the held ones that ``began`` or ``ended``."""
        path = self.folder / "runs"
        rows = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
        return [row[1] for row in rows if len(row) == 3 and row[0] == event]

    def open_gate(self, name: str | None = None) -> None:
        """Let the held jobs end, or the one of that name."""
        (self.folder / (f"open-{name}" if name else "open")).touch()


def free_ports(count: int) -> int:
    """Give the first of so many ports in a row that nobody listens on."""
    while True:
        with socket.create_server(("127.0.0.1", 0)) as first:
            port = int(first.getsockname()[1])
        if port + count < 65000 and all(is_free(port + offset) for offset in range(count)):
            return port


def is_free(port: int) -> bool:
    """Say whether nobody listens there."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True
