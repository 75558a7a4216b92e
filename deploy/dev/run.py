"""``make run``: migrate the database, then start what the Procfile lists."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.config import Settings


def port_problem(settings: Settings) -> str | None:
    """Say what is wrong with the API's port, or None if it can be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        socket.create_server((settings.host, settings.port), family=family).close()
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return f"Port {settings.port} is taken. Choose another: PORT={settings.port + 1} make run"
        return f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}"
    return None


def migrate() -> int:
    """Bring the database to the newest schema, in a process that Ctrl-C does not reach: it takes a moment, or all."""
    return subprocess.run(
        [sys.executable, "-m", "shared.database.migrate"], start_new_session=True, check=False
    ).returncode


def main() -> int:
    """Start everything.

    Returns:
        0 after Ctrl-C, 2 if something about the settings is wrong, else the code of the process that ended first.
    """
    # Until the supervisor takes over, Ctrl-C just ends this; hence the late imports, which take most of that time.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from pydantic import ValidationError

    from deploy.dev.environment import ROOT, load_dotenv
    from deploy.dev.supervisor import supervise
    from shared.config import load_settings

    os.chdir(ROOT)
    load_dotenv()
    # The Procfile's python, gunicorn and dramatiq are this environment's.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    try:
        settings = load_settings()
    except ValidationError as error:
        for mistake in error.errors():
            print(f"{mistake['loc'][0]}: {mistake['msg']}", file=sys.stderr)
        return 2
    if problem := port_problem(settings):
        print(problem, file=sys.stderr)
        return 2
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    return migrate() or supervise(ROOT)


if __name__ == "__main__":
    sys.exit(main())
