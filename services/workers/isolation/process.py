"""A process that leads a group of its own, and is gone with all of it when its run ends or its worker dies.

It is started anew and not forked: a fork of a process with threads inherits locks that nobody will ever release. What
ends it when its worker is killed: the kernel ends the process itself (``PR_SET_PDEATHSIG``), and a *guardian*, which
reads a pipe that only the worker holds, kills its group when the pipe closes.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any

#: messages may hold a checkpoint (1 MiB, in base64) or a result
MESSAGE_LIMIT_BYTES = 8 << 20
#: how often an end is looked for while it is waited for, seconds
_LOOK_S = 0.005

# The paths come first: the worker's own may have been put together by Dramatiq's command line.
_BOOT = (
    "import sys, json; sys.path[:] = json.loads(sys.argv[3]); "
    "from services.workers.isolation.child import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)
# A byte says that the run ended and the group is gone; an end of file without it, that the worker is.
_GUARDIAN = (
    "import os, signal, sys\n"
    "for name in ('SIGINT', 'SIGTERM', 'SIGHUP'): signal.signal(getattr(signal, name), signal.SIG_IGN)\n"
    "if not os.read(0, 1): os.killpg(int(sys.argv[1]), signal.SIGKILL)"
)


class GroupLeader:
    """See the module; a context that leaves no process behind.

    Args:
        grace_s: how long the process may take to exit after it has said how its run ended.

    Raises:
        OSError: it cannot be started, as without memory or below a limit on processes.
    """

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._code: int | None = None
        ours, its = socket.socketpair()
        with its:
            arguments = [str(its.fileno()), str(os.getpid()), json.dumps(sys.path)]
            self._process = subprocess.Popen(
                [sys.executable, "-c", _BOOT, *arguments],
                stdin=subprocess.DEVNULL,
                pass_fds=(its.fileno(),),
                process_group=0,
            )
        self._connection: Connection | None = Connection(ours.detach())
        self.pid = self._process.pid
        self._guardian: subprocess.Popen[bytes] | None = None
        try:
            self._guardian = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARDIAN, str(self.pid)],
                stdin=subprocess.PIPE,
                bufsize=0,
                # What kills the worker's group must not kill the guardian first.
                start_new_session=True,
            )
        except BaseException:
            self.end(at_once=True)
            raise

    def send(self, message: dict[str, Any]) -> None:
        """Send it a message; one that is gone hears nothing, which :meth:`has_ended` tells."""
        if self._connection is not None:
            try:
                self._connection.send_bytes(json.dumps(message).encode())
            except OSError:
                self._hang_up()

    def receive(self, timeout_s: float) -> dict[str, Any] | None:
        """Give its next message; None when there was none in time, or there will be none."""
        if self._connection is None:
            time.sleep(timeout_s)
            return None
        try:
            if not self._connection.poll(timeout_s):
                return None
            return dict(json.loads(self._connection.recv_bytes(MESSAGE_LIMIT_BYTES)))
        except (EOFError, OSError, ValueError):
            self._hang_up()
            return None

    def has_ended(self) -> bool:
        """Tell whether the process has ended; its id is not given to another before :meth:`end`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to its whole group."""
        try:
            os.killpg(self.pid, number)
        except (ProcessLookupError, PermissionError):
            # macOS says the latter of a group that has only zombies.
            return

    def end(self, *, at_once: bool = False) -> int:
        """Wait for its exit, kill what is left of the group; gives the exit code, or minus the signal's number.

        Args:
            at_once: give it no time to exit by itself.
        """
        if self._code is None:
            until = time.monotonic() + (0 if at_once else self._grace_s)
            while not self.has_ended() and time.monotonic() < until:
                time.sleep(_LOOK_S)
            # Not yet reaped, so that the group's id is still its own.
            self.signal(signal.SIGKILL)
            self._code = self._process.wait()
            self._hang_up()
            self._dismiss_guardian()
        return self._code

    def _dismiss_guardian(self) -> None:
        if self._guardian is None or self._guardian.stdin is None:
            return
        try:
            self._guardian.stdin.write(b".")
        except OSError:
            # somebody killed it
            pass
        self._guardian.stdin.close()
        self._guardian.wait()

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> GroupLeader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(at_once=True)
