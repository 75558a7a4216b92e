"""How far an upload or a job is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, Self

from shared.cli.failures import QUEUE_UNAVAILABLE
from shared.cli.formatting import one_line, rows, size
from shared.client import ApiUnreachable

if TYPE_CHECKING:
    from rich.progress import Progress

    from shared.cli.output import Output
    from shared.client import Job
    from shared.errors import CallboardError

#: a program or a file that reads our lines gets at most one in this time, seconds
LINE_INTERVAL_S = 1.0
#: errors that people are told of while a job is followed; others are mended unseen, by looking at the job instead
_OUTAGES = frozenset({ApiUnreachable.code, QUEUE_UNAVAILABLE})
_LOST = "connection lost, trying again"


class Display(Protocol):
    """Shows how far something is, until its context is left."""

    def upload(self, sent: int, total: int | None) -> None:
        """Show how much of a file has been sent."""

    def job(self, job: Job) -> None:
        """Show how far a job is."""

    def trouble(self, error: CallboardError) -> None:
        """Show that the connection was lost and will be made again."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def make_display(out: Output, title: str) -> Display:
    """Choose the display that suits stderr."""
    if out.as_json:
        return Silence()
    return Bar(out, title) if out.live else Lines(out, title)


class Silence:
    """Shows nothing, for programs."""

    def upload(self, sent: int, total: int | None) -> None:
        """Show nothing."""

    def job(self, job: Job) -> None:
        """Show nothing."""

    def trouble(self, error: CallboardError) -> None:
        """Show nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        pass


class Lines(Silence):
    """Prints a line when the state changes, and between that at most one a second: the newest."""

    def __init__(self, out: Output, title: str) -> None:
        self._out = out
        self._title = title
        self._printed_at = float("-inf")
        self._state = ""
        self._lost = False
        self._held = ""
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def upload(self, sent: int, total: int | None) -> None:
        """Print how much has been sent."""
        done = sent == total
        self._print(f"{self._title}: {_sent(sent, total)} sent", at_once=done)

    def job(self, job: Job) -> None:
        """Print the state and how far the job is."""
        self._lost = False
        changed = job["state"] != self._state
        self._state = job["state"]
        progress = job["progress"]
        percent = f" {progress['percent']:.0f} %" if progress else ""
        said = describe(job)
        self._print(f"{self._title}: {job['state']}{percent}{f' · {said}' if said else ''}", at_once=changed)

    def trouble(self, error: CallboardError) -> None:
        """Print that the connection was lost, once."""
        if error.code in _OUTAGES and not self._lost:
            self._lost = True
            self._print(f"{self._title}: {_LOST}", at_once=True)

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # What is held back is out of date: the result comes next.
        self._hold("")
        self._release()

    def _print(self, line: str, *, at_once: bool) -> None:
        wait = self._printed_at + LINE_INTERVAL_S - time.monotonic()
        self._hold(one_line(line))
        if at_once or wait <= 0:
            self._release()
        elif self._timer is None:
            # A job that reports seldom must not look as if it stood where it was a moment after it began.
            self._timer = threading.Timer(wait, self._release)
            self._timer.daemon = True
            self._timer.start()

    def _hold(self, line: str) -> None:
        with self._lock:
            self._held = line

    def _release(self) -> None:
        with self._lock:
            if self._timer is not None:
                self._timer.cancel()
            line, self._held, self._timer = self._held, "", None
            if line:
                self._printed_at = time.monotonic()
                self._out.note(line)


class Bar(Silence):
    """Redraws a bar."""

    def __init__(self, out: Output, title: str) -> None:
        from rich.markup import escape
        from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

        self._progress: Progress = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=32),
            TaskProgressColumn(),
            TextColumn("{task.fields[said]}", markup=False),
            console=out.notes,
            transient=True,
        )
        self._task = self._progress.add_task(escape(one_line(title)), total=None, said="")

    def upload(self, sent: int, total: int | None) -> None:
        """Draw how much has been sent."""
        self._progress.update(self._task, completed=sent, total=total, said=f"{_sent(sent, total)} sent")

    def job(self, job: Job) -> None:
        """Draw how far the job is; the bar swings while there is nothing to tell."""
        progress = job["progress"]
        running = progress is not None and job["state"] not in ("waiting", "delayed")
        changes: dict[str, Any] = {"total": 100.0 if running else None}
        if progress is not None and running:
            changes["completed"] = progress["percent"]
        said = describe(job)
        self._progress.update(self._task, said=f"{job['state']}{f' · {said}' if said else ''}", **changes)

    def trouble(self, error: CallboardError) -> None:
        """Draw that the connection was lost."""
        if error.code in _OUTAGES:
            self._progress.update(self._task, said=_LOST)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._progress.stop()


def describe(job: Job) -> str:
    """Say in a few words what a job is at."""
    progress = job["progress"]
    if job["state"] == "waiting" and job["attempt"] == 0:
        return f"in queue {job['queue']}"
    if not progress:
        return f"attempt {job['attempt']}" if job["attempt"] > 1 else ""
    return rows(progress.get("data") or {}) or one_line(progress.get("message") or "", 80)


def _sent(sent: int, total: int | None) -> str:
    return size(sent) if total is None else f"{size(sent)} of {size(total)}"
