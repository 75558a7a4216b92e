"""``make run``: migrate the database, then keep the processes of the Procfile together until one of them ends.

Honcho does the work. Three of its habits are changed here, each for a case that loses work or says nothing useful:

- It signals whole process groups. Dramatiq's master hands the signal on to its workers, which then get it twice and
  take the second for "stop at once", in the middle of a job. So only the process itself is signalled.
- It allows five seconds before it kills. A worker that finishes its batch needs longer.
- It gives the second process PORT + 100, the third PORT + 200. Here PORT is the API's port, for everybody.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import honcho.manager
from honcho.environ import parse_procfile
from honcho.printer import Printer
from pydantic import ValidationError

from deploy.dev.environment import ROOT, load_dotenv
from shared.config import Settings, load_settings

#: how long the processes have to stop by themselves, in seconds; longer than any of their own limits
GRACE_S = 30

#: what honcho answers after SIGINT, SIGTERM and (here) SIGHUP: the user asked for the stop, nothing failed
ASKED_TO_STOP = {130, 143, 129}


class _OneByOne:
    """Signals a process, not its group; honcho's own does the opposite. Killing still takes the whole group."""

    def terminate(self, pid: int) -> None:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass  # it was faster

    def kill(self, pid: int) -> None:
        try:
            os.killpg(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


class Supervisor(honcho.manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Honcho's manager, stopping as the module's docstring says."""

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer)
        self._procmgr = _OneByOne()
        self._stop_requested = False

    def terminate(self) -> None:
        """Ask every process to stop; as soon as all have started, if Ctrl-C came that early."""
        self._stop_requested = True
        if self._all_started():
            super().terminate()

    def _any_stopped(self) -> bool:
        # The loop asks this to see whether it is time to stop.
        return self._stop_requested or bool(super()._any_stopped())


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


def supervise(root: Path) -> int:
    """Run the Procfile until somebody stops it or a process ends.

    Returns:
        0 if it was stopped on request, else the exit code of the process that ended first.
    """
    honcho.manager.KILL_WAIT = GRACE_S
    colour = sys.stdout.isatty()
    supervisor = Supervisor(Printer(sys.stdout, colour=colour))
    environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name, command in parse_procfile((root / "Procfile").read_text()).processes.items():
        supervisor.add_process(name, command, env=environ, cwd=str(root))

    def hang_up(_signum: int, _frame: object) -> None:
        # The terminal is gone, and with it the place to print to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        supervisor.returncode = 129
        supervisor.terminate()

    signal.signal(signal.SIGHUP, hang_up)
    supervisor.loop()
    return 0 if supervisor.returncode in ASKED_TO_STOP else int(supervisor.returncode or 0)


def main() -> int:
    """Start everything; the exit code is 0 after Ctrl-C."""
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
    migrated = subprocess.run([sys.executable, "-m", "shared.database.migrate"], check=False)
    if migrated.returncode:
        return migrated.returncode
    return supervise(ROOT)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
