"""`make run` as a person meets it: first start, Ctrl-C, second start."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.client import Client
from tests.servers import valkey_binary

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60


class Run:
    """One `make run`, in a process group of its own, like a shell's foreground job."""

    def __init__(self, data_dir: Path, port: int) -> None:
        self.data_dir = data_dir
        self.url = f"http://127.0.0.1:{port}"
        self.log = data_dir.parent / f"run-{time.monotonic_ns()}.log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("REDIS_", "DATABASE_"))}
        with self.log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "deploy.dev.run"],
                cwd=ROOT,
                env={**inherited, "PORT": str(port), "CALLBOARD_DATA_DIR": str(data_dir)},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def output(self) -> str:
        return self.log.read_text()

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if found := re.search(pattern, self.output()):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{pattern!r} never came:\n{self.output()}", pytrace=False)

    def interrupt(self) -> str:
        """Press Ctrl-C: the signal goes to the whole foreground group."""
        os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(timeout=PATIENCE_S)
        return self.output()


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[list[Run]]:
    valkey_binary()  # skips, or fails in CI, where there is none
    started: list[Run] = []
    yield started
    for run in started:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(timeout=PATIENCE_S)


@pytest.mark.slow
@pytest.mark.needs_server
def test_first_start_imports_the_sample_and_the_next_one_finds_it(tmp_path: Path, port: int, runs: list[Run]) -> None:
    data_dir = tmp_path / "data"

    runs.append(first := Run(data_dir, port))
    job_id = first.wait_for(r"job (\S+\.\w{26})")[1]
    result = first.wait_for(r"read (\d+)  inserted (\d+)  updated (\d+)  skipped (\d+)  rejected (\d+)")
    read, inserted, *_rest = map(int, result.groups())
    assert read > 0
    assert inserted > 0
    output = first.interrupt()
    assert first.process.returncode == 0, output
    assert "Traceback" not in output
    assert "SIGKILL" not in output

    runs.append(second := Run(data_dir, port))
    second.wait_for("Callboard is up")
    key = (data_dir / "admin.key").read_text().strip()
    assert key not in second.output()
    with Client(second.url, key) as client:
        assert client.job(job_id)["state"] == "completed"
        assert [job["id"] for job in client.jobs()] == [job_id]
    output = second.interrupt()
    assert second.process.returncode == 0, output
    assert "First start" not in output
    assert "Traceback" not in output


@pytest.mark.slow
@pytest.mark.needs_server
def test_the_curl_lines_of_the_readme_work_as_printed(tmp_path: Path, port: int, runs: list[Run]) -> None:
    if shutil.which("curl") is None:
        pytest.skip("no curl")
    runs.append(run := Run(tmp_path / "data", port))
    run.wait_for(r"read \d+  inserted \d+")
    blocks = re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = next(block for block in blocks if "curl" in block)
    assert ".data/admin.key" in lines
    assert "http://127.0.0.1:8000/" in lines
    typed = subprocess.run(
        ["bash", "-e", "-u", "-o", "pipefail"],
        input=lines.replace(".data/", f"{run.data_dir}/").replace("http://127.0.0.1:8000", run.url),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert typed.returncode == 0, typed.stderr
    assert "event: completed\n" in typed.stdout, "followed to its end"
    job = json.loads(typed.stdout.splitlines()[-1])
    assert job["state"] == "completed"
    assert (job["result"]["read"], job["result"]["rejected"]) == (8, 3)
    assert job["result"]["report_file_id"]


@pytest.mark.slow
@pytest.mark.needs_server
def test_a_killed_worker_is_replaced_and_the_rest_stays_up(tmp_path: Path, port: int, runs: list[Run]) -> None:
    runs.append(run := Run(tmp_path / "data", port))
    run.wait_for(r"read \d+  inserted \d+")
    master = int(run.wait_for(r"worker started \(pid=(\d+)\)")[1])
    os.kill(master, signal.SIGKILL)
    run.wait_for(r"worker was killed; starting it again")
    with Client(run.url, (run.data_dir / "admin.key").read_text().strip()) as client:
        rows = [{"term": "leaf", "definition": "a node without children"}]
        job = client.submit("imports.batch_insert", {"dataset": "terms", "rows": rows})
        assert client.wait(job["id"], timeout_s=PATIENCE_S)["state"] == "completed"
    output = run.interrupt()
    assert run.process.returncode == 0, output
    assert "SIGKILL" not in output


@pytest.mark.needs_server
def test_taken_port_is_said_before_anything_starts(tmp_path: Path, port: int, runs: list[Run]) -> None:
    with socket.create_server(("127.0.0.1", port)):
        runs.append(run := Run(tmp_path / "data", port))
        assert run.process.wait(timeout=PATIENCE_S) == 2
    assert f"Port {port} is taken" in run.output()
    assert "started" not in run.output()


def test_senseless_setting_is_named(tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "deploy.dev.run"],
        cwd=ROOT,
        env={**os.environ, "PORT": "eighty", "CALLBOARD_DATA_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2
    assert ran.stderr.startswith("PORT: ")
    assert "Traceback" not in ran.stderr
