"""A real API on a real queue server, the command line as people start it, and a worker that does as a test says."""

from __future__ import annotations

import io
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.cli import main
from shared.config import load_settings
from shared.contracts.queue import QueueContract
from shared.engine.engine import Finish, FinishStatus, LeasedJob, LeaseStatus, Outcome
from shared.engine.record import to_json
from shared.engine.redis import RedisEngine
from tests.servers import PATIENCE_S, ValkeyServer

ROOT = Path(__file__).resolve().parents[3]
KEY = "cb_key-of-the-cli-tests"
#: small, so that a file over it is quickly made
MAX_UPLOAD_BYTES = 1_000_000

_requests = itertools.count(1)


def wait_until(condition: Callable[[], Any], what: str) -> Any:
    """Wait for something to become true; gives it."""
    deadline = time.monotonic() + PATIENCE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.01)
    return value


def clean_environment(**values: str) -> dict[str, str]:
    """Give an environment that holds nothing of Callboard's but what is named."""
    ours = ("CALLBOARD_", "REDIS_", "DATABASE_", "WORKER_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(ours) and name not in ("PORT", "NO_COLOR", "FORCE_COLOR")
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100", **values}


class ApiServer:
    """The API under gunicorn, on a port of its own."""

    def __init__(self, valkey: ValkeyServer, namespace: str, data_dir: Path) -> None:
        # Bound here and handed over, so that no other process can take the port in between.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.env = clean_environment(
            CALLBOARD_DATA_DIR=str(data_dir),
            CALLBOARD_ADMIN_KEY=KEY,
            CALLBOARD_URL=self.url,
            CALLBOARD_NAMESPACE=namespace,
            CALLBOARD_MAX_UPLOAD_BYTES=str(MAX_UPLOAD_BYTES),
            CALLBOARD_HEARTBEAT_S="0.5",
            REDIS_URL=valkey.url,
        )
        self._log = data_dir / "api.log"
        self.process = self._start()
        wait_until(self._answers, "the API comes up")

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=PATIENCE_S)
        self._socket.close()

    def restart(self) -> None:
        """Kill it as a crash would, and start it again on the same port."""
        # With all its processes: a worker whose master has gone serves its streams for another while.
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(timeout=PATIENCE_S)
        self.process = self._start()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _start(self) -> subprocess.Popen[bytes]:
        number = self._socket.fileno()
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [
                    *(sys.executable, "-m", "gunicorn", "--config", str(ROOT / "services/api/gunicorn.conf.py")),
                    *("--bind", f"fd://{number}", "services.api.wsgi:app"),
                ],
                cwd=ROOT,
                env=self.env,
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _answers(self) -> bool:
        assert self.process.poll() is None, self.log()
        try:
            return httpx.get(f"{self.url}/healthz", timeout=PATIENCE_S).status_code == 200
        except httpx.TransportError:
            return False


