"""Keeps the processes of the Procfile together until one of them ends.

Honcho does the work. Five of its habits are changed here, each for a case that loses work or says nothing useful:

- It signals whole process groups. Dramatiq's master hands the signal on to its workers, which then get it twice and
  take the second for "stop at once", in the middle of a job. So only the process itself is signalled.
- It stops all at once. A worker that hands back its jobs needs the queue server, so that goes last.
- It allows five seconds before it kills. A worker that finishes its batch needs longer.
- It gives the second process PORT + 100, the third PORT + 200. Here PORT is the API's port, for everybody.
- It stops all as soon as one ends. A worker that is killed, by a job that takes all memory or by hand, is started
  again, as any deployment does: its jobs go on when their leases run out, and the API answers meanwhile.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from multiprocessing import Process
from pathlib import Path

import honcho.manager
from honcho.environ import parse_procfile
from honcho.printer import Printer

#: how long the processes have to stop by themselves, in seconds; longer than any of their own limits
GRACE_S = 30

#: the process of the Procfile that the others need until they have ended
STOPS_LAST = "valkey"

#: the process of the Procfile that is started again when it was killed
STARTS_AGAIN = "worker"

#: how Dramatiq's master ends when a process of its own was killed; a module that cannot be imported gives another code
PROCESS_KILLED = 1

#: a life shorter than this is a short one, in seconds, and after so many in a row there is no further one
SHORT_LIFE_S = 5.0
SHORT_LIVES = 20

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


class _Unbuffered:
    """Standard output without Python's buffer.

    Honcho prints from signal handlers too, and a buffered writer that is interrupted by a write to itself raises.
    """

    def write(self, text: str) -> int:
        rest = text.encode(errors="replace")
        while rest:
            rest = rest[os.write(sys.stdout.fileno(), rest) :]
        return len(text)

    def flush(self) -> None:
        pass


class Supervisor(honcho.manager.Manager):  # type: ignore[misc]  # honcho has no types
    """Honcho's manager, stopping as the module's docstring says."""

    def __init__(self, printer: Printer) -> None:
        super().__init__(printer)
        self.returncode: int | None = None
        self._procmgr = _OneByOne()
        self._stop_requested = False
        self._last_told = False
        self._born = time.monotonic()
        self._short_lives = 0

    def terminate(self) -> None:
        """Ask every process to stop; as soon as all have started, if Ctrl-C came that early."""
        self._stop_requested = True
        if self._all_started():
            super().terminate()

    def _killall(self, force: bool = False) -> None:
        if force:
            super()._killall(force=True)
            return
        for name, process in self._processes.items():
            if name != STOPS_LAST and "returncode" not in process:
                self._procmgr.terminate(process["pid"])

    def _all_stopped(self) -> bool:
        # The loop asks this every round, so here is where the end of the others is noticed.
        running = {name for name, process in self._processes.items() if "returncode" not in process}
        if self._terminating and running == {STOPS_LAST} and not self._last_told:
            self._last_told = True
            self._procmgr.terminate(self._processes[STOPS_LAST]["pid"])
        return bool(super()._all_stopped())

    def _any_stopped(self) -> bool:
        # The loop asks this to see whether it is time to stop.
        if not self._stop_requested:
            self._start_again()
        return self._stop_requested or bool(super()._any_stopped())

    def _start_again(self) -> None:
        """Start the worker anew if it was killed, and was not killed in its first moments again and again."""
        worker = self._processes.get(STARTS_AGAIN, {})
        code = worker.get("returncode")
        if code is None or not (code < 0 or code == PROCESS_KILLED):
            return
        now = time.monotonic()
        self._short_lives = self._short_lives + 1 if now - self._born < SHORT_LIFE_S else 0
        if self._short_lives >= SHORT_LIVES:
            return
        self._born = now
        self._system_print(f"{STARTS_AGAIN} was killed; starting it again\n")
        del worker["returncode"], worker["pid"]
        self.returncode = None
        worker["process"] = Process(name=STARTS_AGAIN, target=worker["obj"].run, args=(self.events, True))
        worker["process"].start()


def supervise(root: Path) -> int:
    """Run the Procfile until somebody stops it or a process ends, but for a worker that was killed.

    Returns:
        0 if it was stopped on request, else the exit code of the process that ended first.
    """
    honcho.manager.KILL_WAIT = GRACE_S
    colour = sys.stdout.isatty()
    supervisor = Supervisor(Printer(_Unbuffered(), colour=colour))
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
