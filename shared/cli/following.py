"""Following a job on behalf of a command: live display, result, exit code."""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus

from shared.cli.failures import GOES_ON, ExitCode, Interrupted
from shared.cli.live import make_display
from shared.cli.session import Session
from shared.client import ApiError, ApiUnreachable, Job, WaitTimedOut


def follow(
    session: Session,
    job_id: str,
    *,
    title: str | None = None,
    timeout_s: float | None = None,
    each: Callable[[Job], None] | None = None,
    result: Callable[[Job], None] | None = None,
) -> int:
    """Wait for a job's end and print it.

    Args:
        session: of the command.
        job_id: of the job.
        title: what the display calls it; its id when left out.
        timeout_s: give up after this many seconds.
        each: called with the job whenever something about it changes, in place of printing it at the end.
        result: prints the finished job; a view of it by default.
    """
    out = session.out
    try:
        with make_display(out, title or job_id) as display:
            job = session.client.wait(
                job_id, on_progress=each or display.job, timeout_s=timeout_s, on_trouble=display.trouble
            )
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped following. {_goes_on(job_id)}") from None
    except (ApiError, ApiUnreachable, WaitTimedOut) as error:
        if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            error.detail = f"{error.detail} {_goes_on(job_id)}"
        raise
    if each is None:
        (result or (lambda done: _show(session, done)))(job)
    if job["state"] == "completed":
        return ExitCode.OK
    if not out.as_json:
        _tell_failure(session, job)
    return ExitCode.JOB_FAILED


def _goes_on(job_id: str) -> str:
    # Whatever ended the watching, the job knows nothing of it.
    return f"{GOES_ON}callboard watch {job_id}"


def _show(session: Session, job: Job) -> None:
    if session.out.as_json:
        session.out.document(job)
    else:
        from shared.cli.tables import job_view

        session.out.show(job_view(job))


def _tell_failure(session: Session, job: Job) -> None:
    from shared.cli.tables import failure_line

    if job["state"] == "cancelled":
        session.out.note(f"callboard: job {job['id']} was cancelled")
    else:
        session.out.note(f"callboard: job {job['id']} failed after attempt {job['attempt']}: {failure_line(job)}")
