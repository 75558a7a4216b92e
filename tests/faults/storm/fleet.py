"""The processes in the storm: workers and the producer, each behind a proxy of its own, started again when they die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.proxy import Proxy
from tests.faults.requests import script_of
from tests.faults.storm.dial import Dial
from tests.faults.storm.ledger import now_ms
from tests.integration.broker.processes import READY, ROOT, WorkerProcess

#: threads of a worker: twice as many as a queue may take, or long jobs would hold all of them after an outage
THREADS = 16
NAMESPACE = "storm"


@dataclass
class Life:
    """A process from its start to its death; times are milliseconds since the epoch."""

    began_ms: float
    #: process that runs the jobs, a child of Dramatiq's master; None while it starts
    pid: int | None = None
    #: whether the storm killed it
    killed: bool = False
    died_ms: float | None = None
    log: Callable[[], str] = field(default=lambda: "", repr=False)


class Slot:
    """A place for a process, and its way to the server.

    Args:
        name: tells it from others.
        folder: of the storm.
        socket: of the server.
    """

    def __init__(self, name: str, folder: Path, socket: Path) -> None:
        self.name = name
        self.folder = folder
        #: script calls that came by, by name
        self.calls: Counter[str] = Counter()
        self.proxy = Proxy(socket, self._count)
        self.clock = Dial(folder / f"clock-{name}")
        self.lives: list[Life] = []
        self.frozen = False
        self.mutex = threading.Lock()

    @property
    def life(self) -> Life:
        return self.lives[-1]

    def _count(self, request: bytes) -> None:
        if (name := script_of(request)) is not None:
            self.calls[name] += 1

    def environment(self) -> dict[str, str]:
        return {
            "STORM_CLOCK": str(self.folder / f"clock-{self.name}"),
            "PYTHONPATH": f"{Path(__file__).parent / 'clock'}:{ROOT}",
            # A worker starts every second or so: most of that time would go into compiling.
            "PYTHONDONTWRITEBYTECODE": "",
        }


class WorkerSlot(Slot):
    """A place for a worker."""

    def __init__(self, name: str, folder: Path, socket: Path, *, lease_s: float) -> None:
        super().__init__(name, folder, socket)
        self._lease_s = lease_s
        self._logs = folder / f"worker-{name}"
        self._logs.mkdir()
        self._process = self._start()
        #: whether a fault that is armed or under way keeps it from its jobs
        self.disabled = False
        #: whether any fault is armed or under way here
        self.busy = False

    @property
    def _running(self) -> bool:
        return self._process.process.poll() is None

    @property
    def up(self) -> bool:
        """Whether it can be given jobs."""
        return self.life.pid is not None and not self.frozen and not self.life.killed and self._running

    def tick(self) -> None:
        """Take note of what became of it, and start it again when it died."""
        with self.mutex:
            if not self._running:
                # Whatever is left of it: the master may have died alone, or its child.
                self._process.kill()
                self.life.died_ms = now_ms()
                self.frozen = False
                self._process = self._start()
            elif self.life.pid is None and READY in self._process.log():
                children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
                self.life.pid = int(children[0]) if children else None

    def kill(self, *, child_only: bool = False) -> None:
        """Kill it; with ``child_only`` Dramatiq's master lives on for a moment and ends by itself."""
        self.life.killed = True
        if child_only and self.life.pid is not None:
            os.kill(self.life.pid, signal.SIGKILL)
        else:
            _signal_group(self._process.pid, signal.SIGKILL)

    def freeze(self) -> None:
        self.frozen = True
        self._process.freeze()

    def thaw(self) -> None:
        with self.mutex:
            self.frozen = False
            if self._running:
                self._process.thaw()

    def terminate(self) -> int:
        """Ask it to stop; gives its exit code."""
        self.life.killed = True
        self._process.terminate()
        return self._process.wait()

    def close(self) -> None:
        self._process.kill()
        self.proxy.close()

    def _start(self) -> WorkerProcess:
        environment = {
            **self.environment(),
            "REDIS_URL": self.proxy.url,
            "CALLBOARD_NAMESPACE": NAMESPACE,
            "CALLBOARD_FAMILIES": "tests.faults.storm.families",
            "CALLBOARD_LEASE_S": str(self._lease_s),
            "CALLBOARD_LOG_FORMAT": "json",
            "CALLBOARD_DATA_DIR": str(self.folder),
        }
        process = WorkerProcess("services.workers.main", self._logs, environment, threads=THREADS)
        self.lives.append(Life(now_ms(), log=process.log))
        return process


class ProducerSlot(Slot):
    """A place for the producer."""

    def __init__(self, folder: Path, socket: Path) -> None:
        super().__init__("producer", folder, socket)
        self._process = self._start()

    @property
    def done(self) -> bool:
        """Whether it has added everything and ended well."""
        return self._process.poll() == 0

    def tick(self) -> None:
        """Start it again when it was killed.

        Raises:
            AssertionError: it failed.
        """
        with self.mutex:
            code = self._process.poll()
            if code == -signal.SIGKILL and self.life.killed:
                self.life.died_ms = now_ms()
                self._process = self._start()
            assert code in (None, 0, -signal.SIGKILL), (self.folder / "producer.log").read_text()[-4000:]

    def kill(self) -> None:
        self.life.killed = True
        self._process.kill()

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self.proxy.close()

    def _start(self) -> subprocess.Popen[bytes]:
        self.lives.append(Life(now_ms()))
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        with (self.folder / "producer.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "tests.faults.storm.producer", str(self.folder), self.proxy.url, NAMESPACE],
                cwd=ROOT,
                env={**inherited, **self.environment()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def _signal_group(pid: int, how: signal.Signals) -> None:
    try:
        os.killpg(pid, how)
    except ProcessLookupError:
        return