@dataclass(frozen=True)
class Ran:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed, which has to be one JSON document."""
        return json.loads(self.out)

    @property
    def problem(self) -> Any:
        """What it said on stderr, which has to be one line of JSON."""
        assert self.err.count("\n") == 1, self.err
        assert self.out == ""
        return json.loads(self.err)


@dataclass
class CommandLine:
    """``callboard``."""

    env: dict[str, str]
    running: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, *arguments: str, env: dict[str, str] | None = None, **options: Any) -> subprocess.Popen[str]:
        """Start a command as people do, in a process of its own."""
        options = {
            "stdin": subprocess.DEVNULL,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.PIPE,
            "text": True,
            **options,
        }
        process = subprocess.Popen(
            [
                sys.executable,
                "-W",
                "error",
                "-c",
                "import sys; from shared.cli import main; sys.exit(main())",
                *arguments,
            ],
            env={**self.env, **(env or {})},
            **options,
        )
        self.running.append(process)
        return process

    def __call__(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Ran:
        """Run a command to its end, in this process, which takes a tenth of the time of one of its own."""
        streams = [io.TextIOWrapper(io.BytesIO(data), encoding="utf-8") for data in (stdin.encode(), b"", b"")]
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - self.env.keys():
                patch.delenv(name)
            for name, value in {**self.env, **(env or {})}.items():
                patch.setenv(name, value)
            for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
                patch.setattr(sys, name, stream)
            load_settings.cache_clear()
            try:
                code = main(list(arguments))
            finally:
                load_settings.cache_clear()
        out, err = (self._text(stream) for stream in streams[1:])
        return self._ran(code, out, err)

    def end(self, process: subprocess.Popen[str], stdin: str | None = None) -> Ran:
        """Wait for a command that was started."""
        out, err = process.communicate(stdin, timeout=PATIENCE_S)
        return self._ran(process.returncode, out, err)

    @staticmethod
    def _text(stream: io.TextIOWrapper) -> str:
        stream.flush()
        stream.seek(0)
        return stream.read()

    @staticmethod
    def _ran(code: int, out: str, err: str) -> Ran:
        # Whatever a command ends in, it is never one of these.
        assert "Traceback" not in err, err
        assert KEY not in out + err
        return Ran(code, out, err)

    def close(self) -> None:
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.communicate()


class Hand:
    """A worker whose every step is a test's."""

    def __init__(self, engine: RedisEngine, queue: str) -> None:
        self._engine = engine
        self._queue = QueueContract(queue)

    def take(self) -> LeasedJob:
        """Take the next job of the queue, as soon as there is one."""
        return wait_until(self._take, f"a job arrives in {self._queue.name}")

    def progress(self, job: LeasedJob, percent: float, message: str | None = None, **data: Any) -> LeaseStatus:
        return self._engine.progress(job.id, job.token, percent, message, data)

    def log(self, job: LeasedJob, message: str, level: str = "info", **data: Any) -> None:
        self._engine.log(job.id, job.token, level, message, data)

    def complete(self, job: LeasedJob, result: Any = None) -> None:
        self._finish(Finish(job.id, job.token, Outcome.COMPLETE, data=to_json(result)))

    def fail(self, job: LeasedJob, message: str) -> None:
        error = {"type": "PermanentError", "message": message, "retryable": False}
        self._finish(Finish(job.id, job.token, Outcome.FAIL, data=to_json(error)))

    def cancel(self, job: LeasedJob) -> None:
        error = {"type": "JobCancelled", "message": "The job was cancelled while it ran.", "retryable": False}
        self._finish(Finish(job.id, job.token, Outcome.CANCEL, data=to_json(error)))

    def _take(self) -> LeasedJob | None:
        jobs = self._cycle(want=1).jobs
        return jobs[0] if jobs else None

    def _finish(self, finish: Finish) -> None:
        assert self._cycle(finishes=[finish], want=0).finishes == [FinishStatus.COMMITTED]

    def _cycle(self, **options: Any) -> Any:
        request = f"hand-{next(_requests)}"
        return self._engine.cycle(
            self._queue, worker="hand", request=request, repeat=False, lease_ms=600_000, **options
        )


@pytest.fixture(scope="module")
def api(valkey: ValkeyServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """An API that the tests of a module share: its queues may hold jobs of others."""
    folder = tmp_path_factory.mktemp("api")
    server = ApiServer(valkey, f"t{os.urandom(6).hex()}", folder)
    yield server
    server.stop()


@pytest.fixture
def make_api(namespace: str, tmp_path: Path) -> Iterator[Callable[[ValkeyServer], ApiServer]]:
    """Start an API that the test may mistreat."""
    with ExitStack() as stack:

        def make(valkey: ValkeyServer) -> ApiServer:
            server = ApiServer(valkey, namespace, tmp_path)
            stack.callback(server.stop)
            return server

        yield make


@pytest.fixture
def make_cli() -> Iterator[Callable[[dict[str, str]], CommandLine]]:
    """Make a command line with an environment."""
    with ExitStack() as stack:

        def make(env: dict[str, str]) -> CommandLine:
            made = CommandLine(env)
            stack.callback(made.close)
            return made

        yield make


@pytest.fixture
def cli(api: ApiServer, make_cli: Callable[[dict[str, str]], CommandLine]) -> CommandLine:
    """The command line, with the settings of the API."""
    return make_cli(api.env)


@pytest.fixture
def queue(api: ApiServer, valkey: ValkeyServer) -> Iterator[RedisEngine]:
    """The queue behind the API, emptied of what the test left waiting."""
    engine = RedisEngine.from_url(valkey.url, api.env["CALLBOARD_NAMESPACE"])
    yield engine
    with valkey.client() as client:
        for key in client.scan_iter(f"*{api.env['CALLBOARD_NAMESPACE']}:*"):
            client.delete(key)
    engine.close()


@pytest.fixture
def batches(queue: RedisEngine) -> Hand:
    """The worker of ``imports.batch_insert``."""
    return Hand(queue, "db-batch")


@pytest.fixture
def workbooks(queue: RedisEngine) -> Hand:
    """The worker of ``imports.excel``."""
    return Hand(queue, "excel-import")
