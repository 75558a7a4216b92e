"""`make run`'s supervisor, on processes that tell what reaches them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# Counts the signals that reach it and its child, then says so. A child stands for a dramatiq worker process.
COUNTER = """
import os, signal, sys, time
name = sys.argv[1]
if len(sys.argv) > 2:
    os.fork() or (name := name + "-child")
seen = 0
def count(*_):
    global seen
    seen += 1
signal.signal(signal.SIGTERM, count)
say = lambda text: os.write(1, f"{name} {text}\\n".encode())  # one write, so that lines do not mix
say(f"up {os.environ.get('PORT')}")
while not seen and not os.path.exists(name + ".leave"):
    time.sleep(0.02)
time.sleep(0.2)
say(f"saw {seen}")
sys.exit(0 if seen else 7)
"""


@contextmanager
def supervised(folder: Path, procfile: str, **environ: str) -> Iterator[subprocess.Popen[str]]:
    (folder / "counter.py").write_text(COUNTER)
    (folder / "Procfile").write_text(procfile)
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from pathlib import Path; from deploy.dev.supervisor import supervise;"
            "sys.exit(supervise(Path(sys.argv[1])))",
            str(folder),
        ],
        cwd=ROOT,
        env={**os.environ, **environ},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        for name in ("one", "two", "two-child", "valkey"):
            (folder / f"{name}.leave").touch()
        process.terminate()
        process.communicate(timeout=30)


def lines_until(process: subprocess.Popen[str], *texts: str) -> list[str]:
    """Read until each text has come, in whatever order."""
    assert process.stdout is not None
    seen: list[str] = []
    for line in process.stdout:
        seen.append(line.rstrip())
        if all(any(text in earlier for earlier in seen) for text in texts):
            return seen
    pytest.fail(f"{texts} never came: {seen}")


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda signum: signum.name)
def test_a_stop_reaches_each_process_once_and_ends_with_zero(tmp_path: Path, signum: signal.Signals) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\ntwo: exec {sys.executable} counter.py two fork\n"
    with supervised(tmp_path, procfile) as process:
        lines_until(process, "one up", "two up", "two-child up")
        (tmp_path / "two-child.leave").touch()
        os.kill(process.pid, signum)
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "Traceback" not in rest
    if signum != signal.SIGHUP:  # after which nobody is left to print for
        assert "one saw 1" in rest
        assert "two saw 1" in rest


def test_every_process_gets_the_same_port(tmp_path: Path) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\ntwo: exec {sys.executable} counter.py two\n"
    with supervised(tmp_path, procfile, PORT="8123") as process:
        lines_until(process, "one up 8123", "two up 8123")


def test_a_process_that_ends_stops_the_others_and_gives_its_code(tmp_path: Path) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\ntwo: exec {sys.executable} counter.py two\n"
    with supervised(tmp_path, procfile) as process:
        lines_until(process, "one up", "two up")
        (tmp_path / "two.leave").touch()
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 7
    assert "two saw 0" in rest
    assert "one saw 1" in rest


def test_a_stop_before_everything_has_started_is_no_traceback(tmp_path: Path) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\ntwo: exec {sys.executable} counter.py two\n"
    with supervised(tmp_path, procfile) as process:
        lines_until(process, "started")
        os.kill(process.pid, signal.SIGINT)
        started = time.monotonic()
        rest, _ = process.communicate(timeout=30)
    assert "Traceback" not in rest
    assert time.monotonic() - started < 15


def test_the_queue_server_stops_after_everybody_else(tmp_path: Path) -> None:
    procfile = "".join(f"{name}: exec {sys.executable} counter.py {name}\n" for name in ("valkey", "one", "two"))
    with supervised(tmp_path, procfile) as process:
        lines_until(process, "valkey up", "one up", "two up")
        process.terminate()
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert rest.index("valkey saw 1") > max(rest.index("one stopped"), rest.index("two stopped"))


@pytest.mark.parametrize("ending", ["kill -9 $$", "exit 1"], ids=["the master", "one of its processes"])
def test_a_worker_that_was_killed_is_started_again(tmp_path: Path, ending: str) -> None:
    worker = f"[ -e killed ] || {{ touch killed; {ending}; }}; exec {sys.executable} counter.py two"
    procfile = f"one: exec {sys.executable} counter.py one\nworker: {worker}\n"
    with supervised(tmp_path, procfile) as process:
        lines_until(process, "one up", "worker was killed; starting it again", "two up")
        process.terminate()
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert "one saw 1" in rest
    assert "two saw 1" in rest


def test_a_worker_that_cannot_start_stops_everything(tmp_path: Path) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\nworker: exit 2\n"
    with supervised(tmp_path, procfile) as process:
        rest, _ = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "starting it again" not in rest


def test_a_worker_that_dies_each_time_at_once_is_given_up(tmp_path: Path) -> None:
    procfile = f"one: exec {sys.executable} counter.py one\nworker: exit 1\n"
    with supervised(tmp_path, procfile) as process:
        rest, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert rest.count("starting it again") == 19
