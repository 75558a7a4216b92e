"""Worker processes of a peer: started, warmed up by a share of the jobs, measured, killed."""

from __future__ import annotations

import json
import mmap
import os
import select
import signal
import struct
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import redis

from bench.peer import ROOT, Crew, Peer
from bench.peers import runs

#: longest wait for anything a peer does
PATIENCE_S = 120.0
#: between two looks at whether a queue has drained
LOOK_S = 0.005


class PeerFailed(Exception):
    """A peer's program failed or did not end in time."""


def child(peer: Peer, action: str, url: str, jobs: int, concurrency: int = 1) -> dict[str, Any]:
    """Run one action in a process of its own; gives what it measured.

    Raises:
        PeerFailed: with what it wrote.
    """
    command = _command(peer, action, url, concurrency, jobs)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerFailed(f"{peer.name} {action}: {error}") from None
    if done.returncode:
        raise PeerFailed(f"{peer.name} {action}: {done.stderr[-2000:]}")
    measured: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return measured


def _command(peer: Peer, action: str, url: str, concurrency: int, jobs: int) -> list[str]:
    return [*peer.command, action + peer.suffix, url, str(concurrency), str(jobs)]


class Workers:
    """The worker processes of one crew, ready when entered.

    Args:
        peer: whose they are.
        crew: how many, with how many threads or slots.
        url: the server.
    """

    def __init__(self, peer: Peer, crew: Crew, url: str) -> None:
        self._peer, self._crew, self._url = peer, crew, url
        self._client = redis.Redis.from_url(url)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sent = 0

    def __enter__(self) -> Workers:
        self._folder = tempfile.TemporaryDirectory(prefix="callboard-bench-")
        folder = Path(self._folder.name)
        (folder / "runs").write_bytes(bytes(runs.SLOTS * 8))
        (folder / "starts").touch()
        with (folder / "runs").open("r+b") as file:
            self._runs = mmap.mmap(file.fileno(), runs.SLOTS * 8)
        command = _command(self._peer, self._crew.action, self._url, self._crew.concurrency, 0)
        try:
            with (folder / "errors").open("wb") as errors:
                for _ in range(self._crew.processes):
                    # A session of its own, so that what it starts is killed with it.
                    process = subprocess.Popen(
                        command,
                        cwd=ROOT,
                        env={**os.environ, runs.FOLDER: str(folder)},
                        stdin=subprocess.DEVNULL,
                        stdout=subprocess.PIPE,
                        stderr=errors,
                        bufsize=0,
                        start_new_session=True,
                    )
                    self._processes.append(process)
            for process in self._processes:
                self._wait_until_ready(process)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def send(self, action: str, jobs: int) -> None:
        """Send jobs for these workers, from a process of its own."""
        child(self._peer, action, self._url, jobs)
        self.expect(jobs)

    def expect(self, jobs: int) -> None:
        """Take note that so many more jobs were sent."""
        self._sent += jobs

    def done(self) -> int:
        """How many jobs have run."""
        return self._ran() if self._peer.counts_runs else self._sent - self._peer.backlog(self._client)

    def wait_until_done(self, jobs: int) -> int:
        """Wait until at least so many have run; gives how many have."""
        self._wait(lambda: self.done() >= jobs, f"beyond {jobs} jobs")
        return self.done()

    def wait_until_drained(self) -> None:
        """Wait until all that was sent has run and is acknowledged.

        Raises:
            PeerFailed: when that takes too long, or a worker ended.
        """
        self._wait(lambda: self.done() >= self._sent and self._peer.backlog(self._client) == 0, "drained")

    def cpu_s(self) -> float:
        """Processor time that they and their children have used, seconds."""
        total = 0.0
        for process in self._processes:
            own = psutil.Process(process.pid)
            for member in (own, *own.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    times = member.cpu_times()
                    total += times.user + times.system
            times = own.cpu_times()
            total += times.children_user + times.children_system
        return total

    def waits_ms(self) -> list[float]:
        """How long after it was sent each job of ``latency`` started, in the order of their starts."""
        data = (Path(self._folder.name) / "starts").read_bytes()
        return [seconds * 1000 for (seconds,) in struct.iter_unpack("<d", data)]

    def _ran(self) -> int:
        return sum(struct.unpack(f"{runs.SLOTS}Q", self._runs[:]))

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        def is_ready() -> bool:
            assert process.stdout is not None
            waiting, _, _ = select.select([process.stdout], [], [], 0)
            return bool(waiting) and b'"ready"' in process.stdout.readline()

        self._wait(is_ready, "ready")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                errors = (Path(self._folder.name) / "errors").read_text(errors="replace")[-2000:]
                raise PeerFailed(f"{self._peer.name}, {self._crew.setup}: not {what}: {self._ran()} ran. {errors}")
            time.sleep(LOOK_S)

    def _end(self) -> None:
        # What they would do at an orderly end is not measured, and the server's data is dropped next.
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes:
            process.wait(timeout=30)
            if process.stdout is not None:
                process.stdout.close()
        self._runs.close()
        self._client.close()
        self._folder.cleanup()
