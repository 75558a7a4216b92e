"""Sending a job on behalf of a command."""

from __future__ import annotations

from typing import Any

from shared.cli.failures import ExitCode, Interrupted
from shared.cli.session import Session
from shared.client import Job


def send(session: Session, job_type: str, payload: dict[str, Any], **options: Any) -> Job:
    """Send a job, and say what is known of it when Ctrl-C comes in between."""
    try:
        return session.client.submit(job_type, payload, **options)
    except KeyboardInterrupt:
        raise Interrupted("Stopped while the job was sent; it may have arrived: see 'callboard list'.") from None


def tell_sent(session: Session, job: Job) -> int:
    """Print a job that was sent and is not followed; gives the exit code."""
    if session.out.as_json:
        session.out.document(job)
    else:
        session.out.show(job["id"])
        session.out.note(f"Follow it with: callboard watch {job['id']}")
    return ExitCode.OK
