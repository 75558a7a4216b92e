"""Real worker processes: the dramatiq command line as a child of the test."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType

from tests.integration.broker.patience import PATIENCE_S, eventually

ROOT = Path(__file__).resolve().parents[3]
#: what Dramatiq says when a worker process is up
READY = "Worker process is ready for action."


class WorkerProcess:
    """``dramatiq MODULE`` in a process group of its own, which one signal reaches whole.

    Args:
        module: what to run.
        folder: where its log goes.
        environment: further variables.
        processes: ``-p``
        threads: ``-t``
        options: further arguments.
        path: folder to look for the module in before the checkout.
    """

    def __init__(
        self,
        module: str,
        folder: Path,
        environment: dict[str, str],
        *,
        processes: int = 1,
        threads: int = 4,
        options: tuple[str, ...] = (),
        path: Path | None = None,
    ) -> None:
        self._log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
        self._processes = processes
        inherited = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                # The script and not `-m dramatiq`: --watch starts itself anew by its own name.
                [
                    str(Path(sys.executable).with_name("dramatiq")),
                    *(module, "-p", str(processes), "-t", str(threads)),
                    *options,
                ],
                cwd=path or ROOT,
                env={**inherited, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self.process.pid

    def log(self) -> str:
        """Give what it said so far."""
        return self._log.read_text(errors="replace")

    def ready(self, times: int = 1) -> WorkerProcess:
        """Wait until all its processes work; ``times``: how often they have started since the beginning."""
        want = self._processes * times
        eventually(
            lambda: self.log().count(READY) >= want or self.process.poll() is not None, why="the worker is ready"
        )
        assert self.process.poll() is None, self.log()
        return self

    def terminate(self) -> None:
        """Ask it to stop, as an operator or a cluster does."""
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, within: float = PATIENCE_S) -> int:
        """Give the exit code."""
        return self.process.wait(within)

    def kill(self) -> None:
        """Kill the whole tree, as the kernel or a power cut does."""
        self._signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def freeze(self) -> None:
        """Stop the whole tree, as a suspended virtual machine is."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> WorkerProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Its children too, who may outlive it.
        self.kill()

    def _signal(self, how: signal.Signals) -> None:
        try:
            os.killpg(self.pid, how)
        except ProcessLookupError:
            return
