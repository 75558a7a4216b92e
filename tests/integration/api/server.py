"""The API under gunicorn, as ``make run`` and the image start it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil

from shared.config import Settings

ROOT = Path(__file__).resolve().parents[3]
PATIENCE_S = 30.0


class ApiServer:
    """One gunicorn on a port of its own choice."""

    def __init__(self, settings: Settings, key: str, log: Path) -> None:
        self._settings = settings
        self._key = key
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        environ = {
            "PATH": os.environ["PATH"],
            "PYTHONWARNINGS": "error",
            "CALLBOARD_DATA_DIR": str(self._settings.data_dir),
            "CALLBOARD_ADMIN_KEY": self._key,
            "CALLBOARD_NAMESPACE": self._settings.namespace,
            "CALLBOARD_HEARTBEAT_S": str(self._settings.heartbeat_s),
            "CALLBOARD_MAX_UPLOAD_BYTES": str(self._settings.max_upload_bytes),
            "CALLBOARD_API_WORKERS": str(self._settings.api_workers),
            "CALLBOARD_API_THREADS": str(self._settings.api_threads),
            "QUEUE_ENABLED": str(self._settings.queue_enabled),
            "REDIS_URL": self._settings.redis_url,
        }
        # Port 0: the kernel picks one, so that none can be taken between choosing and binding it.
        command = ["--config", "services/api/gunicorn.conf.py", "--bind", "127.0.0.1:0", "services.api.wsgi:app"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *command], cwd=ROOT, env=environ, stdout=log, stderr=log
            )
        deadline = time.monotonic() + PATIENCE_S
        while not (found := re.search(r"Listening at: (http://\S+)", self.log())):
            assert time.monotonic() < deadline, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.01)
        self.url = found[1]
        with self.client() as client:
            client.get("/healthz").raise_for_status()

    def client(self, timeout_s: float = 20.0) -> httpx.Client:
        """Connect, with the key."""
        return httpx.Client(
            base_url=self.url, headers={"Authorization": f"Bearer {self._key}"}, timeout=timeout_s, trust_env=False
        )

    def workers(self) -> list[psutil.Process]:
        """Give the processes that answer."""
        assert self._process is not None
        return psutil.Process(self._process.pid).children()

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def terminate(self, how: signal.Signals = signal.SIGTERM) -> float:
        """Ask it to stop; gives how long that took."""
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(how)
        self._process.wait(PATIENCE_S)
        return time.monotonic() - began

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            # Named before their master dies: orphans would go on reading the queue server for a while.
            workers = self.workers()
            self._process.kill()
            for worker in workers:
                worker.kill()
            self._process.wait(PATIENCE_S)
